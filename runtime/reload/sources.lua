--- The watcher files of a host: those that its arguments name, and those in the folders that they
--- name; each read, and in a later round read anew when it, or what it requires, has changed.

local disk = require("runtime.disk")
local policy = require("runtime.policy")
local suggest = require("runtime.suggest")
local traces = require("runtime.loader.trace")

local M = {}

-- A file that is gone may be about to come back: editors, and `git checkout`, make a new one.
local GONE_AFTER_MS = 1000
-- A timer may be a little early.
local LATER_MS = 100

---@class sources.File
---@field path string
---@field policies table[] In force.
---@field trace trace.Trace
---@field tried? trace.Trace What a newer version that is wrong depends on.

---@class sources.Draft What a file says in this round.
---@field path string
---@field policies? table[] nil: it is gone.
---@field trace? trace.Trace nil: as before.
---@field changed string[]

---@class sources.Sources
---@field files table<string, sources.File> By path.
local Sources = {}
local sources_mt = { __index = Sources }

--- Nothing is read yet.
---@param opts { arguments: string[], loaded: parts.Loaded, clock: clock.Clock, node?: string,
--- client?: string, env: fun(name: string): string? } `node` and `client` override the files.
---@return sources.Sources
function M.new(opts)
  return setmetatable({ opts = opts, files = {}, missing = {} }, sources_mt)
end

local function lua_files_in(folder)
  local names, err = disk.list(folder)
  if not names then
    return nil, err
  end
  local files = {}
  for _, name in ipairs(names) do
    -- Editors keep hidden files of theirs beside the one that is edited.
    local path = folder:gsub("/+$", "") .. "/" .. name
    if name:find("^[^.].*%.lua$") and disk.type(path) ~= "directory" then
      files[#files + 1] = path
    end
  end
  return files
end

local function is_in(path, folder)
  local base = folder:gsub("/+$", "") .. "/"
  return path:sub(1, #base) == base and not path:sub(#base + 1):find("/", 1, true)
end

-- What one argument stands for. A folder that is gone holds what it held: a filesystem that is not
-- mounted removes nothing.
function Sources:of_argument(argument, add, fail)
  local kind = disk.type(argument)
  local names, err
  if kind == "directory" then
    names, err = lua_files_in(argument)
  elseif not self.folders[argument] then
    add(argument)
    return
  end
  if names then
    self.folders[argument] = true
  else
    fail(argument, ("%s: no such file or folder, so its watchers go on"):format(argument)
      .. (err and kind and " (" .. err .. ")" or ""))
    names = {}
    for _, path in ipairs(suggest.keys(self.files)) do
      names[#names + 1] = is_in(path, argument) and path or nil
    end
  end
  for _, path in ipairs(names) do
    add(path)
  end
end

-- The files that there are now, in order.
function Sources:list(fail)
  self.folders = self.folders or {}
  local list, seen = {}, {}
  for _, argument in ipairs(self.opts.arguments) do
    self:of_argument(argument, function(path)
      if not seen[path] then
        seen[path] = true
        list[#list + 1] = path
      end
    end, fail)
  end
  return list, seen
end

function Sources:read(path)
  local own = traces.new()
  local list, errors = policy.load(path, { node = self.opts.node, env = self.opts.env,
    watches_node = self.opts.loaded:watches_node(), trace = own })
  for _, item in ipairs(list or {}) do
    item.client = self.opts.client or item.client
  end
  return list, errors, own
end

-- What a file says now. `fail` is told what is wrong; what is in force stays.
function Sources:draft(path, fail)
  local file = self.files[path]
  if file and file.trace:is_current() then
    file.tried = nil
    return { path = path, policies = file.policies, changed = {} }
  end
  local list, errors, own = self:read(path)
  if list then
    return { path = path, policies = list, trace = own,
      changed = own:differences(file and file.trace) }
  end
  for _, err in ipairs(errors) do
    fail(path, err)
  end
  self.tried = self.tried or {}
  self.tried[path] = own
  if file then
    file.tried = own
    return { path = path, policies = file.policies, changed = {} }
  end
end

-- The files in force that are not there any more, each told once it has been away for a while.
function Sources:gone(seen, is_final)
  local gone, now_ms = {}, self.opts.clock.now_ms()
  for _, path in ipairs(suggest.keys(self.files)) do
    if seen[path] then
      self.missing[path] = nil
    else
      self.missing[path] = self.missing[path] or now_ms
      local is_gone = is_final or now_ms - self.missing[path] >= GONE_AFTER_MS
      gone[#gone + 1] = { path = path, is_gone = is_gone }
    end
  end
  return gone
end

--- Reads what there is, and has changed.
---@param fail fun(path: string, err: string) Is told of each mistake, `FILE:LINE: message`.
---@param is_final? boolean A file that is gone is gone at once.
---@return sources.Draft[] drafts In order.
---@return number? again_ms When it has to be looked at again.
function Sources:round(fail, is_final)
  local list, seen = self:list(fail)
  local drafts, again_ms = {}, nil
  self.tried = {}
  for _, path in ipairs(list) do
    drafts[#drafts + 1] = self:draft(path, fail)
  end
  for _, missing in ipairs(self:gone(seen, is_final)) do
    if missing.is_gone then
      drafts[#drafts + 1] = { path = missing.path, changed = { missing.path } }
    else
      again_ms = GONE_AFTER_MS + LATER_MS
      drafts[#drafts + 1] = { path = missing.path, policies = self.files[missing.path].policies,
        changed = {} }
    end
  end
  return drafts, again_ms
end

--- Puts a draft in force.
---@param draft sources.Draft
function Sources:put(draft)
  if not draft.policies then
    self.files[draft.path], self.missing[draft.path] = nil, nil
  elseif draft.trace then
    self.files[draft.path] = { path = draft.path, policies = draft.policies, trace = draft.trace }
  end
end

--- Leaves the older version of a file in force, although the newer one could be read.
---@param draft sources.Draft
function Sources:refuse(draft)
  self.tried[draft.path] = draft.trace
end

--- The folders among the arguments.
---@return string[]
function Sources:listings()
  return suggest.keys(self.folders or {})
end

--- The traces of versions that are wrong.
---@return trace.Trace[]
function Sources:tried_traces()
  local list = {}
  for _, trace in pairs(self.tried or {}) do
    list[#list + 1] = trace
  end
  return list
end

--- The traces of all files.
---@return trace.Trace[]
function Sources:traces()
  local list = {}
  for _, file in pairs(self.files) do
    list[#list + 1] = file.trace
  end
  for _, trace in ipairs(self:tried_traces()) do
    list[#list + 1] = trace
  end
  return list
end

return M
