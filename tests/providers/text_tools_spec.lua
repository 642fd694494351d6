local schema = require("runtime.schema")
local text_tools = require("runtime.providers.text_tools")
local tools = require("runtime.tools")

local TOOLS = {
  { name = "wait", description = "Sleeps.", schema = schema.object({
    { "reason", { type = "string", description = "Why." }, optional = true },
    { "ms", { type = "integer", minimum = 1000 } },
    { "note", { type = "string" }, optional = true },
  }) },
  { name = "execute", description = "Runs Lua.", schema = schema.object({
    { "code", { type = "string" } },
  }) },
  { name = "ask", description = "Asks.", schema = schema.object({
    { "input", { type = "object" } },
  }) },
  { name = "look", description = "Looks.", schema = schema.object({}) },
}

local WAIT = { name = "wait", args = { ms = 60000, reason = "calm" } }

describe("tools in the prompt", function()
  it("are told with their arguments, in their order", function()
    assert.are.equal([[
// Sleeps.
{
  "tool": "wait",
  // Why.
  "reason": text, // may be left out
  "ms": a whole number of at least 1000,
  "note": text, // may be left out
}]], (text_tools.explain(TOOLS, "wait"):gsub("^[^\n]*\n\n", "")))
    local all = text_tools.explain(tools.for_request())
    for _, name in ipairs(tools.names()) do
      assert.is_truthy(all:find(('"tool": "%s"'):format(name), 1, true))
    end
    assert.is_truthy(all:find('"healthy" | "observing" | "warning" | "critical"', 1, true))
    assert.is_truthy(all:find('"resolve": [text, …], // may be left out', 1, true))
  end)
end)

describe("a call in a text", function()
  for name, text in pairs({
    ["as it is asked for"] = '{"tool":"wait","ms":60000,"reason":"calm"}',
    ["in a fence, with prose"] = 'I wait.\n```json\n{"tool": "wait", "ms": 60000, "reason": '
      .. '"calm"}\n```\nThat is all.',
    ["with mistakes"] = "{tool: wait, ms: '60000', reason: 'calm',}",
    ["in a list"] = '[{"tool":"wait","ms":60000,"reason":"calm"}]',
    ["in a tag, with arguments of their own"] = '<tool_call>\n{"name": "wait", "arguments": '
      .. '{"ms": 60000, "reason": "calm"}}\n</tool_call>',
    ["with arguments as text"] = '{"name":"wait","arguments":"{\\"ms\\":60000,\\"reason\\":'
      .. '\\"calm\\"}"}',
    ["with arguments in both places"] = '{"tool":"wait","reason":"calm","args":{"ms":60000}}',
    ["as a function"] = '{"type":"function","function":{"name":"wait","parameters":{"ms":60000,'
      .. '"reason":"calm"}}}',
    ["by the tool's name alone"] = '{"wait": {"ms": 60000, "reason": "calm"}}',
    ["twice the same"] = '{"tool":"wait","ms":60000,"reason":"calm"}\nSo:\n'
      .. '{"tool":"wait","reason":"calm","ms":60000}',
    ["with names in another case"] = '{"Tool":"wait","MS":60000,"Reason":"calm"}',
    ["as JSON in JSON"] = '"{\\"tool\\":\\"wait\\",\\"ms\\":60000,\\"reason\\":\\"calm\\"}"',
    ["among other objects"] = 'The snapshot {"memory": 5} is fine. {"tool":"wait","ms":60000,'
      .. '"reason":"calm"}',
  }) do
    it(("is read: %s"):format(name), function()
      local call, _, message = text_tools.call_of(text, TOOLS)
      assert(call, message)
      assert.are.same(WAIT, call)
    end)
  end

  it("may have no arguments", function()
    assert.are.same({ name = "look", args = {} }, (text_tools.call_of('{"tool":"look"}', TOOLS)))
    assert.are.same({ name = "look", args = {} }, (text_tools.call_of('{"look":{}}', TOOLS)))
  end)

  it("keeps an argument that is named as an envelope is", function()
    assert.are.same({ name = "ask", args = { input = { a = 1 } } },
      (text_tools.call_of('{"tool":"ask","input":{"a":1}}', TOOLS)))
  end)

  it("keeps what fits no schema, for who checks the call", function()
    assert.are.same({ name = "wait", args = { ms = "soon", mood = "good" } },
      (text_tools.call_of('{"tool":"wait","ms":"soon","mood":"good"}', TOOLS)))
    assert.are.same({ name = "wait", args = { ms = 2.5 } },
      (text_tools.call_of('{"tool":"wait","ms":2.5}', TOOLS)))
  end)

  it("may be code over lines with quotes of its own", function()
    local code = 'local s = "a"\ns:rep(2)\nreturn { s }'
    for _, text in ipairs({
      '{"tool":"execute","code":"local s = \\"a\\"\\ns:rep(2)\\nreturn { s }"}',
      '{"tool":"execute","code":"local s = "a"\ns:rep(2)\nreturn { s }"}',
      '{"tool":"execute","code":"""\nlocal s = "a"\ns:rep(2)\nreturn { s }\n"""}',
      '{"tool":"execute","code":```lua\nlocal s = "a"\ns:rep(2)\nreturn { s }\n```}',
    }) do
      local call, _, message = text_tools.call_of(text, TOOLS)
      assert(call, message)
      assert.are.equal(code, call.args.code)
    end
  end)

  for name, case in pairs({
    ["nothing"] = { "", "no_tool_call" },
    ["prose"] = { "I would wait {for a while}, [60 s].", "no_tool_call" },
    ["an object that chooses nothing"] = { '{"ms":60000}', "no_tool_call" },
    ["a name without arguments"] = { '{"name":"wait"}', "no_tool_call" },
    ["no tool of that name"] = { '{"tool":"reboot"}', "bad_tool_call" },
    ["two calls"] = { '{"tool":"look"} {"tool":"wait","ms":60000}', "bad_tool_call" },
    ["two calls in a list"] = { '[{"tool":"look"},{"tool":"wait","ms":60000}]', "bad_tool_call" },
    ["two calls that differ a little"] = { '{"tool":"wait","ms":60000} {"tool":"wait","ms":6000}',
      "bad_tool_call" },
    ["a call that is cut"] = { '{"tool":"wait","ms":60000', "bad_tool_call" },
    ["a call that is cut in a text"] = { '{"tool":"wait","ms":60000,"note":"lo', "bad_tool_call" },
    ["a list that is cut"] = { '[{"tool":"wait","ms":60000},', "bad_tool_call" },
    ["quotes that end a text too early"] = {
      '{"tool":"execute","code":"t = {"a"}\nreturn t"}', "bad_tool_call" },
  }) do
    it(("is refused: %s"):format(name), function()
      local call, kind, message = text_tools.call_of(case[1], TOOLS)
      assert.is_nil(call)
      assert.are.equal(case[2], kind)
      assert.is_string(message)
    end)
  end
end)
