local cjson = require("cjson")
local schema = require("runtime.schema")

local SHAPE = schema.object({
  { "reason", { type = "string", maxLength = 5 }, optional = true },
  { "severity", { type = "string", enum = { "info", "warning" } } },
  { "limit", { type = "integer", minimum = 1, maximum = 50 }, optional = true },
  { "ids", { type = "array", items = { type = "string" }, minItems = 1 }, optional = true },
  { "deep", schema.object({ { "on", { type = "boolean" } } }), optional = true },
})

local function mistakes(value)
  local cleaned, found = schema.check(SHAPE, value)
  assert.is_nil(cleaned)
  return found
end

describe("a schema", function()
  it("accepts what fits, and leaves out what is null", function()
    local value = { severity = "info", limit = 50, ids = { "a", "b" }, deep = { on = false } }
    assert.are.same(value, schema.check(SHAPE, value))
    assert.are.same({ severity = "info" },
      schema.check(SHAPE, { severity = "info", limit = cjson.null, reason = cjson.null }))
  end)

  it("counts characters, not bytes", function()
    assert.is_truthy(schema.check(SHAPE, { severity = "info", reason = "äöüßé" }))
    assert.are.same({ 'reason: got "123456", allowed: text of at most 5 characters' },
      mistakes({ severity = "info", reason = "123456" }))
  end)

  it("tells every mistake with path, what came and what is allowed", function()
    assert.are.same({
      "deep.on: got 1, allowed: true or false",
      "ids[2]: got 5, allowed: text",
      "limit: got 51, allowed: a whole number from 1 to 50",
      "lmit: unknown, allowed: reason, severity, limit, ids, deep",
      'severity: got "fatal", allowed: info, warning',
    }, mistakes({
      severity = "fatal", limit = 51, lmit = 1, ids = { "a", 5 }, deep = { on = 1 },
    }))
  end)

  it("names what is required", function()
    assert.are.same({ "severity: required, allowed: info, warning" }, mistakes({}))
    assert.are.same({ "severity: required, allowed: info, warning" },
      mistakes({ severity = cjson.null }))
    assert.are.same({ "deep.on: required, allowed: true or false" },
      mistakes({ severity = "info", deep = {} }))
  end)

  it("refuses other types, fractions, and numbers that are none", function()
    local function first(field, value)
      return mistakes({ severity = "info", [field] = value })[1]
    end
    assert.are.equal('limit: got "10", allowed: a whole number from 1 to 50', first("limit", "10"))
    assert.are.equal("limit: got 1.5, allowed: a whole number from 1 to 50", first("limit", 1.5))
    assert.is_truthy(first("limit", 0 / 0):find("^limit: got %-?nan"))
    assert.are.equal('ids: got "a", allowed: a list of 1 or more: text', first("ids", "a"))
    assert.are.equal("ids: got an empty object, allowed: a list of 1 or more: text",
      first("ids", {}))
    assert.are.equal("deep: got a list, allowed: an object", first("deep", { 1 }))
    assert.are.same({ 'arguments: got "x", allowed: an object' }, mistakes("x"))
    assert.are.same({ "arguments: got null, allowed: an object" }, mistakes(cjson.null))
  end)

  it("shortens a long value in its message", function()
    local message = mistakes({ severity = ("x"):rep(5000) })[1]
    assert.is_true(#message < 120)
    assert.is_truthy(message:find("%(5000 bytes%), allowed: info, warning$"))
  end)
end)
