local async = require("runtime.async")
local hooks = require("runtime.watcher.hooks")
local support = require("support")
local watchdog = require("host.watchdog")

local function with(policy)
  local failures = {}
  return hooks.new({ policy = policy, emit = function(event, metadata)
    assert.are.equal("beamlens.watcher.hook_failed", event)
    failures[#failures + 1] = metadata
  end }), failures
end

local ACTION = { tool = "wait", args = { ms = 60000 } }

describe("policy hooks", function()
  it("let a guard pass, change and refuse an action", support.async(function()
    local verdict
    local self, failures = with({ guard = function(action, watcher)
      return verdict(action, watcher)
    end })
    verdict = function(action)
      return action
    end
    assert.are.equal(ACTION, self:guard(ACTION, {}))
    verdict = function(_, watcher)
      return { tool = "wait", args = { ms = watcher.ms } }
    end
    assert.are.equal(5, self:guard(ACTION, { ms = 5 }).args.ms)
    verdict = function()
      return nil, "imports are running"
    end
    local action, reason = self:guard(ACTION, {})
    assert.is_nil(action)
    assert.are.equal("imports are running", reason)
    assert.are.same({}, failures)
  end))

  it("let a guard see, soften and refuse the alert of a rule", support.async(function()
    local self = with({ guard = function(action)
      if action.args.subject == "importer" then
        return nil, "known"
      end
      assert.are.equal("fire_alert", action.tool)
      assert.are.equal("rule", action.source)
      action.args.severity, action.args.type = "info", "ignored"
      return action
    end })
    local request = self:guard_alert({ type = "a", subject = "s", severity = "critical",
      title = "t", summary = "u", snapshots = { 1 } }, {})
    assert.are.same({ type = "a", subject = "s", severity = "info", title = "t", summary = "u",
      snapshots = { 1 } }, request)
    local refused, reason = self:guard_alert({ type = "a", subject = "importer" }, {})
    assert.is_nil(refused)
    assert.are.equal("known", reason)
  end))

  it("go on without an effect when they raise or return nonsense", support.async(function()
    local self, failures = with({
      guard = function()
        error("oops")
      end,
    })
    assert.are.equal(ACTION, self:guard(ACTION, {}))
    assert.are.equal("guard", failures[1].hook)
    assert.is_truthy(failures[1].error:find("oops", 1, true))
    self:set_policy({ guard = function()
      return 5
    end })
    assert.are.equal(ACTION, self:guard(ACTION, {}))
    assert.are.equal("returned a number, not an action", failures[2].error)
  end))

  it("are cut after 100 ms of running, even inside pcall and coroutines", support.async(function()
    for _, endless in ipairs({
      function()
        while true do end
      end,
      function()
        while true do
          pcall(function()
            while true do end
          end)
        end
      end,
      function()
        coroutine.wrap(function()
          while true do end
        end)()
      end,
    }) do
      local self, failures = with({ guard = endless })
      assert.are.equal(ACTION, self:guard(ACTION, {}))
      assert.is_truthy(failures[1].error:find("ran longer than 100 ms", 1, true))
      assert.is_nil(debug.gethook())
    end
  end))

  it("may wait longer than they may run, and running is counted over all stretches",
    support.async(function()
      local function spin(ms)
        local stop_at = watchdog.cpu_ms() + ms
        while watchdog.cpu_ms() < stop_at do end
      end
      local self, failures = with({ guard = function(action)
        async.sleep(150)
        spin(20)
        return action
      end })
      assert.are.equal(ACTION, self:guard(ACTION, {}))
      assert.are.same({}, failures)
      self:set_policy({ guard = function()
        for _ = 1, 10 do
          async.sleep(1)
          spin(30)
        end
        return nil, "never said"
      end })
      assert.are.equal(ACTION, self:guard(ACTION, {}))
      assert.are.equal("ran longer than 100 ms", failures[1].error:match("ran longer than %d+ ms"))
    end))

  it("withhold a text that redact fails on", support.async(function()
    local self, failures = with({ redact = function(text)
      return (text:gsub("%d%d%d%d", "####"))
    end })
    assert.are.equal("card ####", self:redact("card 1234"))
    self:set_policy({ redact = function(text)
      return text.no.such
    end })
    assert.are.equal(hooks.WITHHELD, self:redact("card 1234"))
    self:set_policy({ redact = function() end })
    assert.are.equal(hooks.WITHHELD, self:redact("card 1234"))
    assert.are.equal(2, #failures)
  end))

  it("notify beside the caller; close cancels what still waits", support.async(function()
    local seen = {}
    local self, failures = with({
      on_state = function(from, to, reason)
        seen[#seen + 1] = { from, to, reason }
        async.sleep(60000)
        seen[#seen + 1] = "never"
      end,
      on_alert = function()
        error("no pager")
      end,
    })
    self:notify("on_state", "healthy", "warning", "why")
    self:notify("on_alert", {})
    assert.are.same({ { "healthy", "warning", "why" } }, seen)
    assert.are.equal("on_alert", failures[1].hook)
    self:close()
    assert.are.equal(1, #failures)
  end))
end)
