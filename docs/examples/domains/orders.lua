--- The orders domain: the queue of one gen_server of an application, registered as `orders`.

-- The mailbox is read first and from outside. The call has a deadline, so that a server that is
-- stuck costs half a second and is seen as `answers => false`.
local QUEUE = [[
case whereis(orders) of
  undefined -> undefined;
  Pid ->
    case erlang:process_info(Pid, message_queue_len) of
      undefined -> undefined;
      {message_queue_len, Mailbox} ->
        try gen_server:call(Pid, queue_length, 500) of
          Length -> #{mailbox => Mailbox, queue_length => Length, answers => true}
        catch
          exit:_ -> #{mailbox => Mailbox, answers => false}
        end
    end
end.
]]

local function read_queue(target)
  local queue, err, code = target:eval(QUEUE, {}, { timeout_ms = 5000 })
  if err then
    return nil, err, code
  elseif type(queue) ~= "table" then
    return nil, "EORDERS: no process is registered as orders", "EORDERS"
  end
  return { mailbox = queue.mailbox, queue_length = queue.queue_length, answers = queue.answers }
end

return {
  name = "orders",
  title = "Orders",
  description = "The queue of the orders server.",
  instructions = "A queue_length that grows for minutes: orders come faster than they are handled.",
  metrics = {
    { name = "mailbox", type = "integer", doc = "messages that wait for the server" },
    { name = "queue_length", type = "integer", optional = true, doc = "absent: no answer in time" },
    { name = "answers", type = "boolean", doc = "false: it took longer than 500 ms" },
  },
  snapshot = read_queue,
  callbacks = {
    {
      name = "orders_queue",
      returns = {
        { name = "mailbox", type = "integer" },
        { name = "queue_length", type = "integer", optional = true },
        { name = "answers", type = "boolean" },
      },
      doc = "The queue of the orders server now.",
      run = read_queue,
    },
  },
}
