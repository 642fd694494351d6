%% An application whose top supervisor fl_sup describes.
-module(fl_sup_app).
-behaviour(application).
-export([start/2, stop/1]).

start(_, {Name, Specs}) -> supervisor:start_link({local, Name}, fl_sup, {one_for_one, Specs}).

stop(_) -> ok.
