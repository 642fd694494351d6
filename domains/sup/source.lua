--- The Erlang of the sup domain's callbacks. Bindings of all: those of
--- runtime/sweep/supervisor_checks.lua.

local checks = require("runtime.sweep.supervisor_checks")

local M = {}

M.PRELUDE = checks.PRELUDE .. checks.CALLS .. [==[
Links = fun(P) ->
  case process_info(P, links) of
    {links, L} ->
      Above = case Call(P) of
        {_, [A | _], _} when is_pid(A) -> A;
        {_, [A | _], _} when is_atom(A) -> whereis(A);
        _ -> undefined
      end,
      lists:delete(Above, lists:filter(fun erlang:is_pid/1, L));
    undefined -> []
  end
end,
Registered = fun(P) ->
  try process_info(P, registered_name) of
    {registered_name, Name} when is_atom(Name) -> Text(Name);
    _ -> undefined
  catch error:badarg -> undefined
  end
end,
]==]

--- The counts of each of Pids (texts): `{Children, Active}`, or `late`. All are asked at once.
M.COUNTS = M.PRELUDE .. [==[
Number = fun(Key, Counts) -> proplists:get_value(Key, Counts, 0) end,
Count = fun(Text0) ->
  P = list_to_pid(binary_to_list(Text0)),
  case Looks(P) andalso Asked(P, count_children) of
    [_ | _] = L -> {Number(supervisors, L) + Number(workers, L), Number(active, L)};
    _ -> late
  end
end,
Helpers = [Start(fun() -> Count(T) end) || T <- Pids],
Until = Soon() + 100,
[case Finish(H, Until) of {ok, Answer} -> Answer; late -> late end || H <- Helpers].
]==]

-- Binding: Named, a list of texts, each a registered name or a pid. Sup is who the first fits that
-- fits any, or none.
local FIND = [==[
IsMine = fun(P) -> is_pid(P) andalso node(P) =:= node() end,
Find = fun
  (<<"<0.", _/binary>> = Name) ->
    try list_to_pid(binary_to_list(Name)) catch error:_ -> undefined end;
  (Name) ->
    try whereis(binary_to_existing_atom(Name, utf8)) catch error:_ -> undefined end
end,
Sup = case [P || Name <- Named, P <- [Find(Name)], IsMine(P),
    Within(fun() -> Looks(P) end) =:= {ok, true}] of
  [First | _] -> First;
  [] -> none
end,
ChildPid = fun(P) -> if is_pid(P) -> P; is_atom(P) -> Text(P); true -> <<"?">> end end,
TypeOf = fun(P) -> case Looks(P) of true -> supervisor; false -> worker end end,
%% The first Most children, and how many there are: by a call, or where it does not answer in time,
%% or has very many, by its links.
Listed = fun(P, Most) ->
  Few = case Within(fun() -> length(Links(P)) end) of
    {ok, N} -> N =< CallUpTo;
    late -> false
  end,
  Called = case Few of
    true -> Within(fun() ->
        case Asked(P, which_children) of
          none -> none;
          L -> {length(L), [{Text(Id), ChildPid(C), Type} ||
            {Id, C, Type, _} <- lists:sublist(L, Most)]}
        end
      end);
    false -> late
  end,
  case Called of
    {ok, {Total, Rows}} -> {called, Total, Rows};
    _ ->
      Linked = Within(fun() ->
        L = Links(P),
        {length(L), [{Registered(C), C, TypeOf(C)} || C <- lists:sublist(L, Most)]}
      end),
      case Linked of
        {ok, {Total, Rows}} -> {linked, Total, Rows};
        late -> {late, 0, []}
      end
  end
end,
]==]

--- The children of one supervisor. Further bindings: MostRows, CallUpTo (links up to which it is
--- called).
M.CHILDREN = M.PRELUDE .. FIND .. [==[
case Sup of
  none -> none;
  _ -> Listed(Sup, MostRows)
end.
]==]

--- The tree below one supervisor, each node `{Id, Pid, Type, Name, How, Total, Children}`. Further
--- bindings: MostRows (of all), Each (of one supervisor), CallUpTo, Depth, Budget (ms of all).
M.TREE = M.PRELUDE .. FIND .. [==[
put(left, MostRows),
End = erlang:monotonic_time(millisecond) + Budget,
Name = fun(P) ->
  case Registered(P) of
    undefined ->
      case Call(P) of
        {Module, _, undefined} -> {Text(Module), module};
        {_, _, Label} -> {Text(Label), label};
        none -> undefined
      end;
    Known -> {Known, registered}
  end
end,
NameOf = fun(P) -> case Within(fun() -> Name(P) end) of {ok, N} -> N; late -> undefined end end,
Is = fun(P, Type) ->
  is_pid(P) andalso Type =:= supervisor andalso IsMine(P)
    andalso Within(fun() -> Looks(P) end) =:= {ok, true}
end,
Grow = fun Loop(Id, P, Type, Level) ->
  case Is(P, Type) of
    false -> {Id, P, Type, undefined, leaf, 0, []};
    true ->
      case Level =:= Depth orelse erlang:monotonic_time(millisecond) > End of
        true ->
          Count = case Within(fun() -> length(Links(P)) end) of {ok, N} -> N; late -> 0 end,
          {Id, P, Type, NameOf(P), cut, Count, []};
        false ->
          {How, Total, Found} = Listed(P, max(0, min(Each, get(left)))),
          put(left, get(left) - length(Found)),
          {Id, P, Type, NameOf(P), How, Total,
            [Loop(I, C, T, Level + 1) || {I, C, T} <- Found]}
      end
  end
end,
case Sup of
  none -> none;
  _ -> Grow(undefined, Sup, supervisor, 0)
end.
]==]

return M
