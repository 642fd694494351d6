local async = require("runtime.async")
local dist = require("host.dist")
local fake = require("support.fake")
local node = require("support.node")
local rig = require("support.dist")
local support = require("support")
local uv = require("luv")

local HOUR_MS = 3600000
local OK = fake.packet("sok")

-- A challenge packet of a node with all capabilities.
local function challenge(name, flags)
  return fake.packet("N" .. (flags or "\0\0\0\13\7\255\127\188") .. "\1\2\3\4" .. "\0\0\0\9"
    .. string.char(0, #name) .. name)
end

-- What connecting to a server says: its code, and its text without the code.
local function refusal(opts)
  local all = { node = "t@localhost:" .. (opts.port or 1), cookie = "secret-cookie",
    timeout_ms = support.patience_ms() }
  for key, value in pairs(opts) do
    all[key] = value
  end
  all.port = nil
  local conn, err, code = rig.connect(all)
  assert.is_nil(conn)
  assert.are.equal(code, err:match("^(E%u+): "))
  assert.is_nil(err:find("secret-cookie", 1, true))
  return code, err
end

local function refusal_by(replies)
  return refusal({ port = fake.scripted(replies).port })
end

describe("connecting to a node", function()
  it("finds it by epmd, hidden, and says who it is", support.async(function()
    local n = node.start({ name = "dist1" })
    local conn, info = rig.attach(n)
    assert.are.equal("dist1@localhost", info.node)
    assert.are.equal("beamlens1@localhost", info.own_name)
    assert.are.equal(n:number("erlang:system_info(creation)."), info.creation)
    assert.is_true(info.flags > 2 ^ 32)
    assert.are.equal("[beamlens1@localhost]", n:eval("nodes(hidden)."))
    assert.are.equal("[]", n:eval("nodes()."))
    assert.is_nil(rig.ports(n.epmd_port).beamlens1)

    local stats = conn:stats()
    assert.is_true(stats.sent_bytes > 100 and stats.received_bytes > 100)
    assert.are.equal(0, stats.calls_in_flight)
    conn:close()
    conn:close()
    support.wait_until(function()
      return n:eval("nodes(hidden).") == "[]"
    end)
    assert.are.equal("", n:log())
  end))

  it("needs no epmd when the port is given", support.async(function()
    local n = node.start({ name = "dist1" })
    local port = rig.ports(n.epmd_port).dist1
    local conn = rig.attach(n, { node = n.name .. ":" .. port, epmd_port = 1 })
    assert.are.equal(n.name, rig.call(conn, "erlang", "node"))
  end))

  it("works with long names and with IPv6", support.async(function()
    local n = node.start({ name = "dist1", host = "127.0.0.1", long = true })
    local conn = rig.attach(n, { own_name = "beamlens1@127.0.0.1" })
    assert.are.equal(n.name, rig.call(conn, "erlang", "node"))
    local six = uv.new_tcp()
    support.on_cleanup(function()
      six:close()
    end)
    if not six:bind("::1", 0) then
      pending("no IPv6 here")
    end
    six:listen(1, function() end)
    local port = six:getsockname().port
    assert.are.equal("ETIMEDOUT",
      (refusal({ node = ("t@[::1]:%d"):format(port), timeout_ms = 50 })))
  end))

  it("refuses a node that has another name, and says which", support.async(function()
    local n = node.start({ name = "dist1" })
    local code, err = refusal({ node = "dist1@127.0.0.1", epmd_port = n.epmd_port })
    assert.are.equal("ENAME", code)
    assert.are.equal("ENAME: the node there is named dist1@localhost, not dist1@127.0.0.1; "
      .. "try: --node dist1@localhost", err)
    async.sleep(50)
    assert.are.equal("", n:log())
  end))

  it("says ECOOKIE for another cookie, without the cookie", support.async(function()
    local n = node.start({ name = "dist1" })
    local code, err = refusal({ node = n.name, epmd_port = n.epmd_port })
    assert.are.equal("ECOOKIE", code)
    assert.matches("--cookie-file", err, 1, true)
  end))

  it("says ECOOKIE when the node cannot prove that it has the cookie", support.async(function()
    local n = node.start({ name = "dist1" })
    local proxy = fake.proxy(rig.ports(n.epmd_port).dist1, function(bytes)
      -- The proof is a packet "a" of 17 bytes.
      local at = bytes:find("\0\17a", 1, true)
      return at and bytes:sub(1, at + 2) .. ("x"):rep(16) or bytes
    end)
    local code = refusal({ node = n.name .. ":" .. proxy.port, cookie = n.cookie })
    assert.are.equal("ECOOKIE", code)
  end))

  it("says EALIVE for a name that is taken, and leaves that connection alone",
    support.async(function()
      local n = node.start({ name = "dist1" })
      local first = rig.attach(n)
      local code, err = refusal({ node = n.name, cookie = n.cookie, epmd_port = n.epmd_port })
      assert.are.equal("EALIVE", code)
      assert.matches("--name", err, 1, true)
      assert.are.equal(n.name, rig.call(first, "erlang", "node"))
      local second = rig.attach(n, { own_name = "beamlens2@localhost" })
      assert.are.equal(n.name, rig.call(second, "erlang", "node"))
      assert.are.equal("", n:log())
    end))

  it("says EREFUSED where only others are allowed", support.async(function()
    local n = node.start({ name = "dist1" })
    n:eval("net_kernel:allow(['x@y']).")
    local code, err = refusal({ node = n.name, cookie = n.cookie, epmd_port = n.epmd_port })
    assert.are.equal("EREFUSED", code)
    assert.matches("net_kernel:allow(['beamlens1@localhost'])", err, 1, true)
  end))

  it("says EEPMD, ENODE or EHOST when there is no such node", support.async(function()
    local n = node.start({ name = "dist1" })
    local code, err = refusal({ node = "nobody@localhost", epmd_port = n.epmd_port })
    assert.are.equal("ENODE", code)
    assert.are.equal(("ENODE: epmd at localhost:%d knows no node nobody; it knows: dist1; "
      .. "try: --node dist1@localhost"):format(n.epmd_port), err)
    n:stop()
    support.wait_until(function()
      return next(rig.ports(n.epmd_port)) == nil
    end)
    code, err = refusal({ node = "nobody@localhost", epmd_port = n.epmd_port })
    assert.are.equal("ENODE", code)
    assert.matches("and no other: start the node with a name (erl -sname nobody)", err, 1, true)

    local free = node.free_port()
    code, err = refusal({ node = "nobody@localhost", epmd_port = free })
    assert.are.equal("EEPMD", code)
    assert.matches(("epmd -port %d -names"):format(free), err, 1, true)
    code, err = refusal({ node = "nobody@no-such-host.invalid" })
    assert.are.equal("EHOST", code)
    assert.matches("getent hosts no-such-host.invalid", err, 1, true)
    assert.are.equal("ECONNREFUSED", (refusal({ port = node.free_port() })))
  end))

  it("says ETLS for a node that speaks TLS", support.async(function()
    local n = node.start({ name = "dist1", args = node.tls_args() })
    local code, err = refusal({ node = n.name, cookie = n.cookie, epmd_port = n.epmd_port })
    assert.are.equal("ETLS", code)
    assert.matches("inet_tls", err, 1, true)
  end))

  it("gives up after its time on what never answers", support.async(function()
    local silent = fake.silent().port
    -- A machine that stands still may have its time over before there is a connection.
    local function gives_up(opts, text)
      opts.timeout_ms = 100
      support.wait_until(function()
        local code, err = refusal(opts)
        assert.are.equal("ETIMEDOUT", code)
        return err:find(text, 1, true)
      end, nil, text)
    end
    gives_up({ port = silent }, "did not finish the handshake within 100 ms")
    gives_up({ node = "t@localhost", epmd_port = silent }, "no answer from epmd")
  end))

  it("is not delayed by other nodes that never answer", support.async(function()
    local n = node.start({ name = "dist1" })
    local silent = fake.silent().port
    local waiting = 0
    for i = 1, 50 do
      local conn = dist.connect({ node = ("t%d@localhost:%d"):format(i, silent),
        own_name = "beamlens1@localhost", cookie = "x", timeout_ms = HOUR_MS }, error, error)
      waiting = waiting + 1
      support.on_cleanup(function()
        conn:close()
      end)
    end
    rig.attach(n)
    assert.are.equal(50, waiting)
  end))

  it("can be given up at any step", support.async(function()
    local n = node.start({ name = "dist1" })
    for turns = 0, 12 do
      local conn = dist.connect({ node = n.name, own_name = ("beamlens%d@localhost"):format(turns),
        cookie = n.cookie, epmd_port = n.epmd_port }, function() end, error)
      for _ = 1, turns do
        async.sleep(1)
      end
      conn:close()
      support.wait_until(function()
        return n:eval("nodes(hidden).") == "[]"
      end)
    end
    assert.are.equal("", n:log())
  end))

  it("raises for options that cannot be meant", function()
    local good = { node = "a@b:1", own_name = "c@d", cookie = "x" }
    local function refuses(key, value, text)
      local opts = {}
      for k, v in pairs(good) do
        opts[k] = v
      end
      opts[key] = value
      local ok, err = pcall(dist.connect, opts, print, print)
      assert.is_false(ok)
      assert.matches(text, err, 1, true)
    end
    refuses("node", "nameonly", "name@host")
    refuses("node", "a@b:99999", "name@host")
    refuses("node", "a@[::1", "name@host")
    refuses("node", ("x"):rep(300) .. "@b", "option node")
    refuses("own_name", "nohost@", "own_name")
    refuses("cookie", "", "option cookie")
    refuses("cookie", 7, "option cookie")
    refuses("timeout_ms", 0, "option timeout_ms")
    refuses("epmd_port", "4369", "option epmd_port")
    refuses("speed", 1, "unknown option speed")
  end)
end)

describe("a hostile peer", function()
  it("is refused at each step of the handshake", support.async(function()
    assert.are.equal("EPROTO", (refusal_by({ false })))
    assert.are.equal("EPROTO", (refusal_by({ "HTTP/1.0 400 Bad Request\r\n\r\n" })))
    assert.are.equal("ETLS", (refusal_by({ "\21\3\3\0\2\2\40" })))
    assert.are.equal("EPROTO", (refusal_by({ fake.packet("") })))
    assert.are.equal("EPROTO", (refusal_by({ fake.packet("s") })))
    assert.are.equal("EREFUSED", (refusal_by({ fake.packet("snok") })))
    assert.are.equal("EREFUSED", (refusal_by({ fake.packet("snot_allowed") })))
    assert.are.equal("EALIVE", (refusal_by({ fake.packet("salive") })))
    assert.are.equal("EPROTO", (refusal_by({ fake.packet("snamed:\0\3a@b\0\0\0\1") })))
    assert.are.equal("EPROTO", (refusal_by({ OK .. fake.packet("") })))
    assert.are.equal("EPROTO", (refusal_by({ OK .. fake.packet(("N"):rep(18)) })))
    assert.are.equal("EPROTO", (refusal_by({ OK .. fake.packet("N" .. ("\255"):rep(40)) })))
    assert.are.equal("EOLD", (refusal_by({ OK .. fake.packet("n\0\5" .. ("\0"):rep(30)) })))
    local _, err = refusal_by({ OK .. challenge("evil\n\27[31m@x") })
    assert.matches("ENAME: the node there is named evil??[31m@x, not t@localhost", err, 1, true)
    assert.are.equal("EOLD", (refusal_by({ OK .. challenge("t@localhost", ("\0"):rep(8)) })))
    assert.are.equal("ECOOKIE", (refusal_by({ OK .. challenge("t@localhost"), false })))
    assert.are.equal("ECOOKIE",
      (refusal_by({ OK .. challenge("t@localhost"), fake.packet("a" .. ("x"):rep(16)) })))
    assert.are.equal("EPROTO",
      (refusal_by({ OK .. challenge("t@localhost"), fake.packet("a") })))
  end))

  it("may cut the handshake into single bytes", support.async(function()
    local n = node.start({ name = "dist1" })
    local proxy = fake.proxy(rig.ports(n.epmd_port).dist1, function(bytes, socket)
      for i = 1, #bytes do
        socket:write(bytes:sub(i, i))
      end
    end)
    local conn = rig.attach(n, { node = n.name .. ":" .. proxy.port })
    assert.are.equal(n.name, rig.call(conn, "erlang", "node"))
  end))

  it("is refused as epmd", support.async(function()
    for _, reply in ipairs({ "HTTP/1.0 400\r\n", "\119\0", false, ("x"):rep(100000) }) do
      local port = fake.scripted({ reply, false }).port
      local code = refusal({ node = "t@localhost", epmd_port = port, timeout_ms = 200 })
      assert.is_true(code == "EEPMD" or code == "ETIMEDOUT")
    end
    local old = fake.scripted({ "\119\0\16\0\77\0\0\5\0\5\0\1t\0\0" }).port
    assert.are.equal("EOLD", (refusal({ node = "t@localhost", epmd_port = old })))
  end))

  it("cannot crash a connection with random frames", support.async(function()
    local n = node.start({ name = "dist1" })
    local port = rig.ports(n.epmd_port).dist1
    math.randomseed(7)
    local function junk(size)
      local bytes = {}
      for i = 1, size do
        bytes[i] = string.char(math.random(0, 255))
      end
      return table.concat(bytes)
    end
    local down = 0
    for round = 1, 40 do
      local socket
      local proxy = fake.proxy(port, function(bytes, client)
        socket = client
        return bytes
      end)
      local over
      local conn = rig.attach(n, { node = n.name .. ":" .. proxy.port, on_down = function(_, code)
        over = code
      end, own_name = ("beamlens%d@localhost"):format(round % 16 + 1) })
      rig.call(conn, "erlang", "node")
      local bytes = junk(math.random(1, 200))
      if round % 2 == 0 then
        bytes = fake.frame("p\131\104" .. string.char(math.random(0, 6), 97, math.random(0, 40))
          .. bytes)
      end
      socket:write(bytes)
      socket:shutdown()
      support.wait_until(function()
        return over
      end)
      assert.is_true(over == "EPROTO" or over == "EDOWN")
      down = down + 1
      conn:close()
      proxy.close()
      support.wait_until(function()
        return n:eval("nodes(hidden).") == "[]"
      end)
    end
    assert.are.equal(40, down)
  end))
end)

describe("epmd", function()
  it("lists the names that it knows", support.async(function()
    local n = node.start({ name = "dist1" })
    local ports = rig.ports(n.epmd_port)
    assert.is_true(ports.dist1 > 1024)
    local value, err, code = async.await(support.patience_ms(), function(done)
      dist.epmd_names("127.0.0.1", node.free_port(), done)
    end)
    assert.are.same({ nil, "EEPMD" }, { value, code })
    assert.matches("no epmd at 127.0.0.1:", err, 1, true)
    local request = dist.epmd_names("127.0.0.1", n.epmd_port, error)
    request:cancel()
    request:cancel()
  end))
end)
