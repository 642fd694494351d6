%% The node that `make run` watches: a small shop. Some 3 s after its start the store behind
%% orders_worker becomes slow, and its mailbox begins to grow. It is bounded: at 200 000 orders the
%% shop takes no more.
-module(sample).
-behaviour(gen_server).
-export([start/0, init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(ORDERS_PER_S, 400).
-define(SLOW_AFTER_MS, 3000).
-define(SLOW_ORDER_MS, 100).
-define(MOST_WAITING, 200000).

start() ->
    Pid = spawn(fun() ->
        {ok, _} = supervisor:start_link({local, shop_sup}, ?MODULE, shop_sup),
        receive stop -> ok end
    end),
    true = is_pid(Pid),
    ok.

child(Name) ->
    #{id => Name, start => {gen_server, start_link, [{local, Name}, ?MODULE, Name, []]}}.

init(shop_sup) ->
    Sessions = #{id => session_sup, type => supervisor,
        start => {supervisor, start_link, [{local, session_sup}, ?MODULE, session_sup]}},
    {ok, {#{strategy => one_for_one}, [
        child(stock_cache), child(orders_worker), child(web_front), Sessions
    ]}};
init(session_sup) ->
    {ok, {#{strategy => one_for_one}, [
        #{id => N, start => {gen_server, start_link, [?MODULE, {session, N}, []]}}
        || N <- lists:seq(1, 40)
    ]}};
init(stock_cache) ->
    stock = ets:new(stock, [named_table, public, {read_concurrency, true}]),
    Articles = [{N, N rem 100, <<"an article of the shop">>} || N <- lists:seq(1, 5000)],
    true = ets:insert(stock, Articles),
    {ok, stock_cache};
init(orders_worker) ->
    erlang:send_after(?SLOW_AFTER_MS, self(), store_becomes_slow),
    {ok, #{role => orders_worker, order_ms => 0}};
init(web_front) ->
    self() ! serve,
    {ok, #{role => web_front, started => now_ms(), sent => 0}};
init({session, N}) ->
    erlang:send_after(1000 + N * 50, self(), click),
    {ok, #{role => session, number => N}}.

handle_call(_, _, State) ->
    {reply, ok, State}.

handle_cast({order, Article, _}, #{role := orders_worker, order_ms := Ms} = State) ->
    _ = ets:update_counter(stock, Article, {2, -1}),
    store(Ms),
    {noreply, State};
handle_cast(_, State) ->
    {noreply, State}.

handle_info(store_becomes_slow, State) ->
    {noreply, State#{order_ms := ?SLOW_ORDER_MS}};
handle_info(serve, #{started := Started, sent := Sent} = State) ->
    erlang:send_after(50, self(), serve),
    Due = (now_ms() - Started) * ?ORDERS_PER_S div 1000,
    case process_info(whereis(orders_worker), message_queue_len) of
        {message_queue_len, Waiting} when Waiting < ?MOST_WAITING ->
            [gen_server:cast(orders_worker, {order, 1 + N rem 5000, {customer, N}})
                || N <- lists:seq(Sent + 1, Due)];
        _ -> full
    end,
    {noreply, State#{sent := Due}};
handle_info(click, State) ->
    erlang:send_after(2000, self(), click),
    _ = ets:lookup(stock, 1 + rand:uniform(4999)),
    {noreply, State};
handle_info(_, State) ->
    {noreply, State}.

store(0) -> ok;
store(Ms) -> timer:sleep(Ms).

now_ms() ->
    erlang:monotonic_time(millisecond).
