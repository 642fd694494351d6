-- Watches the BEAM itself: memory, processes, schedulers, atoms and ports of one node.

return {
  name = "beam",
  domain = "beam",
  node = env("BEAMLENS_NODE"), -- or --node NAME
  sample = "10s",              -- how often the node is sampled, whatever the model does
  wait = { min = "10s", max = "30m" },
}
