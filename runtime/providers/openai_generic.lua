--- Servers that speak chat completions as OpenAI does: hosted ones, and one's own.
---
--- Of some hosts it is known which variable holds their key and what they do differently; the rest
--- is learned from their refusals.

local chat = require("runtime.providers.chat")
local exchange = require("runtime.providers.exchange")
local shared = require("runtime.providers.shared")

local M = {}

--- What `options` of such a client may hold.
M.options = exchange.with_common(chat.OPTIONS, {
  base_url = {
    type = "string",
    required = true,
    pattern = exchange.COMMON.base_url.pattern,
    like = exchange.COMMON.base_url.like,
  },
})

-- Many a server takes a forced choice and does not keep to it, or not with every model.
local UNSURE = { obeys = false }
local UNKNOWN_HOST = { dialect = UNSURE }

-- A key of the environment goes to its own host alone.
local HOSTS = {
  ["api.groq.com"] = {
    variable = "GROQ_API_KEY",
    dialect = { max_tokens = "max_completion_tokens", stream_options = false },
  },
  ["api.mistral.ai"] = {
    variable = "MISTRAL_API_KEY",
    dialect = { tool_choice = "any", stream_options = false, short_ids = true,
      results_end_turn = true },
  },
  ["api.deepseek.com"] = { variable = "DEEPSEEK_API_KEY" },
  ["api.together.ai"] = { variable = "TOGETHER_API_KEY", dialect = UNSURE },
  ["api.together.xyz"] = { variable = "TOGETHER_API_KEY", dialect = UNSURE },
  ["api.x.ai"] = { variable = "XAI_API_KEY" },
  ["router.huggingface.co"] = { variable = "HF_TOKEN", dialect = UNSURE },
}

--- Creates the provider of one client.
---@param options table Checked against `M.options`.
---@param env fun(name: string): string?
function M.new(options, env)
  local base = shared.base(options.base_url)
  local host = HOSTS[base:match("^https://([%w.-]+)%f[/%z]") or ""] or UNKNOWN_HOST
  return chat.new({
    options = options,
    url = base .. "/chat/completions",
    key = shared.key(options.api_key or (host.variable and env(host.variable))),
    key_variable = host.variable,
    dialect = host.dialect,
  })
end

return M
