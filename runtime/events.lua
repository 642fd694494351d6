--- Every telemetry event of beamlens: what it means, its measurements and its metadata.
---
--- `beamlens events` prints this table, and the bus refuses an event that is not in it.
--- Times are Unix milliseconds; a `duration` is milliseconds with microseconds as decimals.
--- Every event of a watcher carries `watcher`, `domain`, `node`, and within a cycle `trace_id`.

local WATCHER = { "watcher", "domain", "node" }
local CYCLE = { "watcher", "domain", "node", "trace_id" }

local function with(base, ...)
  local list = { unpack(base) }
  for _, name in ipairs({ ... }) do
    list[#list + 1] = name
  end
  return list
end

local function event(doc, measurements, metadata)
  return { doc = doc, measurements = measurements, metadata = metadata }
end

local NOW = { "system_time" }
local TOOK = { "duration" }

return {
  ["beamlens.llm.start"] = event("A request to a model begins.", NOW,
    with(CYCLE, "client", "provider", "model")),
  ["beamlens.llm.stop"] = event("The model answered. Token counts are absent where unknown.",
    { "duration", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
      "cost_usd" },
    with(CYCLE, "client", "provider", "model", "stop", "request_id")),
  ["beamlens.llm.exception"] = event(
    "A request to a model failed; `kind` is cancelled when nobody waits for it any more.", TOOK,
    with(CYCLE, "client", "provider", "model", "kind", "http_status", "message", "retryable")),
  ["beamlens.llm.prompt_cut"] = event("A server counts no more tokens, however long the prompt is: "
    .. "it cuts prompts silently. `cure` says what to do.", { "prompt_tokens", "prompt_bytes" },
    with(CYCLE, "client", "provider", "model", "cure")),

  ["beamlens.tool.start"] = event("A tool call begins.", NOW,
    with(CYCLE, "tool", "arguments", "reason")),
  ["beamlens.tool.stop"] = event("A tool call was answered.", TOOK,
    with(CYCLE, "tool", "ok", "error")),
  ["beamlens.tool.exception"] = event(
    "A tool's handler failed, or was cancelled since the watcher stopped.", TOOK,
    with(CYCLE, "tool", "error")),

  ["beamlens.watcher.started"] = event("A watcher's loop has started.", NOW,
    with(WATCHER, "client", "sample_ms")),
  ["beamlens.watcher.iteration_start"] = event("The watcher asks for its next decision.",
    { "system_time", "iteration" }, with(CYCLE, "state")),
  ["beamlens.watcher.state_change"] = event("The watcher's state changed.", NOW,
    with(CYCLE, "from", "to", "reason", "source")),
  ["beamlens.watcher.alert_fired"] = event(
    "An alert is new, raised, renotified or reopened; `cause` says which.", NOW,
    with(CYCLE, "alert", "cause")),
  ["beamlens.watcher.alert_confirmed"] = event(
    "An alert of the model that no finding supports still stands at the next cycle, or a finding "
      .. "supports it now: it may be delivered.", NOW, with(CYCLE, "alert")),
  ["beamlens.watcher.alert_updated"] = event("A firing alert was seen again.", NOW,
    with(CYCLE, "alert")),
  ["beamlens.watcher.alert_failed"] = event("A fire_alert was refused.", NOW,
    with(CYCLE, "error")),
  ["beamlens.watcher.alert_resolved"] = event("An alert ended; `alert.resolved_by` says by whom.",
    { "system_time", "duration" }, with(CYCLE, "alert")),
  ["beamlens.watcher.get_alerts"] = event("The watcher read its alerts.", { "count" }, CYCLE),
  ["beamlens.watcher.take_snapshot"] = event("The watcher took a snapshot.", TOOK,
    with(CYCLE, "snapshot_id", "data")),
  ["beamlens.watcher.get_snapshot"] = event("The watcher read one snapshot.", NOW,
    with(CYCLE, "snapshot_id", "found")),
  ["beamlens.watcher.get_snapshots"] = event("The watcher read a page of snapshots.", { "count" },
    CYCLE),
  ["beamlens.watcher.execute_start"] = event("Lua begins to run in the sandbox.", NOW,
    with(CYCLE, "code", "source")),
  ["beamlens.watcher.execute_complete"] = event(
    "Lua in the sandbox returned. `duration` holds the wait for its turn, `wall_ms` does not.",
    { "duration", "cpu_ms", "wall_ms", "memory_bytes", "callbacks" },
    with(CYCLE, "execution_id", "code", "value", "output", "source")),
  ["beamlens.watcher.execute_error"] = event(
    "Lua in the sandbox failed; `kind` is syntax, runtime, denied, timeout, memory, result, limit, "
      .. "crash, cancelled, or sandbox, which is not the script's fault.",
    { "duration", "cpu_ms", "wall_ms", "memory_bytes", "callbacks" },
    with(CYCLE, "execution_id", "code", "kind", "error", "output", "source")),
  ["beamlens.watcher.wait"] = event("The watcher waits; `ms` is after clamping.",
    { "ms", "asked_ms" }, with(CYCLE, "note")),
  ["beamlens.watcher.llm_error"] = event("No client answered; the rules decide until one does.",
    { "retry_ms" }, with(CYCLE, "error", "kind")),
  ["beamlens.watcher.loop_stopped"] = event("The watcher's loop was stopped.", NOW,
    with(WATCHER, "reason")),
  ["beamlens.watcher.crashed"] = event("The watcher's Lua failed.", { "restart_ms" },
    with(WATCHER, "error")),
  ["beamlens.watcher.restarted"] = event("The watcher's loop runs again after a crash.",
    { "restarts" }, WATCHER),
  ["beamlens.watcher.stalled"] = event(
    "The watcher came to no decision within its bound; what it is at is ended, and it restarts.",
    { "busy_ms", "bound_ms" }, with(CYCLE, "status")),
  ["beamlens.watcher.paused"] = event(
    "The watcher makes no decisions until it is resumed, or for `for_ms`; sampling and rules go "
      .. "on. `by` is operator or guardian.", { "system_time", "for_ms" },
    with(WATCHER, "by", "reason")),
  ["beamlens.watcher.resumed"] = event("A pause is over; `by` is operator, guardian or time.",
    TOOK, with(WATCHER, "by")),
  ["beamlens.watcher.invalid_tool"] = event("The model's call fits no tool.", { "in_a_row" },
    with(CYCLE, "tool", "error")),
  ["beamlens.watcher.hook_failed"] = event(
    "A policy hook raised or ran longer than 100 ms; it has no effect, and a text that `redact` "
      .. "failed on is withheld.", NOW,
    with(WATCHER, "hook", "error")),
  ["beamlens.watcher.budget_exhausted"] = event(
    "A budget is spent; the rules decide until it refills. Once per window; `account` is `process` "
      .. "where it is that of all watchers.",
    { "until_time" }, with(WATCHER, "account", "budget", "limit", "used")),
  ["beamlens.watcher.budget_reserved"] = event(
    "Calm watching has used its share of a budget; until it refills, the rules decide in cycles "
      .. "that no finding woke. Once per window.",
    { "until_time" }, with(WATCHER, "account", "budget", "limit", "used")),
  ["beamlens.watcher.compaction"] = event(
    "The conversation was shortened; `by` is age (an old result), or model or rule, which made "
      .. "room in the model's context.",
    { "before_bytes", "after_bytes" }, with(CYCLE, "by")),

  ["beamlens.finding.pending"] = event("A rule's condition began to hold.",
    { "system_time", "value" },
    with(WATCHER, "finding")),
  ["beamlens.finding.firing"] = event("A finding held for its time.", { "system_time", "value" },
    with(WATCHER, "finding")),
  ["beamlens.finding.cleared"] = event("A finding's condition ended.",
    { "system_time", "duration" },
    with(WATCHER, "finding")),
  ["beamlens.rule.failed"] = event(
    "A rule's own Lua failed; the other rules go on. Once for all watchers that share it, see "
      .. "`sampler.sample`.", NOW, with(WATCHER, "watchers", "type", "error")),
  ["beamlens.sampler.failed"] = event(
    "A snapshot could not be taken. Once for all watchers that share it, see `sampler.sample`.",
    { "in_a_row" }, with(WATCHER, "watchers", "error", "code")),
  ["beamlens.sampler.sample"] = event(
    "A snapshot was taken on the sampler's own cadence. Once for all watchers that share it: "
      .. "`watcher` is the first of them, and `watchers` lists all where they are several.", TOOK,
    with(WATCHER, "watchers", "snapshot_id", "data")),

  ["beamlens.host.over_limit"] = event(
    "The host itself has used more than its limit for `held_ms`; `resource` is memory (bytes) or "
      .. "cpu (percent of a core). The watcher that costs most, if there is one, is paused.",
    { "system_time", "value", "limit", "held_ms" }, with(WATCHER, "resource")),
  ["beamlens.host.recovered"] = event("The host is within its limit again.",
    { "system_time", "value", "limit", "duration" }, { "resource" }),

  ["beamlens.node.up"] = event("The connection to a node stands.", TOOK,
    { "node", "otp_release", "tested", "creation", "own_name", "loaded" }),
  ["beamlens.node.down"] = event("No connection to a node; it is tried again after `retry_ms`.",
    { "retry_ms" }, { "node", "code", "error", "was_up" }),
  ["beamlens.node.unresponsive"] = event("The node answers no call although the connection stands.",
    { "silent_ms" }, { "node" }),
  ["beamlens.node.restarted"] = event("The node is a new incarnation under the same name.",
    { "restarts" }, { "node", "creation", "previous_creation" }),
  ["beamlens.node.joined"] = event("A member of a followed cluster is watched from now on.", NOW,
    { "node", "cluster" }),
  ["beamlens.node.left"] = event(
    "A member of a followed cluster is gone: for 10 min no other member knew it and its epmd did "
      .. "not list it. It is watched anew if it comes back.", NOW, { "node" }),
  ["beamlens.node.ignored"] = event(
    "A node `via` told of this peer, which is not watched: too many, or no name to connect to.",
    NOW, { "node", "via", "error" }),

  ["beamlens.reload.applied"] = event(
    "Changed files are in force. `changed`, `started` and `stopped` name watchers and their nodes.",
    TOOK, { "files", "reason", "changed", "started", "stopped" }),
  ["beamlens.reload.failed"] = event(
    "A changed file is wrong; the old one stays in force. Once for each text of the file.", NOW,
    { "file", "line", "error" }),
  ["beamlens.store.failed"] = event(
    "The store fails: what it would keep stays in memory, and it is tried again after `retry_ms`. "
      .. "`set_aside` is where a broken file was moved to; a new one is begun at once. Once for "
      .. "each failure.", { "system_time", "retry_ms" }, { "path", "code", "error", "set_aside" }),
  ["beamlens.store.recovered"] = event(
    "The store works again, and all that was in memory is written.",
    { "system_time", "duration" }, { "path" }),
  ["beamlens.store.row_failed"] = event(
    "What was kept of a watcher cannot be read: it begins anew, and the row is moved to the table "
      .. "`set_aside`.", NOW, { "path", "table", "key", "error" }),
  ["beamlens.sink.delivered"] = event("A sink accepted an alert.", TOOK, { "sink", "alert_id" }),
  ["beamlens.sink.failed"] = event("A sink did not accept an alert.", { "retry_ms" },
    { "sink", "alert_id", "error" }),
  ["beamlens.handler.failed"] = event("A telemetry handler raised and was detached.", NOW,
    { "handler", "event", "error" }),
}
