%% Suspends and resumes the node's code_server, having loaded before what that itself needs, and
%% what net_kernel loads at the node's first connection to any other.
-module(bare).
-export([suspend/0, resume/0]).

suspend() ->
    [{module, _} = code:ensure_loaded(M) || M <- [sys, control, io, dist_util, string, unicode_util]],
    sys:suspend(code_server).

resume() ->
    sys:resume(code_server).
