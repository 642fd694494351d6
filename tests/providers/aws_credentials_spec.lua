local aws_credentials = require("runtime.providers.aws_credentials")
local support = require("support")

local FILE = [[
# shared credentials
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key=default+secret/key==

[ work ]
aws_access_key_id=AKIAWORK
; aws_access_key_id = AKIAOLD
AWS_SECRET_ACCESS_KEY = work-secret
aws_session_token =  work-token
region = eu-west-1
[half]
aws_access_key_id = AKIAHALF
]]

local function env_of(values)
  return function(name)
    return values[name]
  end
end

describe("credentials for AWS", function()
  local path

  before_each(function()
    path = support.write_file(support.tmp_path("aws-credentials"), FILE:gsub("\n", "\r\n"))
  end)

  after_each(function()
    os.remove(path)
  end)

  local function find(options, values)
    values = values or {}
    values.AWS_SHARED_CREDENTIALS_FILE = values.AWS_SHARED_CREDENTIALS_FILE or path
    return aws_credentials.find(options or {}, env_of(values))
  end

  local WORK = { access_key_id = "AKIAWORK", secret_access_key = "work-secret",
    session_token = "work-token" }
  local DEFAULT = { access_key_id = "AKIADEFAULT", secret_access_key = "default+secret/key==" }

  it("come from options, and then nothing of the environment is mixed in", function()
    local env = { AWS_ACCESS_KEY_ID = "AKIAENV", AWS_SECRET_ACCESS_KEY = "s",
      AWS_SESSION_TOKEN = "t" }
    assert.are.same({ access_key_id = "A", secret_access_key = "B" },
      find({ access_key_id = "A", secret_access_key = "B" }, env))
    local keys, err = find({ access_key_id = "A" }, env)
    assert.is_nil(keys)
    assert.are.equal("options has not both an access key id and a secret access key", err)
    assert.are.same(WORK, find({ profile = "work" }, env))
  end)

  it("come from the environment, with a session token", function()
    assert.are.same({ access_key_id = "AKIAENV", secret_access_key = "s", session_token = "t" },
      find(nil, { AWS_ACCESS_KEY_ID = " AKIAENV\n", AWS_SECRET_ACCESS_KEY = "s",
        AWS_SESSION_TOKEN = "t" }))
    local keys, err = find(nil, { AWS_ACCESS_KEY_ID = "AKIAENV" })
    assert.is_nil(keys)
    assert.is_truthy(err:find("the environment", 1, true))
  end)

  it("come from the shared file by profile", function()
    assert.are.same(DEFAULT, find())
    assert.are.same(WORK, find(nil, { AWS_PROFILE = "work" }))
    assert.are.same(DEFAULT, find({ profile = "default" }, { AWS_PROFILE = "work" }))
  end)

  it("come from the home folder's file without a variable", function()
    local home = support.tmp_path("aws-home")
    os.execute(("mkdir -p %s/.aws"):format(home))
    support.write_file(home .. "/.aws/credentials", FILE)
    assert.are.same(DEFAULT, aws_credentials.find({}, env_of({ HOME = home })))
    os.execute("rm -r " .. home)
  end)

  it("are missed with a text that says where they were looked for, and holds no key", function()
    for _, case in ipairs({
      { find({ profile = "nobody" }) },
      { find({ profile = "half" }) },
      { find(nil, { AWS_SHARED_CREDENTIALS_FILE = "build/tmp/none" }) },
    }) do
      assert.is_nil(case[1])
      assert.is_string(case[2])
      assert.is_nil(case[2]:find("AKIA", 1, true))
    end
    assert.is_truthy(select(2, find({ profile = "nobody" })):find('profile "nobody"', 1, true))
    assert.is_truthy(select(2, find(nil, { AWS_SHARED_CREDENTIALS_FILE = "build/tmp/none" }))
      :find("build/tmp/none", 1, true))
  end)

  it("are refused when they cannot be a header", function()
    local keys, err = find({ access_key_id = "A", secret_access_key = "se cret" })
    assert.is_nil(keys)
    assert.are.equal("options: a key holds spaces or line breaks", err)
    assert.is_nil((find({ access_key_id = "A", secret_access_key = ("x"):rep(253) })))
  end)
end)
