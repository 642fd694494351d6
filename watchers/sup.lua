-- Watches the supervisors of one node: children that pile up, restart storms, what is missing.

return {
  name = "sup",
  domain = "sup",
  node = env("BEAMLENS_NODE"), -- or --node NAME
  sample = "10s",              -- how often the node is sampled, whatever the model does
  wait = { min = "10s", max = "30m" },
}
