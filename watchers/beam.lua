-- Watches the BEAM itself: memory, processes, mailboxes, schedulers, atoms and ports of one node.
--
-- A copy of this file is a good first watcher. Save it while beamlens runs, and it is in force.

return {
  domain = "beam",
  node = env("BEAMLENS_NODE"), -- or --node NAME
  sample = "10s",              -- how often the node is sampled, whatever the model does
  wait = { min = "10s", max = "30m" }, -- how long the model may wait between its looks
  limits = { usd_per_day = 1.00 },     -- what a model may cost; the rules are free

  -- What a stranger would have to be told about this system. Only a model reads it.
  -- instructions = [[
  -- Imports run between 02:00 and 03:00 UTC; a growing import_queue is normal then.
  -- A restart of the node is a deployment: it warms its caches for about five minutes.
  -- ]],

  -- What the rules do by themselves; `beamlens domains beam` lists them.
  rules = {
    -- mailbox_growth = { hold = "2m" },             -- a queue here may grow for a while
    -- runaway_process = { severity = "info" },      -- one process is meant to be busy
    -- port_limit = { enabled = false },
  },
}
