local beam = require("support.beam")
local detect = require("support.detect")
local node = require("support.node")
local support = require("support")
local uv = require("luv")

-- A pipe, and a function that opens its other end, so that whoever opens the one goes on. The case
-- ends with that: else the node would wait for those that open it.
local function pipe()
  local path, fd = support.tmp_path("pipe"), nil
  assert(node.run_program("mkfifo", { path }) == 0)
  local function open()
    fd = fd or assert(uv.fs_open(path, "r+", 384))
  end
  support.on_cleanup(function()
    open()
    uv.fs_close(fd)
    os.remove(path)
  end)
  return path, open
end

describe("the rules of beam about waiting, on a real node", function()
  it("find deadlocks and full dirty schedulers, and let go of them", support.async(function()
    local n = node.start({ name = "waits2" })
    local ctx = beam.attach(n, { min_interval_ms = 2000 })
    ctx.sweep:need({ "monitors", "singletons" })
    ctx.sweep:start()
    local d = detect.start(ctx, "beam", {
      deadlock = { clear_hold_ms = 3000 }, dirty_queue = { hold_ms = 5000, clear_hold_ms = 3000 },
    })
    local path, open = pipe()
    n:eval([[
      fl_waits:chain([healthy_a, healthy_b, healthy_c]),
      fl_waits:watching([healthy_d, healthy_e, healthy_f]),
      fl_waits:late([healthy_g, healthy_h], 9000),
      fl_waits:deadlock([sick_a, sick_b]), fl_waits:deadlock([sick_c, sick_d, sick_e]).]])
    n:eval(("fl_waits:dirty(%q, 40)."):format(path))
    support.wait_until(function()
      return detect.firing(d) == "deadlock sick_a and sick_b, deadlock sick_c, sick_d and sick_e, "
        .. "dirty_queue dirty IO schedulers"
    end, 90000, "the sick to be found")
    for _, finding in ipairs(d:findings()) do
      if finding.type == "dirty_queue" then
        assert.is_true(finding.value > 10 and finding.value <= 40, finding.value)
        assert.matches("in prim_file:open_nif/2$", finding.summary)
      end
    end
    open()
    n:eval("exit(whereis(sick_b), kill).")
    support.wait_until(function()
      return detect.firing(d) == "deadlock sick_c, sick_d and sick_e"
    end, 60000, "two of them to end")
  end, 200))

  -- In a node's first five minutes that rule is silent.
  it("find a hung code_server", support.async(function()
    local n = node.start({ name = "waits2" })
    local ctx = beam.attach(n, { min_interval_ms = 5000 })
    ctx.sweep:need({ "monitors", "singletons" })
    ctx.sweep:start()
    local d = detect.start(ctx, "beam", { hung_singleton = { clear_hold_ms = 3000 } })
    n:eval("sys:suspend(rex), sys:suspend(code_server), "
      .. "[spawn(fun() -> code:which(lists) end) || _ <- lists:seq(1, 21)].")
    support.wait_until(function()
      assert(#d:findings() == 0 or n:number("element(1, erlang:statistics(wall_clock)).") > 300000,
        "found in the first minutes")
      return detect.firing(d) == "hung_singleton code_server"
    end, 400000, "the code_server to be found")
    assert.matches("^code_server <0%.%d+%.0>: 21 messages wait, none taken for .*, in "
      .. "code_server:suspend_loop/3$", d:findings()[1].summary)
    n:eval("sys:resume(code_server).")
    support.wait_until(function()
      return #d:findings() == 0
    end, 60000, "its end")
  end, 480))
end)
