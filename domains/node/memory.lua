--- How much memory a node's OS process takes, and how much it may: what the OOM killer looks at.
---
--- Resident memory is VmRSS of /proc/self/status (in kB, whatever the page size), read on the node.
--- The limit is the least of the machine's memory and every limit from its own cgroup up. All files
--- are read by `prim_file`, with patience (domains/node/patience.lua).

local fields = require("domains.node.fields")
local json = require("runtime.json")
local patience = require("domains.node.patience")
local texts = require("domains.node.texts")

local M = {}

local MAX_LEVELS = 32
local MIB = 1024 * 1024

local V2_ROOTS = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" }
local V1_ROOTS = { "/sys/fs/cgroup/memory" }

-- The limit files of one cgroup and all above it, under each place where the tree may be mounted.
local function add_limit_files(paths, roots, group, file)
  for _ = 1, MAX_LEVELS do
    for _, root in ipairs(roots) do
      paths[#paths + 1] = ("%s%s/%s"):format(root, group, file)
    end
    if group == "" then
      return
    end
    group = group:match("^(.*)/[^/]*$") or ""
  end
end

--- The files that may hold a memory limit, from the text of /proc/self/cgroup.
---@param text string
---@return string[]
function M.limit_files(text)
  local paths = {}
  for hierarchy, controllers, group in text:gmatch("(%d+):([^:\n]*):([^\n]*)") do
    group = group:gsub("/+$", ""):gsub("^/%.%..*", "")
    if hierarchy == "0" and controllers == "" then
      add_limit_files(paths, V2_ROOTS, group, "memory.max")
    elseif ("," .. controllers .. ","):find(",memory,", 1, true) then
      add_limit_files(paths, V1_ROOTS, group, "memory.limit_in_bytes")
    end
  end
  return paths
end

local function kib(text, name)
  local number = text and ("\n" .. text):match("\n" .. name .. ":%s*(%d+) kB")
  return number and tonumber(number) * 1024
end

local function read_files(target, deadline)
  local files, err, code = texts.read(target,
    { "/proc/self/status", "/proc/self/cgroup", "/proc/meminfo" }, deadline)
  if not files then
    return nil, err, code
  end
  local limit = kib(files[3], "MemTotal")
  local paths = M.limit_files(files[2] or "")
  if #paths > 0 then
    local limits
    limits, err, code = texts.read(target, paths, deadline)
    if not limits then
      return nil, err, code
    end
    for _, text in pairs(limits) do
      local bytes = tonumber(text:match("^(%d+)%s*$"))
      limit = bytes and math.min(bytes, limit or math.huge) or limit
    end
  end
  return { rss_bytes = kib(files[1], "VmRSS"), limit_bytes = limit }
end

--- Reads both from the node.
---@async
---@param target domain.Target
---@return { rss_mb?: number, limit_mb?: number }? memory nil when it is late.
function M.read(target)
  local read = patience.read(target, read_files)
  if not read then
    return nil
  end
  return {
    rss_mb = read.rss_bytes and read.rss_bytes / MIB,
    limit_mb = read.limit_bytes and read.limit_bytes / MIB,
  }
end

--- Adds what a node takes and may take to a snapshot: memory_utilization_pct, memory_basis,
--- memory_rss_mb and memory_limit_mb; null where it is late or not to be read.
---@async
---@param target domain.Target
---@param data table
---@param total_bytes number `erlang:memory(total)`, which counts where there is no resident memory.
function M.add(target, data, total_bytes)
  local memory = M.read(target)
  if not memory then
    data.memory_utilization_pct, data.memory_basis = json.null, json.null
    data.memory_rss_mb, data.memory_limit_mb = json.null, json.null
    return
  end
  local used_mb = memory.rss_mb or total_bytes / MIB
  data.memory_basis = memory.rss_mb and "rss" or "erlang:memory(total)"
  data.memory_rss_mb = memory.rss_mb and fields.round2(memory.rss_mb) or json.null
  data.memory_limit_mb = memory.limit_mb and fields.round2(memory.limit_mb) or json.null
  data.memory_utilization_pct = memory.limit_mb and fields.pct(used_mb, memory.limit_mb)
    or json.null
end

return M
