local async = require("runtime.async")
local jail = require("support.jail")
local json = require("runtime.json")
local sandbox = require("runtime.sandbox")
local support = require("support")
local uv = require("luv")

local SIGKILL = 9

local count_fds, exec, exec_with = jail.count_fds, jail.exec, jail.exec_with
local is_alive = jail.is_alive
local value_of, with_sandbox = jail.value_of, jail.with_sandbox

describe("sandbox values", function()
  it("cross both ways as JSON does", with_sandbox(function(box)
    local outcome = exec(box, "return args", {
      args = { a = { 1, 2.5, -0.001 }, s = "ä\0\n", yes = true, e = {}, null = json.null },
    })
    assert.is_true(outcome.ok)
    assert.is_false(outcome.lossy)
    assert.are.same({ a = { 1, 2.5, -0.001 }, s = "ä\0\n", yes = true, e = {} }, outcome.value)
  end))

  it("are null for nothing and a list for several", with_sandbox(function(box)
    assert.are.equal(json.null, value_of(box, "local x = 1"))
    assert.are.equal(json.null, value_of(box, "return nil"))
    assert.are.equal(json.null, value_of(box, "return args"))
    assert.are.same({ 1, json.null, "x" }, value_of(box, "return 1, nil, 'x'"))
    assert.are.equal(false, value_of(box, "return false"))
    assert.is_true(value_of(box, "return args.list[2] == null and args.x == nil",
      { args = { list = { 1, json.null }, x = json.null } }))
  end))

  it("say when something had no JSON form", with_sandbox(function(box)
    local outcome = exec(box, "local t = {} t.t = t return t, print, 0/0, 12345678901234567LL")
    assert.is_true(outcome.lossy)
    assert.are.same({ { t = "<cycle>" }, "<function>", "NaN", "12345678901234567" }, outcome.value)
  end))

  it("reach functions and come back, several at a time", with_sandbox(function(box)
    local seen
    local outcome = exec_with(box, function(...)
      seen = { ... }
      async.sleep(2)
      return true, { n = 1, list = { 1, 2 } }, "second", nil, 4
    end, "local a, b, c, d = f({ x = { 1, 'ä' } }, nil, false) return a, b, c, d")
    assert.are.same({ { x = { 1, "ä" } }, nil, false }, seen)
    assert.are.same({ { n = 1, list = { 1, 2 } }, "second", json.null, 4 }, outcome.value)
    assert.are.equal(1, outcome.stats.calls)
  end))

  it("of functions have no nil at their end, but there is always one", with_sandbox(function(box)
    local function value(...)
      local results = { n = select("#", ...), ... }
      return exec_with(box, function()
        return true, unpack(results, 1, results.n)
      end, "return f()").value
    end
    assert.are.same({ a = 1 }, value({ a = 1 }, nil, nil))
    assert.are.same({ json.null, 2 }, value(nil, 2, nil))
    assert.are.equal(json.null, value(nil))
    local outcome = exec_with(box, function()
      return true
    end, "return type(f())")
    assert.are.equal("nil", outcome.value)
  end))

  it("may be asked for from anywhere in the script", with_sandbox(function(box)
    local outcome = box:exec({
      functions = { "proc.info", "proc.list" },
      on_call = function(name, args)
        return true, name .. tostring(args[1])
      end,
      code = [[
        local out = {}
        out[1] = ("ab"):gsub(".", function(c) return proc.info(c) end)
        out[2] = coroutine.wrap(function() return proc.list() end)()
        table.sort({ 2, 1 }, function(a, b) proc.info(1) return a < b end)
        out[3] = select(2, pcall(proc.info, 5))
        return out
      ]],
    })
    assert.are.same({ "proc.infoaproc.infob", "proc.listnil", "proc.info5" }, outcome.value)
  end))
end)

