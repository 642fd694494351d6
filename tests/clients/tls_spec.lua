-- Clients at a real TLS server on loopback: whose certificate is good, and who gets the request.

local anthropic_server = require("support.anthropic_server")
local clients = require("runtime.clients")
local support = require("support")
local uv = require("luv")

local function sh(command)
  assert(os.execute(command .. " 2>/dev/null") == 0, command)
end

local EC = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"

-- A CA of our own, as a folder's ca.pem and ca.key.
local function make_ca(name)
  local base = support.tmp_path(name)
  sh(("openssl req -x509 %s -days 2 -subj /CN=%s -keyout %s.key -out %s.pem"):format(EC, name, base,
    base))
  return base
end

-- A certificate for a name, signed by the CA.
local function make_certificate(ca, alt_name, days)
  local base = support.tmp_path("server-" .. alt_name:gsub("%W", "_"))
  support.write_file(base .. ".ext", "subjectAltName=" .. alt_name .. "\n")
  sh(("openssl req %s -subj /CN=server -keyout %s.key -out %s.csr"):format(EC, base, base))
  sh(("openssl x509 -req -in %s.csr -CA %s.pem -CAkey %s.key -CAcreateserial -days %d "
    .. "-extfile %s.ext -out %s.pem"):format(base, ca, ca, days or 2, base, base))
  return base
end

