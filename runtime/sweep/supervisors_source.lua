--- The Erlang that finds a node's supervisors, evaluated there by runtime/sweep/supervisors.lua.
---
--- A supervisor is a process that traps exits, runs under `proc_lib`, and whose `$initial_call` is
--- `{supervisor, _, _}`: OTP's own, and Elixir's of all kinds. They are looked for among what the
--- applications' masters are linked to, then among what those that were found are linked to, and so
--- on; and among the registered processes. None of them is called.
---
--- What runs once per link is compiled code of OTP (`process_info/2` by `lists:zipwith`, then
--- `proplists:get_all_values/2`, which picks the pids whose answer is the one of a supervisor).
--- Dictionaries are read of what is left only. A linked reader does the asking, as in the sweep's
--- part for processes: one that does not answer costs itself, not the pass.

local M = {}

--- Shared with the callbacks of the domain: `Keyed`, `Text`, and `Call`, the `{Module, Ancestors}` of
--- a process that is a supervisor, or `none`. Binding: Copy (bytes: the most memory of a process
--- whose dictionary is copied where the node cannot give one key of it; more with many links).
M.PRELUDE = [==[
Keyed = try process_info(self(), [{dictionary, label}]) of _ -> true catch error:_ -> false end,
Text = fun
  (T) when is_atom(T) -> atom_to_binary(T, utf8);
  (T) when is_binary(T), byte_size(T) > 200 -> binary_part(T, 0, 200);
  (T) when is_binary(T) -> T;
  (T) ->
    try unicode:characters_to_binary(io_lib:format("~0tP", [T, 30], [{chars_limit, 100}]))
    catch _:_ -> <<"?">>
    end
end,
Value = fun(Key, Dictionary) ->
  case lists:keyfind(Key, 1, Dictionary) of {_, V} -> V; false -> undefined end
end,
IsCheap = fun(P) ->
  case process_info(P, memory) of
    {memory, M} when M =< Copy -> true;
    {memory, M} ->
      case process_info(P, links) of
        {links, L} -> M =< Copy + 4096 * length(L);
        undefined -> false
      end;
    undefined -> false
  end
end,
Keys = ['$initial_call', '$ancestors', '$process_label'],
Dictionary = fun(P) ->
  case Keyed of
    true ->
      case process_info(P, [{dictionary, K} || K <- Keys]) of
        undefined -> [];
        Values -> lists:zip(Keys, [V || {_, V} <- Values])
      end;
    false ->
      case IsCheap(P) andalso process_info(P, dictionary) of
        {dictionary, D} -> D;
        _ -> []
      end
  end
end,
Call = fun(P) ->
  D = Dictionary(P),
  case Value('$initial_call', D) of
    {supervisor, Module, _} when is_atom(Module) ->
      {Module, Value('$ancestors', D), Value('$process_label', D)};
    _ -> none
  end
end,
Marks = [{trap_exit, true}, {initial_call, {proc_lib, init_p, 5}}],
Items = [trap_exit, initial_call],
]==]

