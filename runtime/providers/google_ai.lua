--- Gemini models by Google's API for developers, with a key.

local exchange = require("runtime.providers.exchange")
local failures = require("runtime.providers.failure")
local gemini = require("runtime.providers.gemini")
local gemini_answer = require("runtime.providers.gemini_answer")
local shared = require("runtime.providers.shared")

local M = {}

--- What `options` of such a client may hold.
M.options = exchange.with_common(gemini.OPTIONS)
--- The variable that holds the key, for `beamlens clients`.
M.key_variable = "GOOGLE_API_KEY"

---@class providers.GoogleAi
local GoogleAi = {
  decide = exchange.decide,
  decoder = gemini_answer.METHODS.decoder,
  read = gemini_answer.METHODS.read,
  read_error = gemini_answer.METHODS.read_error,
}
local google_ai_mt = { __index = GoogleAi }

--- Creates the provider of one client.
---@param options table Checked against `M.options`.
---@param env fun(name: string): string?
function M.new(options, env)
  local base = options.base_url or "https://generativelanguage.googleapis.com/v1beta"
  local key = options.api_key or env("GOOGLE_API_KEY") or env("GEMINI_API_KEY") or ""
  local path = options.model:find("/", 1, true) and options.model or "models/" .. options.model
  return setmetatable({
    options = options,
    model = options.model,
    tool_lists = shared.tool_lists(),
    system_parts = shared.system_parts(),
    url = base:gsub("/+$", "") .. "/" .. gemini.method(path, options.stream),
    key = key:match("^%s*(.-)%s*$"),
  }, google_ai_mt)
end

--- True when a request can be authorised.
function GoogleAi:has_key()
  return self.key ~= ""
end

--- Texts that must be in no message.
function GoogleAi:secrets()
  return { self.key }
end

--- The HTTP request for a normalised one. The key is a header: addresses end up in logs.
function GoogleAi:request(request)
  if not self:has_key() then
    return nil, failures.new("auth", "no key: neither GOOGLE_API_KEY nor GEMINI_API_KEY is set")
  end
  if self.key:find("[%c%s]") then
    return nil, failures.new("auth", "the key holds spaces or line breaks")
  end
  return {
    url = self.url,
    headers = exchange.header_lines({
      { "x-goog-api-key", self.key },
      { "content-type", "application/json" },
    }, self.options.headers),
    body = gemini.body(request, self),
  }
end

return M
