--- The types of clients' options: each is `fn(value, option) -> value | nil, problem`.

local disk = require("runtime.disk")
local prices = require("runtime.clients.prices")

local M = {}

function M.string(value, option)
  if type(value) ~= "string" or value == "" then
    return nil, value == "" and "is empty" or "must be text"
  end
  for _, allowed in ipairs(option.one_of or {}) do
    if value == allowed then
      return value
    end
  end
  if option.one_of then
    return nil, ("must be one of %s"):format(table.concat(option.one_of, ", "))
  end
  return value
end

function M.number(value, option)
  if type(value) ~= "number" or not (value >= option.min and value < math.huge) then
    return nil, ("must be a number, at least %s"):format(option.min)
  end
  return value
end

function M.whole(value, option)
  if type(value) ~= "number" or value < option.min or value % 1 ~= 0 then
    return nil, ("must be a whole number, at least %s"):format(option.min)
  end
  return value
end

function M.boolean(value)
  if type(value) ~= "boolean" then
    return nil, "must be true or false"
  end
  return value
end

function M.table(value)
  if type(value) ~= "table" then
    return nil, "must be a table"
  end
  return value
end

-- The value of a header may be a key: it is in no message.
function M.headers(value)
  for name, text in pairs(type(value) == "table" and value or { value }) do
    if type(name) ~= "string" or not name:find("^[%w!#$%%&'*+.^_`|~-]+$") then
      return nil, "must be a table of header name and text"
    end
    if type(text) ~= "string" or text:find("[%c]") then
      return nil, ("%s must be one line of text"):format(name)
    end
  end
  return value
end

function M.price(value)
  local problem = prices.problem_of(value)
  if problem then
    return nil, problem
  end
  return value
end

function M.strategy(value)
  local problem = "must be a list of clients' names"
  if type(value) ~= "table" or #value == 0 then
    return nil, problem
  end
  for key, name in pairs(value) do
    if type(key) ~= "number" or type(name) ~= "string" then
      return nil, problem
    end
  end
  return value
end

--- A file that is there and can be read.
function M.file(value)
  if type(value) ~= "string" or value == "" then
    return nil, "must be a path"
  end
  local err = disk.refusal(value)
  if err then
    return nil, "cannot be read: " .. err
  end
  return value
end

return M
