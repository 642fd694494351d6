-- Replays a recording through the real histories and rules, with a clock that is moved along it.
--
--   local r = replay.run(recording.lines("tests/recordings/pg.xz"))
--   r.head, r.fired, r.errors, r.seen, r.samples, r.seconds

local clock = require("runtime.clock")
local detection = require("support.detection")
local judged = require("support.judged")

local M = {}

local STEP_MS = 1000 -- reachability looks once in a second

local Replay = {}
local replay_mt = { __index = Replay }

-- Each node has a clock of its own that starts where the recording does.
function Replay:begin(head)
  self.head = head
  self.clock = clock.manual(head.started_at)
  for i, name in ipairs(head.nodes) do
    local target = detection.target("up")
    target.node = name
    local one = judged.new({ target = target, clock = self.clock, on_finding = function(found)
      found.at_s = (found.at_ms - head.started_at) / 1000
      table.insert(self.fired, found)
    end })
    one.reachability:start()
    self.nodes[i] = one
  end
end

function Replay:advance(to_ms)
  while self.clock.now_ms() < to_ms do
    self.clock.advance(math.min(STEP_MS, to_ms - self.clock.now_ms()))
    for _, one in ipairs(self.nodes) do
      one.reachability:check()
    end
  end
end

function Replay:event(one, event)
  if event.kind == "restarted" then
    one:restart()
  end
  one.target:emit(event.kind, event.info)
end

function Replay:take(entry)
  if entry.k == "head" then
    return self:begin(entry.v)
  elseif entry.k == "end" then
    self.seen = entry.v
    return
  end
  self:advance(entry.t)
  local one = self.nodes[entry.n]
  if entry.k == "event" then
    self:event(one, entry.v)
  elseif entry.k == "sample" and one.detectors[entry.d] then
    local ok, err = one.detectors[entry.d].feed:on_sample(entry.v)
    if not ok then
      table.insert(self.errors, ("%s at %.0f s: %s"):format(entry.d, entry.t / 1000, err))
    end
    self.samples = self.samples + 1
  end
end

--- Replays one. A domain that is not recorded is not judged.
---@async
---@param lines fun(): table? Of `recording.lines`.
---@return { head: table, fired: table[], errors: string[], seen: table, samples: integer,
--- seconds: number, standing: string[] } `fired`: see support/judged.lua, with `at_s` since the
--- begin; `standing`: the findings that there were at its end.
function M.run(lines)
  local self = setmetatable({ nodes = {}, fired = {}, errors = {},
    standing = {}, samples = 0 }, replay_mt)
  for entry in lines do
    self:take(entry)
  end
  self.seconds = self.clock.now_ms() / 1000
  for _, one in ipairs(self.nodes) do
    for _, text in ipairs(one:standing()) do
      table.insert(self.standing, text)
    end
    one.reachability:stop()
    for _, text in ipairs(one:errors()) do
      table.insert(self.errors, text)
    end
    for _, detector in pairs(one.detectors) do
      detector.rules:stop()
    end
  end
  return self
end

--- What fired, a line each, of at least a severity that is to be acted on.
---@param fired table[]
---@return string[]
function M.alarms(fired)
  local list = {}
  for _, found in ipairs(fired) do
    if found.severity ~= "info" then
      list[#list + 1] = ("%.0f s: %s %s %s %s of %s: %s"):format(found.at_s, found.severity,
        found.domain, found.type, found.subject, found.node, tostring(found.summary))
    end
  end
  return list
end

return M
