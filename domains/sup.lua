--- The sup domain: the supervisors of a node and their children.

local calls = require("domains.sup.calls")
local counters = require("runtime.domain.counters")
local json = require("runtime.json")
local rules = require("domains.sup.rules")

local MIB = 1024 * 1024

local read = counters.reader({
  "mono_ms", "uptime_ms", "memory", "process_count", "process_limit", "port_count",
})

-- Counters of the node at one moment, and what the last pass of the sweep found.
local function snapshot(target)
  local now, err, code = read(target)
  if not now then
    return nil, err, code
  end
  local pass = target.sweep and target.sweep:latest()
  local found = pass and pass.supervisors or {}
  return {
    supervisor_count = found.total or json.null,
    total_children = found.total_children or json.null,
    supervisors_skipped = found.skipped or json.null,
    supervisors_silent = found.silent or json.null,
    process_count = now.process_count,
    process_limit = now.process_limit,
    port_count = now.port_count,
    memory_code_mb = math.floor(now.memory.code / MIB * 100 + 0.5) / 100,
    uptime_s = math.floor(now.uptime_ms / 1000),
    mono_ms = now.mono_ms,
  }
end

local function count(name, doc, nullable)
  return { name = name, type = "integer", doc = doc, nullable = nullable }
end

local NAME = {
  name = "supervisor_name", type = "string", max = 1024,
  doc = "a registered name, a pid such as <0.123.0>, or a name as sup_list prints it",
}

local CALLBACKS = {
  {
    name = "sup_list",
    returns = {
      list = true,
      { name = "name", type = "string", doc = "registered name, else label, else "
        .. "supervisor:MODULE/1" },
      { name = "pid", type = "string" },
      count("child_count", "those that do not run included"),
      count("active_children"),
      { name = "counted_by", type = "string", doc = "supervisor; or links, with the active "
        .. "ones only: too many, or no answer in time" },
      { name = "registered", type = "boolean" },
      { name = "application", type = "string", nullable = true },
    },
    doc = "The supervisors that the last sweep of the node found, by name; at most 500 (total, "
      .. "skipped).",
    run = calls.list,
  },
  {
    name = "sup_children",
    params = { NAME },
    returns = {
      list = true,
      { name = "id", type = "string", nullable = true, doc = "null: the supervisor of dynamic "
        .. "children knows none, or did not answer" },
      { name = "pid", type = "string", doc = "or undefined (stopped), or restarting" },
      { name = "type", type = "string", doc = "worker or supervisor" },
    },
    doc = "The children of one supervisor, at most 500 (truncated, total). partial: it did not "
      .. "answer in time, or has too many to be asked, and these are the processes it is linked "
      .. "to. An unknown name gives { error = \"supervisor_not_found\" }.",
    run = calls.children,
  },
  {
    name = "sup_tree",
    params = { NAME },
    returns = {
      { name = "name", type = "string", optional = true },
      { name = "pid", type = "string", optional = true },
      { name = "child_count", type = "integer", optional = true },
      { name = "children", type = "list", optional = true, doc = "of id, pid, type; a "
        .. "supervisor also has name, child_count and its own children" },
      { name = "truncated", type = "boolean", optional = true, doc = "there are more: below depth "
        .. "5, beyond 100 children of one supervisor, 500 in all, or 3 s" },
      { name = "partial", type = "boolean", optional = true, doc = "it did not answer in time: "
        .. "from its links" },
      { name = "error", type = "string", optional = true, doc = "supervisor_not_found" },
    },
    doc = "A supervisor with what is below it.",
    run = calls.tree,
  },
}
return {
  name = "sup",
  title = "Supervisors",
  description = "The supervisors of an Erlang or Elixir node and their children: growth, restarts, "
    .. "what is missing.",
  instructions = [[
What to look for:
- A supervisor whose children grow for half an hour while ports and other processes do not: children
  that are started and never end. Compare two readings of sup_list.
- A permanent child whose pid differs at each reading of sup_children: it crashes and is restarted.
  With a high intensity nothing else shows it; all counts stay flat.
- A child "restarting" at each reading, or a registered supervisor that is no more: it cannot start,
  or its supervisor gave up. "undefined" is a child that somebody stopped: normal.
Temporary children (of a DynamicSupervisor, Task.Supervisor, simple_one_for_one) come and go: that
is what they are for. active_children below child_count is normal after terminate_child.
total_children and supervisor_count are of the last sweep, null before the first.]],
  metrics = {
    count("supervisor_count", "as the last sweep found them", true),
    count("total_children", "processes below them, as the last sweep found them", true),
    count("supervisors_skipped", "supervisors and links that the last sweep did not look at", true),
    count("supervisors_silent", "that did not say in time who their children are, when the sweep "
      .. "last asked: a child's start or end holds them up, and they are counted by links", true),
    count("process_count"),
    count("process_limit"),
    count("port_count"),
    { name = "memory_code_mb", type = "number", unit = "MiB" },
    count("uptime_s", "seconds"),
    count("mono_ms", "the node's monotonic clock"),
  },
  snapshot = snapshot,
  sweeps = { "supervisors" },
  callbacks = CALLBACKS,
  rules = rules.rules,
}
