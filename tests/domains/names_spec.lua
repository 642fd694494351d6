-- Things with names that nobody expects, and things that are gone: every callback of every domain
-- answers in text that is bounded and valid.

local beam = require("support.beam")
local json = require("runtime.json")
local names = require("runtime.names")
local node = require("support.node")
local support = require("support")
local sweep = require("runtime.sweep")

local DOMAINS = { "beam", "ets", "gc", "ports", "sup" }

-- What a callback is asked: each of `asked` where it needs the name of something, and else much.
local function arguments_of(callback, asked)
  local first = callback.params[1]
  if not first then
    return { {} }
  elseif first.name == "limit" or first.name == "ms" then
    return { { first.max <= 50 and first.max or 1 } }
  end
  local list = {}
  for i, name in ipairs(asked) do
    list[i] = { name }
  end
  return list
end

local function fail_unless_plain(value, path)
  if type(value) == "string" then
    assert(#value <= 256, ("%s has %d bytes"):format(path, #value))
    assert.are.equal(names.utf8(value), value, path)
    assert.is_nil(value:find("%c"), path)
  elseif type(value) == "table" then
    for key, item in pairs(value) do
      fail_unless_plain(item, ("%s.%s"):format(path, tostring(key)))
    end
  end
end

-- Runs all callbacks of all domains. Returns all that they said.
local function everything(ctx, asked)
  local said = {}
  for _, name in ipairs(DOMAINS) do
    local d = beam.domain(name)
    fail_unless_plain(assert(d:snapshot(ctx)), name)
    for _, callback in ipairs(d:callbacks()) do
      for _, args in ipairs(arguments_of(callback, asked)) do
        local ok, value = d:invoke(ctx, callback.name, args)
        assert(ok, value)
        beam.check_returns(callback, value)
        fail_unless_plain(value, callback.name)
        said[#said + 1] = json.encode(value)
      end
    end
  end
  return table.concat(said, "\n")
end

local function attach(n)
  return beam.attach(n, { gap_ms = 50, parts = sweep.PARTS })
end

describe("names", function()
  it("of a megabyte, of bytes, of terms, and in UTF-8 are told bounded and valid", support.async(
    function()
      local n = node.start({ name = "names1" })
      -- An atom in UTF-8 as all that an atom can be.
      n:eval([==[
        Wide = list_to_atom([26085, 26412, 128512]),
        fl:selective(Wide, 900), fl:labelled({Wide, 7}, 300000),
        fl_ets:keep(fun() -> ets:new(Wide, [named_table]), ets:new(list_to_atom([252]), []) end),
        fl_sup:start(list_to_atom([1097, 95] ++ "sup"), [{Wide, worker},
          {inner, {sup, list_to_atom([26085]), []}}]),
        ok.]==])
      -- Megabytes, bytes and terms where these may be.
      n:eval([==[
        Large = binary:copy(<<"x">>, 1 bsl 20),
        [fl:labelled(Label, 300000) || Label <- [Large, {Large, Large}, [Large], <<255, 254, 0>>,
          binary:copy(<<226, 130, 172>>, 1 bsl 18), {{1, 2}, [a | b], #{k => "v"}, fun() -> ok end},
          lists:duplicate(1 bsl 18, 8364), 1.5, self(), make_ref()]],
        fl_sup:start({global, {Large, <<255>>, self()}}, [{{child, Large}, worker},
          {binary:copy(<<195>>, 1 bsl 20), worker}, {"text", worker}, {[a | Large], worker}]),
        register(ports, spawn(fun() ->
          open_port({spawn, "cat #" ++ lists:duplicate(60000, $y)}, []),
          open_port({spawn, "cat #" ++ [26085, 26412]}, []),
          open_port({spawn, "cat #\t\e[2J"}, []),
          receive never -> ok end
        end)), timer:sleep(300).]==])
      local global = n:eval("pid_to_list(global:whereis_name(hd([N || N <- "
        .. "global:registered_names(), is_tuple(N)])))."):match("<[%d.]+>")
      local ctx = attach(n)
      assert(ctx.sweep:once())
      local said = everything(ctx, { "日本😀", "щ_sup", "ü", global, ("x"):rep(60) })
      for _, text in ipairs({ '"日本😀"', '"щ_sup"', '"{\'日本😀\',7}"', '"ü"', '"cat #日本"',
        '"cat #yyyyyyy', '"cat #??[2J"', '\\"text\\"', '{child,<<', "{{1,2},[a|b],#{" }) do
        assert.is_truthy(said:find(text, 1, true), text)
      end
      assert.are.equal("", n:log())
    end, 40))
end)

describe("what is gone", function()
  it("is said to be gone, or is left out, while all comes and goes", support.async(function()
    local n = node.start({ name = "names1" })
    -- Tables, ports, processes and supervisors that live for some milliseconds, all named.
    n:eval([==[
      logger:set_primary_config(level, none),
      Life = fun(N) -> spawn(fun() ->
        process_flag(trap_exit, true),
        Name = list_to_atom("passing_" ++ integer_to_list(N)),
        (fun Loop() ->
          T = ets:new(Name, [named_table]), ets:new(Name, []),
          {ok, S} = gen_udp:open(0),
          {ok, Sup} = supervisor:start_link({local, Name}, fl_sup, {one_for_one, [{a, worker}]}),
          receive after 1 + rand:uniform(15) -> ok end,
          exit(Sup, kill), receive {'EXIT', Sup, _} -> ok end,
          ets:delete(T), [ets:delete(X) || X <- ets:all(), ets:info(X, owner) =:= self()],
          gen_udp:close(S),
          Loop()
        end)()
      end) end,
      [Life(N) || N <- lists:seq(1, 8)], ok.]==])
    local ctx = attach(n)
    local asked = { "<0.999999.0>", "#Ref<0.1.2.3>", "#Port<0.999999>" }
    for i = 1, 8 do
      asked[#asked + 1] = "passing_" .. i
    end
    for _ = 1, 3 do
      local pass = assert(ctx.sweep:once())
      assert.are.same({}, pass.errors)
      -- What the pass has seen is gone by now.
      for _, part in ipairs({ "supervisors", "tables", "ports" }) do
        for id in pairs(pass[part].rows) do
          if #asked < 60 then
            asked[#asked + 1] = id
          end
        end
      end
      local said = everything(ctx, asked)
      for _, err in ipairs({ "table_not_found", "port_not_found", "supervisor_not_found" }) do
        assert.is_truthy(said:find(err, 1, true), err)
      end
    end
    assert.are.equal("", n:log())
  end, 60))
end)
