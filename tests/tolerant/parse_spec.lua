local json = require("runtime.json")
local tolerant = require("runtime.tolerant")

local TEXT, WHOLE, NUMBER, BOOLEAN = { type = "string" }, { type = "integer" },
  { type = "number" }, { type = "boolean" }
local NONE = { type = "null" }

local function object(properties, required)
  return { type = "object", properties = properties, required = required }
end

local function list(items)
  return { type = "array", items = items }
end

local function maybe(schema)
  return { anyOf = { schema, NONE } }
end

local LEVEL = { enum = { "INFO", "WARNING", "CRITICAL", "NOT_KNOWN" } }
local ALERT = object({ type = TEXT, count = WHOLE }, { "type", "count" })
local DISK = { type = "disk", count = 2 }
local STEP = { anyOf = {
  object({ tool = { const = "wait" }, ms = WHOLE, note = maybe(TEXT) }, { "tool", "ms" }),
  object({ tool = { const = "look" }, at = TEXT }, { "tool", "at" }),
} }

-- { name, text, schema, what comes out; absent: nothing }
local CASES = {
  { "plain JSON", '{"type":"disk","count":2}', ALERT, DISK },
  { "white space and a byte order mark", '\239\187\191 \n {"type" : "disk" , "count" : 2 }\n',
    ALERT, DISK },
  { "a fence", '```json\n{"type":"disk","count":2}\n```', ALERT, DISK },
  { "a fence of another language", "```lua\n{type: 'disk', count: 2}\n```", ALERT, DISK },
  { "a fence that is never closed", '```\n{"type":"disk","count":2}', ALERT, DISK },
  { "the second of two fences", '```json\n["a"]\n```\nor\n```json\n{"type":"disk","count":2}\n```',
    ALERT, DISK },
  { "prose on both sides", 'Here it is: {"type":"disk","count":2}. Anything else?', ALERT, DISK },
  { "braces in the prose", 'Take {type} and {count}: {"type":"disk","count":2}', ALERT, DISK },
  { "a tag around it", '<answer>{"type":"disk","count":2}</answer>', ALERT, DISK },
  { "commas at the ends", '{"type":"disk","count":2,}', ALERT, DISK },
  { "commas twice", '{"type":"disk",,"count":2,,}', ALERT, DISK },
  { "no comma between the lines", '{"type":"disk"\n"count":2}', ALERT, DISK },
  { "no comma in one line", '{"type":"disk" "count":2}', ALERT, DISK },
  { "names without quotes", "{type: disk, count: 2}", ALERT, DISK },
  { "single quotes", "{'type': 'disk', 'count': 2}", ALERT, DISK },
  { "backticks", "{`type`: `disk`, `count`: 2}", ALERT, DISK },
  { "typographic quotes", "{“type”: “disk”, “count”: 2}", ALERT, DISK },
  { "an apostrophe", "{'type': 'the node's disk', 'count': 2}", ALERT,
    { type = "the node's disk", count = 2 } },
  { "quotes within quotes", '{"type": "the "big" disk", "count": 2}', ALERT,
    { type = 'the "big" disk', count = 2 } },
  { "quotes and a comma within quotes", '{"type": "he said "no", then left", "count": 2}', ALERT,
    { type = 'he said "no", then left', count = 2 } },
  { "a line break in a text", '{"type": "one\ntwo", "count": 2}', ALERT,
    { type = "one\ntwo", count = 2 } },
  { "three quotes", '{"type": """a "b" c""", "count": 2}', ALERT,
    { type = 'a "b" c', count = 2 } },
  { "three quotes over lines", '{"type": """\n    one\n      two\n    """, "count": 2}', ALERT,
    { type = "one\n  two", count = 2 } },
  { "a fence as a text", '{"type": ```lua\nreturn 1\n```, "count": 2}', ALERT,
    { type = "return 1", count = 2 } },
  { "comments", '{ // which\n "type": "disk", /* how many */ "count": 2 # two\n}', ALERT, DISK },
  { "what looks like a comment", '{"type": "http://x // y", "count": 2}', ALERT,
    { type = "http://x // y", count = 2 } },
  { "escapes", '{"type": "\\u00e9\\ud83d\\ude00\\n\\"", "count": 2}', ALERT,
    { type = 'é😀\n"', count = 2 } },
  { "half a pair of surrogates", '{"type": "\\ud83d", "count": 2}', ALERT,
    { type = "\239\191\189", count = 2 } },
  { "an escape that is none", '{"type": "C:\\dir", "count": 2}', ALERT,
    { type = "C:\\dir", count = 2 } },
  { "brackets that nobody closes", '{"type":"disk","count":2', ALERT, DISK },
  { "too many brackets", '{"type":"disk","count":2}}}]', ALERT, DISK },
  { "JSON in JSON", '"{\\"type\\":\\"disk\\",\\"count\\":2}"', ALERT, DISK },
  { "names in another case", '{"Type":"disk"," COUNT ":2}', ALERT, DISK },
  { "a list of one", '[{"type":"disk","count":2}]', ALERT, DISK },
  { "one for a list", '{"type":"disk","count":2}', list(ALERT), { DISK } },
  { "several in a row for a list", '{"type":"disk","count":2}\n{"type":"disk","count":2}',
    list(ALERT), { DISK, DISK } },
  { "the first of several", '{"type":"disk","count":2} {"type":"cpu","count":3}', ALERT, DISK },
  { "the first that fits", '{"type":"cpu"} {"type":"disk","count":2}', ALERT, DISK },
  { "a number as a text", '{"type":"disk","count":"2"}', ALERT, DISK },
  { "a number with commas", '{"type":"disk","count":"12,345"}', ALERT,
    { type = "disk", count = 12345 } },
  { "a number in words", "about 17 processes", WHOLE, 17 },
  { "a share", '"45%"', NUMBER, 45 },
  { "a fraction", '"3/4"', NUMBER, 0.75 },
  { "an exponent", "[1e3]", list(NUMBER), { 1000 } },
  { "half a number more", "[2.5, -2.5]", list(WHOLE), { 3, -3 } },
  { "a text for a number", '{"type":7,"count":2}', ALERT, { type = "7", count = 2 } },
  { "True", "True", BOOLEAN, true },
  { "a level in another case", "warning", LEVEL, "WARNING" },
  { "a level with other signs", "not known", LEVEL, "NOT_KNOWN" },
  { "a level in a sentence", "I would say WARNING here.", LEVEL, "WARNING" },
  { "the tool that is named", '{"tool":"look","at":"ets"}', STEP, { tool = "look", at = "ets" } },
  { "null for what is left out", '{"tool":"wait","ms":5}', STEP,
    { tool = "wait", ms = 5, note = json.null } },
  { "an empty list", '{"names":[]}', object({ names = list(TEXT) }, { "names" }),
    { names = {} } },
  { "a map", '{"a":"1","b":2}', { type = "object", additionalProperties = WHOLE },
    { a = 1, b = 2 } },

  { "nothing", "", ALERT },
  { "prose alone", "The disk is full.", ALERT },
  { "a name that is missing", '{"type":"disk"}', ALERT },
  { "null for what must be", '{"type":"disk","count":null}', ALERT },
  { "an object around it", '{"alert":{"type":"disk","count":2}}', ALERT },
  { "semicolons", '{"type":"disk"; "count":2}', ALERT },
  { "lines without braces", "type: disk\ncount: 2", ALERT },
  { "two numbers", "between 3 and 4", WHOLE },
  { "a number of base 16", "0x1F", WHOLE },
  { "true and false", "true or false", BOOLEAN },
  { "yes", "yes", BOOLEAN },
  { "1 for true", "[1]", list({ enum = { "x" } }), {} },
  { "two levels", "INFO or WARNING", LEVEL },
  { "no number", '{"x": NaN}', object({ x = NUMBER }, { "x" }) },
  { "an unknown tool", '{"tool":"reboot","ms":5}', STEP },
}

