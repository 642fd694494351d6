%% Tables to order, and what the node itself says of them.
-module(fl_ets).
-export([keep/1, unnamed/3, leak/2, burst/2, own_list/0, own_info/1, own_row/1, heap/2, held/2, own_heap/1]).

%% Has Fun run by a process that lives on. Returns its pid and what Fun returned.
keep(Fun) ->
    Me = self(),
    Pid = spawn(fun() -> Me ! {self(), Fun()}, receive never -> ok end end),
    receive {Pid, Value} -> {Pid, Value} end.

%% An unnamed table with Count rows, of a process that is registered as Owner if that is not undefined.
unnamed(Name, Count, Owner) ->
    {Pid, Table} = keep(fun() ->
        T = ets:new(Name, [public]),
        ets:insert(T, [{N, N} || N <- lists:seq(1, Count)]),
        T
    end),
    Owner =:= undefined orelse register(Owner, Pid),
    list_to_binary(ref_to_list(Table)).

%% Rows of a kilobyte into a table called Name, so many a second.
leak(Name, PerS) ->
    keep(fun() ->
        Name = ets:new(Name, [named_table, public]),
        spawn_link(fun() -> insert(Name, PerS, 0) end)
    end),
    ok.

insert(Name, PerS, N) ->
    Rows = max(1, PerS div 10),
    ets:insert(Name, [{N + I, binary:copy(<<0>>, 32), lists:seq(1, 50)} || I <- lists:seq(1, Rows)]),
    timer:sleep(100),
    insert(Name, PerS, N + Rows).

%% Count unnamed tables of one process.
burst(Name, Count) ->
    keep(fun() -> [ets:new(Name, []) || _ <- lists:seq(1, Count)] end),
    ok.

%% "Id Size Words" of each table, sorted.
own_list() ->
    lists:join("\n", lists:sort([io_lib:format("~ts ~b ~b", [printed(T), ets:info(T, size),
        round(ets:info(T, memory) * erlang:system_info(wordsize) / 1024)]) || T <- ets:all()])).

printed(T) when is_atom(T) -> atom_to_list(T);
printed(T) -> ref_to_list(T).

%% "Id Name Type Protection Size KiB Owner Compressed" of the table with a printed id.
own_row(Id) ->
    [T] = [X || X <- ets:all(), printed(X) =:= Id],
    [Name, Type, Protection, Size, Words, Owner, Compressed] = [ets:info(T, I)
        || I <- [name, type, protection, size, memory, owner, compressed]],
    io_lib:format("~s ~s ~s ~s ~b ~b ~p ~s", [Id, Name, Type, Protection, Size,
        round(Words * erlang:system_info(wordsize) / 1024), Owner, Compressed]).

own_info(T) ->
    {ets:info(T, size), ets:info(T, memory) * erlang:system_info(wordsize),
     pid_to_list(ets:info(T, owner))}.

%% A process that keeps a list of Count integers on its heap.
heap(Name, Count) ->
    {Pid, _} = keep(fun() -> put(list, lists:seq(1, Count)), erlang:garbage_collect() end),
    register(Name, Pid),
    ok.

%% A process that holds Count parts of 64 KiB binaries, each a binary of its own.
held(Name, Count) ->
    {Pid, _} = keep(fun() ->
        put(parts, [binary:part(binary:copy(<<N:8>>, 65536), 0, 100) || N <- lists:seq(1, Count)]),
        erlang:garbage_collect()
    end),
    register(Name, Pid),
    ok.

own_heap(Name) ->
    P = whereis(Name),
    W = erlang:system_info(wordsize),
    [{_, Heap}, {_, Total}, {_, Gc}] = process_info(P, [heap_size, total_heap_size, garbage_collection]),
    {_, Info} = process_info(P, garbage_collection_info),
    {Heap * W, Total * W, proplists:get_value(minor_gcs, Gc), proplists:get_value(fullsweep_after, Gc),
     (proplists:get_value(bin_vheap_size, Info) + proplists:get_value(bin_old_vheap_size, Info)) * W}.
