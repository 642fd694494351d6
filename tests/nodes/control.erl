%% What a test node runs: it connects back to the spec and evaluates what the spec sends, apart from
%% anything that beamlens does to the node. Started by `erl -s control start`.
-module(control).
-export([start/0]).

start() ->
    case init:get_argument(control_port) of
        {ok, [[Port]]} -> spawn(fun() -> connect(list_to_integer(Port)) end);
        error -> ok
    end,
    io:put_chars("ready\n").

connect(Port) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {packet, 4}, {active, false}]),
    loop(Socket).

loop(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Source} ->
            ok = gen_tcp:send(Socket, run(unicode:characters_to_list(Source))),
            loop(Socket);
        {error, closed} ->
            halt(0)
    end.

run(Source) ->
    try
        {ok, Tokens, _} = erl_scan:string(Source),
        {ok, Exprs} = erl_parse:parse_exprs(Tokens),
        {value, Value, _} = erl_eval:exprs(Exprs, []),
        [$+, unicode:characters_to_binary(io_lib:format("~0tp", [Value]))]
    catch
        Class:Reason:Stack ->
            [$-, unicode:characters_to_binary(io_lib:format("~tp:~tp ~0tP", [Class, Reason, Stack, 20]))]
    end.
