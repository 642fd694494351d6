--- What users' files see as globals: all that there are, none to be written. What makes functions
--- out of text makes them as the loader does: strict, and with the JIT off, so that each loop of a
--- user's file can be stopped.

local M = {}

local function interpreted(chunk, err)
  if chunk then
    jit.off(chunk, true)
  end
  return chunk, err
end

-- `load` and those that are made of it, for one environment.
local function loaders(env)
  local own = {}
  function own.load(text, name, _, given)
    return interpreted(load(text, name, "t", given or env))
  end
  function own.loadstring(text, name)
    return own.load(text, name)
  end
  function own.loadfile(path)
    local file, err = io.open(path, "rb")
    if not file then
      return nil, err
    end
    local text = file:read("*a")
    file:close()
    return own.load(text, "@" .. path)
  end
  function own.dofile(path)
    return assert(own.loadfile(path))()
  end
  return own
end

-- No hook is called while an error handler runs, so that a loop in one could not be stopped: the
-- handler is called when the error has been caught.
local function guarded_xpcall(fn, handler, ...)
  local function settle(ok, ...)
    if ok then
      return true, ...
    end
    return false, handler(...)
  end
  return settle(pcall(fn, ...))
end

--- The environment of one file.
---@param extra table<string, any> Further globals; may be added to later.
---@return table
function M.new(extra)
  local own
  local env = setmetatable({}, {
    __index = function(_, name)
      local value = extra[name]
      if value == nil then
        value = own[name]
      end
      if value == nil then
        value = rawget(_G, name)
      end
      if value == nil then
        error(("undeclared global %q"):format(tostring(name)), 2)
      end
      return value
    end,
    __newindex = function(_, name)
      error(("assignment to global %q: declare it with `local`"):format(tostring(name)), 2)
    end,
  })
  own = loaders(env)
  own.xpcall = guarded_xpcall
  return env
end

return M
