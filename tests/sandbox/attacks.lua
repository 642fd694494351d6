-- Scripts that mean ill, each with the one way in which it may end:
--
--   ok_value      it returns `value` (the attack came to nothing)
--   error_denied  a name or a limit is refused, or the text is no script
--   error_time, error_memory, error_runtime
--
-- `also_ok` lists other ends that are as good. `source` makes a text too long to write down.

return {
  -- Names that reach out ---------------------------------------------------------------------
  { name = "read_a_file", expect = "error_denied",
    code = [[local f = io.open("/etc/passwd") return f:read("*a")]] },
  { name = "popen", expect = "error_denied", code = [[return io.popen("id"):read("*a")]] },
  { name = "lines", expect = "error_denied", code = [[for l in io.lines("/etc/shadow") do end]] },
  { name = "run_a_command", expect = "error_denied", code = [[return os.execute("id")]] },
  { name = "temporary_file", expect = "error_denied", code = [[return os.tmpname()]] },
  { name = "locale", expect = "error_denied", code = [[return os.setlocale("C")]] },
  { name = "require_ffi", expect = "error_denied", code = [[return require("ffi").C.getpid()]] },
  { name = "ffi_by_name", expect = "error_denied", code = [[return ffi.cast("char *", 0)[0] ]] },
  { name = "native_library", expect = "error_denied",
    code = [[return package.loadlib("/lib/x86_64-linux-gnu/libc.so.6", "system")]] },
  { name = "load_text", expect = "error_denied", code = [[return load("return 1")()]] },
  { name = "load_from_string_method", expect = "error_denied",
    code = [[return (("x").dump)(function() end)]] },
  { name = "dofile_by_pcall", expect = "ok_value", value = false,
    code = [[return (pcall(function() return dofile("/etc/hostname") end))]] },
  { name = "file_as_module", expect = "error_denied", code = [[loadfile("/etc/passwd")]] },
  { name = "globals_of_functions", expect = "error_denied", code = [[return getfenv(print).io]] },
  { name = "new_globals", expect = "error_denied", code = [[setfenv(1, {})]] },
  { name = "userdata_with_gc", expect = "error_denied",
    code = [[local p = newproxy(true) getmetatable(p).__gc = function() while true do end end]] },
  { name = "stop_the_collector", expect = "error_denied", code = [[collectgarbage("stop")]] },
  { name = "count_memory", expect = "error_denied", code = [[return gcinfo()]] },
  { name = "hook_off", expect = "error_denied", code = [[debug.sethook(nil)]] },
  { name = "compiler_on", expect = "error_denied", code = [[jit.on()]] },
  { name = "denied_in_a_handler", expect = "ok_value", value = true,
    code = [[local ok, err = xpcall(error, function() return debug.traceback() end)
      return not ok and not tostring(err):find("/")]] },
  { name = "global_table_unlocked", expect = "ok_value", value = false,
    code = [[return (pcall(setmetatable, _G, { __index = print }))]] },
  { name = "library_metatables", expect = "ok_value", value = "false false false",
    code = [[return tostring(getmetatable(os)) .. " " .. tostring(getmetatable(string)) .. " "
      .. tostring(getmetatable(_G))]] },
  { name = "names_reached_by_rawget", expect = "ok_value", value = 0,
    code = [[local n = 0
      for _, name in ipairs({ "io", "debug", "require", "load", "ffi", "jit", "getfenv" }) do
        if rawget(_G, name) ~= nil then n = n + 1 end
      end
      return n]] },
  { name = "names_through_every_table", expect = "ok_value", value = 0,
    code = [[local seen, bad = {}, 0
      local function walk(t)
        if seen[t] then return end
        seen[t] = true
        for k, v in next, t do
          if k == "dump" or k == "execute" or k == "open" then bad = bad + 1 end
          if type(v) == "table" then walk(v) end
        end
      end
      walk(_G)
      return bad]] },
  { name = "int64_metatable", expect = "ok_value", value = "ffi",
    code = [[return getmetatable(1LL)]] },
  { name = "int64_index", expect = "ok_value", value = false,
    code = [[return (pcall(function() local x = 1LL return x.foo end))]] },
  { name = "int64_call", expect = "ok_value", value = false,
    code = [[return (pcall(function() local x = 5ULL return x() end))]] },
  { name = "int64_literals_in_a_crowd", expect = "ok_value", value = 2000,
    code = [[local n = 0 for i = 1, 2000 do n = n + tonumber(1LL) end return n]] },

  -- Time ---------------------------------------------------------------------------------------
  { name = "empty_loop", expect = "error_time", code = [[repeat until false]] },
  { name = "goto_loop", expect = "error_time", code = [[::again:: goto again]] },
  { name = "numeric_loop_of_small_steps", expect = "error_time",
    code = [[for x = 0, 1, 1e-12 do end]] },
  { name = "mutual_tail_calls", expect = "error_time",
    code = [[local a, b function a() return b() end function b() return a() end a()]] },
  { name = "loop_in_newindex", expect = "error_time",
    code = [[local t = setmetatable({}, { __newindex = function() while true do end end })
      t.x = 1]] },
  { name = "loop_in_concat", expect = "error_time",
    code = [[local t = setmetatable({}, { __concat = function() while true do end end })
      return t .. "x"]] },
  { name = "loop_in_lt", expect = "error_time",
    code = [[local mt = { __lt = function() while true do end end }
      return setmetatable({}, mt) < setmetatable({}, mt)]] },
  { name = "loop_in_unm", expect = "error_time",
    code = [[return -setmetatable({}, { __unm = function() while true do end end })]] },
  { name = "loop_in_gsub_function", expect = "error_time",
    code = [[return (("x"):gsub("x", function() while true do end end))]] },
  { name = "loop_in_gsub_index", expect = "error_time",
    code = [[return (("x"):gsub("x", setmetatable({}, { __index = function()
      while true do end end })))]] },
  { name = "loop_in_print", expect = "error_time",
    code = [[print(setmetatable({}, { __tostring = function() while true do end end }))]] },
  { name = "loop_in_format", expect = "error_time",
    code = [[return ("%s"):format(setmetatable({}, { __tostring = function()
      while true do end end }))]] },
  { name = "handler_of_handlers", expect = "error_time", also_ok = { "ok_value", "error_memory" },
    code = [[local function h(e) return xpcall(error, h) end while true do xpcall(error, h) end]] },
  { name = "caught_for_ever_by_coroutines", expect = "error_time",
    code = [[while true do
        local co = coroutine.wrap(function() while true do coroutine.yield() end end)
        for _ = 1, 1e7 do pcall(co) end
      end]] },
  { name = "pattern_of_stars", expect = "error_time",
    code = [[return (("a"):rep(64)):match(("a?"):rep(64) .. ("a-"):rep(30) .. "b")]] },
  { name = "pattern_of_captures", expect = "error_time",
    code = [[return (("ab"):rep(3000)):find("(a.-b)(.-)(.-)(.-)c")]] },
  { name = "pattern_of_frontiers", expect = "error_time",
    code = [[return (("a "):rep(30000)):find("%f[%w].-%f[%W].-%f[%w].-;")]] },
  { name = "pattern_of_back_references", expect = "error_time",
    code = [[return (("a"):rep(6000)):find("(a*)(a*)%1%2b")]] },
  { name = "gmatch_of_balances", expect = "error_time",
    code = [[for _ in (("("):rep(3e5)):gmatch("%b()") do end return 1]] },
  { name = "plain_search", expect = "error_time",
    code = [[local s = ("a"):rep(6e6) .. "b" return s:find(("a"):rep(3e6) .. "c", 1, true)]] },
  { name = "insert_far_below", expect = "error_time",
    code = [[table.insert({ 1, 2, 3 }, -2000000000, 1)]] },
  { name = "remove_far_below", expect = "error_time", also_ok = { "ok_value", "error_runtime" },
    code = [[local t = setmetatable({}, { __len = function() return 1e9 end })
      for i = 1, 1e9 do table.remove(t, i) end]] },
  { name = "sort_of_millions", expect = "error_time", also_ok = { "error_memory" },
    code = [[local t = {} for i = 1, 3e6 do t[i] = (i * 7919) % 1000003 end
      while true do table.sort(t, function(a, b) return a > b end) end]] },
  { name = "tostring_of_itself", expect = "error_time",
    code = [[local mt = {} mt.__tostring = tostring
      return tostring(setmetatable({}, mt))]] },
  { name = "concat_of_much", expect = "error_time",
    code = [[local t = {} for i = 1, 2000 do t[i] = ("x"):rep(1000) end
      while true do local s = table.concat(t, ",") end]] },
  { name = "compare_long_strings", expect = "error_time",
    code = [[local a, b = ("x"):rep(5e6) .. "a", ("x"):rep(5e6) .. "b" while a < b do end]] },
  { name = "date_for_ever", expect = "error_time",
    code = [[while true do os.date(("%c"):rep(100), 0) end]] },
  { name = "wait_in_a_function", expect = "error_time", needs = { "sleep" },
    code = [[while true do pcall(sleep, 30000) end]] },

  -- Memory -------------------------------------------------------------------------------------
  { name = "table_of_tables", expect = "error_memory",
    code = [[local t = {} for i = 1, 1e9 do t[i] = { i } end]] },
  { name = "nested_tables", expect = "error_memory",
    code = [[local t while true do t = { t } end]] },
  { name = "rep_at_once", expect = "error_memory", code = [[return #("x"):rep(2 ^ 31 - 1)]] },
  { name = "rep_of_rep", expect = "error_memory",
    code = [[return #(("x"):rep(1e5)):rep(1e5)]] },
  { name = "gsub_that_grows", expect = "error_memory",
    code = [[local s = "x" for _ = 1, 40 do s = s:gsub(".", "%0%0") end return #s]] },
  { name = "format_that_grows", expect = "error_memory",
    code = [[local s = "x" for _ = 1, 40 do s = ("%s%s"):format(s, s) end return #s]] },
  { name = "keys_of_text", expect = "error_memory",
    code = [[local t = {} for i = 1, 1e9 do t["key" .. i] = true end]] },
  { name = "one_far_index", expect = "ok_value", value = 1,
    code = [[local t = {} t[2 ^ 40] = 1 t[-2 ^ 40] = 1 return t[2 ^ 40] ]] },
  { name = "list_kept_by_print", expect = "ok_value", value = "ok",
    code = [[for _ = 1, 200 do print(("x"):rep(1e6)) end return "ok"]] },
  { name = "caught_and_hoarded", expect = "error_memory",
    code = [[local keep = {}
      while true do pcall(function() keep[#keep + 1] = ("x"):rep(1e5) .. #keep end)
        if #keep > 1e5 then break end
        keep[#keep + 1] = {} end]] },
  { name = "threads_within_threads", expect = "error_memory",
    also_ok = { "ok_value", "error_runtime" },
    code = [[local function deeper() return coroutine.wrap(deeper)() end return deeper()]] },
  { name = "closures_with_upvalues", expect = "error_memory",
    code = [[local f = {} for i = 1, 1e9 do local a, b, c = i, i, i
      f[i] = function() return a + b + c end end]] },
  { name = "shared_text_many_times", expect = "error_memory",
    code = [[local s, t = ("x"):rep(1e5), {} for i = 1, 1000 do t[i] = s end return t]] },
  { name = "result_of_many_values", expect = "error_memory",
    code = [[local t = {} for i = 1, 2e5 do t[i] = i end return t]] },
  { name = "result_of_one_string", expect = "error_memory", code = [[return ("ä"):rep(1e6)]] },

  -- The interpreter -----------------------------------------------------------------------------
  { name = "pcall_as_metamethods", expect = "ok_value", value = "ok",
    code = [[local mt = {}
      for _, event in ipairs({ "index", "newindex", "call", "concat", "add", "unm", "eq", "lt",
          "le", "len", "tostring", "mode" }) do mt["__" .. event] = pcall end
      local x, y = setmetatable({}, mt), setmetatable({}, mt)
      for _, f in ipairs({ function() return x.a end, function() x.a = 1 end,
          function() return x() end, function() return x .. y end, function() return x + y end,
          function() return -x end, function() return x == y end, function() return x < y end,
          function() return tostring(x) end, function() return #x end }) do
        for _ = 1, 50 do pcall(f) coroutine.wrap(function() pcall(f) end)() end
      end
      return "ok"]] },
  { name = "pcall_near_the_stack's_end", expect = "ok_value", value = "ok",
    code = [[for depth = 1, 230 do
        local args = {}
        for i = 1, depth do args[i] = i % 2 == 0 and pcall or xpcall end
        args[depth + 1] = print
        coroutine.wrap(function() pcall(unpack(args)) end)()
      end
      return "ok"]] },
  { name = "loop_header_after_assignments", expect = "ok_value", value = "ok",
    code = [[x = 1 x = 1 x = 1 local a, b
      pcall(function() for _ in nil do end end)
      x = 1 local c, d pcall(function() for _ in nil, nil do end end)
      return "ok"]] },
  { name = "loop_over_what_was_merged", expect = "error_runtime",
    code = [[x=1 x=1 x=1 local a,b for _ in nil do end]] },
  { name = "loops_over_nothing_everywhere", expect = "error_runtime", source = function()
    local parts = {}
    for i = 0, 300 do
      parts[#parts + 1] = "do " .. ("x = 1 "):rep(i % 70) .. "local a, b for _ in nil do end end "
    end
    return table.concat(parts)
  end },
  { name = "recursion_in_gsub", expect = "ok_value", also_ok = { "error_runtime" }, value = false,
    code = [[local function f() return (("x"):gsub("x", f)) end return (pcall(f))]] },
  { name = "recursion_in_sort", expect = "ok_value", value = false,
    code = [[local function f() table.sort({ 1, 2, 3 }, f) return true end return (pcall(f))]] },
  { name = "recursion_in_index", expect = "ok_value", value = false,
    code = [[local t = setmetatable({}, { __index = function(t, k) return t[k .. "x"] end })
      return (pcall(function() return t.x end))]] },
  { name = "unpack_of_millions", expect = "ok_value", value = "false false",
    code = [[return tostring((pcall(unpack, {}, 1, 1e7))) .. " "
      .. tostring((pcall(string.char, unpack({}, 1, 7000))))]] },
  { name = "select_far", expect = "ok_value", value = "false 0",
    code = [[return tostring((pcall(select, -1))) .. " " .. select("#", select(2 ^ 31, 1, 2))]],
    also_ok = { "error_runtime" } },
  { name = "numbers_into_places", expect = "ok_value", value = "ok",
    code = [[local odd = { 0 / 0, 1 / 0, -1 / 0, 2 ^ 63, -2 ^ 63, 2 ^ 31, -2 ^ 31, 1e308, -0.0 }
      for _, n in ipairs(odd) do
        pcall(string.rep, "x", n < 1e5 and n or -n)
        pcall(string.sub, "abc", n, -n) pcall(string.byte, "abc", n, n)
        pcall(string.format, "%d %x %c %5.3f", n, n, n, n)
        pcall(table.concat, { 1, 2 }, ",", n, n) pcall(table.remove, { 1 }, n)
        pcall(select, n, 1) pcall(math.random, n) pcall(bit.lshift, n, n)
        pcall(os.date, "%c", n) pcall(string.char, n) pcall(rawset, {}, n, 1)
        pcall(math.ldexp, n, n) pcall(tonumber, "z", n) pcall(unpack, { 1 }, n, n)
      end
      return "ok"]] },
  { name = "string_escapes", expect = "ok_value", value = "ok",
    code = [[for w = 0, 120, 7 do for _, c in ipairs({ "g", "a", "e", "f", "q", "s", "d" }) do
        pcall(string.format, "%-+ #0" .. w .. "." .. w .. c, "\0\1\255\n" .. w)
        pcall(string.format, "%" .. w .. "." .. w .. c, 0x1.8p1023)
      end end return "ok"]] },
  { name = "dead_coroutine", expect = "ok_value", value = "false false",
    code = [[local co = coroutine.create(function() error({}) end)
      coroutine.resume(co)
      return tostring((coroutine.resume(co))) .. " " .. tostring((pcall(coroutine.wrap(function()
        coroutine.resume(coroutine.running()) error(0) end))))]] },
  { name = "resume_of_itself", expect = "ok_value", value = false,
    code = [[local co co = coroutine.create(function() return coroutine.resume(co) end)
      return (select(2, coroutine.resume(co)))]] },
  { name = "yield_from_everywhere", expect = "ok_value", value = "ok",
    code = [[local y = coroutine.yield
      for _, f in ipairs({ function() table.sort({ 2, 1 }, y) end,
          function() ("x"):gsub("x", y) end, function() for _ in y do break end end,
          function() pcall(y) end, function() xpcall(y, y) end, function() error(y()) end,
          function() return setmetatable({}, { __index = y }).x end }) do
        local co = coroutine.create(f)
        for _ = 1, 5 do coroutine.resume(co, 1) end
      end
      return "ok"]] },
  { name = "table_changed_while_walked", expect = "ok_value", value = "ok",
    code = [[local t = {} for i = 1, 500 do t[i] = i t["k" .. i] = i end
      pcall(function() local n = 0 for k in pairs(t) do t[k] = nil t["n" .. n] = 1 n = n + 1
        if n > 5000 then break end end end)
      pcall(next, t, "no such key")
      return "ok"]] },
  { name = "weak_tables", expect = "ok_value", value = "ok",
    code = [[local t = setmetatable({}, { __mode = "kv" })
      for i = 1, 2e5 do t[{}] = {} t[i] = {} end return "ok"]] },

  -- Text of scripts ------------------------------------------------------------------------------
  { name = "bytecode", expect = "error_denied", code = "\27LJ\2\0\0" },
  { name = "not_utf8", expect = "error_denied", code = "return '\255\254'" },
  { name = "zero_bytes", expect = "error_denied", code = "return \0 1" },
  { name = "endless_comment", expect = "error_denied", code = "--[[" .. ("x"):rep(1000) },
  { name = "many_locals", expect = "error_denied", source = function()
    return ("local a = 1 "):rep(300) .. "return a"
  end },
  { name = "deep_parentheses", expect = "error_denied", source = function()
    return "return " .. ("("):rep(5000) .. "1" .. (")"):rep(5000)
  end },
  { name = "deep_functions", expect = "error_denied", source = function()
    return ("local function f() "):rep(3000) .. ("end "):rep(3000)
  end },
  { name = "deep_concatenation", expect = "ok_value", value = 20000,
    also_ok = { "error_denied" }, source = function()
      return "return #(" .. ("'x' .. "):rep(19999) .. "'x')"
    end },
  { name = "script_too_long", expect = "error_denied", source = function()
    return "return 1 " .. ("-"):rep(300 * 1024)
  end },
  { name = "long_names", expect = "ok_value", value = 1, source = function()
    local name = ("n"):rep(50000)
    return ("local %s = 1 return %s"):format(name, name)
  end },

  -- Across the wall -------------------------------------------------------------------------------
  { name = "too_many_calls", expect = "error_denied", needs = { "echo" },
    code = [[while true do pcall(echo, 1) end]] },
  { name = "calls_in_coroutines", expect = "error_denied", needs = { "echo" },
    code = [[while true do coroutine.wrap(function() echo(1) end)() end]] },
  { name = "argument_too_large", expect = "ok_value", value = false, needs = { "echo" },
    code = [[return (pcall(echo, ("x"):rep(3e5)))]] },
  { name = "argument_too_deep", expect = "ok_value", value = false, needs = { "echo" },
    code = [[local t = {} for _ = 1, 100 do t = { t } end return (pcall(echo, t))]] },
  { name = "argument_with_metamethods", expect = "ok_value", value = 3, needs = { "echo" },
    code = [[local t = echo(setmetatable({ 1, 2, 3 }, { __len = function() return 1e9 end,
        __index = function() while true do end end }))
      return #t]] },
  { name = "arguments_by_the_thousand", expect = "ok_value", needs = { "echo" },
    value = true, code = [[local t = {} for i = 1, 5000 do t[i] = i end
      return (pcall(echo, unpack(t)))]] },
  { name = "frame_in_printed_text", expect = "ok_value", value = "mine",
    code = [[print("\0\0\0\2D{}") print('{"ok":true,"value":"theirs"}') return "mine"]] },
  { name = "error_of_an_endless_object", expect = "error_runtime",
    code = [[error(setmetatable({}, { __tostring = function() while true do end end,
      __index = function() while true do end end }))]] },
  { name = "error_of_a_cycle", expect = "error_runtime",
    code = [[local t = {} t.t = t error(t)]] },
  { name = "error_of_a_megabyte", expect = "error_runtime", code = [[error(("x"):rep(1e6))]] },
  { name = "error_that_claims_success", expect = "error_runtime",
    code = [[error('","ok":true,"value":1,"x":"')]] },
  { name = "result_of_odd_keys", expect = "ok_value",
    code = [[local t = {} for i = 1, 1000 do t[{}] = i end return t]] },
  { name = "result_like_a_report", expect = "ok_value",
    value = '{"ok":false,"error":{"kind":"sandbox"}}',
    code = [[return '{"ok":false,"error":{"kind":"sandbox"}}']] },
  { name = "functions_replaced", expect = "ok_value", value = "real", needs = { "echo" },
    code = [[local real = echo
      string.format, tostring, type, pcall, error, next = nil, nil, nil, nil, nil, nil
      _G.print = nil
      return real("real")]] },
}
