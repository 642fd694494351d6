local json = require("runtime.json")
local repeats = require("runtime.watcher.repeats")
local schema = require("runtime.schema")
local tools = require("runtime.tools")

describe("the tools", function()
  it("are the eight, each with a description, a handler and `reason` first", function()
    assert.are.same({ "set_state", "fire_alert", "get_alerts", "take_snapshot", "get_snapshot",
      "get_snapshots", "execute", "wait" }, tools.names())
    for _, tool in ipairs(tools.list) do
      assert.are.equal("function", type(tool.handler), tool.name)
      assert.is_true(#tool.description > 20, tool.name)
      assert.are.equal("reason", schema.property_names(tool.schema)[1], tool.name)
      for _, required in ipairs(tool.schema.required or {}) do
        assert.are_not.equal("reason", required)
      end
    end
  end)

  it("are sent as plain JSON Schema, and name all that a model may pass", function()
    for _, tool in ipairs(tools.for_request()) do
      local sent = json.decode(assert(json.encode_strict(tool.schema)))
      assert.are.equal("object", sent.type)
      assert.is_false(sent.additionalProperties)
      assert.are.equal(300, sent.properties.reason.maxLength)
    end
    assert.are.same({ "type", "severity", "summary", "snapshot_ids" },
      tools.get("fire_alert").schema.required)
  end)

  it("are sent with their properties in order, `reason` first", function()
    local order = {}
    for name in json.encode(tools.get("wait").schema.properties):gmatch('"(%l+)":{') do
      order[#order + 1] = name
    end
    assert.are.same({ "reason", "ms", "note" }, order)
    assert.are.equal('{"b":1,"a":2,"c":3}', (json.encode(setmetatable({ a = 2, b = 1, c = 3 },
      { __order = { "missing", "b", 5 } }))))
  end)

  it("cut a long reason and note instead of refusing the call", function()
    local args = assert(tools.validate("wait", { ms = 60000, reason = ("ä"):rep(400),
      note = ("n"):rep(501) }))
    assert.are.equal(("ä"):rep(300), args.reason)
    assert.are.equal(("n"):rep(500), args.note)
  end)

  it("refuse a wait that looks like seconds", function()
    local function err(ms)
      return select(2, tools.validate("wait", { ms = ms }))
    end
    assert.are.equal("30 ms; did you mean 30000?", err(30))
    assert.are.equal("999.5 ms; did you mean 999500?", err(999.5))
    assert.are.equal("0 ms; the shortest is 1000", err(0))
    assert.are.equal("ms: got -5, allowed: a number of at least 1000", err(-5))
    assert.are.equal("ms: required, allowed: a number of at least 1000", err(nil))
    assert.is_truthy(tools.validate("wait", { ms = 1000 }))
  end)

  it("accept nulls for what may be left out, and tell what is no object", function()
    assert.are.same({ limit = 5 }, tools.validate("get_alerts",
      { status = json.null, scope = json.null, reason = json.null, limit = 5 }))
    assert.are.equal("arguments: got null, allowed: an object",
      select(2, tools.validate("get_alerts", json.null)))
    assert.are.equal('arguments: got "x", allowed: an object',
      select(2, tools.validate("get_alerts", "x")))
    assert.is_truthy(select(2, tools.validate(nil, {})):find('unknown tool "nil"', 1, true))
  end)
end)

describe("going in circles", function()
  it("is the same call with the same result, ids and times and reasons aside", function()
    local seen = repeats.new()
    local function add(reason, text)
      return (seen:add("execute", { code = "return 1", reason = reason }, text))
    end
    assert.is_nil(add("a", '{"id":"0123456789abcdef","took_ms":1.5,"value":7}'))
    assert.is_nil(add("b", '{"id":"aaaaaaaaaaaaaaaa","took_ms":22,"value":7}'))
    assert.are.equal("notice", add(nil, '{"id":"bbbbbbbbbbbbbbbb","took_ms":3,"value":7}'))
    assert.is_nil(add(nil, '{"id":"bbbbbbbbbbbbbbbb","took_ms":3,"value":8}'))
    assert.are.equal("notice", add(nil, '{"id":"cccccccccccccccc","took_ms":3,"value":7}'))
    assert.are.equal("enough", add(nil, '{"id":"dddddddddddddddd","took_ms":4,"value":7}'))
  end)

  it("is also two calls that alternate, whatever they answer", function()
    local seen, verdicts = repeats.new(), {}
    for i = 1, 10 do
      verdicts[i] = seen:add(i % 2 == 0 and "a" or "b", {}, tostring(i)) or "-"
    end
    assert.are.equal("- - - - - notice notice notice notice enough",
      table.concat(verdicts, " "))
  end)

  it("is not one call whose answer changes, nor three calls in turn with news", function()
    local seen = repeats.new()
    for i = 1, 10 do
      assert.is_nil((seen:add("take_snapshot", {}, '{"data":' .. i .. "}")))
    end
    seen:clear()
    for i = 1, 12 do
      assert.is_nil((seen:add("t" .. i % 3, {}, tostring(i))))
    end
  end)
end)
