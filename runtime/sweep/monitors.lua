--- The part of the sweep that looks at monitors: how many the largest processes hold, and for whom
--- those wait that wait for the answer to a call although they have messages.
---
--- A process that waits in `gen:do_call` monitors whom it called; the call itself is not read, nor
--- are its messages. What else it monitors may be whom it called, unless that is seen to be idle. A
--- list of monitors is as long as there are monitors: only the largest processes are asked, once a
--- minute, each by a process whose heap is bounded.

local names = require("runtime.names")
local processes = require("runtime.sweep.processes")

local M = {}

local LARGEST = 20
local LARGEST_KB = 512 -- 10 000 monitors take 625 KiB
local LARGEST_EVERY_MS = 60000
local TIMEOUT_MS = 15000
local BINDINGS = {
  MostOthers = 200, -- of those whom one monitors are asked whether they are idle
  Patience = 500, -- ms for one process
  Budget = 3000, -- ms for all
  -- Enough for some 500 000 monitors: five words each, and what it takes to sort them.
  Heap = 6 * 1024 * 1024,
}

-- The guard stands between this process and the helper: a helper whose heap gets too large is
-- killed alone, and one whose asker is gone is not left behind.
-- Bindings: Pids, Called (who waits for an answer), MostOthers, Patience, Budget, Heap.
local SOURCE = [==[
Start = erlang:monotonic_time(microsecond),
End = Start + Budget * 1000,
Me = self(),
Priority = case erlang:statistics(run_queue) > 2 * erlang:system_info(schedulers_online) of
  true -> normal;
  false -> low
end,
ToPid = fun(Text) -> list_to_pid(binary_to_list(Text)) end,
Waited = lists:sort([{process, ToPid(Text)} || Text <- Called]),
Idle = fun(Function) ->
  case Function of
    {gen_server, loop, _} -> true;
    {gen_statem, loop_receive, _} -> true;
    {gen_event, fetch_msg, _} -> true;
    {erlang, hibernate, _} -> true;
    _ -> false
  end
end,
MayAnswer = fun
  ({process, P}) when is_pid(P), node(P) =:= node() ->
    case process_info(P, [message_queue_len, current_function]) of
      [{_, 0}, {_, Function}] -> not Idle(Function);
      undefined -> false;
      _ -> true
    end;
  ({port, _}) -> false;
  (_) -> true
end,
Open = fun(Others) ->
  case length(Others) =< MostOthers of
    true -> length(lists:filter(MayAnswer, Others));
    false -> length(Others)
  end
end,
Look = fun(Text) ->
  case process_info(ToPid(Text), monitors) of
    {monitors, Monitors} ->
      Distinct = lists:usort(Monitors),
      Among = ordsets:intersection(Distinct, Waited),
      May = case lists:member(Text, Called) of
        true -> Open(ordsets:subtract(Distinct, Among));
        false -> 0
      end,
      [{Text, length(Monitors), length(Distinct),
        [list_to_binary(pid_to_list(P)) || {process, P} <- Among], May}];
    undefined -> []
  end
end,
Guard = fun Loop(Left, Rows, Skipped) ->
  case {Left, erlang:monotonic_time(microsecond) > End} of
    {[], _} -> Me ! {looked, Rows, Skipped};
    {_, true} -> Me ! {looked, Rows, Skipped + length(Left)};
    {[Text | Rest], false} ->
      G = self(),
      Helper = spawn_opt(fun() -> G ! {row, self(), Look(Text)} end, [link, {priority, Priority},
        {max_heap_size, #{size => Heap, kill => true, error_logger => false}}]),
      receive
        {row, Helper, Row} -> Loop(Rest, Row ++ Rows, Skipped);
        {'EXIT', Helper, killed} -> Loop(Rest, [{Text, many, many, [], 1} | Rows], Skipped);
        {'EXIT', Me, _} -> exit(Helper, kill)
      after Patience ->
        unlink(Helper),
        exit(Helper, kill),
        Loop(Rest, Rows, Skipped + 1)
      end
  end
end,
spawn_opt(fun() ->
  process_flag(trap_exit, true),
  Guard(Pids, [], 0)
end, [link, {priority, Priority}]),
{Rows, Skipped} = receive {looked, R, S} -> {R, S} end,
Finished = erlang:monotonic_time(microsecond),
{Rows, Skipped, Finished div 1000, (Finished - Start) div 1000}.
]==]

---@class sweep.MonitorRow
---@field pid string
---@field name string
---@field subject string
---@field monitors integer What it monitors, as often as it does; of more than some 500 000 a bound
--- that there are more than.
---@field monitored? integer How many different processes (or ports, or names) that is.
---@field is_bound boolean
---@field is_calling boolean It waits for the answer to a call, and has messages.
---@field waits_for string[] The pids that it monitors among those that are calling, too.
---@field may_answer integer How many others it monitors of which one may be at work on its call; 0
--- where it was not looked for.

---@class sweep.Monitors: sweep.Result
---@field rows table<string, sweep.MonitorRow> By pid: of those that are calling, and of the largest
--- processes as they were found within the last minute.

---@class sweep.MonitorPart
local Part = {}
local part_mt = { __index = Part }

local AT_LEAST = 500000

--- Creates the part of one node.
---@return sweep.MonitorPart
function M.new()
  return setmetatable({ tracked = { "monitors" } }, part_mt):forget()
end

--- Forgets what is known of the node's processes.
function Part:forget()
  self.largest, self.largest_ms, self.nobody = {}, nil, nil
  return self
end

-- Whom to ask, and which of them wait for an answer.
function Part:choose(found)
  local pids, calling, chosen = {}, {}, {}
  for pid, row in pairs(found.rows) do
    if row.message_queue > 0 and processes.is_calling(row) then
      pids[#pids + 1], calling[#calling + 1] = pid, pid
      chosen[pid] = "calling"
    end
  end
  local is_due = not self.largest_ms or found.mono_ms - self.largest_ms >= LARGEST_EVERY_MS
  for i = 1, is_due and math.min(LARGEST, #found.top.memory) or 0 do
    local pid = found.top.memory[i]
    if not chosen[pid] and found.rows[pid].memory_kb >= LARGEST_KB then
      pids[#pids + 1] = pid
      chosen[pid] = "largest"
    end
  end
  return pids, calling, chosen, is_due
end

local function read_row(tuple, row, kind)
  local is_bound = tuple[2] == "many"
  table.sort(tuple[4])
  return {
    pid = row.pid, name = names.utf8(row.name), subject = row.subject,
    monitors = is_bound and AT_LEAST or tuple[2], monitored = not is_bound and tuple[3] or nil,
    is_bound = is_bound, is_calling = kind == "calling", waits_for = tuple[4],
    may_answer = tuple[5],
  }
end

-- The rows of one answer; those of the largest are kept until they are asked again.
function Part:read(answer, found, chosen, is_due)
  local rows = {}
  if is_due then
    self.largest, self.largest_ms = {}, found.mono_ms
  end
  for _, tuple in ipairs(answer[1]) do
    local pid = tuple[1]
    rows[pid] = read_row(tuple, found.rows[pid], chosen[pid])
    if chosen[pid] == "largest" then
      self.largest[pid] = rows[pid]
    end
  end
  for pid, row in pairs(self.largest) do
    rows[pid] = rows[pid] or row
  end
  return rows
end

--- Makes one pass.
---@async
---@param target table
---@param pass sweep.Pass With what its processes part found.
---@return sweep.Monitors?
---@return string? err
---@return string? code `"ENOSWEEP"`: this pass has no processes.
function Part:run(target, pass)
  local found = pass.processes
  if not found then
    return nil, "ENOSWEEP: the processes were not swept", "ENOSWEEP"
  end
  local pids, calling, chosen, is_due = self:choose(found)
  if #pids == 0 and not next(self.largest) then
    -- Passes share that nobody was to be asked.
    self.nobody = self.nobody or { rows = {}, top = {}, total = 1, skipped = 0,
      mono_ms = found.mono_ms, took_ms = 0, work_ms = 0 }
    return self.nobody
  end
  local answer, err, code = { {}, 0, found.mono_ms, 0 }, nil, nil
  if #pids > 0 then
    local bindings = { Pids = pids, Called = calling }
    for name, value in pairs(BINDINGS) do
      bindings[name] = value
    end
    answer, err, code = target:eval(SOURCE, bindings, { timeout_ms = TIMEOUT_MS })
  end
  if not answer then
    return nil, err, code
  end
  return {
    rows = self:read(answer, found, chosen, is_due), top = {}, total = math.max(1, #pids),
    skipped = answer[2], mono_ms = answer[3], took_ms = answer[4], work_ms = answer[4],
  }
end

return M
