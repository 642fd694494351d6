--- The part of the sweep that looks at the processes of which a node has one, and on which all
--- others depend: who loads code, starts applications, connects nodes, writes the log.
---
--- One that waits for something else than its next message makes all its callers wait.

local names = require("runtime.names")
local rows_of = require("runtime.sweep.rows")

local M = {}

local TIMEOUT_MS = 5000
-- One that does not answer in time is left out of the pass.
local PATIENCE_MS = 500

local NAMES = {
  "code_server", "application_controller", "kernel_sup", "logger", "user", "rex",
  "global_name_server", "net_kernel", "init", "erts_code_purger",
}

-- A name that is no atom there, or that nobody has, is left out. Each is asked by a process of its
-- own: one that is busy answers late, or never. Bindings: Names, Patience.
local SOURCE = [==[
Start = erlang:monotonic_time(microsecond),
Me = self(),
Items = [message_queue_len, reductions, status, current_function],
Find = fun(Name) ->
  try whereis(binary_to_existing_atom(Name, utf8)) of
    Pid when is_pid(Pid) -> [{Name, Pid}];
    _ -> []
  catch error:_ -> []
  end
end,
Found = lists:append(lists:map(Find, Names)),
Ask = fun({Name, Pid}) ->
  spawn_opt(fun() -> Me ! {Name, process_info(Pid, Items)} end, [link])
end,
Asked = lists:zip(Found, lists:map(Ask, Found)),
End = Start + Patience * 1000,
Gather = fun({{Name, Pid}, Helper}) ->
  receive
    {Name, [{_, Queue}, {_, Reductions}, {_, Status}, {_, {M, F, A}}]} ->
      [{Name, Pid, Queue, Reductions, Status,
        {atom_to_binary(M, utf8), atom_to_binary(F, utf8), A}}];
    {Name, _} -> []
  after max(0, (End - erlang:monotonic_time(microsecond)) div 1000) ->
    unlink(Helper),
    exit(Helper, kill),
    []
  end
end,
Rows = lists:append(lists:map(Gather, Asked)),
Finished = erlang:monotonic_time(microsecond),
{Rows, length(Found), Finished div 1000, (Finished - Start) div 1000}.
]==]

---@class sweep.SingletonRow
---@field name string Its registered name.
---@field pid string
---@field message_queue integer
---@field reductions integer
---@field status string
---@field current_function string

---@class sweep.Singletons: sweep.Result
---@field rows table<string, sweep.SingletonRow> By name. Passes share the rows of idle ones, and
--- all of this while all are idle.

---@class sweep.SingletonPart
local Part = {}
local part_mt = { __index = Part }

--- Creates the part of one node.
---@return sweep.SingletonPart
function M.new()
  return setmetatable({ tracked = {} }, part_mt):forget()
end

--- Forgets the last pass.
function Part:forget()
  self.last = nil
  return self
end

--- Makes one pass.
---@async
---@param target table
---@return sweep.Singletons?
---@return string? err
---@return string? code
function Part:run(target)
  local answer, err, code = target:eval(SOURCE, { Names = NAMES, Patience = PATIENCE_MS },
    { timeout_ms = TIMEOUT_MS })
  if not answer then
    return nil, err, code
  end
  local last = self.last or { rows = {} }
  local rows, is_same = {}, last.total == answer[2] and last.skipped == answer[2] - #answer[1]
  for _, tuple in ipairs(answer[1]) do
    rows[tuple[1]] = rows_of.unless_idle({
      name = tuple[1], pid = tostring(tuple[2]), message_queue = tuple[3],
      reductions = tuple[4], status = tuple[5], current_function = names.mfa(tuple[6]),
    }, last.rows[tuple[1]])
    is_same = is_same and rows[tuple[1]] == last.rows[tuple[1]]
  end
  if not is_same then
    self.last = {
      rows = rows, top = {}, total = answer[2], skipped = answer[2] - #answer[1],
      mono_ms = answer[3], took_ms = answer[4], work_ms = answer[4],
    }
  end
  return self.last
end

return M
