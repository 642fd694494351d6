-- The control socket against clients that behave, and against those that do not.

local async = require("runtime.async")
local client = require("runtime.control.client")
local control = require("support.control")
local control_server = require("runtime.control.server")
local json = require("runtime.json")
local process = require("host.process")
local support = require("support")
local uv = require("luv")

local function echo(request)
  return { said = request.say }
end

local function open(answer, opts)
  opts = opts or {}
  local told = {}
  local server = assert(control_server.open({
    answer = answer or echo, folders = opts.folders or { control.folder() },
    patience_ms = opts.patience_ms,
    warn = function(text)
      told[#told + 1] = text
    end,
  }))
  support.on_cleanup(function()
    server:close()
  end)
  return server, told
end

local function ask(server, say)
  return client.ask(server.path, { command = "echo", say = say }, 15000)
end

local function line_of(request)
  request.v = 1
  return json.encode(request) .. "\n"
end

local function mode(path)
  return bit.band(assert(uv.fs_lstat(path)).mode, 511)
end

describe("the control socket", function()
  it("is the owner's alone, is named after the process, and goes with the server", support.async(
    function()
      local folder = control.folder() .. "/own"
      local server = open(nil, { folders = { folder } })
      assert.are.equal(("%s/%d.sock"):format(folder, uv.os_getpid()), server.path)
      assert.are.equal(448, mode(folder))
      assert.are.equal(384, mode(server.path))
      server:close()
      server:close()
      assert.is_nil((uv.fs_lstat(server.path)))
    end))

  it("takes the first folder that can be used, and says when none can", support.async(function()
    local folder = control.folder()
    local server = open(nil,
      { folders = { "/proc/none", folder .. "/" .. ("x"):rep(100), folder } })
    assert.are.equal(folder, server.path:match("^(.*)/"))
    local none, err = control_server.open({ answer = echo, warn = error,
      folders = { "/proc/none" } })
    assert.is_nil(none)
    assert.matches("^/proc/none: E", err)
  end))

  it("takes away the sockets of hosts that are no more, and its own of before", support.async(
    function()
      local folder = control.folder()
      local own = ("%s/%d.sock"):format(folder, uv.os_getpid())
      for _, path in ipairs({ folder .. "/4194305.sock", folder .. "/1.sock", own }) do
        support.write_file(path, "")
      end
      local server = open(nil, { folders = { folder } })
      assert.is_nil((uv.fs_lstat(folder .. "/4194305.sock")))
      assert.is_table((uv.fs_lstat(folder .. "/1.sock")))
      assert.are.same({ said = "hi" }, (ask(server, "hi")))
    end))

  it("answers again and again, also what came all at once or in pieces", support.async(function()
    local server = open()
    local c = control.connect(server.path):read()
    for i = 1, 3 do
      c:send(line_of({ command = "echo", say = i }))
      assert.are.equal(i, json.decode(c:line()).result.said)
    end
    local text = {}
    for i = 1, 200 do
      text[i] = line_of({ command = "echo", say = i })
    end
    c:send(table.concat(text))
    for i = 1, 200 do
      assert.are.equal(i, json.decode(c:line()).result.said)
    end
    for byte in line_of({ command = "echo", say = "slow" }):gmatch(".") do
      c:send(byte)
      async.sleep(0)
    end
    c:send("\n")
    assert.are.equal("slow", json.decode(c:line()).result.said)
  end))

  it("tells what the host refuses, with its code, and survives what it raises", support.async(
    function()
      local server, told = open(function(request)
        if request.say == "raise" then
          error("secret thoughts")
        end
        return nil, "ENOPE: not now", "ENOPE"
      end)
      local result, err, code = ask(server)
      assert.are.same({ nil, "not now", "ENOPE" }, { result, err, code })
      result, err, code = ask(server, "raise")
      assert.are.same({ nil, "the host failed to answer", "EINTERNAL" }, { result, err, code })
      assert.matches("secret thoughts", told[1])
      assert.are.equal(1, #told)
    end))

  it("answers a request that is none with what is wrong, and goes on", support.async(function()
    local server = open()
    local c = control.connect(server.path):read()
    local wrong = {
      [""] = "EREQUEST", ["{"] = "EREQUEST", ["[]"] = "EVERSION", ["[1]"] = "EREQUEST",
      ["null"] = "EREQUEST", ['"status"'] = "EREQUEST", ["{}"] = "EVERSION",
      ['{"v":2,"command":"echo"}'] = "EVERSION", ['{"v":1}'] = "EREQUEST",
      ['{"v":1,"command":7}'] = "EREQUEST", [("["):rep(5000)] = "EREQUEST",
      [('{"a":'):rep(1000)] = "EREQUEST", ["\0\1\2\255"] = "EREQUEST",
      ["GET / HTTP/1.1\r"] = "EREQUEST",
    }
    for line, code in pairs(wrong) do
      c:send(line .. "\n")
      local answer = json.decode(c:line())
      assert.is_false(answer.ok, line)
      assert.are.equal(code, answer.code, line)
      assert.are.equal(1, answer.v)
    end
    assert.are.same({ said = "still" }, (ask(server, "still")))
  end))

  it("survives any bytes", support.async(function()
    local server, told = open()
    for round = 1, 60 do
      local c = control.connect(server.path):read()
      c:send(uv.random(1 + round * 37))
      c:send("\n" .. line_of({ command = "echo", say = round }))
      support.wait_until(function()
        return c.text:find('"said":' .. round, 1, true)
      end, 15000, "an answer after noise")
      c:close()
    end
    assert.are.same({}, told)
  end))

  it("closes the connection of who sends more than 64 KiB without an end, and only that one",
    support.async(function()
      local server = open()
      local polite = control.connect(server.path):read()
      local loud = control.connect(server.path):read()
      loud:send(("x"):rep(1024 * 1024))
      assert.are.equal("ETOOBIG", json.decode(loud:line()).code)
      loud:wait_over()
      local long = control.connect(server.path):read()
      long:send(("x"):rep(70000) .. "\n")
      assert.are.equal("ETOOBIG", json.decode(long:line()).code)
      polite:send(line_of({ command = "echo", say = ("y"):rep(60000) }))
      assert.are.equal(60000, #json.decode(polite:line()).result.said)
    end))

  it("lets 16 ask at once, refuses the next one, and has room again when one leaves",
    support.async(function()
      local server = open()
      local clients = {}
      for i = 1, 16 do
        clients[i] = control.connect(server.path):read()
        clients[i]:send(line_of({ command = "echo", say = i }))
        assert.are.equal(i, json.decode(clients[i]:line()).result.said)
      end
      local one_more = control.connect(server.path):read()
      assert.are.equal("EBUSY", json.decode(one_more:line()).code)
      one_more:wait_over()
      clients[3]:close()
      support.wait_until(function()
        return server.count == 15
      end, 15000, "the server to see a client leave")
      assert.are.same({ said = "back" }, (ask(server, "back")))
    end))

  it("closes a connection that brings no whole request in time", support.async(function()
    local server = open(nil, { patience_ms = 50 })
    local silent = control.connect(server.path):read()
    local half = control.connect(server.path):read():send('{"v":1')
    silent:wait_over()
    half:wait_over()
    assert.are.equal("", silent.text .. half.text)
  end))

  it("lets nobody wait for a client that takes no answer, and closes that one", support.async(
    function()
      local server = open(function(request)
        return { said = request.say == "much" and ("z"):rep(2 * 1024 * 1024) or request.say }
      end, { patience_ms = 3000 })
      local deaf = control.connect(server.path)
      deaf:send(line_of({ command = "echo", say = "much" }))
      assert.are.same({ said = "other" }, (ask(server, "other")))
      support.wait_until(function()
        return server.count == 0
      end, 15000, "the server to give the client up")
    end))

  it("ends connections when it is closed, also one whose request runs", support.async(function()
    local began
    local server = open(function()
      began = true
      async.sleep(60000)
    end)
    local c = control.connect(server.path):read()
    c:send(line_of({ command = "echo" }))
    support.wait_until(function()
      return began
    end, 15000, "the request to run")
    server:close()
    c:wait_over()
  end))

  it("answers its own user and root, nobody else", support.async(function()
    if process.uid() ~= 0 then
      pending("only root can become another user")
      return
    end
    local folder = control.folder()
    -- A copy, where the other user can reach it.
    assert(uv.fs_copyfile(uv.exepath(), folder .. "/beamlens"))
    local server = open(nil, { folders = { folder } })
    assert(uv.fs_chmod(folder, 493))
    assert(uv.fs_chmod(server.path, 511))
    local function ask_as(uid)
      local status = async.await(support.patience_ms(), function(done)
        local handle
        handle = assert(uv.spawn(folder .. "/beamlens", { uid = uid, gid = uid,
          args = { "reload", "--socket", server.path },
          env = { "ASAN_OPTIONS=" .. (os.getenv("ASAN_OPTIONS") or "") } }, function(code)
          handle:close()
          done(code)
        end))
        return function()
          handle:kill("sigkill")
        end
      end)
      return status
    end
    assert.are.equal(0, ask_as(0))
    assert.are.equal(1, ask_as(65534))
  end, 130))
end)
