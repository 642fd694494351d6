-- What a model is told of a script: short, quoted, and nothing of ours.

local executor = require("runtime.executor")
local clock = require("runtime.clock")
local jail = require("support.jail")
local json = require("runtime.json")
local outcome = require("runtime.sandbox.outcome")
local telemetry = require("runtime.telemetry")

local exec, with_sandbox = jail.exec, jail.with_sandbox

local NO_DOMAIN = { callbacks = function()
  return {}
end }

-- What the tool gives the model.
local function told(box, code)
  local record = executor.new({ sandbox = box, domain = NO_DOMAIN, telemetry = telemetry.new(),
    clock = clock.system() }):run(code)
  return json.encode({ id = record.id, error = record.error, output = record.output }), record
end

describe("an outcome", function()
  it("is below 2 KiB for the model, message and output together", with_sandbox(function(box)
    local codes = {
      "for i = 1, 3000 do print('line', i) end error(('long '):rep(2000))",
      "print(('\\1'):rep(5000)) error(('\\2'):rep(5000))",
      "print(('ä'):rep(5000)) error(('€'):rep(5000))",
      "print(('\"\\\\'):rep(5000)) local x = nil\nx.y = 1 --" .. ("ö"):rep(3000),
      "print(('x'):rep(5000)) io.open('x') --" .. (" "):rep(300) .. "y",
      "print(('\\n'):rep(5000))\nlocal function f(n) if n == 0 then error(('x'):rep(900)) end"
        .. " return f(n - 1) + 1 end f(100)",
    }
    for _, code in ipairs(codes) do
      local text, record = told(box, code)
      assert.is_true(#text < 2048, #text .. " bytes for " .. code:sub(1, 60))
      assert.is_true(#record.output <= 1024)
      assert.is_true(#record.error.message > 100)
      assert.is_nil(select(2, json.decode(text)))
      assert.is_nil(text:find("\239\191\189", 1, true)) -- no character is cut in two
    end
  end))

  it("has the last 1 KiB of what was printed", with_sandbox(function(box)
    local _, record = told(box, "for i = 1, 3000 do print('line ' .. i) end error('no')")
    assert.are.equal(1024, #record.output)
    assert.matches("line 2999\nline 3000\n$", record.output)
    assert.matches("script:1: no\n    1 | for i = 1, 3000 do", record.error.message, 1, true)
  end))

  it("has no address in it, but tells one from the other", with_sandbox(function(box)
    local result = exec(box, "local a, b = {}, {}\nprint(a, b, a, print, coroutine.create(print))\n"
      .. "print(string.format('%p', a))\nerror(tostring(a) .. tostring(b))")
    assert.is_nil((result.message .. result.output):find("0x%x%x%x%x"))
    assert.matches("^table: 0x1\ttable: 0x2\ttable: 0x1\tfunction: 0x3\tthread: 0x4\n0x1\n$",
      result.output)
    assert.matches("^script:4: table: 0x1table: 0x2\n", result.message)
    -- Numbers of the script's own stay.
    assert.are.equal("0xdeadbeef 0x12345678\n", exec(box, "print('0xdeadbeef', '0x12345678')")
      .output:gsub("\t", " ") .. "")
  end))

  it("names no file of ours when a callback fails", with_sandbox(function(box)
    local failing = "runtime/domain/x.lua:12: attempt to index a nil value"
    local result = jail.exec_with(box, function()
      return nil, "f failed: /opt/beamlens/" .. failing
    end, "local x = f() return x")
    assert.matches("^script:1: f failed: x.lua:12: attempt to index a nil value\n", result.message)
  end))

  it("tells a script to return its last expression, whatever stands around it",
    with_sandbox(function(box)
      local cases = {
        { "os.time() -- done", "os.time()" },
        { "local x = 5\nx -- the value", "x" },
        { "local x = 5\nx --[[ the\nvalue ]]", "x" },
        { "local x = 5\nx --[==[ ]] --\n]==]\n", "x" },
        { "('x'):rep(2) -- 'quote\n;;", "('x'):rep(2)" },
        { "local s = '-- no' s:upper()", "s:upper()" },
        { "local s = [=[\n-- no ]] ]=]\n#s", "#s" },
        { "local s = 'it\\'s --' s .. 'x'", "s .. 'x'" },
        { "1, 2", "1, 2" },
        { "{ a = 1,\n  b = 2 }", "{ a = 1," },
        { "-- nothing" }, { "--" }, { "" }, { "--[[ open" }, { "'open" }, { "[==[ open" },
        { "return 1 -- one" }, { "local x = 1 -- f()" }, { "x = = 1" },
      }
      for _, case in ipairs(cases) do
        local result = exec(box, case[1])
        local hint = result.hint or (result.message or ""):match("[^\n]*write: return.*")
        local wanted = case[2] and "the last statement is an expression; to get its value write: "
          .. "return " .. case[2]
        assert.are.equal(wanted, hint, case[1])
      end
    end))

  it("quotes the last line with text for an error at the end", with_sandbox(function(box)
    local message = exec(box, "local x = 1\nif x then\n\n").message
    assert.matches("\n    2 | if x then\n", message .. "\n", 1, true)
  end))

  it("hints at a recursion without end", with_sandbox(function(box)
    local result = exec(box, "local function f() return 1 + f() end\nf()")
    assert.are.equal("runtime", result.kind)
    assert.are.equal("stack overflow\na function calls itself without end or too deeply",
      result.message)
  end))

  it("does not believe the types of what a process says", function()
    local result = outcome.new("x", { ok = false, error = { kind = {}, message = {}, line = "1",
      traceback = 5, hint = {} }, output = 1, stats = { cpu_ms = {}, calls = "x" } })
    assert.are.equal("crash", result.kind)
    assert.are.equal("the script failed", result.message)
    assert.is_nil(result.line)
    assert.are.equal("", result.output)
    assert.are.same({ cpu_ms = 0, wall_ms = 0, mem_peak = 0, calls = 0 }, result.stats)
  end)

  it("is clipped at whole characters and by its size as JSON", function()
    assert.are.equal("abc", outcome.clip("abc", 3))
    assert.are.equal("...", outcome.clip("äöü", 4))
    assert.are.equal("ä...", outcome.clip("äöü", 5))
    assert.are.equal("\1...", outcome.clip("\1\1\1", 10))
  end)
end)

describe("the limits of a script", function()
  it("bound what it prints, passes and gets, as the policy says", with_sandbox(function(box)
    local limits = { output_bytes = 10, args_bytes = 100, reply_bytes = 200 }
    local result = exec(box, "print(('x'):rep(50)) return 1", { limits = limits })
    assert.are.equal("xxxxxxxxxx", result.output)
    assert.is_true(result.output_truncated)
    local function double(text)
      return true, text .. text
    end
    local function call(code)
      local answered = jail.exec_with(box, double, code, limits)
      return answered.ok and answered.value or answered.message
    end
    assert.are.equal(160, call("local s = f(('x'):rep(80)) return #s"))
    assert.matches("^script:1: f: arguments larger than 100 bytes\n",
      call("local s = f(('x'):rep(110)) return #s"))
    limits.args_bytes = 1000
    assert.matches("^script:1: f: the answer is larger than 200 B; ask for less\n",
      call("local s = f(('x'):rep(110)) return #s"))
  end))

  it("may not be raised above what crosses at most", with_sandbox(function(box)
    local limits = { output_bytes = 1e9, args_bytes = 1e9, reply_bytes = 1e9 }
    assert.are.equal(65536, #exec(box, "print(('x'):rep(1e5))", { limits = limits }).output)
    assert.matches("f: arguments larger than 262144 bytes", jail.exec_with(box, function()
      return true
    end, "local x = f(('x'):rep(3e5))", limits).message, 1, true)
  end))
end)
