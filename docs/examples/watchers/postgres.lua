-- Watches the sessions that the application "shop" has at a PostgreSQL server. No node is needed.

return {
  name = "postgres",
  domain = "postgres",
  node = "db1", -- a label, for events and alerts
  settings = {
    -- What is left out here comes from PGHOST, PGUSER, ~/.pgpass and so on, as with psql.
    -- connection = "host=db1 dbname=shop user=beamlens",
    application_name = "shop",
  },
  sample = "10s",
}
