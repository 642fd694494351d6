--- Finding and loading the Lua files of users: watchers, domains, prompts, client registries.
---
--- Domains and prompts are looked up beside the watcher file's folder and in it, then in the folder
--- of `--dir` or `BEAMLENS_DIR`, then in /etc/beamlens, then among the embedded files. Nothing is
--- found merely because it lies in the current folder.

local core = require("host.core")
local disk = require("runtime.disk")
local globals_of = require("runtime.loader.globals")
local metered = require("runtime.metered")
local modules = require("runtime.loader.modules")
local suggest = require("runtime.suggest")
local trace_module = require("runtime.loader.trace")
local world = require("runtime.world")

local M = {}

-- Of running, when a file is loaded: it should only build a table.
local LOAD_MS = 2000

--- Reads a file: `read(path) -> text | nil, err`. The error names the path once.
M.read = disk.read

---@class loader.Loader
local Loader = {}
local loader_mt = { __index = Loader }

--- Creates a loader.
---@param opts { dir?: string, env?: fun(name: string): string? }
---@return loader.Loader
function M.new(opts)
  local env = opts.env or world.env
  return setmetatable({ dir = opts.dir or env("BEAMLENS_DIR"), env = env }, loader_mt)
end

-- The folders that may hold `kind` ("domains", "prompts") for a watcher file, nearest first.
function Loader:folders(kind, watcher_file)
  local folders = {}
  if watcher_file then
    local folder = watcher_file:match("^(.*)/[^/]*$") or "."
    folders[#folders + 1] = folder .. "/../" .. kind
    folders[#folders + 1] = folder .. "/" .. kind
  end
  if self.dir then
    folders[#folders + 1] = self.dir .. "/" .. kind
  end
  folders[#folders + 1] = "/etc/beamlens/" .. kind
  return folders
end

--- Finds a domain or prompt by name.
---@param kind "domains"|"prompts"
---@param name string
---@param watcher_file? string
---@param trace? trace.Trace Is told where was looked.
---@return { source: string, chunk_name: string, path?: string }? found `path` is nil when embedded.
---@return string? err
function Loader:find(kind, name, watcher_file, trace)
  trace = trace or trace_module.new()
  if not name:find("^[%w_-]+$") then
    return nil, ("%q is not a name: use letters, digits, _ and -"):format(name)
  end
  for _, folder in ipairs(self:folders(kind, watcher_file)) do
    local path = ("%s/%s.lua"):format(folder, name)
    if trace:exists(path) then
      local source, err = trace:read(path)
      if not source then
        return nil, err
      end
      return { source = source, chunk_name = path, path = path }
    end
  end
  local embedded = ("%s/%s.lua"):format(kind, name)
  local source = core.embedded(embedded)
  if source then
    return { source = source, chunk_name = embedded }
  end
  local names = self:names(kind, watcher_file)
  return nil, ("no %s %q%s"):format(kind:sub(1, -2), name, suggest.hint(name, names))
end

--- The names of all domains or prompts that a watcher file could use, sorted.
---@return string[]
function Loader:names(kind, watcher_file)
  local names = {}
  for _, folder in ipairs(self:folders(kind, watcher_file)) do
    for _, name in ipairs(disk.list(folder) or {}) do
      names[name:match("^(.*)%.lua$") or ""] = true
    end
  end
  for _, path in ipairs(core.embedded_paths()) do
    names[path:match("^" .. kind .. "/([^/]*)%.lua$") or ""] = true
  end
  names[""] = nil
  return suggest.keys(names)
end

-- An error that says already where it is.
local located_mt = { __tostring = function(err)
  return err.text
end }

-- Makes an error handler that says on which line of a chunk it went wrong, whoever raised it.
local function located(chunk_name)
  return function(err)
    if getmetatable(err) == located_mt then
      return err.text -- of a module that the file requires
    end
    local text = type(err) == "string" and err or ("an error that is a %s"):format(type(err))
    if text:sub(1, #chunk_name + 1) == chunk_name .. ":" then
      return text
    end
    local level = 2
    local info = debug.getinfo(level, "Sl")
    while info and info.source ~= "@" .. chunk_name do
      level = level + 1
      info = debug.getinfo(level, "Sl")
    end
    text = text:gsub("^runtime/[%w_/]+%.lua:%d+: ", "")
    return ("%s:%d: %s"):format(chunk_name, info and info.currentline or 1, text)
  end
end

-- Runs a text in an environment. Returns true and what it returns, or false and what is wrong.
local function run_in(env, source, chunk_name, ...)
  world.file(chunk_name, source)
  local chunk, err = load(source, "@" .. chunk_name, "t", env)
  if not chunk then
    return false, err
  end
  jit.off(chunk, true)
  return xpcall(chunk, located(chunk_name), ...)
end

-- What the file requires from its own folder is a part of it: same globals, same rules.
local function own_require(env, chunk_name, fallback, trace)
  return modules.new({
    folder = chunk_name:match("^(.*)/[^/]*$") or ".", trace = trace, fallback = fallback,
    run = function(source, path, name)
      local ok, value = run_in(env, source, path, name)
      if not ok then
        error(setmetatable({ text = value }, located_mt), 0)
      end
      return value
    end,
  })
end

-- "ran longer than 2000 ms, at FILE:LINE" as where and what.
local function located_overrun(err)
  local text, where = tostring(err):match("^(ran longer .-), at (.-:%d+)$")
  return where, text or "does not load: " .. tostring(err)
end

--- Compiles and runs a user's file: all globals can be read, none written, and `extra` are added.
--- The JIT is off for all that the file defines, so that a runaway function can be stopped; the
--- file itself may run for 2 s.
---@param source string
---@param chunk_name string A path, for errors.
---@param extra? table<string, any>
---@param trace? trace.Trace Of a file that was found by its path: it is told what the file
--- requires from its own folder. Without one the file has no folder.
---@return any value What the file returns.
---@return string? err `FILE:LINE: message`
function M.run(source, chunk_name, extra, trace)
  local globals = setmetatable({}, { __index = extra })
  local env = globals_of.new(globals)
  if trace then
    globals.require = own_require(env, chunk_name, extra and extra.require or require, trace)
  end
  local called, ok, value = metered.call({ label = "the file " .. chunk_name,
    limit_ms = LOAD_MS, place = chunk_name .. ":1" }, run_in, env, source, chunk_name)
  if not called then
    local where, text = located_overrun(ok)
    return nil, ("%s: it %s"):format(where or chunk_name .. ":1", text)
  elseif not ok then
    return nil, value
  end
  if value == nil then
    return nil, ("%s:1: the file returns nothing; end it with `return {…}`"):format(chunk_name)
  end
  return value
end

--- The line on which a field is set in a source text: the n-th line that holds `field =`.
---@param source string
---@param field string
---@param nth? integer Default: 1.
---@return integer line 1 when it is not found.
function M.line_of(source, field, nth)
  local line, left = 0, nth or 1
  local pattern = "%f[%w_]" .. field:gsub("%W", "%%%0") .. "%f[^%w_]%s*=[^=]"
  for text in (source .. "\n"):gmatch("(.-)\n") do
    line = line + 1
    local code = text:gsub("%-%-.*$", "") .. " "
    if code:find(pattern) then
      left = left - 1
      if left == 0 then
        return line
      end
    end
  end
  return nth and nth > 1 and M.line_of(source, field) or 1
end

return M
