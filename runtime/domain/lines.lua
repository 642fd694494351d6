--- The line of a domain's file that a mistake is on. A message begins with the path of what is
--- wrong, `callbacks[2] (shop_orders).params[1] (limit).type is "int"`: each step of it is looked
--- up in the source after the step before.

local M = {}

local function lines_of(source)
  local lines = {}
  for text in (source .. "\n"):gmatch("(.-)\n") do
    lines[#lines + 1] = (text:gsub("%-%-.*$", ""))
  end
  return lines
end

local function find(lines, from, pattern)
  for i = from, #lines do
    if (" " .. lines[i] .. " "):find(pattern) then
      return i
    end
  end
end

local function field(name)
  return "[^%w_]" .. name .. "%s*=[^=]"
end

-- The steps of a path as patterns: a field, and the name of the item in it that is meant.
local function steps_of(path)
  local steps = {}
  for step in path:gmatch("[^.]+") do
    steps[#steps + 1] = field(step:match("^[%w_]+") or step)
    local name = step:match("%((.-)%)$")
    steps[#steps + 1] = name and "[\"']" .. name:gsub("%W", "%%%0") .. "[\"']"
  end
  return steps
end

-- The path of a message, and what follows it.
local function split(message)
  local position = 1
  while true do
    local after = message:match("^[%w_]+%[?%d*%]?()", position)
    if not after then
      return nil, message
    end
    after = message:match("^ %b()()", after) or after
    if message:sub(after, after) ~= "." then
      return message:sub(1, after - 1), message:sub(after + 1)
    end
    position = after + 1
  end
end

--- The line of a mistake.
---@param source string
---@param message string As of runtime/domain/shape.lua.
---@return integer
function M.of(source, message)
  local lines = lines_of(source)
  -- The file's own return, not one of a function in it, begins its line.
  local last = find(lines, 1, "^ return[^%w_]") or find(lines, 1, "[^%w_]return[^%w_]") or 1
  local path, rest = split(message)
  if not path or message:find("^the domain ") then
    path, rest = "", message
  end
  local steps = steps_of(path)
  if rest:find("^is missing") then
    steps[#steps] = nil
  end
  local unknown = rest:match("an unknown field \"([%w_]+)\"") or rest:match("a field \"([%w_]+)\"")
  if unknown then
    steps[#steps + 1] = field(unknown)
  end
  local from = 1
  for _, pattern in ipairs(steps) do
    -- What a field has may be written above it, as a local of the file.
    last = find(lines, from, pattern) or find(lines, 1, pattern) or last
    from = last
  end
  if rest:find("^is there twice") then
    return find(lines, last + 1, steps[#steps]) or last
  end
  return last
end

return M
