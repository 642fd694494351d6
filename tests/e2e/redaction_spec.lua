-- Keys in what a node calls its things, and in what a model wrote, do not leave for a model: the
-- real binary on a real node, and all that a server on loopback got.

local anthropic_server = require("support.anthropic_server")
local node = require("support.node")
local support = require("support")
local watch = require("support.watch")

-- Put together here, so that nobody takes this file for a leak.
local SECRETS = {
  anthropic = "sk-" .. "ant-api03-A1b2C3d4E5f6G7h8I9j0K1l2M3n4",
  aws = "AKIA" .. "IOSFODNN7EXAMPLE",
  github = "ghp_" .. "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
  slack = "xoxb-" .. "123456789012-abcDEFghiJKL",
  jwt = "eyJ" .. "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r",
  password = "hunter2-" .. "hunter2",
  mail = "alice@" .. "customer.example.com",
}

local SETUP = [[
  Long = fun(Name) ->
    register(binary_to_atom(Name),
      spawn(fun F() -> put(k, lists:seq(1, 50000)), receive x -> F() end end))
  end,
  Long(<<"worker_%s">>), Long(<<"%s">>),
  Keep = spawn(fun() ->
    ets:new(binary_to_atom(<<"tokens_%s">>), [named_table, public]),
    ets:new(binary_to_atom(<<"cache:password=%s">>), [named_table, public]),
    receive x -> ok end end),
  register(keeper, Keep), ok.]]

local WATCHERS = {
  [[name = "beam", domain = "beam", sample = "1s", wait = { min = "1s", max = "2s" },
    instructions = "Ask %s, token: %s. Codename BLUEBIRD.",
    redact = function(text) return (text:gsub("BLUEBIRD", "[codename]")) end,
    rules = { { type = "odd", severity = "warning", hold = "0s", clear_hold = "0s",
      when = function()
        return { subject = "%s", summary = "BLUEBIRD saw the header Authorization: Bearer %s" }
      end } }]],
  [[name = "ets", domain = "ets", sample = "1s", wait = { min = "1s", max = "2s" } ]],
}

local STEPS = {
  beam = {
    { "take_snapshot", {} },
    { "execute", { code = "return beam_top_processes(50, 'memory')" } },
    { "execute", { code = "print('" .. SECRETS.github .. "') error('" .. SECRETS.slack .. "')" } },
    function(id)
      return { "fire_alert", { type = "other", severity = "warning", snapshot_ids = { id },
        reason = "key " .. SECRETS.anthropic, summary = "BLUEBIRD: the name worker_"
          .. SECRETS.anthropic .. " and " .. SECRETS.mail .. " are in the open" } }
    end,
    { "get_alerts", {} },
    { "set_state", { state = "warning", reason = "leaks " .. SECRETS.github } },
    { "wait", { ms = 20000, note = "rotate " .. SECRETS.aws .. " of BLUEBIRD" } },
  },
  ets = {
    { "execute", { code = "return ets_list_tables()" } },
    { "execute", { code = "return ets_table_info('tokens_" .. SECRETS.github .. "')" } },
    { "wait", { ms = 20000 } },
  },
}

-- The model: each watcher's steps, then waits.
local function script(seen)
  return function(request)
    local watcher = request.text:find("watcher ets on", 1, true) and "ets" or "beam"
    seen[watcher] = (seen[watcher] or 0) + 1
    local step = STEPS[watcher][seen[watcher]] or { "wait", { ms = 20000 } }
    if type(step) == "function" then
      step = step(assert(request.text:match("Snapshot (%x+)")))
    end
    return { tool = step[1], input = step[2] }
  end
end

describe("what leaves for a model", function()
  it("holds no key from a process's name, a table's, an alert, or the model's own words",
    support.async(function()
      local n = node.start({ name = "redacted1" })
      local said = n:eval(SETUP:format(SECRETS.anthropic, SECRETS.aws, SECRETS.github,
        SECRETS.password))
      assert.are.equal("ok", (said:gsub("%s", "")))
      local seen = {}
      local server = anthropic_server.start({ on_request = script(seen) })
      support.on_cleanup(function()
        server:stop()
      end)
      local b = watch.start({ node = n, watchers = {
        WATCHERS[1]:format(SECRETS.mail, SECRETS.slack, SECRETS.anthropic, SECRETS.jwt),
        WATCHERS[2] }, env = { "ANTHROPIC_API_KEY=sk-spec-key", "ANTHROPIC_BASE_URL="
          .. server.url } })
      support.wait_until(function()
        return (seen.beam or 0) > #STEPS.beam and (seen.ets or 0) > #STEPS.ets
      end, 60000, "both watchers to come to their next cycles")

      local whole = {}
      for i, request in ipairs(server.requests) do
        whole[i] = request.text
        for name, secret in pairs(SECRETS) do
          assert.is_nil(request.text:find(secret, 1, true), name)
        end
        assert.is_nil(request.text:find("BLUEBIRD", 1, true))
      end
      whole = table.concat(whole, "\n")
      -- The names came, without what must not leave.
      for _, text in ipairs({ "worker_[redacted:key]", "tokens_[redacted:key]",
        "cache:password=[redacted:secret]", "Ask [redacted:email], token: [redacted:",
        "[codename] saw the header Authorization: Bearer [redacted:",
        "rotate [redacted:key] of [codename]", "leaks [redacted:key]" }) do
        assert.is_truthy(whole:find(text, 1, true), text)
      end
      -- People see all of it.
      local alert = b:wait_for("watcher.alert_fired", function(event)
        return event.metadata.alert.source == "model"
      end).metadata.alert
      assert.is_truthy(alert.summary:find("worker_" .. SECRETS.anthropic, 1, true))
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
    end, 120))
end)
