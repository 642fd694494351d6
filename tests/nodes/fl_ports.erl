%% Ports in all kinds of situations, for specs. What is opened here stays open until the node ends.
-module(fl_ports).
-export([queued/1, talked/1, ipv6/0, cat/0, files/1, sockets/1, closed/0, info/1, top/2]).
-export([stuck_sender/2, shared/2, slow_client/3, drain/1, slow_writers/1, moving_writer/2, print/1, flood/2]).
-export([leak/3, stop/1]).

keep(Fun) ->
    Me = self(),
    Tag = make_ref(),
    spawn(fun() -> Me ! {Tag, Fun()}, receive stop -> ok end end),
    receive {Tag, Value} -> Value after 10000 -> exit(late) end.

text(P) -> list_to_binary(erlang:port_to_list(P)).

%% A connection to ourselves whose other end is never read, with small buffers of the kernel's.
pair() -> pair({127, 0, 0, 1}, [inet]).

pair(Address, Opts) ->
    {ok, L} = gen_tcp:listen(0, [binary, {active, false}, {ip, Address}, {recbuf, 4096} | Opts]),
    {ok, Port} = inet:port(L),
    {ok, A} = gen_tcp:connect(Address, Port, [binary, {active, false}, {sndbuf, 4096} | Opts]),
    {ok, B} = gen_tcp:accept(L),
    gen_tcp:close(L),
    {A, B}.

%% A socket with N bytes that its port has queued: more than that is sent, so that the kernel's
%% buffers are full, and the rest stays.
queued(N) ->
    text(keep(fun() ->
        {A, _} = pair(),
        ok = inet:setopts(A, [{high_watermark, 2 * N}, {low_watermark, N}]),
        fill(A, N),
        settle(A, erlang:port_info(A, queue_size), 0),
        A
    end)).

%% Waits until the kernel has taken all that it takes: nothing for half a second.
settle(_, _, 5) -> ok;
settle(A, Size, Times) ->
    timer:sleep(100),
    case erlang:port_info(A, queue_size) of
        Size -> settle(A, Size, Times + 1);
        Less -> settle(A, Less, 0)
    end.

fill(A, N) ->
    case erlang:port_info(A, queue_size) of
        {_, Q} when Q >= N + 65536 -> ok;
        _ -> true = erlang:port_command(A, binary:copy(<<"x">>, 65536)), fill(A, N)
    end.

%% A socket that has received N bytes.
talked(N) ->
    text(keep(fun() ->
        {A, B} = pair(),
        spawn_link(fun() -> ok = gen_tcp:send(A, binary:copy(<<"x">>, N)) end),
        {ok, _} = gen_tcp:recv(B, N),
        B
    end)).

ipv6() -> text(keep(fun() -> {A, _} = pair({0, 0, 0, 0, 0, 0, 0, 1}, [inet6]), A end)).

cat() -> text(keep(fun() -> open_port({spawn, "cat"}, [binary]) end)).

closed() ->
    P = open_port({spawn, "cat"}, []),
    port_close(P),
    text(P).

%% Raw files: descriptors that are no ports.
files(N) ->
    keep(fun() -> [element(2, {ok, _} = open(file)) || _ <- lists:seq(1, N)] end),
    ok.

sockets(N) ->
    keep(fun() -> [element(2, {ok, _} = open(socket)) || _ <- lists:seq(1, N)] end),
    ok.

open(file) -> file:open("/dev/null", [read, raw]);
open(socket) -> gen_udp:open(0, [{ip, {127, 0, 0, 1}}]);
open(program) -> {ok, open_port({spawn, "sleep 600"}, [])}.

%% Opens PerS files, sockets or programs a second and closes none; goes on trying when it is refused.
leak(Name, What, PerS) -> named(Name, fun() -> leak_on(What, PerS, []) end).

leak_on(What, PerS, Opened) ->
    More = try open(What) of {ok, One} -> [One]; {error, _} -> [] catch error:_ -> [] end,
    receive stop -> ok after 1000 div PerS -> leak_on(What, PerS, More ++ Opened) end.

%% Ends a process, and with it what it has opened.
stop(Name) ->
    Ref = monitor(process, Name),
    exit(whereis(Name), kill),
    receive {'DOWN', Ref, _, _, _} -> ok end.

