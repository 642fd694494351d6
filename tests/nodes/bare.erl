%% Suspends and resumes the node's code_server, having loaded before what that itself needs.
-module(bare).
-export([suspend/0, resume/0]).

suspend() ->
    [{module, _} = code:ensure_loaded(M) || M <- [sys, control, io]],
    sys:suspend(code_server).

resume() ->
    sys:resume(code_server).