--- Goes after the prelude: how supervisors are called. Each call has a helper of its own, with a
--- deadline and a bounded heap, and goes only to who `Looks` like a supervisor: another kind of
--- process may end at such a call. Bindings: Patience (ms for one call), HeapWords (of one helper).
M.CALLS = [==[
Looks = fun(P) ->
  try process_info(P, Items) =:= Marks andalso Call(P) =/= none catch error:badarg -> false end
end,
%% A helper that was killed has ended; its message may still be on its way, which is why each has a
%% tag of its own.
Start = fun(Fun) ->
  Me = self(),
  Tag = make_ref(),
  {Pid, Ref} = spawn_opt(fun() -> Me ! {Tag, Fun()} end, [link, monitor,
    {max_heap_size, #{size => HeapWords, kill => true, error_logger => false}}]),
  {Pid, Ref, Tag}
end,
Finish = fun({Pid, Ref, Tag}, Until) ->
  receive
    {Tag, Answer} -> demonitor(Ref, [flush]), {ok, Answer};
    {'DOWN', Ref, _, _, _} -> receive {Tag, Answer} -> {ok, Answer} after 0 -> late end
  after max(0, Until - erlang:monotonic_time(millisecond)) ->
    unlink(Pid),
    exit(Pid, kill),
    demonitor(Ref, [flush]),
    receive {Tag, Answer} -> {ok, Answer} after 0 -> late end
  end
end,
process_flag(trap_exit, true),
Soon = fun() -> erlang:monotonic_time(millisecond) + Patience end,
Within = fun(Fun) -> Finish(Start(Fun), Soon()) end,
Asked = fun(P, Question) ->
  try gen_server:call(P, Question, Patience) of
    Answer when is_list(Answer) -> Answer;
    _ -> none
  catch _:_ -> none
  end
end,
]==]

--- One pass. Further bindings: Budget (ms), Patience (ms for a chunk), Grace (ms for one process),
--- Most (supervisors), MostLinks, Fingered (links of one supervisor up to which they are told).
M.WALK = M.PRELUDE .. [==[
Me = self(),
Now = fun() -> erlang:monotonic_time(microsecond) end,
Start = Now(),
End = Start + Budget * 1000,
put(skipped, 0),
put(looked, 0),
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
Parent = fun
  ([P | _]) when is_pid(P) -> P;
  ([Name | _]) when is_atom(Name) -> whereis(Name);
  (_) -> undefined
end,
IsAlive = fun(P) -> is_pid(P) andalso node(P) =:= node() andalso is_process_alive(P) end,
Look = fun(P) ->
  case Call(P) of
    none -> none;
    {Module, Ancestors, Label} ->
      case process_info(P, [registered_name, group_leader, links]) of
        [{_, Name}, {_, Leader}, {_, Links}] ->
          Above = Parent(Ancestors),
          Children = lists:delete(Above, lists:filter(fun erlang:is_pid/1, Links)),
          {P, Name, Module, Label, Above, IsAlive(Above), Leader, Children};
        undefined -> none
      end
  end
end,
Near = fun(Pids) ->
  L = [{P, Links} || P <- Pids, {links, Links} <- [process_info(P, links)]],
  [{P, [X || X <- Links, is_pid(X), node(X) =:= node()]} || {P, Links} <- L]
end,
Do = fun
  (filter, Pids) -> Select(Pids, Read(Pids, Items));
  (look, Pids) -> [R || R <- lists:map(Look, Pids), R =/= none];
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
      true -> put(skipped, get(skipped) + length(Pids)), [];
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
    true -> put(skipped, get(skipped) + Count - Room), lists:sublist(Pids, Room);
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
  {Large, Small} = lists:partition(fun(L) -> length(L) > 1000 end, Lists),
  Candidates(lists:append(Small), false) ++ lists:append([Candidates(L, true) || L <- Large])
end,
AppOf = fun(Above, Leader, Apps) ->
  maps:get(Above, Apps, maps:get(Leader, MasterApp, undefined))
end,
Walk = fun
  Loop([], Found, _, Apps) -> {Found, Apps};
  Loop(Lists, Found, Seen, Apps) ->
    New = [P || P <- lists:usort(Level(Lists)), not is_map_key(P, Seen)],
    Looked = lists:append(Chunked(look, New, 100)),
    Room = max(0, Most - map_size(Seen)),
    Rows = case length(Looked) > Room of
      true -> put(skipped, get(skipped) + length(Looked) - Room), lists:sublist(Looked, Room);
      false -> Looked
    end,
    Apps2 = maps:merge(Apps, maps:from_list(
      [{element(1, R), AppOf(element(5, R), element(7, R), Apps)} || R <- Rows])),
    Seen2 = maps:merge(Seen, maps:from_list([{element(1, R), true} || R <- Rows])),
    Loop([C || R <- Rows, C <- [element(8, R)], C =/= []], Rows ++ Found, Seen2, Apps2)
end,
Registered = lists:filter(fun erlang:is_pid/1, lists:map(fun erlang:whereis/1, registered())),
Starters = [{S, maps:get(M, MasterApp)} ||
  {M, Links} <- lists:append(Chunked(near, [M || {M, _} <- Masters], 250)),
  S <- Links, S =/= whereis(application_controller)],
StarterApp = maps:from_list(Starters),
Tops = [T || {_, Links} <- lists:append(Chunked(near, maps:keys(StarterApp), 250)), T <- Links],
{Found, AppBy} = Walk([Tops ++ maps:keys(StarterApp) ++ Registered], [], #{}, StarterApp),
Dismiss(get(reader)),

Name = fun
  ([]) -> undefined;
  (Atom) -> Text(Atom)
end,
Label = fun
  (undefined) -> undefined;
  (L) -> Text(L)
end,
Fingers = fun(Children, Count) when Count =< Fingered -> erlang:phash2(lists:sort(Children));
  (_, _) -> undefined
end,
IsTop = fun(Above) -> is_map_key(Above, StarterApp) end,
IsSupervisor = maps:from_list([{element(1, R), true} || R <- Found]),
Kind = fun(Above) ->
  case {is_map_key(Above, IsSupervisor), IsTop(Above)} of
    {true, _} -> supervisor;
    {_, true} -> application;
    _ -> process
  end
end,
Rows = [begin
  Count = length(Children),
  {P, Name(Registered1), Text(Module), Label(L), Above, Kind(Above), IsAliveAbove,
    Label(maps:get(P, AppBy, undefined)), Count, Fingers(Children, Count)}
end || {P, Registered1, Module, L, Above, IsAliveAbove, _, Children} <- Found],
Finished = Now(),
{Rows, [Text(App) || {_, App} <- Masters], get(skipped), Finished div 1000,
 (Finished - Start) div 1000, get(looked)}.
]==]

return M
