-- What all five domains share, on a node of each kind: figures that several of them have, the
-- common callbacks, and docs that say what comes.

local beam = require("support.beam")
local executor = require("runtime.executor")
local json = require("runtime.json")
local node = require("support.node")
local node_memory = require("domains.node.memory")
local sandbox = require("runtime.sandbox")
local support = require("support")
local telemetry = require("runtime.telemetry")

local DOMAINS = { "beam", "ets", "gc", "ports", "sup" }
local PARTS = { "processes", "tables", "ports", "supervisors" }
local MIB = 1024 * 1024

local function near(expected, got, tolerance, what)
  assert(math.abs(expected - got) <= tolerance,
    ("%s: the node says %s, the domain %s"):format(what, expected, got))
end

local function read_file(path)
  local file = io.open(path)
  local text = file and file:read("*a")
  if file then
    file:close()
  end
  return text
end

-- The least of the machine's memory and the limits of the cgroup that this process and the node
-- are in.
local function limit_mb()
  local least = tonumber(read_file("/proc/meminfo"):match("MemTotal:%s*(%d+)")) * 1024
  for _, path in ipairs(node_memory.limit_files(read_file("/proc/self/cgroup") or "")) do
    least = math.min(least, tonumber((read_file(path) or ""):match("^(%d+)")) or math.huge)
  end
  return least / MIB
end

-- Figures that mean the same wherever they are: how the node itself computes each, and by how much
-- it may have changed since.
local SHARED = {
  process_count = { "erlang:system_info(process_count).", 4 },
  process_limit = { "erlang:system_info(process_limit).", 0 },
  port_count = { "erlang:system_info(port_count).", 0 },
  port_limit = { "erlang:system_info(port_limit).", 0 },
  memory_total_mb = { "erlang:memory(total) / 1048576.", 3 },
  memory_processes_mb = { "erlang:memory(processes) / 1048576.", 3 },
  memory_code_mb = { "erlang:memory(code) / 1048576.", 0.5 },
  uptime_s = { "(erlang:monotonic_time() - erlang:system_info(start_time)) / 1.0e9.", 60 },
  mono_ms = { "erlang:monotonic_time(millisecond).", 60000 },
}

local function check_memory(n, data, what)
  local statm = read_file(("/proc/%s/statm"):format(n:eval("list_to_integer(os:getpid()).")))
  local page = n:number("list_to_integer(string:trim(os:cmd(\"getconf PAGESIZE\"))).")
  near(tonumber(statm:match("^%d+ (%d+)")) * page / MIB, data.memory_rss_mb, 6, what .. " rss")
  local limit = limit_mb()
  near(limit, data.memory_limit_mb, 0.01, what .. " limit")
  near(data.memory_rss_mb / limit * 100, data.memory_utilization_pct, 0.006, what .. " share")
  assert.are.equal("rss", data.memory_basis)
end

-- Arguments with which each callback has an answer on the node below.
local function arguments(n)
  return {
    ets_table_info = { { "ac_tab" }, { n:bytes("fl_ets:unnamed(cache, 10, cache_owner).") },
      { "no_such_table" } },
    ports_info = { { n:bytes("fl_ports:cat().") }, { n:bytes("fl_ports:ipv6().") },
      { n:bytes("fl_ports:closed().") } },
    sup_children = { { "shop_sup" }, { "pool" } },
    sup_tree = { { "shop_sup" }, { "pool" }, { "nobody" } },
    sleep = { { 1 } },
  }
end

