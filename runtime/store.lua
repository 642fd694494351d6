--- The store: one SQLite file that outlives the host, written by a thread of its own.
---
--- It has one running owner, by a lock beside it; readers may come any time. Requests are queued
--- and never hold up the loop; what the disk refuses is returned, and runtime/store/keeper.lua goes
--- on from memory.
---
---   local s = assert(store.open({ path = "/var/lib/beamlens/beamlens.db" }))
---   local rows, err, code = s:query("SELECT used FROM spending WHERE account = ?1", "process")
---   s:close()

local async = require("runtime.async")
local host_lock = require("host.lock")
local native = require("host.store")
local uv = require("luv")
local world = require("runtime.world")

local M = {}

local FILE, LOCK = "beamlens.db", ".lock"
local TIMEOUT_MS = 5000

---@class store.Store
---@field path string
local Store = {}
local store_mt = { __index = Store }

--- Where the store is: as given, else BEAMLENS_STORE, else beamlens.db in $STATE_DIRECTORY, in
--- $XDG_STATE_HOME/beamlens or in ~/.local/state/beamlens.
---@param given? string Of --store; `none` is no store.
---@param env? fun(name: string): string?
---@return string? path nil: none is wanted, or there is no place for one.
---@return string? err Why there is no place.
function M.path(given, env)
  env = env or os.getenv
  local function set(name)
    local value = env(name)
    return value and value ~= "" and value or nil
  end
  local path = given or set("BEAMLENS_STORE")
  if path then
    return path ~= "none" and path or nil
  end
  local folder = set("STATE_DIRECTORY") and set("STATE_DIRECTORY"):match("^[^:]+")
  if not folder then
    local state = set("XDG_STATE_HOME") or (set("HOME") and set("HOME") .. "/.local/state")
    folder = state and state .. "/beamlens"
  end
  if not folder then
    return nil, "no place for a store: HOME is not set, and --store names no file"
  end
  return folder .. "/" .. FILE
end

-- Makes the folders of a path, as far as they are missing.
local function make_folders(path)
  local folder = path:match("^(.*)/[^/]*$")
  if not folder or folder == "" or uv.fs_stat(folder) then
    return true
  end
  local ok, err, code = make_folders(folder)
  if not ok then
    return nil, err, code
  end
  ok, err, code = uv.fs_mkdir(folder, 448)
  if not ok and code ~= "EEXIST" then
    return nil, err, code
  end
  return true
end

-- A new file is its owner's alone, as its folder is; SQLite makes those beside it alike.
local function make_file(path)
  if not uv.fs_stat(path) then
    local fd = uv.fs_open(path, "a", 384)
    if fd then
      uv.fs_close(fd)
    end
  end
end

local function new(path, lock, is_read_only)
  local self = setmetatable({ path = path, lock = lock, queue = {} }, store_mt)
  local err, code
  self.native, err, code = world.open("store", function()
    return native.open(path, function()
      self:done()
    end, is_read_only)
  end)
  if not self.native then
    return nil, err, code
  end
  return self
end

--- Opens a store and becomes its owner.
---@param opts { path: string }
---@return store.Store? store
---@return string? err
---@return string? code ELOCKED: another process has it; `pid` is its id.
---@return integer? pid
function M.open(opts)
  local lock, err, code, pid = world.open("lock", function()
    local ok, folder_err, folder_code = make_folders(opts.path)
    if not ok then
      return nil, folder_err, folder_code
    end
    local taken, take_err, take_code, pid = host_lock.take(opts.path .. LOCK)
    if taken then
      make_file(opts.path)
    end
    return taken, take_err, take_code, pid
  end)
  if not lock then
    return nil, err, code, pid
  end
  local self
  self, err, code = new(opts.path, lock)
  if not self then
    lock:close()
    return nil, err, code
  end
  return self
end

--- Opens a store to read it, whoever is its owner. Nothing is made or changed.
---@param path string
---@return store.Store? store
---@return string? err
---@return string? code
function M.read(path)
  return new(path, nil, true)
end

--- The process that is the owner of a store; nil when none is. Not for that process itself.
---@param path string
---@return integer? pid
function M.owner(path)
  return host_lock.owner(path .. LOCK)
end

-- Starts the next request of the queue.
function Store:advance()
  local entry = self.queue[1]
  if not entry or entry.runs or not self.native then
    return
  end
  entry.runs = true
  if not entry.sql then
    self.native:drop()
    return
  end
  local ok, err, code = self.native:start(entry.sql, unpack(entry.params, 1, entry.params.n))
  if not ok then
    table.remove(self.queue, 1)
    entry.done(nil, err, code)
    self:advance()
  end
end

-- The running request has ended. One that nobody waits for any more has run all the same.
function Store:done()
  if not self.native then
    return
  end
  local entry = table.remove(self.queue, 1)
  local rows, err, code = self.native:take()
  self:advance()
  entry.done(rows, err, code)
end

-- Queues a request. One that is given up before its turn is not made.
local function request(self, sql, params)
  if not self.native then
    return nil, "ECLOSED: the store is closed", "ECLOSED"
  end
  return async.outside("query", function()
    return async.await(TIMEOUT_MS, function(done)
      local entry = { sql = sql, params = params, done = done }
      table.insert(self.queue, entry)
      self:advance()
      return function()
        entry.done = function() end
        for i, other in ipairs(self.queue) do
          if other == entry and not entry.runs then
            table.remove(self.queue, i)
            break
          end
        end
      end
    end)
  end, sql or "drop")
end

--- Runs SQL in its turn.
---@async
---@param sql string One statement or several.
---@param ... string|number For ?1 to ?16.
---@return any[][]? rows
---@return string? err
---@return string? code EBUSY: another program holds the file; EROFS, ENOSPC, EISDIR; EBROKEN: it is
--- no store; ETIMEDOUT; ECLOSED; ESTORE: anything else.
function Store:query(sql, ...)
  return request(self, sql, { n = select("#", ...), ... })
end

--- Closes the file, in its turn: the next request opens what then lies there. The owner stays.
---@async
---@return any[][]? rows None.
---@return string? err
---@return string? code
function Store:drop()
  return request(self)
end

--- Closes the file and gives up the ownership. A request that still runs is left to itself.
function Store:close()
  if not self.native then
    return
  end
  self.native:close()
  self.native = nil
  if self.lock then
    self.lock:close()
  end
  for _, entry in ipairs(self.queue) do
    entry.done(nil, "ECLOSED: the store is closed", "ECLOSED")
  end
  self.queue = {}
end

return M
