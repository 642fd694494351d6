--- Tells when one of a set of files may have changed: by events of their folders, and, since some
--- filesystems give none, by a look at all of them every two seconds.
---
--- A path may lead over symbolic links, which may be swapped, as Kubernetes does with the files of
--- a ConfigMap. So the folder of each link on the way is watched, that of the file itself, and the
--- one above it, since a whole folder may be moved in.

local uv = require("luv")

local M = {}

local LOOK_MS = 2000
local MAX_LINKS = 40

---@class watch.Watch
local Watch = {}
local watch_mt = { __index = Watch }

--- Watches nothing yet.
---@param opts { on_change: fun(), on_look?: fun(), look_ms?: number } `on_change` may be called
--- without a change, `on_look` is called before each look.
---@return watch.Watch
function M.new(opts)
  local self = setmetatable({
    on_change = opts.on_change, on_look = opts.on_look or function() end,
    folders = {}, -- by path: { handle, id, names }
    paths = {},
    signs = {}, -- by path: what `stat` said
    timer = uv.new_timer(),
  }, watch_mt)
  local look_ms = opts.look_ms or LOOK_MS
  self.timer:start(look_ms, look_ms, function()
    self:look()
  end)
  return self
end

-- What tells one state of a file, or of a folder, from another without reading it.
local function sign_of(path)
  local stat = uv.fs_stat(path)
  if not stat then
    return ""
  end
  return ("%d %d %d %d.%09d %d.%09d"):format(stat.dev, stat.ino, stat.size, stat.mtime.sec,
    stat.mtime.nsec, stat.ctime.sec, stat.ctime.nsec)
end

local function split(path)
  local folder, name = path:match("^(.*)/([^/]+)/*$")
  return folder == "" and "/" or folder, name
end

local function absolute(path)
  return path:sub(1, 1) == "/" and path or uv.cwd() .. "/" .. path
end

-- Calls fn(folder, name) for each link on the way of a path, and for its end. What is not there is
-- looked for where the way ends.
local function walk(path, fn)
  local todo, links = {}, 0
  local function push(text)
    local names = {}
    for name in text:gmatch("[^/]+") do
      if name ~= "." then
        table.insert(names, 1, name)
      end
    end
    for _, name in ipairs(names) do
      todo[#todo + 1] = name
    end
  end
  push(absolute(path))
  local at = ""
  while #todo > 0 do
    local name = table.remove(todo)
    local folder, here = at == "" and "/" or at, at .. "/" .. name
    local stat = uv.fs_lstat(here)
    if name == ".." then
      at = at:match("^(.*)/[^/]*$") or ""
    elseif stat and stat.type == "link" and links < MAX_LINKS then
      fn(folder, name)
      local target = uv.fs_readlink(here) or ""
      links = links + 1
      at = target:sub(1, 1) == "/" and "" or at
      push(target)
    elseif not stat or #todo == 0 then
      fn(folder, name)
      return
    else
      at = here
    end
  end
end

-- The folders that a path needs, with the names in them that matter.
local function add_places(places, path, name_in_it)
  local function add(folder, name)
    places[folder] = places[folder] or {}
    places[folder][name or ""] = true
  end
  walk(path, function(folder, name)
    add(folder, name)
    local above, own = split(folder)
    if above then
      add(above, own)
    end
  end)
  if name_in_it then
    local real = uv.fs_realpath(path)
    if real then
      add(real, name_in_it)
    end
  end
end

local function is_relevant(names, name)
  return name == nil or names[name]
    or (names["*.lua"] and name:find("%.lua$") and name:sub(1, 1) ~= ".")
end

local function close(folder)
  if folder.handle and not folder.handle:is_closing() then
    folder.handle:close()
  end
end

-- Watches a folder. Where that cannot be done the looks remain.
function Watch:open(path, names, id)
  local folder = { names = names, id = id }
  self.folders[path] = folder
  local handle = uv.new_fs_event()
  local ok = handle:start(path, {}, function(err, name)
    if err or is_relevant(folder.names, name) then
      self.on_change()
    end
  end)
  if ok then
    folder.handle = handle
  else
    handle:close()
  end
end

--- Changes what is watched.
---@param files string[] Files, present or not.
---@param listings string[] Folders in which any Lua file matters.
function Watch:set(files, listings)
  if self.is_closed then
    return
  end
  local places, paths = {}, {}
  for _, path in ipairs(files) do
    add_places(places, path)
    paths[path] = true
  end
  for _, path in ipairs(listings) do
    add_places(places, path, "*.lua")
    paths[path] = true
  end
  self.paths = paths
  for path in pairs(paths) do
    self.signs[path] = self.signs[path] or sign_of(path)
  end
  for path, folder in pairs(self.folders) do
    if not places[path] then
      close(folder)
      self.folders[path] = nil
    end
  end
  for path, names in pairs(places) do
    local stat, known = uv.fs_stat(path), self.folders[path]
    local id = stat and ("%d %d"):format(stat.dev, stat.ino)
    if known and known.id == id and known.handle then
      known.names = names
    else
      if known then
        close(known)
        self.folders[path] = nil
      end
      if stat and stat.type == "directory" then
        self:open(path, names, id)
      end
    end
  end
end

--- Takes the present state of all files as known. To be called before they are read.
function Watch:mark()
  for path in pairs(self.signs) do
    self.signs[path] = self.paths[path] and sign_of(path) or nil
  end
end

--- Looks at all files, and tells when one is not as it was last time.
function Watch:look()
  self.on_look()
  local changed = false
  for path in pairs(self.paths) do
    local sign = sign_of(path)
    changed = changed or self.signs[path] ~= sign
    self.signs[path] = sign
  end
  if changed then
    self.on_change()
  end
end

--- Ends.
function Watch:close()
  self.is_closed = true
  if not self.timer:is_closing() then
    self.timer:close()
  end
  for _, folder in pairs(self.folders) do
    close(folder)
  end
  self.folders = {}
end

return M