describe("tolerant parsing", function()
  for _, case in ipairs(CASES) do
    local name, text, schema, expected = unpack(case)
    it((expected == nil and "refuses: %s" or "reads: %s"):format(name), function()
      local value, err = tolerant.parse(text, schema)
      assert.are.same(expected, value)
      assert.are.equal(expected == nil, err ~= nil)
    end)
  end

  it("shows what there is of a text that still grows", function()
    local partial = { partial = true }
    assert.are.same({ type = "di", count = json.null },
      (tolerant.parse('{"type":"di', ALERT, partial)))
    assert.are.same({ type = "disk", count = json.null },
      (tolerant.parse('{"type":"disk","count":2', ALERT, partial)))
    assert.are.same({ type = "disk", count = 2 },
      (tolerant.parse('{"type":"disk","count":2,', ALERT, partial)))
    assert.are.same({ type = json.null, count = json.null },
      (tolerant.parse("", ALERT, partial)))
  end)

  it("neither drops nor guesses when it is careful", function()
    local careful = { careful = true }
    for _, text in ipairs({
      '{"type":"di',
      '{"type":"disk","count":2',
      '{"type":"disk","count":"about 2"}',
      '{"type":"disk","count":2.5}',
      '{"type":{"a":1},"count":2}',
    }) do
      assert.is_nil((tolerant.parse(text, ALERT, careful)), text)
    end
    assert.are.same(DISK, (tolerant.parse('{type: disk, count: "2",}', ALERT, careful)))
    assert.is_nil((tolerant.parse('["a", null]', list(TEXT), careful)))
    assert.is_nil((tolerant.parse("I say WARNING", LEVEL, careful)))
    assert.is_nil((tolerant.parse('{"tool":"wait","ms":5,"note":["a","b"]}', STEP, careful)))
    assert.are.same({ tool = "wait", ms = 5 },
      (tolerant.parse('{"tool":"wait","ms":5}', STEP, careful)))
  end)
end)

