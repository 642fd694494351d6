local sigv4 = require("runtime.providers.sigv4")
local support = require("support")

local KEYS = {
  access_key_id = "AKIDEXAMPLE",
  secret_access_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
}
-- 2015-08-30T12:36:00Z
local WALL_MS = 1440938160000

local function sign(more, keys)
  local request = { method = "GET", host = "example.amazonaws.com", path = "/", body = "",
    region = "us-east-1", service = "service", wall_ms = WALL_MS }
  for name, value in pairs(more or {}) do
    request[name] = value
  end
  local headers = {}
  for _, header in ipairs(sigv4.sign(request, keys or KEYS)) do
    headers[header[1]] = header[2]
  end
  return headers, headers.authorization:match("Signature=(%x+)$")
end

describe("a signature for AWS", function()
  it("is that of the published test suite", function()
    local headers, signature = sign()
    assert.are.equal("AWS4-HMAC-SHA256 "
      .. "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
      .. "SignedHeaders=host;x-amz-date, Signature=" .. signature, headers.authorization)
    assert.are.equal("20150830T123600Z", headers["x-amz-date"])
    assert.are.equal("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", signature)
    assert.are.equal("5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
      select(2, sign({ method = "POST" })))
    assert.are.equal("ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
      select(2, sign({ method = "POST", body = "Param1=value1",
        headers = { ["content-type"] = "application/x-www-form-urlencoded" } })))
  end)

  it("is that of the documentation's example, with a query", function()
    assert.are.equal("5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
      select(2, sign({ host = "iam.amazonaws.com", service = "iam",
        query = "Action=ListUsers&Version=2010-05-08",
        headers = { ["content-type"] = "application/x-www-form-urlencoded; charset=utf-8" } })))
  end)

  it("covers the session token, which is sent", function()
    local keys = { access_key_id = KEYS.access_key_id,
      secret_access_key = KEYS.secret_access_key, session_token = "AQoDYXdzEPT//////////wEXAMPLE" }
    local headers, signature = sign(nil, keys)
    assert.are.equal(keys.session_token, headers["x-amz-security-token"])
    assert.is_truthy(headers.authorization:find("host;x-amz-date;x-amz-security-token", 1, true))
    assert.are_not.equal(select(2, sign()), signature)
  end)

  -- The path as AWS wants it, step by step with the openssl program.
  it("encodes the path on the wire once more", function()
    local function openssl(options, text)
      local path = support.write_file(support.tmp_path("sigv4"), text)
      local pipe = assert(io.popen(("openssl dgst -sha256 %s %s"):format(options, path)))
      local out = pipe:read("*a")
      pipe:close()
      os.remove(path)
      return assert(out:match("= (%x+)"), out)
    end
    local wire = "/model/" .. sigv4.encode("anthropic.claude-3-haiku-20240307-v1:0") .. "/converse"
    assert.are.equal("/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse", wire)
    local canonical = "POST\n/model/anthropic.claude-3-haiku-20240307-v1%253A0/converse\n\n"
      .. "content-type:application/json\nhost:bedrock-runtime.us-east-1.amazonaws.com\n"
      .. "x-amz-date:20150830T123600Z\n\ncontent-type;host;x-amz-date\n" .. openssl("", "{}")
    local text = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/bedrock/aws4_request\n"
      .. openssl("", canonical)
    local key = ("AWS4" .. KEYS.secret_access_key):gsub(".", function(c)
      return ("%02x"):format(c:byte())
    end)
    for _, step in ipairs({ "20150830", "us-east-1", "bedrock", "aws4_request", text }) do
      key = openssl("-mac HMAC -macopt hexkey:" .. key, step)
    end
    assert.are.equal(key, select(2, sign({ method = "POST", path = wire, body = "{}",
      host = "bedrock-runtime.us-east-1.amazonaws.com", service = "bedrock",
      headers = { ["content-type"] = "application/json" } })))
  end)

  it("encodes every byte but letters, digits and four signs", function()
    assert.are.equal("aZ0-._~%3A%2F%20%25%C3%BC", sigv4.encode("aZ0-._~:/ %ü"))
  end)
end)
