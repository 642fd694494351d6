-- The watcher files that are shipped: what people start from.

local beamlens = require("support.beamlens")
local history = require("runtime.history")
local node = require("support.node")
local policy = require("runtime.policy")
local support = require("support")
local tree = require("support.tree")
local uv = require("luv")

local function files()
  local list = {}
  for _, folder in ipairs({ "watchers", "watchers/examples" }) do
    local scan = assert(uv.fs_scandir(folder))
    for name in uv.fs_scandir_next, scan do
      if name:find("%.lua$") then
        list[#list + 1] = folder .. "/" .. name
      end
    end
  end
  table.sort(list)
  return list
end

local function text_of(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local function oncall()
  package.loaded["beamlens"] = package.loaded["beamlens"]
    or require("runtime.beamlens").new({ telemetry = require("runtime.telemetry").new(),
      warn = print })
  local list = assert(policy.load("watchers/examples/oncall.lua", { env = function() end,
    node = "a@h" }))
  return list[1]
end

describe("the watchers that are shipped", function()
  it("pass `beamlens check` without a warning, one for each domain", support.async(function()
    local args = { "check", unpack(files()) }
    local status, out, err = beamlens.run(args)
    assert.are.same({ 0, "" }, { status, err })
    for _, domain in ipairs({ "beam", "ets", "gc", "ports", "sup" }) do
      assert.is_truthy(out:find(("watchers/%s.lua: ok (watcher)"):format(domain), 1, true))
    end
    assert.are.equal(#files(), select(2, out:gsub("ok %(watcher%)", "")))
  end, 60))

  it("say nothing about a healthy node, together", support.async(function()
    local n = node.start({ name = "shipped1" })
    local copies = {}
    for _, path in ipairs(files()) do
      local text, count = text_of(path):gsub('sample = "%d+s"', 'sample = "1s"')
      assert.are.equal(1, count)
      copies["w/" .. path:match("[^/]+$")] = text
    end
    local root = tree.make(copies)
    local b = beamlens.start({ "run", root .. "/w", "--node", n.name, "--log", "json" }, { env = {
      "ERL_EPMD_PORT=" .. n.epmd_port, "BEAMLENS_COOKIE=" .. n.cookie } })
    for path in pairs(copies) do
      local name = path:match("([^/]+)%.lua$")
      support.wait_until(function()
        return #b:all("beamlens.sampler.sample", function(event)
          local names = event.metadata.watchers or { event.metadata.watcher }
          return (" " .. table.concat(names, " ") .. " "):find(" " .. name .. " ", 1, true)
        end) >= 4
      end, 60000, "samples of " .. name)
    end
    for _, event in ipairs({ "finding.firing", "watcher.alert_fired", "watcher.hook_failed",
      "rule.failed", "sampler.failed", "watcher.crashed" }) do
      assert.are.same({}, b:all("beamlens." .. event))
    end
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit(30000))
    assert.are.equal("beamlens: no model: ANTHROPIC_API_KEY is not set; the rules decide alone\n",
      b:stderr())
  end, 120))

  it("show a guard that softens what is critical at night, and nothing by day", function()
    local guard, date = oncall().guard, os.date
    local function at(hour, tool, args)
      rawset(os, "date", function()
        return ("%02d"):format(hour)
      end)
      local action, reason = guard({ tool = tool, args = args })
      rawset(os, "date", date)
      return action and action.args or reason
    end
    for _, hour in ipairs({ 22, 0, 5 }) do
      assert.are.same({ severity = "warning" }, at(hour, "fire_alert", { severity = "critical" }))
      assert.are.same({ severity = "info" }, at(hour, "fire_alert", { severity = "info" }))
      assert.matches("use warning", at(hour, "set_state", { state = "critical" }))
      assert.are.same({ state = "healthy" }, at(hour, "set_state", { state = "healthy" }))
    end
    assert.are.same({ severity = "critical" }, at(6, "fire_alert", { severity = "critical" }))
    assert.are.same({ state = "critical" }, at(21, "set_state", { state = "critical" }))
  end)

  it("show a rule of one's own, and a maintenance window", function()
    local shown = oncall()
    local rule, samples = shown.rules[1], history.new()
    local function after(minute, count)
      assert(samples:add({ id = tostring(minute), at_ms = minute * 60000, mono_ms = minute * 60000,
        data = { process_count = count }, took_ms = 1 }))
      return rule.when(samples)
    end
    assert.is_nil(after(1, 199000))
    local found = after(2, 205000)
    assert.are.equal(205000, found.value)
    assert.are.equal(100, found.per_s)
    assert.are.equal("205 000 processes, usually below 200 000", found.summary)
    assert.are.same({ "node_restarted", "node_down", "mailbox_growth" }, shown.mute[1].types)
  end)
end)
