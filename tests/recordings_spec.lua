-- Ordinary systems that look sick, and sick ones beside one that is well, recorded by
-- tests/record/run.lua and judged by all rules.

local judged = require("support.judged")
local made_up = require("support.made_up")
local recording = require("support.recording")
local replay = require("support.replay")
local support = require("support")
local uv = require("luv")

local FOLDER = "tests/recordings"
local SCENARIOS = { "batch", "cluster", "ejabberd", "pg", "rabbitmq", "sick" }
local LEAST_SECONDS = 1800
local EVERY_S = 10
local LEAST_SHARE = 0.8 -- of the samples that fit in

local function recordings()
  local names, scan = {}, assert(uv.fs_scandir(FOLDER))
  for name in uv.fs_scandir_next, scan do
    local recorded = name:match("^(.*)%.xz$")
    names[#names + 1] = recorded
  end
  table.sort(names)
  return names
end

local names = recordings()

describe("the recorded systems", function()
  it("are all there", function()
    if #names == 0 then
      return pending(FOLDER .. " holds no recordings: make record")
    end
    local there = {}
    for _, name in ipairs(names) do
      there[name] = true
    end
    for _, scenario in ipairs(SCENARIOS) do
      assert.is_true(there[scenario], scenario .. " is missing")
    end
  end)

  for _, name in ipairs(names) do
    it("raise what they must, and nothing else: " .. name, support.async(function()
      local r = replay.run(recording.lines(("%s/%s.xz"):format(FOLDER, name)))
      assert.are.same({}, r.errors)
      assert.are.same(r.head.expected, judged.fired(r.fired))
      assert.are.same({}, r.standing)
    end, 120))

    it("are what they say, and were watched for long enough: " .. name, support.async(function()
      local samples, head, seen = 0, nil, nil
      for entry in recording.lines(("%s/%s.xz"):format(FOLDER, name)) do
        head = entry.k == "head" and entry.v or head
        seen = entry.k == "end" and entry.v or seen
        samples = samples + (entry.k == "sample" and 1 or 0)
      end
      assert.are.equal(name, head.scenario)
      assert.is_true(head.seconds >= LEAST_SECONDS, "it is too short")
      local most = #head.nodes * 5 * head.seconds / EVERY_S
      assert.is_true(samples >= LEAST_SHARE * most, ("%d samples"):format(samples))
      assert.is_true(#seen.figures > 0)
      for _, figure in ipairs(seen.figures) do
        assert.is_true(figure.value >= figure.at_least, figure.name)
      end
    end, 120))
  end
end)

describe("a replay", function()
  it("finds a mailbox that grows", support.async(function()
    local r = replay.run(recording.lines(made_up.mailbox(180, function(t)
      return 500 * t
    end)))
    assert.are.same({}, r.errors)
    assert.matches("^%d+ s: warning beam mailbox_growth orders_worker of shop@db1: orders_worker",
      replay.alarms(r.fired)[1])
    assert.are.equal("mailbox_growth", r.fired[1].type)
    assert.are.equal("orders_worker", r.fired[1].subject)
    assert.is_true(r.fired[1].at_s >= 60 and r.fired[1].at_s <= 120)
  end))

  it("finds nothing in one that drains", support.async(function()
    local r = replay.run(recording.lines(made_up.mailbox(180, function(t)
      return 500 * (t % 30)
    end)))
    assert.are.same({}, r.errors)
    assert.are.same({}, replay.alarms(r.fired))
    assert.are.equal(19, r.samples)
  end))

  it("forgets a node's life when it restarts, and judges how often it does",
    support.async(function()
      local r = replay.run(recording.lines(made_up.restarts({ 60, 120, 180 })))
      assert.are.same({}, r.errors)
      assert.are.equal(1, #replay.alarms(r.fired))
      assert.are.equal("node_restarted", r.fired[#r.fired].type)
      assert.are.equal("warning", r.fired[#r.fired].severity)
      assert.is_true(math.abs(r.fired[#r.fired].at_s - 180) <= 1)
    end))

  it("finds a node that stays away", support.async(function()
    local r = replay.run(recording.lines(made_up.outage(100, 200)))
    local alarms = replay.alarms(r.fired)
    assert.are.equal(1, #alarms, table.concat(alarms, "\n"))
    assert.are.equal("node_down", r.fired[1].type)
    assert.is_true(r.fired[1].at_s >= 160 and r.fired[1].at_s <= 165)
  end))
end)
