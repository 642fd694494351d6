local detection = require("support.detection")
local hooks = require("runtime.watcher.hooks")
local support = require("support")
local watched = require("support.watched")

local HEX16 = ("%x"):rep(16)

-- The id of the snapshot in the opening message.
local function opening_id(request)
  return assert(request.texts[1]:match("Snapshot (" .. HEX16 .. ")"))
end

local function case(script, policy, body)
  return support.async(function()
    local it_is = watched.new(script, policy)
    local ok, err = require("runtime.async").pcall(body, it_is)
    it_is:stop()
    assert(ok, err)
  end)
end

describe("a watcher", function()
  it("lets a model drive all eight tools in one cycle, each with its events and one trace id",
    case({
      { "take_snapshot", { reason = "first look" } },
      function(request)
        return { "get_snapshot", { id = opening_id(request) } }
      end,
      { "get_snapshots", { limit = 1 } },
      { "execute", { code = "return beam_get_memory()" } },
      { "set_state", { state = "warning", reason = "mailbox" } },
      function(request)
        return { "fire_alert", { type = "mailbox_growth", severity = "warning",
          summary = "orders_worker: mailbox 39 818", snapshot_ids = { opening_id(request) } } }
      end,
      { "get_alerts", { status = "firing" } },
      { "wait", { ms = 60000, note = "compare the mailbox" } },
    }, nil, function(it_is)
      it_is:start()
      it_is:asleep()
      local trace_id = it_is.events[2].metadata.trace_id
      assert.is_truthy(trace_id:find("^" .. ("%x"):rep(32) .. "$"))
      local names = {}
      for _, event in ipairs(it_is.events) do
        if event.event ~= "watcher.started" then
          assert.are.equal(trace_id, event.metadata.trace_id, event.event)
        end
        assert.are.equal("shop@db1", event.metadata.node)
        names[#names + 1] = event.event
      end
      local expected = "watcher.started"
      for _, inner in ipairs({ "watcher.take_snapshot ", "watcher.get_snapshot ",
        "watcher.get_snapshots ", "", "watcher.state_change ", "watcher.alert_fired ",
        "watcher.get_alerts " }) do
        expected = expected .. " watcher.iteration_start tool.start " .. inner .. "tool.stop"
      end
      expected = expected .. " watcher.iteration_start tool.start watcher.wait"
      assert.are.equal(expected, (table.concat(names, " ")))

      local alert = it_is:last("watcher.alert_fired").metadata.alert
      assert.are.equal("model", alert.source)
      assert.are.equal("return beam_get_memory()", alert.executions[1].code)
      assert.are.equal(512, alert.snapshots[1].data.memory_total_mb)
      assert.are.equal("first look", it_is:all("tool.start")[1].metadata.reason)
      assert.is_nil(it_is:all("tool.start")[1].metadata.arguments.reason)

      it_is:advance(60000)
      local opening = it_is:asked(9).texts[1]
      assert.are.equal(1, #it_is:asked(9).texts)
      assert.is_truthy(opening:find(
        'Your note to yourself, 1 m old: <note>"compare the mailbox"</note>', 1, true))
      assert.is_truthy(opening:find("State: warning for 1 m", 1, true))
      assert.is_truthy(opening:find('"woken_by":null', 1, true))
      assert.are_not.equal(trace_id, it_is:asked(9).meta.trace_id)
    end))

  it("tells what stands in each result", case({
    { "take_snapshot" },
    { "get_snapshots", {} },
    { "execute", { code = "error()" } },
    { "get_snapshot", { id = "feed" } },
    { "set_state", { state = "healthy" } },
    { "execute", { code = "beam_get_memory()" } },
  }, nil, function(it_is)
    it_is:start()
    assert.is_truthy(it_is:result(7):find('"hint":"write: return beam_get_memory()"', 1, true))
    assert.is_truthy(it_is:result(2):find('^<data>{"id":"' .. HEX16 .. '","captured_at":"2026%-'))
    assert.is_truthy(it_is:result(2):find('"findings":[]', 1, true))
    assert.is_truthy(it_is:result(2):find('"swap_used":false', 1, true))
    assert.is_nil(it_is:result(2):find("mono_ms", 1, true))
    assert.is_truthy(it_is:result(3):find('"total":2}', 1, true))
    assert.is_truthy(it_is:result(4):find('"kind":"runtime"', 1, true))
    assert.are.equal('<data>{"error":"snapshot_not_found","id":"feed"}</data>', it_is:result(5))
    assert.are.equal('<data>{"state":"healthy","from":"healthy","resolved":[]}</data>',
      it_is:result(6))
    assert.is_true(it_is:asked(6).messages[9].is_error)
  end))

  it("gives a call back to the model with what its provider wants to see again", case({
    { "take_snapshot", origin = { model = "m", signature = "c2ln" } },
  }, nil, function(it_is)
    it_is:start()
    assert.are.same({ id = "call_1", name = "take_snapshot", args = {},
      origin = { model = "m", signature = "c2ln" } }, it_is:asked(2).messages[2].call)
  end))

  it("keeps the system prompt and the tools the same, whatever happens", case({
    { "set_state", { state = "critical", reason = "x" } },
    { "wait", { ms = 3600000 } },
  }, { instructions = "Imports run at night." }, function(it_is)
    it_is:start()
    it_is:advance(1800000)
    local first, last = it_is:asked(1), it_is:asked(3)
    assert.are.equal(first.system, last.system)
    assert.are.equal(first.tools, last.tools)
    assert.is_truthy(first.system:find("Imports run at night.", 1, true))
    for _, volatile in ipairs({ "shop@db1", "2026", "512" }) do
      assert.is_nil(first.system:find(volatile, 1, true), volatile)
    end
  end))

  it("answers mistakes exactly, and ends the cycle with a wait at the third in a row", case({
    { "wait", { ms = 30 } },
    { "fly", {} },
    { "take_snapshot" },
    { "set_state", { state = "fatal", sate = 1 } },
    { "wait", {} },
    { "get_alerts", { limit = "10" } },
  }, nil, function(it_is)
    it_is:start()
    assert.are.equal('<data>{"error":"30 ms; did you mean 30000?"}</data>', it_is:result(2))
    assert.is_truthy(it_is:result(3):find("unknown tool \\\"fly\\\"; the tools are set_state, ", 1,
      true))
    assert.is_truthy(it_is:result(5):find("sate: unknown, allowed: reason, state, resolve; state: "
      .. 'got \\"fatal\\", allowed: healthy, observing, warning, critical', 1, true))
    it_is:asleep()
    assert.are.equal(6, #it_is.registry.requests)
    local counts = {}
    for i, event in ipairs(it_is:all("watcher.invalid_tool")) do
      counts[i] = event.measurements.in_a_row
    end
    assert.are.same({ 1, 2, 1, 2, 3 }, counts)
    assert.are.equal(60000, it_is:last("watcher.wait").measurements.ms)
    it_is:advance(60000)
    assert.is_truthy(it_is:asked(7).texts[1]:find('The runtime ended your last cycle: <note>"three '
      .. 'answers in a row were no valid call; the last: limit: got \\"10\\"', 1, true))
  end))

  it("tells a model that answered without a readable call, and counts it as a mistake", case({
    { err = "no tool call in the answer", kind = "no_tool_call" },
    { "take_snapshot" },
  }, nil, function(it_is)
    it_is:start()
    local texts = it_is:asked(2).texts
    assert.are.equal(1, #texts)
    assert.is_truthy(texts[1]:find("Your last answer was no tool call that can be read: <note>"
      .. '"no tool call in the answer"</note>. Answer with exactly one tool call.', 1, true))
    assert.are.equal(0, #it_is:all("watcher.llm_error"))
    it_is:asleep()
  end))

  it("ends a cycle at calls_per_cycle, and waits longer each time in a row", case({
    { "get_alerts" }, { "take_snapshot" }, { "get_snapshots" },
    { "get_alerts" }, { "take_snapshot" }, { "get_snapshots" },
  }, { limits = { calls_per_cycle = 3 } }, function(it_is)
    it_is:start()
    it_is:asleep()
    assert.are.equal(3, #it_is.registry.requests)
    assert.are.equal(60000, it_is:last("watcher.wait").measurements.ms)
    it_is:advance(60000)
    it_is:asked(6)
    it_is:asleep()
    assert.are.equal(120000, it_is:last("watcher.wait").measurements.ms)
    it_is:advance(120000)
    assert.is_truthy(it_is:asked(7).texts[1]:find("3 calls without a long wait", 1, true))
  end))

  it("notices a repeated call the third time and ends the cycle the fifth", case({
    { "get_alerts", { reason = "a" } }, { "get_alerts", { reason = "b" } }, { "get_alerts" },
    { "get_alerts" }, { "get_alerts" },
  }, nil, function(it_is)
    it_is:start()
    assert.is_nil(it_is:result(3):find("Notice", 1, true))
    assert.is_truthy(it_is:result(4):find("Notice: you have done this 3 times", 1, true))
    it_is:asleep()
    assert.are.equal(5, #it_is.registry.requests)
    it_is:advance(60000)
    assert.is_truthy(it_is:asked(6).texts[1]:find("get_alerts was repeated 5 times", 1, true))
  end))

  it("notices two calls that alternate, and leaves short waits out", case({
    { "take_snapshot" }, { "get_alerts" }, { "take_snapshot" }, { "get_alerts" },
    { "take_snapshot" }, { "wait", { ms = 10000 } }, { "wait", { ms = 10000 } },
    { "wait", { ms = 10000 } }, { "take_snapshot" },
  }, nil, function(it_is)
    it_is:start()
    assert.is_truthy(it_is:result(6):find("Notice: you have done this 3 times", 1, true))
    for _ = 1, 3 do
      it_is:advance(10000)
    end
    assert.is_truthy(it_is:result(9):find('{"waited_ms":10000,"woken_by":null}', 1, true))
    assert.is_nil(it_is:result(10):find("Notice", 1, true))
    assert.are.equal(19, #it_is:asked(10).texts)
  end))

  it("clamps a wait and says so, in the conversation or in the next opening", case({
    { "wait", { ms = 2000 } }, { "wait", { ms = 9e9 } },
  }, nil, function(it_is)
    it_is:start()
    it_is:advance(10000)
    assert.is_truthy(it_is:result(2):find(
      "asked for 2000 ms; waits are from 10000 to 1800000 ms", 1, true))
    it_is:asleep()
    assert.are.same({ ms = 1800000, asked_ms = 9e9 }, it_is:last("watcher.wait").measurements)
    it_is:advance(1800000)
    assert.are.equal(1, #it_is:asked(3).texts)
    assert.is_truthy(it_is:asked(3).texts[1]:find("asked for 9000000000 ms", 1, true))
  end))

  it("wakes for a finding that begins, fires, worsens or clears, and says which", case({},
    nil, function(it_is)
      it_is:start()
      local finding = watched.finding({ phase = "pending" })
      it_is.detector.list = { finding }
      for i, what in ipairs({ "pending", "firing", "worsened", "cleared" }) do
        it_is:asleep()
        it_is.clock.advance(4000)
        it_is.detector.tell(finding, what)
        local verb = ({ "began", "is firing", "worsened", "cleared" })[i]
        local text = "finding mailbox_growth of orders_worker " .. verb
        local opening = it_is:asked(i + 1).texts[1]
        assert.is_truthy(opening:find(('{"waited_ms":4000,"woken_by":"%s"}'):format(text), 1, true))
        assert.is_truthy(opening:find('"summary":"orders_worker: mailbox 39 818"', 1, true))
      end
    end))

  it("keeps the model's note until it writes another, or an empty one", case({
    { "wait", { ms = 60000, note = "first" } }, { "wait", { ms = 60000 } },
    { "wait", { ms = 60000, note = "" } },
  }, nil, function(it_is)
    it_is:start()
    it_is:advance(60000)
    it_is:asked(2)
    it_is:advance(60000)
    assert.is_truthy(it_is:asked(3).texts[1]:find('2 m old: <note>"first"</note>', 1, true))
    it_is:advance(60000)
    assert.is_nil(it_is:asked(4).texts[1]:find("Your note", 1, true))
  end))

  it("does not sleep over a finding that began while the model decided", case({
    function()
      return { "wait", { ms = 600000 } }
    end,
  }, nil, function(it_is)
    it_is.registry.script[1] = function()
      local finding = watched.finding({ phase = "pending" })
      it_is.detector.list = { finding }
      it_is.detector.tell(finding, "pending")
      return { "wait", { ms = 600000 } }
    end
    it_is:start()
    assert.is_truthy(it_is:asked(2).texts[1]:find('"waited_ms":0,"woken_by":"finding ', 1, true))
  end))

  it("is not woken again and again by a finding that flaps", case({}, nil, function(it_is)
    it_is:start()
    local finding = watched.finding({ phase = "pending" })
    for _ = 1, 5 do
      it_is:asleep()
      it_is.clock.advance(10000)
      it_is.detector.tell(finding, "pending")
      it_is.detector.tell(finding, "cleared")
    end
    it_is:asleep()
    assert.is_true(#it_is.registry.requests <= 3)
  end))
end)

describe("a watcher's state", function()
  it("rises with a rule's alert, and stays while the rule holds", case({
    { "wait", { ms = 600000 } },
    { "set_state", { state = "healthy", reason = "looks fine" } },
  }, nil, function(it_is)
    local changes = {}
    it_is.watcher.hooks:set_policy({ on_state = function(from, to)
      changes[#changes + 1] = from .. ">" .. to
    end })
    it_is:start()
    it_is:asleep()
    local alert = it_is:fire_rule(watched.finding({ severity = "critical" }))
    assert.are.equal("critical", (it_is.watcher:state()))
    local event = it_is:last("watcher.state_change").metadata
    assert.are.equal("rule", event.source)
    assert.are.equal("healthy", event.from)
    local result = it_is:result(3)
    assert.is_truthy(result:find('^<data>{"state":"critical","from":"critical"'))
    assert.is_truthy(result:find(alert.id, 1, true))
    assert.is_truthy(result:find("the state stays at least critical", 1, true))
    assert.are.same({ "healthy>critical" }, changes)
    assert.are.equal("firing", it_is.alerts:get(alert.id).status)
  end))

  it("healthy resolves what no held rule supports; resolve ends single alerts", case({
    function(request)
      return { "fire_alert", { type = "other", severity = "critical", subject = "a",
        summary = "odd", snapshot_ids = { opening_id(request) } } }
    end,
    function(request)
      return { "fire_alert", { type = "log flood", severity = "info", summary = "many lines",
        snapshot_ids = { opening_id(request) } } }
    end,
    { "set_state", { state = "warning", resolve = { "nope" } } },
  }, nil, function(it_is)
    it_is:start()
    local first = it_is:result(2):match('"id":"(' .. HEX16 .. ')"')
    assert.is_truthy(it_is:result(2):find('"severity":"warning"', 1, true))
    assert.is_truthy(it_is:result(2):find("critical became warning", 1, true))
    assert.is_truthy(it_is:result(3):find('"title":"log flood"', 1, true))
    assert.is_truthy(it_is:result(3):find('"type":"other"', 1, true))
    assert.is_truthy(it_is:result(4):find("alerts not found: nope", 1, true))
    it_is.registry.script = { { "set_state", { state = "observing", resolve = { first } } },
      { "set_state", { state = "healthy" } } }
    it_is:advance(1800000)
    assert.is_truthy(it_is:result(6):find(('"resolved":["%s"]'):format(first), 1, true))
    it_is:asked(7)
    assert.are.equal(0, #it_is.alerts:firing())
    assert.are.equal("model", it_is.alerts:get(first).resolved_by)
  end))

  it("is shown with its age, and says when there is no contact or no model", case({
    { err = "HTTP 500" },
  }, nil, function(it_is)
    it_is:start()
    it_is:asleep()
    local name, detail = it_is.watcher:state()
    assert.are.equal("healthy", name)
    assert.are.equal("healthy (as of 20:49); rules (no model until 20:49)", detail.text)
    it_is.target.set("down", "down")
    assert.are.equal("no contact since 20:49", select(2, it_is.watcher:state()).text)
    it_is.watcher:pause()
    assert.are.equal("paused", select(2, it_is.watcher:state()).text)
  end))
end)

describe("fire_alert", function()
  it("needs snapshots that exist", case({
    { "fire_alert", { type = "other", severity = "info", summary = "x" } },
    { "fire_alert", { type = "other", severity = "info", summary = "x", snapshot_ids = {} } },
    { "fire_alert", { type = "other", severity = "info", summary = "x",
      snapshot_ids = { "aa", "bb" } } },
  }, nil, function(it_is)
    it_is:start()
    local required = '<data>{"error":"snapshot_ids required: alerts must reference at least one '
      .. 'snapshot"}</data>'
    assert.are.equal(required, it_is:result(2))
    assert.are.equal(required, it_is:result(3))
    assert.are.equal(('<data>{"error":"snapshots not found: aa, bb","snapshot_ids":["%s"]}</data>')
      :format(opening_id(it_is:asked(1))), it_is:result(4))
    assert.are.equal(3, #it_is:all("watcher.alert_failed"))
    assert.are.equal(0, #it_is:all("watcher.invalid_tool"))
    assert.are.equal(0, #it_is.alerts:list())
  end))

  it("is corroborated by a held finding: subject, figures, trend and severity come with it", case({
    function(request)
      return { "fire_alert", { type = "mailbox_growth", severity = "critical",
        summary = "stuck in timer:sleep/1", snapshot_ids = { opening_id(request) } } }
    end,
  }, nil, function(it_is)
    it_is.detector.list = { watched.finding() }
    it_is:start()
    it_is:asked(2)
    local alert = it_is:last("watcher.alert_fired").metadata.alert
    assert.are.equal("orders_worker", alert.subject)
    assert.are.equal("critical", alert.severity)
    assert.is_true(alert.corroborated)
    assert.are.equal(18900, alert.trend.per_s)
    assert.are.equal("Mailbox growth: orders_worker", alert.title)
    assert.are.equal("critical", (it_is.watcher:state()))
  end))

  it("is refused while the policy mutes its type", case({
    function(request)
      return { "fire_alert", { type = "mailbox_growth", severity = "info", summary = "x",
        snapshot_ids = { opening_id(request) } } }
    end,
  }, { mute = { { from = "20:00", to = "21:00", types = { "mailbox_growth" } } } },
    function(it_is)
      it_is:start()
      assert.is_truthy(it_is:result(2):find("mailbox_growth are muted now", 1, true))
      assert.are.equal(0, #it_is.alerts:list())
      assert.is_truthy(it_is:last("watcher.alert_failed"))
    end))

  it("is refused, of whichever type no rule has, while other is muted", case({
    function(request)
      return { "fire_alert", { type = "odd", severity = "info", summary = "x",
        snapshot_ids = { opening_id(request) } } }
    end,
  }, { mute = { { from = "20:00", to = "21:00", types = { "other" } } } },
    function(it_is)
      it_is:start()
      assert.is_truthy(it_is:result(2):find("type other are muted now", 1, true))
      assert.are.equal(0, #it_is.alerts:list())
    end))

  it("is listed as far back as the policy keeps alerts", case({ { "get_alerts" } },
    { history = { snapshots = 100, alerts = 1 } }, function(it_is)
      for _, subject in ipairs({ "first", "second" }) do
        it_is.alerts:fire({ watcher = it_is.watcher.meta.watcher, domain = "beam",
          node = it_is.watcher.meta.node, type = "other", subject = subject, severity = "info",
          source = "model", title = "t", summary = "s" })
      end
      it_is:start()
      local shown = it_is:result(2)
      assert.is_truthy(shown:find('"second"', 1, true))
      assert.is_nil(shown:find('"first"', 1, true))
      assert.is_truthy(shown:find('"total":1', 1, true))
    end))

  it("turns a pid into who it is", case({
    function(request)
      return { "fire_alert", { type = "mailbox_growth", subject = "<0.99.0>", severity = "info",
        summary = "x", snapshot_ids = { opening_id(request) } } }
    end,
  }, nil, function(it_is)
    it_is.detector.sweep = { processes = { rows = {
      ["<0.99.0>"] = { subject = "orders_worker" },
    } } }
    it_is:start()
    it_is:asked(2)
    assert.are.equal("orders_worker", it_is:last("watcher.alert_fired").metadata.alert.subject)
  end))
end)

describe("what keeps a watcher going", function()
  it("falls back to the rules while the client fails, tries it again later each time, and returns",
    case({}, nil, function(it_is)
      local failures = {}
      for i = 1, 9 do
        failures[i] = { err = "HTTP 529: overloaded", kind = "overloaded" }
      end
      it_is.registry.script = failures
      it_is:start()
      for i, retry_ms in ipairs({ 5000, 10000, 20000, 40000, 80000, 160000, 300000, 300000 }) do
        it_is:asleep()
        assert.are.equal(i, #it_is.registry.requests)
        assert.are.equal(retry_ms, it_is:last("watcher.llm_error").measurements.retry_ms)
        assert.are.equal("overloaded", it_is:last("watcher.llm_error").metadata.kind)
        it_is.clock.advance(retry_ms - 1)
        assert.are.equal(i, #it_is.registry.requests)
        it_is.clock.advance(1)
        it_is:asked(i + 1)
      end
      it_is:asleep()
      assert.are.equal(9, it_is.registry.rules)
      it_is.registry.script = { { "take_snapshot" } }
      it_is:advance(300000)
      it_is:asked(11)
      assert.is_nil(it_is.watcher.model.failing_since_ms)
    end))

  it("comes back when its client is to be asked again, which was no failure of its own", case({
    { err = "HTTP 529: overloaded", kind = "overloaded" },
    { err = "not asked for 7 s", kind = "overloaded",
      detail = { not_asked = true, retry_after_ms = 7000 } },
    { err = "HTTP 529: overloaded", kind = "overloaded" },
    { err = "A: not asked for 9 s; B: overloaded", kind = "overloaded",
      detail = { probe_ms = 9000 } },
    { err = "A: not asked for 1 s; B: overloaded", kind = "overloaded",
      detail = { probe_ms = 1000 } },
  }, nil, function(it_is)
    it_is:start()
    for i, retry_ms in ipairs({ 5000, 7000, 10000, 9000, 5000 }) do
      it_is:asked(i)
      it_is:asleep()
      assert.are.equal(retry_ms, it_is:last("watcher.llm_error").measurements.retry_ms)
      it_is.clock.advance(retry_ms)
    end
    it_is:asked(6)
  end))

  it("leaves the model alone until a spent budget refills, and says until when", case({
    { err = "the budget is spent", kind = "budget",
      detail = { budget_until_ms = 1795466985123 + 600000 } },
  }, nil, function(it_is)
    it_is:start()
    it_is:asleep()
    assert.are.equal(0, #it_is:all("watcher.llm_error"))
    assert.are.equal("healthy (as of 20:49); rules (budget until 20:59)",
      select(2, it_is.watcher:state()).text)
    assert.are.equal(600000, it_is:last("watcher.wait").measurements.ms)
    it_is:advance(599999)
    assert.are.equal(1, #it_is.registry.requests)
    it_is.clock.advance(1)
    it_is:asked(2)
    assert.is_nil(it_is.watcher.model.failing_since_ms)
  end))

  it("takes an answer of the rules as the last resort of a fallback for a failure", case({
    { "wait", { ms = 1800000 }, provider = "rules", client = "rules" },
  }, nil, function(it_is)
    it_is:start()
    it_is:asleep()
    assert.are.equal("every model of the fallback failed",
      it_is:last("watcher.llm_error").metadata.error)
    assert.are.equal(5000, it_is:last("watcher.wait").measurements.ms)
  end))

  it("waits as long as the rules say when they are the client", case({
    { "wait", { ms = 1800000 }, provider = "rules", client = "rules" },
  }, { client = "rules-only" }, function(it_is)
    it_is.registry.script[1].client = "rules-only"
    it_is:start()
    it_is:asleep()
    assert.are.equal(0, #it_is:all("watcher.llm_error"))
    assert.are.equal(1800000, it_is:last("watcher.wait").measurements.ms)
  end))

  it("lets the rules set the state while no model answers", case({
    { err = "HTTP 500" }, { err = "HTTP 500" },
  }, nil, function(it_is)
    it_is:start()
    it_is:asleep()
    it_is.detector.list = { watched.finding({ phase = "pending" }) }
    it_is.detector.tell(it_is.detector.list[1], "pending")
    support.wait_until(function()
      return it_is.watcher:state() == "observing"
    end)
    assert.are.equal("rule", it_is:last("watcher.state_change").metadata.source)
    assert.are.equal(1, #it_is.registry.requests)
  end))

  it("asks no model while there is no contact, and says what happened in between", case({},
    nil, function(it_is)
      it_is.target.set("connecting")
      it_is:start()
      support.wait_until(function()
        return it_is.watcher.status == "no contact"
      end)
      it_is.clock.advance(3600000)
      assert.are.equal(0, #it_is.registry.requests)
      it_is.target.set("up", "up")
      it_is:asked(1)
      it_is:asleep()
      it_is.target.set("down", "down")
      it_is.clock.advance(1800000)
      support.wait_until(function()
        return it_is.watcher.status == "no contact"
      end)
      assert.are.equal(1, #it_is.registry.requests)
      it_is.target.set("up", "restarted")
      local opening = it_is:asked(2).texts[1]
      assert.is_truthy(opening:find("the connection to the node was lost", 1, true))
      assert.is_truthy(opening:find("the node restarted", 1, true))
    end))

  it("leaves a cycle in which the contact is lost", case({
    { "take_snapshot" },
  }, nil, function(it_is)
    it_is.registry.script = { function()
      it_is.target.set("unresponsive", "unresponsive")
      return { "get_alerts" }
    end }
    it_is:start()
    support.wait_until(function()
      return it_is.watcher.status == "no contact"
    end)
    assert.are.equal(1, #it_is.registry.requests)
  end))

  it("restarts after a crash with its state, note, alerts and snapshots", case({
    { "set_state", { state = "warning", reason = "growing" } },
    { "wait", { ms = 20000, note = "remember" } },
    function()
      error("a bug in the loop")
    end,
  }, nil, function(it_is)
    it_is:start()
    it_is:advance(20000)
    support.wait_until(function()
      return it_is:last("watcher.crashed")
    end)
    local crashed = it_is:last("watcher.crashed")
    assert.is_truthy(crashed.metadata.error:find("a bug in the loop", 1, true))
    assert.are.equal(1000, crashed.measurements.restart_ms)
    local kept = it_is.watcher.snapshots:ids()
    it_is.clock.advance(1000)
    local opening = it_is:asked(4).texts[1]
    assert.are.equal(1, it_is:last("watcher.restarted").measurements.restarts)
    assert.is_truthy(opening:find("State: warning for 21 s, set by you: <note>\"growing\"", 1,
      true))
    assert.is_truthy(opening:find("remember", 1, true))
    assert.is_truthy(opening:find("your loop failed and was started again", 1, true))
    assert.is_truthy(it_is.watcher.snapshots:get(kept[1]))
    it_is:stop()
    assert.are.equal("spec", it_is:last("watcher.loop_stopped").metadata.reason)
    assert.are.equal(1, #it_is:all("watcher.started"))
  end))

  it("tells the model of a handler that failed, and goes on", case({
    { "execute", { code = "return 1" } },
  }, nil, function(it_is)
    it_is.executor.run = function()
      error("no sandbox")
    end
    it_is:start()
    assert.is_truthy(it_is:result(2):find("internal error in execute: ", 1, true))
    assert.is_truthy(it_is:last("tool.exception").metadata.error:find("no sandbox", 1, true))
    assert.are.equal(0, #it_is:all("watcher.crashed"))
  end))

  it("tells the model what the guard refused, and runs what the guard put in its place", case({
    { "execute", { code = "return 1" } },
    { "get_snapshots", { limit = 50 } },
    { "get_alerts" },
  }, {
    guard = function(action)
      if action.tool == "execute" then
        return nil, "no scripts during imports"
      elseif action.tool == "get_snapshots" then
        return { tool = "get_snapshot", args = { id = "feed" } }
      elseif action.tool == "get_alerts" then
        return { tool = "get_alerts", args = { limit = 0 } }
      end
      return action
    end,
  }, function(it_is)
    it_is:start()
    assert.are.equal(
      '<data>{"error":"refused by the operator\'s guard: no scripts during imports"}</data>',
      it_is:result(2))
    assert.are.equal(0, #it_is.executor.runs)
    assert.is_truthy(it_is:result(3):find("snapshot_not_found", 1, true))
    assert.is_truthy(it_is:result(4):find('"total":0', 1, true))
    assert.is_truthy(it_is:last("watcher.hook_failed").metadata.error:find("limit: got 0", 1, true))
  end))

  it("redacts what leaves for the model", case({ { "take_snapshot" } }, {
    redact = function(text)
      return (text:gsub("512", "###"))
    end,
  }, function(it_is)
    it_is:start()
    for _, text in ipairs(it_is:asked(2).texts) do
      assert.is_nil(text:find("512", 1, true))
    end
    assert.is_truthy(it_is:result(2):find('"memory_total_mb":###', 1, true))
  end))

  it("takes secrets out of all that leaves for the model, and passes it through redact", case({
    { "execute", { code = "return 'password=hunter2 alice@example.com'", reason = "bob" },
      text = "bob says token=abcdefghij0123456789" },
  }, {
    instructions = "Mail carol@example.com, says bob. The node is shop@db1.",
    redact = function(text)
      return (text:gsub("bob", "B."):gsub("db1", "db-A"))
    end,
  }, function(it_is)
    it_is.watcher.note = { text = "ask dave@example.com", at_ms = 0 }
    it_is:start()
    local request = it_is:asked(2)
    assert.is_truthy(request.system:find("Mail [redacted:email], says B.. The node is shop@db-A.",
      1, true))
    assert.is_truthy(request.texts[1]:find("^Cycle 1 of watcher beam on node shop@db%-A"))
    assert.is_truthy(request.texts[1]:find('"ask [redacted:email]"', 1, true))
    assert.are.equal("B. says token=[redacted:secret]", request.texts[2])
    assert.are.same({ reason = "B.",
      code = "return 'password=[redacted:secret] [redacted:email]'" },
      request.messages[2].call.args)
    assert.is_truthy(request.texts[3]:find("password=[redacted:secret] [redacted:email]", 1, true))
    -- What ran, and what people see, is whole.
    assert.is_truthy(it_is.executor.runs[1].record.code:find("hunter2", 1, true))
    assert.are.equal("shop@db1", it_is:last("tool.stop").metadata.node)
  end))

  it("withholds a prompt that redact failed on, and not for ever", function()
    local calls = 0
    case({ { "wait", { ms = 60000 } } }, { redact = function(text)
      calls = calls + (text:find("^You watch") and 1 or 0)
      return calls ~= 1 and text or error("not yet")
    end }, function(it_is)
      it_is:start()
      assert.are.equal(hooks.WITHHELD, it_is:asked(1).system)
      it_is:advance(60000)
      assert.is_truthy(it_is:asked(2).system:find("Watch memory.", 1, true))
    end)()
  end)

  it("hands every fired alert to on_alert, the rules' too", case({}, nil, function(it_is)
    local seen = {}
    it_is.watcher.hooks:set_policy({ on_alert = function(alert)
      seen[#seen + 1] = alert.subject
    end })
    it_is:start()
    it_is:asleep()
    it_is:fire_rule(watched.finding())
    assert.are.same({ "orders_worker" }, seen)
  end))

  it("goes on with the last sample when a fresh one fails", case({
    { "take_snapshot" },
  }, nil, function(it_is)
    it_is.detector.sample_now()
    it_is.clock.advance(60000)
    it_is.detector.sample_error = "ETIMEDOUT: no answer within 5000 ms"
    it_is:start()
    assert.is_truthy(it_is:asked(1).texts[1]:find("(the last one; a fresh one failed)", 1, true))
    assert.is_truthy(it_is:result(2):find("no snapshot: ETIMEDOUT", 1, true))
  end))

  it("has its prompt after a reload within a cycle, too", case({
    function()
      return { "take_snapshot" }
    end,
  }, nil, function(it_is)
    local first = it_is.registry.script[1]
    it_is.registry.script[1] = function(request)
      it_is.watcher:reload({ policy = watched.policy({ instructions = "Mind the queue." }),
        domain = it_is.domain, prompt = it_is.watcher.prompt, registry = it_is.registry })
      return first(request)
    end
    it_is:start()
    it_is:asleep()
    assert.is_nil(it_is:last("watcher.crashed"))
    assert.is_nil(it_is:asked(1).system:find("Mind the queue.", 1, true))
    assert.is_truthy(it_is:asked(2).system:find("Mind the queue.", 1, true))
  end))

  it("stops within its wait, leaving no handler behind", case({}, nil, function(it_is)
    it_is:start()
    it_is:asleep()
    it_is:stop()
    assert.are.equal(0, it_is.clock.sleepers())
    local cut = it_is:last("tool.exception").metadata
    assert.are.same({ "wait", "cancelled" }, { cut.tool, cut.error })
    assert.is_nil(next(it_is.detector.listeners))
    assert.is_nil(next(it_is.target.listeners))
    for _, handler in ipairs(it_is.telemetry:list_handlers()) do
      assert.are.equal("watched", handler.id)
    end
  end))
end)

describe("a watcher over a real detector", function()
  it("is woken as a finding begins, fires and clears; the state and the alerts follow",
    support.async(function()
      local t = detection.setup({ rules = { detection.queue_rule() } })
      local it_is = watched.over(t, {
        { "wait", { ms = 1800000 } },
        { "wait", { ms = 1800000 } },
        function(request)
          return { "fire_alert", { type = "mailbox_growth", severity = "critical",
            summary = "orders waits for the database", snapshot_ids = { opening_id(request) } } }
        end,
        { "wait", { ms = 1800000 } },
        { "set_state", { state = "healthy", reason = "drained" } },
      })
      assert(t.step(0, { queues = {} }))
      it_is:start()
      it_is:asleep()
      t.step(10, { queues = { orders = 200 } })
      assert.is_truthy(it_is:asked(2).texts[1]:find('"phase":"pending"', 1, true))
      it_is:asleep()
      t.pass(30, { queues = { orders = 300 } })
      assert.are.equal("warning", (it_is.watcher:state()))
      local opening = it_is:asked(3).texts[1]
      assert.is_truthy(opening:find("finding mailbox_growth of orders is firing", 1, true))
      assert.is_truthy(it_is:result(4):find('"cause":"raised"', 1, true))
      assert.are.equal("critical", (it_is.watcher:state()))
      it_is:asleep()
      t.pass(60, { queues = {} })
      it_is:asked(6)
      assert.are.equal("healthy", (it_is.watcher:state()))
      assert.are.equal(0, #t.alerts:firing())
      local alert = t.alerts:list()[1]
      assert.are.equal("rule", alert.resolved_by)
      assert.are.equal("orders waits for the database", alert.summary)
      it_is:stop()
      t.detector:stop()
    end))
end)
