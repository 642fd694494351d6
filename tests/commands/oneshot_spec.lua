-- beamlens snapshot, exec, domains and doctor, run as people run them.

local beamlens = require("support.beamlens")
local json = require("runtime.json")
local node = require("support.node")
local support = require("support")

local function environment(n, cookie)
  return { "ERL_EPMD_PORT=" .. n.epmd_port, "BEAMLENS_COOKIE=" .. (cookie or n.cookie),
    "BEAMLENS_NODE=" .. n.name }
end

local function run(n, args, opts)
  opts = opts or {}
  opts.env = n and environment(n, opts.cookie) or {}
  return beamlens.run(args, opts)
end

describe("beamlens snapshot", function()
  it("prints the figures of each domain as one line of JSON, and leaves nothing behind",
    support.async(function()
      local n = node.start({ name = "shot1" })
      local facts = "{lists:sort(processes()), length(code:all_loaded()), nodes(hidden)}."
      run(n, { "snapshot", "beam" })
      local before = n:eval(facts)
      for domain, key in pairs({ beam = "process_count", ets = "largest_table_mb",
        gc = "largest_heap_mb", sup = "supervisor_count" }) do
        local status, out, err = run(n, { "snapshot", domain })
        assert.are.same({ 0, "" }, { status, err })
        assert.matches("^[^\n]+$", out)
        assert.is_true(json.decode(out)[key] > 0, domain)
      end
      support.wait_until(function()
        return n:eval(facts) == before
      end)
      assert.are.equal("", n:log())
    end, 60))

  it("says what is wrong with the command line, by status 2", support.async(function()
    for _, case in ipairs({
      { { "snapshot" }, "name one domain" },
      { { "snapshot", "beam" }, "no node: give %-%-node NAME or set BEAMLENS_NODE" },
      { { "snapshot", "bema", "--node", "a@b" }, 'no domain "bema"; did you mean "beam"%?' },
      { { "snapshot", "beam", "--node", "nowhere" }, '"nowhere" is not a node\'s name' },
      { { "snapshot", "beam", "--nod", "a@b" }, "unknown option %-%-nod; did you mean" },
      { { "snapshto" }, 'unknown command "snapshto"; did you mean "snapshot"%?' },
    }) do
      local status, out, err = run(nil, case[1])
      assert.are.same({ 2, "" }, { status, out })
      assert.matches(case[2], err)
    end
  end))

  it("ends with 1 where the node refuses or is absent", support.async(function()
    local n = node.start({ name = "shot1" })
    local status, _, err = run(n, { "snapshot", "beam" }, { cookie = "not-it" })
    assert.are.equal(1, status)
    assert.matches("ECOOKIE", err)
    assert.is_nil(err:find("not-it", 1, true))
    status, _, err = run(n, { "snapshot", "beam", "--node", "absent@localhost", "--timeout",
      "500ms" })
    assert.are.equal(1, status)
    assert.matches("ENODE", err)
  end))
end)

