--- The shape of an alert: its fields brought into bounds, its fingerprint, copies and merging.
---
--- runtime/alerts.lua decides what happens to an alert; this module what one looks like.

local bit = require("bit")

local M = {}

M.SEVERITY_RANK = { info = 1, warning = 2, critical = 3 }

local MAX_TITLE = 80
local MAX_SUMMARY = 2000
local MAX_SUBJECT = 255
local MAX_COMMAND = 1000
local MAX_DEPTH = 32
local MAX_LIST = { snapshots = 10, executions = 20, findings = 20, figures = 20, next = 3 }
-- Lists that grow by time keep their first item (how it began) and the newest; others the first.
local GROWS = { snapshots = true, executions = true, findings = true }

local REPLACEMENT = "\239\191\189"

-- The length of the valid UTF-8 sequence at `i`, or nil.
local function sequence_length(text, i)
  local a, b = text:byte(i, i + 1)
  if a < 0x80 then
    return 1
  end
  local length = a >= 0xC2 and a <= 0xDF and 2 or a >= 0xE0 and a <= 0xEF and 3
    or a >= 0xF0 and a <= 0xF4 and 4 or nil
  if not length then
    return nil
  end
  -- Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte.
  if not b or (a == 0xE0 and b < 0xA0) or (a == 0xED and b > 0x9F) or (a == 0xF0 and b < 0x90)
    or (a == 0xF4 and b > 0x8F) then
    return nil
  end
  return text:find("^[\128-\191]" .. ("[\128-\191]"):rep(length - 2), i + 1) and length or nil
end

--- Text as valid UTF-8 of at most `max_chars` characters; a longer one ends in `…`.
---@param text string
---@param max_chars integer
---@return string
function M.cut(text, max_chars)
  local chars, i = {}, 1
  while i <= #text and #chars <= max_chars do
    local length = sequence_length(text, i)
    chars[#chars + 1] = length and text:sub(i, i + length - 1) or REPLACEMENT
    i = i + (length or 1)
  end
  if #chars > max_chars then
    return table.concat(chars, "", 1, max_chars - 1) .. "…"
  end
  return table.concat(chars)
end

-- One line: what came from a node must not break a log line or a page.
local function one_line(text, max_chars)
  return M.cut((text:gsub("%c+", " ")), max_chars)
end

--- A copy that shares nothing with the original. Metatables (which mark arrays and objects) stay.
---@param value any
---@return any
function M.copy(value, depth)
  if type(value) ~= "table" then
    return value
  end
  depth = depth or 1
  if depth > MAX_DEPTH then
    return "(nested too deeply)"
  end
  local copied = {}
  for key, item in pairs(value) do
    copied[key] = M.copy(item, depth + 1)
  end
  return setmetatable(copied, getmetatable(value))
end

--- Names an alert for ever: 16 hexadecimal digits (FNV-1a, 64 bits) of what it is about.
---@param node string
---@param domain string
---@param type_name string
---@param subject string
---@return string
function M.fingerprint(node, domain, type_name, subject)
  local hash = 0xcbf29ce484222325ULL
  for char in table.concat({ node, domain, type_name, subject }, "\0"):gmatch(".") do
    hash = bit.bxor(hash, char:byte()) * 0x100000001b3ULL
  end
  return bit.tohex(hash)
end

--- A copy of one of an alert's lists, within its bound.
---@param name "snapshots"|"executions"|"findings"|"figures"|"next"
---@param list? any[]
---@return any[]
function M.bounded_list(name, list)
  local max, kept = MAX_LIST[name], {}
  for i, item in ipairs(list or {}) do
    if i == 1 or (GROWS[name] and i > #list - max + 1) or (not GROWS[name] and i <= max) then
      kept[#kept + 1] = M.copy(item)
    end
  end
  return kept
end

local function check(opts)
  for _, field in ipairs({ "watcher", "domain", "node", "type" }) do
    if type(opts[field]) ~= "string" then
      error(("an alert needs %s"):format(field), 4)
    end
  end
  if not M.SEVERITY_RANK[opts.severity] then
    error("an alert's severity is info, warning or critical", 4)
  end
  if opts.source ~= "rule" and opts.source ~= "model" then
    error("an alert's source is rule or model", 4)
  end
end

--- A severity as it may be shown: what no finding supports is at most a warning.
---@param severity string
---@param corroborated boolean
---@return string
function M.clamp_severity(severity, corroborated)
  if not corroborated and severity == "critical" then
    return "warning"
  end
  return severity
end

--- A summary within its bound.
---@param text string
---@return string
function M.summary(text)
  return M.cut(text, MAX_SUMMARY)
end

--- Checks and bounds the fields given to `alerts:fire`. Raises on misuse.
---@param opts table
---@return table fields A copy. `subject` defaults to the node, `title` to type and subject.
function M.fields(opts)
  check(opts)
  local subject = one_line(tostring(opts.subject or opts.node), MAX_SUBJECT)
  local fields = {
    watcher = opts.watcher,
    domain = opts.domain,
    node = opts.node,
    type = opts.type,
    subject = subject,
    severity = opts.severity,
    title = one_line(opts.title or ("%s: %s"):format(opts.type, subject), MAX_TITLE),
    summary = M.summary(opts.summary or ""),
    trend = M.copy(opts.trend),
    source = opts.source,
    corroborated = opts.source == "rule" or opts.corroborated == true,
    trace_id = opts.trace_id,
    fingerprint = M.fingerprint(opts.node, opts.domain, opts.type, subject),
  }
  for name in pairs(MAX_LIST) do
    fields[name] = M.bounded_list(name, opts[name])
  end
  for i, command in ipairs(fields.next) do
    fields.next[i] = one_line(tostring(command), MAX_COMMAND)
  end
  return fields
end

--- The list of both: those of `new` whose id `old` does not have come last. Bounded.
---@param name "snapshots"|"executions"|"findings"
---@param old table[]
---@param new table[]
---@return table[]
function M.merge_list(name, old, new)
  local merged, position = {}, {}
  for _, list in ipairs({ old, new }) do
    for _, item in ipairs(list) do
      local at = item.id and position[item.id] or #merged + 1
      merged[at] = item
      if item.id then
        position[item.id] = at
      end
    end
  end
  return M.bounded_list(name, merged)
end

return M
