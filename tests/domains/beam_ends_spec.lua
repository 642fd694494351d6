-- What the rules of beam find has a subject, and ends with the fault, each on its own.

local lives = require("support.lives")

local RULES = require("domains.beam.rules")

local DATA = {
  scheduler_run_queue = 1, process_count = 500, process_limit = 262144, port_count = 50,
  atom_count = 20000, atom_limit = 1048576, memory_rss_mb = 200, memory_limit_mb = 8000,
  memory_code_mb = 20,
}
local ORDERS = { "memory", "message_queue", "reductions", "reductions_per_s",
  "message_queue_per_s" }

local function process(pid, changes)
  local row = { pid = pid, name = "worker", subject = "worker", registered = true,
    memory_kb = 100, message_queue = 0, reductions = 1000, reductions_per_s = 0,
    message_queue_per_s = 0, current_function = "gen_server:loop/7", status = "waiting" }
  for key, value in pairs(changes) do
    row[key] = value
  end
  return row
end

local function run(type_name, life)
  return lives.live(lives.rule(RULES, type_name), {
    seconds = life.seconds, every = life.every, sweep_every = life.every, hold_s = life.hold_s,
    data = function(t)
      local data = {}
      for key, value in pairs(DATA) do
        data[key] = value
      end
      for key, value in pairs(life.data and life.data(t) or {}) do
        data[key] = value
      end
      return data
    end,
    pass = function(t)
      local part = { rows = {}, top = {}, total = 500, skipped = 0,
        tracked = { "memory_kb", "message_queue" } }
      local rows = life.rows and life.rows(t) or {}
      for _, order in ipairs(ORDERS) do
        part.top[order] = {}
        for i, row in ipairs(rows) do
          part.rows[row.pid], part.top[order][i] = row, row.pid
        end
      end
      return { processes = part }
    end,
  }, { "processes" })
end

local function subjects(list)
  local names = {}
  for i, finding in ipairs(list) do
    names[i] = finding.subject
  end
  table.sort(names)
  return table.concat(names, ", ")
end

describe("slow growth of", function()
  local cases = {
    process = { key = "process_count", subject = "processes", unit = "processes", per_s = 5,
      limit = 262144 },
    atom = { key = "atom_count", subject = "atoms", unit = "atoms", per_s = 20, limit = 1048576 },
    memory = { key = "memory_rss_mb", subject = "memory", unit = "MiB", per_s = 0.5,
      limit = 8000 },
  }
  for name, case in pairs(cases) do
    it(name .. " has a subject, a rate and an end in sight, and ends with the leak", function()
      local function leak(until_s, after)
        return run(name .. "_growth", { seconds = 5400, every = 30, data = function(t)
          local grown = DATA[case.key] + case.per_s * math.min(t, until_s)
          return { [case.key] = t > until_s and after or grown }
        end })
      end
      local found = leak(3600)
      local finding = found[3600][1]
      assert.are.same({ 1, case.subject, "warning", case.unit, case.limit }, { #found[3600],
        finding.subject, finding.severity, finding.unit, finding.threshold })
      assert.is_true(math.abs(finding.per_s - case.per_s) < 0.02 * case.per_s, finding.per_s)
      local eta_s = (case.limit - DATA[case.key] - 3600 * case.per_s) / case.per_s
      assert.is_true(math.abs(finding.eta_s - eta_s) < 0.03 * eta_s, finding.eta_s)
      assert.are.equal(0, #found[5100])
      assert.are.equal(0, #leak(3600, DATA[case.key])[3630])
    end)
  end
end)

describe("what is found of processes", function()
  it("ends for each mailbox alone: one that drains, and one that goes on", function()
    local found = run("mailbox_growth", { seconds = 400, rows = function(t)
      return {
        process("<0.5.0>", { name = "orders", subject = "orders", message_queue = 1000 * t }),
        process("<0.6.0>", { name = "mails", subject = "mails",
          message_queue = t < 200 and 500 * t or math.max(0, 100000 - (t - 200) * 2000) }),
      }
    end })
    assert.are.equal("mails, orders", subjects(found[190]))
    assert.are.equal("orders", subjects(found[300]))
    assert.are.equal("orders", subjects(found[400]))
  end)

  it("ends for each stuck process alone: one takes its messages, one is killed", function()
    local found = run("mailbox_stuck", { seconds = 300, hold_s = 30, rows = function(t)
      local function stuck(pid, name, changes)
        changes.name, changes.subject = name, name
        changes.message_queue = changes.message_queue or 5000
        changes.current_function = "shop:wait/1"
        return process(pid, changes)
      end
      return {
        stuck("<0.5.0>", "orders", {}),
        stuck("<0.6.0>", "mails", t < 150 and {} or { message_queue = 0, reductions = 90000 }),
        t < 200 and stuck("<0.7.0>", "stock", {}) or nil,
      }
    end })
    assert.are.equal("mails, orders, stock", subjects(found[140]))
    assert.are.equal("orders, stock", subjects(found[160]))
    assert.are.equal("orders", subjects(found[210]))
    assert.are.equal("orders", subjects(found[300]))
  end)

  it("ends when the runaway rests, or is gone", function()
    for name, after in pairs({
      rests = { process("<0.7.0>", { name = "report", subject = "report" }) }, gone = {},
    }) do
      local found = run("runaway_process", { seconds = 500, hold_s = 300, rows = function(t)
        return t < 400 and { process("<0.7.0>", { name = "report", subject = "report",
          status = "running", reductions_per_s = 2e8, reductions = t * 2e8,
          current_function = "shop:loop/0" }) } or after
      end })
      assert.are.equal("report", subjects(found[390]), name)
      assert.are.equal(0, #found[410], name)
    end
  end)
end)

describe("what is found of schedulers", function()
  it("is of the schedulers, says who is busiest, and ends when nobody waits", function()
    local found = run("scheduler_saturation", { seconds = 400, hold_s = 180, data = function(t)
      return { scheduler_run_queue = t < 300 and 39 or 2 }
    end, rows = function(t)
      return { process("<0.7.0>", { name = "report", subject = "report", status = "running",
        reductions_per_s = 2e8, reductions = t * 2e8 }) }
    end })
    assert.are.equal(0, #found[50])
    local finding = found[290][1]
    assert.are.same({ 1, "schedulers", "warning", 39, 4 }, { #found[290], finding.subject,
      finding.severity, finding.value, finding.threshold })
    assert.matches("; report <0.7.0> in gen_server:loop/7, 100 %% of the work$", finding.summary)
    assert.are.equal(0, #found[300])
  end)
end)
