%% Supervisors to order, healthy and sick, and what the node itself says of them. What is started by
%% start/2 and dynamic/2 is linked to one keeper, and stop/0 ends it.
-module(fl_sup).
-behaviour(supervisor).
-export([start/2, named/2, dynamic/2, add/2, leak/2, churn/2, churn_with_ids/2, storm/2, app/2, stop/0]).
-export([slow_child/2, started_by/2, flaky_sup/2, break/0, heal/0, exhaust/1, trappers/2, counts/1, children/1, tree/1, supervisors/0, pid_of/1]).
-export([init/1, worker/0, trapper/0, crasher/1, slow/1, slower/2, flaky/1]).

%% Starts a supervisor with child specs under a registered Name, a via tuple, or none.
start(none, Specs) -> run(fun() -> supervisor:start_link(?MODULE, {one_for_one, Specs}) end);
start(Name, Specs) when is_atom(Name) -> named({local, Name}, Specs);
start(Name, Specs) -> named(Name, Specs).

named(Name, Specs) -> run(fun() -> supervisor:start_link(Name, ?MODULE, {one_for_one, Specs}) end).

%% A simple_one_for_one supervisor with Count temporary children.
dynamic(Name, Count) ->
    Sup = run(fun() -> supervisor:start_link({local, Name}, ?MODULE, dynamic) end),
    add(Name, Count),
    Sup.

add(Name, Count) ->
    [{ok, _} = supervisor:start_child(Name, []) || _ <- lists:seq(1, Count)],
    ok.

%% A dynamic supervisor that starts PerS children a second, which never end.
leak(Name, PerS) ->
    dynamic(Name, 10),
    keep(spawn(fun() -> leak_loop(Name, 1000 div PerS) end)).

leak_loop(Name, Ms) ->
    add(Name, 1),
    timer:sleep(Ms),
    leak_loop(Name, Ms).

%% Replaces each of Count temporary children of a dynamic supervisor again and again.
churn(Name, Count) ->
    dynamic(Name, Count),
    keep(spawn(fun() -> churn_loop(Name) end)).

churn_loop(Name) ->
    [begin exit(P, kill), supervisor:start_child(Name, []) end
        || {_, P, _, _} <- supervisor:which_children(Name), is_pid(P)],
    timer:sleep(20),
    churn_loop(Name).

%% The same, with ids, beside a permanent child that stays.
churn_with_ids(Name, Count) ->
    start(Name, [{steady, worker}]),
    keep(spawn(fun() -> churn_ids(Name, Count, 0) end)).

churn_ids(Name, Count, N) ->
    [supervisor:start_child(Name, spec({{job, N, I}, {short, 30}}, temporary))
        || I <- lists:seq(1, Count)],
    timer:sleep(20),
    churn_ids(Name, Count, N + 1).

%% A permanent child that crashes Ms after each start, beside one that does not.
storm(Name, Ms) ->
    logger:set_primary_config(level, none),
    run(fun() -> supervisor:start_link({local, Name}, ?MODULE,
        {storm, [{steady, worker}, {stormy, {crash, Ms}}]}) end).

%% A supervisor below an application of that name: {App}_sup.
app(App, Specs) ->
    Name = list_to_atom(atom_to_list(App) ++ "_sup"),
    ok = application:load({application, App, [{description, ""}, {vsn, "1"}, {modules, []},
        {registered, []}, {applications, [kernel, stdlib]},
        {mod, {fl_sup_app, {Name, Specs}}}]}),
    ok = application:start(App).

%% Has Name start a child whose init takes Ms; comes back at once.
slow_child(Name, Ms) ->
    spawn(fun() -> supervisor:start_child(Name, spec({slow_one, {slow, Ms}}, permanent)) end),
    timer:sleep(100),
    ok.

%% Starts a supervisor from a process of its own, which ends when told by stop.
started_by(Name, Specs) ->
    Me = self(),
    Pid = spawn(fun() ->
        {ok, _} = supervisor:start_link({local, Name}, ?MODULE, {one_for_one, Specs}),
        Me ! {started, Name},
        receive stop -> ok end
    end),
    receive {started, Name} -> Pid end.

%% A supervisor whose permanent child `flaky` does not start between break/0 and heal/0: each try
%% takes Ms.
flaky_sup(Name, Ms) ->
    logger:set_primary_config(level, none),
    run(fun() -> supervisor:start_link({local, Name}, ?MODULE,
        {storm, [{steady, worker}, {flaky, {flaky, Ms}}]}) end).

break() ->
    Me = self(),
    spawn(fun() -> register(fl_sup_broken, self()), Me ! broken, receive heal -> ok end end),
    receive broken -> ok end.

heal() ->
    fl_sup_broken ! heal,
    ok.

%% Kills a child again and again until its supervisor gives up.
exhaust(Name) ->
    logger:set_primary_config(level, none),
    Ref = monitor(process, Name),
    exhaust(Name, Ref).

exhaust(Name, Ref) ->
    _ = try [exit(P, kill) || {_, P, worker, _} <- supervisor:which_children(Name), is_pid(P)]
        catch exit:_ -> gone end,
    receive {'DOWN', Ref, _, _, _} -> ok after 5 -> exhaust(Name, Ref) end.

