local policy = require("runtime.policy")

local function parse(body, opts)
  opts = opts or {}
  opts.env = opts.env or function() end
  return policy.parse(body, "watchers/shop.lua", opts)
end

describe("policy", function()
  it("fills in the defaults", function()
    local list = assert(parse('return { domain = "beam", node = "a@h" }'))
    local p = list[1]
    assert.are.equal(1, #list)
    assert.are.equal("shop", p.name)
    assert.are.equal("a@h", p.node)
    assert.are.equal("watcher", p.prompt)
    assert.are.equal(10000, p.sample_ms)
    assert.are.same({ min_ms = 10000, max_ms = 1800000 }, p.wait)
    assert.are.equal(15, p.limits.calls_per_cycle)
    assert.are.equal(64 * 1024 * 1024, p.execute.memory_bytes)
    assert.are.equal(8192, p.execute.result_bytes)
    assert.are.equal(3600000, p.renotify_ms)
  end)

  it("reads units, nested fields and changes of rules", function()
    local p = assert(parse([[return {
      name = "x", domain = "beam", node = "a@h", sample = "2s", wait = { max = "1m" },
      execute = { wall = "1s", result = "4KiB", output = "1KiB", reply = 1000 },
      rules = { mailbox_growth = { hold = "20s" }, runaway_process = { enabled = false } },
      mute = { { from = "02:00", to = "03:00", types = { "mailbox_growth" } } },
    }]]))[1]
    assert.are.equal(2000, p.sample_ms)
    assert.are.same({ min_ms = 10000, max_ms = 60000 }, p.wait)
    assert.are.equal(1000, p.execute.wall_ms)
    assert.are.equal(2000, p.execute.cpu_ms)
    assert.are.equal(4096, p.execute.result_bytes)
    assert.are.same({ 1024, 256 * 1024, 1000 }, { p.execute.output_bytes, p.execute.args_bytes,
      p.execute.reply_bytes })
    assert.are.same({ hold_ms = 20000 }, p.rules.mailbox_growth)
    assert.are.same({ enabled = false }, p.rules.runaway_process)
    assert.are.equal("UTC", p.mute[1].tz)
  end)

  it("makes one policy per node and names those of a list after the file", function()
    local list = assert(parse([[return {
      { domain = "beam", node = { "a@h", "b@h" } },
      { domain = "beam", name = "second", node = "c@h" },
    }]]))
    assert.are.equal(3, #list)
    assert.are.equal("shop-beam", list[1].name)
    assert.are.equal("b@h", list[2].node)
    assert.are.equal("second", list[3].name)
  end)

  it("takes the node from env() and lets an option override it", function()
    local source = 'return { domain = "beam", node = env("NODE", "default@h") }'
    assert.are.equal("default@h", assert(parse(source))[1].node)
    assert.are.equal("set@h", assert(parse(source, {
      env = function(name)
        return name == "NODE" and "set@h" or nil
      end,
    }))[1].node)
    assert.are.equal("given@h", assert(parse(source, { node = "given@h" }))[1].node)
  end)

  it("follows a cluster from its first node, which may be listed, too", function()
    local list = assert(parse([[return { domain = "beam",
      node = { "cluster:a@h:4001", "a@h", "b@h" } }]]))
    assert.are.equal(2, #list)
    assert.are.same({ "a@h", "a@h:4001", true }, { list[1].node, list[1].address,
      list[1].follows })
    assert.are.same({ "b@h", "b@h" }, { list[2].node, list[2].address })
    assert.is_nil(list[2].follows)
    assert.are.equal(list[1].origin, list[2].origin)

    local given = assert(parse('return { domain = "beam", node = "b@h" }',
      { node = "cluster:c@h" }))
    assert.are.same({ "c@h", true }, { given[1].node, given[1].follows })
    local from_env = assert(parse('return { domain = "beam" }', { env = function(name)
      return name == "BEAMLENS_NODE" and "cluster:d@h" or nil
    end }))
    assert.are.same({ "d@h", true }, { from_env[1].node, from_env[1].follows })
  end)

  it("names the line of a wrong cluster, and where else it came from", function()
    local _, errors = parse('return {\n  domain = "beam",\n  node = { "a@h", "cluster:b" },\n}')
    assert.are.same({ 'watchers/shop.lua:3: node "cluster:b" names no node after "cluster:"; '
      .. "write cluster:name@host" }, errors)
    _, errors = parse('return { domain = "beam" }', { node = "cluster:" })
    assert.are.same({ 'watchers/shop.lua:1: --node: "cluster:" names no node after "cluster:"; '
      .. "write cluster:name@host" }, errors)
  end)

  it("reports every mistake with its file and line", function()
    local list, errors = parse([[return {
  domain = "beam",
  node = "no-host",
  sampel = "10s",
  sample = "10 s",
  wait = { min = "2m", max = "1m" },
  execute = { memroy = "1MiB" },
}]])
    assert.are.same({ nil, "memory must be at most 256.0 MiB" },
      { policy.read_execute({ memory = "1GiB" }) })
    assert.is_nil(list)
    assert.are.same({
      'watchers/shop.lua:3: node "no-host" is not a node\'s name; write name@host, as node() '
        .. "prints it",
      'watchers/shop.lua:4: unknown field "sampel"; did you mean "sample"?',
      'watchers/shop.lua:5: sample "10 s" is not a duration: write 250ms, 10s, 5m, 1h30m or 2d',
      "watchers/shop.lua:6: wait.min is longer than wait.max",
      'watchers/shop.lua:7: execute unknown field "memroy"; did you mean "memory"?',
    }, errors)
  end)

  it("reports every mistake of a table in it, too", function()
    local _, errors = parse([[return {
  domain = "beam", node = "a@h",
  wait = { mn = "10s", max = 5 },
  mute = { { from = "25:00", to = "03:00", tz = "Mars/X" },
    { to = "03:00" } },
  rules = { mailbox_growth = { hodl = "1s", severity = "bad" },
    { type = "x", severity = "warning", when = 3 } },
}]])
    assert.are.same({
      "watchers/shop.lua:3: wait max must be at least 1 s",
      'watchers/shop.lua:3: wait unknown field "mn"; did you mean "min"?',
      'watchers/shop.lua:4: mute [1]: from "25:00" is not a time of day; write 02:30',
      'watchers/shop.lua:4: mute [1]: tz "Mars/X" is no time zone of this machine: write UTC or a '
        .. "name such as Europe/Berlin",
      "watchers/shop.lua:5: mute [2]: needs `from` and `to`",
      'watchers/shop.lua:6: rules mailbox_growth: severity must be info, warning or critical',
      'watchers/shop.lua:6: rules mailbox_growth: unknown field "hodl"; did you mean "hold"?',
      "watchers/shop.lua:7: rules [1].when is a number; it must be a function",
    }, errors)
    assert.are.same({ nil, "callbacks must be a whole number, at least 0; "
      .. "memory must be at most 256.0 MiB" },
      { policy.read_execute({ memory = "1GiB", callbacks = "many" }) })
  end)

  it("names the line of a mistake in whichever watcher of a list, however deep", function()
    local _, errors = parse([==[
-- return { sample = 1 }
local text = [[return { sample = 1, ]]
local function helper(x) if x then return { sample = 1 } end end
local shop = { domain = "beam", node = "a@h",
  rules = {
    mailbox_growth = { hold = "1s" },
    { type = "mine", when = function() return { sample = 1 } end,
      holds = "1s" },
  },
}
return {
  shop,
  { domain = "ets", node = "a@h", instructions = text,
    guard = function(action) if helper(action) then return action end end,
    sample = 5,
    mute = { { from = "01:00", to = "02:00" },
      { from = "01:00",
        to = "x" } },
  },
  { domain = "gc",
    execute = { wall = "1s",
      cpuu = "1s" },
  },
}
]==])
    assert.are.same({
      'watchers/shop.lua:8: rules [1] has an unknown field "holds"; did you mean "hold"?',
      "watchers/shop.lua:15: sample must be at least 1 s",
      'watchers/shop.lua:18: mute [2]: to "x" is not a time of day; write 02:30',
      "watchers/shop.lua:20: no node: set `node` here, --node NAME or BEAMLENS_NODE",
      'watchers/shop.lua:22: execute unknown field "cpuu"; did you mean "cpu"?',
    }, errors)
    -- A table that is built by other means has its fields looked for.
    _, errors = parse("local function base(t) return t end\nreturn base({\n  domain = 5,\n"
      .. '  node = "a@h" })')
    assert.are.same({ "watchers/shop.lua:3: domain must be text, not number" }, errors)
  end)

  it("reads mutes in a zone, and names what is wrong with mutes and handlers", function()
    local p = assert(parse([[return { domain = "beam", node = "a@h",
      mute = { { from = "02:00", to = "03:00", tz = "Europe/Berlin" } } }]]))[1]
    assert.are.equal("Europe/Berlin", p.mute[1].zone.name)
    for body, err in pairs({
      ['mute = { { from = "2:00", to = "03:00" } }'] =
        'mute [1]: from "2:00" is not a time of day; write 02:30',
      ['mute = { { from = "02:00" } }'] = "mute [1]: needs `from` and `to`",
      ['mute = { { from = "02:00", to = "03:00", tz = "Europe/Berln" } }'] =
        'mute [1]: tz "Europe/Berln" is no time zone of this machine: write UTC or a name such as '
          .. "Europe/Berlin",
      ['mute = { { from = "02:00", to = "03:00", types = "x" } }'] =
        'mute [1]: types must be a list of types, such as { "mailbox_growth" }',
      ['handlers = { { "p", "beamlens.watcher.alert_fird", print } }'] =
        'handlers [1]: unknown event "beamlens.watcher.alert_fird"; did you mean '
          .. '"beamlens.watcher.alert_fired"?',
      ['handlers = { { "p", "own.event", print }, { "p", "own.event", print } }'] =
        'handlers [2]: there is another handler "p"',
      ['handlers = { { "p", print } }'] =
        'handlers [1]: must be { "id", "event", function(…) end }',
    }) do
      local _, errors = parse('return { domain = "beam", node = "a@h",\n' .. body .. " }")
      assert.are.same({ "watchers/shop.lua:2: " .. err }, errors)
    end
  end)

  it("explains files that do not load", function()
    assert.matches("^watchers/shop.lua:1: ", select(2, parse("return {"))[1])
    assert.matches("^watchers/shop.lua:2: boom", select(2, parse("\nerror('boom')"))[1])
    assert.matches("returns nothing", select(2, parse("local x = 1"))[1])
    assert.matches("returns a number", select(2, parse("return 1"))[1])
    assert.matches("declare it with `local`", select(2, parse("x = 1 return {}"))[1])
    assert.matches('undeclared global "nothing"', select(2, parse("return { nothing }"))[1])
    assert.matches("no node: set `node` here", select(2, parse('return { domain = "beam" }'))[1])
    assert.matches("domain is missing", select(2, parse('return { node = "a@h" }'))[1])
  end)
end)
