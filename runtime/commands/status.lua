--- `beamlens status`: what a running host watches, how that is, and what the host costs.

local control = require("runtime.commands.control")
local units = require("runtime.units")

local M = {}

local SAYS = { model = "says the model", rule = "say the rules", start = "nobody has said yet" }

-- Others wrote some of it.
local function clean(text)
  return (tostring(text):gsub("%c", " "))
end

local function ago(now_ms, ms)
  return units.format_duration(math.max(0, now_ms - ms))
end

local function host_lines(host, spending)
  local lines = {
    ("beamlens %s, pid %d, up %s, %s, %.1f %% of a core"):format(host.version, host.pid,
      units.format_duration(host.uptime_ms), units.format_size(host.rss_bytes), host.cpu_pct),
    "  " .. clean(table.concat(host.args, " ")),
  }
  local over = host.limits and host.limits.over or {}
  if over[1] then
    lines[#lines + 1] = ("  over its limit of %s"):format(table.concat(over, " and "))
  end
  if host.store then
    lines[#lines + 1] = "  store " .. host.store
  end
  if spending then
    lines[#lines + 1] = ("  spent %s tokens, %.4f USD since the start%s"):format(
      units.format_count(spending.tokens), spending.usd,
      spending.left and "; left " .. spending.left or "")
  end
  return lines
end

local function node_line(now_ms, node)
  local detail = ""
  if node.status == "up" or node.status == "unresponsive" then
    detail = (", OTP %s, as %s"):format(node.otp_release or "?", node.own_name or "?")
  elseif node.error then
    detail = ": " .. clean(node.error)
  end
  return ("node %s %s for %s%s"):format(clean(node.node), node.status,
    ago(now_ms, node.since_ms), detail)
end

local function pause_text(paused)
  return ("paused by the %s since %s%s: %s"):format(paused.by, units.format_clock(paused.since_ms),
    paused.until_ms and " until " .. units.format_clock(paused.until_ms) or "",
    clean(paused.reason))
end

local function watcher_lines(now_ms, watcher)
  local state = watcher.state
  local said = ("%s, for %s, %s%s"):format(state.name, ago(now_ms, state.since_ms),
    SAYS[state.source] or state.source,
    state.reason and state.reason ~= "" and ": " .. clean(state.reason) or "")
  local decided = watcher.last_decision and (", last %s %s ago"):format(watcher.last_decision.tool,
    ago(now_ms, watcher.last_decision.at_ms)) or ""
  local lines = {
    ("%s on %s: %s"):format(clean(watcher.watcher), clean(watcher.node), state.text),
    "  " .. said,
    ("  %s; iteration %d%s; client %s; %s"):format(watcher.status, watcher.iteration, decided,
      clean(watcher.client), watcher.sampled_at_ms
        and ("sampled %s ago"):format(ago(now_ms, watcher.sampled_at_ms)) or "no sample yet"),
  }
  if watcher.paused then
    lines[#lines + 1] = "  " .. pause_text(watcher.paused)
  end
  local spending = watcher.spending
  if spending and (spending.tokens > 0 or spending.left) then
    lines[#lines + 1] = ("  spent %s tokens, %.4f USD%s"):format(
      units.format_count(spending.tokens), spending.usd,
      spending.left and "; left " .. spending.left or "")
  end
  return lines
end

local function add_all(lines, more)
  for _, line in ipairs(more) do
    lines[#lines + 1] = line
  end
end

local function tell(status)
  local now_ms = status.host.now_ms
  local lines = host_lines(status.host, status.spending)
  for _, node in ipairs(status.nodes) do
    lines[#lines + 1] = node_line(now_ms, node)
  end
  for _, watcher in ipairs(status.watchers) do
    add_all(lines, watcher_lines(now_ms, watcher))
  end
  return table.concat(lines, "\n")
end

---@param args string[]
---@return integer status
function M.main(args)
  return control.main(args, {
    usage = "status [OPTION...]",
    options = control.OPTIONS,
    request = function()
      return { command = "status" }
    end,
    tell = tell,
  })
end

return M
