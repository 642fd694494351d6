%% Leaks at a steady rate, and as much taken at once: each by one registered process, which keeps what
%% it took when it is told to pause/1. fl:stop/0 ends them all.
-module(soak_sick).
-export([leak/3, jump/3, pause/1, pile/1]).

%% Name takes Rate of Kind a second.
leak(Name, Kind, Rate) ->
    Fun = taker(Name, Kind),
    fl:start(Name, fun() -> take_on(Fun, Rate, erlang:monotonic_time(millisecond), 0) end),
    ok.

%% Name takes Count of Kind at once.
jump(Name, Kind, Count) ->
    Fun = taker(Name, Kind),
    fl:start(Name, fun() ->
        [Fun(N) || N <- lists:seq(1, Count)],
        sleep()
    end),
    ok.

%% Ends a leak, and nothing else.
pause(Name) ->
    Name ! pause,
    ok.

%% Binaries of a kilobyte for Mib MiB, of which every fortieth stays.
pile(Mib) ->
    fl_waits:fragments(Mib * 1024).

take_on(Fun, Rate, Start, Done) ->
    receive pause -> sleep() after 50 -> ok end,
    Due = trunc((erlang:monotonic_time(millisecond) - Start) * Rate / 1000),
    [Fun(N) || N <- lists:seq(Done + 1, Due)],
    take_on(Fun, Rate, Start, max(Done, Due)).

sleep() ->
    receive never -> ok end.

keep(Thing) ->
    put(kept, [Thing | case get(kept) of undefined -> []; Kept -> Kept end]).

taker(_, atoms) ->
    fun(_) -> list_to_atom("sick_" ++ integer_to_list(erlang:unique_integer([positive]))) end;
taker(_, processes) ->
    fun(_) -> fl:start(fun sleep/0) end;
taker(Name, children) ->
    Sup = list_to_atom(atom_to_list(Name) ++ "_sup"),
    fl_sup:dynamic(Sup, 10),
    fun(_) -> {ok, _} = supervisor:start_child(Sup, []) end;
taker(_, monitors) ->
    Other = fl:start(fun sleep/0),
    fun(_) -> monitor(process, Other) end;
taker(Name, tables) ->
    fun(_) -> ets:new(Name, [public]) end;
taker(Name, rows) ->
    fun(1) -> ets:new(Name, [named_table, public]), ets:insert(Name, {1, row()});
       (N) -> ets:insert(Name, {N, row()})
    end;
taker(_, ports) ->
    fun(_) -> {ok, _} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]) end;
taker(_, files) ->
    fun(_) -> {ok, File} = file:open("/dev/null", [read, raw]), keep(File) end;
taker(_, binaries) ->
    fun(N) -> keep(binary:part(binary:copy(<<N:64>>, 8192), 0, 100)) end;
taker(_, kilobytes) ->
    fun(_) -> keep(lists:seq(1, 64)) end.

%% A kilobyte in a table.
row() ->
    lists:seq(1, 64).
