--- Small things that every wire format needs.

local failures = require("runtime.providers.failure")
local json = require("runtime.json")

local M = {}

local MAX_ID = 64

--- The value if it is text.
---@return string?
function M.text(value)
  return type(value) == "string" and value or nil
end

--- The value if it is a table; never JSON's null.
---@return table?
function M.table(value)
  return type(value) == "table" and value or nil
end

--- The table, which prints as `{}` when it is empty.
---@param t table?
---@return table
function M.object(t)
  return (t == nil or next(t) == nil) and json.object({}) or t
end

--- A key without the line break of the file that it was read from.
---@param value string?
---@return string? key nil when there is nothing in it.
function M.key(value)
  local key = value and value:match("^%s*(.-)%s*$")
  return key ~= "" and key or nil
end

--- Whether a key can be sent.
---@param key string?
---@param variable string Where it is looked for, for the message.
---@return providers.Failure?
function M.check_key(key, variable)
  if not key then
    return failures.new("auth", ("no key: %s is not set"):format(variable))
  end
  if key:find("[%c%s]") then
    return failures.new("auth", "the key holds spaces or line breaks")
  end
end

--- An address without slashes at its end.
---@param url string
---@return string
function M.base(url)
  return (url:gsub("/+$", ""))
end

--- The id of a call in a form that every API takes: letters, digits, _ and -. Another provider's
--- may hold more.
---@param id string?
---@param position integer Of the message, for a call without an id.
---@return string
function M.call_id(id, position)
  return id and id:gsub("[^%w_-]", "_"):sub(1, MAX_ID) or ("call_%d"):format(position)
end

--- A text without the thoughts that some models write into it; templates swallow the opening tag.
---@param text string
---@return string
function M.without_thoughts(text)
  if not text:find("</?think>") then
    return text
  end
  local rest = text:gsub("<think>.-</think>%s*", "")
  rest = rest:match("^.*</think>%s*(.*)$") or rest
  return (rest:gsub("<think>.*$", ""))
end

-- Models that cannot do without thinking. They refuse a forced choice of a tool.
local ALWAYS_THINK = { "claude%-opus%-5%-5", "claude%-sonnet%-5%-5", "claude%-fable%-5%-1" }

--- Whether a model of Anthropic, by whatever provider, refuses to be made to call a tool.
---@param model string
---@return boolean
function M.thinks_always(model)
  for _, name in ipairs(ALWAYS_THINK) do
    if model:lower():gsub("%.", "-"):find(name) then
      return true
    end
  end
  return false
end

--- Adds the user's further fields to a body.
---@param body table
---@param extra table?
---@return table body
function M.with_extra(body, extra)
  for name, value in pairs(extra or {}) do
    body[name] = value
  end
  return body
end

--- A provider's list of tools, built and encoded once for each table of tools.
---@param lists table<table, table> The provider's own, with weak keys.
---@param tools table[]
---@param build fun(tools: table[]): table
---@return table
function M.tool_list(lists, tools, build)
  local list = lists[tools]
  if not list then
    list = build(tools)
    json.encode_once(list)
    lists[tools] = list
  end
  return list
end

--- The part of a provider's requests that says this text, as it was built first: encoded once.
---@param parts table<string, table> The provider's own, of `system_parts`.
---@param text string The system prompt.
---@param built table For it.
---@return table
function M.system_part(parts, text, built)
  local part = parts[text]
  if not part then
    part = built
    json.encode_once(part)
    parts[text] = part
  end
  return part
end

--- For `system_part`: what no request uses any more goes.
---@return table<string, table>
function M.system_parts()
  return setmetatable({}, { __mode = "v" })
end

--- For `tool_list`.
---@return table<table, table>
function M.tool_lists()
  return setmetatable({}, { __mode = "k" })
end

--- Copies the counts that a provider reports under its own names. Counts of a stream are
--- cumulative: each new one replaces the one before.
---@param reported any
---@param usage providers.Usage
---@param names table<string, string> Ours to theirs.
function M.take_counts(reported, usage, names)
  for name, theirs in pairs(names) do
    local count = type(reported) == "table" and reported[theirs]
    if type(count) == "number" then
      usage[name] = count
    end
  end
end

return M
