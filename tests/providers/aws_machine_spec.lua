local async = require("runtime.async")
local aws_bedrock = require("runtime.providers.aws_bedrock")
local aws_machine = require("runtime.providers.aws_machine")
local clouds = require("support.clouds")
local json = require("runtime.json")
local support = require("support")

-- 2026-11-26T04:00:00Z
local WALL_MS = 1795665600000

local function keys(id, expiration)
  return { body = json.encode({ AccessKeyId = id, SecretAccessKey = "machine-secret",
    Token = "machine-token", Expiration = expiration }) }
end

local function machine_of(values)
  return aws_machine.new(function(name)
    return values[name]
  end)
end

-- An instance's metadata server; its keys are those of `replies`, one after the other.
local function with_instance(replies, body)
  local turn = 0
  return clouds.with_server({
    on_request = function(request)
      if request.path == "/latest/api/token" then
        return request.method == "PUT" and { body = "session-1" } or nil
      elseif request.headers["x-aws-ec2-metadata-token"] ~= "session-1" then
        return { status = 401, body = "" }
      elseif request.path == "/latest/meta-data/iam/security-credentials/" then
        return { body = "watcher-role\n" }
      end
      assert.are.equal("/latest/meta-data/iam/security-credentials/watcher-role", request.path)
      turn = turn + 1
      return replies[turn]
    end,
  }, function(server)
    body(machine_of({ AWS_EC2_METADATA_SERVICE_ENDPOINT = server.url .. "/" }), server, function()
      return turn
    end)
  end)
end

describe("the credentials of a machine", function()
  it("are those of its role", with_instance({
    keys("ASIAONE", "2026-11-26T05:00:00Z"), keys("ASIATWO"), keys("ASIATHREE"),
  }, function(machine, server, count)
    local found = assert(machine:get(5000, WALL_MS))
    assert.are.same({ access_key_id = "ASIAONE", secret_access_key = "machine-secret",
      session_token = "machine-token" }, found)
    assert.are.equal("21600", server.requests[1].headers["x-aws-ec2-metadata-token-ttl-seconds"])
    -- Kept until five minutes before they expire.
    assert.are.equal("ASIAONE", machine:get(5000, WALL_MS + 3300000 - 1).access_key_id)
    assert.are.equal(1, count())
    found = machine:get(5000, WALL_MS + 3300000)
    assert.are.equal("ASIATWO", found.access_key_id)
    assert.is_true(machine:drop(found))
    assert.is_false(machine:drop(found))
    assert.are.equal("ASIATHREE", machine:get(5000, WALL_MS).access_key_id)
  end))

  it("are fetched once for all who wait", with_instance({
    keys("ASIAONE"), keys("ASIATWO"),
  }, function(machine, _, count)
    local got = {}
    for i = 1, 5 do
      async.spawn(function()
        got[i] = machine:get(5000, WALL_MS).access_key_id
      end)
    end
    support.wait_until(function()
      return #got == 5
    end)
    assert.are.equal("ASIAONE", got[1])
    assert.are.equal("ASIAONE", got[5])
    assert.are.equal(1, count())
  end))

  it("are those of a container, asked for with its token", clouds.with_server({
    replies = { keys("ASIABOX"), keys("ASIABOX") },
  }, function(server)
    local values = { AWS_CONTAINER_CREDENTIALS_FULL_URI = server.url .. "/v1/credentials",
      AWS_CONTAINER_AUTHORIZATION_TOKEN = "Basic abc" }
    assert.are.equal("ASIABOX", machine_of(values):get(5000, WALL_MS).access_key_id)
    assert.are.equal("/v1/credentials", server.requests[1].path)
    assert.are.equal("Basic abc", server.requests[1].headers.authorization)
    local path = support.write_file(support.tmp_path("container-token"), "from-file\n")
    values.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE = path
    assert(machine_of(values):get(5000, WALL_MS))
    os.remove(path)
    assert.are.equal("from-file", server.requests[2].headers.authorization)
  end))

  it("are not asked for in the clear from afar, nor against orders", support.async(function()
    for _, url in ipairs({ "http://example.com/", "http://127.0.0.1.example.com/", "file:///x" }) do
      local _, failure = machine_of({ AWS_CONTAINER_CREDENTIALS_FULL_URI = url }):get(5000, WALL_MS)
      assert.are.equal("auth", failure.kind)
      assert.is_truthy(failure.message:find("neither https nor on this machine", 1, true))
    end
    local _, failure = machine_of({ AWS_EC2_METADATA_DISABLED = "true" }):get(5000, WALL_MS)
    assert.are.equal("auth", failure.kind)
  end))

  it("can be missing, broken or late", clouds.with_server({
    replies = { { status = 404, body = "" }, { body = "[]" }, { status = 500, body = "" },
      { hang = true } },
  }, function(server)
    local machine = machine_of({ AWS_CONTAINER_CREDENTIALS_FULL_URI = server.url .. "/" })
    for _, kind in ipairs({ "auth", "parse", "server" }) do
      local _, failure = machine:get(5000, WALL_MS)
      assert.are.equal(kind, failure.kind)
    end
    local _, failure = machine:get(30, WALL_MS)
    assert.are.equal("timeout", failure.kind)
  end))
end)

