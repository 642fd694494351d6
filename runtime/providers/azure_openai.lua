--- Azure's chat completions: deployments of OpenAI's models, and the models of its Foundry.
---
--- The address is `base_url` (`…/openai/deployments/NAME`, `…/models` or `…/openai/v1`), or is
--- built of `resource_name`, or `AZURE_OPENAI_ENDPOINT`, and `deployment_id`.

local chat = require("runtime.providers.chat")
local exchange = require("runtime.providers.exchange")
local shared = require("runtime.providers.shared")

local M = {}

local API_VERSION = "2024-10-21"

--- What `options` of such a client may hold.
M.options = exchange.with_common(chat.OPTIONS, {
  model = { type = "string" },
  resource_name = { type = "string", pattern = "^[%w-]+$", like = "my-resource" },
  deployment_id = { type = "string", pattern = "^[%w._-]+$", like = "my-deployment" },
  api_version = { type = "string", pattern = "^[%w.-]+$", like = API_VERSION },
})
--- The variable that holds the key, for `beamlens clients`.
M.key_variable = "AZURE_OPENAI_API_KEY"

--- What is wrong with options that are each right.
---@param options table
---@param env fun(name: string): string?
---@return { field: string, text: string }[]
function M.mistakes(options, env)
  local list = {}
  if options.base_url then
    for _, name in ipairs({ "resource_name", "deployment_id" }) do
      if options[name] then
        list[#list + 1] = { field = name, text = ("options.%s: the base_url names it already")
          :format(name) }
      end
    end
  elseif not options.deployment_id then
    list[1] = { field = "options", text = "options: deployment_id or base_url is missing" }
  elseif not options.resource_name and not env("AZURE_OPENAI_ENDPOINT") then
    list[1] = { field = "options",
      text = "options: resource_name, base_url or AZURE_OPENAI_ENDPOINT is missing" }
  end
  return list
end

local function base_of(options, env)
  if options.base_url then
    return shared.base(options.base_url)
  end
  local endpoint = options.resource_name
    and ("https://%s.openai.azure.com"):format(options.resource_name)
    or shared.base(env("AZURE_OPENAI_ENDPOINT"))
  return ("%s/openai/deployments/%s"):format(endpoint, options.deployment_id)
end

-- The address with /v1 in it has no versions; every other needs one.
local function url_of(options, env)
  local base = base_of(options, env)
  local version = options.api_version
    or (not base:find("/v1$") and (env("OPENAI_API_VERSION") or API_VERSION))
  local query = version and "?api-version=" .. version or ""
  return base .. "/chat/completions" .. query
end

--- Creates the provider of one client.
---@param options table Checked against `M.options` and by `M.mistakes`.
---@param env fun(name: string): string?
function M.new(options, env)
  local key = shared.key(options.api_key or env(M.key_variable) or env("AZURE_API_KEY"))
  local token = not key and shared.key(env("AZURE_OPENAI_AD_TOKEN")) or nil
  local provider = chat.new({
    options = options,
    url = url_of(options, env),
    key = key or token,
    key_variable = M.key_variable,
    key_header = key and { "api-key", "" } or nil,
  })
  -- The deployment decides; the name is for people, and for the models of one Foundry address.
  provider.model = options.model or options.deployment_id
    or options.base_url:match("/deployments/([^/]+)") or "azure"
  return provider
end

return M
