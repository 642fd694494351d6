--- The Erlang of the sweep: one expression, evaluated on the node by runtime/sweep.lua.
---
--- What runs once per process is compiled code of OTP only (`lists:zipwith(fun
--- erlang:process_info/2, …)`, `lists:map`, `lists:max`, `lists:sort`); what `erl_eval` interprets
--- runs once per chunk or per candidate. That makes a pass over 100 000 processes about 0.3 s.
---
--- This process coordinates and holds the best so far. A linked reader does the asking, since a
--- process that is busy answers `process_info` only at its next safe point, or never: when a chunk
--- is not answered in time the reader is killed, and the chunk is asked again by one short-lived
--- helper per process, many at once, so that only those that do not answer are left out.
---
--- Where many processes wait for a scheduler, every question that a process itself has to answer
--- waits for its turn, and the scan may not get to all within its budget. There what can be read
--- without asking is read first, of all: who has work to do, who has done most, whose mailbox is
--- longest.
---
--- Bindings: Budget (ms for the scan), Patience (ms for a chunk), Grace (ms for one process), Gap
--- (ms between the two readings of rates), Top, Small (up to so many processes every rate is read),
--- Hints (pids to read rates of), Calling (pids that waited for the answer to a call), Named (pids
--- whose name is known), Avoid (pids that did not answer before), Copy (the most memory of a
--- process whose dictionary is copied for its name, where the node cannot give one key of it).

