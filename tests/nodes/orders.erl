%% orders: a small server with a queue in its state, registered as `orders`.
-module(orders).
-behaviour(gen_server).
-export([start/0, init/1, handle_call/3, handle_cast/2]).

start() ->
    {ok, _} = gen_server:start({local, orders}, ?MODULE, [], []),
    ok.

init([]) ->
    {ok, []}.

handle_call(queue_length, _From, Queue) ->
    {reply, length(Queue), Queue}.

handle_cast({add, Order}, Queue) ->
    {noreply, [Order | Queue]}.
