--- The message that opens a cycle: what a model has to know before it decides.
---
--- All that changes from cycle to cycle is here, and nothing of it in the system prompt, so that
--- providers can cache the prompt. What the node wrote is fenced; the model's own words (its note,
--- the reason of the state) are fenced apart, since they may repeat what a node wrote.

local conversation = require("runtime.watcher.conversation")
local json = require("runtime.json")
local units = require("runtime.units")

local M = {}

-- Clocks: their change says nothing.
local NO_TREND = { mono_ms = true, uptime_s = true }
local WAIT_ORDER, SNAPSHOT_ORDER = { "waited_ms", "woken_by" }, { "id", "captured_at" }
local MAX_ALERTS, MAX_FINDINGS = 10, 10
local SET_BY = { model = "set by you", rule = "set by the rules", start = "assumed at the start" }

local function rounded(number)
  return math.floor(number * 100 + 0.5) / 100
end

--- How each figure changed over this time; nil when the history does not reach back so far.
--- Figures that did not change are left out.
---@param history table The sampler's history.
---@param data table The newest snapshot's data.
---@param seconds number
---@return table<string, number>?
function M.changes(history, data, seconds)
  if not history or not history:covers(seconds) then
    return nil
  end
  local changes = {}
  for key, value in pairs(data) do
    local before = type(value) == "number" and not NO_TREND[key]
      and history:value_ago(key, seconds)
    local change = type(before) == "number" and rounded(value - before) or 0
    if change ~= 0 then
      changes[key] = change
    end
  end
  return json.object(changes)
end

---@class opening.Facts
---@field now_ms number Unix milliseconds.
---@field cycle integer
---@field node string
---@field is_no_node? boolean `node` is only a label.
---@field watcher string
---@field uptime_s? number
---@field state { name: string, reason: string, since_ms: number, source: string }
---@field budget? string What is left, in words.
---@field wait? table The result of the last wait.
---@field ended? string Why the runtime ended the last cycle.
---@field since string[] What happened since the last cycle, in the runtime's words.
---@field snapshot? table View of the fresh snapshot.
---@field no_snapshot? string Why there is no fresh one.
---@field change_10m? table
---@field change_1h? table
---@field findings table[] Views.
---@field alerts table[] Views of this watcher's firing alerts.
---@field note? { text: string, at_ms: number }
---@field journal? string[] What the model decided lately.

local function head(facts)
  local uptime = type(facts.uptime_s) == "number"
    and ", up " .. units.format_duration(facts.uptime_s * 1000) or ""
  local age = math.max(0, facts.now_ms - facts.state.since_ms)
  return ("Cycle %d of watcher %s on %s%s%s. It is %s.\nState: %s for %s, %s"):format(
    facts.cycle, facts.watcher, facts.is_no_node and "" or "node ", facts.node, uptime,
    units.format_time(facts.now_ms), facts.state.name, units.format_duration(age),
    SET_BY[facts.state.source] or facts.state.source)
end

local function own_words(text, redact)
  return conversation.fence(redact((json.encode(text))), "note")
end

local function data(value, order, redact)
  return conversation.fence(redact(conversation.fit(value, order)))
end

local function list(title, rows, max, redact)
  if #rows == 0 then
    return title .. ": none."
  end
  local shown = {}
  for i = 1, math.min(max, #rows) do
    shown[i] = rows[i]
  end
  local key = title:match("%a+$"):lower()
  return ("%s:\n%s"):format(title, data({ [key] = shown, total = #rows }, nil, redact))
end

local function snapshot(facts, redact)
  if not facts.snapshot then
    return ("No fresh snapshot: %s"):format(
      conversation.fence(redact((json.encode(facts.no_snapshot or "none was taken")))))
  end
  local shown = {
    id = facts.snapshot.id, captured_at = facts.snapshot.captured_at, data = facts.snapshot.data,
    change_10m = facts.change_10m, change_1h = facts.change_1h,
  }
  local stale = facts.no_snapshot and " (the last one; a fresh one failed)" or ""
  return ("Snapshot %s%s:\n%s"):format(facts.snapshot.id, stale,
    data(shown, SNAPSHOT_ORDER, redact))
end

--- Builds the message.
---@async
---@param facts opening.Facts
---@param redact fun(text: string): string
---@return string
function M.text(facts, redact)
  local lines = { redact(head(facts)) }
  local function add(text)
    lines[#lines + 1] = text
  end
  if facts.state.reason ~= "" then
    lines[1] = ("%s: %s"):format(lines[1], own_words(facts.state.reason, redact))
  end
  if facts.budget then
    add("Budget left: " .. facts.budget)
  end
  if facts.ended then
    add("The runtime ended your last cycle: " .. own_words(facts.ended, redact))
  end
  if facts.wait then
    add("Your last wait: " .. data(facts.wait, WAIT_ORDER, redact))
  end
  if #facts.since > 0 then
    add("Since your last cycle:\n" .. data({ events = facts.since }, nil, redact))
  end
  if facts.note then
    add(("Your note to yourself, %s old: %s"):format(
      units.format_duration(math.max(0, facts.now_ms - facts.note.at_ms)),
      own_words(facts.note.text, redact)))
  end
  if #(facts.journal or {}) > 0 then
    add("What you did last: " .. own_words(facts.journal, redact))
  end
  add(snapshot(facts, redact))
  add(list("Rule findings", facts.findings, MAX_FINDINGS, redact))
  add(list("Your firing alerts", facts.alerts, MAX_ALERTS, redact))
  add("Choose one tool.")
  return table.concat(lines, "\n")
end

return M
