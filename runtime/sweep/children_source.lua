--- The Erlang that reads supervisors' children for runtime/sweep/children.lua: few supervisors of
--- few children each, called once to learn who their children are and how they are restarted, and
--- again only when something of a permanent child has changed.
---
--- Bindings: those of runtime/sweep/supervisor_checks.lua, and Learn (supervisors), Inspect (of
--- each the supervisor, the pids of its permanent children, and whether it was seen to restart some
--- in the last pass, so that it is watched at any rate), Gone (pairs of a supervisor that is not
--- found any more and its parent), Gap (ms of a watch).

local checks = require("runtime.sweep.supervisor_checks")

return checks.PRELUDE .. checks.CALLS .. [==[
Child = fun({Id, P, Type, _}) ->
  {erlang:phash2(Id), Text(Id), if is_pid(P) -> P; is_atom(P) -> Text(P); true -> <<"?">> end, Type}
end,
%% One that has many messages to handle gets none from us: it may be stuck, and they would pile up.
Children = fun(P) ->
  case process_info(P, message_queue_len) of
    {_, Waiting} when Waiting < 10 ->
      case Asked(P, which_children) of
        none -> none;
        L -> lists:sublist(L, 400)
      end;
    _ -> none
  end
end,
Restart = fun(P, Id) ->
  try gen_server:call(P, {get_childspec, Id}, Patience) of
    {ok, #{restart := R}} -> R;
    _ -> unknown
  catch _:_ -> unknown
  end
end,
Now = fun() -> erlang:monotonic_time(millisecond) end,
LinksOf = fun(P) -> case process_info(P, links) of {links, L} -> L; undefined -> [] end end,
Work = fun(P) ->
  case process_info(P, reductions) of {reductions, R} -> R; undefined -> 0 end
end,
%% How many links come up until then.
Poll = fun Loop(P, Seen, Count, Until) ->
  case Now() >= Until of
    true -> {Seen, Count};
    false ->
      receive after 20 -> ok end,
      New = LinksOf(P) -- Seen,
      Loop(P, New ++ Seen, Count + length(New), Until)
  end
end,
%% The children at the end of each quarter of Gap ms, and how many links came up.
Watch = fun
  Loop(_, Seen, Count, []) -> {[], Count, Seen};
  Loop(P, Seen, Count, [Until | Rest]) ->
    {Seen2, Count2} = Poll(P, Seen, Count, Until),
    L = Children(P),
    {Later, Count3, Seen3} = Loop(P, Seen2, Count2, Rest),
    {[L | Later], Count3, Seen3}
end,
Inspected = fun(P, Permanent, IsStorming) ->
  case Looks(P) andalso Children(P) of
    L when is_list(L) ->
      Absent = Permanent -- [C || {_, C, _, _} <- L],
      case not IsStorming andalso Absent =:= [] andalso not lists:keymember(restarting, 2, L) of
        true -> {same, lists:map(Child, L)};
        false ->
          {Before, From} = {Work(P), Now()},
          {Lists, New, _} = Watch(P, LinksOf(P), 0, [From + Gap * N div 4 || N <- [1, 2, 3, 4]]),
          case lists:member(none, Lists) of
            true -> {silent, Permanent -- LinksOf(P)};
            false ->
              {changed, [lists:map(Child, X) || X <- [L | Lists]], Now() - From, New,
                Work(P) - Before}
          end
      end;
    false -> {gone, []};
    none -> {silent, Permanent -- LinksOf(P)}
  end
end,
%% A supervisor of dynamic children has no ids; one that is none of OTP's own has no child specs to
%% be asked for, and none of those has ids. What is gone soon after is looked into at once.
Learned = fun(P) ->
  IsOther = case Call(P) of {supervisor2, _, _} -> true; _ -> false end,
  case Looks(P) andalso (IsOther orelse Children(P)) of
    true -> dynamic;
    false -> late;
    none -> late;
    [] -> {[], none};
    [{undefined, _, _, _} | _] -> dynamic;
    L ->
      Rows = [erlang:append_element(Child(C), Restart(P, element(1, C))) || C <- L],
      Permanent = [C || {_, _, C, _, permanent} <- Rows, is_pid(C)],
      receive after 200 -> ok end,
      case Permanent -- LinksOf(P) of
        [] -> {Rows, none};
        _ -> {Rows, Inspected(P, Permanent, false)}
      end
  end
end,
Learners = [Start(fun() -> Learned(P) end) || P <- Learn],
Inspectors = [Start(fun() -> Inspected(P, Permanent, Is) end) || {P, Permanent, Is} <- Inspect],
End = Now() + 3 * Patience + Gap + 500,
Get = fun(H) -> case Finish(H, End) of {ok, Answer} -> Answer; late -> late end end,
Answers = {lists:map(Get, Learners), lists:map(Get, Inspectors)},
Lives = fun(P) ->
  is_pid(P) andalso node(P) =:= node() andalso process_info(P, status) =/= undefined
end,
Alive = Start(fun() -> [{Lives(Sup), Lives(Parent)} || {Sup, Parent} <- Gone] end),
case Get(Alive) of
  late -> erlang:append_element(Answers, []);
  L -> erlang:append_element(Answers, L)
end.
]==]
