-- Watches garbage collection and the largest heaps of one node.

return {
  name = "gc",
  domain = "gc",
  node = env("BEAMLENS_NODE"), -- or --node NAME
  sample = "10s",              -- how often the node is sampled, whatever the model does
  wait = { min = "10s", max = "30m" },
}
