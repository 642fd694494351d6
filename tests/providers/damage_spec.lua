-- Recorded answers with bytes changed, lost and doubled: each is an answer or a failure, and never
-- an error, and what is taken for a call has arguments that are an object.

local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local cassettes = require("support.cassettes")
local clients = require("runtime.clients")
local support = require("support")

local ROUNDS = 12
local REQUEST = {
  system = "s",
  tools = { { name = "wait", description = "d", schema = { type = "object" } } },
  messages = { { role = "user", text = "u" } },
}
local BYTES = { "", "{", "}", "[", "]", '"', ":", ",", "\n", "\r", "null", "0", "\255", " ",
  "data: " }

local function damaged(body)
  for _ = 1, math.random(3) do
    local at, length = math.random(#body), math.random(0, 12)
    body = body:sub(1, at - 1) .. BYTES[math.random(#BYTES)] .. body:sub(at + length)
  end
  return body
end

describe("a damaged answer", function()
  for _, row in ipairs(assert(cassettes.rows("tests/providers/recordings"))) do
    it(("ends in an answer or a failure: %s"):format(row.file), support.async(function()
      math.randomseed(#row.body)
      local server = anthropic_server.start({ on_request = function()
        local reply = cassettes.reply(row, 64)
        reply.body = damaged(row.body)
        return reply
      end })
      support.on_cleanup(function()
        server:stop()
      end)
      local registry = assert(clients.new({
        config = cassettes.config(row, server.url),
        env = cassettes.env,
      }))
      for _ = 1, ROUNDS do
        local ok, result, err, kind = async.pcall(registry.decide, registry, nil, REQUEST)
        assert(ok, result)
        if result then
          assert.is_table(result.args)
          assert.is_nil(result.args[1])
        else
          assert.is_string(err)
          assert.is_string(kind)
        end
      end
    end, 60))
  end
end)
