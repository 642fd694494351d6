-- Which of a host's events that begin something have none that ended it.
--
--   local open = spans.watch(host)                 -- of support/living.lua
--   host:stop()
--   assert.are.same({}, open())

local M = {}

-- What begins, and what ends it.
local ENDS = {
  ["llm.start"] = { "llm.stop", "llm.exception" },
  ["tool.start"] = { "tool.stop", "tool.exception" },
  ["watcher.execute_start"] = { "watcher.execute_complete", "watcher.execute_error" },
  ["watcher.started"] = { "watcher.loop_stopped" },
  ["finding.pending"] = { "finding.cleared" },
}
local BEGIN_OF = {}
for begin, ends in pairs(ENDS) do
  for _, name in ipairs(ends) do
    BEGIN_OF[name] = begin
  end
end

-- What belongs together: a tool or a request of one cycle, a finding.
local function key_of(begin, metadata)
  local what = metadata.finding and metadata.finding.id or metadata.tool or metadata.code or ""
  return ("%s of %s in %s: %s"):format(begin, tostring(metadata.watcher),
    tostring(metadata.trace_id), what)
end

--- Watches a host that has just been started.
---@return fun(): table<string, integer> open What has begun more often than it has ended.
function M.watch(host)
  local open = {}
  host.on_event = function(name, _, metadata)
    local begin = ENDS[name] and name or BEGIN_OF[name]
    if begin then
      local key = key_of(begin, metadata)
      local count = (open[key] or 0) + (ENDS[name] and 1 or -1)
      open[key] = count ~= 0 and count or nil
    end
  end
  return function()
    return open
  end
end

return M
