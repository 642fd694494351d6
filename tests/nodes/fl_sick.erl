%% Faults that a node's own counters do not show, for every release of OTP.
-module(fl_sick).
-export([hog/1]).

%% A process that answers nobody for a quarter of a second and more at a time: it compares two
%% terms of 2^27 elements, small in memory because they share their parts, and nothing interrupts a
%% comparison.
hog(Name) ->
    register(Name, spawn(fun() -> compare(deep(27, {a}), deep(27, {a})) end)),
    ok.

deep(0, Term) -> Term;
deep(N, Term) -> deep(N - 1, {Term, Term}).

compare(A, B) ->
    true = A =:= B,
    erlang:bump_reductions(4000),
    compare(A, B).
