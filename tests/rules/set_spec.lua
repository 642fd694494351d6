local finding_alert = require("runtime.rules.finding_alert")
local history = require("runtime.history")
local rule_set = require("runtime.rules.set")

local function rule(changes)
  local made = { type = "growth", severity = "warning", when = function() end }
  for key, value in pairs(changes or {}) do
    made[key] = value
  end
  return made
end

local function ask(result, changes)
  local compiled = rule_set.compile({ rule({ when = function()
    return result
  end }) }, changes)[1]
  return rule_set.ask(compiled, history.new(), { name = "n@h" }, {})
end

describe("a set of rules", function()
  it("has holds of 60 s unless a rule or the policy says otherwise", function()
    local rules = rule_set.compile({ rule(), rule({ type = "b", hold = "2m", clear_hold = "0s" }),
      rule({ type = "c", hold_ms = 5 }) }, { growth = { clear_hold_ms = 7 } })
    assert.same({ 60000, 7 }, { rules[1].hold_ms, rules[1].clear_hold_ms })
    assert.same({ 120000, 0 }, { rules[2].hold_ms, rules[2].clear_hold_ms })
    assert.equal(5, rules[3].hold_ms)
  end)

  it("leaves out what is switched off and what cannot be read", function()
    local rules, problems = rule_set.compile({ rule(), { type = "no_when" }, rule({ type = "x",
      severity = "bad" }), rule({ type = "y", hold = "soon" }) }, { growth = { enabled = false } })
    assert.same({}, rules)
    assert.equal(3, #problems)
    assert.same({ "no_when", "x", "y" },
      { problems[1].type, problems[2].type, problems[3].type })
    assert.equal("a rule needs a type and a function when", problems[1].error)
  end)

  it("lets a policy's own detector take the place of a domain's", function()
    local rules = rule_set.compile({ rule(), rule({ type = "b" }) },
      { rule({ severity = "critical" }), rule({ type = "c" }) })
    assert.equal(3, #rules)
    assert.same({ "critical", "b", "c" }, { rules[1].severity, rules[2].type, rules[3].type })
  end)
end)

describe("what a rule returns", function()
  it("may be nothing, one finding or a list", function()
    assert.same({}, ask(nil))
    assert.same({}, ask(false))
    assert.same({}, ask({}))
    assert.equal("a", ask({ subject = "a" })[1].subject)
    assert.equal(2, #ask({ { subject = "a" }, { subject = "b" } }))
  end)

  it("is about the node when it names no subject", function()
    assert.same({ subject = "n@h", severity = "warning", value = 3 }, ask({ value = 3 })[1])
  end)

  it("counts once per subject, by its worst", function()
    local found = ask({ { subject = "a", value = 1 }, { subject = "a", value = 2,
      severity = "critical" }, { subject = "a", value = 3, severity = "info" } })
    assert.equal(1, #found)
    assert.equal(2, found[1].value)
  end)

  it("has the severity of the policy when that says one", function()
    local found = ask({ severity = "critical" }, { growth = { severity = "info" } })
    assert.equal("info", found[1].severity)
  end)

  it("has no numbers that are none, and no text that is none", function()
    local found = ask({ value = 0 / 0, per_s = math.huge, eta_s = "soon", threshold = 5,
      summary = 7, figures = "x", pid = {} })[1]
    assert.same({ subject = "n@h", severity = "warning", threshold = 5 }, found)
  end)
end)

describe("the alert of a finding", function()
  local function request(rule_fields, finding, node)
    return finding_alert.request({
      meta = { watcher = "w", domain = "beam", node = node or "n@h" },
      rule = rule_fields,
      finding = { type = "mailbox_growth", subject = "orders", severity = "warning",
        value = finding and finding.value, per_s = finding and finding.per_s },
      held_ms = 90000, samples = {}, executions = {}, trace_id = "t",
    })
  end

  it("quotes what goes into a command for the shell", function()
    local next_commands = request({ investigate = "return f('x')\n  + 1" }, nil, "a'b@h").next
    assert.equal([[beamlens exec beam --node 'a'\''b@h' -e 'return f('\''x'\'') + 1']],
      next_commands[1])
    assert.equal([[beamlens snapshot beam --node 'a'\''b@h']], next_commands[2])
  end)

  it("offers no script that would not run as it is pasted", function()
    for _, code in ipairs({ "return args.subject", "f() -- why", "return [[x\ny]]",
      ("x"):rep(301) }) do
      assert.same({ "beamlens snapshot beam --node n@h" }, request({ investigate = code }).next)
    end
  end)

  it("takes the rule's own commands, and the usual ones when those fail", function()
    assert.same({ "a" }, request({ next = { "a" } }).next)
    assert.same({ "orders" }, request({ next = function(finding)
      return { finding.subject }
    end }).next)
    assert.same({ "beamlens snapshot beam --node n@h" }, request({ next = function()
      error("no")
    end }).next)
  end)

  it("says in a line what is known", function()
    assert.equal("orders: mailbox growth, for 1 m 30 s", request({}).summary)
    assert.equal("orders: mailbox growth 39 818, -2.5/s, for 1 m 30 s",
      request({}, { value = 39818, per_s = -2.5 }).summary)
  end)
end)
