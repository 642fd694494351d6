--- How much memory and CPU time the host may use: as given on the command line, else
--- BEAMLENS_MAX_RSS and BEAMLENS_MAX_CPU, else what is plenty for thousands of watchers.

local units = require("runtime.units")
local uv = require("luv")

local M = {}

local RSS_BYTES = 512 * 1024 ^ 2
local CPU_PCT = 80
-- Of the memory that the system lets us have, when that is little.
local SHARE = 0.8
local GROUPS = "/sys/fs/cgroup"

--- Reads a limit of memory; `false` for none.
---@param text string Such as `512MiB`, or `none`.
---@return number|false|nil bytes
---@return string? err
function M.bytes(text)
  if text == "none" then
    return false
  end
  return units.size_bytes(text)
end

--- Reads a limit of CPU time; `false` for none.
---@param text string Percent of one core, such as `80` or `80%`, or `none`.
---@return number|false|nil percent
---@return string? err
function M.percent(text)
  if text == "none" then
    return false
  end
  local number = tonumber(text:match("^(%d+%.?%d*)%%?$"))
  if number and number > 0 then
    return number
  end
  return nil, ("%q is no percentage of a core: write 80, or none"):format(text)
end

local function from_environment(env, name, read, warn)
  local text = env(name)
  if not text or text == "" then
    return nil
  end
  local value, err = read(text)
  if value == nil then
    warn(("%s: %s; the default holds"):format(name, err))
  end
  return value
end

local function read_file(path)
  local file = io.open(path)
  local text = file and file:read("*a")
  if file then
    file:close()
  end
  return text
end

--- What the control groups of this process let it have, which the system enforces: the smallest
--- `memory.max` from its own group up, or the limit of the older hierarchy.
---@param read? fun(path: string): string? Default: reads files.
---@param older? number Default: as libuv has it.
---@return number bytes 0: none.
function M.group_bytes(read, older)
  local least = older or uv.get_constrained_memory()
  read = read or read_file
  local path = (read("/proc/self/cgroup") or ""):match("0::([^\n]*)")
  while path do
    local bytes = tonumber((read(GROUPS .. path:gsub("/$", "") .. "/memory.max")
      or ""):match("^%d+"))
    if bytes and (least == 0 or bytes < least) then
      least = bytes
    end
    path = path:match("^(/.*)/[^/]+$") or (path ~= "/" and "/" or nil)
  end
  return least
end

-- 512 MiB, or less where the system's own limit is near.
local function default_bytes(constrained)
  return constrained > 0 and math.min(RSS_BYTES, constrained * SHARE) or RSS_BYTES
end

local function first(...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if value ~= nil then
      return value or nil
    end
  end
end

--- The limits in force; a field that is nil is no limit.
---@param opts { ["max-rss"]?: number|false, ["max-cpu"]?: number|false }
---@param env fun(name: string): string?
---@param warn fun(text: string)
---@param constrained? number What the system lets us have in bytes, 0 if it does not say.
---@return { rss_bytes?: number, cpu_pct?: number }
function M.read(opts, env, warn, constrained)
  return {
    rss_bytes = first(opts["max-rss"], from_environment(env, "BEAMLENS_MAX_RSS", M.bytes, warn),
      default_bytes(constrained or M.group_bytes())),
    cpu_pct = first(opts["max-cpu"], from_environment(env, "BEAMLENS_MAX_CPU", M.percent, warn),
      CPU_PCT),
  }
end

return M