%% A simple_one_for_one supervisor of Count children that trap exits and run under proc_lib.
trappers(Name, Count) ->
    run(fun() -> supervisor:start_link({local, Name}, ?MODULE, trappers) end),
    add(Name, Count).

stop() ->
    case whereis(fl_sup_keeper) of
        undefined -> ok;
        Keeper ->
            Ref = monitor(process, Keeper),
            exit(Keeper, kill),
            receive {'DOWN', Ref, _, _, _} -> ok end
    end.

%% --- What the node itself says ---

pid_of(Name) -> pid_to_list(whereis(Name)).

counts(Sup) ->
    L = supervisor:count_children(Sup),
    {proplists:get_value(workers, L) + proplists:get_value(supervisors, L),
        proplists:get_value(active, L)}.

children(Sup) ->
    lists:sort([{Id, P, T} || {Id, P, T, _} <- supervisor:which_children(Sup)]).

tree(Sup) ->
    [{Id, case T of supervisor when is_pid(P) -> tree(P); _ -> T end}
        || {Id, P, T, _} <- supervisor:which_children(Sup)].

%% All supervisors, by reading every dictionary.
supervisors() ->
    [P || P <- processes(), P =/= self(),
        case proc_lib:translate_initial_call(P) of {supervisor, _, _} -> true; _ -> false end].

%% --- How they are started ---

init({storm, Children}) ->
    {ok, {#{strategy => one_for_one, intensity => 1000000, period => 1},
        [spec(C, permanent) || C <- Children]}};
init(dynamic) ->
    {ok, {#{strategy => simple_one_for_one},
        [#{id => job, start => {?MODULE, worker, []}, restart => temporary}]}};
init(trappers) ->
    {ok, {#{strategy => simple_one_for_one},
        [#{id => job, start => {?MODULE, trapper, []}, restart => temporary}]}};
init({Strategy, Children}) ->
    {ok, {#{strategy => Strategy, intensity => 3, period => 5}, [spec(C) || C <- Children]}}.

spec(#{} = Spec) -> Spec;
spec({Id, What, Restart}) -> spec({Id, What}, Restart);
spec(Child) -> spec(Child, permanent).

spec({Id, {sup, Name, Children}}, Restart) ->
    #{id => Id, restart => Restart, type => supervisor, start => {supervisor, start_link,
        [{local, Name}, ?MODULE, {one_for_one, Children}]}};
spec({Id, {sup, Children}}, Restart) ->
    #{id => Id, restart => Restart, type => supervisor, start => {supervisor, start_link,
        [?MODULE, {one_for_one, Children}]}};
spec({Id, worker}, Restart) ->
    #{id => Id, restart => Restart, start => {?MODULE, worker, []}};
spec({Id, trapper}, Restart) ->
    #{id => Id, restart => Restart, start => {?MODULE, trapper, []}};
spec({Id, liar}, Restart) ->
    #{id => Id, restart => Restart, type => supervisor, start => {?MODULE, trapper, []}};
spec({Id, {crash, Ms}}, Restart) ->
    #{id => Id, restart => Restart, start => {?MODULE, crasher, [Ms]}};
spec({Id, {short, Ms}}, Restart) ->
    #{id => Id, restart => Restart, start => {?MODULE, slower, [0, Ms]}};
spec({Id, {flaky, Ms}}, Restart) ->
    #{id => Id, restart => Restart, start => {?MODULE, flaky, [Ms]}};
spec({Id, {slow, Ms}}, Restart) ->
    #{id => Id, restart => Restart, start => {?MODULE, slow, [Ms]}}.

worker() -> {ok, spawn_link(fun() -> receive never -> ok end end)}.

%% A child that looks like a supervisor but for its initial call, and ends at any call.
trapper() ->
    proc_lib:start_link(erlang, apply, [fun() ->
        process_flag(trap_exit, true),
        proc_lib:init_ack({ok, self()}),
        receive {'$gen_call', _, _} -> exit(called); never -> ok end
    end, []]).

crasher(Ms) ->
    {ok, spawn_link(fun() -> timer:sleep(Ms), exit(crashed) end)}.

slow(Ms) ->
    timer:sleep(Ms),
    worker().

flaky(Ms) ->
    case whereis(fl_sup_broken) of
        undefined -> worker();
        _ -> timer:sleep(Ms), {error, broken}
    end.

slower(InitMs, LifeMs) ->
    timer:sleep(InitMs),
    {ok, spawn_link(fun() -> timer:sleep(LifeMs) end)}.

%% --- Who keeps them ---

run(Fun) ->
    Keeper = keeper(),
    Ref = make_ref(),
    Keeper ! {run, self(), Ref, Fun},
    receive {Ref, {ok, Sup}} -> Sup; {Ref, Error} -> error(Error) end.

keep(Pid) ->
    keeper() ! {link, Pid},
    Pid.

keeper() ->
    case whereis(fl_sup_keeper) of
        undefined ->
            Me = self(),
            Pid = spawn(fun() ->
                register(fl_sup_keeper, self()),
                process_flag(trap_exit, true),
                Me ! {kept, self()},
                keep_loop()
            end),
            receive {kept, Pid} -> Pid end;
        Pid -> Pid
    end.

keep_loop() ->
    receive
        {run, From, Ref, Fun} -> From ! {Ref, Fun()}, keep_loop();
        {link, Pid} -> catch link(Pid), keep_loop();
        {'EXIT', _, _} -> keep_loop()
    end.
