%% A member of a small cluster: it connects to the others, calls them, and keeps a group with them.
-module(soak_member).
-export([start/1, echo/1]).

start(Others) ->
    {ok, _} = pg:start(pg),
    register(soak_echo, spawn(fun echo/0)),
    pg:join(soak_members, whereis(soak_echo)),
    [spawn(fun() -> talk(Other) end) || Other <- Others, _ <- lists:seq(1, 5)],
    ok.

echo() ->
    receive
        {From, Text} -> From ! {self(), Text}
    end,
    echo().

echo(Text) ->
    Text.

%% Calls another member again and again, whether it is there or not.
talk(Other) ->
    timer:sleep(100 + rand:uniform(900)),
    _ = rpc:call(Other, ?MODULE, echo, [rand:bytes(500)], 5000),
    {soak_echo, Other} ! {self(), hello},
    receive {_, hello} -> ok after 1000 -> ok end,
    talk(Other).
