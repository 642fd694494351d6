-- The rules of slow growth on real nodes. Of all that they look at, two things are made up: the
-- nodes say that they have been up for longer, and one that it may have less memory. Minutes from a
-- limit five minutes of growth are enough.

local beam = require("support.beam")
local detect = require("support.detect")
local node = require("support.node")
local support = require("support")

local SHORT = { hold_ms = 5000, clear_hold_ms = 5000 }
local CHANGES = {}
for _, name in ipairs({ "port", "fd", "process", "atom", "memory", "ets", "child" }) do
  CHANGES[name .. "_growth"] = SHORT
end
local PARTS = { "processes", "ports", "tables", "supervisors" }

-- A node with small limits, on which `leaks` runs once all that we need is loaded there; and its
-- detectors by domain.
local function start(name, domains, leaks, opts)
  opts = opts or {}
  local n = node.start({ name = name, args = { "+Q", "4096", "+P", "16384", "+t", "60000" } })
  n:limit_files(10000)
  n:eval("[code:ensure_loaded(M) || M <- [fl, fl_ports, fl_ets, fl_sup, supervisor, gen_udp]].")
  local ctx = beam.attach(n, { min_interval_ms = 5000, parts = PARTS })
  assert(ctx.sweep:once())
  for _, domain in ipairs(domains) do
    assert(beam.domain(domain):snapshot(ctx))
  end
  ctx.sweep:start()
  local detectors = {}
  for _, domain in ipairs(domains) do
    detectors[domain] = detect.start(ctx, domain, CHANGES, function(data)
      data.uptime_s = data.uptime_s + 3600
      if opts.memory_mb and type(data.memory_rss_mb) == "number" then
        opts.limit_mb = opts.limit_mb or data.memory_rss_mb + opts.memory_mb
        data.memory_limit_mb = opts.limit_mb
      end
    end)
  end
  n:eval(leaks)
  return n, detectors
end

local function all(nodes, fn)
  local list = {}
  for _, one in ipairs(nodes) do
    for _, domain in ipairs({ "beam", "ets", "gc", "ports", "sup" }) do
      local text = one.detectors[domain] and fn(one.detectors[domain]) or ""
      list[#list + 1] = text ~= "" and ("%s.%s: %s"):format(one.name, domain, text) or nil
    end
  end
  return table.concat(list, "; ")
end

local EXPECTED = table.concat({
  "children.sup: child_growth leaky_sup",
  "files.beam: atom_growth atoms",
  "files.ports: fd_growth file descriptors, port_growth udp_inet",
  "processes.beam: process_growth processes",
  "rows.beam: memory_growth memory",
  "rows.ets: ets_growth leaky_table",
}, "; ")

local LEAKS = {
  { "children", { "sup" }, "fl_sup:leak(leaky_sup, 20)." },
  { "files", { "beam", "ports" }, "fl_ports:leak(leaky_sockets, socket, 5), "
    .. "fl_ports:leak(leaky_files, file, 8), fl:atom_leak(60)." },
  { "processes", { "beam" }, "fl:proc_leak(20)." },
  { "rows", { "beam", "ets" }, "fl_ets:leak(leaky_table, 400).", { memory_mb = 250 } },
}

-- What one of those has leaked after five minutes, at once.
local JUMPS = [[
fl_sup:dynamic(pool_sup, 6000), fl_ports:sockets(1500), fl_ports:files(2400), fl:atoms(18000),
fl:procs(3000),
fl_ets:keep(fun() ->
  T = ets:new(cache, [public]),
  [ets:insert(T, {N, lists:seq(1, 50)}) || N <- lists:seq(1, 120000)]
end).]]

describe("slow growth on real nodes", function()
  it("is found by its subject, jumps alike are not, and each ends alone", support.async(function()
    local nodes = {}
    for i, leak in ipairs(LEAKS) do
      local n, detectors = start(leak[1], leak[2], leak[3], leak[4])
      nodes[i] = { name = leak[1], node = n, detectors = detectors }
    end
    local jumps, quiet = start("jumps", { "beam", "ets", "gc", "ports", "sup" }, "ok.",
      { memory_mb = 250 })
    support.wait_until(function()
      return #quiet.beam.history:samples() >= 20
    end, 60000, "samples before the jump")
    jumps:eval(JUMPS)
    local healthy = { { name = "jumps", detectors = quiet } }
    local found
    local ok = pcall(support.wait_until, function()
      found = all(nodes, detect.firing)
      assert.are.equal("", all(healthy, detect.firing))
      return found == EXPECTED
    end, 480000)
    assert(ok, ("expected\n%s\nfound\n%s"):format(EXPECTED, found))
    support.wait_until(function()
      return all(nodes, function(d)
        return detect.alerts(d, "firing")
      end) == EXPECTED
    end, 30000, "the alerts")
    local growth = nodes[2].detectors.ports.store:firing()
    for _, alert in ipairs(growth) do
      local per_s = alert.subject == "udp_inet" and 5 or 13
      assert.is_true(math.abs(alert.trend.per_s - per_s) < 0.3 * per_s, alert.trend.per_s)
      assert.is_true(alert.trend.eta_s > 60 and alert.trend.eta_s < 600, alert.trend.eta_s)
    end

    nodes[1].node:eval("fl_sup:stop().")
    nodes[2].node:eval("fl_ports:stop(leaky_files).") -- the sockets go on
    nodes[3].node:eval("fl:stop().")
    nodes[4].node:eval("exit(ets:info(leaky_table, owner), kill).")
    support.wait_until(function()
      return all(nodes, function(d)
        return detect.alerts(d, "resolved")
      end):find("file descriptors", 1, true)
        and all(nodes, function(d)
          return detect.alerts(d, "firing")
        end) == "files.beam: atom_growth atoms; files.ports: port_growth udp_inet"
    end, 240000, "the leaks that were ended, and no other")
    nodes[2].node:eval("fl:stop(), fl_ports:stop(leaky_sockets).")
    support.wait_until(function()
      return all(nodes, function(d)
        return detect.alerts(d, "firing")
      end) == ""
    end, 240000, "the others")
    assert.are.equal(EXPECTED, all(nodes, function(d)
      return detect.alerts(d, "resolved")
    end))
    assert.are.equal("", all(healthy, function(d)
      return detect.alerts(d, "resolved")
    end))
  end, 1200))
end)
