-- What specs of the sandbox share: a case with a sandbox of its own, and what is left of one.

local async = require("runtime.async")
local sandbox = require("runtime.sandbox")
local support = require("support")
local uv = require("luv")

local M = {}

local PATIENT_MS = 240000

--- False for a zombie: whoever inherited it may take its time.
function M.is_alive(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  local state = file and (file:read("*a") or ""):match("%) (%a)")
  if file then
    file:close()
  end
  return state ~= nil and state ~= "Z" and state ~= "X"
end

--- Waits for the end of a process.
---@async
function M.wait_gone(pid)
  support.wait_until(function()
    return not M.is_alive(pid)
  end, 5000, "the end of process " .. pid)
end

--- A case with a sandbox of its own, which is closed at the end, and whose processes must be gone.
---@param body async fun(box: sandbox.Sandbox)
---@param opts? table Options of the sandbox; `timeout_s` of the case.
function M.with_sandbox(body, opts)
  return support.async(function()
    local box = sandbox.new(opts)
    local ok, err = async.pcall(body, box)
    local pids = box:stats().children
    for _, pid in ipairs(box:stats().zygotes) do
      pids[#pids + 1] = pid
    end
    box:close()
    if not ok then
      error(err, 0)
    end
    for _, pid in ipairs(pids) do
      M.wait_gone(pid)
    end
  end, opts and opts.timeout_s)
end

-- A busy machine takes no script's time: it has minutes where the case does not say how long.
local function patient(limits)
  local all = { wall_ms = PATIENT_MS }
  for name, value in pairs(limits or {}) do
    all[name] = value
  end
  return all
end

--- Runs a script.
function M.exec(box, code, opts)
  local request = { code = code }
  for name, value in pairs(opts or {}) do
    request[name] = value
  end
  request.limits = patient(request.limits)
  return box:exec(request)
end

--- Runs a script with one function `f`.
function M.exec_with(box, f, code, limits)
  return box:exec({ code = code, functions = { "f" }, limits = patient(limits),
    on_call = function(_, args)
      return f(unpack(args, 1, 10))
    end })
end

--- What a script returns, which must not fail.
function M.value_of(box, code, opts)
  local outcome = M.exec(box, code, opts)
  assert(outcome.ok, outcome.message)
  return outcome.value
end

--- How many descriptors this process has open.
function M.count_fds()
  local count = 0
  for _ in uv.fs_scandir_next, uv.fs_scandir("/proc/self/fd") do
    count = count + 1
  end
  return count
end

-- Builds a program of tests/support.
local function compile(name)
  local program = support.tmp_path(name)
  assert(os.execute(("cc -o %s tests/support/%s.c"):format(program, name)) == 0)
  support.on_cleanup(function()
    os.remove(program)
  end)
  return program
end

--- The command line that runs this host on a kernel that refuses something; see refuse.c.
---@param what string
---@param host? string Default: this one.
---@return string
function M.refusing(what, host)
  return ("%s %s %s"):format(compile("refuse"), what, host or uv.exepath())
end

--- Runs a command of the shell to its end. Returns stdout.
---@async
---@param command string
---@param timeout_ms? number Default: 20 000.
function M.read_command(command, timeout_ms)
  local chunks, ended = {}, false
  local pipe = uv.new_pipe(false)
  local process
  process = assert(uv.spawn("/bin/sh", { args = { "-c", command }, stdio = { nil, pipe } },
    function()
      process:close()
    end))
  pipe:read_start(function(_, chunk)
    chunks[#chunks + 1] = chunk
    if not chunk then
      pipe:close()
      ended = true
    end
  end)
  support.wait_until(function()
    return ended
  end, timeout_ms or 20000, "the end of " .. command)
  return table.concat(chunks)
end

return M
