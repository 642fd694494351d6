--- Erlang that tells who on a node is a supervisor, and that calls one with care: goes before what
--- the sweep (runtime/sweep/supervisors_source.lua, children_source.lua) and the callbacks of the
--- sup domain evaluate there.

local M = {}

--- `Keyed`, `Text`, and `Call`: the `{Module, Ancestors, Label}` of a process that is a supervisor,
--- or `none`. RabbitMQ has a kind of its own, supervisor2, which says no module. Binding: Copy
--- (bytes: the most memory of a process whose dictionary is copied where the node cannot give one
--- key of it; more with many links).
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
    {supervisor2, init, 1} -> {supervisor2, Value('$ancestors', D), Value('$process_label', D)};
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

return M
