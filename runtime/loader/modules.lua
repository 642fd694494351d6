--- `require` as a user's file sees it: modules that lie in the file's own folder are loaded with
--- the file, each time anew, so that nothing of an older version is left in them.
---
--- In `/etc/shop/watchers/beam.lua`, `require("lib.times")` is `/etc/shop/watchers/lib/times.lua`;
--- in a folder `domains`, "domains.orders.rules" is found by its whole name, too. Lua libraries of
--- the system are loaded in the same way, so that their loops can be stopped as the file's own.

local core = require("host.core")

local M = {}

local LOADING = {}

-- The paths, without ".lua", that a module may have in a folder.
local function places(folder, name)
  local rest = name:gsub("%.", "/")
  local list = { folder .. "/" .. rest }
  local base = folder:match("([^/]+)$")
  if base and rest:sub(1, #base + 1) == base .. "/" then
    list[2] = folder .. rest:sub(#base + 1)
  end
  return list
end

local function find_own(opts, name)
  for _, place in ipairs(places(opts.folder, name)) do
    for _, path in ipairs({ place .. ".lua", place .. "/init.lua" }) do
      if opts.trace:exists(path) then
        return path
      end
    end
  end
end

local function find_library(name)
  if package.loaded[name] == nil and not package.preload[name] then
    return package.searchpath(name, package.path)
  end
end

--- Makes the `require` of one load of a file.
---@param opts { folder: string, trace: trace.Trace, fallback: (fun(name: string): any),
--- run: fun(source: string, path: string): any } `run` runs a module's text in the file's
--- environment, and raises what is wrong with it; `fallback` has what is not in a file.
---@return fun(name: string): any
function M.new(opts)
  local loaded = {}
  return function(name)
    if type(name) ~= "string" then
      error(("a module is named by a string, not a %s"):format(type(name)), 2)
    elseif loaded[name] == LOADING then
      error(("module %q requires itself"):format(name), 2)
    elseif loaded[name] ~= nil then
      return loaded[name]
    end
    local path = name ~= "beamlens" and name:find("^[%w_.-]+$")
      and (find_own(opts, name) or find_library(name))
    if not path then
      return opts.fallback(name)
    end
    local source, err = opts.trace:read(path)
    if not source then
      error(err, 2)
    elseif core.embedded(name:gsub("%.", "/") .. ".lua") == source then
      return opts.fallback(name) -- our own, unchanged: it is compiled, and shared
    end
    loaded[name] = LOADING
    local ok, value = pcall(opts.run, source, path, name)
    loaded[name] = nil
    if not ok then
      error(value, 0)
    end
    loaded[name] = value == nil and true or value
    return loaded[name]
  end
end

return M