describe("aws-bedrock on a machine with a role", function()
  local EXPIRED = { status = 403, body = '{"message":"expired: machine-token"}',
    headers = { ["x-amzn-errortype"] = "ExpiredTokenException" } }

  local function registry_of(server)
    return clouds.registry("aws-bedrock", { model = "m", stream = false, base_url = server.url }, {
      AWS_REGION = "us-east-1",
      AWS_SHARED_CREDENTIALS_FILE = "build/tmp/none",
      AWS_CONTAINER_CREDENTIALS_FULL_URI = server.url .. "/keys",
    })
  end

  local function with_cloud(replies, body)
    local asked, calls = 0, 0
    return clouds.with_server({
      on_request = function(request)
        if request.path == "/keys" then
          asked = asked + 1
          return keys("ASIA" .. asked)
        end
        calls = calls + 1
        return replies[calls]
      end,
    }, function(server)
      body(server, function()
        return asked, calls
      end)
    end)
  end

  it("uses it, and asks for new keys once when they are refused", with_cloud({
    EXPIRED, clouds.bedrock_reply("wait", { ms = 1 }),
  }, function(server, counts)
    local registry = registry_of(server)
    assert.are.equal("set", registry:list()[1].key)
    assert.are.equal("wait", assert(registry:decide(nil, clouds.request())).tool)
    assert.are.same({ 2, 2 }, { counts() })
    local sent = server.requests[4]
    assert.is_truthy(sent.headers.authorization:find("Credential=ASIA2/", 1, true))
    assert.are.equal("machine-token", sent.headers["x-amz-security-token"])
  end))

  it("gives up after the second refusal, without showing keys", with_cloud({
    EXPIRED, EXPIRED,
  }, function(server, counts)
    local _, err, kind = registry_of(server):decide(nil, clouds.request())
    assert.are.equal("auth", kind)
    assert.are.equal("expired: [key]", err)
    assert.are.same({ 2, 2 }, { counts() })
  end))

  it("says where it has looked when there is none", support.async(function()
    local provider = aws_bedrock.new({ model = "m", base_url = "http://127.0.0.1:1", stream = false,
      max_tokens = 1 }, function(name)
      return ({ AWS_SHARED_CREDENTIALS_FILE = "build/tmp/none",
        AWS_EC2_METADATA_SERVICE_ENDPOINT = "http://127.0.0.1:1" })[name]
    end)
    local _, failure = provider:decide(clouds.request(), 5000, WALL_MS)
    assert.are.equal("auth", failure.kind)
    assert.is_false(failure.retryable)
    assert.is_truthy(failure.message:find("AWS_ACCESS_KEY_ID", 1, true))
    assert.is_truthy(failure.message:find("this machine", 1, true))
  end))
end)
