local async = require("runtime.async")
local json = require("runtime.json")
local redact = require("runtime.redact")

-- Made here, so that no file of the project looks as if it held a key.
local function made(prefix, count)
  return prefix .. ("a1B2c3D4e5"):rep(10):sub(1, count)
end

local AWS_KEY = "AKIA" .. "IOSFODNN7EXAMPLE"
local JWT = "eyJ" .. "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
local PEM = "-----BEGIN " .. "RSA PRIVATE KEY-----\n" .. made("", 64) .. "\n" .. made("", 20)
  .. "\n-----END " .. "RSA PRIVATE KEY-----"

-- What is in it, and what stays of it.
local SECRETS = {
  { "mail alice.b+x@mail.example.com.", "mail [redacted:email]." },
  { "ecto://shop:p@ss:w0rd@db1:5432/shop", "ecto://shop:[redacted:password]@db1:5432/shop" },
  { "https://" .. made("", 30) .. "@host/x", "https://[redacted:token]@host/x" },
  { "x " .. PEM .. " y", "x [redacted:pem] y" },
  { PEM:sub(1, 80), "[redacted:pem]" },
  { "key " .. AWS_KEY .. ".", "key [redacted:key]." },
  { JWT, "[redacted:token]" },
  { made("sk-ant-api03-", 40), "[redacted:key]" },
  { made("sk_live_", 24), "[redacted:key]" },
  { made("ghp_", 36) .. " " .. made("github_pat_", 36), "[redacted:key] [redacted:key]" },
  { made("xoxb-", 20) .. "," .. made("glpat-", 20), "[redacted:key],[redacted:key]" },
  { made("AIza", 35), "[redacted:key]" },
  { "Authorization: Bearer " .. made("", 20), "Authorization: Bearer [redacted:token]" },
  { '"authorization":"Basic dXNlcjpwYXNz"', '"authorization":"[redacted:token]"' },
  { "x-api-key: " .. made("", 20), "x-api-key: [redacted:secret]" },
  { "DB_PASSWORD=s3cret rest", "DB_PASSWORD=[redacted:secret] rest" },
  { "host=db1;password=hunter;port=1", "host=db1;password=[redacted:secret];port=1" },
  { "?access_token=" .. made("", 20) .. "&page=2", "?access_token=[redacted:secret]&page=2" },
  { '{"password":"hun\\"ter2","size":3}', '{"password":"[redacted:secret]","size":3}' },
  { '{\\"password\\":\\"hunter2\\",\\"a\\":1}',
    '{\\"password\\":\\"[redacted:secret]\\",\\"a\\":1}' },
  { "[password: \"hunter2\", size: 3]", "[password: \"[redacted:secret]\", size: 3]" },
  { "#{password => <<\"hunter2\">>}", "#{password => <<\"[redacted:secret]\">>}" },
  { "{password,\"hunter2\"}", "{password,\"[redacted:secret]\"}" },
  { '["secret","hunter2"]', '["secret","[redacted:secret]"]' },
  { "userPassword: 'x'", "userPassword: '[redacted:secret]'" },
  { "token: \"" .. made("SFMyNTY.", 20) .. "\"", "token: \"[redacted:secret]\"" },
  { "secret=" .. ("0f"):rep(32), "secret=[redacted:secret]" },
  { "erl -setcookie MONSTER -name x", "erl -setcookie [redacted:secret] -name x" },
  { '{"log":"\\nalice@example.com\\n' .. AWS_KEY .. '"}',
    '{"log":"\\n[redacted:email]\\n[redacted:key]"}' },
}