describe("sandbox errors", function()
  -- Each: code, kind, line, message (exact when it begins with "=").
  local cases = {
    { "for i = 1, 2 print(i) end", "syntax", 1,
      "=script:1: 'do' expected near 'print'\n    1 | for i = 1, 2 print(i) end" },
    { "local x\n\nreturn x.y", "runtime", 3,
      "=script:3: attempt to index local 'x' (a nil value)\n    3 | return x.y" },
    { "error({ message = 'as field' })", "runtime", 1, "as field\n" },
    { "error({ code = 1 })", "runtime", 1, '{"code":1}' },
    { "error()", "runtime", 1, "null" },
    { "error(setmetatable({}, { __tostring = function() while true do end end }))", "runtime", 1,
      "[]" },
    { "local t = {}\nt.x = io.open('x')", "denied", 2,
      "=script:2: denied: 'io' is not available in this sandbox\n    2 | t.x = io.open('x')\n"
      .. "available: string, table, math, bit, coroutine, os.time/date/clock, print and the host"
      .. " functions listed above" },
    { "1 + 1", "syntax", 1, "to get its value write: return 1 + 1" },
    { "local x = 5\nx", "syntax", 2, "to get its value write: return x" },
    { "local x = { 1 }; x[1] == 1", "syntax", 1, "write: return x[1] == 1" },
    { "\27LJ\2\n\0", "syntax", nil, "attempt to load chunk with wrong mode" },
    { "return ('x'):rep(1100000)", "result", nil, "=result is larger than 1048576 bytes; return"
      .. " less data (aggregate, filter or take the first rows)" },
    { "local t = {} for i = 1, 150 do t[i] = {} for j = 1, 1400 do t[i][j] = 1 end end return t",
      "result", nil, "=too many values (limit 200000)" },
  }
  for _, case in ipairs(cases) do
    it(("are told exactly: %s"):format(json.encode(case[1])), with_sandbox(function(box)
      local outcome = exec(box, case[1])
      assert.is_false(outcome.ok)
      assert.are.equal(case[2], outcome.kind)
      assert.are.equal(case[3], outcome.line)
      if case[4]:sub(1, 1) == "=" then
        assert.are.equal(case[4]:sub(2), outcome.message)
      else
        assert.matches(case[4], outcome.message, 1, true)
      end
    end))
  end

  it("carry the way there when there is more than one step", with_sandbox(function(box)
    local outcome = exec(box, "local function inner()\n  error('deep')\nend\n"
      .. "local function outer()\n  inner()\n  return 1\nend\nouter()")
    assert.are.equal("script:2: deep\n    2 |   error('deep')\nstack traceback:\n"
      .. "\tscript:2: in function 'inner'\n\tscript:5: in function 'outer'\n"
      .. "\tscript:8: in main chunk", outcome.message)
  end))

  it("stay below 2 KiB and valid UTF-8", with_sandbox(function(box)
    local outcome = exec(box, "error(('ä'):rep(100000) .. '\\255')" .. (" "):rep(3000) .. "-- x")
    assert.is_true(#outcome.message < 2048)
    assert.are.equal('"' .. outcome.message:gsub("[\n\"]", {
      ["\n"] = "\\n", ['"'] = '\\"' }) .. '"', (json.encode(outcome.message):gsub("\\\\", "\\")))
  end))

  it("of functions are errors of the script, with its line", with_sandbox(function(box)
    local function fail()
      return nil, "no such process"
    end
    local outcome = exec_with(box, fail, "local x = 1\nlocal y = f(x)\nreturn y")
    assert.are.equal("runtime", outcome.kind)
    assert.are.equal("script:2: f: no such process\n    2 | local y = f(x)", outcome.message)
    assert.are.equal(2, outcome.line)
    -- A tail call leaves no frame; the text has only one that fits.
    outcome = exec_with(box, fail, "local x = 1\n\nreturn f (x)")
    assert.are.equal("script:3: f: no such process\n    3 | return f (x)", outcome.message)
    outcome = exec_with(box, fail, "local ok, err = pcall(f, 1) return { ok, err }")
    assert.are.same({ false, "script:1: f: no such process" }, outcome.value)
    outcome = exec_with(box, function()
      return nil, "f: limit must be a number"
    end, "local x = f('a') return x")
    assert.matches("^script:1: f: limit must be a number\n", outcome.message)
  end))

  it("refuse arguments that have no JSON form", with_sandbox(function(box)
    local called = false
    local outcome = exec_with(box, function()
      called = true
      return true
    end, "local t = {} t.t = t return { pcall(f, t), (select(2, pcall(f, 1, print))),"
      .. " (select(2, pcall(f, ('x'):rep(300000)))) }")
    assert.are.same({ false, "script:1: f: bad argument #2 (contains a function)",
      "script:1: f: arguments larger than 262144 bytes" }, outcome.value)
    assert.is_false(called)
  end))

  it("hint at a value that was dropped", with_sandbox(function(box)
    local function one()
      return true, 1
    end
    local outcome = exec_with(box, one, "local x = 1\nf(\n  x\n)")
    assert.are.equal(json.null, outcome.value)
    assert.matches("write: return f(", outcome.hint, 1, true)
    assert.is_nil(exec_with(box, one, "if true then\n  f(1)\nend").hint)
    assert.is_nil(exec_with(box, one, "print(f(1))").hint)
    assert.is_nil(exec_with(box, one, "return").hint)
    assert.is_nil(exec(box, "local function nothing() end return nothing()").hint)
    assert.is_nil(exec_with(box, one, "return f(1)").hint)
  end))
end)

describe("the sandbox's environment", function()
  it("is exactly this", with_sandbox(function(box)
    local names = value_of(box, [[
      local names = {}
      local function list(prefix, t)
        for name, value in next, t do
          names[#names + 1] = prefix .. name
          if type(value) == "table" and value ~= _G and prefix == "" then
            list(name .. ".", value)
          end
        end
      end
      list("", _G)
      table.sort(names)
      return table.concat(names, " ")
    ]])
    assert.are.equal("_G _VERSION args assert bit bit.arshift bit.band bit.bnot bit.bor bit.bswap"
      .. " bit.bxor bit.lshift bit.rol bit.ror bit.rshift bit.tobit bit.tohex coroutine"
      .. " coroutine.create coroutine.isyieldable coroutine.resume coroutine.running"
      .. " coroutine.status coroutine.wrap coroutine.yield error getmetatable ipairs math"
      .. " math.abs math.acos math.asin math.atan math.atan2 math.ceil math.cos math.cosh math.deg"
      .. " math.exp math.floor math.fmod math.frexp math.huge math.ldexp math.log math.log10"
      .. " math.max math.min math.modf math.pi math.pow math.rad math.random math.randomseed"
      .. " math.sin math.sinh math.sqrt math.tan math.tanh next null os os.clock os.date"
      .. " os.difftime os.time pairs pcall print rawequal rawget rawset select setmetatable string"
      .. " string.byte string.char string.find string.format string.gmatch string.gsub string.len"
      .. " string.lower string.match string.rep string.reverse string.sub string.upper table"
      .. " table.concat table.insert table.maxn table.pack table.remove table.sort table.unpack"
      .. " tonumber tostring type unpack xpcall", names)
  end))

  it("says what is missing on purpose, and is nil for the rest", with_sandbox(function(box)
    local names = { "io", "package", "require", "module", "dofile", "loadfile", "load",
      "loadstring", "getfenv", "setfenv", "newproxy", "collectgarbage", "debug", "jit", "ffi",
      "gcinfo", "string.dump", "os.execute", "os.exit", "os.getenv", "os.remove", "os.rename",
      "os.setlocale", "os.tmpname" }
    for _, name in ipairs(names) do
      local outcome = exec(box, "return " .. name)
      assert.are.equal("denied", outcome.kind, name)
      assert.matches(("'%s' is not available"):format(name), outcome.message, 1, true)
    end
    assert.are.same({ true, true, true },
      value_of(box, "return unknown == nil, string.unknown == nil, os.unknown == nil"))
    assert.matches("string.dump", exec(box, "return ('x').dump").message, 1, true)
  end))

  it("is the same for the next script, whatever one did to it", with_sandbox(function(box)
    exec(box, "string.rep = nil pairs = 5 x = 1 rawset(_G, 'io', {}) math.pi = 3")
    assert.are.equal("xx3.14", value_of(box,
      "assert(x == nil and rawget(_G, 'io') == nil) return ('x'):rep(2) .. ('%.2f'):format(math.pi)"
      ))
  end))

  it("has locked metatables, UTC and random numbers that differ", with_sandbox(function(box)
    assert.are.same({ false, false, false, false },
      value_of(box, "return getmetatable(''), getmetatable(_G), getmetatable(os),"
        .. " (pcall(setmetatable, _G, {}))"))
    assert.are.same({ "1970-01-01 00:00", 86400 }, value_of(box, "return os.date('%Y-%m-%d %H:%M',"
      .. " 0), os.time({ year = 1970, month = 1, day = 2, hour = 0 })"))
    assert.are_not.equal(value_of(box, "return math.random()"),
      value_of(box, "return math.random()"))
  end))

  it("captures what is printed, up to 64 KiB", with_sandbox(function(box)
    local outcome = exec(box, "tostring = nil print('a', 1, nil, true) print()"
      .. " print(setmetatable({}, { __tostring = function() return 'obj' end }))")
    assert.are.equal("a\t1\tnil\ttrue\n\nobj\n", outcome.output)
    assert.is_false(outcome.output_truncated)
    outcome = exec(box, "for i = 1, 100 do print(('\\1'):rep(1000)) end return 1")
    assert.are.equal(65536, #outcome.output)
    assert.is_true(outcome.output_truncated)
    assert.are.equal(1, outcome.value)
    assert.are.equal("so far\n", exec(box, "print('so far') error('x')").output)
  end))
end)

describe("sandbox limits", function()
  local SHORT = { wall_ms = 2000, cpu_ms = 60000 }
  local LITTLE_CPU = { wall_ms = 240000, cpu_ms = 200 }

  it("end an endless loop with its line", with_sandbox(function(box)
    local outcome = exec(box, "local i = 0\nwhile true do\n  i = i + 1\nend", { limits = SHORT })
    assert.are.equal("timeout", outcome.kind)
    assert.matches("^script exceeded its time limit of 2.0 s %(at line [23]%)", outcome.message)
    assert.is_true(outcome.stats.wall_ms >= 2000)
    outcome = exec(box, "while true do end", { limits = LITTLE_CPU })
    assert.matches("^script used more than its CPU time limit of 0.2 s %(at line 1%)",
      outcome.message)
  end))

  it("end what no hook can stop", with_sandbox(function(box)
    local codes = {
      "return ('a'):rep(1e5):find(('a*'):rep(30) .. 'b')",
      "table.insert({}, -2147483647, 1)",
      "return tostring(setmetatable({}, { __tostring = tostring }))",
    }
    for _, code in ipairs(codes) do
      local outcome = exec(box, code, { limits = LITTLE_CPU })
      assert.are.equal("timeout", outcome.kind, code)
      assert.matches("inside a built-in function", outcome.message, 1, true)
    end
  end))

  it("end a script that catches its errors", with_sandbox(function(box)
    local codes = {
      "while true do pcall(function() while true do end end) end",
      "local function f() while true do pcall(f) end end f()",
      "while true do xpcall(error, function() while true do end end) end",
      "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    }
    for _, code in ipairs(codes) do
      assert.are.equal("timeout", exec(box, code, { limits = LITTLE_CPU }).kind, code)
    end
  end))

  it("count the time in functions as wall time, and cancel these", with_sandbox(function(box)
    local cancelled = false
    local outcome = exec_with(box, function()
      async.await(nil, function()
        return function()
          cancelled = true
        end
      end)
    end, "f()", SHORT)
    assert.are.equal("timeout", outcome.kind)
    assert.matches("(while waiting for a host function)", outcome.message, 1, true)
    assert.is_true(cancelled)
  end))

  it("end a memory bomb, whole or in pieces", with_sandbox(function(box)
    local codes = {
      "local t = {} while true do t[#t + 1] = {} end",
      "return ('x'):rep(1e9)",
      "local s = 'x' while true do s = s .. s end",
      "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
    }
    for _, code in ipairs(codes) do
      local outcome = exec(box, code, { limits = { memory_bytes = 8 * 1024 ^ 2 } })
      assert.are.equal("memory", outcome.kind, code)
      assert.are.equal("script exceeded its memory limit of 8 MiB", outcome.message)
      assert.is_true(outcome.stats.mem_peak <= 8 * 1024 ^ 2)
    end
    assert.is_false(value_of(box, "return (pcall(string.rep, 'x', 1e9))"))
  end))

  it("bound the calls", with_sandbox(function(box)
    local calls = 0
    local outcome = exec_with(box, function()
      calls = calls + 1
      return true
    end, "for i = 1, 10 do\n  pcall(f)\nend", { callbacks = 3 })
    assert.are.equal("limit", outcome.kind)
    assert.matches("^script:2: limit: more than 3 host calls in one script\n", outcome.message)
    assert.are.equal(3, calls)
  end))

  it("bound the result, the answer and the script itself", with_sandbox(function(box)
    assert.are.equal("result", exec(box, "return ('x'):rep(2000)",
      { limits = { result_bytes = 1000 } }).kind)
    assert.are.equal("x", exec(box, "return 'x'", { limits = { result_bytes = 1000 } }).value)
    local outcome = exec_with(box, function()
      return true, ("x"):rep(5 * 1024 ^ 2)
    end, "return { pcall(f) }")
    assert.are.same({ false, "script:1: f: the answer is larger than 4.0 MiB; ask for less" },
      outcome.value)
    outcome = exec(box, "return 1 --" .. ("x"):rep(300 * 1024))
    assert.are.equal("limit", outcome.kind)
    assert.are.equal("the script is larger than 262144 bytes", outcome.message)
    assert.are.equal("syntax", exec(box, "return '\255'").kind)
  end))

  it("are checked", function()
    local box = sandbox.new({ pool = 0 })
    local function try(request)
      return select(2, pcall(box.exec, box, request))
    end
    assert.matches("unknown limit \"wal\"", try({ code = "", limits = { wal = 1 } }), 1, true)
    assert.matches("limit cpu_ms must be", try({ code = "", limits = { cpu_ms = "1" } }), 1, true)
    assert.matches("code must be a string", try({}), 1, true)
    assert.matches("no name for a function", try({ code = "", functions = { "a b" } }), 1, true)
    assert.matches("on_call must be", try({ code = "", functions = { "a" } }), 1, true)
    box:close()
  end)
end)

describe("the sandbox's processes", function()
  -- The first child's pid. The zygote tells it in its own time; a call of the child may be first.
  local function child_of(box)
    return support.wait_until(function()
      return box:stats().children[1]
    end, 5000, "the pid of the script's process")
  end

  local function status_of(pid)
    local text = assert(io.open(("/proc/%d/status"):format(pid))):read("*a")
    local fields = {}
    for name, value in text:gmatch("(%w+):%s*([^\n]*)") do
      fields[name] = value
    end
    return fields
  end

  it("run without rights", with_sandbox(function(box)
    local status
    exec_with(box, function()
      status = status_of(child_of(box))
      return true
    end, "f()")
    assert.are.equal("2", status.Seccomp)
    assert.are.equal("1", status.NoNewPrivs)
    assert.are.equal("0000000000000000", status.CapEff)
    assert.are.equal("1", status.Threads)
    if uv.getuid() == 0 then
      assert.are.equal("65534\t65534\t65534\t65534", status.Uid)
    end
  end, { pool = 0 }))

  it("may be killed during a run", with_sandbox(function(box)
    local outcome = exec_with(box, function()
      uv.kill(child_of(box), SIGKILL)
      async.sleep(10000)
    end, "f()")
    assert.are.equal("sandbox", outcome.kind)
    assert.matches("^sandbox unavailable: the script's process was killed; try again\n",
      outcome.message)
    assert.are.equal(2, value_of(box, "return 2"))
  end, { pool = 0 }))

  it("may be killed while they wait", with_sandbox(function(box)
    assert.are.equal(1, value_of(box, "return 1"))
    support.wait_until(function()
      return #box:stats().children == 4
    end)
    for _, pid in ipairs(box:stats().children) do
      uv.kill(pid, SIGKILL)
    end
    support.wait_until(function()
      return box:stats().idle == 0
    end)
    assert.are.equal(2, value_of(box, "return 2"))
    assert.are.equal(1, box:stats().starts)
  end))

  it("are started again when the zygote was killed", with_sandbox(function(box)
    local outcome = exec_with(box, function()
      uv.kill(box:stats().zygotes[1], SIGKILL)
      async.sleep(10000)
    end, "f()")
    assert.are.equal("sandbox", outcome.kind)
    assert.matches("^sandbox unavailable: ", outcome.message)
    assert.are.equal(3, value_of(box, "return 3"))
    assert.are.equal(2, box:stats().starts)
  end))

  it("are replaced unnoticed when the zygote dies under a script that called nothing",
    with_sandbox(function(box)
      local task = async.spawn(function()
        return value_of(box, "local t = os.clock() while os.clock() < t + 0.2 do end return 7")
      end)
      support.wait_until(function()
        return #box:stats().children > 0
      end)
      uv.kill(box:stats().zygotes[1], SIGKILL)
      assert.are.equal(7, select(2, task:join()))
    end))

  it("are started anew when the zygote does not answer", with_sandbox(function(box)
    assert.are.equal(1, value_of(box, "return 1"))
    local zygote = box:stats().zygotes[1]
    uv.kill(zygote, "sigstop")
    local outcome = exec(box, "return 2", { limits = { wall_ms = 3000 } })
    assert.are.equal(2, outcome.value, outcome.message)
    assert.are.equal(2, box:stats().starts)
    support.wait_until(function()
      return not is_alive(zygote)
    end, 5000, "the end of the stopped zygote")
  end, { pool = 0 }))

  it("end when the task that waits is cancelled", with_sandbox(function(box)
    local waiting, cancelled = false, false
    local task = async.spawn(function()
      exec_with(box, function()
        async.await(nil, function()
          waiting = true
          return function()
            cancelled = true
          end
        end)
      end, "f() while true do end")
    end)
    support.wait_until(function()
      return waiting
    end)
    local pid = child_of(box)
    task:cancel()
    assert.is_true(cancelled)
    assert.are.equal(0, box:stats().running)
    support.wait_until(function()
      return not is_alive(pid)
    end, 10000, "the end of the script's process")
    assert.are.equal(4, value_of(box, "return 4"))
  end, { pool = 0 }))

  it("end with the host", support.async(function()
    local script = support.write_file(support.tmp_path("host.lua"), [[
      local async = require("runtime.async")
      local box = require("runtime.sandbox").new()
      async.run(function()
        box:exec({ code = "f() while true do end", functions = { "f" }, on_call = function()
          local stats = box:stats()
          while #stats.children == 0 do
            async.sleep(1)
            stats = box:stats()
          end
          print(table.concat(stats.children, " ") .. " " .. stats.zygotes[1])
          io.stdout:flush()
          return true
        end })
      end)
    ]])
    local out = uv.new_pipe(false)
    local exited = false
    local host
    host = uv.spawn(uv.exepath(), { args = { "lua", script }, stdio = { nil, out } }, function()
      exited = true
      host:close()
    end)
    local text = ""
    out:read_start(function(_, data)
      text = text .. (data or "")
    end)
    support.wait_until(function()
      return text:find("\n")
    end)
    host:kill("sigkill")
    for pid in text:gmatch("%d+") do
      support.wait_until(function()
        return not is_alive(tonumber(pid))
      end, 10000, "the end of process " .. pid)
    end
    support.wait_until(function()
      return exited
    end)
    out:close()
    os.remove(script)
  end))

  it("leave nothing open, and what runs at close ends as cancelled", support.async(function()
    collectgarbage()
    local fds = count_fds()
    local box = sandbox.new()
    local outcomes = {}
    local tasks = {}
    for i = 1, 20 do
      tasks[i] = async.spawn(function()
        local outcome = exec(box, "while true do end")
        outcomes[#outcomes + 1] = outcome.kind
      end)
    end
    async.sleep(20)
    assert.are.equal(16, box:stats().running)
    assert.are.equal(4, box:stats().queued)
    box:close()
    box:close()
    for _, task in ipairs(tasks) do
      assert(task:join(1000))
    end
    assert.are.equal(("cancelled "):rep(20), table.concat(outcomes, " ") .. " ")
    support.wait_until(function()
      return #box:stats().zygotes == 0
    end)
    box = nil -- luacheck: ignore
    tasks = nil -- luacheck: ignore
    support.wait_until(function()
      collectgarbage()
      return count_fds() == fds
    end, 10000, "the descriptors to close")
  end))

  it("serve eight scripts at a time, and any number in turn", with_sandbox(function(box)
    local sum, most = 0, 0
    local tasks = {}
    for i = 1, 60 do
      tasks[i] = async.spawn(function()
        local outcome = exec_with(box, function(n)
          async.sleep(1)
          most = math.max(most, box:stats().running)
          return true, n * 2
        end, ("local sum = 0 for i = 1, 5 do sum = sum + f(%d) end return sum"):format(i))
        sum = sum + outcome.value
      end)
    end
    for _, task in ipairs(tasks) do
      assert(task:join())
    end
    assert.are.equal(10 * 60 * 61 / 2, sum)
    assert.is_true(most >= 8 and most <= 16)
  end))
end)

describe("a sandbox on a poor system", function()
  -- Runs a script in a host whose kernel refuses something.
  local function run_refused(what)
    local script = support.write_file(support.tmp_path("refused.lua"), [[
      local async = require("runtime.async")
      local sandbox = require("runtime.sandbox")
      async.run(function()
        local box = sandbox.new()
        local outcome = box:exec({ code = "return 1" })
        print(outcome.ok and outcome.value or outcome.kind .. ": " .. outcome.message)
        box:close()
      end)
      async.run_dry()
    ]])
    local text = jail.read_command(("%s lua %s"):format(jail.refusing(what), script))
    os.remove(script)
    return text
  end

  it("runs nothing when the kernel has no filters, and says that it is not the script's fault",
    support.async(function()
      assert.are.equal("sandbox: sandbox unavailable: the kernel has no seccomp filters\n"
        .. "this is not the script's fault: do not try other code\n", run_refused("filters"))
    end))

  it("runs nothing when the filter cannot be set", support.async(function()
    assert.matches("^sandbox: sandbox unavailable: seccomp: Invalid argument\n",
      run_refused("set"))
  end))

  it("starts from the file beside the host when there are no files in memory",
    support.async(function()
      assert.are.equal("1\n", run_refused("memory"))
    end))

  it("bears deep recursion of C functions where the stack may not grow", support.async(function()
    local code = "local function f() return (('x'):gsub('x', f)) end return (pcall(f))"
    local command = "ulimit -s 8192; ulimit -Hs 8192; %s exec none --limits wall=4m -e %q"
    assert.are.equal("false\n", jail.read_command(command:format(uv.exepath(), code)))
  end))

  it("is a FAIL of the doctor's", support.async(function()
    local text = jail.read_command(jail.refusing("filters")
      .. " doctor --node nowhere@localhost --timeout 100ms; echo status $?")
    assert.matches("FAIL  sandbox  sandbox unavailable: the kernel has no seccomp filters", text, 1,
      true)
    assert.matches("status 1", text, 1, true)
  end))
end)
