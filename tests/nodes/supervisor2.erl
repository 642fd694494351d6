%% Answers as RabbitMQ's supervisor of that name does, as far as specs need it: one that knows no
%% other question ends.
-module(supervisor2).
-behaviour(gen_server).
-export([start_link/2, init/1, handle_call/3, handle_cast/2]).

%% A supervisor of worker processes with these ids.
start_link(Name, Ids) ->
    gen_server:start_link({local, Name}, ?MODULE, Ids, []).

init(Ids) ->
    process_flag(trap_exit, true),
    {ok, [{Id, element(2, fl_sup:worker()), worker, [fl_sup]} || Id <- Ids]}.

handle_call(which_children, _, Children) ->
    {reply, Children, Children};
handle_call(count_children, _, Children) ->
    N = length(Children),
    {reply, [{specs, N}, {active, N}, {supervisors, 0}, {workers, N}], Children}.

handle_cast(_, Children) ->
    {noreply, Children}.
