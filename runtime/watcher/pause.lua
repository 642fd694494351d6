--- A pause of a watcher: no decisions, while sampling and rules go on.
---
--- It ends by hand, or by itself when it was given a time, which is that of the monotonic clock.

local M = {}

---@class pause.Pause
---@field by "operator"|"guardian" Who wanted it.
---@field reason string
---@field since_ms number Unix milliseconds.
---@field until_ms? number Unix milliseconds; nil: until somebody resumes.
---@field began_ms number The beginning, and the end, by the monotonic clock.
---@field ends_ms? number

--- Begins a pause; an event tells of it. One that holds already is replaced.
---@param watcher watcher.Watcher
---@param opts { by?: string, reason?: string, for_ms?: number }
---@return pause.Pause
function M.begin(watcher, opts)
  local clock = watcher.clock
  local now_ms = clock.wall_ms()
  local self = {
    by = opts.by or "operator", reason = opts.reason or "by hand", since_ms = now_ms,
    until_ms = opts.for_ms and now_ms + opts.for_ms, began_ms = clock.now_ms(),
    ends_ms = opts.for_ms and clock.now_ms() + opts.for_ms,
  }
  watcher:emit("beamlens.watcher.paused", { by = self.by, reason = self.reason },
    { system_time = now_ms, for_ms = opts.for_ms })
  return self
end

--- What of a pause outlives a restart of the host.
---@param pause pause.Pause|false|nil
---@return table?
function M.export(pause)
  return pause and { by = pause.by, reason = pause.reason, since_ms = pause.since_ms,
    until_ms = pause.until_ms } or nil
end

--- True for what `export` gives.
---@param kept any
---@return boolean
function M.is_kept(kept)
  return kept == nil or type(kept) == "table" and type(kept.by) == "string"
    and type(kept.reason) == "string" and type(kept.since_ms) == "number"
    and (kept.until_ms == nil or type(kept.until_ms) == "number")
end

--- The pause of a watcher in another process, from what was kept of it.
---@param watcher watcher.Watcher
---@param kept table|boolean|nil A `pause.Pause` of before; its monotonic times mean nothing here.
---@return pause.Pause|false
function M.restore(watcher, kept)
  if not kept then
    return false
  end
  local clock = watcher.clock
  local wall_ms, now_ms = clock.wall_ms(), clock.now_ms()
  kept = type(kept) == "table" and kept or {}
  local since_ms = kept.since_ms or wall_ms
  return {
    by = kept.by or "operator", reason = kept.reason or "by hand",
    since_ms = since_ms, began_ms = now_ms - math.max(0, wall_ms - since_ms),
    until_ms = kept.until_ms,
    ends_ms = kept.until_ms and now_ms + math.max(0, kept.until_ms - wall_ms),
  }
end

--- Tells of the end of a pause.
---@param watcher watcher.Watcher
---@param pause pause.Pause
---@param by string `operator`, `guardian`, or `time`.
function M.finish(watcher, pause, by)
  watcher:emit("beamlens.watcher.resumed", { by = by },
    { duration = watcher.clock.now_ms() - pause.began_ms })
end

--- What is left of a pause.
---@param watcher watcher.Watcher
---@param pause pause.Pause
---@return number? left_ms nil: it does not end by itself.
function M.left_ms(watcher, pause)
  return pause.ends_ms and math.max(0, pause.ends_ms - watcher.clock.now_ms())
end

return M