named(Name, Fun) ->
    Me = self(),
    spawn(fun() -> register(Name, self()), Me ! {named, Name}, Fun() end),
    receive {named, Name} -> ok end.

%% A connection of which Bytes are queued before a writer waits. It is not read before drain/1.
unread(Reader, Bytes) ->
    Me = self(),
    named(Reader, fun() ->
        {A, B} = pair(),
        ok = inet:setopts(A, [{high_watermark, Bytes}, {low_watermark, Bytes div 2}]),
        Me ! {Reader, A},
        %% The faster, the more the kernel takes at once.
        receive {read, EachMs} ->
            [ok = inet:setopts(S, [{recbuf, 1048576}, {sndbuf, 1048576}]) || EachMs =:= 0, S <- [A, B]],
            read(B, EachMs)
        end
    end),
    receive {Reader, A} -> A end.

read(Socket, EachMs) ->
    _ = gen_tcp:recv(Socket, 0),
    timer:sleep(EachMs),
    read(Socket, EachMs).

reader(Name) -> list_to_atom(atom_to_list(Name) ++ "_reader").

%% A registered process that is blocked in gen_tcp:send, with Bytes in the queue of its port.
stuck_sender(Name, Bytes) ->
    A = unread(reader(Name), Bytes),
    named(Name, fun() -> send_more(A) end),
    text(A).

%% Two unregistered processes that write to one connection. Stopped with the reader.
shared(Name, Count) ->
    A = unread(reader(Name), 8192),
    [spawn(fun() -> send_more(A) end) || _ <- lists:seq(1, Count)],
    text(A).

%% The same, on a connection that a listening socket of ours has accepted: of a slow client.
slow_client(Address, Opts, Count) ->
    Me = self(),
    Tag = make_ref(),
    spawn(fun() ->
        {ok, L} = gen_tcp:listen(0, [binary, {active, false}, {ip, Address} | Opts]),
        {ok, Port} = inet:port(L),
        To = case Opts of [inet6] -> {0, 0, 0, 0, 0, 0, 0, 1}; _ -> {127, 0, 0, 1} end,
        {ok, _} = gen_tcp:connect(To, Port, [binary, {active, false} | Opts]),
        {ok, B} = gen_tcp:accept(L),
        Me ! {Tag, B},
        receive stop -> ok end
    end),
    B = receive {Tag, Socket} -> Socket end,
    [spawn(fun() -> send_more(B) end) || _ <- lists:seq(1, Count)],
    text(B).

%% The other end reads from now on.
drain(Name) ->
    reader(Name) ! {read, 0},
    ok.

%% A registered process that is blocked most of the time: the other end reads once each EachMs.
moving_writer(Name, EachMs) ->
    stuck_sender(Name, 8192),
    reader(Name) ! {read, EachMs},
    ok.

%% N unregistered writers, each to a client of its own that does not read.
slow_writers(N) ->
    [begin {A, _} = keep(fun() -> pair() end), spawn(fun() -> send_more(A) end) end
     || _ <- lists:seq(1, N)],
    ok.

send_more(A) ->
    case gen_tcp:send(A, binary:copy(<<"x">>, 65536)) of
        ok -> send_more(A);
        {error, _} -> gone
    end.

%% Prints for ever.
print(Name) -> named(Name, fun() -> print_on() end).

print_on() ->
    io:put_chars(lists:duplicate(1000, $x)),
    print_on().

%% Sends to a process of another node for ever.
flood(Name, Node) ->
    pong = net_adm:ping(Node),
    named(Name, fun() -> flood_on({sink, Node}, binary:copy(<<"x">>, 65536)) end).

flood_on(To, Data) ->
    To ! Data,
    flood_on(To, Data).

info(Id) ->
    P = list_to_port(binary_to_list(Id)),
    [value(P, I) || I <- [name, connected, input, output, os_pid, queue_size, memory]].

value(P, input) ->
    case inet:getstat(P, [recv_oct]) of
        {ok, [{recv_oct, N}]} -> N;
        _ -> element(2, erlang:port_info(P, input))
    end;
value(P, Item) ->
    element(2, erlang:port_info(P, Item)).

%% The ids and values of the N first by an item, as the node itself ranks them.
top(N, Item) ->
    Ranked = lists:reverse(lists:sort([{value(P, Item), P} || P <- erlang:ports()])),
    [{text(P), V} || {V, P} <- lists:sublist(Ranked, N)].
