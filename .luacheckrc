std = "luajit"
max_line_length = 100
exclude_files = { "build" }
self = false
files["tests"] = { std = "+busted" }
files["docs/examples/watchers"] = { read_globals = { "env" } }
files["watchers"] = { read_globals = { "env" } }
files["host/meta.lua"] = { ignore = { "21.", "2.." } }
