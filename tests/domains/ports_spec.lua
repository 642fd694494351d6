local beam = require("support.beam")
local node = require("support.node")
local support = require("support")

for kind, opts in pairs({ Erlang = {}, Elixir = { elixir = true } }) do
  describe(("the ports domain on an %s node"):format(kind), function()
    it("counts ports and file descriptors, and documents its figures", support.async(function()
      local n = node.start({ name = "ports1", elixir = opts.elixir })
      local ctx = beam.attach(n, { parts = { "ports" } })
      local d = beam.domain("ports")
      assert(ctx.sweep:once())
      local data = assert(d:snapshot(ctx))
      assert.are.equal(n:number("erlang:system_info(port_count)."), data.port_count)
      assert.are.equal(n:number("erlang:system_info(port_limit)."), data.port_limit)
      local before = data.fd_count
      n:eval([==[register(files, spawn(fun() ->
        put(files, [element(2, file:open("/dev/null", [read, raw])) || _ <- lists:seq(1, 200)]),
        receive never -> ok end end)), timer:sleep(300).]==])
      local now = assert(d:snapshot(ctx))
      assert.is_true(math.abs(now.fd_count - before - 200) <= 3, now.fd_count - before)
      assert.are.equal(data.port_count, now.port_count)
      local documented = {}
      for _, metric in ipairs(d.metrics) do
        documented[metric.name] = true
      end
      for key in pairs(now) do
        assert.is_true(documented[key], key)
      end
    end))

    it("tells of every port what the node says of it", support.async(function()
      local n = node.start({ name = "ports1", elixir = opts.elixir })
      local ctx = beam.attach(n, { parts = { "ports" } })
      local d = beam.domain("ports")
      n:eval([==[register(cat, spawn(fun() ->
        open_port({spawn, "cat"}, []), receive never -> ok end end)), timer:sleep(300).]==])
      local ok, rows = d:invoke(ctx, "ports_list", {})
      assert(ok, rows)
      assert.are.equal(n:number("length(erlang:ports())."), #rows)
      local cat
      for _, row in ipairs(rows) do
        cat = row.name == "cat" and row or cat
      end
      assert.are.equal(n:number("element(2, erlang:port_info(hd([P || P <- erlang:ports(), "
        .. "{name, \"cat\"} =:= erlang:port_info(P, name)]), os_pid))."), cat.os_pid)
      local found, info = d:invoke(ctx, "ports_info", { cat.id })
      assert(found, info)
      assert.are.same({ "cat", cat.connected_pid, 0 }, { info.name, info.connected_pid,
        info.queue_size })
      for _, callback in ipairs(d:callbacks()) do
        if callback.name:find("^ports_") then
          local called, value = d:invoke(ctx, callback.name,
            callback.name == "ports_info" and { cat.id } or {})
          assert(called, value)
          beam.check_returns(callback, value)
        end
      end
      n:eval("exit(whereis(cat), kill), timer:sleep(200).")
      assert.are.equal("port_not_found", select(2, d:invoke(ctx, "ports_info", { cat.id })).error)
      assert.are.equal("", n:log())
    end))
  end)
end
