-- Watches the ETS tables of one node.

return {
  name = "ets",
  domain = "ets",
  node = env("BEAMLENS_NODE"), -- or --node NAME
  sample = "10s",              -- how often the node is sampled, whatever the model does
  wait = { min = "10s", max = "30m" },
}
