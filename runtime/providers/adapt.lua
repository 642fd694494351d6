--- Learning from a refusal: what a server does not understand is not sent again.
---
--- Compatible servers refuse what they do not know with a 400 that names it. The client's dialect
--- remembers it for as long as the client lives, so that this costs one request once.

local M = {}

local STATUSES = { [400] = true, [404] = true, [422] = true, [500] = true, [501] = true }
local KINDS = { invalid_request = true, not_found = true, server = true }

-- Words that say that something is not understood, not that its value is wrong.
local UNKNOWN = {
  "not support", "unsupported", "no endpoints found that support", "requires", "unrecognized",
  "unknown", "not permitted", "extra inputs", "extra_forbidden", "not enabled", "not available",
  "not implemented", "cannot be used",
}
-- A choice is a value: of these, too, another may do.
local UNFIT = {
  "must be", "may not", "has to be", "not allowed", "supported values", "invalid value",
  "invalid tool_choice", "not a valid",
}

local function says(message, list)
  for _, words in ipairs(list) do
    if message:find(words, 1, true) then
      return true
    end
  end
  return false
end

local function names(message, failure, field)
  return failure.param == field or message:find(field, 1, true) ~= nil
end

local function unforce(dialect, message, failure)
  local named = names(message, failure, "tool_choice") or message:find("tool choice", 1, true)
  if not named or dialect.tool_choice == "none" then
    return false
  end
  dialect.tool_choice = dialect.tool_choice == "auto" and "none" or "auto"
  return true
end

-- Each: whether the refusal names it, and what to change; the first that changes something counts.
local LESSONS = {
  function(dialect, message, failure)
    if dialect.parallel and names(message, failure, "parallel_tool_calls") then
      dialect.parallel = false
      return true
    end
  end,
  function(dialect, message, failure)
    if dialect.stream_options and names(message, failure, "stream_options") then
      dialect.stream_options = false
      return true
    end
  end,
  -- A refusal of one name mostly recommends the other.
  function(dialect, message, failure)
    local field = dialect.max_tokens
    local other = field == "max_tokens" and "max_completion_tokens" or "max_tokens"
    local named = failure.param == field or message:find("'" .. field .. "'", 1, true)
      or message:find('"' .. field .. '"', 1, true) or message:find(": " .. field, 1, true)
    if field and named and not dialect.max_tokens_changed then
      dialect.max_tokens, dialect.max_tokens_changed = other, true
      return true
    end
  end,
  unforce,
  function(dialect, message, failure)
    local named = names(message, failure, "tools") or message:find("tool", 1, true)
      or message:find("function call", 1, true)
    if dialect.tools and named and not message:find("schema", 1, true) then
      dialect.tools = false
      return true
    end
  end,
}

--- Changes a dialect after a refusal.
---@param dialect table? nil: nothing can be left out.
---@param failure providers.Failure
---@return boolean changed The same request may be made again, at once.
function M.learn(dialect, failure)
  if not dialect or not STATUSES[failure.http] or not KINDS[failure.kind] then
    return false
  end
  local message = failure.message:lower()
  if failure.provider_code ~= "unsupported_parameter" and not says(message, UNKNOWN) then
    return says(message, UNFIT) and unforce(dialect, message, failure)
  end
  for _, lesson in ipairs(LESSONS) do
    if lesson(dialect, message, failure) then
      return true
    end
  end
  return false
end

return M
