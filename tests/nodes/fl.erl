%% Faults to order, and their healthy twins. All that one of these functions starts belongs to one
%% keeper, and stop/0 ends it. A rate is per second.
-module(fl).
-export([slow_consumer/3, burst/3, flusher/3, selective/2, blocked/2, suspended/2]).
-export([spin/0, spin/1, spins/1, worker/2]).
-export([proc_leak/1, procs/1, idle/1, atom_leak/1, atoms/1, port_leak/1, ports/1]).
-export([labelled/2, calling/2, stop/0]).
-export([start/1, start/2, every/2]).  %% for the other modules of faults

%% A consumer that takes Drain messages a second, fed with Rate.
slow_consumer(Name, Rate, Drain) ->
    start(Name, fun() -> consume(Drain) end),
    start(fun() -> feed(Name, Rate) end),
    ok.

%% Count messages at once, which the consumer drains at Drain.
burst(Name, Count, Drain) ->
    start(Name, fun() -> consume(Drain) end),
    start(fun() -> send(Name, Count) end),
    ok.

%% A consumer that empties its mailbox every Ms.
flusher(Name, Rate, Ms) ->
    start(Name, fun() -> flush_every(Ms) end),
    start(fun() -> feed(Name, Rate) end),
    ok.

%% A process that waits for a message which never comes, with Count others in its mailbox.
selective(Name, Count) ->
    start(Name, fun() -> receive never -> ok end end),
    send(Name, Count).

%% The same, in a call to a process that does not answer.
blocked(Name, Count) ->
    Silent = start(fun() -> receive never -> ok end end),
    start(Name, fun() -> gen_server:call(Silent, question, infinity) end),
    timer:sleep(50),
    send(Name, Count).

%% The same, suspended by an operator.
suspended(Name, Count) ->
    Pid = keep(element(2, gen_event:start({local, Name}))),
    ok = sys:suspend(Pid),
    send(Name, Count).

spin() ->
    start(fun() -> loop() end),
    ok.

spin(Name) ->
    start(Name, fun() -> loop() end),
    ok.

spins(Count) ->
    [spin() || _ <- lists:seq(1, Count)],
    ok.

%% A process that is busy because it has messages to handle: Rate of them, each some work.
worker(Name, Rate) ->
    start(Name, fun() -> work() end),
    start(fun() -> feed(Name, Rate) end),
    ok.

proc_leak(Rate) ->
    start(fun() -> every(Rate, fun(_) -> start(fun() -> receive never -> ok end end) end) end),
    ok.

%% Processes that stay when all else is stopped.
idle(Count) ->
    [spawn(fun() -> receive never -> ok end end) || _ <- lists:seq(1, Count)],
    ok.

procs(Count) ->
    [start(fun() -> receive never -> ok end end) || _ <- lists:seq(1, Count)],
    ok.

atom_leak(Rate) ->
    start(fun() -> every(Rate, fun(_) -> new_atom() end) end),
    ok.

atoms(Count) ->
    [new_atom() || _ <- lists:seq(1, Count)],
    ok.

port_leak(Rate) ->
    start(fun() -> every(Rate, fun(_) -> open() end) end),
    ok.

ports(Count) ->
    start_ready(fun() -> [open() || _ <- lists:seq(1, Count)] end),
    ok.

%% A process with Label as its `$process_label`, and Bytes on its heap.
labelled(Label, Words) ->
    start_ready(fun() -> put('$process_label', Label), lists:seq(1, Words div 2) end).

%% A process that looks as if proc_lib had started it by the function Initial.
calling(Initial, Words) ->
    Ballast = lists:seq(1, Words div 2),
    keep(proc_lib:spawn(fun() ->
        put('$initial_call', Initial),
        receive never -> Ballast end
    end)).

%% Ends all that was started.
stop() ->
    case whereis(fl_keeper) of
        undefined -> ok;
        Keeper ->
            Ref = monitor(process, Keeper),
            Keeper ! stop,
            receive {'DOWN', Ref, _, _, _} -> ok end
    end.

%% --- What keeps them ---

keeper() ->
    case whereis(fl_keeper) of
        undefined ->
            Me = self(),
            Pid = spawn(fun() ->
                register(fl_keeper, self()),
                process_flag(trap_exit, true),
                Me ! {kept, self()},
                keep_loop([])
            end),
            receive {kept, Pid} -> Pid end;
        Pid -> Pid
    end.

keep_loop(Pids) ->
    receive
        {keep, Pid} -> keep_loop([Pid | Pids]);
        stop -> end_all(Pids)
    end.

end_all([]) -> ok;
end_all(Pids) ->
    Refs = [monitor(process, Pid) || Pid <- Pids],
    [exit(Pid, kill) || Pid <- Pids],
    [receive {'DOWN', Ref, _, _, _} -> ok end || Ref <- Refs],
    %% What they started while they ended.
    end_all(late()).

late() ->
    receive {keep, Pid} -> [Pid | late()] after 0 -> [] end.

keep(Pid) ->
    keeper() ! {keep, Pid},
    Pid.

start(Fun) ->
    keep(spawn(Fun)).

start(Name, Fun) ->
    Me = self(),
    Pid = start(fun() ->
        register(Name, self()),
        Me ! {registered, self()},
        Fun()
    end),
    receive {registered, Pid} -> Pid end.

%% A process that keeps what Fun returned; comes back when it has that.
start_ready(Fun) ->
    Me = self(),
    Pid = start(fun() ->
        Kept = Fun(),
        Me ! {ready, self()},
        receive never -> Kept end
    end),
    receive {ready, Pid} -> Pid end.

%% --- What they do ---

consume(Drain) ->
    receive _ -> ok end,
    timer:sleep(max(1, 1000 div Drain)),
    consume(Drain).

flush_every(Ms) ->
    timer:sleep(Ms),
    flush(),
    flush_every(Ms).

flush() ->
    receive _ -> flush() after 0 -> ok end.

work() ->
    receive _ -> lists:sum(lists:seq(1, 5000)) end,
    work().

loop() ->
    loop().

feed(Name, Rate) ->
    every(Rate, fun(N) -> catch Name ! {order, N, self(), [some, work, to, do]} end).

send(Name, Count) ->
    [Name ! {order, N} || N <- lists:seq(1, Count)],
    ok.

new_atom() ->
    list_to_atom("fl_" ++ integer_to_list(erlang:unique_integer([positive]))).

open() ->
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    Socket.

%% Calls Fun Rate times a second, in steps of 20 ms, for ever.
every(Rate, Fun) ->
    every(Rate, Fun, erlang:monotonic_time(millisecond), 0).

every(Rate, Fun, Start, Done) ->
    timer:sleep(20),
    Due = (erlang:monotonic_time(millisecond) - Start) * Rate div 1000,
    [Fun(N) || N <- lists:seq(Done + 1, Due)],
    every(Rate, Fun, Start, max(Done, Due)).
