-- What specs of BEAM domains share: a target and a sweep on a test node, and domains by name.

local clock = require("runtime.clock")
local domain = require("runtime.domain")
local json = require("runtime.json")
local support = require("support")
local sweep = require("runtime.sweep")
local target = require("runtime.target")
local targets = require("support.target")
local telemetry = require("runtime.telemetry")

local M = {}

--- Attaches to a node. Returns what a domain's callbacks get: target, sweep, node, clock.
---@async
---@param n table A node of support.node.
---@param opts? table Options of the sweep.
---@param is_sick? boolean The node cannot evaluate.
function M.attach(n, opts, is_sick)
  local system = clock.system()
  local t = target.new({
    node = n.name, epmd_port = n.epmd_port, clock = system, telemetry = telemetry.new(),
    cookie = function()
      return n.cookie
    end,
  })
  t:start()
  support.on_cleanup(function()
    t:stop()
  end)
  targets.await(t, is_sick)
  local sweep_opts = { target = t, clock = system }
  for key, value in pairs(opts or {}) do
    sweep_opts[key] = value
  end
  local s = sweep.new(sweep_opts)
  support.on_cleanup(function()
    s:stop()
  end)
  return { target = t, sweep = s, node = n.name, clock = system }
end

--- A domain and a snapshot of it in which no figure is null, or not that of `key`.
---
--- What is read from the node's files has half a second, which may be too little on a busy machine,
--- and is then left alone for a while: a domain that is loaded anew knows nothing of that.
---@async
---@return domain.Domain
---@return table data
function M.whole_snapshot(name, ctx, key)
  local d, data
  support.wait_until(function()
    d = M.domain(name)
    assert(d:snapshot(ctx)) -- loads what the next one needs
    data = assert(d:snapshot(ctx))
    for name_of, value in pairs(data) do
      if value == json.null and (not key or name_of == key) then
        return false
      end
    end
    return true
  end, nil, "a snapshot of " .. name .. " without a null")
  return d, data
end

--- Loads one of the project's domains.
function M.domain(name)
  local path = ("domains/%s.lua"):format(name)
  return assert(domain.new(assert(loadfile(path))(), { file = path }))
end

local KINDS = {
  string = "string", integer = "number", number = "number", boolean = "boolean", list = "table",
  table = "table",
}

local check_fields

local function check_value(path, field, value)
  local null = require("runtime.json").null
  if value == null then
    assert(field.nullable, path .. " is null, which its docs do not say")
    return
  end
  assert(type(value) == KINDS[field.type], ("%s is a %s, its docs say %s"):format(path,
    type(value), field.type))
  assert(field.type ~= "integer" or value % 1 == 0, path .. " is no whole number")
  if field.fields and field.type == "list" then
    for i, row in ipairs(value) do
      check_fields(("%s[%d]"):format(path, i), field.fields, row)
    end
  elseif field.fields then
    check_fields(path, field.fields, value)
  end
end

check_fields = function(path, fields, value)
  local known = {}
  for _, field in ipairs(fields) do
    known[field.name] = true
    if value[field.name] == nil then
      assert(field.optional, ("%s.%s is missing"):format(path, field.name))
    else
      check_value(path .. "." .. field.name, field, value[field.name])
    end
  end
  for key in pairs(value) do
    assert(known[key], ("%s.%s is not in the docs"):format(path, tostring(key)))
  end
end

--- Fails unless a snapshot has exactly the metrics that its docs say, with their types.
function M.check_snapshot(d, data)
  check_fields(d.name, d.metrics, data)
end

--- Fails unless a callback's result has the keys and types that its docs say.
function M.check_returns(callback, value)
  if callback.returns.list then
    for i, row in ipairs(value) do
      check_fields(("%s()[%d]"):format(callback.name, i), callback.returns, row)
    end
  else
    check_fields(callback.name .. "()", callback.returns, value)
  end
end

return M
