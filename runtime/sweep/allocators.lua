--- The part of the sweep that looks at the node's memory allocators: how much they hold in carriers
--- of many blocks, and how much of that is in use.
---
--- Carriers of one block (`sbcs`) are given back when their block is; those of many are kept until
--- all their blocks are free, so that a few that stay can keep much.

local M = {}

local TIMEOUT_MS = 5000
local EVERY_MS = 30000

-- An allocator that is turned off is left out, as is the one of what lives shorter than a pass.
-- Before OTP 23 an allocator says `blocks_size` in place of `blocks`.
local SOURCE = [==[
Start = erlang:monotonic_time(microsecond),
Known = lists:delete(temp_alloc, erlang:system_info(alloc_util_allocators)),
Blocks = fun(Info) ->
  case lists:keyfind(blocks, 1, Info) of
    {_, Types} -> lists:sum([element(2, lists:keyfind(size, 1, T)) || {_, T} <- Types]);
    false -> element(2, lists:keyfind(blocks_size, 1, Info))
  end
end,
Carriers = fun(Info) -> element(2, lists:keyfind(carriers_size, 1, Info)) end,
Sum = fun
  ({Name, Instances}) when is_list(Instances) ->
    Infos = [Info || {instance, _, Kinds} <- Instances, {Kind, Info} <- Kinds,
      lists:member(Kind, [mbcs, mbcs_pool])],
    [{atom_to_binary(Name, utf8), lists:sum(lists:map(Carriers, Infos)),
      lists:sum(lists:map(Blocks, Infos))}];
  (_) -> []
end,
Rows = lists:append(lists:map(Sum, erlang:system_info({allocator_sizes, Known}))),
Finished = erlang:monotonic_time(microsecond),
{Rows, length(Known), Finished div 1000, (Finished - Start) div 1000}.
]==]

---@class sweep.AllocatorRow
---@field name string
---@field carriers_kb integer
---@field used_kb integer Of its carriers.

---@class sweep.Allocators: sweep.Result
---@field rows table<string, sweep.AllocatorRow> By name.

---@class sweep.AllocatorPart
local Part = {}
local part_mt = { __index = Part }

--- Creates the part of one node.
---@param opts { clock: clock.Clock }
---@return sweep.AllocatorPart
function M.new(opts)
  return setmetatable({ clock = opts.clock, tracked = { "carriers_kb", "used_kb" } }, part_mt)
end

--- Forgets what was found last.
function Part:forget()
  self.last = nil
  return self
end

local function kib(bytes)
  return math.floor(bytes / 1024 + 0.5)
end

--- Makes one pass, or gives that of the last half minute: they change slowly.
---@async
---@param target table
---@return sweep.Allocators?
---@return string? err
---@return string? code
function Part:run(target)
  local now_ms = self.clock.now_ms()
  if self.last and now_ms - self.read_ms < EVERY_MS then
    return self.last
  end
  local answer, err, code = target:eval(SOURCE, {}, { timeout_ms = TIMEOUT_MS })
  if not answer then
    return nil, err, code
  end
  local rows = {}
  for _, tuple in ipairs(answer[1]) do
    rows[tuple[1]] = {
      name = tuple[1], carriers_kb = kib(tuple[2]), used_kb = kib(tuple[3]),
    }
  end
  self.read_ms, self.last = now_ms, {
    rows = rows, top = {}, total = answer[2], skipped = 0,
    mono_ms = answer[3], took_ms = answer[4], work_ms = answer[4],
  }
  return self.last
end

return M
