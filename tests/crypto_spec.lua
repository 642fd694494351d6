local crypto = require("host.crypto")
local support = require("support")

local SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read("*a")
  pipe:close()
  return text
end

local function hex(bytes)
  return (bytes:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end))
end

-- HMAC-SHA-256 by the openssl program; key and result in hexadecimal digits.
local function openssl_hmac(key, text)
  local path = support.write_file(support.tmp_path("hmac"), text)
  local out = run(("openssl dgst -sha256 -mac HMAC -macopt hexkey:%s %s"):format(key, path))
  os.remove(path)
  return assert(out:match("= (%x+)"), out)
end

describe("crypto", function()
  it("knows the published digests", function()
    assert.are.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      crypto.sha256(""))
    assert.are.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      crypto.sha256("abc"))
    -- RFC 4231, cases 1, 2 and 6.
    assert.are.equal("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
      crypto.hmac_sha256(("\11"):rep(20), "Hi There"))
    assert.are.equal("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      crypto.hmac_sha256("Jefe", "what do ya want for nothing?"))
    assert.are.equal("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
      crypto.hmac_sha256(("\170"):rep(131),
        "Test Using Larger Than Block-Size Key - Hash Key First"))
  end)

  it("signs as AWS's documentation and its test suite do", function()
    assert.are.equal("5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
      crypto.sigv4(SECRET, "20150830", "us-east-1", "iam",
        "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n"
        .. "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"))
    assert.are.equal("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
      crypto.sigv4(SECRET, "20150830", "us-east-1", "service",
        "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/service/aws4_request\n"
        .. "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63"))
  end)

  it("derives the same key as openssl step by step", function()
    local key = hex("AWS4" .. SECRET)
    for _, text in ipairs({ "20261126", "eu-central-1", "bedrock", "aws4_request" }) do
      key = openssl_hmac(key, text)
    end
    local text = "AWS4-HMAC-SHA256\nany\ntext"
    assert.are.equal(openssl_hmac(key, text),
      crypto.sigv4(SECRET, "20261126", "eu-central-1", "bedrock", text))
  end)

  it("refuses a secret that is too long, and what is no text", function()
    assert.has_error(function()
      crypto.sigv4(("x"):rep(253), "d", "r", "s", "t")
    end)
    assert.has_error(function()
      crypto.sigv4("x", "d", "r", nil, "t")
    end)
    assert.are.equal(64, #crypto.sigv4(("x"):rep(252), "d", "r", "s", "t"))
  end)

  it("signs with RSA so that openssl verifies it, with both kinds of PEM", function()
    local pem, pub = support.tmp_path("rsa.pem"), support.tmp_path("rsa.pub")
    local text_path, signature_path = support.tmp_path("rsa.txt"), support.tmp_path("rsa.sig")
    local text = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0"
    for _, traditional in ipairs({ "", "-traditional" }) do
      run(("openssl genrsa %s -out %s 2048"):format(traditional, pem))
      run(("openssl rsa -in %s -pubout -out %s"):format(pem, pub))
      local key = assert(io.open(pem)):read("*a")
      assert.are.equal(traditional ~= "", key:find("BEGIN RSA PRIVATE KEY", 1, true) ~= nil)
      support.write_file(text_path, text)
      support.write_file(signature_path, assert(crypto.rs256(key, text)))
      local verify = ("openssl dgst -sha256 -verify %s -signature %s %s")
        :format(pub, signature_path, text_path)
      assert.are.equal("Verified OK\n", run(verify))
      support.write_file(text_path, text .. "x")
      assert.are_not.equal("Verified OK\n", run(verify))
    end
    for _, path in ipairs({ pem, pub, text_path, signature_path }) do
      os.remove(path)
    end
  end)

  it("refuses what is no RSA key, and never asks for a passphrase", function()
    local ec = run("openssl ecparam -name prime256v1 -genkey -noout")
    local locked = run("openssl genrsa -aes128 -passout pass:geheim 2048")
    assert.is_truthy(ec:find("BEGIN EC PRIVATE KEY", 1, true))
    assert.is_truthy(locked:find("ENCRYPTED", 1, true))
    for _, key in ipairs({ "", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n", ec, locked }) do
      local signature, err, code = crypto.rs256(key, "text")
      assert.is_nil(signature)
      assert.are.equal("EKEY", code)
      assert.is_nil(err:find(#key > 8 and key:sub(1, 40) or "geheim", 1, true))
    end
  end)

  it("writes base64 for URLs", function()
    for text, expected in pairs({ [""] = "", f = "Zg", fo = "Zm8", foo = "Zm9v", foob = "Zm9vYg",
      ["\255\239\254"] = "_-_-" }) do
      assert.are.equal(expected, crypto.base64url(text))
    end
  end)
end)
