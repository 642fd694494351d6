%% Processes that wait for each other, or for what does not come, and their healthy twins. fl:stop/0
%% ends all of them.
-module(fl_waits).
-export([deadlock/1, chain/1, watching/1, late/2, monitors/2, scope/2, monitor_leak/2]).
-export([bin_leak/2, router/2, bin_jump/2, fragments/1, dirty/2]).

%% Servers that call each other in a circle and never time out.
deadlock(Names) ->
    [server(Name) || Name <- Names],
    [Name ! {ask, Next} || {Name, Next} <- lists:zip(Names, tl(Names) ++ [hd(Names)])],
    ok.

%% Each calls the next one; the last one works on.
chain(Names) ->
    [server(Name) || Name <- Names],
    lists:last(Names) ! work,
    timer:sleep(50),
    [Name ! {ask, Next}
        || {Name, Next} <- lists:reverse(lists:zip(lists:droplast(Names), tl(Names)))],
    ok.

%% The first two monitor each other for good, and the first calls the last one, which works on: no
%% circle, but it looks like one.
watching([A, B, C]) ->
    [server(Name) || Name <- [A, B, C]],
    A ! {watch, B},
    B ! {watch, A},
    C ! work,
    A ! {ask, C},
    B ! {ask, A},
    B ! hello,
    ok.

%% Two servers that call each other, the second of which gives up after Ms.
late([A, B], Ms) ->
    server(A),
    server(B),
    A ! {ask, B},
    B ! {ask, A, Ms},
    ok.

%% A process with Count monitors of one other.
monitors(Name, Count) ->
    Other = fl:start(fun sleep/0),
    holder(Name, fun() -> [monitor(process, Other) || _ <- lists:seq(1, Count)] end).

%% A process with a monitor of each of Count others, as a scope of groups has.
scope(Name, Count) ->
    Others = [fl:start(fun sleep/0) || _ <- lists:seq(1, Count)],
    holder(Name, fun() -> [monitor(process, P) || P <- Others] end).

%% A process that monitors one other Rate times a second more.
monitor_leak(Name, Rate) ->
    Other = fl:start(fun sleep/0),
    fl:start(Name, fun() -> fl:every(Rate, fun(_) -> monitor(process, Other) end) end),
    ok.

%% A process that keeps a hundred bytes of each of Rate binaries of 64 KiB a second. (Up to 64 would
%% be copied.)
bin_leak(Name, Rate) ->
    fl:start(Name, fun() ->
        put(kept, []),
        fl:every(Rate, fun(N) -> put(kept, [part(N) | get(kept)]) end)
    end),
    ok.

%% A process that handles Rate binaries of 64 KiB a second and keeps none, but seldom collects.
router(Name, Rate) ->
    fl:start(Name, fun() -> fl:every(Rate, fun(N) -> put(last, part(N)) end) end),
    ok.

%% A process that takes Count binaries of 64 KiB at once.
bin_jump(Name, Count) ->
    holder(Name, fun() -> put(kept, [part(N) || N <- lists:seq(1, Count)]) end).

%% Count binaries of some 1 KiB, of which every fortieth stays.
fragments(Count) ->
    holder(fragments, fun() ->
        All = [{N, binary:copy(<<N:32>>, 256)} || N <- lists:seq(1, Count)],
        put(kept, [B || {N, B} <- All, N rem 40 =:= 0])
    end).

%% Count processes that open a pipe nobody writes to: each takes a dirty IO scheduler, or waits for
%% one. Who opens the other end lets them go.
dirty(Path, Count) ->
    [fl:start(fun() -> {ok, _} = prim_file:open(Path, [read]), sleep() end)
        || _ <- lists:seq(1, Count)],
    ok.

sleep() ->
    receive never -> ok end.

holder(Name, Fun) ->
    Me = self(),
    fl:start(Name, fun() ->
        Fun(),
        garbage_collect(),
        Me ! {done, Name},
        sleep()
    end),
    receive {done, Name} -> ok end.

part(N) ->
    binary:part(binary:copy(<<N:64>>, 8192), 0, 100).

server(Name) ->
    fl:start(Name, fun serve/0).

serve() ->
    receive
        {'$gen_call', From, _} -> gen_server:reply(From, ok);
        {ask, Name} -> gen_server:call(Name, question, infinity);
        {ask, Name, Ms} -> catch gen_server:call(Name, question, Ms);
        {watch, Name} -> monitor(process, Name);
        work -> timer:sleep(infinity);
        _ -> ok
    end,
    serve().
