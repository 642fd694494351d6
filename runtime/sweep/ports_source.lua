--- The Erlang that walks a node's ports, evaluated there by runtime/sweep/ports.lua.
---
--- What runs once per port is compiled code of OTP (`port_info/2` by `lists:zipwith`, and sorting);
--- `erl_eval` runs once per chunk, per distinct name, and per port that is told of.
---
--- Of the ports with the longest queues it also finds who waits to write to them. Candidates are
--- the owner of each, what is linked to it, what monitors it and the registered processes; and on a
--- node that has not too many, all that are suspended. Which port these wait for is on their
--- stacks; few of those are read, since what is printed of one may be some 100 KB. Linked helpers
--- ask, since who is asked may not answer.

-- Bindings: Top, Budget (ms), Patience (ms for the candidates), Names (distinct names that are
-- counted of one chunk), Each (candidates of one port), MostRegistered, MostProcesses,
-- MostStacks.
return [==[
Now = fun() -> erlang:monotonic_time(microsecond) end,
Start = Now(),
End = Start + Budget * 1000,
case erlang:statistics(run_queue) > 2 * erlang:system_info(schedulers_online) of
  true -> process_flag(priority, normal);
  false -> process_flag(priority, low)
end,
Read = fun(Ports, Item) ->
  lists:zipwith(fun erlang:port_info/2, Ports, lists:duplicate(length(Ports), Item))
end,
First = fun(L) -> lists:sublist(lists:reverse(lists:sort(L)), Top) end,
%% What is gone is `undefined`, which sorts before all that is not.
Best = fun(Ports, Item, So) ->
  [X || {{_, V}, _} = X <- First(So ++ First(lists:zip(Read(Ports, Item), Ports))), V > 0]
end,
%% What a socket has received is not in its port's input: it counts that itself.
IsSocket = fun(Name) ->
  Name =:= "tcp_inet" orelse Name =:= "udp_inet" orelse Name =:= "sctp_inet"
end,
BestIn = fun(Ports, Infos, So) ->
  Keyed = lists:zip(Infos, Ports),
  Sockets = proplists:get_all_values({name, "tcp_inet"}, Keyed)
    ++ proplists:get_all_values({name, "udp_inet"}, Keyed)
    ++ proplists:get_all_values({name, "sctp_inet"}, Keyed),
  Stats = lists:zipwith(fun prim_inet:getstat/2, Sockets,
    lists:duplicate(length(Sockets), [recv_oct])),
  Received = [{{input, N}, P} || {{ok, [{recv_oct, N}]}, P} <- First(lists:zip(Stats, Sockets)),
    N > 0],
  Best(Ports -- Sockets, input, So ++ Received)
end,
Count = fun(Infos, So) ->
  Distinct = lists:usort(Infos),
  Keyed = lists:zip(Infos, Infos),
  lists:foldl(fun
    ({name, Name} = Info, Acc) ->
      Found = length(proplists:get_all_values(Info, Keyed)),
      Acc#{Name => Found + maps:get(Name, Acc, 0)};
    (undefined, Acc) -> Acc
  end, So, lists:sublist(Distinct, Names))
end,
Walk = fun
  Walk([], _, Acc) -> {Acc, 0};
  Walk(Ports, Left, {Groups, Ins, Outs, Mems, Queues} = Acc) ->
    case Now() > End of
      true -> {Acc, Left};
      false ->
        {Chunk, Rest} = case Left > 1000 of
          true -> lists:split(1000, Ports);
          false -> {Ports, []}
        end,
        Infos = Read(Chunk, name),
        Walk(Rest, max(0, Left - 1000), {Count(Infos, Groups), BestIn(Chunk, Infos, Ins),
          Best(Chunk, output, Outs), Best(Chunk, memory, Mems), Best(Chunk, queue_size, Queues)})
    end
end,
All = erlang:ports(),
Total = length(All),
{{Groups, Ins, Outs, Mems, Queues}, Skipped} = Walk(All, Total, {#{}, [], [], [], []}),

Bytes = fun(Name) ->
  Short = lists:sublist(Name, 200),
  try list_to_binary(Short) catch _:_ -> unicode:characters_to_binary(Short) end
end,
Dist = [{P, atom_to_binary(N, utf8)} || {N, P} <- erlang:system_info(dist_ctrl), is_port(P)],
Remote = fun(P) ->
  case prim_inet:peername(P) of
    {ok, {Address, Number}} when is_tuple(Address) -> {Address, Number};
    _ -> undefined
  end
end,
Row = fun(P) ->
  case [erlang:port_info(P, I) || I <- [name, connected, input, output, memory, queue_size]] of
    [{_, Name}, {_, Owner}, {_, In}, {_, Out}, {_, Mem}, {_, Queue}] ->
      Received = case IsSocket(Name) andalso prim_inet:getstat(P, [recv_oct]) of
        {ok, [{_, N}]} -> N;
        _ -> In
      end,
      Id = list_to_binary(erlang:port_to_list(P)),
      [{Id, Bytes(Name), Owner, Received, Out, Mem, Queue, proplists:get_value(P, Dist),
        case Name of "tcp_inet" -> Remote(P); _ -> undefined end}];
    _ -> []
  end
end,
Finalists = lists:usort([P || {_, P} <- Ins ++ Outs ++ Mems ++ Queues]),
Rows = lists:append(lists:map(Row, Finalists)),

Pids = fun(P, Item) ->
  case erlang:port_info(P, Item) of
    {_, L} when is_list(L) -> [Q || Q <- lists:sublist(L, Each), is_pid(Q), node(Q) =:= node()];
    {_, Q} when is_pid(Q), node(Q) =:= node() -> [Q];
    _ -> []
  end
end,
Near = fun(P) -> [{Q, P} || Q <- lists:usort(Pids(P, connected) ++ Pids(P, links)
  ++ Pids(P, monitored_by)), Q =/= self()] end,
IsWaiting = fun
  ({status, suspended}, {current_function, {M, port_command, _}}) ->
    M =:= erlang orelse M =:= erts_internal;
  ({status, suspended}, {current_function, {prim_inet, _, _}}) -> true;
  ({status, waiting}, {current_function, {prim_inet, send_recv_reply, _}}) -> true;
  ({status, waiting}, {current_function, {prim_inet, send, _}}) -> true; % from OTP 26 on
  (_, _) -> false
end,
Look = fun(Q, On) ->
  case process_info(Q, [status, current_function, registered_name, message_queue_len,
      reductions]) of
    [S, {_, MFA} = F, {_, Name}, {_, Length}, {_, Work}] ->
      case IsWaiting(S, F) of
        true ->
          {M, Fun, A} = MFA,
          [{Q, case Name of [] -> undefined; _ -> atom_to_binary(Name, utf8) end, Length,
            {atom_to_binary(M, utf8), atom_to_binary(Fun, utf8), A},
            [list_to_binary(erlang:port_to_list(P)) || P <- On], Work}];
        false -> []
      end;
    _ -> []
  end
end,
%% What is waited for is no work.
Waited = fun() -> case get(waited_ms) of undefined -> 0; Ms -> Ms end end,
Ask = fun(Work) ->
  Me = self(),
  Tag = make_ref(),
  {Helper, Ref} = spawn_opt(fun() -> Me ! {Tag, Work()} end, [link, monitor]),
  receive
    {Tag, Found} -> demonitor(Ref, [flush]), Found;
    {'DOWN', Ref, _, _, _} -> receive {Tag, Found} -> Found after 0 -> late end
  after Patience ->
    unlink(Helper),
    exit(Helper, kill),
    demonitor(Ref, [flush]),
    put(waited_ms, Waited() + Patience),
    late
  end
end,
Suspended = fun() ->
  case erlang:system_info(process_count) > MostProcesses of
    true -> [];
    false ->
      Everyone = processes() -- [self()],
      Statuses = lists:zipwith(fun erlang:process_info/2, Everyone,
        lists:duplicate(length(Everyone), status)),
      Keyed = lists:zip(Statuses, Everyone),
      lists:sublist(proplists:get_all_values({status, suspended}, Keyed), 5000)
  end
end,
%% The port that a suspended process writes to is an argument on its stack.
WaitedFor = fun(Q, Patterns) ->
  case process_info(Q, backtrace) of
    {_, Text} ->
      case binary:match(Text, Patterns) of
        {At, Length} -> [binary:part(Text, At + 1, Length - 2)];
        nomatch -> []
      end;
    _ -> []
  end
end,
WithPorts = fun(Found) ->
  {Without, With} = lists:partition(fun(Sender) -> element(5, Sender) =:= [] end, Found),
  {Some, Rest} = lists:split(min(MostStacks, length(Without)), Without),
  Patterns = [list_to_binary([" ", erlang:port_to_list(P), "\n"]) || {_, P} <- Queues],
  With ++ Rest ++ [setelement(5, S, WaitedFor(element(1, S), Patterns)) || S <- Some]
end,
Senders = case Queues of
  [] -> [];
  _ ->
    Pairs = lists:append(lists:map(Near, [P || {_, P} <- Queues])),
    Others = [{Q, none} || Name <- lists:sublist(erlang:registered(), MostRegistered),
      Q <- [whereis(Name)], is_pid(Q)],
    Of = lists:foldl(fun
      ({Q, none}, Acc) -> maps:put(Q, maps:get(Q, Acc, []), Acc);
      ({Q, P}, Acc) -> maps:put(Q, [P | maps:get(Q, Acc, [])], Acc)
    end, #{}, Pairs ++ Others),
    case Ask(fun() -> lists:append([Look(Q, On) || {Q, On} <- maps:to_list(Of)]) end) of
      late -> late;
      Known ->
        case Ask(fun() -> WithPorts(Known ++ lists:append([Look(Q, []) || Q <- Suspended(),
          not is_map_key(Q, Of)])) end) of
          late -> Known;
          Told -> Told
        end
    end
end,
%% Of the ports that several wait for: those of clients, which a listening socket accepted. It has
%% the same local address or none, is older, and has no other end.
IsListening = fun(P) -> prim_inet:peername(P) =:= {error, enotconn} end,
IsAccepted = fun(P, Local) ->
  case prim_inet:sockname(P) of
    {ok, {Address, Number}} when is_integer(Number) ->
      lists:any(IsListening, lists:append([lists:sublist(lists:sort(
        proplists:get_all_values({ok, {A, Number}}, Local)), 20)
        || A <- [Address, {0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0, 0}]]));
    _ -> false
  end
end,
Accepted = case Senders =/= late andalso lists:append([element(5, S) || S <- Senders]) of
  false -> [];
  Ids ->
    case lists:usort(Ids -- lists:usort(Ids)) of
      [] -> [];
      Shared ->
        Tcp = proplists:get_all_values({name, "tcp_inet"}, lists:zip(Read(All, name), All)),
        Local = lists:zip(lists:map(fun prim_inet:sockname/1, Tcp), Tcp),
        [Id || Id <- Shared, IsAccepted(erlang:list_to_port(binary_to_list(Id)), Local)]
    end
end,
Finished = Now(),
{Rows, Total, Skipped, Finished div 1000, (Finished - Start) div 1000,
 [{Bytes(Name), N} || {Name, N} <- lists:sublist(
   lists:reverse(lists:keysort(2, maps:to_list(Groups))), 500)], Senders, Accepted, Waited()}.
]==]
