--- The Erlang that looks at all tables of a node: one expression, evaluated there by
--- runtime/sweep/tables.lua and, for longer lists, by domains/ets.lua.
---
--- What runs once per table is compiled code of OTP, but for the count by name. A table may go at
--- any time: what `ets:info/2` then says, `undefined`, is left out. Owners are named by who is
--- registered; the others are asked by a reader that is given up after Patience, since a process
--- that is busy may not answer.
---
--- Bindings: Budget (ms), Patience (ms), Top (so many of each order), GroupsTop.

return [==[
Now = fun() -> erlang:monotonic_time(microsecond) end,
Start = Now(),
End = Start + Budget * 1000,
Items = fun(Tables, Item) ->
  lists:zipwith(fun ets:info/2, Tables, lists:duplicate(length(Tables), Item))
end,
Merge = fun(Old, New) ->
  lists:sublist(lists:reverse(lists:sort(New ++ Old)), Top)
end,
Count = fun(Name, Groups) ->
  case Groups of
    #{Name := N} -> Groups#{Name := N + 1};
    _ -> Groups#{Name => 1}
  end
end,
Scan = fun
  Loop([], _, Acc) -> Acc;
  Loop(Tables, Left, {M, S, G, Sum, _}) ->
    case Now() > End of
      true -> {M, S, G, Sum, Left};
      false ->
        {Chunk, Rest} = case Left > 1000 of
          true -> lists:split(1000, Tables);
          false -> {Tables, []}
        end,
        Memory0 = Items(Chunk, memory),
        {Memory, There} = case lists:member(undefined, Memory0) of
          true -> lists:unzip([X || {W, _} = X <- lists:zip(Memory0, Chunk), is_integer(W)]);
          false -> {Memory0, Chunk}
        end,
        M2 = Merge(M, lists:zip(Memory, There)),
        S2 = Merge(S, [X || {N, _} = X <- lists:zip(Items(There, size), There), is_integer(N)]),
        G2 = lists:foldl(Count, G, Items(There, name)),
        Loop(Rest, max(0, Left - 1000), {M2, S2, G2, Sum + lists:sum(Memory), 0})
    end
end,
All = ets:all(),
Total = length(All),
{ByMemory, BySize, Groups, Words, Skipped} = Scan(All, Total, {[], [], #{}, 0, 0}),
Second = fun(Pairs) -> [T || {_, T} <- Pairs] end,
Chosen = lists:usort(Second(ByMemory) ++ Second(BySize)),
Kept = [name, owner, type, protection, size, memory, compressed],
Rows = [R || {_, L} = R <- [{T, [ets:info(T, K) || K <- Kept]} || T <- Chosen],
  not lists:member(undefined, L)],
Text = fun
  (A) when is_atom(A) -> atom_to_binary(A, utf8);
  (T) ->
    try unicode:characters_to_binary(io_lib:format("~0tp", [T], [{chars_limit, 100}]))
    catch _:_ -> atom_to_binary(label, utf8)
    end
end,
Printed = fun
  (T) when is_atom(T) -> atom_to_binary(T, utf8);
  (T) -> list_to_binary(ref_to_list(T))
end,
Mfa = fun
  ({M, F, A}) -> {atom_to_binary(M, utf8), atom_to_binary(F, utf8), A};
  (_) -> undefined
end,
Label = fun
  (undefined) -> undefined;
  (L) -> Text(L)
end,
Names = lists:foldl(fun(N, Acc) ->
  case whereis(N) of undefined -> Acc; P -> Acc#{P => Text(N)} end
end, #{}, registered()),
Owners = lists:usort([O || {_, [_, O | _]} <- Rows]),
Nameless = [O || O <- Owners, not is_map_key(O, Names), is_pid(O)],
Keyed = try process_info(self(), [{dictionary, label}]) of _ -> true catch error:_ -> false end,
Value = fun(Key, Dictionary) ->
  case lists:keyfind(Key, 1, Dictionary) of {_, V} -> V; false -> undefined end
end,
% The label, and the initial call: that of proc_lib's processes is in their dictionary. Where one
% key cannot be read the dictionaries of large processes are left alone.
Called = fun(O) ->
  case process_info(O, [initial_call, memory]) of
    [{_, {proc_lib, _, _} = C}, {_, Memory}] ->
      case Keyed of
        true ->
          case process_info(O, [{dictionary, '$process_label'}, {dictionary, '$initial_call'}]) of
            [{_, L}, {_, I}] -> {Label(L), Mfa(I)};
            undefined -> {undefined, Mfa(C)}
          end;
        false when Memory > 16777216 -> {undefined, Mfa(C)};
        false ->
          case process_info(O, dictionary) of
            {dictionary, D} -> {Label(Value('$process_label', D)), Mfa(Value('$initial_call', D))};
            undefined -> {undefined, Mfa(C)}
          end
      end;
    [{_, C}, _] -> {undefined, Mfa(C)};
    undefined -> undefined
  end
end,
Me = self(),
Tag = make_ref(),
Reader = spawn_opt(fun() ->
  [Me ! {Tag, O, Called(O)} || O <- Nameless]
end, [link, {priority, low}]),
Gather = fun
  Loop(0, Acc) -> Acc;
  Loop(N, Acc) ->
    receive
      {Tag, O, C} -> Loop(N - 1, Acc#{O => C})
    after Patience -> Acc
    end
end,
Calls = Gather(length(Nameless), #{}),
unlink(Reader),
exit(Reader, kill),
{[{Printed(T), Text(N), is_atom(T), O, maps:get(O, Names, undefined), maps:get(O, Calls, undefined),
   Type, Protection, Size, Memory, Compressed}
  || {T, [N, O, Type, Protection, Size, Memory, Compressed]} <- Rows],
 Total, Skipped, Words,
 [{Text(N), C} || {C, N} <- lists:sublist(lists:reverse(lists:sort(
   [{C, N} || {N, C} <- maps:to_list(Groups)])), GroupsTop)],
 erlang:system_info(wordsize), erlang:monotonic_time(millisecond), (Now() - Start) div 1000}.
]==]
