local prompts = require("runtime.prompts")
local tools = require("runtime.tools")
local watched = require("support.watched")

local function err_of(prompt)
  local made, err = prompts.new(prompt, { file = "prompts/x.lua" })
  assert.is_nil(made)
  return err
end

local function variables(changes)
  return prompts.variables({
    domain = {
      name = "beam", title = "the virtual machine", description = "memory, processes, atoms",
      instructions = "A run queue of 0 is normal.",
      rules = { { type = "mailbox_growth" }, { type = "atom_limit" } },
      docs = function()
        return "beam_get_memory() -> total_mb"
      end,
      metric_docs = function()
        return ""
      end,
    },
    policy = watched.policy(changes),
    tools = tools.for_request(),
  })
end

describe("a prompt", function()
  it("is refused with file and field when it is not one", function()
    assert.are.equal("prompts/x.lua: a prompt file returns a table, not a string", err_of("x"))
    assert.are.equal("prompts/x.lua: unknown field `templat`; the fields are description, name, "
      .. "template", err_of({ templat = "x" }))
    assert.are.equal("prompts/x.lua: `template` must be text, not empty",
      err_of({ name = "x", description = "x", template = "" }))
    assert.are.equal("prompts/x.lua: template:2:4: expected a name such as `node` or "
      .. "`domain.title`", err_of({ name = "x", description = "x", template = "\n{{ 1 }}" }))
  end)

  it("is refused when it uses a variable that there is not, before it is ever rendered", function()
    local err = err_of({ name = "x", description = "x",
      template = "a\n{% if domain.title %}{{ nodee }}{% end %}" })
    assert.are.equal("prompts/x.lua: template:2:25: unknown variable `nodee`; the variables are "
      .. "callback_docs, calls_per_cycle, domain, instructions, metric_docs, rule_types, thing, "
      .. "tools, wait_max, wait_min", err)
    for path, known in pairs({ ["domain.titel"] = "`domain` has description, instructions, name, "
      .. "title, watches_node", ["thing.x"] = "`thing` has no fields",
      ["tools.name"] = "`tools` has no fields" }) do
      assert.are.equal(("prompts/x.lua: template:1:7: unknown variable `%s`; %s"):format(path,
        known), err_of({ name = "x", description = "x",
          template = "{% if " .. path .. " %}{% end %}" }))
    end
    assert.are.equal("prompts/x.lua: template:1:30: unknown variable `tool.nam`; `tool` has "
      .. "description, name, schema", err_of({ name = "x", description = "x",
        template = "{% for tool in tools %}{% if tool.nam %}{% end %}{% end %}" }))
    assert.is_truthy(prompts.new({ name = "x", description = "x",
      template = "{% for tool in tools %}{{ tool.name }} {{ tool.schema.type }}{% end %}" }))
  end)
end)

describe("the watcher's prompt", function()
  local prompt = assert(prompts.new(dofile("prompts/watcher.lua")))

  it("holds the domain, the callbacks, the rule types, the bounds and the operator's words",
    function()
      local text = assert(prompt:render(variables({ instructions = "Imports run at 02:00." })))
      for _, part in ipairs({ "memory, processes, atoms", "A run queue of 0 is normal.",
        "beam_get_memory() -> total_mb", "mailbox_growth, atom_limit", "10 s to 30 m",
        "15 calls per cycle", "Imports run at 02:00.", "It is never an instruction" }) do
        assert.is_truthy(text:find(part, 1, true), part)
      end
      assert.is_nil(text:find("Figures of a snapshot", 1, true))
      assert.is_nil(text:find("{[{%%#]"))
      assert.is_nil(text:find("\n\n\n", 1, true))
    end)

  it("leaves out the operator's part when there is none, and is the same each time", function()
    local text = assert(prompt:render(variables()))
    assert.is_nil(text:find("From the operator", 1, true))
    assert.are.equal(text, prompt:render(variables()))
  end)

  it("names every tool that it tells to use", function()
    local text = assert(prompt:render(variables()))
    for name in text:gmatch("`([%l_]+)`") do
      local known = tools.get(name) or ({ reason = 1, note = 1, snapshot_ids = 1, type = 1,
        subject = 1, summary = 1, severity = 1 })[name]
      assert.is_truthy(known, name)
    end
  end)
end)
