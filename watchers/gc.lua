-- Watches garbage collection and the heaps of one node: processes whose heap is large and grows.
--
-- What the collector has done since the start is in every snapshot; a model sees its rate change.

return {
  domain = "gc",
  node = env("BEAMLENS_NODE"), -- or --node NAME
  sample = "30s",              -- how often the node is sampled, whatever the model does
  wait = { min = "30s", max = "1h" }, -- how long the model may wait between its looks
  limits = { usd_per_day = 0.50 },    -- what a model may cost; the rules are free

  -- Who is allowed to be large. Only a model reads it.
  -- instructions = [[
  -- report_builder holds a whole report, up to 800 MiB, between 04:00 and 04:30 UTC.
  -- ]],

  -- What the rules do by themselves; `beamlens domains gc` lists them.
  rules = {
    -- large_heap = { hold = "10m" },                -- reports take a while
  },

  -- mute = { { from = "04:00", to = "04:30", types = { "large_heap" } } },
}