local HARMLESS = {
  "shop@db1", "'shop@db1'", "shop@10.0.0.7", "shop@db1.internal", "shop@shop.svc.cluster.local",
  "<0.123.0>", "#Ref<0.1.2.3>", "#Port<0.6>", "Mod.fun/1", "MyApp.Password.verify/2",
  "password:hash/2", "token:verify/3", "secret:get/1", "gen_server:loop/7", "&Shop.Auth.token/1",
  "-handle_call/3-fun-0-", "_@1", "ecto@3.10.1", "logo@2x.png",
  '{"token_count":123456789012345678,"tokens":39818,"password_resets":12,"secret":3}',
  '{"name":"secret","size":3,"type":"set"}', '["password","name","token"]',
  '{"token":null,"password":null}', "password: nil, token: nil",
  "password: required, the user's own", "sk-learn-classifier-worker", "basic authentication",
  "bearer of news", '{"id":"00000000000000aa","at":"2026-11-23T20:49:45.000Z"}',
  "orders_worker <0.512.0>: mailbox 39 818, +18 900/s for 40 s, in timer:sleep/1",
  "http://db1:8080/a/b?x=y", "Elixir.Shop.TokenServer", "session_id", "auth: Shop.Auth.Server1",
  "a hash of sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}

describe("redaction", function()
  it("takes out keys, tokens, passwords and addresses, and nothing around them", function()
    for _, case in ipairs(SECRETS) do
      assert.are.equal(case[2], redact.text(case[1]))
    end
  end)

  -- What holds none of the words that secrets stand beside, is not looked at closely.
  it("overlooks nothing in a text that it need not look at closely", function()
    local texts = {}
    for _, case in ipairs(SECRETS) do
      texts[#texts + 1] = case[1]
    end
    for _, text in ipairs(HARMLESS) do
      texts[#texts + 1] = text
    end
    for name in ([[password-hash password-digest password passwd pwd passphrase secret-access-key
      secret-key-base secret-key secret api-key apikey access-key-secret access-key access-token
      auth-token refresh-token id-token bearer-token client-secret private-key encryption-key
      signing-key signing-salt session-token session-id token auth cookie session signature
      credentials credential authorization dbPassword dbSecret dbApiKey dbAccessToken
      dbAuthToken]]):gmatch("%S+") do
      for _, joint in ipairs({ "-", "_", "", "." }) do
        local key = name:gsub("-", joint)
        texts[#texts + 1] = ("%s=%s"):format(key, made("", 20))
        texts[#texts + 1] = ('%s: "%s"'):format(key:upper(), made("", 20))
        texts[#texts + 1] = ('{%s,"%s"}'):format(key, made("", 20))
      end
    end
    for prefix in ([[sk- sk_live_ sk_test_ rk_live_ ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat-
      xoxa- xoxb- xoxe- xoxp- xoxr- xoxs- xapp- AIza ya29. hf_ npm_ SG. shpat_ dop_v1_
      pypi-]]):gmatch("%S+") do
      texts[#texts + 1] = made(prefix, 40)
      assert.are.equal("[redacted:key]", redact.text(made(prefix, 40)))
    end
    for _, kind in ipairs({ "AKIA", "ASIA", "ABIA", "ACCA" }) do
      texts[#texts + 1] = kind .. AWS_KEY:sub(5)
      assert.are.equal("[redacted:key]", redact.text(kind .. AWS_KEY:sub(5)))
    end
    for _, scheme in ipairs({ "Basic ", "BEARER " }) do
      texts[#texts + 1] = scheme .. made("", 20)
      assert.are.equal(scheme .. "[redacted:token]", redact.text(scheme .. made("", 20)))
    end
    for _, text in ipairs(texts) do
      -- The first line has it looked at closely.
      assert.are.equal("token\n" .. redact.text(text), redact.text("token\n" .. text))
    end
  end)

  it("leaves figures, pids, nodes, modules, functions and prose as they are", function()
    for _, text in ipairs(HARMLESS) do
      assert.are.equal(text, redact.text(text))
    end
  end)

  it("knows the watched node by its long name, its peers, and who lives on its host", function()
    local opts = { node = "shop@db1.example.com" }
    for _, name in ipairs({ "shop@db1.example.com", "shop@db2.example.com",
      "rabbit@db1.example.com" }) do
      assert.are.equal(name, redact.text(name, opts))
      assert.are.equal("[redacted:email]", redact.text(name))
    end
    assert.are.equal("[redacted:email]", redact.text("alice@example.com", opts))
  end)

  it("changes nothing the second time, and JSON stays JSON", function()
    local all = {}
    for i, case in ipairs(SECRETS) do
      local once = redact.text(case[1])
      assert.are.equal(once, redact.text(once))
      all[i] = case[1]
    end
    local text = redact.text((json.encode({ all = all, nested = json.encode(all) })))
    assert.are.equal(text, redact.text(text))
    local value = assert(json.decode(text))
    for i, case in ipairs(SECRETS) do
      assert.are_not.equal(case[1], value.all[i])
    end
    assert.are.equal(#all, #assert(json.decode(value.nested)))
  end)

  it("leaves the prompt and the docs of every domain as they are", function()
    for _, path in ipairs({ "prompts/watcher.lua", "domains/beam.lua", "domains/ets.lua",
      "domains/gc.lua", "domains/ports.lua", "domains/sup.lua", "domains/postgres.lua" }) do
      local file = assert(io.open(path))
      local text = file:read("*a")
      file:close()
      assert.are.equal(text, redact.text(text))
    end
  end)

  -- A quadratic pattern takes minutes for these.
  it("takes a time that grows with the length, whatever the text", function()
    local started_ms = async.now_ms()
    for _, piece in ipairs({ "a.", "a@", "a@a.", "password:", "token:", "sk-", "://a:", "://a:@",
      "-----BEGIN A-----", "-----BEGIN A ", "eyJ", "\\n", "{password,", "auth ", "password=\"",
      "aPassword", "authorization:a ", "bearer a" }) do
      redact.text(piece:rep(math.floor(1048576 / #piece)))
    end
    assert.is_true(async.now_ms() - started_ms < 60000)
  end)
end)
