-- Nodes that are not well, or have little: what a target and a domain still get, and how soon.

local async = require("runtime.async")
local beam = require("support.beam")
local dist = require("host.dist")
local node = require("support.node")
local support = require("support")
local targets = require("support.target")

-- Runs every callback of the beam domain. Returns the names of those that fail, with their errors.
local function failures(d, ctx)
  local failed = {}
  for _, callback in ipairs(d:callbacks()) do
    local ok, err = d:invoke(ctx, callback.name, callback.name == "sleep" and { 1 } or {})
    if not ok then
      failed[callback.name] = err
    end
  end
  return failed
end

describe("a node whose code_server does not answer", function()
  it("before the attach comes up, and a domain fails at once with the reason", support.async(
    function()
      local n = node.start({ name = "sick1", control = false,
        args = { "-s", "bare", "suspend" } })
      local ctx = beam.attach(n)
      local d = beam.domain("beam")
      local status = ctx.target:status()
      assert.are.equal("up", status.status)
      assert.is_false(status.info.eval)
      assert.matches("code_server", status.info.eval_err)
      assert.is_true(ctx.target:call("erlang", "system_info", { dist.atom("process_count") }) > 20)

      local started = async.now_ms()
      local data, err, code = d:snapshot(ctx)
      assert.are.same({ nil, "ENOEVAL" }, { data, code })
      assert.matches("code_server", err)
      assert.is_true(async.now_ms() - started < 1000)
    end))

  it("after the attach changes nothing for a domain that has not run yet", support.async(function()
    local n = node.start({ name = "sick1", control = false })
    local ctx = beam.attach(n, { gap_ms = 100 })
    local d = beam.domain("beam")
    assert.are.equal("ok", ctx.target:call("sys", "suspend", { dist.atom("code_server") }))
    local started = async.now_ms()
    assert.are.equal("rss", assert(d:snapshot(ctx)).memory_basis)
    assert.are.same({}, failures(d, ctx))
    assert.is_true(async.now_ms() - started < 5000)
    assert.are.equal("", n:log())
  end))
end)

describe("a node with a process that answers nobody", function()
  it("gives all else in time, and the sweep says whom it left out", support.async(function()
    local n = node.start({ name = "sick2", args = { "+S", "2:2", "+swt", "very_low" } })
    local ctx = beam.attach(n, { patience_ms = 150, grace_ms = 100, gap_ms = 100 })
    local d = beam.domain("beam")
    assert(ctx.sweep:once())
    n:eval("fl_sick:hog(hog), fl:procs(200), fl:selective(other_one, 500).")
    local hog = n:eval("pid_to_list(whereis(hog))."):match("<[%d.]+>")
    local left_out, slowest = false, 0
    for _ = 1, 5 do
      local started = async.now_ms()
      local found = assert(ctx.sweep:once()).processes
      slowest = math.max(slowest, async.now_ms() - started)
      assert(d:snapshot(ctx))
      left_out = left_out or (table.concat(found.unanswered, " ") .. " "):find(hog, 1, true)
      if left_out then
        assert.is_true(found.skipped >= 1)
        local _, top, meta = d:invoke(ctx, "beam_top_processes", {})
        assert.are.same({ found.skipped, found.skipped }, { top.skipped, meta.skipped })
        break
      end
    end
    assert.is_truthy(left_out)
    assert.is_true(slowest < 6000, slowest)
  end, 30))
end)

describe("a node that answers with 50 MB", function()
  it("is refused that alone, by name of the bound, and goes on", support.async(function()
    local n = node.start({ name = "sick3" })
    local t, told = targets.attach(n)
    for _, ask in ipairs({
      function()
        return t:call("binary", "copy", { "x", 50 * 1024 * 1024 }, { timeout = "10s" })
      end,
      function()
        return t:eval("binary:copy(<<0>>, N).", { N = 50 * 1024 * 1024 }, { timeout = "10s" })
      end,
      function()
        return t:eval("[binary:copy(<<0>>, N) || _ <- [1, 2, 3, 4, 5]].", { N = 10 * 1024 * 1024 },
          { timeout = "10s" })
      end,
    }) do
      local started = async.now_ms()
      local value, err, code = ask()
      assert.are.same({ nil, "ETOOBIG" }, { value, code })
      assert.matches("16777216 bytes", err)
      assert.is_true(async.now_ms() - started < 10000)
      assert.are.equal(3, t:eval("1 + 2."))
    end
    assert.are.equal("up", told:kinds())
    assert.are.equal("", n:log())
  end))
end)

describe("a node with kernel and stdlib alone", function()
  -- In embedded mode what is not loaded at boot never will be: no os_mon, no runtime_tools.
  it("has all that the beam domain needs", support.async(function()
    local n = node.start({ name = "sick4", args = { "-mode", "embedded", "-eval",
      "code:load_abs(\"build/nodes/control\")." } })
    local ctx = beam.attach(n, { gap_ms = 100 })
    local d = beam.domain("beam")
    assert.are.equal("[kernel,stdlib]",
      n:eval("lists:sort([A || {A, _, _} <- application:which_applications()])."))
    for _, module in ipairs({ "memsup", "cpu_sup", "scheduler", "msacc", "runtime_tools" }) do
      assert.is_false(ctx.target:call("erlang", "module_loaded", { dist.atom(module) }))
    end
    assert.are.same({}, ctx.target:status().info.loaded)
    assert.are.equal("rss", assert(d:snapshot(ctx)).memory_basis)
    assert.are.same({}, failures(d, ctx))
    assert.are.same({}, ctx.target:status().info.loaded)
    assert.are.equal("", n:log())
  end))
end)