describe("beamlens exec", function()
  it("runs a script with a domain's callbacks, from -e, a file and stdin",
    support.async(function()
      local n = node.start({ name = "shot1" })
      local status, out, err = run(n, { "exec", "beam", "-e",
        'print("looking") return { n = beam_get_processes().process_count > 20 }' })
      assert.are.same({ 0, '{"n":true}', "looking\n" }, { status, out, err })
      local path = support.tmp_path("script.lua")
      support.write_file(path, "return get_node_info().node")
      assert.are.same({ 0, ('"%s"'):format(n.name), "" },
        { run(n, { "exec", "sup", path }) })
      os.remove(path)
      assert.are.same({ 0, "22", "" },
        { run(n, { "exec", "none" }, { stdin = "return 2 * 11" }) })
    end, 40))

  it("runs scripts without any domain and node", support.async(function()
    assert.are.same({ 0, "42", "" }, { run(nil, { "exec", "none", "-e", "return 6 * 7" }) })
    local status, _, err = run(nil, { "exec", "none", "-e", "return beam_get_memory()" })
    assert.are.equal(1, status)
    assert.matches("beamlens: script:1: attempt to call global 'beam_get_memory'", err)
  end))

  it("tells a script's errors and limits on stderr, with status 1", support.async(function()
    for _, case in ipairs({
      { { "error('no')" }, "beamlens: script:1: no" },
      { { "while true do end", "--limits", "cpu=100ms" }, "CPU time limit of 0%.1 s" },
      { { "local t = {} for i = 1, 1e7 do t[i] = {} end", "--limits", "memory=4MiB" },
        "memory limit of 4 MiB" },
      { { "return ('x'):rep(500)", "--limits", "result=100" }, "return less" },
      { { "6 * 7" }, "return 6 %* 7" },
    }) do
      local status, out, err = run(nil, { "exec", "none", "-e", unpack(case[1]) })
      assert.are.same({ 1, "" }, { status, out }, case[1][1])
      assert.matches(case[2], err)
    end
    local status, _, err = run(nil, { "exec", "none", "-e", "return 1", "--limits", "wal=1s" })
    assert.are.equal(2, status)
    assert.matches('unknown field "wal"; did you mean "wall"', err)
  end))
end)

describe("beamlens domains", function()
  it("lists all, and one with its figures, callbacks and rules", support.async(function()
    local status, out = run(nil, { "domains" })
    assert.are.equal(0, status)
    for _, name in ipairs({ "beam", "ets", "gc", "sup" }) do
      assert.matches("%f[%w]" .. name .. " +%u", out)
    end
    status, out = run(nil, { "domains", "ets" })
    assert.are.equal(0, status)
    for _, text in ipairs({ "largest_table_mb (MiB)", "ets_top_tables(limit = 10, sort_by",
      "ets_growth               warning  held for 1 m" }) do
      assert.is_truthy(out:find(text, 1, true), text)
    end
  end))
end)

describe("beamlens doctor", function()
  it("says ok to each thing, or FAIL and what to do", support.async(function()
    local n = node.start({ name = "shot1" })
    local status, out = run(n, { "doctor" })
    assert.are.equal(0, status, out)
    for _, line in ipairs({ "ok    name     beamlens1@localhost", "ok    cookie   from BEAMLENS_",
      "ok    epmd     answers", "ok    attach   shot1@localhost, as beamlens1@localhost",
      "ok    eval", "ok    snapshot", "ok    client   rules", "ok    sandbox" }) do
      assert.is_truthy(out:find(line, 1, true), line .. "\n" .. out)
    end
    status, out = run(n, { "doctor", "ets" })
    assert.are.equal(0, status, out)
    assert.matches("ok    snapshot of domain ets\n", out)
    status, out = run(n, { "doctor" }, { cookie = "not-it" })
    assert.are.equal(1, status)
    assert.matches("FAIL  attach   ECOOKIE", out)
    assert.matches("ok    sandbox", out)
    n.epmd_port = node.free_port()
    status, out = run(n, { "doctor", "--timeout", "1s" })
    assert.are.equal(1, status)
    assert.matches("FAIL  epmd     EEPMD", out)
  end, 40))

  it("warns of a container's host name only where our name has it", support.async(function()
    local n = node.start({ name = "shot1" })
    local env = environment(n)
    env[#env + 1] = "KUBERNETES_SERVICE_HOST=127.0.0.1"
    for of, warns in pairs({ [n.name] = false, ["shot1@127.0.0.1"] = false,
      ["shot1@elsewhere"] = true }) do
      local _, out = beamlens.run({ "doctor", "--timeout", "1s", "--node", of }, { env = env })
      assert.matches("^ok    name     beamlens1@", out)
      assert.are.equal(warns, out:find("looks like a container's", 1, true) ~= nil, out)
    end
  end, 60))
end)
