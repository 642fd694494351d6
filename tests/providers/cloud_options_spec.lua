-- Options of the clients for clouds: mistakes are found with file and line, before any request.

local clients = require("runtime.clients")
local support = require("support")

local function load(text, env)
  local path = support.write_file(support.tmp_path("registry.lua"), text)
  local config, err = clients.load(path, function(name)
    return (env or {})[name]
  end)
  os.remove(path)
  return config, err and err:gsub("build/tmp/%d+%-registry%.lua", "clients.lua")
end

local function client(provider, options)
  return ('return { clients = { { name = "C", provider = %q,\n  options = { model = "m",\n%s\n'
    .. "} } } }"):format(provider, options)
end

describe("the options of clients for clouds", function()
  it("are known, each with its type", function()
    for _, case in ipairs({
      { "google-ai", 'api_key = "env.KEY", top_p = 0.9, top_k = 40,\n'
        .. "generationConfig = { candidateCount = 1 }, safetySettings = {}" },
      { "vertex-ai", 'project_id = "example.com:p", location = "us-central1",\n'
        .. 'credentials = "env.SA_JSON", top_p = 1, top_k = 1, generationConfig = {}' },
      { "vertex-ai", 'credentials = { type = "service_account" }' },
      { "aws-bedrock", 'region = "us-gov-west-1", access_key_id = "env.ID",\n'
        .. 'secret_access_key = "env.SECRET", session_token = "env.TOKEN", profile = "p",\n'
        .. 'tool_choice = "auto", prompt_cache = false, top_p = 0' },
    }) do
      local config, err = load(client(case[1], case[2]))
      assert.is_table(config, err)
    end
  end)

  it("are mistakes with file and line", function()
    for _, case in ipairs({
      { "google-ai", "topp = 1", "options: unknown field \"topp\"; did you mean \"top_p\"?" },
      { "google-ai", 'generationConfig = "x"', "options.generationConfig must be a table" },
      { "google-ai", "top_k = -1", "options.top_k must be a whole number, at least 0" },
      { "google-ai", 'region = "us-east-1"', 'options: unknown field "region"' },
      { "vertex-ai", 'location = "evil.example/x"',
        "options.location must be like europe-west4" },
      { "vertex-ai", 'project_id = "a/b"', "options.project_id must be like my-project" },
      { "vertex-ai", "credentials = 5", "options.credentials must be the path of a key file, its "
        .. "JSON text, or a table with its fields" },
      { "vertex-ai", "credentials = {}", "options.credentials must be the path of a key file, its "
        .. "JSON text, or a table with its fields" },
      { "vertex-ai", 'location = "env.NOWHERE"',
        "options.location: the environment variable NOWHERE is not set" },
      { "aws-bedrock", 'region = "us-east-1.evil.example/"',
        "options.region must be like us-east-1" },
      { "aws-bedrock", 'tool_choice = "none"', 'options.tool_choice must be "any" or "auto"' },
      { "aws-bedrock", "prompt_cache = 1", "options.prompt_cache must be true or false" },
      { "aws-bedrock", 'endpoint = "x"', 'options: unknown field "endpoint"' },
    }) do
      local config, err = load(client(case[1], case[2]))
      assert.is_nil(config)
      local expected = ('clients.lua:3: client "C": %s'):format(case[3])
      assert.are.equal(expected, err:sub(1, #expected))
    end
  end)

  it("may be without a key where it is looked for later", function()
    local registry = assert(clients.new({
      config = assert(load(client("aws-bedrock", 'access_key_id = "env.ID"'))),
      env = function() end,
    }))
    assert.are.equal("aws-bedrock", registry:list()[1].provider)
  end)
end)
