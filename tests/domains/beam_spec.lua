local beam = require("support.beam")
local json = require("runtime.json")
local node = require("support.node")
local node_memory = require("domains.node.memory")
local support = require("support")

local MIB = 1024 * 1024

local function near(expected, got, tolerance, what)
  assert(math.abs(expected - got) <= tolerance,
    ("%s: the node says %s, the domain %s"):format(what, expected, got))
end

local function start(opts)
  local n = node.start(opts or { name = "beam1" })
  local ctx = beam.attach(n, { gap_ms = 100 })
  local d = beam.domain("beam")
  local function get(name, ...)
    local ok, value, meta = d:invoke(ctx, name, { ... })
    assert(ok, value)
    return value, meta
  end
  return n, get, d, ctx
end

local function read_file(path)
  local file = io.open(path)
  local text = file and file:read("*a")
  if file then
    file:close()
  end
  return text
end

-- The limit as this machine states it: the specs' node runs in the same cgroup as we do.
local function limit_mb()
  local least = tonumber(read_file("/proc/meminfo"):match("MemTotal:%s*(%d+)")) * 1024
  local found = 0
  for _, path in ipairs(node_memory.limit_files(read_file("/proc/self/cgroup") or "")) do
    local bytes = tonumber((read_file(path) or ""):match("^(%d+)"))
    if bytes then
      least = math.min(least, bytes)
      found = found + 1
    end
  end
  return least / MIB, found
end

