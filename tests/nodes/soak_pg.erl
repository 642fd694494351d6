%% Processes of a group: gen_servers below a supervisor of dynamic children, each of which joins a
%% scope of pg. They come at a steady rate; later half of them leave.
-module(soak_pg).
-behaviour(supervisor).
-export([start/1, start_member/1, init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(SCOPE, soak_scope).

%% Opts: members, ramp_ms (how long until all are there), leave_after_ms (counted from the start)
%% and leave_ms (how long half of them take to leave).
start(Opts) ->
    Starter = self(),
    Pid = spawn(fun() ->
        {ok, _} = pg:start_link(?SCOPE),
        {ok, _} = supervisor:start_link({local, soak_pg_sup}, ?MODULE, supervisor),
        Starter ! {self(), ready},
        ramp(Opts)
    end),
    receive {Pid, ready} -> ok end.

ramp(#{members := Members, ramp_ms := RampMs, leave_after_ms := AfterMs, leave_ms := LeaveMs}) ->
    StartMs = now_ms(),
    steadily(Members, RampMs, fun(I) ->
        {ok, _} = supervisor:start_child(soak_pg_sup, [I])
    end),
    timer:sleep(max(0, AfterMs - (now_ms() - StartMs))),
    Leaving = [Pid || {_, Pid, _, _} <- supervisor:which_children(soak_pg_sup)],
    Half = list_to_tuple(lists:sublist(Leaving, Members div 2)),
    steadily(tuple_size(Half), LeaveMs, fun(I) -> gen_server:cast(element(I, Half), leave) end),
    timer:sleep(infinity).

now_ms() ->
    erlang:monotonic_time(millisecond).

%% Calls Fun(1) to Fun(Count) at a steady rate.
steadily(Count, TakesMs, Fun) ->
    steadily(1, Count, TakesMs, now_ms(), Fun).

steadily(I, Count, _, _, _) when I > Count ->
    ok;
steadily(I, Count, TakesMs, StartMs, Fun) ->
    Due = min(Count, Count * (now_ms() - StartMs) div max(1, TakesMs)),
    [Fun(J) || J <- lists:seq(I, Due)],
    timer:sleep(50),
    steadily(max(I, Due + 1), Count, TakesMs, StartMs, Fun).

start_member(I) ->
    gen_server:start_link(?MODULE, {member, I}, []).

init(supervisor) ->
    Child = #{id => member, start => {?MODULE, start_member, []}, restart => temporary},
    {ok, {#{strategy => simple_one_for_one}, [Child]}};
init({member, I}) ->
    ok = pg:join(?SCOPE, {room, I rem 500}, self()),
    {ok, I, 1000 + rand:uniform(60000)}.

handle_call(_, _, I) ->
    {reply, ok, I}.

%% To leave is to end.
handle_cast(leave, I) ->
    {stop, normal, I};
handle_cast({hello, _}, I) ->
    {noreply, I, 30000 + rand:uniform(60000)}.

%% Now and then a member greets another one of its room.
handle_info(timeout, I) ->
    Members = pg:get_members(?SCOPE, {room, I rem 500}),
    gen_server:cast(lists:nth(rand:uniform(length(Members)), Members), {hello, self()}),
    {noreply, I, 30000 + rand:uniform(60000)}.
