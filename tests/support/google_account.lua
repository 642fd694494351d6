-- A service account of Google's cloud for specs: a fresh RSA key, and reading what it signs.

local json = require("runtime.json")
local support = require("support")

local M = {}

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read("*a")
  pipe:close()
  return text
end

local key

--- A new private key in PEM, the same for the whole run.
function M.key()
  key = key or run("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -quiet")
  return assert(key:find("BEGIN PRIVATE KEY", 1, true) and key, key)
end

--- The fields of its key file.
---@param token_uri string
function M.service_account(token_uri)
  return {
    type = "service_account",
    project_id = "project-of-key",
    private_key_id = "key-1",
    private_key = M.key(),
    client_email = "watcher@project-of-key.iam.gserviceaccount.com",
    token_uri = token_uri,
  }
end

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

local function base64url_decode(text)
  local bytes, bits, count = {}, 0, 0
  for c in text:gmatch(".") do
    bits = bits * 64 + assert(DIGITS:find(c, 1, true)) - 1
    count = count + 6
    if count >= 8 then
      count = count - 8
      bytes[#bytes + 1] = string.char(math.floor(bits / 2 ^ count))
      bits = bits % 2 ^ count
    end
  end
  return table.concat(bytes)
end

--- Takes a JWT apart; its signature is verified by the openssl program.
---@return table head
---@return table claims
function M.read_jwt(jwt)
  local head, claims, signature = jwt:match("^([%w_-]+)%.([%w_-]+)%.([%w_-]+)$")
  local paths = {}
  for name, text in pairs({ pem = M.key(), text = head .. "." .. claims,
    signature = base64url_decode(signature) }) do
    paths[name] = support.write_file(support.tmp_path("jwt-" .. name), text)
  end
  local pub = support.tmp_path("jwt-pub")
  run(("openssl rsa -in %s -pubout -out %s"):format(paths.pem, pub))
  local verdict = run(("openssl dgst -sha256 -verify %s -signature %s %s"):format(pub,
    paths.signature, paths.text))
  for _, path in pairs(paths) do
    os.remove(path)
  end
  os.remove(pub)
  assert(verdict == "Verified OK\n", verdict)
  return json.decode(base64url_decode(head)), json.decode(base64url_decode(claims))
end

return M
