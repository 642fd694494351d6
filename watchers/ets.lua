-- Watches the ETS tables of one node: those that grow towards the memory limit, and their number.
--
-- Tables are read at leisure, so a look every 30 s is as good as one every 10 s and costs less.

return {
  domain = "ets",
  node = env("BEAMLENS_NODE"), -- or --node NAME
  sample = "30s",              -- how often the node is sampled, whatever the model does
  wait = { min = "30s", max = "1h" }, -- how long the model may wait between its looks
  limits = { usd_per_day = 0.50 },    -- what a model may cost; the rules are free

  -- Which tables are caches, who empties them, and how large they may be. Only a model reads it.
  -- instructions = [[
  -- page_cache is swept every hour and may have 2 GiB.
  -- session_store has no sweep: it must not grow.
  -- ]],

  -- What the rules do by themselves; `beamlens domains ets` lists them.
  rules = {
    -- ets_growth = { hold = "10m" },                -- caches fill for a while after a restart
    -- ets_table_count = { enabled = false },        -- a table per connection is what we do
  },
}