-- `openssl s_server`, which writes what it gets to its stdout and sends what it gets on its stdin.
-- Each request is answered with a call. Returns the server: `port`, `got`.
local function start_tls(certificate)
  local probe = anthropic_server.start({})
  local port = probe.port
  probe:stop()
  local message = anthropic_server.stream_text({ id = "m", type = "message", role = "assistant",
    model = "m", stop_reason = "tool_use", usage = { input_tokens = 1, output_tokens = 1 },
    content = { { type = "tool_use", id = "t", name = "wait", input = { ms = 5 } } } })
  local reply = ("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    .. "content-length: %d\r\n\r\n%s"):format(#message, message)
  local server = { port = port, got = "" }
  local stdin, stdout = uv.new_pipe(), uv.new_pipe()
  local handle
  handle = assert(uv.spawn("openssl", {
    args = { "s_server", "-quiet", "-accept", "127.0.0.1:" .. port, "-key", certificate .. ".key",
      "-cert", certificate .. ".pem" },
    stdio = { stdin, stdout, nil },
  }, function()
    handle:close()
    server.ended = true
  end))
  stdout:read_start(function(_, bytes)
    server.got = server.got .. (bytes or "")
    if bytes and bytes:find("}", 1, true) then
      stdin:write(reply)
    end
  end)
  support.on_cleanup(function()
    handle:kill("sigkill")
    support.wait_until(function()
      return server.ended
    end)
    stdin:close()
    stdout:close()
  end)
  support.wait_until(function()
    return os.execute(("openssl s_client -connect 127.0.0.1:%d </dev/null >/dev/null 2>&1")
      :format(port)) == 0
  end, 10000, "openssl s_server")
  return server
end

local function decide(server, ca_file)
  local other = anthropic_server.start({ replies = { { tool = "wait", input = { ms = 7 } } } })
  support.on_cleanup(function()
    other:stop()
  end)
  local registry = assert(clients.new({
    config = { primary = "Main", clients = {
      { name = "Private", provider = "anthropic", retry_policy = "DefaultRetry", options = {
        model = "m", base_url = ("https://%s:%d"):format(server.host or "127.0.0.1", server.port),
        ca_file = ca_file } },
      { name = "Other", provider = "anthropic",
        options = { model = "m", base_url = other.url } },
      { name = "Main", provider = "fallback", options = { strategy = { "Private", "Other" } } },
    } },
    env = function(name)
      return name == "ANTHROPIC_API_KEY" and "sesame-0123456789" or nil
    end,
  }))
  local request = {
    system = "s",
    tools = { { name = "wait", description = "d", schema = { type = "object" } } },
    messages = { { role = "user", text = "u" } },
  }
  local result = assert(registry:decide(nil, request))
  return result, select(4, registry:decide("Private", request))
end

-- The certificate is refused without a retry, nothing is sent, and the next client decides.
local function refuses(server, ca_file, cure)
  local result, detail = decide(server, ca_file)
  assert.are.same({ "Other", 2 }, { result.client, result.attempts })
  assert.are.same({ "connect", "ETLS", false, 1 },
    { detail.kind, detail.provider_code, detail.retryable, detail.attempts })
  assert.is_truthy(detail.message:find(cure or "", 1, true), detail.message)
  assert.is_nil(server.got:find("sesame", 1, true))
  assert.is_nil(server.got:find("POST", 1, true))
end

-- A proxy that connects to the server whatever it is asked for, or refuses. Returns its URL, and
-- what it was sent before.
local function start_proxy(server, refusal)
  local listener, sockets, got = uv.new_tcp(), {}, {}
  support.on_cleanup(function()
    listener:close()
    for _, socket in ipairs(sockets) do
      if not socket:is_closing() then
        socket:close()
      end
    end
  end)
  local function pass_on(from, to)
    from:read_start(function(_, bytes)
      if bytes and not to:is_closing() then
        to:write(bytes)
      elseif not bytes and not to:is_closing() then
        to:close()
      end
    end)
  end
  assert(listener:bind("127.0.0.1", 0))
  assert(listener:listen(4, function()
    local client, upstream = uv.new_tcp(), uv.new_tcp()
    listener:accept(client)
    sockets[#sockets + 1], sockets[#sockets + 2] = client, upstream
    local text = ""
    client:read_start(function(_, bytes)
      text = text .. (bytes or "")
      if not text:find("\r\n\r\n", 1, true) then
        return
      end
      client:read_stop()
      got[#got + 1] = text
      if refusal then
        client:write(refusal)
        return
      end
      upstream:connect("127.0.0.1", server.port, function()
        client:write("HTTP/1.1 200 Connection established\r\n\r\n")
        pass_on(client, upstream)
        pass_on(upstream, client)
      end)
    end)
  end))
  uv.os_setenv("https_proxy", ("http://127.0.0.1:%d"):format(listener:getsockname().port))
  support.on_cleanup(function()
    uv.os_unsetenv("https_proxy")
  end)
  return got
end

describe("a client over TLS", function()
  it("trusts a private CA that its ca_file names", support.async(function()
    local ca = make_ca("ca")
    local server = start_tls(make_certificate(ca, "IP:127.0.0.1"))
    local result = decide(server, ca .. ".pem")
    assert.are.same({ "Private", 5 }, { result.client, result.args.ms })
    assert.is_truthy(server.got:find("sesame-0123456789", 1, true))
  end, 60))

  it("refuses a CA that nobody named, and one that is another's", support.async(function()
    local server = start_tls(make_certificate(make_ca("ca"), "IP:127.0.0.1"))
    refuses(server, nil, "set the client's ca_file")
    refuses(server, make_ca("another") .. ".pem")
  end, 60))

  it("refuses the certificate of another host", support.async(function()
    local ca = make_ca("ca")
    refuses(start_tls(make_certificate(ca, "DNS:other.example")), ca .. ".pem")
  end, 60))

  it("goes through a proxy, which sees the host's name and nothing else", support.async(function()
    local ca = make_ca("ca")
    local server = start_tls(make_certificate(ca, "DNS:model.example"))
    local got = start_proxy(server)
    server.host = "model.example"
    local result = decide(server, ca .. ".pem")
    assert.are.same({ "Private", 5 }, { result.client, result.args.ms })
    assert.is_truthy(server.got:find("sesame-0123456789", 1, true))
    assert.are.equal(1, #got)
    assert.is_truthy(got[1]:find(("^CONNECT model%%.example:%d "):format(server.port)), got[1])
    assert.is_nil(got[1]:find("sesame", 1, true))
  end, 60))

  it("is given up at a proxy that refuses", support.async(function()
    local ca = make_ca("ca")
    local server = start_tls(make_certificate(ca, "DNS:model.example"))
    server.host = "model.example"
    local got = start_proxy(server,
      "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    local result, detail = decide(server, ca .. ".pem")
    assert.are.equal("Other", result.client)
    assert.are.equal("connect", detail.kind)
    assert.is_true(#got >= 1)
    assert.is_nil(server.got:find("sesame", 1, true))
  end, 60))
end)
