--- A node whose code_server does not load what evaluating needs (S26, where it was so before we
--- came): no sweep can show that process, so the counters' own marker says it.

local trends = require("runtime.trends")
local units = require("runtime.units")

local M = {}

local BOOT_S = 300
local WINDOW_S = 3600

-- For how long each sample has said so.
local function unanswered_s(history)
  local samples = history:since(WINDOW_S)
  local last = samples[#samples]
  local since_ms = last.mono_ms
  for i = #samples, 1, -1 do
    if samples[i].data.code_server_answers ~= false then
      break
    end
    since_ms = samples[i].mono_ms
  end
  return (last.mono_ms - since_ms) / 1000
end

--- The finding of a code_server that does not answer, as far as evals tell it. nil while the node
--- boots.
---@param history history.History Of the beam domain.
---@return table? finding Without a severity: that of its rule.
function M.find(history)
  local sample = history:latest()
  if not sample or sample.data.code_server_answers ~= false
    or (trends.number(sample.data, "uptime_s") or 0) < BOOT_S then
    return nil
  end
  local silent_s = unanswered_s(history)
  return {
    subject = "code_server", value = silent_s, threshold = 0, unit = "s",
    summary = ("code_server loads no module when asked, for %s: the node can run no code that it "
      .. "has not loaded yet, and of it there are counters alone"):format(
      units.format_duration(silent_s * 1000)),
    figures = { trends.figure("unanswered", silent_s, "s") },
  }
end

return M
