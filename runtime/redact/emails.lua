--- E-mail addresses in a text. `shop@db1`, `shop@10.0.0.7` and `shop@db1.internal` are nodes.

local M = {}

local MARK = "[redacted:email]"
local MAX_LOCAL, MAX_DOMAIN = 64, 253
local AT = 64

-- Ends of names that no mail goes to: machines of one's own, and files.
local NO_MAIL = {}
for name in ([[internal local localhost localdomain lan home corp intranet private svc cluster test
  invalid erl hrl ex exs eex heex beam lua png jpg gif svg]]):gmatch("%a+") do
  NO_MAIL[name] = true
end

-- What the part before the @ may hold; what it may begin and end with.
local LOCAL, ENDS = {}, {}
for byte = 0, 255 do
  local char = string.char(byte)
  ENDS[byte] = char:find("[%w_]") ~= nil
  LOCAL[byte] = ENDS[byte] or char:find("[.%%+-]") ~= nil
end

-- Where the name before the @ begins, not before `first`; nil when there is none. The letter of an
-- escape such as \n is no part of it.
local function local_start(text, at, first)
  local start = at
  while start > first and at - start < MAX_LOCAL and LOCAL[text:byte(start - 1)] do
    start = start - 1
  end
  if start > 1 and text:byte(start - 1) == 92 then
    start = start + (text:find("^u%x%x%x%x", start) and 5 or 1)
  end
  while start < at and not ENDS[text:byte(start)] do
    start = start + 1
  end
  return start < at and start or nil
end

-- The domain after the @, whole: at least two labels, the last of letters.
local function domain_of(text, at)
  local span = text:sub(at + 1, at + MAX_DOMAIN):match("^[%w.-]+")
  local domain = span and span:gsub("[.-]+$", "")
  local top = domain and domain:match("%.(%a%a+)$")
  if not top or domain:find("..", 1, true) or NO_MAIL[top:lower()] then
    return nil
  end
  return domain
end

--- Replaces addresses.
---@param text string
---@param node? string Names of this name or on this host are nodes, too.
---@return string
function M.replace(text, node)
  local at = text:find("@", 1, true)
  if not at then
    return text
  end
  local node_name, node_host = (node or ""):match("^(.-)@(.*)$")
  local parts, first = {}, 1
  while at do
    if LOCAL[text:byte(at - 1) or AT] and LOCAL[text:byte(at + 1) or AT] then
      local start = local_start(text, at, first)
      local domain = start and domain_of(text, at)
      if domain and domain ~= node_host and text:sub(start, at - 1) ~= node_name then
        parts[#parts + 1] = text:sub(first, start - 1)
        parts[#parts + 1] = MARK
        first = at + #domain + 1
      end
    end
    at = text:find("@", math.max(at + 1, first), true)
  end
  parts[#parts + 1] = text:sub(first)
  return table.concat(parts)
end

return M
