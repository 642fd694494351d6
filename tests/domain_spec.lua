local async = require("runtime.async")
local clock = require("runtime.clock")
local domain = require("runtime.domain")
local json = require("runtime.json")
local support = require("support")

local function minimal(changes)
  local definition = {
    name = "demo",
    snapshot = function()
      return { count = 1 }
    end,
    callbacks = {
      {
        name = "demo_echo",
        params = {
          { name = "text", type = "string", max = 10 },
          { name = "times", type = "integer", default = 2, min = 1, max = 5 },
          {
            name = "order", type = "string", default = "up", values = { "up", "down" },
            aliases = { rise = "up" },
          },
        },
        returns = {
          { name = "text", type = "string" },
          { name = "times", type = "integer", unit = "times" },
          { name = "order", type = "string", doc = "which way" },
        },
        doc = "Says it again.",
        run = function(_, text, times, order)
          return { text = text, times = times, order = order }
        end,
      },
    },
    rules = {},
  }
  for key, value in pairs(changes or {}) do
    definition[key] = value
  end
  return definition
end

local function callback(changes)
  local definition = minimal().callbacks[1]
  for key, value in pairs(changes) do
    definition[key] = value
  end
  return { definition }
end

local function refused(definition)
  local d, err = domain.new(definition, { file = "domains/demo.lua" })
  assert.is_nil(d)
  assert.are.equal("domains/demo.lua: ", err:sub(1, 18))
  return err:sub(19)
end

local function context()
  return { clock = clock.manual(1795466985123), node = "shop@db1" }
end

local function with_result(result, meta)
  return assert(domain.new(minimal({
    callbacks = {
      { name = "demo_get", doc = "Gets.", returns = { list = true }, run = function()
        return result, meta
      end },
    },
  })))
end