for kind, is_elixir in pairs({ Erlang = false, Elixir = true }) do
  describe(("all domains on an %s node"):format(kind), function()
    it("agree with the node on what they share, and document what they give",
      support.async(function()
        local n = node.start({ name = "common1", elixir = is_elixir })
        n:eval([[
          fl_sup:start(shop_sup, [{a, worker}, {b, {sup, sub_sup, [{c, worker}]}}]),
          fl_sup:dynamic(pool, 40), fl:procs(300), fl:ports(10), fl:labelled(big, 1000000).]])
        local ctx = beam.attach(n, { gap_ms = 100, parts = PARTS })
        assert(ctx.sweep:once())
        for _, name in ipairs(DOMAINS) do
          local d, data = beam.whole_snapshot(name, ctx)
          beam.check_snapshot(d, data)
          for key, own in pairs(SHARED) do
            if data[key] ~= nil then
              near(n:number(own[1]), data[key], own[2], name .. "." .. key)
            end
          end
          if data.memory_rss_mb then
            check_memory(n, data, name)
          end
        end
        assert.are.equal("", n:log())
      end, 40))

    it("have the time, and the node's name, uptime and system", support.async(function()
      local n = node.start({ name = "common1", elixir = is_elixir })
      local ctx = beam.attach(n, { parts = {} })
      for _, name in ipairs(DOMAINS) do
        local d = beam.domain(name)
        local _, time = assert(d:invoke(ctx, "get_current_time", {}))
        near(n:number("os:system_time(millisecond)."), time.unix_ms, 60000, name .. ": unix_ms")
        assert.are.equal(n:bytes(([==[
          calendar:system_time_to_rfc3339(%d, [{unit, millisecond}, {offset, "Z"}]).]==])
          :format(time.unix_ms)), time.timestamp)
        local _, info = assert(d:invoke(ctx, "get_node_info", {}))
        local family, system = n:eval("os:type()."):match("^{(%w+),(%w+)}$")
        assert.are.same({ n.name, family, system }, { info.node, info.os_type, info.os_name })
        near(n:number("element(1, erlang:statistics(wall_clock)) div 1000."),
          info.uptime_seconds, 60, name .. ": uptime")
      end
    end))

    it("have rules whose investigations run in the sandbox and answer in little",
      support.async(function()
        local n = node.start({ name = "common1", elixir = is_elixir })
        n:eval("fl_sup:start(shop_sup, [{a, worker}]), fl:procs(60), fl_ets:burst(few, 100), "
          .. "fl_ports:sockets(100), fl:selective(orders, 2000).")
        local ctx = beam.attach(n, { gap_ms = 100, parts = PARTS })
        assert(ctx.sweep:once())
        local box = sandbox.new({ pool = 1 })
        support.on_cleanup(function()
          box:close()
        end)
        for _, name in ipairs(DOMAINS) do
          local d = beam.domain(name)
          local e = executor.new({ sandbox = box, domain = d, ctx = ctx, clock = ctx.clock,
            telemetry = telemetry.new(), meta = { watcher = name, domain = name,
              node = ctx.node } })
          for _, rule in ipairs(d.rules) do
            local script = rule.investigate or "return { 'nothing to ask' }"
            local record = e:run(script, { source = "rule",
              args = { subject = "shop_sup", type = rule.type } })
            assert.is_nil(record.error, record.error and rule.type .. record.error.message)
            local size = #assert(json.encode_strict(record.value))
            assert.is_true(size > 10 and size < 6000, ("%s: %d bytes"):format(rule.type, size))
          end
        end
        assert.are.equal("", n:log())
      end, 60))

    it("let no atom grow on the node once they know it", support.async(function()
      local n = node.start({ name = "common1", elixir = is_elixir })
      n:eval("fl_sup:start(shop_sup, [{a, worker}]), fl_sup:dynamic(pool, 40), "
        .. "fl_ports:stuck_sender(sender, 8192), fl_ports:shared(shared, 2).")
      local args, atoms = arguments(n), "erlang:system_info(atom_count)."
      local ctx = beam.attach(n, { gap_ms = 100, parts = PARTS })
      local function round()
        for _, name in ipairs(DOMAINS) do
          local d = beam.domain(name)
          assert(d:snapshot(ctx))
          for _, callback in ipairs(d:callbacks()) do
            for _, list in ipairs(args[callback.name] or { {} }) do
              assert(d:invoke(ctx, callback.name, list))
            end
          end
        end
        assert(ctx.sweep:once())
      end
      assert(ctx.sweep:once())
      round()
      n:number(atoms)
      local before = n:number(atoms)
      for _ = 1, 3 do
        round()
      end
      assert.are.equal(before, n:number(atoms))
      assert.are.equal("", n:log())
    end, 60))

    it("have callbacks that answer as their docs say", support.async(function()
      local n = node.start({ name = "common1", elixir = is_elixir })
      n:eval([[
        fl_sup:start(shop_sup, [{a, worker}, {b, {sup, sub_sup, [{c, worker}]}}]),
        fl_sup:dynamic(pool, 40).]])
      local args = arguments(n)
      local ctx = beam.attach(n, { gap_ms = 100, parts = PARTS })
      assert(ctx.sweep:once())
      local count = 0
      for _, name in ipairs(DOMAINS) do
        local d = beam.domain(name)
        for _, callback in ipairs(d:callbacks()) do
          for _, list in ipairs(args[callback.name] or { {} }) do
            local ok, value, meta = d:invoke(ctx, callback.name, list)
            assert(ok, value)
            beam.check_returns(callback, value)
            if callback.returns.list then
              assert.are.equal(#value, meta.returned, callback.name)
              assert.is_true(meta.total >= #value and meta.took_ms >= 0, callback.name)
              if callback.name:find("_top") then
                assert.matches("^20..%-..%-..T..:..:..%....Z$", meta.sampled_at)
              end
            end
            count = count + 1
          end
        end
      end
      assert.is_true(count > 30, count)
      assert.are.equal("", n:log())
    end, 40))
  end)
end
