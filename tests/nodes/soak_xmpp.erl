%% Sessions of an XMPP server: they log in, say something to one another now and then, and leave.
%% How many there are at a time rises, stays and falls again.
-module(soak_xmpp).
-export([start/1, online/0]).

-define(TIMEOUT_MS, 20000).

%% Opts: port, peak (sessions), seconds (of one rise and fall). Goes on for as long as the node
%% lives; after one rise and fall comes the next.
start(Opts) ->
    Starter = self(),
    Pid = spawn(fun() ->
        ets:new(soak_online, [named_table, public, ordered_set]),
        Starter ! {self(), ready},
        control(Opts, erlang:monotonic_time(millisecond), 0)
    end),
    receive {Pid, ready} -> ok end.

online() ->
    ets:info(soak_online, size).

%% Up during two fifths of the time, a fifth of it on the peak, and down again to a fifth of it.
wanted(#{peak := Peak, seconds := Seconds}, AgeMs) ->
    case (AgeMs rem (Seconds * 1000)) / (Seconds * 1000) of
        Share when Share < 0.4 -> round(Peak * (0.2 + 2 * Share));
        Share when Share < 0.6 -> Peak;
        Share -> round(Peak * (1 - 2 * (Share - 0.6)))
    end.

control(Opts, StartMs, Id) ->
    timer:sleep(200),
    Wanted = wanted(Opts, erlang:monotonic_time(millisecond) - StartMs),
    Online = online(),
    %% Even when there are enough, some leave and others come.
    Leaving = max(1, (Online - Wanted) div 10),
    Joining = min(10, max(1, (Wanted - Online) div 10 + 1)),
    [leave() || _ <- lists:seq(1, Leaving), Online > 10, Online >= Wanted],
    [spawn(fun() -> session(Opts, Id + I) end)
        || I <- lists:seq(1, Joining), Online =< Wanted],
    control(Opts, StartMs, Id + Joining).

some_session() ->
    case ets:next(soak_online, {rand:uniform(max(1, highest())), 0}) of
        '$end_of_table' -> ets:first(soak_online);
        Key -> Key
    end.

highest() ->
    case ets:last(soak_online) of
        {Id, _} -> Id;
        '$end_of_table' -> 0
    end.

leave() ->
    case some_session() of
        {_, Pid} = Key -> ets:delete(soak_online, Key), Pid ! leave;
        '$end_of_table' -> ok
    end.

session(Opts = #{port := Port}, Id) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]),
    User = user(Id),
    open(Socket),
    Auth = base64:encode(<<0, User/binary, 0, "secret">>),
    ask(Socket, ["<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>", Auth,
        "</auth>"], <<"<success">>),
    open(Socket),
    ask(Socket, "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
        "<resource>r</resource></bind></iq>", <<"</iq>">>),
    ok = gen_tcp:send(Socket, "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>"
        "<presence/>"),
    ok = inet:setopts(Socket, [{active, true}]),
    ets:insert(soak_online, {{Id, self()}, Opts}),
    talk(Socket).

user(Id) ->
    <<"user", (integer_to_binary(Id))/binary>>.

open(Socket) ->
    ask(Socket, "<stream:stream xmlns='jabber:client' version='1.0' to='localhost' "
        "xmlns:stream='http://etherx.jabber.org/streams'>", <<"</stream:features>">>).

%% Sends, and waits until the answer has come.
ask(Socket, Text, Wanted) ->
    ok = gen_tcp:send(Socket, Text),
    await(Socket, Wanted, <<>>).

await(Socket, Wanted, Before) ->
    {ok, More} = gen_tcp:recv(Socket, 0, ?TIMEOUT_MS),
    Text = <<Before/binary, More/binary>>,
    case binary:match(Text, Wanted) of
        nomatch -> await(Socket, Wanted, Text);
        _ -> ok
    end.

talk(Socket) ->
    receive
        {tcp, _, _} ->
            talk(Socket);
        {tcp_closed, _} ->
            ets:match_delete(soak_online, {{'_', self()}, '_'});
        leave ->
            gen_tcp:send(Socket, "</stream:stream>"),
            gen_tcp:close(Socket)
    after 10000 + rand:uniform(40000) ->
        say(Socket, some_session()),
        talk(Socket)
    end.

say(Socket, {Id, _}) ->
    Text = base64:encode(rand:bytes(30 + rand:uniform(300))),
    gen_tcp:send(Socket, ["<message type='chat' to='", user(Id), "@localhost'><body>", Text,
        "</body></message>"]);
say(_, '$end_of_table') ->
    ok.
