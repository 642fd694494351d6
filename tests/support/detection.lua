-- What specs of detection share: a target, a domain and an executor that a spec moves by hand, and
-- a bus that remembers. History, rules, alerts and the sampler are the real ones.

local alerts = require("runtime.alerts")
local clock = require("runtime.clock")
local detector = require("runtime.detector")
local telemetry = require("runtime.telemetry")

local M = {}

M.WALL_MS = 1.7e12 - 1.7e12 % 86400000 -- midnight

--- A node's connection as runtime/target.lua shows it.
function M.target(status)
  local target = { node = "shop@db1", listeners = {}, now = { status = status or "up" } }
  function target:status()
    return self.now
  end
  function target:subscribe(fn)
    local key = {}
    self.listeners[key] = fn
    return function()
      self.listeners[key] = nil
    end
  end
  function target:emit(kind, info)
    local new = { up = "up", responsive = "up" }
    if kind ~= "restarted" then
      self.now = { status = new[kind] or kind, err = info and info.err, code = info and info.code }
    end
    for _, fn in pairs(self.listeners) do
      fn(kind, info)
    end
  end
  return target
end

--- Remembers events: `events` in order, `names()` as "a, b" without those of the sampler.
function M.bus()
  local t = { bus = telemetry.new(), events = {} }
  local names = {}
  for _, name in ipairs(telemetry.event_names()) do
    if not name:find("sampler.sample", 1, true) then
      names[#names + 1] = name
    end
  end
  t.bus:attach_many("spec", names, function(event, measurements, metadata)
    t.events[#t.events + 1] = {
      name = event:match("^beamlens%.(.*)"):gsub("^watcher%.", ""), measurements = measurements,
      metadata = metadata,
    }
  end)
  --- What happened since the last time it was asked.
  function t.names()
    local list = {}
    for i, e in ipairs(t.events) do
      list[i] = e.name .. (e.metadata.cause and " " .. e.metadata.cause or "")
    end
    t.last, t.events = t.events, {}
    return table.concat(list, ", ")
  end
  return t
end

--- A detector over `opts.rules`, with `opts.policy` over the defaults. `t.step(seconds, data)`
--- moves all clocks and takes one sample of `data`.
function M.setup(opts)
  local t = M.bus()
  t.clock = clock.manual(M.WALL_MS)
  t.target = M.target()
  t.node_ms, t.data, t.scripts = -5e8, {}, {}
  t.domain = { name = "beam", rules = opts.rules, snapshot = opts.snapshot or function()
    local data = { mono_ms = t.node_ms, uptime_s = 7200 + (t.node_ms + 5e8) / 1000 }
    for key, value in pairs(t.data) do
      data[key] = value
    end
    return data
  end }
  t.executor = { run = opts.run or function(_, code, how)
    t.scripts[#t.scripts + 1] = { code = code, how = how }
    return { id = "e" .. #t.scripts, code = code, value = 42, source = how.source, calls = 1 }
  end }
  t.alerts = alerts.new({ telemetry = t.bus, clock = t.clock })
  t.policy = { sample_ms = 10000, rules = {}, mute = {}, renotify_ms = 3600000 }
  for key, value in pairs(opts.policy or {}) do
    t.policy[key] = value
  end
  t.detector = detector.new({
    meta = { watcher = "shop", domain = "beam", node = "shop@db1" },
    domain = t.domain, ctx = { target = t.target, node = "shop@db1", clock = t.clock },
    policy = t.policy, executor = t.executor, alerts = t.alerts, telemetry = t.bus,
    clock = t.clock, guard = opts.guard, investigate_ms = opts.investigate_ms,
    is_watched = opts.is_watched,
  })
  function t.step(seconds, data)
    t.clock.advance(seconds * 1000)
    t.node_ms = t.node_ms + seconds * 1000
    t.data = data or t.data
    return t.detector:sample_now()
  end
  --- Steps of 10 s until `seconds` have passed.
  function t.pass(seconds, data)
    for _ = 1, seconds / 10 do
      assert(t.step(10, data))
    end
  end
  --- "type subject phase" of each finding.
  function t.findings()
    local list = {}
    for i, f in ipairs(t.detector:findings()) do
      list[i] = ("%s %s %s"):format(f.type, f.subject, f.phase)
    end
    return table.concat(list, ", ")
  end
  return t
end

--- A rule that finds each of `data.queues` (subject -> length) above `bound`.
function M.queue_rule(changes)
  local rule = {
    type = "mailbox_growth", severity = "warning", hold = "30s", clear_hold = "20s",
    title = "Mailbox grows", investigate = "return beam_top_processes(5)",
    when = function(history, _, held)
      local found = {}
      for subject, length in pairs(history:latest().data.queues or {}) do
        if length > (held[subject] and 50 or 100) then
          found[#found + 1] = {
            subject = subject, value = length, threshold = 100, unit = "messages",
            pid = "<0.5.0>", per_s = 2.5, eta_s = 360,
            severity = length > 100000 and "critical" or nil,
          }
        end
      end
      return found
    end,
  }
  for key, value in pairs(changes or {}) do
    rule[key] = value
  end
  return rule
end

return M