describe("a text of any kind", function()
  local SEEDS = {
    '{"a": [1, 2.5e3, "x\\u00e9\\ud83d"], b: \'c\', `d`: """e""", // f\n "g": {"h": null}}',
    '```json\n[{"tool":"wait","ms":5},{"tool":"look","at":"ets"}]\n```\n{name} [x] “y”',
  }
  local BYTES = '{}[]",:\'`\\/*#\n\0\255“ue0-+.'

  it("never raises, however it is cut or damaged", function()
    math.randomseed(7)
    for _, seed in ipairs(SEEDS) do
      for at = 0, #seed do
        tolerant.parse(seed:sub(1, at), STEP)
        tolerant.parse(seed:sub(at + 1), ALERT, { partial = true })
      end
      for _ = 1, 2000 do
        local at, pick = math.random(#seed), math.random(#BYTES)
        local damaged = seed:sub(1, at - 1) .. BYTES:sub(pick, pick) .. seed:sub(at + 1)
        tolerant.parse(damaged, list(STEP), { careful = at % 2 == 0 })
      end
    end
  end)

  -- Each is read as far as a bound allows; without one the case would run for hours.
  it("is read in bounded steps", function()
    for _, piece in ipairs({ "{", "[", '{"a":', '"', '" ', "'", '{"a" // ', "/*", "```\n", "{a ",
      "[[]", '{"a":"b" ', "# ", "“", "1,", "true ", "<think>" }) do
      tolerant.parse(piece:rep(math.floor(200000 / #piece)), STEP)
    end
    tolerant.parse(("x"):rep(1e7), STEP)
  end)

  it("is not read deeper than its reader's stack allows", function()
    assert.is_nil((tolerant.parse(("["):rep(5000) .. ("]"):rep(5000), ALERT)))
    assert.is_nil((tolerant.parse(('{"a":'):rep(5000) .. "1" .. ("}"):rep(5000), ALERT)))
  end)
end)
