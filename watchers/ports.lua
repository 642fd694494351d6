-- Watches the ports and file descriptors of one node: sockets, programs, writers that are blocked.
--
-- A descriptor that leaks is lost until the node restarts, so this one is sampled often.

return {
  domain = "ports",
  node = env("BEAMLENS_NODE"), -- or --node NAME
  sample = "10s",              -- how often the node is sampled, whatever the model does
  wait = { min = "10s", max = "30m" }, -- how long the model may wait between its looks
  limits = { usd_per_day = 0.50 },     -- what a model may cost; the rules are free

  -- How many connections are usual, and to whom. Only a model reads it.
  -- instructions = [[
  -- About 4 000 clients are connected by day and 300 by night. The database has a pool of 20.
  -- ]],

  -- What the rules do by themselves; `beamlens domains ports` lists them.
  rules = {
    -- port_growth = { hold = "15m" },               -- clients come back slowly after a deployment
    -- blocked_writer = { severity = "info" },       -- a slow client is its own business
  },
}
