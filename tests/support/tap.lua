-- A host over a domain that watches no node: the level in a file. Its rule `overflow` finds a level
-- above 10. For specs of what outlives a restart.
--
--   local t = tap.setup({ replies = function(request, index) … end })
--   local b = t.start(); t.level(20); b:wait_for("watcher.alert_fired")

local anthropic_server = require("support.anthropic_server")
local beamlens = require("support.beamlens")
local support = require("support")
local tree = require("support.tree")

local M = {}

local DOMAIN = [[
return {
  name = "tap", target = "none", title = "Tap",
  metrics = { { name = "level", type = "integer" } },
  snapshot = function()
    local file = assert(io.open("%s/level"))
    local level = tonumber(file:read("*a"))
    file:close()
    return { level = level or 0 }
  end,
  callbacks = {},
  rules = { {
    type = "overflow", severity = "warning", hold = "1s", clear_hold = "1s", looks_back = "1s",
    title = "The tap runs over", subject = "tap",
    when = function(history)
      local level = history:latest().data.level
      return level > 10 and { value = level, threshold = 10 } or nil
    end,
  } },
}
]]

local WATCHER = [[{ name = "%s", domain = "tap", sample = "1s",
  wait = { min = "1s", max = "1s" } },
]]

--- Writes the files of a host, and starts its model.
---@param opts { replies?: function, watchers?: string[] } What the model answers (default: it
--- waits); the watchers' names (default: `w`).
function M.setup(opts)
  local t = { server = anthropic_server.start({ on_request = opts.replies or function()
    return { tool = "wait", input = { reason = "calm", ms = 1000 } }
  end }) }
  support.on_cleanup(function()
    t.server:stop()
  end)
  t.root = tree.make({ ["level"] = "1", ["domains/x"] = "", ["watchers/x"] = "" })
  t.store = t.root .. "/s.db"
  support.write_file(t.root .. "/domains/tap.lua", DOMAIN:format(t.root))

  --- Sets the level, in one step.
  function t.level(level)
    support.write_file(t.root .. "/new", tostring(level))
    assert(os.rename(t.root .. "/new", t.root .. "/level"))
  end

  --- Says which watchers there are.
  function t.watchers(names)
    local list = {}
    for i, name in ipairs(names) do
      list[i] = WATCHER:format(name)
    end
    support.write_file(t.root .. "/watchers/w.lua", "return {\n" .. table.concat(list) .. "}\n")
  end

  --- Starts the host.
  function t.start(store)
    return beamlens.start({ "run", t.root .. "/watchers/w.lua", "--log", "json", "--store",
      store or t.store }, { cwd = t.root, env = { "ANTHROPIC_API_KEY=sk-spec",
      "ANTHROPIC_BASE_URL=" .. t.server.url } })
  end

  t.watchers(opts.watchers or { "w" })
  return t
end

--- Stops a host, and checks that it had nothing to say.
---@async
function M.stop(b)
  b:kill("sigterm")
  local status, told = b:wait_exit(30000), b:stderr()
  assert(status == 0 and told == "", ("%d: %s"):format(status, told))
end

return M
