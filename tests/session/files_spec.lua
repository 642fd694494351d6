local session_files = require("runtime.session.files")

describe("the files of a session", function()
  it("are news when the disk says something else than before", function()
    local files = session_files.new()
    assert.is_true(files:is_news("text", "/a.lua", "1"))
    assert.is_false(files:is_news("text", "/a.lua", "1"))
    assert.is_true(files:is_news("type", "/a.lua", "file"))
    assert.is_true(files:is_news("text", "/a.lua", nil, "no such file"))
    assert.is_true(files:is_news("text", "/a.lua", "1"))
    assert.is_true(files:is_news("list", "/", {}))
  end)

  it("are asked for by kind and path, and counted since the last news", function()
    local files = session_files.new()
    assert.are.same({ "text", "/a.lua", "1" }, files:ask("text", "/a.lua"))
    assert.are.same({ "text", "/a.lua", "2" }, files:ask("text", "/a.lua"))
    assert.are.same({ "type", "/a.lua", "1" }, files:ask("type", "/a.lua"))
    files:set("text", "/a.lua", "x")
    assert.are.equal("x", files:get("text", "/a.lua"))
    assert.are.same({ "text", "/a.lua", "1" }, files:ask("text", "/a.lua"))
    assert.matches("^#%x+$", files:ask("text", "/\255.lua")[2])
  end)

  it("show no secret that is written in them, and are Lua all the same", function()
    local files = session_files.new()
    local text = [[
      local limit = "api_key = none"
      return { { name = "Main", options = { model = "m", api_key = "first-value",
        headers = { ["X-Team"] = 'second-value', plain = "third-value" } } },
        { secret_access_key='fourth-value', session_token = env("TOKEN"),
          note = "use sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789-ABCDEFG for it" } }
    ]]
    local shown = files:without_secrets(text)
    for _, secret in ipairs({ "first%-value", "second%-value", "third%-value", "fourth%-value",
      "sk%-ant%-api03" }) do
      assert.is_nil(shown:find(secret), secret)
    end
    assert.is_truthy(shown:find('session_token = env("TOKEN")', 1, true))
    assert.is_truthy(shown:find('model = "m"', 1, true))
    assert.is_function(loadstring(shown))
  end)

  it("are others when only a secret changed", function()
    local files = session_files.new()
    local function shown(key)
      return files:without_secrets(("return { api_key = %q }"):format(key))
    end
    local first = shown("one-value")
    assert.are_not.equal(first, shown("other-value"))
    assert.are.equal(first, shown("one-value"))
  end)

  it("that have no secret are shown as they are", function()
    local text = [[
      return { domain = "beam", node = "shop@db1", key = "queue", token_limit = 5,
        instructions = "Imports run at 02:00; the password cache grows then." }
    ]]
    assert.are.equal(text, (session_files.new():without_secrets(text)))
  end)
end)
