-- What a process keeps: memory, handles, references, coroutines, file descriptors and children.
--
--   local coroutines = kept.watch_coroutines()
--   local before = kept.now(coroutines)            -- after a full collection

local core = require("host.core")
local proc = require("bench.proc")
local uv = require("luv")

local M = {}

local MIB = 1024 * 1024

local function read(path)
  local file = assert(io.open(path, "r"))
  local text = file:read("*a")
  file:close()
  return text
end

local function file_descriptors()
  local count, scan = 0, assert(uv.fs_scandir("/proc/self/fd"))
  for _ in uv.fs_scandir_next, scan do
    count = count + 1
  end
  return count
end

local function children()
  local count = 0
  for _ in read(("/proc/self/task/%d/children"):format(uv.os_getpid())):gmatch("%d+") do
    count = count + 1
  end
  return count
end

--- Has each coroutine that is made from now on be known as long as it is kept.
---@return table coroutines
---@return fun() stop
function M.watch_coroutines()
  local create, known = coroutine.create, setmetatable({}, { __mode = "k" })
  coroutine.create = function(fn) -- luacheck: ignore 122
    local co = create(fn)
    known[co] = true
    return co
  end
  return known, function()
    coroutine.create = create -- luacheck: ignore 122
  end
end

local function alive(coroutines)
  local count = 0
  for co in pairs(coroutines) do
    count = count + (coroutine.status(co) ~= "dead" and 1 or 0)
  end
  return count
end

--- What is kept now, after all that can be collected was.
---@param coroutines table
function M.now(coroutines)
  collectgarbage()
  collectgarbage()
  local _, handles = core.handles()
  return { rss_bytes = proc.rss_mb(uv.os_getpid()) * MIB,
    heap_bytes = collectgarbage("count") * 1024, handles = handles,
    references = core.references(), coroutines = alive(coroutines),
    file_descriptors = file_descriptors(), children = children() }
end

return M
