%% Clients of a RabbitMQ server: a publisher that keeps queues busy, consumers that keep up, others
%% that never read what is sent to them, and connections that come and go. They speak through the
%% client library that comes with the server; its records are written as the tuples they are.
-module(soak_amqp).
-export([start/1]).

-define(BODY_BYTES, 16 * 1024).
-define(BACKLOG, 8000).

%% Opts: port, slow (consumers that do not read), churn_per_s, publish_per_s. Returns when all that
%% stays is connected; the rest goes on for as long as the node lives.
start(Opts) ->
    %% Who does not read for this long gives up by itself.
    ok = application:load(amqp_client),
    ok = application:set_env(amqp_client, gen_server_call_timeout, infinity),
    {ok, _} = application:ensure_all_started(amqp_client),
    Starter = self(),
    spawn(fun() ->
        topology(Opts),
        Readers = slow(Opts),
        [spawn(fun() -> worker(Opts) end) || _ <- lists:seq(1, 4)],
        [spawn(fun() -> publisher(Opts, I) end) || I <- [1, 2]],
        spawn(fun() -> churn(Opts) end),
        Starter ! {self(), ready},
        doze(Readers)
    end),
    receive {_, ready} -> ok end.

connect(#{port := Port}, SocketOptions) ->
    {ok, Params} = amqp_uri:parse(
        lists:flatten(io_lib:format("amqp://guest:guest@127.0.0.1:~b?heartbeat=0", [Port]))),
    {ok, Connection} = amqp_connection:start(with_options(Params, SocketOptions)),
    {ok, Channel} = amqp_connection:open_channel(Connection),
    {Connection, Channel}.

%% The field socket_options is the only one that is a list of buffer sizes to be.
with_options(Params, []) ->
    Params;
with_options(Params, Options) ->
    setelement(field(socket_options, Params), Params, Options).

%% #amqp_params_network{username, password, virtual_host, host, port, channel_max, frame_max,
%% heartbeat, connection_timeout, ssl_options, auth_mechanisms, client_properties, socket_options}
field(socket_options, Params) when tuple_size(Params) =:= 14 ->
    14.

declare(Channel, Queue, Arguments) ->
    {'queue.declare_ok', _, _, _} = amqp_channel:call(Channel,
        {'queue.declare', 0, Queue, false, false, false, false, false, Arguments}),
    ok.

topology(Opts = #{slow := Slow}) ->
    {Connection, Channel} = connect(Opts, []),
    {'exchange.declare_ok'} = amqp_channel:call(Channel,
        {'exchange.declare', 0, <<"news">>, <<"fanout">>, false, false, false, false, false, []}),
    declare(Channel, <<"busy">>, bounded(?BACKLOG)),
    declare(Channel, <<"backlog">>, bounded(?BACKLOG)),
    [begin
        declare(Channel, slow_queue(I), bounded(500)),
        {'queue.bind_ok'} = amqp_channel:call(Channel,
            {'queue.bind', 0, slow_queue(I), <<"news">>, <<>>, false, []})
    end || I <- lists:seq(1, Slow)],
    amqp_connection:close(Connection).

bounded(Length) ->
    [{<<"x-max-length">>, long, Length}].

slow_queue(I) ->
    <<"slow.", (integer_to_binary(I))/binary>>.

consume(Channel, Queue, NoAck) ->
    {'basic.consume_ok', _} = amqp_channel:subscribe(Channel,
        {'basic.consume', 0, Queue, <<>>, false, NoAck, false, false, []}, self()),
    receive {'basic.consume_ok', _} -> ok end.

worker(Opts) ->
    {_, Channel} = connect(Opts, []),
    {'basic.qos_ok'} = amqp_channel:call(Channel, {'basic.qos', 0, 50, false}),
    consume(Channel, <<"busy">>, false),
    work(Channel).

work(Channel) ->
    receive
        {{'basic.deliver', _, Tag, _, _, _}, _} ->
            amqp_channel:cast(Channel, {'basic.ack', Tag, false})
    end,
    work(Channel).

%% Consumers whose connections nobody reads: the process that would is suspended.
slow(Opts = #{slow := Slow}) ->
    [begin
        Before = readers(),
        {_, Channel} = connect(Opts, [{recbuf, 16384}]),
        consume(Channel, slow_queue(I), true),
        [Reader] = readers() -- Before,
        true = erlang:suspend_process(Reader),
        Reader
    end || I <- lists:seq(1, Slow)].

%% Every second one of them reads for a moment now and then, the others never.
doze(Readers) ->
    timer:sleep(20000),
    Awake = [R || {I, R} <- lists:zip(lists:seq(1, length(Readers)), Readers), I rem 2 =:= 0],
    [erlang:resume_process(R) || R <- Awake],
    timer:sleep(500),
    [erlang:suspend_process(R) || R <- Awake],
    doze(Readers).

readers() ->
    [P || P <- processes(), is_reader(process_info(P, dictionary))].

is_reader({dictionary, Dictionary}) ->
    proplists:get_value('$initial_call', Dictionary) =:= {amqp_main_reader, init, 1};
is_reader(undefined) ->
    false.

%% The first publishes to the queues that are worked off and those that are not, the other the news
%% for those who do not read them.
publisher(Opts = #{publish_per_s := PerS}, I) ->
    {_, Channel} = connect(Opts, []),
    case I of
        1 -> publish(Channel, [{<<>>, <<"busy">>}, {<<>>, <<"backlog">>}], 1000 div PerS);
        2 -> publish(Channel, [{<<"news">>, <<>>}], 200)
    end.

publish(Channel, Routes, EveryMs) ->
    [send(Channel, Exchange, Key) || {Exchange, Key} <- Routes],
    timer:sleep(EveryMs),
    publish(Channel, Routes, EveryMs).

send(Channel, Exchange, Key) ->
    Properties = list_to_tuple(['P_basic' | lists:duplicate(14, undefined)]),
    ok = amqp_channel:cast(Channel, {'basic.publish', 0, Exchange, Key, false, false},
        {amqp_msg, Properties, rand:bytes(?BODY_BYTES)}).

%% Connections that stay for up to 20 s, each with a queue of its own.
churn(Opts = #{churn_per_s := PerS}) ->
    spawn(fun() -> visit(Opts) end),
    timer:sleep(rand:uniform(2000 div PerS)),
    churn(Opts).

visit(Opts) ->
    {Connection, Channel} = connect(Opts, []),
    {'queue.declare_ok', Queue, _, _} = amqp_channel:call(Channel,
        {'queue.declare', 0, <<>>, false, false, true, true, false, []}),
    consume(Channel, Queue, true),
    [begin
        send(Channel, <<>>, Queue),
        timer:sleep(rand:uniform(2000))
    end || _ <- lists:seq(1, rand:uniform(20))],
    amqp_connection:close(Connection).
