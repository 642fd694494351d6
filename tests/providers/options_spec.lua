-- Mistakes in the options of models' clients: all of them, each with file and line.

local clients = require("runtime.clients")
local support = require("support")

local function mistakes_of(text, env)
  local path = support.write_file(support.tmp_path("options.lua"), text)
  local config, err = clients.load(path, function(name)
    return (env or {})[name]
  end)
  os.remove(path)
  assert.is_nil(config)
  return (err:gsub(path:gsub("%W", "%%%0"), "F"))
end

describe("options of models", function()
  it("are told with all their mistakes", function()
    assert.are.equal(table.concat({
      'F:5: client "A": options.temprature',
      'F:6: client "A": options.tool_choice must be one of required, any, auto, none',
      'F:9: client "B": options.base_url is missing',
      'F:12: client "C": options.keep_alive must be like 5m',
      'F:13: client "C": options.think must be true or false',
    }, "\n"), (mistakes_of([[return {
  primary = "A",
  clients = {
    { name = "A", provider = "openai", options = { model = "m",
      temprature = 0,
      tool_choice = "always" } },
    {
      name = "B", provider = "openai-generic",
      options = { model = "m", tools = false } },
    { name = "C", provider = "ollama", options = {
      model = "m",
      keep_alive = "soon",
      think = "no" } },
  },
}]]):gsub('options: unknown field "temprature"[^\n]*', "options.temprature")))
  end)

  it("suggest what was meant", function()
    assert.are.equal('F:1: client "A": options: deployment_id or base_url is missing\n'
      .. 'F:1: client "A": options: unknown field "deploymentid"; did you mean "deployment_id"?',
      (mistakes_of('return { clients = { { name = "A", provider = "azure-openai", '
        .. 'options = { deploymentid = "d" } } } }')))
    assert.is_truthy(mistakes_of('return { clients = { { name = "A", provider = "open-ai" } } }')
      :find('unknown provider "open-ai"; did you mean "openai"?', 1, true))
  end)

  it("of Azure name one address", function()
    local function azure(options, env)
      return mistakes_of(("return { clients = { { name = 'A', provider = 'azure-openai',\n"
        .. "  options = {\n    %s } } } }"):format(options), env)
    end
    assert.are.equal('F:3: client "A": options.deployment_id: the base_url names it already\n'
      .. 'F:3: client "A": options.resource_name: the base_url names it already',
      azure('base_url = "https://h/v1", resource_name = "r", deployment_id = "d"'))
    assert.are.equal('F:2: client "A": options: resource_name, base_url or '
      .. "AZURE_OPENAI_ENDPOINT is missing", azure('deployment_id = "d"'))
    assert.are.equal('F:3: client "A": options.resource_name must be like my-resource',
      azure('resource_name = "h.test/x?", deployment_id = "d"'))
  end)
end)
