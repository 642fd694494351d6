--- Which modules of a node may be called: those that `erlang:module_loaded/1` has confirmed.
---
--- A call to a module that is not loaded makes the node ask its `code_server`, and where that does
--- not answer the call hangs. So each module is asked for first; one that is missing is loaded, as
--- the node itself would at its first use, in a call with a deadline of its own.

local async = require("runtime.async")
local dist = require("host.dist")

local M = {}

-- What erl_scan, erl_parse, erl_eval and io_lib:format/3 need at run time, found on bare nodes of
-- OTP 25 and 27: all but erl_parse, erl_eval, lists, maps, orddict, binary and unicode are absent
-- at boot in interactive mode. erl_features is that of newer ones, which also make funs with sets.
M.EVAL = {
  "erl_scan", "erl_anno", "erl_parse", "erl_eval", "erl_internal", "erl_bits", "eval_bits", "epp",
  "erl_features", "erl_lint", "otp_internal", "io_lib", "io_lib_format", "io_lib_pretty", "lists",
  "maps", "orddict", "ordsets", "sets", "string", "unicode", "unicode_util", "binary",
}

-- Of those, the ones that every release with evaluation has; the rest may come and go with OTP.
M.EVAL_REQUIRED = { erl_scan = true, erl_parse = true, erl_eval = true, io_lib = true }

-- Modules of OTP's own libraries that are loaded when an evaluated source names them. Others are
-- the source's affair: loading them because a source asks for them would change the node.
local LIBRARY = {}
for name in ([[array base64 binary calendar code dict erlang ets gb_sets gb_trees gen_server
  inet io_lib lists logger maps math orddict ordsets os persistent_term prim_file proc_lib
  proplists queue rand re sets string supervisor sys timer unicode]]):gmatch("%S+") do
  LIBRARY[name] = true
end

M.LOAD_TIMEOUT_MS = 2000

---@class node_modules.Modules
local Modules = {}
local modules_mt = { __index = Modules }

--- Creates the record of one node.
---@param call async fun(mod: string, fun: string, args: any[], opts: table): any, string?, string?
--- Calls a function on the node; `opts` has `timeout_ms`.
---@return node_modules.Modules
function M.new(call)
  return setmetatable({ call = call, confirmed = { erlang = true }, loaded = {} }, modules_mt)
end

--- Forgets what is loaded, as after a restart of the node.
function Modules:forget()
  self.confirmed = { erlang = true }
  self.loaded = {}
end

--- The library modules that an Erlang source calls.
---@param source string
---@return string[]
function M.named_in(source)
  local names = {}
  for name in source:gmatch("%f[%w_]([a-z][%w_]*):[a-z]") do
    if LIBRARY[name] and not names[name] then
      names[name] = true
      names[#names + 1] = name
    end
  end
  return names
end

-- Runs fn(name) for all names at the same time.
local function for_each(names, fn)
  local tasks = {}
  for i, name in ipairs(names) do
    tasks[i] = async.spawn(fn, { name = "modules" }, name)
  end
  for _, task in ipairs(tasks) do
    task:join()
  end
end

-- Splits `names` into those that are not loaded, and the first failure to learn it.
function Modules:find_missing(names, deadline)
  local missing, failure = {}, nil
  for_each(names, function(name)
    local loaded, err, code = self.call("erlang", "module_loaded", { dist.atom(name) },
      { timeout_ms = deadline:left_ms(), priority = "normal" })
    if loaded == true then
      self.confirmed[name] = true
    elseif loaded == false then
      missing[#missing + 1] = name
    else
      failure = { err, code }
    end
  end)
  return missing, failure
end

-- Loads modules. Returns the first failure; that one is absent counts where `required` has it. The
-- first is loaded alone: what a code_server that does not answer is asked stays in its mailbox.
function Modules:load(names, deadline, required)
  local failure
  local function load_one(name)
    local timeout_ms = math.min(M.LOAD_TIMEOUT_MS, deadline:left_ms())
    local answer, err, code = self.call("code", "ensure_loaded", { dist.atom(name) },
      { timeout_ms = timeout_ms, priority = "normal" })
    -- A caller in a hurry is no sign of a sick code_server.
    if answer == nil and code == "ETIMEDOUT" and timeout_ms == M.LOAD_TIMEOUT_MS then
      failure = failure or { ("ECODESERVER: the node's code_server does not answer, so the "
        .. "module %s cannot be loaded"):format(name), "ECODESERVER" }
    elseif answer == nil then
      failure = failure or { err, code }
    elseif answer[1] == "module" then
      self.confirmed[name] = true
      self.loaded[#self.loaded + 1] = name
    elseif required[name] then
      failure = failure or { ("ENOMODULE: the node has no module %s (%s)"):format(name,
        tostring(answer[2])), "ENOMODULE" }
    end
  end
  load_one(names[1])
  if not failure then
    for_each({ unpack(names, 2) }, load_one)
  end
  return failure
end

--- Makes sure that modules are loaded.
---@async
---@param names string[]
---@param deadline async.Deadline
---@param required table<string, true> That the node does not have another is no failure.
---@return true? ok
---@return string? err
---@return string? code `"ENOMODULE"`: the node lacks a required one; `"ECODESERVER"`: its
--- code_server does not answer; or the code of a failed call.
function Modules:confirm(names, deadline, required)
  local unknown = {}
  for _, name in ipairs(names) do
    if not self.confirmed[name] then
      unknown[#unknown + 1] = name
    end
  end
  if #unknown == 0 then
    return true
  end
  local missing, failure = self:find_missing(unknown, deadline)
  if not failure and #missing > 0 then
    -- `code` is part of the kernel, but no call goes to what was not confirmed.
    local without_code, code_failure = self:find_missing({ "code" }, deadline)
    failure = code_failure
      or (#without_code > 0 and { "ENOMODULE: the node has no module code", "ENOMODULE" })
      or self:load(missing, deadline, required)
  end
  if failure then
    return nil, failure[1], failure[2]
  end
  return true
end

return M
