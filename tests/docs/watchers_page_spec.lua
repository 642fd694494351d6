-- docs/watchers.md against what there is: each field, tool and prompt variable is on it, and its
-- watchers are right.

local beamlens = require("support.beamlens")
local policy = require("runtime.policy")
local prompts = require("runtime.prompts")
local support = require("support")
local tools = require("runtime.tools")
local tree = require("support.tree")

local function page()
  local file = assert(io.open("docs/watchers.md"))
  local text = file:read("*a")
  file:close()
  return text
end

describe("docs/watchers.md", function()
  it("names each field of a watcher, and no other", function()
    local section = page():match("\n## Fields\n(.-)\n## ")
    local named = {}
    for cell in section:gmatch("\n| (`[^|]*)|") do
      for field in cell:gmatch("`([%l_]+)[`.]") do
        named[field] = true
      end
    end
    for _, field in ipairs(policy.field_names()) do
      assert.is_true(named[field], field)
      named[field] = nil
    end
    assert.is_nil(next(named))
  end)

  it("names each tool with its arguments", function()
    local section = page():match("\n## Tools\n(.-)\n## ")
    for _, tool in ipairs(tools.for_request()) do
      assert.is_truthy(section:find("`" .. tool.name .. "`", 1, true), tool.name)
      for name in pairs(tool.schema.properties) do
        assert.is_truthy(section:find("`" .. name .. "`", 1, true), tool.name .. " " .. name)
      end
    end
  end)

  it("names each variable of a prompt", function()
    local section = page():match("\n## Prompts\n(.-)\n## ")
    for name in pairs(prompts.sample(tools.for_request())) do
      assert.is_truthy(section:find("`" .. name .. "`", 1, true), name)
    end
  end)

  it("has watchers that pass `beamlens check`", support.async(function()
    local files, args = {}, { "check" }
    for text in page():gmatch("```lua\n(.-)```") do
      files[("watchers/w%d.lua"):format(#args)] = text
      args[#args + 1] = "x"
    end
    assert.is_true(#args > 2)
    local root = tree.make(files)
    for i = 2, #args do
      args[i] = ("%s/watchers/w%d.lua"):format(root, i - 1)
    end
    local status, _, err = beamlens.run(args, { env = { "ANTHROPIC_API_KEY=sk-spec" } })
    assert.are.same({ 0, "" }, { status, err })
  end, 60))
end)
