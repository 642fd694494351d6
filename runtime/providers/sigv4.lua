--- Signatures of requests to AWS, version 4.
---
--- The path that is signed is the path on the wire, encoded once more: a colon in a model's name is
--- `%3A` on the wire and `%253A` in what is signed.

local crypto = require("host.crypto")

local M = {}

--- Encodes a text for a path or a query: all but letters, digits, `-`, `.`, `_` and `~`.
---@param text string
---@return string
function M.encode(text)
  return (text:gsub("[^%w._~-]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

local function canonical_path(path)
  return (path:gsub("[^/]+", M.encode))
end

-- Names in lower case and in their order, values with single spaces: the block that is signed, and
-- the list of names.
local function canonical_headers(headers)
  local names, lines = {}, {}
  for name in pairs(headers) do
    names[#names + 1] = name
  end
  table.sort(names)
  for i, name in ipairs(names) do
    local value = headers[name]:match("^%s*(.-)%s*$"):gsub("%s+", " ")
    lines[i] = name .. ":" .. value .. "\n"
  end
  return table.concat(lines), table.concat(names, ";")
end

--- Signs a request.
---@param request { method: string, host: string, path: string, query?: string, headers?: table,
--- body: string, region: string, service: string, wall_ms: number }
--- `path` as on the wire; `query` sorted and encoded; `headers` to sign, by lower-case name.
---@param credentials { access_key_id: string, secret_access_key: string, session_token?: string }
---@return { [1]: string, [2]: string }[] headers To be sent beside those given.
function M.sign(request, credentials)
  local time = os.date("!%Y%m%dT%H%M%SZ", math.floor(request.wall_ms / 1000))
  local date = time:sub(1, 8)
  local signed = { host = request.host, ["x-amz-date"] = time }
  signed["x-amz-security-token"] = credentials.session_token
  for name, value in pairs(request.headers or {}) do
    signed[name] = value
  end
  local block, names = canonical_headers(signed)
  local canonical = table.concat({ request.method, canonical_path(request.path),
    request.query or "", block, names, crypto.sha256(request.body) }, "\n")
  local scope = table.concat({ date, request.region, request.service, "aws4_request" }, "/")
  local text = table.concat({ "AWS4-HMAC-SHA256", time, scope, crypto.sha256(canonical) }, "\n")
  local signature = crypto.sigv4(credentials.secret_access_key, date, request.region,
    request.service, text)
  return {
    { "authorization", ("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s")
      :format(credentials.access_key_id, scope, names, signature) },
    { "x-amz-date", time },
    credentials.session_token and { "x-amz-security-token", credentials.session_token } or nil,
  }
end

return M
