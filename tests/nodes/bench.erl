%% What benchmarks measure against: the same work done on the node itself, the plain way.
-module(bench).
-export([idle/1, naive_top/1, rpc_calls/2]).

%% Count processes that do nothing.
idle(Count) ->
    [spawn(fun() -> receive never -> ok end end) || _ <- lists:seq(1, Count)],
    ok.

%% The first Limit processes by memory, by sorting a list of a map for each. Returns milliseconds.
naive_top(Limit) ->
    {Us, _} = timer:tc(fun() ->
        Maps = [maps:from_list([{pid, P} | Info]) || P <- processes(), Info <- [info(P)], is_list(Info)],
        Sorted = lists:sort(fun(#{memory := A}, #{memory := B}) -> A >= B end, Maps),
        lists:sublist(Sorted, Limit)
    end),
    Us / 1000.

info(Pid) ->
    process_info(Pid, [registered_name, initial_call, current_function, memory, message_queue_len,
        reductions]).

%% Microseconds of one rpc:call to Node, of Count one after another.
rpc_calls(Node, Count) ->
    pong = net_adm:ping(Node),
    Node = rpc:call(Node, erlang, node, []),
    {Us, _} = timer:tc(fun() -> [Node = rpc:call(Node, erlang, node, []) || _ <- lists:seq(1, Count)] end),
    Us / Count.
