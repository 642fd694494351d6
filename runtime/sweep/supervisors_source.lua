--- The Erlang that finds a node's supervisors, evaluated there by runtime/sweep/supervisors.lua.
---
--- A supervisor is a process that traps exits, runs under `proc_lib`, and whose `$initial_call` is
--- `{supervisor, _, _}`: OTP's own, and Elixir's of all kinds; and RabbitMQ's supervisor2. They are
--- looked for among what the applications' masters are linked to, then among what those that were
--- found are linked to, and so on; and among the registered processes, on a small node among all.
--- None of them is called.
---
--- What runs once per link is compiled code of OTP (`process_info/2` by `lists:zipwith`, then
--- `proplists:get_all_values/2`, which picks the pids whose answer is the one of a supervisor).
--- Dictionaries are read of what is left only. A linked reader does the asking, as in the sweep's
--- part for processes: one that does not answer costs itself, not the pass.

local checks = require("runtime.sweep.supervisor_checks")

-- Bindings: that of the prelude, and Budget (ms), Patience (ms for a chunk), Grace (ms for one
-- process), Most (supervisors), MostLinks, SmallNode (up to so many processes all are looked at),
-- Fingered (children up to which a supervisor's have a fingerprint).
return checks.PRELUDE .. [==[
Me = self(),
Now = fun() -> erlang:monotonic_time(microsecond) end,
Start = Now(),
End = Start + Budget * 1000,
put(skipped, 0),
put(cut, false),
put(looked, 0),
Cut = fun(Count) -> put(cut, true), put(skipped, get(skipped) + Count) end,
Urge = fun() ->
  case erlang:statistics(run_queue) > 2 * erlang:system_info(schedulers_online) of
    true -> normal;
    false -> low
  end
end,
process_flag(priority, Urge()),
Masters = [{M, App} || [App, M] <- ets:match(ac_tab, {{application_master, '$1'}, '$2'}),
  is_pid(M)],
MasterApp = maps:from_list(Masters),

Select = fun(Pids, Infos) -> proplists:get_all_values(Marks, lists:zip(Infos, Pids)) end,
Read = fun(Pids, What) ->
  lists:zipwith(fun erlang:process_info/2, Pids, lists:duplicate(length(Pids), What))
end,
Fetch = fun(Position, Tuples) ->
  lists:zipwith(fun erlang:element/2, lists:duplicate(length(Tuples), Position), Tuples)
end,
Facts = [registered_name, group_leader, links],
%% What is told of a supervisor; its children, which are not told, come last.
Row = fun
  (P, Module, Ancestors, Label, [{_, Name}, {_, Leader}, {_, Links}]) ->
    Above = case Ancestors of
      [A | _] when is_pid(A) -> A;
      [A | _] when is_atom(A) -> whereis(A);
      _ -> undefined
    end,
    Children = lists:delete(Above, lists:filter(fun erlang:is_pid/1, Links)),
    Count = length(Children),
    {P, Name, Module, case Label of undefined -> undefined; _ -> Text(Label) end, Above,
      is_pid(Above) andalso node(Above) =:= node() andalso is_process_alive(Above), Leader, Count,
      case Count =< Fingered of true -> erlang:phash2(lists:sort(Children)); false -> none end,
      Children};
  (_, _, _, _, undefined) -> none
end,
%% Many dictionaries at once, of processes that are not large.
Several = fun(Pids) ->
  {Here, Dictionaries} = case Keyed of
    true ->
      Wanted = [{dictionary, K} || K <- Keys],
      lists:unzip([{P, D} || {P, [_ | _] = D} <- lists:zip(Pids, Read(Pids, Wanted))]);
    false ->
      lists:unzip([{P, D} || {P, {dictionary, D}} <- lists:zip(Pids, Read(Pids, dictionary))])
  end,
  Get = fun(K, Ds) ->
    Key = case Keyed of true -> {dictionary, K}; false -> K end,
    Count = length(Ds),
    lists:zipwith3(fun lists:keyfind/3, lists:duplicate(Count, Key), lists:duplicate(Count, 1), Ds)
  end,
  {Ps, Ms, Ds} = lists:unzip3([
    {P, case Kind of supervisor -> M; supervisor2 -> supervisor2 end, D} ||
    {P, {_, {Kind, M, _}}, D} <-
      lists:zip3(Here, Get('$initial_call', Dictionaries), Dictionaries),
    Kind =:= supervisor orelse (Kind =:= supervisor2 andalso M =:= init), is_atom(M)]),
  [Row(P, M, case A of {_, Ancestors} -> Ancestors; false -> [] end,
      case L of {_, Label} -> Label; false -> undefined end, Info) ||
    {{P, M, Info}, A, L} <- lists:zip3(lists:zip3(Ps, Ms, Read(Ps, Facts)),
      Get('$ancestors', Ds), Get('$process_label', Ds))]
end,
One = fun(P) ->
  case Call(P) of
    none -> none;
    {Module, Ancestors, Label} -> Row(P, Module, Ancestors, Label, process_info(P, Facts))
  end
end,
Look = fun(Pids) ->
  Sizes = Read(Pids, memory),
  case lists:max(Sizes) =< {memory, 262144} of
    true -> Several(Pids);
    false ->
      {Small, Large} = lists:partition(fun({_, M}) -> M =< {memory, 262144} end,
        lists:zip(Pids, Sizes)),
      Several(Fetch(1, Small)) ++ [One(P) || {P, {memory, _}} <- Large]
  end
end,
Near = fun(Pids) ->
  L = [{P, Links} || P <- Pids, {links, Links} <- [process_info(P, links)]],
  [{P, [X || X <- Links, is_pid(X), node(X) =:= node()]} || {P, Links} <- L]
end,
Do = fun
  (filter, Pids) -> Select(Pids, Read(Pids, Items));
  (look, Pids) -> lists:filter(fun erlang:is_tuple/1, Look(Pids));
  (near, Pids) -> Near(Pids)
end,
Reader = fun Loop() ->
  receive
    {Tag, Prio, Kind, Pids} ->
      process_flag(priority, Prio),
      Me ! {Tag, Do(Kind, Pids)},
      Loop()
  end
end,
Dismiss = fun(Pid) -> unlink(Pid), exit(Pid, kill) end,
Hire = fun() -> spawn_opt(Reader, [link, {priority, low}]) end,
put(reader, Hire()),
Give = fun(Pid, Kind, Pids) ->
  Tag = make_ref(),
  Pid ! {Tag, Urge(), Kind, Pids},
  Tag
end,
Each = fun
  Loop([], _) -> [];
  Loop(Pids, Kind) ->
    {Batch, Rest} = lists:split(min(64, length(Pids)), Pids),
    Asked = [{H, Give(H, Kind, [P])} || P <- Batch, H <- [Hire()]],
    Until = Now() + Grace * 1000,
    Got = lists:append([receive {Tag, Answer} -> Answer
      after max(0, (Until - Now()) div 1000) -> put(skipped, get(skipped) + 1), []
      end || {_, Tag} <- Asked]),
    _ = [Dismiss(H) || {H, _} <- Asked],
    Got ++ Loop(Rest, Kind)
end,
Ask = fun(Kind, Pids) ->
  Tag = Give(get(reader), Kind, Pids),
  receive {Tag, Answer} -> Answer
  after Patience ->
    Dismiss(get(reader)),
    put(reader, Hire()),
    Each(Pids, Kind)
  end
end,
Chunked = fun
  Loop(_, [], _) -> [];
  Loop(Kind, Pids, Size) ->
    case Now() > End of
      true -> Cut(length(Pids)), [];
      false ->
        case length(Pids) > Size of
          true ->
            {Chunk, Rest} = lists:split(Size, Pids),
            [Ask(Kind, Chunk) | Loop(Kind, Rest, Size)];
          false -> [Ask(Kind, Pids)]
        end
    end
end,
Local = fun(Pids) ->
  case lists:usort(lists:map(fun erlang:node/1, Pids)) of
    [Node] when Node =:= node() -> Pids;
    _ -> [P || P <- Pids, node(P) =:= node()]
  end
end,
Within = fun(Pids) ->
  Room = max(0, MostLinks - get(looked)),
  Count = length(Pids),
  put(looked, get(looked) + Count),
  case Count > Room of
    true -> Cut(Count - Room), lists:sublist(Pids, Room);
    false -> Pids
  end
end,
Sample = fun(Pids) ->
  Step = max(1, length(Pids) div 100),
  [lists:nth(N, Pids) || N <- lists:seq(1, length(Pids), Step)]
end,
%% Who of these might be a supervisor. Of very many brothers that might, where the node cannot give
%% one key of a dictionary, a hundred are asked first: when none of them is one, none is.
Candidates = fun(Links, AreBrothers) ->
  Pids = Within(Local(Links)),
  Found = lists:append(Chunked(filter, Pids, 2000)),
  case AreBrothers andalso not Keyed andalso length(Found) > 1000 of
    true ->
      case lists:append(Chunked(look, Sample(Found), 50)) of
        [] -> [];
        _ -> Found
      end;
    false -> Found
  end
end,
Level = fun(Lists) ->
  case lists:max([0 | lists:map(fun erlang:length/1, Lists)]) > 1000 of
    true ->
      {Large, Small} = lists:partition(fun(L) -> length(L) > 1000 end, Lists),
      Candidates(lists:append(Small), false) ++ lists:append([Candidates(L, true) || L <- Large]);
    false -> Candidates(lists:append(Lists), false)
  end
end,
Walk = fun
  Loop([], Found, _) -> Found;
  Loop(Lists, Found, Seen) ->
    Looked = lists:append(Chunked(look, ordsets:subtract(lists:usort(Level(Lists)), Seen), 100)),
    Room = max(0, Most - length(Found)),
    Rows = case length(Looked) > Room of
      true -> Cut(length(Looked) - Room), lists:sublist(Looked, Room);
      false -> Looked
    end,
    Below = lists:filter(fun erlang:is_list/1, Fetch(10, Rows)),
    Next = case lists:append(Below) of [] -> []; _ -> Below end,
    Loop(Next, Rows ++ Found, ordsets:union(Seen, lists:usort(Fetch(1, Rows))))
end,
Registered = lists:filter(fun erlang:is_pid/1, lists:map(fun erlang:whereis/1, registered())),
Starters = [{S, maps:get(M, MasterApp)} ||
  {M, Links} <- lists:append(Chunked(near, [M || {M, _} <- Masters], 250)),
  S <- Links, S =/= whereis(application_controller)],
StarterApp = maps:from_list(Starters),
Tops = [T || {_, Links} <- lists:append(Chunked(near, maps:keys(StarterApp), 250)), T <- Links],
All = case erlang:system_info(process_count) =< SmallNode of true -> processes(); false -> [] end,
Pieces = fun
  Loop(L) when length(L) > 1000 ->
    {Piece, Rest} = lists:split(1000, L),
    [Piece | Loop(Rest)];
  Loop(L) -> [L]
end,
Seeds = lists:usort(Tops ++ maps:keys(StarterApp) ++ Registered ++ All) -- [self(), get(reader)],
Found = Walk(Pieces(Seeds), [], []),
Dismiss(get(reader)),
Rows = lists:zipwith(fun erlang:delete_element/2, lists:duplicate(length(Found), 10), Found),
Finished = Now(),
{Rows, Masters, maps:to_list(StarterApp), get(skipped), Finished div 1000,
 (Finished - Start) div 1000, get(looked), get(cut)}.
]==]
