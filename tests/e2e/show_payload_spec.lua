local anthropic_server = require("support.anthropic_server")
local json = require("runtime.json")
local node = require("support.node")
local support = require("support")
local watch = require("support.watch")

local KEY = "sk-" .. "ant-spec-0123456789abcdef"

describe("run --show-payload", function()
  it("prints what each client of a fallback would be sent, hides keys, and sends nothing",
    support.async(function()
      local n = node.start({ name = "payload1" })
      local server = anthropic_server.start({})
      support.on_cleanup(function()
        server:stop()
      end)
      local path = support.write_file(support.tmp_path("payload-clients.lua"), ([[return {
        primary = "Main",
        clients = {
          { name = "Far", provider = "anthropic", options = { model = "m1", base_url = %q,
            headers = { ["x-team"] = "team-secret-1" } } },
          { name = "Near", provider = "openai-generic", options = { model = "m2", base_url = %q,
            api_key = "local-secret-1", extra = { user = "local-secret-1" } } },
          { name = "Main", provider = "fallback",
            options = { strategy = { "Far", "Near", "rules" } } },
        },
      }]]):format(server.url, server.url .. "/v1"))
      support.on_cleanup(function()
        os.remove(path)
      end)
      local b = watch.start({ node = n, args = { "--show-payload", "--clients", path },
        watchers = { 'name = "beam", domain = "beam", '
          .. 'instructions = "Mail alice@example.com, password=hunter2"' },
        env = { "ANTHROPIC_API_KEY=" .. KEY } })
      assert.are.equal(0, b:wait_exit(20000), b:stderr())
      assert.are.equal(3, #b.lines)
      local far, near, rules = json.decode(b.lines[1]), json.decode(b.lines[2]),
        json.decode(b.lines[3])
      assert.are.equal("Far", far.client)
      assert.are.equal("beam", far.watcher)
      assert.are.equal(n.name, far.node)
      assert.are.equal(server.url .. "/v1/messages", far.url)
      assert.are.equal("[hidden]", far.headers["x-api-key"])
      assert.are.equal("[hidden]", far.headers["x-team"])
      assert.is_truthy(far.body.system[1].text:find(
        "Mail [redacted:email], password=[redacted:secret]", 1, true))
      assert.matches("^Cycle 1 of watcher beam on node", far.body.messages[1].content[1].text)
      assert.are.equal("any", far.body.tool_choice.type)
      assert.are.equal(server.url .. "/v1/chat/completions", near.url)
      assert.are.equal("[hidden]", near.body.user)
      assert.matches("nothing leaves", rules.note)
      for _, secret in ipairs({ KEY, "team-secret-1", "local-secret-1", "hunter2", "alice@",
        n.cookie }) do
        assert.is_nil((b:stdout() .. b:stderr()):find(secret, 1, true))
      end
      assert.are.equal(0, #server.requests)
      assert.are.equal(0, server.connections)
    end, 40))

  it("says which key is missing, and ends with 1 when no node answers", support.async(function()
    local n = node.start({ name = "payload2" })
    local path = support.write_file(support.tmp_path("payload-keyless.lua"), [[return {
      primary = "Far",
      clients = { { name = "Far", provider = "anthropic", options = { model = "m1" } } },
    }]])
    support.on_cleanup(function()
      os.remove(path)
    end)
    local b = watch.start({ node = n, args = { "--show-payload", "--clients", path } })
    assert.are.equal(0, b:wait_exit(20000), b:stderr())
    assert.matches("ANTHROPIC_API_KEY is not set", json.decode(b.lines[1]).error)

    n:stop()
    local down = watch.start({ node = n, args = { "--show-payload", "--clients", path, "--for",
      "1s" } })
    assert.are.equal(1, down:wait_exit(20000))
    assert.are.equal("", down:stdout())
    assert.matches("nothing to show", down:stderr())
  end, 60))
end)
