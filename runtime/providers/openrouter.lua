--- OpenRouter: chat completions of many providers' models behind one address.

local chat = require("runtime.providers.chat")
local exchange = require("runtime.providers.exchange")
local shared = require("runtime.providers.shared")

local M = {}

--- What `options` of such a client may hold.
M.options = exchange.with_common(chat.OPTIONS, {
  referer = { type = "string" },
  title = { type = "string" },
})
--- The variable that holds the key, for `beamlens clients`.
M.key_variable = "OPENROUTER_API_KEY"

--- Creates the provider of one client.
---@param options table Checked against `M.options`.
---@param env fun(name: string): string?
function M.new(options, env)
  local base = shared.base(options.base_url or "https://openrouter.ai/api/v1")
  local headers = {}
  if options.referer then
    headers[#headers + 1] = { "http-referer", options.referer }
  end
  if options.title then
    headers[#headers + 1] = { "x-title", options.title }
  end
  return chat.new({
    options = options,
    url = base .. "/chat/completions",
    key = shared.key(options.api_key or env(M.key_variable)),
    key_variable = M.key_variable,
    headers = headers,
    -- Some of the providers behind it take a forced choice and do not keep to it.
    dialect = { obeys = false },
    reports_cost = true,
  })
end

return M
