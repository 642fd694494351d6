-- Watches the ports and file descriptors of one node: sockets, programs, writers that are blocked.

return {
  name = "ports",
  domain = "ports",
  node = env("BEAMLENS_NODE"), -- or --node NAME
  sample = "10s",              -- how often the node is sampled, whatever the model does
  wait = { min = "10s", max = "30m" },
}
