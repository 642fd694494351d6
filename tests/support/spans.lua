-- Which of a host's events that begin something have none that ended it.
--
--   local seen = spans.new()
--   local host = living.start({ …, on_event = seen.on_event })
--   host:stop()
--   assert.are.same({}, seen.open)

local M = {}

-- What begins, and what ends it.
local ENDS = {
  ["llm.start"] = { "llm.stop", "llm.exception" },
  ["tool.start"] = { "tool.stop", "tool.exception" },
  ["watcher.execute_start"] = { "watcher.execute_complete", "watcher.execute_error" },
  ["watcher.started"] = { "watcher.loop_stopped" },
}
local BEGIN_OF = {}
for begin, ends in pairs(ENDS) do
  for _, name in ipairs(ends) do
    BEGIN_OF[name] = begin
  end
end

-- What belongs together: a tool or a request of one cycle, a loop.
local function key_of(begin, metadata)
  local cycle = begin ~= "watcher.started" and metadata.trace_id or ""
  return ("%s of %s in %s: %s"):format(begin, tostring(metadata.watcher), cycle,
    metadata.tool or metadata.code or "")
end

--- Nothing has begun.
---@return { on_event: fun(name: string, measurements: table, metadata: table),
--- open: table<string, integer> } seen `open`: what has begun more often than it has ended.
function M.new()
  local open = {}
  return { open = open, on_event = function(name, _, metadata)
    local begin = ENDS[name] and name or BEGIN_OF[name]
    if begin then
      local key = key_of(begin, metadata)
      local count = (open[key] or 0) + (ENDS[name] and 1 or -1)
      open[key] = count ~= 0 and count or nil
    end
  end }
end

return M
