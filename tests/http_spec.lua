local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local ffi = require("ffi")
local http = require("runtime.http")
local native = require("host.http")
local support = require("support")
local uv = require("luv")

-- Runs `body(server)` with a server of these replies, and stops it whatever happens.
local function with_server(opts, body)
  return support.async(function()
    local server = anthropic_server.start(opts)
    local ok, err = async.pcall(body, server)
    server:stop()
    if not ok then
      error(err, 0)
    end
  end)
end

ffi.cdef("int ioctl(int fd, unsigned long request, ...);")
local FIONREAD = 0x541B

local function unread_bytes(socket)
  local count = ffi.new("int[1]")
  assert(ffi.C.ioctl(socket:fileno(), FIONREAD, count) == 0)
  return count[0]
end

local function ok_body(text, headers)
  return { body = text, headers = headers }
end

describe("http.request", function()
  it("returns status, headers by lower-case name and body", with_server({
    replies = { { status = 418, body = "short", headers = { ["X-Pot"] = "tea" } } },
  }, function(server)
    local answer = assert(http.request({ url = server.url .. "/a?b=c" }))
    assert.are.equal(418, answer.status)
    assert.are.equal("tea", answer.headers["x-pot"])
    assert.are.equal("short", answer.body)
    assert.is_true(answer.total_ms > 0 and answer.connect_ms > 0)
    assert.are.equal("GET", server.requests[1].method)
    assert.are.equal("/a?b=c", server.requests[1].path)
  end))

  it("sends method, headers and body as given, and no header of its own making", with_server({
    replies = { ok_body("") },
  }, function(server)
    local body = ("x"):rep(2 * 1024 * 1024)
    assert(http.request({ url = server.url, body = body, headers = { "X-Api-Key: k1" } }))
    local request = server.requests[1]
    assert.are.equal("POST", request.method)
    assert.are.equal("k1", request.headers["x-api-key"])
    assert.are.equal(body, request.text)
    assert.is_nil(request.headers.expect)
    assert.is_nil(request.headers["content-type"])
    assert.is_truthy(request.headers["user-agent"]:find("^beamlens/"))
  end))

  it("sends a body in pieces as one", with_server({
    replies = { ok_body(""), ok_body("") },
  }, function(server)
    local piece = ("y"):rep(100000)
    assert(http.request({ url = server.url, body = { "a", piece, "", "z\0" } }))
    assert.are.equal("a" .. piece .. "z\0", server.requests[1].text)
    assert(http.request({ url = server.url, body = {} }))
    assert.are.equal("POST", server.requests[2].method)
    assert.are.equal("", server.requests[2].text)
    assert.has_error(function()
      http.request({ url = server.url, body = { "a", 1 } })
    end, "piece 2 of body must be a string, not a number")
    assert.has_error(function()
      http.request({ url = server.url, body = 1 })
    end, "body must be a string or a list of strings, not a number")
  end))

  it("keeps nothing of a request for the next one", with_server({
    on_request = function()
      return ok_body("", { ["X-Mark"] = "m" })
    end,
  }, function(server)
    local cases = {
      { body = "abc", headers = { "X-One: 1" } }, {}, { method = "HEAD" }, { body = "de" },
      { method = "PUT", body = "f" }, {}, { method = "POST" }, { method = "DELETE" },
    }
    for i, case in ipairs(cases) do
      case.url = ("%s/%d"):format(server.url, i)
      assert.are.equal("m", assert(http.request(case)).headers["x-mark"])
      local request = server.requests[i]
      assert.are.equal("/" .. i, request.path)
      assert.are.equal(case.method or case.body and "POST" or "GET", request.method)
      assert.are.equal(case.body or "", request.text)
      assert.are.equal(i == 1 and "1" or nil, request.headers["x-one"])
    end
    assert.are.equal(1, server.connections)
  end))

  it("sends name and password of an address, or of a proxy, with no other request", with_server({
    on_request = function()
      return ok_body("")
    end,
  }, function(server)
    local named = server.url:gsub("//", "//user:word@")
    local function ask(url, proxy)
      support.on_cleanup(function()
        uv.os_unsetenv("http_proxy")
      end)
      uv.os_setenv("http_proxy", proxy or "")
      assert(http.request({ url = url, body = "x" }))
      local headers = server.requests[#server.requests].headers
      return headers.authorization ~= nil, headers["proxy-authorization"] ~= nil
    end
    for _ = 1, 2 do
      assert.are.same({ true, false }, { ask(named) })
      assert.are.same({ false, false }, { ask(server.url) })
      assert.are.same({ false, true }, { ask("http://240.0.0.7:1/", named) }) -- of no network
      assert.are.same({ false, false }, { ask("http://240.0.0.7:1/", server.url) })
    end
  end))

  it("hands headers and body over as they come", with_server({
    replies = { { body = ("0123456789"):rep(50), chunk_bytes = 7 } },
  }, function(server)
    local log, pieces = {}, {}
    local answer = assert(http.request({
      url = server.url,
      on_headers = function(status)
        log[#log + 1] = status
      end,
      on_data = function(bytes)
        log[1] = log[1] or "data before headers"
        pieces[#pieces + 1] = bytes
      end,
    }))
    assert.are.same({ 200 }, log)
    assert.are.equal(("0123456789"):rep(50), table.concat(pieces))
    assert.is_nil(answer.body)
  end))

  it("skips interim answers and joins repeated headers", with_server({
    replies = { { raw = "HTTP/1.1 100 Continue\r\nx-a: 0\r\n\r\nHTTP/1.1 200 OK\r\nX-A: 1\r\n"
      .. "x-a:  2 \r\ncontent-length: 2\r\n\r\nok" } },
  }, function(server)
    local answer = assert(http.request({ url = server.url }))
    assert.are.equal("1, 2", answer.headers["x-a"])
    assert.are.equal("ok", answer.body)
  end))

  it("uses an open connection again", with_server({
    replies = { ok_body("1"), ok_body("2") },
  }, function(server)
    assert(http.request({ url = server.url }))
    local answer = assert(http.request({ url = server.url }))
    assert.are.equal("2", answer.body)
    assert.are.equal(1, server.connections)
    assert.are.equal(0, answer.connect_ms)
  end))

  it("makes a new connection when the server has closed the open one", with_server({
    replies = { ok_body("1"), ok_body("2") },
  }, function(server)
    assert(http.request({ url = server.url }))
    for connection in pairs(server.open) do
      server:close(connection)
    end
    assert.are.equal("2", assert(http.request({ url = server.url, body = "x" })).body)
    assert.are.equal(2, server.connections)
  end))

  it("bears that a server closes an open connection while others are in use", with_server({
    on_request = function(request)
      return { body = request.path, delay_ms = request.path == "/long" and 60000 or 0 }
    end,
  }, function(server)
    local long = async.spawn(function()
      return http.request({ url = server.url .. "/long" })
    end)
    support.wait_until(function()
      return #server.requests == 1
    end)
    local kept = {} -- the long request's connection, and its timer
    for handle in pairs(server.open) do
      kept[handle] = true
    end
    assert.are.equal("/a", assert(http.request({ url = server.url .. "/a" })).body)
    for handle in pairs(server.open) do
      if not kept[handle] then
        server:close(handle)
      end
    end
    assert.are.equal("/b", assert(http.request({ url = server.url .. "/b" })).body)
    assert.are.equal(3, server.connections)
    assert.is_nil(long.done)
    long:cancel()
  end))

  it("does not follow a redirect, which would carry the key away", with_server({
    replies = { { status = 302, body = "", headers = { location = "http://127.0.0.1:1/" } } },
  }, function(server)
    assert.are.equal(302, assert(http.request({ url = server.url })).status)
    assert.are.equal(1, #server.requests)
  end))

  it("ignores a proxy of the environment for loopback", with_server({
    replies = { ok_body("direct") },
  }, function(server)
    uv.os_setenv("http_proxy", "http://127.0.0.1:1")
    local answer, err = http.request({ url = server.url })
    uv.os_unsetenv("http_proxy")
    assert.are.equal("direct", assert(answer, err).body)
  end))

  it("ignores a proxy of the environment for servers of the machine", support.async(function()
    uv.os_setenv("http_proxy", "http://127.0.0.1:1")
    local _, _, code = http.request({ url = "http://metadata.google.internal/" })
    local _, _, other = http.request({ url = "http://name.invalid/" })
    uv.os_unsetenv("http_proxy")
    -- The proxy, which is not there, would be ECONNECT.
    assert.are_not.equal("ECONNECT", code)
    assert.are.equal("ECONNECT", other)
  end))

  it("runs many requests at once", with_server({
    on_request = function(request)
      return { body = request.path, delay_ms = 50 }
    end,
  }, function(server)
    local tasks = {}
    for i = 1, 20 do
      tasks[i] = async.spawn(function()
        return http.request({ url = server.url .. "/" .. i })
      end)
    end
    for i = 1, 20 do
      local _, answer, err = tasks[i]:join()
      assert.are.equal("/" .. i, assert(answer, err).body)
    end
  end))

  it("may be called again from its own callback", with_server({
    replies = { ok_body("1"), ok_body("2") },
  }, function(server)
    local answer = async.await(support.patience_ms(), function(done)
      native.request({ url = server.url }, function()
        native.request({ url = server.url }, done)
      end)
    end)
    assert.are.equal("2", answer.body)
  end))

  it("ignores a proxy for what no_proxy names", with_server({
    on_request = function(request)
      return { body = "to " .. request.path }
    end,
  }, function(server)
    uv.os_setenv("http_proxy", server.url)
    support.on_cleanup(function()
      uv.os_unsetenv("http_proxy")
      uv.os_unsetenv("no_proxy")
    end)
    local url = "http://240.0.0.7:1/" -- of no network
    for _, case in ipairs({
      { "", true }, { "240.0.0.8,example.com", true }, { "240.0.1.0/24", true },
      { "0.0.7", true }, { "240.0.0.7", false }, { "a, 240.0.0.0/24", false },
      { "240.1.0.0/15", false }, { "*", false },
    }) do
      uv.os_setenv("no_proxy", case[1])
      local answer = http.request({ url = url, timeout_ms = case[2] and 20000 or 300 })
      assert.are.equal(case[2], answer ~= nil and answer.body == "to " .. url, case[1])
    end
    -- A name behind the proxy is the proxy's to find.
    uv.os_setenv("no_proxy", "example,.sub.invalid")
    for _, host in ipairs({ "a.invalid", "sub.invalid.test", "xsub.invalid" }) do
      local named = ("http://%s/"):format(host)
      assert.are.equal("to " .. named, assert(http.request({ url = named })).body)
    end
    for _, host in ipairs({ "sub.invalid", "a.sub.invalid", "A.SUB.INVALID." }) do
      local named = ("http://%s/"):format(host)
      local answer = http.request({ url = named, timeout_ms = 300 })
      assert.is_false(answer ~= nil and answer.body == "to " .. named)
    end
  end))

  it("reads what a server has said before it resets the connection", support.async(function()
    local listener, client = uv.new_tcp(), nil
    support.on_cleanup(function()
      listener:close()
    end)
    assert(listener:bind("127.0.0.1", 0))
    assert(listener:listen(4, function()
      client = uv.new_tcp()
      listener:accept(client)
    end))
    local url = ("http://127.0.0.1:%d/"):format(listener:getsockname().port)
    local task = async.spawn(function()
      return http.request({ url = url, body = ("x"):rep(1000) })
    end)
    -- What has come and is not read when the socket closes, resets it.
    support.wait_until(function()
      return client and unread_bytes(client) > 1000
    end)
    client:try_write("HTTP/1.1 413 Too Much\r\ncontent-length: 3\r\n\r\nno!")
    client:close()
    local _, answer, err = task:join()
    assert.are.equal(413, assert(answer, err).status)
    assert.are.equal("no!", answer.body)
  end))

  describe("fails with", function()
    it("ECONNECT where nobody listens", support.async(function()
      local server = anthropic_server.start({})
      server:stop()
      local answer, err, code = http.request({ url = server.url })
      assert.is_nil(answer)
      assert.are.equal("ECONNECT", code)
      assert.is_truthy(err:find("^ECONNECT: "))
    end))

    it("EHTTP for what is no URL of http or https", support.async(function()
      assert.are.equal("EHTTP", select(3, http.request({ url = "ftp://127.0.0.1/x" })))
      assert.are.equal("EHTTP", select(3, http.request({ url = "http://:0:0/" })))
    end))

    it("ETIMEDOUT when the server is silent for the idle time", with_server({
      replies = { { body = "half", headers = { ["content-length"] = 9 } } },
    }, function(server)
      local _, err, code = http.request({ url = server.url, idle_timeout_ms = 120 })
      assert.are.equal("ETIMEDOUT", code)
      assert.are.equal("ETIMEDOUT: the server sent nothing for 120 ms", err)
    end))

    it("ETIMEDOUT when the whole takes too long, although bytes keep coming", with_server({
      on_request = function()
        return { hang = true }
      end,
    }, function(server)
      local _, err, code = http.request({ url = server.url, timeout_ms = 80 })
      assert.are.equal("ETIMEDOUT", code)
      assert.are.equal("ETIMEDOUT: the request took longer than 80 ms", err)
    end))

    it("ETIMEDOUT when no connection stands in time", with_server({}, function(server)
      -- The server accepts, but never says its part of the TLS handshake.
      local url = server.url:gsub("http:", "https:")
      local _, _, code = http.request({ url = url, connect_timeout_ms = 100 })
      assert.are.equal("ETIMEDOUT", code)
    end))

    it("ECUT when the connection ends before the body does", with_server({
      replies = { { raw = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc" } },
    }, function(server)
      assert.are.equal("ECUT", select(3, http.request({ url = server.url })))
    end))

    it("ECUT when a chunked body has no end", with_server({
      replies = { { cut = true, body = ("x"):rep(500), chunk_bytes = 100 } },
    }, function(server)
      assert.are.equal("ECUT", select(3, http.request({ url = server.url })))
    end))

    it("ECUT when the connection ends without an answer", with_server({
      replies = { { raw = "" } },
    }, function(server)
      assert.are.equal("ECUT", select(3, http.request({ url = server.url })))
    end))

    it("ETOOBIG when the body is longer than allowed", with_server({
      replies = { ok_body(("x"):rep(1001)), ok_body(("x"):rep(1000)) },
    }, function(server)
      local _, err, code = http.request({ url = server.url, max_body_bytes = 1000 })
      assert.are.equal("ETOOBIG", code)
      assert.are.equal("ETOOBIG: the answer has more than 1000 bytes", err)
      assert.is_truthy(http.request({ url = server.url, max_body_bytes = 1000 }))
    end))

    it("ETLS when the server speaks no TLS", with_server({
      replies = { { raw = "no TLS here\r\n" } },
    }, function(server)
      server.on_request = nil
      local url = server.url:gsub("http:", "https:")
      server.take = function(self, client)
        client:write("plain text, no TLS\r\n")
        self.take = nil
        return ""
      end
      assert.are.equal("ETLS", select(3, http.request({ url = url })))
    end))
  end)

  it("ends early and well when the receiver has enough", with_server({
    replies = { { body = "all there is", headers = { ["content-length"] = 99 } } },
  }, function(server)
    local answer = assert(http.request({
      url = server.url,
      on_data = function()
        return false
      end,
    }))
    assert.are.equal(200, answer.status)
  end))

  it("calls nothing after a cancel, and closes the connection", with_server({
    replies = { { hang = true } },
  }, function(server)
    local called = false
    local req = native.request({ url = server.url }, function()
      called = true
    end)
    support.wait_until(function()
      return #server.requests == 1
    end)
    req:cancel()
    req:cancel()
    support.wait_until(function()
      return next(server.open) == nil
    end, 10000, "the server to see the end of the connection")
    assert.is_false(called)
  end))

  it("may be cancelled from its own on_data", with_server({
    replies = { { body = ("x"):rep(5000), chunk_bytes = 500 } },
  }, function(server)
    local req, called = nil, 0
    req = native.request({
      url = server.url,
      on_data = function()
        called = called + 1
        req:cancel()
      end,
    }, function()
      called = 100
    end)
    support.wait_until(function()
      return called > 0 and next(server.open) == nil
    end)
    assert.are.equal(1, called)
  end))

  it("goes with the task that waits for it", with_server({
    replies = { { hang = true } },
  }, function(server)
    local task = async.spawn(function()
      http.request({ url = server.url })
    end)
    support.wait_until(function()
      return #server.requests == 1
    end)
    task:cancel()
    support.wait_until(function()
      return next(server.open) == nil
    end)
  end))

  it("refuses misuse without showing a header's text", function()
    local function misuse(opts)
      local ok, err = pcall(native.request, opts, function() end)
      assert.is_false(ok)
      return err
    end
    local secret = misuse({ url = "http://a", headers = { "x-api-key: sesame\nx: y" } })
    assert.are.equal("header 1 is not \"Name: value\" on one line", secret)
    assert.is_nil(misuse({ url = "http://a", headers = { "sesame" } }):find("sesame"))
    assert.are.equal("unknown option uri", misuse({ uri = "http://a" }))
    assert.is_truthy(misuse({}):find("url is missing"))
    assert.is_truthy(misuse({ url = "http://a", timeout_ms = -1 }):find("timeout_ms"))
    assert.is_truthy(misuse({ url = "http://a", method = "GET\r\nx" }):find("method"))
    assert.is_truthy(misuse({ url = "http://a\0b" }):find("zero byte"))
  end)

  it("loads libcurl only for the first request", support.async(function()
    local path = support.write_file(support.tmp_path("lazy.lua"), [[
      local function mapped()
        local file = io.open("/proc/self/maps")
        local text = file:read("*a")
        file:close()
        return text:find("libcurl", 1, true) ~= nil
      end
      local native = require("host.http")
      local before = mapped()
      native.request({ url = "http://127.0.0.1:1" }, function() end)
      require("luv").run()
      print(before, mapped(), native.loaded():match("^libcurl"))
    ]])
    local pipe = io.popen(("%s lua %s"):format(uv.exepath(), path))
    assert.are.equal("false\ttrue\tlibcurl", pipe:read("*l"))
    pipe:close()
  end))
end)

describe("http.request with TLS", function()
  local key = support.tmp_path("key.pem")
  local certificate = support.tmp_path("cert.pem")
  local child, port

  -- `openssl s_server` prints the port that it listens on.
  local function start_server()
    assert(os.execute(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
      .. "-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 "
      .. "-keyout %s -out %s 2>/dev/null"):format(key, certificate)) == 0)
    local out = uv.new_pipe()
    child = { pipe = out }
    child.handle = uv.spawn("openssl", {
      args = { "s_server", "-accept", "127.0.0.1:0", "-www", "-key", key, "-cert", certificate },
      stdio = { nil, out, nil },
    }, function()
      child.ended = true
      child.handle:close()
    end)
    local text = ""
    out:read_start(function(_, bytes)
      text = text .. (bytes or "")
      port = port or text:match("ACCEPT [%d.]+:(%d+)")
    end)
    support.wait_until(function()
      return port
    end)
  end

  it("trusts the certificates it is told to, and no other", support.async(function()
    start_server()
    local url = ("https://127.0.0.1:%s/"):format(port)
    local refused, err, code = http.request({ url = url })
    local answer, trust_err = http.request({ url = url, ca_file = certificate })
    child.handle:kill("sigkill")
    support.wait_until(function()
      return child.ended
    end)
    child.pipe:close()
    assert.is_nil(refused)
    assert.are.equal("ETLS", code)
    assert.is_truthy(err:find("certificate"))
    assert.are.equal(200, assert(answer, trust_err).status)
  end))
end)
