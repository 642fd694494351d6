--- The Erlang of the ports domain's callbacks.

local M = {}

local PRELUDE = [==[
Bytes = fun(Name) ->
  Short = lists:sublist(Name, 200),
  try list_to_binary(Short) catch _:_ -> unicode:characters_to_binary(Short) end
end,
]==]

--- The first Most ports: `{Total, Microseconds, [{Id, Name, Connected, OsPid}]}`.
M.LIST = PRELUDE .. [==[
Start = erlang:monotonic_time(microsecond),
Ports = lists:sort(erlang:ports()),
Row = fun(P) ->
  case [erlang:port_info(P, I) || I <- [name, connected, os_pid]] of
    [{_, Name}, {_, Owner}, {_, OsPid}] ->
      [{list_to_binary(erlang:port_to_list(P)), Bytes(Name), Owner, OsPid}];
    _ -> []
  end
end,
Rows = lists:append(lists:map(Row, lists:sublist(Ports, Most))),
{length(Ports), erlang:monotonic_time(microsecond) - Start, Rows}.
]==]

--- One port, of the form #Port<0.N>: no atom comes of it. Binding: Id. `port_info/1` leaves out the
--- queue and the memory: they are asked for by name. What a socket has received it counts itself.
M.INFO = PRELUDE .. [==[
try erlang:list_to_port(binary_to_list(Id)) of
  P ->
    case [erlang:port_info(P, I)
      || I <- [name, connected, input, output, os_pid, queue_size, memory]] of
      [{_, Name}, {_, Owner}, {_, In}, {_, Out}, {_, OsPid}, {_, Queue}, {_, Memory}] ->
        IsSocket = lists:member(Name, ["tcp_inet", "udp_inet", "sctp_inet"]),
        Received = case IsSocket andalso prim_inet:getstat(P, [recv_oct]) of
          {ok, [{_, N}]} -> N;
          _ -> In
        end,
        {list_to_binary(erlang:port_to_list(P)), Bytes(Name), Owner, Received, Out, OsPid, Queue,
          Memory};
      _ -> none
    end
catch error:_ -> none
end.
]==]

return M
