-- Watches the queue of the application's `orders` server.

return {
  name = "orders",
  domain = "orders",
  node = env("BEAMLENS_NODE"), -- or --node NAME
  sample = "10s",
}
