%% Ports in all kinds of situations, for specs. What is opened here stays open until the node ends.
-module(fl_ports).
-export([queued/1, ipv6/0, cat/0, files/1, sockets/1, closed/0, stuck_sender/1, slow_writers/1,
         info/1, top/2, send_more/1, shared/1]).

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
        A
    end)).

fill(A, N) ->
    case erlang:port_info(A, queue_size) of
        {_, Q} when Q >= N -> ok;
        _ -> true = erlang:port_command(A, binary:copy(<<"x">>, 65536)), fill(A, N)
    end.

ipv6() -> text(keep(fun() -> {A, _} = pair({0, 0, 0, 0, 0, 0, 0, 1}, [inet6]), A end)).

cat() -> text(keep(fun() -> open_port({spawn, "cat"}, [binary]) end)).

closed() ->
    P = open_port({spawn, "cat"}, []),
    port_close(P),
    text(P).

%% Raw files: descriptors that are no ports.
files(N) ->
    keep(fun() -> [element(2, {ok, _} = file:open("/dev/null", [read, raw])) || _ <- lists:seq(1, N)] end),
    ok.

sockets(N) ->
    keep(fun() -> [element(2, {ok, _} = gen_udp:open(0)) || _ <- lists:seq(1, N)] end),
    ok.

%% A registered process that is blocked in gen_tcp:send to a socket that nobody reads.
stuck_sender(Name) ->
    {A, _} = keep(fun() -> pair() end),
    spawn(fun() -> register(Name, self()), send_more(A) end),
    text(A).

%% Two processes that write to one such socket.
shared(N) ->
    {A, _} = keep(fun() -> pair() end),
    [spawn(fun() -> send_more(A) end) || _ <- lists:seq(1, N)],
    text(A).

%% N unregistered writers, each to a client of its own that does not read.
slow_writers(N) ->
    [begin {A, _} = keep(fun() -> pair() end), spawn(fun() -> send_more(A) end) end
     || _ <- lists:seq(1, N)],
    ok.

send_more(A) ->
    ok = gen_tcp:send(A, binary:copy(<<"x">>, 65536)),
    send_more(A).

info(Id) ->
    P = list_to_port(binary_to_list(Id)),
    [element(2, erlang:port_info(P, I))
     || I <- [name, connected, input, output, os_pid, queue_size, memory]].

%% The ids of the N first by an item, as the node itself ranks them.
top(N, Item) ->
    Ranked = lists:reverse(lists:sort([{V, P} || P <- erlang:ports(), {_, V} <- [erlang:port_info(P, Item)]])),
    [V || {V, _} <- lists:sublist(Ranked, N)].
