-- `beamlens run` on a folder of files that a case changes while it runs.
--
--   local h = reloading.start({ ["watchers/w.lua"] = … })
--   h:write("watchers/w.lua", …)
--   local applied = h:applied()          -- the next reload.applied
--   h:stop()

local anthropic_server = require("support.anthropic_server")
local beamlens = require("support.beamlens")
local support = require("support")
local tree = require("support.tree")

local M = {}

local Host = {}
local host_mt = { __index = Host }

-- A domain that needs no node. Its `level` is read from a file of the case.
M.CALM = [[
return {
  name = "calm", target = "none", title = "Calm", description = "Nothing much.",
  metrics = { { name = "level", type = "integer" } },
  snapshot = function()
    local file = io.open(%q)
    local level = file and tonumber(file:read("*a")) or 1
    if file then file:close() end
    return { level = level }
  end,
  callbacks = {},
  rules = { { type = "level_high", severity = "warning", hold = "0s", clear_hold = "0s",
    when = function(history)
      local level = history:latest().data.level
      return level > 10 and { subject = "tank", value = level, threshold = 10,
        unit = "count", summary = "level " .. level } or nil
    end } },
}
]]

--- A watcher's table as text, of the calm domain, sampled every second.
---@param more? string Further fields.
function M.watcher(more)
  return ('return { domain = "calm", sample = "1s", wait = { min = "1s", max = "1s" }, %s }\n')
    :format(more or "")
end

--- Starts the host.
---@param files table<string, string> By path; domains/calm.lua is added, and may be a function
--- from the folder's path to its text.
---@param opts? { arguments?: string[], env?: string[], reply?: (fun(request: table): table),
--- options?: string[], prepare?: string, before?: fun(host: table) } `arguments`: below the
--- folder, default "watchers". `prepare`: a shell command before the start, `before` a function.
--- With `reply` a model on loopback decides.
function M.start(files, opts)
  opts = opts or {}
  local self = setmetatable({ seen = 0 }, host_mt)
  local domain = files["domains/calm.lua"]
  files["domains/calm.lua"] = nil
  self.root = tree.make(files)
  if type(domain) == "function" then
    domain = domain(self.root)
  end
  self:write("domains/calm.lua", domain or M.CALM:format(self.root .. "/level"))
  if opts.prepare then
    self:shell(opts.prepare)
  end
  if opts.before then
    opts.before(self)
  end
  if opts.reply then
    self.server = anthropic_server.start({ on_request = opts.reply })
    support.on_cleanup(function()
      self.server:stop()
    end)
    if not files["clients.lua"] then
      self:write("clients.lua", self:registry())
    end
  end
  local args = { "run" }
  for _, path in ipairs(opts.arguments or { "watchers" }) do
    args[#args + 1] = self.root .. "/" .. path
  end
  args[#args + 1] = "--log"
  args[#args + 1] = "json"
  for _, option in ipairs(opts.options or {}) do
    args[#args + 1] = option
  end
  self.b = beamlens.start(args, { cwd = self.root, env = opts.env })
  return self
end

--- A registry whose primary is the model on loopback.
---@param more? string
function Host:registry(more)
  return ([[return { primary = "Main", clients = { { name = "Main", provider = "anthropic",
    options = { model = "claude-haiku-4-5-20251001", base_url = %q, api_key = "sk-spec" } } }, %s }
]]):format(self.server.url, more or "")
end

--- The whole path of a file.
function Host:path(name)
  return self.root .. "/" .. name
end

--- Writes a file, in place, with the folders that it needs.
function Host:write(name, text)
  local path = self:path(name)
  os.execute(("mkdir -p '%s'"):format(path:match("^(.*)/[^/]*$")))
  return support.write_file(path, text)
end

--- Writes a file in a folder that is there.
function Host:write_fast(name, text)
  return support.write_file(self:path(name), text)
end

--- Runs a shell command in the folder.
function Host:shell(command)
  local status = os.execute(("cd '%s' && %s"):format(self.root, command))
  assert(status == 0 or status == true, command)
end

--- Waits until each watcher has begun to wait once more.
function Host:round()
  local before = #self.b:all("beamlens.watcher.wait")
  support.wait_until(function()
    return #self.b:all("beamlens.watcher.wait") > before
  end, 30000, "another wait; it said: " .. self.b:stderr())
end

--- Waits for the watcher's first wait: it runs, and its files are watched.
function Host:running()
  self.b:wait_for("watcher.wait", nil, 30000)
  return self
end

--- The next reload.applied that was not given out yet, and that `predicate` accepts.
---@param predicate? fun(metadata: table): any
function Host:applied(predicate)
  local found
  support.wait_until(function()
    local all = self.b:all("beamlens.reload.applied")
    for i = self.seen + 1, #all do
      if not predicate or predicate(all[i].metadata) then
        self.seen, found = i, all[i].metadata
        return true
      end
    end
  end, 30000, "reload.applied; it said: " .. self.b:stderr())
  return found
end

--- Waits for a reload.failed whose error has this text, and returns it.
function Host:failed(text)
  return self.b:wait_for("reload.failed", function(event)
    return event.metadata.error:find(text, 1, true)
  end, 30000).metadata
end

--- Ends the host. Raises unless it ends well.
function Host:stop()
  self.b:kill("sigterm")
  local status = self.b:wait_exit(30000)
  assert(status == 0, ("exit status %d: %s"):format(status, self.b:stderr()))
end

return M
