-- What people get wrong on the command line of snapshot, exec, domains and doctor, and nodes that
-- are not there: each has its words and its exit status, at once.

local async = require("runtime.async")
local beamlens = require("support.beamlens")
local node = require("support.node")
local support = require("support")
local uv = require("luv")

-- Even on a machine that does much else, and a tenth of what waiting for a node would take.
local SOON_MS = 60000

local function environment(n)
  return { "ERL_EPMD_PORT=" .. n.epmd_port, "BEAMLENS_COOKIE=" .. n.cookie,
    "BEAMLENS_NODE=" .. n.name }
end

-- Runs each { arguments, pattern on stderr } and expects a status, and nothing on stdout.
local function refuse(status, env, cases)
  for _, case in ipairs(cases) do
    local started = async.now_ms()
    local what = table.concat(case[1], " ")
    local got, out, err = beamlens.run(case[1], { env = env, stdin = case.stdin })
    assert.are.same({ what, status, "" }, { what, got, out })
    assert.matches(case[2], err)
    assert.is_nil(err:find("traceback", 1, true), err)
    assert.is_true(async.now_ms() - started < SOON_MS, what)
  end
end

-- Runs a line of the shell, `$0` being the binary. Returns its status and what it wrote.
local function shell(line, n)
  local env = n and environment(n) or {}
  env[#env + 1] = "PATH=" .. os.getenv("PATH")
  env[#env + 1] = "ASAN_OPTIONS=" .. (os.getenv("ASAN_OPTIONS") or "")
  return node.run_program("/bin/sh", { "-c", line, uv.exepath() }, env)
end

-- How many messages came to the node over the present connection of ours.
local function received(n)
  return tonumber(n:eval([[case net_kernel:node_info(beamlens1@localhost, in) of
    {ok, Count} -> Count; _ -> 0 end.]]))
end

-- A script that asks the node again and again, and does so already.
local function start_asking(n)
  support.wait_until(function()
    return received(n) == 0 -- a node that stood still has to see first that another one is gone
  end, 10000)
  local b = beamlens.start({ "exec", "beam", "-e",
    "for _ = 1, 99 do beam_get_memory() sleep(100) end", "--limits", "callbacks=200" },
    { env = environment(n) })
  support.wait_until(function()
    return received(n) > 50
  end, 10000)
  return b
end

describe("a mistake on the command line", function()
  it("is told by status 2, whether or not the node is there", support.async(function()
    local at = { "BEAMLENS_NODE=a@localhost", "BEAMLENS_COOKIE=x" }
    refuse(2, at, {
      { { "snapshot", "none" }, "none has no figures" },
      { { "snapshot", "beam", "gc" }, "name one domain" },
      { { "snapshot", "" }, '"" is not a name' },
      { { "snapshot", "../beam" }, '"../beam" is not a name: use letters' },
      { { "snapshot", "beam", "-x" }, "unknown option %-x" },
      { { "snapshot", "beam", "--timeout", "soon" }, '%-%-timeout: "soon" is not a duration: ' },
      { { "snapshot", "beam", "--timeout", "0" }, '"0" is not a duration' },
      { { "snapshot", "beam", "--timeout", "-1s" }, '"%-1s" is not a duration' },
      { { "snapshot", "beam", "--timeout" }, "%-%-timeout needs a value: %-%-timeout TIME" },
      { { "snapshot", "beam", "--node", "" }, "\"\" is not a node's name; write name@host" },
      { { "snapshot", "beam", "--node", "a@" }, "is not a node's name; write name@host" },
      { { "snapshot", "beam", "--node", "a@b:99999" }, "has no port: one is between 1 and 65535" },
      { { "snapshot", "beam", "--node", "cluster:a@b" }, "looks at one node" },
      { { "snapshot", "beam", "--name", "us" }, '"us" is not a name for a node of our own' },
      { { "snapshot", "beam", "--dir", "/nowhere" }, '%-%-dir: "/nowhere" is no folder' },
      { { "doctor", "beam", "ets" }, 'doctor takes one domain: "ets"' },
      { { "domains", "beam", "ets" }, "name one domain, or none for all" },
      { { "domains", "best" }, 'no domain "best"' },
    })
  end, 40))

  it("of exec is told by status 2, before anything connects", support.async(function()
    local at = { "BEAMLENS_NODE=a@localhost", "BEAMLENS_COOKIE=x" }
    local empty = "the script is empty: beamlens exec DOMAIN %[%-e CODE | FILE | %-%]"
    refuse(2, at, {
      { { "exec" }, "name one domain, or none" },
      { { "exec", "etz", "-e", "return 1" }, 'no domain "etz"; did you mean "ets"%?' },
      { { "exec", "beam", "-e" }, "%-%-eval needs a value" },
      { { "exec", "beam", "-e", "" }, empty },
      { { "exec", "beam", "-e", " \n\t" }, empty },
      { { "exec", "beam" }, empty, stdin = "" },
      { { "exec", "beam", "-" }, empty, stdin = "\n" },
      { { "exec", "beam", "/nowhere.lua" }, "/nowhere.lua: No such file" },
      { { "exec", "beam", "tests" }, "tests: Is a directory" },
      { { "exec", "beam", "-e", "return 1", "x.lua" }, "either %-e CODE or a file" },
      { { "exec", "beam", "-e", "return 1", "--timeout", "x" }, '"x" is not a duration' },
    })
  end, 40))

  it("in a script is told with its line, by status 1", support.async(function()
    refuse(1, {}, {
      { { "exec", "none", "-e", "return (" }, "script:1: unexpected symbol near '<eof>'" },
      { { "exec", "none", "-e", 'local a = 1\nreturn "\255"' }, "the script is not valid UTF%-8" },
      { { "exec", "none", "-" }, "wrong mode", stdin = "\27LJ\2\0" },
      { { "exec", "none", "-e", "error({ a = 1 })" }, '{"a":1}' },
      { { "exec", "none", "-e", "local t\nreturn t.x" }, "script:2: attempt to index local 't'" },
    })
  end, 30))
end)

describe("a node that is not there", function()
  it("is told at once, with what to do", support.async(function()
    local n = node.start({ name = "mistakes1" })
    refuse(1, environment(n), {
      { { "snapshot", "beam", "--node", "absent@localhost" },
        "ENODE: .* knows no node absent; it knows: mistakes1; try: %-%-node mistakes1@localhost" },
      { { "exec", "beam", "-e", "return 1", "--node", "absent@localhost" }, "ENODE: " },
      { { "snapshot", "beam", "--node", "mistakes1@127.0.0.1" },
        "ENAME: the node there is named mistakes1@localhost" },
      { { "snapshot", "beam", "--node", "mistakes1@no.such.host.invalid" }, "EHOST: host no%." },
      { { "snapshot", "beam", "--node", n.name .. ":" .. node.free_port() }, "ECONNREFUSED: " },
      { { "snapshot", "beam", "--cookie-file", "/nowhere" }, "ENOENT: cannot read the cookie " },
      { { "snapshot", "beam", "--timeout", "1ms" },
        "ETIMEDOUT: no connection to mistakes1@localhost within the time; .* %-%-timeout" },
    })
    local status, out = beamlens.run({ "doctor", "--node", n.name .. ":" .. node.free_port() },
      { env = environment(n) })
    assert.are.equal(1, status)
    assert.matches("ok    epmd     is not asked: the node's port is given", out)
    assert.matches("FAIL  attach   ECONNREFUSED", out)
  end, 40))

  it("any more, or stands still, ends a script and a snapshot in time", support.async(function()
    local n = node.start({ name = "mistakes1" })
    local b = start_asking(n)
    n:kill("sigstop")
    assert.are.equal(1, b:wait_exit(20000))
    assert.matches("beam_get_memory: ETIMEDOUT: mistakes1@localhost did not answer", b:stderr())
    refuse(1, environment(n), {
      { { "snapshot", "beam", "--timeout", "1s" }, "ETIMEDOUT: no connection to mistakes1" },
      { { "snapshot", "beam" }, "ETIMEDOUT: .* did not finish the handshake within 5000 ms" },
    })
    n:kill("sigcont")
    b = start_asking(n)
    n:kill("sigkill")
    assert.are.equal(1, b:wait_exit())
    assert.matches("beam_get_memory: EDOWN: .* mistakes1@localhost", b:stderr())
  end, 60))

  it("in time is what --timeout says, for a script, too", support.async(function()
    local n = node.start({ name = "mistakes1" })
    refuse(1, environment(n), {
      { { "exec", "beam", "-e", "sleep(60000)", "--timeout", "4s" },
        "script exceeded its time limit of %d%.%d s %(while waiting for a host function%)" },
    })
  end))
end)

describe("a standard descriptor", function()
  it("that takes nothing makes a command fail", support.async(function()
    local n = node.start({ name = "mistakes1" })
    for _, command in ipairs({ "snapshot beam", 'exec beam -e "return 1"', "domains beam",
      "doctor" }) do
      assert.are.same({ 1, "beamlens: cannot write to stdout: No space left on device\n" },
        { shell(('"$0" %s >/dev/full'):format(command), n) })
    end
  end, 40))

  it("that is closed is no other file's", support.async(function()
    local n = node.start({ name = "mistakes1" })
    assert.are.same({ 1, "beamlens: cannot write to stdout: Bad file descriptor\n" },
      { shell('"$0" snapshot beam >&-', n) })
    assert.are.same({ 1, "" }, { shell('"$0" snapshot beam <&- >&- 2>&-', n) })
    local status, text = shell('"$0" snapshot beam <&- 2>&-', n)
    assert.are.equal(0, status)
    assert.matches('^{"atom_count":', text)
    assert.are.equal(2, (shell('"$0" exec beam <&-', n)))
    -- As in any pipe: who reads has seen enough.
    assert.are.equal(0, (shell('"$0" run watchers/beam.lua >&-', n)))
    assert.are.equal("0\n", select(2, shell('{ "$0" snapshot beam; echo $? >&2; } | true', n)))
  end, 40))
end)
