--- Why a model gave no usable answer, in one form for all providers.

local M = {}

---@class providers.Failure
---@field kind string One of the kinds below.
---@field message string For people; bounded, one line, without keys.
---@field retryable boolean The same request can succeed later.
---@field retry_after_ms? number What the server asked for.
---@field not_asked? boolean No request was made: the client is left alone for now.
---@field probe_ms? number Of several clients, when the first that is left alone may be asked.
---@field http? integer Status.
---@field provider_code? string The provider's own name of the error.
---@field request_id? string
---@field text? string What the model wrote instead of a call.
---@field until_ms? number Unix milliseconds: when the budget that is spent refills.
---@field is_reserved? boolean What is left of it is for cycles that a finding woke.
---@field usage? providers.Usage Tokens that were spent all the same.

-- Whether the same request can succeed later.
local RETRYABLE = {
  auth = false,
  permission = false,
  not_found = false,
  invalid_request = false,
  context_length = false,
  rate_limit = true,
  quota = false,
  overloaded = true,
  server = true,
  timeout = true,
  connect = true,
  stream_cut = true,
  truncated = false,
  content_filter = false,
  refusal = false,
  bad_tool_call = false,
  no_tool_call = false,
  parse = true,
  budget = false,
}

-- Codes of runtime/http.lua. A certificate does not become right by asking again.
local TRANSPORT = {
  EHOST = "connect",
  ECONNECT = "connect",
  ETLS = "connect",
  ETIMEDOUT = "timeout",
  ECUT = "stream_cut",
  ETOOBIG = "parse",
  EHTTP = "connect",
}
local PERMANENT = { ETLS = true, ETOOBIG = true, EHTTP = true }

local STATUS = {
  [401] = "auth",
  [402] = "quota",
  [403] = "permission",
  [404] = "not_found",
  [408] = "timeout",
  [409] = "server",
  [413] = "context_length",
  [425] = "server",
  [429] = "rate_limit",
  [503] = "overloaded",
  [529] = "overloaded",
}

local MAX_MESSAGE = 500

local SHORTEST_PART = 8
local SHORTEST_END = 4

local function literal(text)
  return (text:gsub("%W", "%%%0"))
end

-- Servers show the beginning or the end of a key that they refuse.
local function without_parts(text, key)
  local at = 1
  while at + SHORTEST_PART - 1 <= #key do
    local stop = at + SHORTEST_PART - 1
    if text:find(key:sub(at, stop), 1, true) then
      while stop < #key and text:find(key:sub(at, stop + 1), 1, true) do
        stop = stop + 1
      end
      text = text:gsub(literal(key:sub(at, stop)), "[key]")
    end
    at = at + 1
  end
  local last = #key >= 2 * SHORTEST_PART and key:sub(-SHORTEST_END)
  if last then
    text = text:gsub("%f[%w]" .. literal(last) .. "%f[^%w]", "[key]")
  end
  return text
end

--- Makes a text fit for logs: one line, bounded, and without what looks like a key.
---@param text string
---@param secrets? string[] Removed wherever they occur.
---@param keys? string[] Of these parts are removed as well.
---@return string
function M.clean(text, secrets, keys)
  for _, secret in ipairs(secrets or {}) do
    if #secret >= 4 then
      text = text:gsub(literal(secret), "[key]")
    end
  end
  -- A masked key, before parts of it are taken away.
  text = text:gsub("[%w_.-]*%*%*%*+[%w_*.-]*%f[^%w_*.-]", "[key]")
  for _, key in ipairs(keys or {}) do
    text = without_parts(text, key)
  end
  text = text:gsub("%f[%w]sk%-[%w_*.-]+", "[key]"):gsub("[%c\127]+", " ")
  if #text > MAX_MESSAGE then
    text = text:sub(1, MAX_MESSAGE) .. "…"
  end
  return text
end

--- An address without the user and password that it may hold.
---@param url string
---@return string
function M.plain_url(url)
  return (url:gsub("^(%w+://)[^/@]*@", "%1"))
end

--- Creates a failure.
---@param kind string
---@param message string
---@param fields? table Further fields of the failure.
---@return providers.Failure
function M.new(kind, message, fields)
  assert(RETRYABLE[kind] ~= nil, kind)
  local failure = { kind = kind, message = M.clean(message), retryable = RETRYABLE[kind] }
  for name, value in pairs(fields or {}) do
    failure[name] = value
  end
  return failure
end

--- A failure of one's own, where several share one.
---@param failure providers.Failure
---@return providers.Failure
function M.copy(failure)
  local copy = {}
  for name, value in pairs(failure) do
    copy[name] = value
  end
  return copy
end

-- What to do about what TLS says, by a part of it.
local CURES = {
  ["unable to get local issuer certificate"] = "for a CA of your own set the client's ca_file",
  ["self.signed certificate"] = "for a CA of your own set the client's ca_file",
  ["wrong version number"] = "the server speaks no TLS there: http:// instead of https://?",
}

local function with_cure(err)
  for part, cure in pairs(CURES) do
    if err:find(part) then
      return ("%s; %s"):format(err, cure)
    end
  end
  return err
end

--- The failure of a request that got no whole answer.
---@param code string Of runtime/http.lua.
---@param err string
---@return providers.Failure
function M.from_transport(code, err)
  return M.new(TRANSPORT[code] or "connect", code == "ETLS" and with_cure(err) or err, {
    retryable = not PERMANENT[code],
    provider_code = code,
  })
end

--- The kind that a status means when the body says nothing better.
---@param status integer
---@return string kind
function M.kind_of_status(status)
  return STATUS[status] or (status >= 500 and "server") or "invalid_request"
end

return M
