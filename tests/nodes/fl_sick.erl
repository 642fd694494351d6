%% Faults that a node's own counters do not show, for every release of OTP.
-module(fl_sick).
-export([hog/1, hog/2]).

%% A process that answers nobody for half a second and more at a time: it compares two terms of 2^26
%% elements, small in memory because they share their parts, and nothing interrupts a comparison.
hog(Name) ->
    hog(Name, []).

%% The same, linked to other processes.
hog(Name, Others) ->
    Pid = spawn(fun() ->
        [link(P) || P <- Others],
        compare(deep(26, {a}), deep(26, {a}))
    end),
    register(Name, Pid),
    pid_to_list(Pid).

deep(0, Term) -> Term;
deep(N, Term) -> deep(N - 1, {Term, Term}).

compare(A, B) ->
    true = A =:= B,
    erlang:bump_reductions(4000),
    compare(A, B).
