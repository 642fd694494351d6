--- OpenAI's chat completions.

local chat = require("runtime.providers.chat")
local exchange = require("runtime.providers.exchange")
local shared = require("runtime.providers.shared")

local M = {}

--- What `options` of such a client may hold.
M.options = exchange.with_common(chat.OPTIONS, {
  organization = { type = "string" },
  project = { type = "string" },
})
--- The variable that holds the key, for `beamlens clients`.
M.key_variable = "OPENAI_API_KEY"

--- Creates the provider of one client.
---@param options table Checked against `M.options`.
---@param env fun(name: string): string?
function M.new(options, env)
  local base = shared.base(options.base_url or env("OPENAI_BASE_URL")
    or "https://api.openai.com/v1")
  local headers = {}
  for header, value in pairs({
    ["openai-organization"] = options.organization or env("OPENAI_ORG_ID"),
    ["openai-project"] = options.project or env("OPENAI_PROJECT_ID"),
  }) do
    headers[#headers + 1] = { header, value }
  end
  return chat.new({
    options = options,
    url = base .. "/chat/completions",
    key = shared.key(options.api_key or env(M.key_variable)),
    key_variable = M.key_variable,
    headers = headers,
    dialect = { max_tokens = "max_completion_tokens" },
  })
end

return M