return [==[
Me = self(),
Now = fun() -> erlang:monotonic_time(microsecond) end,
Start = Now(),
End = Start + Budget * 1000,
put(stuck, []),
put(skipped, 0),
Urge = fun() ->
  case erlang:statistics(run_queue) > 2 * erlang:system_info(schedulers_online) of
    true -> normal;
    false -> low
  end
end,
process_flag(priority, Urge()),
Keyed = try process_info(self(), [{dictionary, label}]) of _ -> true catch error:_ -> false end,

Best = fun(Infos, Pids, Min) ->
  [{_, Max} | _] = lists:max(Infos),
  case Max > Min of
    true ->
      [{V, P} || {[{_, V} | _], P} <-
        lists:sublist(lists:reverse(lists:sort(lists:zip(Infos, Pids))), Top)];
    false -> []
  end
end,
Idle = fun({[{_, S}], _}) -> S =/= waiting end,
Active = fun(Infos, Pids) ->
  case lists:min(Infos) of
    [{_, waiting}] -> [];
    _ -> [P || {_, P} <- lists:takewhile(Idle, lists:sort(lists:zip(Infos, Pids)))]
  end
end,
% Those that wait although they have messages: at most 100, the shortest mailboxes first, since the
% longest are found by their length.
HasMail = fun({[{_, Q} | _], _}) -> Q > 0 end,
Waiters = fun(Infos, Pids) ->
  case lists:max(Infos) of
    [{_, 0} | _] -> [];
    _ ->
      WithMail = lists:takewhile(HasMail, lists:reverse(lists:sort(lists:zip(Infos, Pids)))),
      lists:sublist([P || {[_, _, {_, waiting}], P} <- lists:reverse(WithMail)], 100)
  end
end,
Present = fun(Infos, Pids) ->
  case lists:member(undefined, Infos) of
    true -> lists:unzip([X || {[_ | _], _} = X <- lists:zip(Infos, Pids)]);
    false -> {Infos, Pids}
  end
end,
SelectQuick = fun(Infos0, Pids0, {MinR, MinQ}) ->
  case Present(Infos0, Pids0) of
    {[], _} -> {[], [], []};
    {Infos, Pids} ->
      Infos2 = lists:map(fun erlang:tl/1, Infos),
      Infos3 = lists:map(fun erlang:tl/1, Infos2),
      {Best(Infos, Pids, MinR), Best(Infos2, Pids, MinQ), Active(Infos3, Pids)}
  end
end,
Select = fun(Infos0, Pids0, {MinM, MinR, MinQ, MinH}) ->
  case Present(Infos0, Pids0) of
    {[], _} -> {[], [], [], [], [], []};
    {Infos, Pids} ->
      Infos2 = lists:map(fun erlang:tl/1, Infos),
      Infos3 = lists:map(fun erlang:tl/1, Infos2),
      Infos4 = lists:map(fun erlang:tl/1, Infos3),
      Infos5 = lists:map(fun erlang:tl/1, Infos4),
      {Best(Infos, Pids, MinM), Best(Infos2, Pids, MinR), Best(Infos3, Pids, MinQ),
        Best(Infos4, Pids, MinH), Active(Infos5, Pids), Waiters(Infos3, Pids)}
  end
end,
Read = fun(Pids, Items) ->
  lists:zipwith(fun erlang:process_info/2, Pids, lists:duplicate(length(Pids), Items))
end,
QuickItems = [reductions, message_queue_len, status],
ScanItems = [memory, reductions, message_queue_len, total_heap_size, status],
RateItems = [reductions, message_queue_len],
RowItems = [registered_name, initial_call, current_function, status, memory, message_queue_len,
  reductions],
CollectorItems = [garbage_collection_info, total_heap_size, heap_size, garbage_collection],

Text = fun
  (T) when is_atom(T) -> atom_to_binary(T, utf8);
  (T) when is_binary(T), byte_size(T) > 200 -> binary_part(T, 0, 200);
  (T) when is_binary(T) -> T;
  (T) ->
    try unicode:characters_to_binary(io_lib:format("~0tp", [T], [{chars_limit, 100}]))
    catch _:_ -> atom_to_binary(label, utf8)
    end
end,
Mfa = fun
  ({M, F, A}) when is_atom(M), is_atom(F), is_integer(A) ->
    {atom_to_binary(M, utf8), atom_to_binary(F, utf8), A};
  (_) -> undefined
end,
Label = fun
  (undefined) -> undefined;
  (L) -> Text(L)
end,
Value = fun(Key, Dictionary) ->
  case lists:keyfind(Key, 1, Dictionary) of {_, V} -> V; false -> undefined end
end,
Name = fun(P, Memory) ->
  case {Keyed, Memory > Copy} of
    {true, _} ->
      case process_info(P, [{dictionary, '$process_label'}, {dictionary, '$initial_call'}]) of
        [{_, L}, {_, I}] -> {Label(L), Mfa(I)};
        undefined -> {undefined, undefined}
      end;
    {false, true} -> {undefined, undefined};
    {false, false} ->
      case process_info(P, dictionary) of
        {dictionary, D} -> {Label(Value('$process_label', D)), Mfa(Value('$initial_call', D))};
        undefined -> {undefined, undefined}
      end
  end
end,

Reader = fun Loop() ->
  receive
    {Tag, Prio, Job} ->
      process_flag(priority, Prio),
      Before = Now(),
      Answer = case Job of
        {quick, Pids, Min} -> SelectQuick(Read(Pids, QuickItems), Pids, Min);
        {scan, Pids, Min} -> Select(Read(Pids, ScanItems), Pids, Min);
        {read, Pids, Items} -> Read(Pids, Items);
        {name, Pids} -> [Name(P, M) || {P, M} <- Pids]
      end,
      Me ! {Tag, (Before + Now()) div 2, Answer},
      Loop()
  end
end,
Hire = fun() -> put(reader, spawn_opt(Reader, [link, {priority, low}])) end,
Hire(),
Dismiss = fun(Pid) -> unlink(Pid), exit(Pid, kill) end,
Ask = fun(Job) ->
  Tag = make_ref(),
  get(reader) ! {Tag, Urge(), Job},
  receive
    {Tag, At, Answer} -> {At, Answer}
  after Patience ->
    Dismiss(get(reader)),
    Hire(),
    stalled
  end
end,

Helper = fun(Tag, P, Items) -> Me ! {Tag, P, process_info(P, Items)} end,
Gather = fun Loop(Tag, Left, Until, Got) ->
  case map_size(Left) of
    0 -> Got;
    _ ->
      receive
        {Tag, P, Info} -> Loop(Tag, maps:remove(P, Left), Until, Got#{P => Info})
      after max(0, (Until - Now()) div 1000) ->
        _ = [Dismiss(H) || H <- maps:values(Left)],
        put(stuck, maps:keys(Left) ++ get(stuck)),
        Got
      end
  end
end,
Each = fun
  Loop([], _, Got) -> Got;
  Loop(Pids, Items, Got) ->
    {Batch, Rest} = case length(Pids) > 64 of
      true -> lists:split(64, Pids);
      false -> {Pids, []}
    end,
    Tag = make_ref(),
    Prio = Urge(),
    Left = maps:from_list([{P, spawn_opt(erlang, apply, [Helper, [Tag, P, Items]],
      [link, {priority, Prio}])} || P <- Batch]),
    Loop(Rest, Items, maps:merge(Got, Gather(Tag, Left, Now() + Grace * 1000, #{})))
end,
Slowly = fun(Pids, Items) ->
  Got = Each(Pids, Items, #{}),
  [maps:get(P, Got, undefined) || P <- Pids]
end,
ReadSafe = fun(Pids, Items) ->
  case Ask({read, Pids, Items}) of
    stalled -> {Now(), Slowly(Pids, Items)};
    Answer -> Answer
  end
end,

Merge = fun(Old, New) ->
  case New of
    [] -> Old;
    _ -> lists:sublist(lists:reverse(lists:sort(New ++ Old)), Top)
  end
end,
Min = fun(Best0, Least) ->
  case length(Best0) < Top of true -> Least; false -> element(1, lists:last(Best0)) end
end,
Split = fun(Pids, Left) ->
  case Left > 2000 of
    true ->
      {C, T} = lists:split(2000, Pids),
      {C, T, Left - 2000};
    false -> {Pids, [], 0}
  end
end,
Quick = fun
  Loop([], _, Acc) -> Acc;
  Loop(Pids, Left, {R, Q, A} = Acc) ->
    {Chunk, Rest, Next} = Split(Pids, Left),
    case Ask({quick, Chunk, {Min(R, -1), Min(Q, 0)}}) of
      stalled -> Loop(Rest, Next, Acc);
      {_, {R2, Q2, A2}} ->
        Loop(Rest, Next, {Merge(R, R2), Merge(Q, Q2), lists:sublist(A ++ A2, 200)})
    end
end,
Scan = fun
  Loop([], _, Acc) -> Acc;
  Loop(Pids, Left, {M, R, Q, H, A, W} = Acc) ->
    case Now() > End of
      true -> put(skipped, Left), Acc;
      false ->
        {Chunk, Rest, Next} = Split(Pids, Left),
        Mins = {Min(M, -1), Min(R, -1), Min(Q, 0), Min(H, -1)},
        {M2, R2, Q2, H2, A2, W2} = case Ask({scan, Chunk, Mins}) of
          stalled -> Select(Slowly(Chunk, ScanItems), Chunk, Mins);
          {_, Answer} -> Answer
        end,
        Loop(Rest, Next, {Merge(M, M2), Merge(R, R2), Merge(Q, Q2), Merge(H, H2),
          lists:sublist(A ++ A2, 200), lists:sublist(W ++ W2, 400)})
    end
end,
Listed = erlang:processes(),
Pids0 = case Avoid of [] -> Listed; _ -> Listed -- Avoid end,
Total = length(Listed) - 1,
{QuickR, QuickQ, QuickA} = case Urge() of
  normal -> Quick(Pids0, length(Pids0), {[], [], []});
  low -> {[], [], []}
end,
Scanned = Scan(Pids0, length(Pids0), {[], [], [], [], [], []}),
Here = [P || P <- Avoid, lists:member(P, Listed)],
{M1, R1, Q1, H1, A1, W1} = case Here of
  [] -> Scanned;
  _ ->
    {MS, RS, QS, HS, AS, WS} = Scanned,
    {MA, RA, QA, HA, AA, WA} = Select(Slowly(Here, ScanItems), Here, {-1, -1, 0, -1}),
    {Merge(MS, MA), Merge(RS, RA), Merge(QS, QA), Merge(HS, HA), AA ++ AS, WA ++ WS}
end,

Pids1 = fun(Pairs) -> [P || {_, P} <- Pairs] end,
Candidates = case Total =< Small of
  true -> (Listed -- get(stuck)) -- [Me, get(reader)];
  false ->
    lists:usort(Pids1(M1 ++ R1 ++ Q1 ++ H1 ++ QuickR ++ QuickQ) ++ A1 ++ QuickA ++ Hints)
      -- [Me, get(reader)]
end,
Chunks = fun
  Loop([], Acc) -> Acc;
  Loop(L, Acc) ->
    case length(L) > 250 of
      true ->
        {C, T} = lists:split(250, L),
        Loop(T, [C | Acc]);
      false -> [L | Acc]
    end
end,
ReadRates = fun(L) -> [{C, ReadSafe(C, RateItems)} || C <- Chunks(L, [])] end,
Rate = fun(Us, Infos1, Infos2, C) ->
  [{(Red2 - Red1) * 1000000 / Us, (Len2 - Len1) * 1000000 / Us, P} ||
    {[{_, Red1}, {_, Len1}], [{_, Red2}, {_, Len2}], P} <- lists:zip3(Infos1, Infos2, C)]
end,
Change = fun({C, {T1, Infos1}}, {C, {T2, Infos2}}) -> Rate(max(1, T2 - T1), Infos1, Infos2, C) end,
First = ReadRates(Candidates),
Scanned1 = Now(),
receive after Gap -> ok end,
Waited = Now() - Scanned1,
Rates = lists:append(lists:zipwith(Change, First, ReadRates(Candidates))),
TopBy = fun(L) -> Pids1(lists:sublist(lists:reverse(lists:sort(L)), Top)) end,
Leaders = fun(L) ->
  TopBy([{R, P} || {R, _, P} <- L, R > 0]) ++ TopBy([{Q, P} || {_, Q, P} <- L, Q > 0])
end,

% What the collector says of each candidate: {heap words, words of binaries held, generation's heap,
% minor collections, fullsweep_after}. Binaries held: bin_vheap_size + bin_old_vheap_size.
Item = fun(Key, Lists) ->
  N = length(Lists),
  lists:zipwith(fun erlang:element/2, lists:duplicate(N, 2),
    lists:zipwith3(fun lists:keyfind/3, lists:duplicate(N, Key), lists:duplicate(N, 1), Lists))
end,
ReadCollector = fun(C) ->
  {_, Infos} = ReadSafe(C, CollectorItems),
  {Pids, Found} = lists:unzip([X || {_, [_ | _]} = X <- lists:zip(C, Infos)]),
  Gc = Item(garbage_collection_info, Found),
  Settings = Item(garbage_collection, Found),
  Held = lists:zipwith(fun erlang:'+'/2, Item(bin_vheap_size, Gc), Item(bin_old_vheap_size, Gc)),
  Rest = lists:zip3(Item(heap_size, Found), Item(minor_gcs, Settings),
    Item(fullsweep_after, Settings)),
  lists:zip(lists:zip3(Held, Item(total_heap_size, Found), Rest), Pids)
end,
Collector = lists:append(lists:map(ReadCollector, Chunks(Candidates, []))),
Holders = Pids1(lists:sublist(lists:reverse(lists:sort(Collector)), Top)),
CollectorOf = maps:from_list([{P, C} || {C, P} <- Collector]),

% Of those that wait although they have messages, at most 100 that wait for the answer to a call.
FindCallers = fun(C) ->
  {_, Infos} = ReadSafe(C, [current_function]),
  [P || {P, [{_, {gen, do_call, _}}]} <- lists:zip(C, Infos)]
end,
Callers = lists:sublist(
  lists:append(lists:map(FindCallers, Chunks(lists:usort(Calling ++ W1), []))), 100),
Finalists = lists:usort(Pids1(M1 ++ R1 ++ Q1 ++ H1 ++ QuickR ++ QuickQ) ++ Holders
  ++ Leaders(Rates) ++ Callers) -- [Me, get(reader)],
ReadRow = fun(C) ->
  {_, Infos} = ReadSafe(C, RowItems),
  [{P, Info} || {P, [_ | _] = Info} <- lists:zip(C, Infos)]
end,
Rows = lists:append(lists:map(ReadRow, Chunks(Finalists, []))),
Nameless = fun(L) ->
  [{P, M} || {P, [{_, []}, _, _, _, {_, M} | _]} <- L,
    M =< 1048576 orelse not lists:member(P, Named)]
end,
FindNames = fun(C) ->
  case Ask({name, C}) of
    stalled -> [];
    {_, Found} -> lists:zip([P || {P, _} <- C], Found)
  end
end,
Names = maps:from_list(lists:append(lists:map(FindNames, Chunks(Nameless(Rows), [])))),
RateOf = maps:from_list([{P, {R, Q}} || {R, Q, P} <- Rates]),
Dismiss(get(reader)),
Registered = fun
  ([]) -> undefined;
  (Atom) -> Text(Atom)
end,
Answer = fun(L) ->
  [{P, Registered(Name1), maps:get(P, Names, undefined), Mfa(Initial), Mfa(Current), Status, Memory,
    Length, Reductions, maps:get(P, RateOf, undefined), maps:get(P, CollectorOf, undefined)}
  || {P, [{_, Name1}, {_, Initial}, {_, Current}, {_, Status}, {_, Memory}, {_, Length},
    {_, Reductions}]} <- L]
end,
Finished = Now(),
{Answer(Rows), Total, get(skipped) + length(get(stuck)), lists:sublist(get(stuck), 100),
 Finished div 1000, (Finished - Start) div 1000, (Finished - Start - Waited) div 1000,
 erlang:system_info(wordsize)}.
]==]
