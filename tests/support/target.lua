-- Targets for specs, with a record of what they tell.
--
--   local t, told = targets.attach(n)              -- connected; stopped when the case ends
--   told:kinds()                                   -- "up unresponsive …": what subscribers heard
--   told:wait("down", 1000)                        -- its info, heard already or yet to come
--   told:of("up")                                  -- telemetry: name, measurements, metadata

local support = require("support")
local target = require("runtime.target")
local telemetry = require("runtime.telemetry")

local M = {}

local Told = {}
local told_mt = { __index = Told }

local NODE_EVENTS = {
  "beamlens.node.up", "beamlens.node.down", "beamlens.node.unresponsive", "beamlens.node.restarted",
}

--- The kinds that subscribers heard, in order, as one text.
function Told:kinds()
  local kinds = {}
  for i, entry in ipairs(self.heard) do
    kinds[i] = entry.kind
  end
  return table.concat(kinds, " ")
end

--- Waits for the next of a kind; what was heard before counts, each once.
---@async
---@return table info
function Told:wait(kind, timeout_ms)
  return support.wait_until(function()
    for _, entry in ipairs(self.heard) do
      if entry.kind == kind and not entry.seen then
        entry.seen = true
        return entry.info
      end
    end
  end, timeout_ms, kind .. " after " .. self:kinds())
end

--- The telemetry events of a name, such as "up".
function Told:of(name)
  local found = {}
  for _, event in ipairs(self.events) do
    if event.name == "beamlens.node." .. name then
      found[#found + 1] = event
    end
  end
  return found
end

--- Starts a target for a node.
---@param n table Of support.node, or anything with name, cookie and epmd_port.
---@param opts? table Options of target.new besides these.
function M.start(n, opts)
  local told = setmetatable({ heard = {}, events = {} }, told_mt)
  local bus = telemetry.new()
  bus:attach_many("record", NODE_EVENTS, function(name, measurements, metadata)
    table.insert(told.events, { name = name, measurements = measurements, metadata = metadata })
  end)
  local all = {
    node = n.name,
    cookie = function()
      return n.cookie
    end,
    epmd_port = n.epmd_port,
    telemetry = bus,
  }
  for key, value in pairs(opts or {}) do
    all[key] = value
  end
  local t = target.new(all)
  t:subscribe(function(kind, info)
    table.insert(told.heard, { kind = kind, info = info })
  end)
  t:start()
  support.on_cleanup(function()
    t:stop()
  end)
  return t, told
end

--- Waits until a target is up, and until it evaluates: a busy node may have been late with the
--- modules for that, and would be asked again only some time later.
---@async
---@param t target.Target
---@param is_sick? boolean The node cannot evaluate: that it is up is all.
function M.await(t, is_sick)
  assert(t:wait_up(support.patience_ms()))
  if is_sick then
    return
  end
  support.wait_until(function()
    local refusal = t.evaluator.refusal
    if not refusal then
      return true
    end
    refusal.until_ms = refusal.until_ms < math.huge and 0 or refusal.until_ms
    t:eval("ok.")
  end, nil, "evaluation on " .. t.node)
end

--- Starts a target and waits until it is up.
---@async
---@param n table
---@param opts? table
---@param is_sick? boolean The node cannot evaluate.
function M.attach(n, opts, is_sick)
  local t, told = M.start(n, opts)
  M.await(t, is_sick)
  return t, told
end

return M