-- The figures are compared on both kinds of node.
for _, language in ipairs({ "Erlang", "Elixir" }) do
  local opts = { name = "beam1", elixir = language == "Elixir" }

  describe("the beam domain on an " .. language .. " node", function()
    it("takes a snapshot with figures that are the node's own", support.async(function()
      local n, _, _, ctx = start(opts)
      n:eval("fl:procs(2000), fl:atoms(3000), fl:ports(20).")
      local _, data = beam.whole_snapshot("beam", ctx, "memory_basis")
      local function says(source)
        return n:number(source)
      end
      for key, tolerance in pairs({ process_count = 2, process_limit = 0, port_count = 0,
        port_limit = 0, atom_count = 200, atom_limit = 0, schedulers_online = 0, ets_count = 0 }) do
        near(says(("erlang:system_info(%s)."):format(key)), data[key], tolerance, key)
      end
      for _, kind in ipairs({ "process", "port", "atom" }) do
        near(data[kind .. "_count"] / data[kind .. "_limit"] * 100,
          data[kind .. "_utilization_pct"], 0.006, kind)
      end
      for key, class in pairs({ memory_total_mb = "total", memory_ets_mb = "ets",
        memory_code_mb = "code", memory_binary_mb = "binary" }) do
        near(says(("erlang:memory(%s) / 1048576."):format(class)), data[key], 2, key)
      end
      local statm = read_file(("/proc/%s/statm"):format(
        n:eval("list_to_integer(os:getpid()).")))
      local page = says("list_to_integer(string:trim(os:cmd(\"getconf PAGESIZE\"))).")
      near(tonumber(statm:match("^%d+ (%d+)")) * page / MIB, data.memory_rss_mb, 4, "rss")
      local limit = limit_mb()
      near(limit, data.memory_limit_mb, 0.01, "limit")
      near(data.memory_rss_mb / limit * 100, data.memory_utilization_pct, 0.006, "memory")
      assert.are.equal("rss", data.memory_basis)
      near(says("element(1, erlang:statistics(wall_clock)) / 1000."), data.uptime_s, 60, "uptime")
      near(says("erlang:monotonic_time(millisecond)."), data.mono_ms, 60000, "mono_ms")
      assert.is_true(data.scheduler_run_queue >= 0 and data.dirty_io_run_queue == 0)
    end))

    it("reads memory, counts, atoms, schedulers and persistent terms", support.async(function()
      local n, get = start(opts)
      n:eval([[
        persistent_term:put(fl_term, lists:seq(1, 100000)),
        fl:procs(500), fl:atoms(1000), fl:ports(7),
        fl:labelled(ballast, 4000000), timer:sleep(200),
        [garbage_collect(P) || P <- processes()].]])
      local memory = get("beam_get_memory")
      for _, class in ipairs({ "total", "processes", "processes_used", "system", "binary", "ets",
        "code" }) do
        near(n:number(("erlang:memory(%s) / 1048576."):format(class)), memory[class .. "_mb"], 3,
          class)
      end
      near(memory.total_mb, memory.processes_mb + memory.system_mb, 0.02, "one moment")
      local counts = get("beam_get_processes")
      near(n:number("erlang:system_info(process_count)."), counts.process_count, 2, "processes")
      near(n:number("erlang:system_info(port_count)."), counts.port_count, 0, "ports")
      assert.are.equal(n:number("erlang:system_info(process_limit)."), counts.process_limit)
      assert.are.equal(n:number("erlang:system_info(port_limit)."), counts.port_limit)
      local atoms = get("beam_get_atoms")
      near(n:number("erlang:system_info(atom_count)."), atoms.atom_count, 100, "atoms")
      assert.are.equal(n:number("erlang:system_info(atom_limit)."), atoms.atom_limit)
      near(n:number("erlang:memory(atom) / 1048576."), atoms.atom_mb, 0.02, "atom_mb")
      near(n:number("erlang:memory(atom_used) / 1048576."), atoms.atom_used_mb, 0.02, "atom_used")
      local schedulers = get("beam_get_schedulers")
      for _, key in ipairs({ "schedulers", "schedulers_online", "dirty_cpu_schedulers_online",
        "dirty_io_schedulers" }) do
        assert.are.equal(n:number(("erlang:system_info(%s)."):format(key)), schedulers[key], key)
      end
      local terms = get("beam_get_persistent_terms")
      assert.are.equal(n:number("maps:get(count, persistent_term:info())."), terms.count)
      near(n:number("maps:get(memory, persistent_term:info()) / 1048576."), terms.memory_mb,
        0.01,
        "terms")
    end))

    it("counts who waits for a scheduler, dirty ones too", support.async(function()
      local n, get, d, ctx = start({ name = "beam1", elixir = opts.elixir,
        args = { "+SDcpu", "1:1", "+SDio", "1" } })
      assert(d:snapshot(ctx))
      -- No file can be read once the dirty schedulers are taken.
      n:eval("[code:ensure_loaded(M) || M <- [fl, erts_debug, timer]].")
      n:eval([==[
        fl:spins(40), [spawn(fun() -> erts_debug:dirty_cpu(wait, 30000) end) || _ <- [1, 2, 3, 4]],
        [spawn(fun() -> erts_debug:dirty_io(wait, 30000) end) || _ <- [1, 2, 3, 4, 5]],
        timer:sleep(300).]==])
      local function waiting()
        local cpu, io = n:eval("lists:sublist(lists:reverse("
          .. "erlang:statistics(run_queue_lengths_all)), 2)."):match("^%[(%d+),(%d+)%]$")
        cpu, io = io, cpu -- those of dirty IO are the last
        return n:number("erlang:statistics(run_queue)."), tonumber(cpu), tonumber(io)
      end
      local normal, cpu, io = waiting()
      assert.is_true(normal > 20 and cpu >= 3 and io >= 4, ("%d %d %d"):format(normal, cpu, io))
      local data = assert(d:snapshot(ctx))
      near(normal, data.scheduler_run_queue, 10, "scheduler_run_queue")
      near(cpu, data.dirty_cpu_run_queue, 1, "dirty_cpu_run_queue")
      near(io, data.dirty_io_run_queue, 1, "dirty_io_run_queue")
      normal, cpu, io = waiting()
      local schedulers = get("beam_get_schedulers")
      near(normal, schedulers.run_queue, 10, "run_queue")
      near(cpu, schedulers.dirty_cpu_run_queue, 1, "dirty_cpu_run_queue")
      near(io, schedulers.dirty_io_run_queue, 1, "dirty_io_run_queue")
    end))

    it("knows the node's versions", support.async(function()
      local n, get = start(opts)
      local system = get("beam_get_system")
      assert.are.equal(n.name, system.node)
      assert.are.equal(n:bytes("erlang:system_info(otp_release)."), system.otp_release)
      assert.are.equal(opts.elixir and n:bytes("'Elixir.System':version().") or json.null,
        system.elixir_version)
      assert.are.equal(n:number("erlang:system_info(wordsize)."), system.wordsize)
      assert.are.equal(n:bytes("erlang:system_info(version)."), system.erts_version)
      assert.are.equal(n:number("erlang:system_info(schedulers_online)."),
        system.schedulers_online)
      near(n:number("element(1, erlang:statistics(wall_clock)) div 1000."),
        system.uptime_seconds, 1, "uptime")
      local info = get("get_node_info")
      assert.are.equal(n.name, info.node)
      assert.are.equal("unix", info.os_type)
      assert.are.equal("linux", info.os_name)
    end))

    it("ranks processes by each order, as the node does", support.async(function()
      local n, get = start(opts)
      n:eval([[
        fl:selective('Elixir.Shop.Orders', 20000), fl:selective(second, 3000),
        fl:labelled(<<"big one">>, 3000000), fl:slow_consumer(growing, 1000, 1),
        fl:spin(spinner), fl:procs(100), timer:sleep(300).]])
      local top, meta = get("beam_top_processes", 3, "queue")
      assert.are.equal("message_queue", top.sort_by)
      assert.are.same({ 3, 3, 0 }, { top.showing, top.limit, top.offset })
      assert.are.equal(3, #top.processes)
      assert.are.equal("Shop.Orders", top.processes[1].name)
      assert.are.equal(20000, top.processes[1].message_queue)
      assert.are.equal("second", top.processes[2].name)
      for i, name in ipairs({ "'Elixir.Shop.Orders'", "second" }) do
        local row = top.processes[i]
        local pid, memory, queue, reductions, where, status = n:bytes(([==[
          P = whereis(%s), [M, Q, R, {A, B, C}, S] = [element(2, process_info(P, I))
            || I <- [memory, message_queue_len, reductions, current_function, status]],
          io_lib:format("~p ~b ~b ~b ~s:~s/~b ~p", [P, M, Q, R, A, B, C, S]).]==]):format(name))
          :match("^(%S+) (%d+) (%d+) (%d+) (%S+) (%S+)$")
        assert.are.same({ pid, math.floor(memory / 1024 + 0.5), tonumber(queue), where, status },
          { row.pid, row.memory_kb, row.message_queue, row.current_function, row.status })
        near(tonumber(reductions), row.reductions, 500, "reductions")
        assert.are.equal(0, row.message_queue_per_s)
      end
      near(n:number("erlang:system_info(process_count)."), top.total_processes, 2, "processes")
      assert.are.same({ total = top.total_processes, returned = 3, skipped = 0,
        took_ms = meta.took_ms }, meta)
      assert.matches("^20..%-..%-..T..:..:..%....Z$", top.sampled_at)

      top = get("beam_top_processes")
      assert.are.same({ 10, "memory" }, { top.limit, top.sort_by })
      assert.are.equal("big one", top.processes[1].name)
      for i = 2, #top.processes do
        assert.is_true(top.processes[i - 1].memory_kb >= top.processes[i].memory_kb)
      end
      local function leader(order)
        return get("beam_top_processes", 1, order).processes[1].name
      end
      assert.are.equal("growing", leader("message_queue_per_s"))
      assert.are.equal("spinner", leader("reductions_per_s"))
      assert.are.equal(50, #get("beam_top_processes", 50, "reductions").processes)
    end))
  end)
end

describe("the beam domain's names of Elixir's things", function()
  it("are as Elixir writes them", support.async(function()
    local n, get = start({ name = "beam1", elixir = true })
    n:eval([=[
      {_, _} = 'Elixir.Code':eval_string(<<"
        defmodule Shop.Orders do
          use GenServer
          def init(state), do: {:ok, state}
          def handle_call(:stall, _from, state) do
            receive do
              :never -> {:reply, :ok, state}
            end
          end
        end">>),
      Start = fun(Options) ->
        {ok, Pid} = 'Elixir.GenServer':start('Elixir.Shop.Orders', lists:seq(1, 200000), Options),
        Pid
      end,
      Named = Start([{name, 'Elixir.Shop.Orders'}]),
      Named ! {'$gen_call', {self(), make_ref()}, stall},
      [Named ! N || N <- lists:seq(1, 300)],
      Label = fun(L) ->
        case erlang:function_exported(proc_lib, set_label, 1) of
          true -> proc_lib:set_label(L);
          false -> put('$process_label', L)
        end
      end,
      [spawn(fun() ->
        Label(L), put(ballast, lists:seq(1, 300000)), receive never -> ok end
      end) || L <- [{'Elixir.Shop.Cart', 7}, <<"import">>, 'Elixir.Shop.Stock']],
      Start([]), timer:sleep(300).]=])
    local rows = {}
    for _, row in ipairs(get("beam_top_processes", 50).processes) do
      rows[row.name] = row
      assert.is_nil(row.name:find("Elixir.", 1, true))
      assert.is_nil(tostring(row.current_function):find("Elixir.", 1, true))
    end
    assert.are.equal("Shop.Orders.handle_call/3", rows["Shop.Orders"].current_function)
    assert.are.equal(300, rows["Shop.Orders"].message_queue)
    assert.are.equal(n:eval("pid_to_list(whereis('Elixir.Shop.Orders'))."):match("<[%d.]+>"),
      rows["Shop.Orders"].pid)
    assert.are.equal("gen_server:loop/7", rows["Shop.Orders.init/1"].current_function)
    for _, label in ipairs({ "{Shop.Cart,7}", "import", "Shop.Stock" }) do
      assert.is_truthy(rows[label], label)
    end
    assert.is_truthy(rows["Logger"] or rows["elixir_config"] or rows["Logger.Supervisor"])
  end))
end)

describe("the beam domain", function()
  it("documents each metric of its snapshot, and the six fixed ones are there",
    support.async(function()
      local _, _, d, ctx = start()
      local data = assert(d:snapshot(ctx))
      local documented = {}
      for _, metric in ipairs(d.metrics) do
        documented[metric.name] = true
        assert.is_not_nil(data[metric.name], metric.name)
      end
      for key in pairs(data) do
        assert.is_true(documented[key], key)
      end
      for _, key in ipairs({ "memory_utilization_pct", "process_utilization_pct",
        "port_utilization_pct", "atom_utilization_pct", "scheduler_run_queue",
        "schedulers_online" }) do
        assert.are.equal("number", type(data[key]), key)
      end
    end))

  it("has callbacks whose results have the keys of their docs", support.async(function()
    local _, get, d = start()
    for _, callback in ipairs(d:callbacks()) do
      beam.check_returns(callback, (get(callback.name, callback.name == "sleep" and 1 or nil)))
    end
  end))

  it("refuses wrong arguments with what is allowed", support.async(function()
    local _, _, d, ctx = start()
    local cases = {
      { { 0 }, "argument 1 %(limit%) is 0, a number; allowed: a whole number from 1 to 50" },
      { { 51 }, "is 51, a number" },
      { { "ten" }, 'is "ten", a string' },
      { { 5, "size" }, 'argument 2 %(sort_by%) is "size", a string; allowed: one of "memory", ' },
      { { 5, "memory", 1 }, "argument 3 is one too many" },
    }
    for _, case in ipairs(cases) do
      local ok, err = d:invoke(ctx, "beam_top_processes", case[1])
      assert.is_nil(ok)
      assert.matches("^beam_top_processes: ", err)
      assert.matches(case[2], err)
    end
  end))

  it("has rules whose investigations answer in little", support.async(function()
    local n, get, d = start()
    n:eval("fl:selective(orders, 2000), fl:procs(60).")
    for _, rule in ipairs(d.rules) do
      local env = { ipairs = ipairs, table = table, math = math }
      for _, callback in ipairs(d:callbacks()) do
        env[callback.name] = function(...)
          return get(callback.name, ...)
        end
      end
      local value = assert(load(rule.investigate, rule.type, "t", env))()
      local text = assert(json.encode_strict(value))
      assert.is_true(#text > 100 and #text < 6000, ("%s: %d bytes"):format(rule.type, #text))
    end
  end))

  it("lets no atom grow on the node once it knows it", support.async(function()
    local n, get, d, ctx = start()
    local function round()
      assert(d:snapshot(ctx))
      for _, callback in ipairs(d:callbacks()) do
        if callback.name ~= "sleep" then
          get(callback.name)
        end
      end
      assert(ctx.sweep:once())
    end
    round()
    n:number("erlang:system_info(atom_count).")
    local before = n:number("erlang:system_info(atom_count).")
    for _ = 1, 3 do
      round()
    end
    assert.are.equal(before, n:number("erlang:system_info(atom_count)."))
    assert.are.equal("", n:log())
  end))

  it("works on a node that has run nothing but its own boot", support.async(function()
    local n = node.start({ name = "beam1", control = false })
    local ctx = beam.attach(n, { gap_ms = 100 })
    local d, data = beam.whole_snapshot("beam", ctx, "memory_basis")
    assert.are.equal("rss", data.memory_basis)
    for _, callback in ipairs(d:callbacks()) do
      assert(d:invoke(ctx, callback.name, callback.name == "sleep" and { 1 } or {}))
    end
    assert.are.equal("", n:log())
  end))

  it("gives no share of memory while files cannot be read, and does not insist",
    support.async(function()
      local n, _, d, ctx = start({ name = "beam1", args = { "+SDio", "1" } })
      assert(d:snapshot(ctx))
      local fifo = support.tmp_path("fifo")
      assert(node.run_program("mkfifo", { fifo }) == 0)
      n:eval("erlang:trace_pattern({prim_file, read_file, 1}, true, [call_count]).")
      n:eval(([=[[spawn(fun() -> prim_file:read_file(%q) end) || _ <- [1, 2]],
        receive after 100 -> ok end.]=]):format(require("luv").cwd() .. "/" .. fifo))
      local function late()
        local data = assert(d:snapshot(ctx))
        assert.are.equal(json.null, data.memory_utilization_pct)
        assert.are.equal(json.null, data.memory_rss_mb)
        assert.is_true(data.memory_total_mb > 5)
        assert.is_true(data.dirty_io_run_queue >= 1)
        return n:eval("erlang:trace_info({prim_file, read_file, 1}, call_count).")
      end
      local asked = late()
      assert.is_not_equal("{call_count,0}", asked)
      -- The second time nothing is asked: what hangs there would stay there.
      assert.are.equal(asked, late())
      n:kill("sigkill")
      os.remove(fifo)
    end))
end)

describe("memory limits", function()
  it("are looked for in every cgroup from the node's own up", function()
    assert.are.same({
      "/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/unified/a/b/memory.max",
      "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/unified/a/memory.max",
      "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/unified/memory.max",
    }, node_memory.limit_files("0::/a/b\n"))
    assert.are.same({
      "/sys/fs/cgroup/memory/x/memory.limit_in_bytes",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    }, node_memory.limit_files("5:cpu,cpuacct:/y\n4:memory:/x\n1:name=systemd:/z\n"))
    assert.are.same({ "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/unified/memory.max" },
      node_memory.limit_files("0::/\n"))
    assert.are.same({ "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/unified/memory.max" },
      node_memory.limit_files("0::/../../outside\n"))
    assert.are.same({}, node_memory.limit_files(""))
  end)

  it("fall back on what the virtual machine says where there is no /proc", support.async(function()
    local d = beam.domain("beam")
    local counters = {
      memory = { { "total", 100 * MIB }, { "processes", 0 }, { "binary", 0 }, { "ets", 0 },
        { "code", 0 } },
      mono_ms = 5, start_time = -1000, native_per_s = 1000, process_count = 1, process_limit = 10,
      port_count = 1, port_limit = 10, atom_count = 1, atom_limit = 10, schedulers_online = 1,
      run_queue = 0, run_queues = { 0, 0, 0 }, ets_count = 1,
    }
    local function taken(files)
      local target = {
        eval = function(_, source, bindings)
          if not bindings.Paths then
            return counters
          end
          assert(source:find("prim_file:read_file", 1, true))
          local texts = {}
          for i, path in ipairs(bindings.Paths) do
            texts[i] = files[path] or "undefined"
          end
          return texts
        end,
      }
      return d:snapshot({ target = target, clock = require("runtime.clock").manual() })
    end
    local data = taken({ ["/proc/meminfo"] = "MemTotal:  1024000 kB\nMemFree: 1 kB\n" })
    assert.are.equal("erlang:memory(total)", data.memory_basis)
    assert.are.equal(10, data.memory_utilization_pct)
    data = taken({})
    assert.are.equal(json.null, data.memory_utilization_pct)
    data = taken({
      ["/proc/meminfo"] = "MemTotal:  1024000 kB\n",
      ["/proc/self/cgroup"] = "0::/box/inner\n",
      ["/proc/self/status"] = "Name:\tbeam.smp\nVmRSS:\t   51200 kB\n",
      ["/sys/fs/cgroup/box/memory.max"] = ("%d\n"):format(200 * MIB),
      ["/sys/fs/cgroup/box/inner/memory.max"] = "max\n",
    })
    assert.are.same({ "rss", 50, 200, 25 }, { data.memory_basis, data.memory_rss_mb,
      data.memory_limit_mb, data.memory_utilization_pct })
  end))
end)
