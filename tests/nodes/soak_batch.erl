%% A node with a steady load and a batch job: for a while the job takes a big heap, binaries, rows
%% of ETS and processes, and then lets go of all of it.
-module(soak_batch).
-export([start/1, jobs/0]).

-define(PERIODS, 100).

%% Opts: first_ms (until the first job), every_ms (from one job to the next), takes_ms (each).
start(Opts) ->
    Starter = self(),
    Pid = spawn(fun() ->
        ets:new(soak_cache, [named_table, public]),
        ets:new(soak_jobs, [named_table, public]),
        ets:insert(soak_jobs, {jobs, 0}),
        [spawn_link(fun() -> server(I) end) || I <- lists:seq(1, 20)],
        Starter ! {self(), ready},
        schedule(Opts)
    end),
    receive {Pid, ready} -> ok end.

%% How many jobs have begun.
jobs() ->
    ets:lookup_element(soak_jobs, jobs, 2).

%% One of those that work all the time: a cache whose rows are replaced, and a little of all else.
server(I) ->
    timer:sleep(50 + rand:uniform(100)),
    ets:insert(soak_cache, {{I, rand:uniform(500)}, rand:bytes(200)}),
    _ = lists:sort([rand:uniform() || _ <- lists:seq(1, 300)]),
    server(I).

schedule(#{first_ms := FirstMs, every_ms := EveryMs, takes_ms := TakesMs}) ->
    timer:sleep(FirstMs),
    {ok, _} = timer:apply_interval(EveryMs, erlang, spawn, [fun() -> job(TakesMs) end]),
    job(TakesMs),
    timer:sleep(infinity).

%% Grows in steps, holds everything for as long again, and ends: with it all that it took.
job(TakesMs) ->
    ets:update_counter(soak_jobs, jobs, 1),
    register(soak_job, self()),
    Table = ets:new(soak_import, [public]),
    Workers = [spawn_link(fun() -> helper(Table) end) || _ <- lists:seq(1, 2000)],
    {Heap, Binaries} = import(Table, Workers, TakesMs div 2 div ?PERIODS, 1, [], []),
    timer:sleep(TakesMs div 2),
    true = length(Heap) + length(Binaries) > 0,
    [unlink(W) || W <- Workers],
    [exit(W, kill) || W <- Workers],
    unregister(soak_job).

import(_, _, _, Step, Heap, Binaries) when Step > ?PERIODS ->
    {Heap, Binaries};
import(Table, Workers, StepMs, Step, Heap, Binaries) ->
    More = [{Step, I, [I]} || I <- lists:seq(1, 10000)],
    ets:insert(Table, [{{Step, I}, More =/= []} || I <- lists:seq(1, 3000)]),
    [W ! {part, Step} || W <- Workers],
    timer:sleep(StepMs),
    import(Table, Workers, StepMs, Step + 1, [More | Heap], [rand:bytes(1 bsl 20) | Binaries]).

helper(Table) ->
    receive
        {part, Step} -> ets:lookup(Table, {Step, 1})
    end,
    helper(Table).
