-- Every callback of every domain with every kind of wrong argument, from a script in the sandbox.

local beam = require("support.beam")
local docs = require("runtime.domain.docs")
local executor = require("runtime.executor")
local node = require("support.node")
local sandbox = require("runtime.sandbox")
local support = require("support")
local telemetry = require("runtime.telemetry")

local NOTHING, TOO_LARGE = {}, {}

-- What a script writes, what that is, and what an error calls it.
local VALUES = {
  { "nil", NOTHING, "missing" },
  { "null", NOTHING, "missing" },
  { "0/0", "NaN", "nan, a number" },
  { "1/0", "Infinity", "inf, a number" },
  { "-1/0", "-Infinity", "-inf, a number" },
  { "-1", -1, "-1, a number" },
  { "0", 0, "0, a number" },
  { "1.5", 1.5, "1.5, a number" },
  { "51", 51, "51, a number" },
  { "2^53", 2 ^ 53, "9007199254740992, a number" },
  { "1e300", 1e300, "1e+300, a number" },
  { "true", true, "true, a boolean" },
  { "{1}", {}, "a table" },
  { '""', "", '"", a string' },
  { '"7"', "7", '"7", a string' },
  { '"a\\0b"', "a\0b", '"a\\000b", a string' },
  { '"a\\nb\\27[2J"', "a\nb\27[2J", '"a\\nb\\027[2J", a string' },
  { '"a\\255b"', "a\239\191\189b", '"a\239\191\189b", a string' },
  { '("€"):rep(1000)', ("€"):rep(1000), '"' .. ("€"):rep(20) .. '…", a string' },
  { '("x"):rep(2^20)', TOO_LARGE, "arguments larger than 262144 bytes" },
  { "print", TOO_LARGE, "bad argument #%d (contains a function)" },
}

local function is_accepted(param, value)
  if value == NOTHING then
    return param.default ~= nil
  elseif param.type == "integer" then
    return type(value) == "number" and value % 1 == 0 and value >= param.min and value <= param.max
  end
  return type(value) == "string" and not param.values and #value <= param.max
end

-- What the calls of one callback come to: { code, expected error or nil, is_name } of each; what
-- takes any text takes a name of something, which nothing has.
local function cases_of(callback)
  local cases = {}
  local function add(arguments, err, is_name)
    cases[#cases + 1] = { arguments, err and ("%s: %s"):format(callback.name, err), is_name }
  end
  for i, param in ipairs(callback.params) do
    for _, entry in ipairs(VALUES) do
      local code, value, given = unpack(entry)
      local err
      if value == TOO_LARGE then
        err = given:format(i)
      elseif not is_accepted(param, value) then
        err = ("argument %d (%s) is %s; allowed: %s"):format(i, param.name, given,
          docs.allowed(param))
      end
      -- Those before it are not given; where one has no default it is what the error names.
      if i == 1 or callback.params[i - 1].default ~= nil then
        add(("nil, "):rep(i - 1) .. code, err, param.type == "string" and not param.values)
      end
    end
  end
  local count = #callback.params
  add(("nil, "):rep(count) .. "1", ("argument %d is one too many; allowed: %s"):format(count + 1,
    count == 0 and "none" or "at most " .. count))
  if count > 0 then
    add("{ nobody = 1 }", 'there is no argument "nobody"')
  end
  return cases
end

-- A script that makes the calls, and returns what came of each.
local function script_of(callback, cases)
  local lines = { "local out = {}", "local function try(...)",
    ("  local ok, value = pcall(%s, ...)"):format(callback.name),
    "  out[#out + 1] = ok and { type(value), value.error } or { 'raised', value }", "end" }
  for _, case in ipairs(cases) do
    lines[#lines + 1] = ("try(%s)"):format(case[1])
  end
  lines[#lines + 1] = "return out"
  return table.concat(lines, "\n")
end

describe("a wrong argument of a script", function()
  for _, name in ipairs({ "beam", "ets", "gc", "ports", "sup" }) do
    it(("to a callback of %s is named, with what came and what is allowed"):format(name),
      support.async(function()
        local n = node.start({ name = "arguments1" })
        local d = beam.domain(name)
        local ctx = beam.attach(n, { gap_ms = 50, parts = d.sweeps })
        local box = sandbox.new({ pool = 1 })
        support.on_cleanup(function()
          box:close()
        end)
        local e = executor.new({ sandbox = box, domain = d, ctx = ctx, clock = ctx.clock,
          telemetry = telemetry.new(), limits = { result_bytes = 256 * 1024 } })
        for _, callback in ipairs(d:callbacks()) do
          local cases = cases_of(callback)
          local record = e:run(script_of(callback, cases), { source = "user" })
          assert.is_nil(record.error, record.error and record.error.message)
          for i, case in ipairs(cases) do
            local what, said = unpack(record.value[i])
            local call = ("%s(%s)"):format(callback.name, case[1])
            if case[2] then
              assert.are.equal("raised", what, call)
              assert.are.equal(case[2], (said:gsub("^script:%d+: ", "")):sub(1, #case[2]), call)
            else
              assert.are.equal("table", what, call)
              assert.is_true(not case[3] or said:find("_not_found$") ~= nil, call)
            end
          end
        end
        assert.are.equal("", n:log())
      end, 60))
  end
end)
