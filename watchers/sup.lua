-- Watches the supervisors of one node: children that pile up, restart storms, what is missing.
--
-- A storm is over in seconds when its supervisor gives up, so this one is sampled often.

return {
  domain = "sup",
  node = env("BEAMLENS_NODE"), -- or --node NAME
  sample = "10s",              -- how often the node is sampled, whatever the model does
  wait = { min = "10s", max = "30m" }, -- how long the model may wait between its looks
  limits = { usd_per_day = 0.50 },     -- what a model may cost; the rules are free

  -- Which children come and go by design. Only a model reads it.
  -- instructions = [[
  -- session_sup has a child for each user who is logged in, up to 20 000 at noon.
  -- mailer restarts when its server is away; that is known and nobody has to be told.
  -- ]],

  -- What the rules do by themselves; `beamlens domains sup` lists them.
  rules = {
    -- child_growth = { hold = "15m" },              -- sessions come in waves
    -- restart_storm = { severity = "critical" },
  },
}
