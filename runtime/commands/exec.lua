--- `beamlens exec DOMAIN [-e CODE | FILE | -]`: runs Lua in the sandbox with a domain's callbacks.

local async = require("runtime.async")
local common = require("runtime.commands.common")
local json = require("runtime.json")
local loader = require("runtime.loader")
local oneshot = require("runtime.oneshot")
local policy = require("runtime.policy")
local uv = require("luv")

local M = {}

local TIMEOUT_MS = 15000

-- "wall=5s,callbacks=10" as a policy's `execute`.
local function read_limits(text)
  local limits = {}
  for part in text:gmatch("[^,]+") do
    local key, value = part:match("^%s*([%w_]+)%s*=%s*(.-)%s*$")
    if not key then
      return nil, ("%q is not NAME=VALUE; write wall=10s,memory=64MiB"):format(part)
    end
    limits[key] = tonumber(value) or value
  end
  return policy.read_execute(limits)
end

M.options = common.with(common.NODE_OPTIONS, {
  eval = { arg = "CODE", doc = "the script; also -e CODE" },
  limits = { arg = "LIST", parse = read_limits,
    doc = "such as wall=10s,cpu=2s,memory=64MiB,callbacks=100,result=8KiB" },
})

local function read_code(opts)
  local code, err
  if opts.eval and opts[2] then
    return nil, "give either -e CODE or a file, not both"
  elseif opts.eval then
    code = opts.eval
  elseif opts[2] and opts[2] ~= "-" then
    code, err = loader.read(opts[2])
  else
    if uv.guess_handle(0) == "tty" then
      common.warn("type the script; it ends with Ctrl-D")
    end
    code, err = io.stdin:read("*a")
    err = err and "stdin: " .. err
  end
  if code and not code:find("%S") then
    return nil, "the script is empty: beamlens exec DOMAIN [-e CODE | FILE | -]"
  end
  return code, err
end

-- What --timeout leaves of a script's time.
local function limits_of(opts, deadline)
  local limits = opts.limits or policy.read_execute({})
  if opts.timeout then
    limits.wall_ms = math.max(1, math.min(limits.wall_ms or math.huge, deadline:left_ms()))
  end
  return limits
end

local function show(record, output)
  if output ~= "" then
    io.stderr:write(output, output:sub(-1) == "\n" and "" or "\n")
  end
  if record.error then
    common.warn(record.error.message)
    return 1
  end
  print(json.encode(record.value))
  if record.hint then
    common.warn(record.hint)
  end
  return 0
end

local function exec(opts)
  if #opts < 1 or #opts > 2 then
    common.warn("name one domain, or none: beamlens exec DOMAIN [-e CODE | FILE | -]")
    return 2
  end
  opts.domain, opts.warn = opts[1], common.warn
  local one, err = oneshot.new(opts)
  local code
  if one then
    code, err = read_code(opts)
  end
  if not code then
    common.warn(err)
    return 2
  end
  local deadline = async.deadline(opts.timeout or TIMEOUT_MS)
  local ok, connect_err = one:connect(deadline)
  local record, output
  if ok then
    record, output = one:execute(code, limits_of(opts, deadline))
  end
  one:close()
  if not record then
    common.warn(connect_err)
    return 1
  end
  return show(record, output)
end

---@param args string[]
---@return integer status
function M.main(args)
  local long = {}
  for i, argument in ipairs(args) do
    long[i] = argument == "-e" and "--eval" or argument
  end
  return common.main(long, M.options, "exec DOMAIN [-e CODE | FILE | -] [OPTION...]", exec)
end

return M