describe("a domain's table", function()
  it("is accepted with a name and a snapshot alone", function()
    local d = assert(domain.new({ name = "tiny", snapshot = function() end }))
    assert.are.equal("tiny", d.name)
    assert.are.equal("tiny", d.title)
    assert.are.equal("", d.instructions)
    assert.are.same({}, d.rules)
    assert.are.equal(3, #d:callbacks())
  end)

  it("must be a table", function()
    assert.are.equal("the domain is a number; it must be a table", refused(7))
  end)

  it("has each mistake named with what is allowed", function()
    local cases = {
      { { callback = {} }, 'unknown field "callback"; did you mean "callbacks"%?' },
      { { name = "Demo" }, 'name is "Demo"; a name has lower%-case letters' },
      { { snapshot = 4 }, "snapshot is a number; it must be a function" },
      { { title = "" }, "title is empty" },
      { { rules = { type = "x" } }, 'rules has a field "type"; it must be a list' },
      { { callbacks = callback({ name = "echo" }) },
        'callbacks%[1%] %(echo%).name is "echo"; it must begin with "demo_"' },
      { { callbacks = callback({ run = json.null }) },
        "callbacks%[1%] %(demo_echo%).run is a null; it must be a function" },
      { { callbacks = callback({ docs = "x" }) }, 'unknown field "docs"; did you mean "doc"%?' },
      { { callbacks = callback({ params = { { name = "n", type = "int" } } }) },
        'params%[1%] %(n%).type is "int"; allowed: boolean, integer, number, string' },
      { { callbacks = callback({ params = { { name = "n", type = "integer", max = 3,
        default = 9 } } }) }, "default is 9; it must be a whole number, at most 3" },
      { { callbacks = { minimal().callbacks[1], minimal().callbacks[1] } }, "is there twice" },
      { { rules = { { type = "x", when = function() end, hold = "soon" } } },
        'rules%[1%] %(x%).hold "soon" is not a duration' },
      { { rules = { { type = "x", when = function() end, severity = "fatal" } } },
        'severity is "fatal"; allowed: critical, info, warning' },
    }
    for _, case in ipairs(cases) do
      assert.matches(case[2], refused(minimal(case[1])))
    end
    assert.are.equal("snapshot is missing", refused({ name = "demo" }))
    assert.are.equal("name is missing", refused({ snapshot = print }))
  end)

  it("cannot take the place of a common callback", function()
    local definition = minimal({ name = "get", callbacks = callback({ name = "get_node_info" }) })
    assert.matches("which every domain has already", refused(definition))
  end)
end)

describe("a callback", function()
  it("gets its arguments checked, with defaults and aliases", support.async(function()
    local d = assert(domain.new(minimal()))
    local ctx = context()
    local function echo(...)
      return select(2, assert(d:invoke(ctx, "demo_echo", { ... })))
    end
    assert.are.same({ text = "a", times = 2, order = "up" }, echo("a"))
    assert.are.same({ text = "a", times = 5, order = "down" }, echo("a", 5, "down"))
    assert.are.same({ text = "a", times = 2, order = "up" }, echo("a", json.null, "rise"))
    assert.are.same({ text = "b", times = 3, order = "up" }, echo({ text = "b", times = 3 }))
  end))

  it("is not run with wrong arguments, and says what is allowed", support.async(function()
    local d = assert(domain.new(minimal()))
    local function problem(...)
      local ok, err = d:invoke(context(), "demo_echo", { ... })
      assert.is_nil(ok)
      return err
    end
    assert.are.equal(
      "demo_echo: argument 1 (text) is missing; allowed: text of at most 10 bytes", problem())
    assert.are.equal(
      'demo_echo: argument 2 (times) is "two", a string; allowed: a whole number from 1 to 5',
      problem("a", "two"))
    assert.matches("argument 2 %(times%) is 6, a number", problem("a", 6))
    assert.matches("argument 2 %(times%) is 1.5, a number", problem("a", 1.5))
    assert.matches("argument 2 %(times%) is nan, a number", problem("a", 0 / 0))
    assert.matches('argument 3 %(order%) is "left", a string; allowed: one of "up", "down"',
      problem("a", 1, "left"))
    assert.matches("argument 1 %(text%) is a table", problem({ 1 }))
    assert.matches("argument 4 is one too many; allowed: at most 3", problem("a", 1, "up", 4))
    assert.matches('no argument "timess"; did you mean "times"%?',
      problem({ text = "a", timess = 1 }))
  end))

  it("that does not exist is named with the nearest one", support.async(function()
    local ok, err = assert(domain.new(minimal())):invoke(context(), "demo_eco", {})
    assert.is_nil(ok)
    assert.are.equal('there is no callback "demo_eco"; did you mean "demo_echo"?', err)
  end))

  it("that raises or finds the world unwilling is an error with its name", support.async(function()
    local function run_with(run)
      local d = assert(domain.new(minimal({ callbacks = callback({ params = {}, run = run }) })))
      return select(2, d:invoke(context(), "demo_echo", {}))
    end
    assert.matches("^demo_echo failed: .*attempt to index[^\n]*$", run_with(function()
      local nothing = ({}).nothing
      return nothing.field
    end))
    assert.are.equal("demo_echo: EDOWN: gone", run_with(function()
      return nil, "EDOWN: gone", "EDOWN"
    end))
    assert.are.equal("demo_echo: ENODE: this domain watches no node", run_with(function(target)
      return target:call("erlang", "node", {}, {})
    end))
  end))

  it("gives plain results: UTF-8, finite numbers, no keyword as a key", support.async(function()
    local d = with_result({
      { name = "a\255b", ["end"] = 1, ["function"] = { ["nil"] = 0 / 0 }, size = math.huge },
      { io = io.stdout, none = json.null, yes = true, text = "grüße" },
    })
    local _, value = assert(d:invoke(context(), "demo_get", {}))
    assert.are.same({
      { name = "a\239\191\189b", end_ = 1, function_ = { nil_ = json.null }, size = json.null },
      { io = value[2].io, none = json.null, yes = true, text = "grüße" },
    }, value)
    assert.are.equal("string", type(value[2].io))
  end))

  it("gives lists of at most 500 rows, with how many there are", support.async(function()
    local rows = {}
    for i = 1, 700 do
      rows[i] = { i = i }
    end
    local _, value, meta = assert(with_result(rows):invoke(context(), "demo_get", {}))
    assert.are.equal(500, #value)
    assert.are.same({ total = 700, returned = 500, skipped = 0, took_ms = 0 }, meta)
    local given = { total = 900, skipped = 3, took_ms = 12 }
    _, value, meta = assert(with_result({ 1, 2 }, given):invoke(context(), "demo_get", {}))
    assert.are.same({ 1, 2 }, value)
    assert.are.same({ total = 900, returned = 2, skipped = 3, took_ms = 12 }, meta)
  end))

  it("is there in every domain: the time, and a sleep", support.async(function()
    local d = assert(domain.new(minimal()))
    local _, time = assert(d:invoke(context(), "get_current_time", {}))
    assert.are.same({ timestamp = "2026-11-23T20:49:45.123Z", unix_ms = 1795466985123 }, time)
    local started = async.now_ms()
    assert(d:invoke(context(), "sleep", { 30 }))
    assert.is_true(async.now_ms() - started >= 29)
    local ok, err = d:invoke(context(), "sleep", { -1 })
    assert.is_nil(ok)
    assert.matches("a whole number from 0 to 60000", err)
    ok, err = d:invoke(context(), "get_node_info", {})
    assert.is_nil(ok)
    assert.matches("ENODE", err)
  end))
end)

describe("a snapshot", function()
  it("is flat and plain, and says why there is none", support.async(function()
    local function taken(fn)
      return assert(domain.new(minimal({ snapshot = fn }))):snapshot(context())
    end
    assert.are.same({ a = 1, b = json.null, c = "x", d = json.null }, taken(function()
      return { a = 1, b = json.null, c = "x", d = 0 / 0 }
    end))
    local data, err, code = taken(function()
      return nil, "ETIMEDOUT: late", "ETIMEDOUT"
    end)
    assert.is_nil(data)
    assert.are.same({ "ETIMEDOUT: late", "ETIMEDOUT" }, { err, code })
    data, err, code = taken(function()
      error("broken")
    end)
    assert.is_nil(data)
    assert.matches("the snapshot of demo failed: .*broken$", err)
    assert.are.equal("ELUA", code)
    assert.are.equal("ELUA", select(3, taken(function()
      return 7
    end)))
  end))

  it("keeps what its domain remembers, per context", support.async(function()
    local d = assert(domain.new(minimal({ snapshot = function(target)
      target.memo.count = (target.memo.count or 0) + 1
      return { count = target.memo.count }
    end })))
    local first, second = context(), context()
    d:snapshot(first)
    assert.are.equal(2, d:snapshot(first).count)
    assert.are.equal(1, d:snapshot(second).count)
  end))
end)

describe("the docs of a domain", function()
  it("come from what is checked", function()
    local d = assert(domain.new(minimal({
      metrics = { { name = "count", type = "integer", unit = "things", doc = "all of them" } },
    })))
    assert.are.equal([[
demo_echo(text, times = 2, order = "up")
  Says it again.
  text: text of at most 10 bytes
  times: a whole number from 1 to 5
  order: one of "up", "down"
  returns { text, times (times), order: which way }]], d:docs():match("^(.-)\n\n"))
    assert.matches("get_node_info%(%)", d:docs())
    assert.are.equal("count (things): all of them", d:metric_docs())
  end)
end)
