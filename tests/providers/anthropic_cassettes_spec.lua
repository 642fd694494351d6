-- Every recorded answer of the API (see BEAMLENS_CASES), served from loopback whole and in pieces.

local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local clients = require("runtime.clients")
local json = require("runtime.json")
local support = require("support")

local function decide(server, stream)
  local registry = assert(clients.new({
    config = { clients = { { name = "C", provider = "anthropic",
      options = { model = "claude-haiku-4-5", base_url = server.url, stream = stream } } } },
    env = function(name)
      return name == "ANTHROPIC_API_KEY" and "k-0123456789" or nil
    end,
  }))
  return registry:decide(nil, {
    system = "s",
    tools = { { name = "wait", description = "d", schema = { type = "object" } } },
    messages = { { role = "user", text = "u" } },
  })
end

describe("the recorded answers of anthropic", function()
  local folder = (os.getenv("BEAMLENS_CASES") or "../shared/cases") .. "/cassettes"

  local function read(name)
    local file = io.open(folder .. "/" .. name, "rb")
    local text = file and file:read("*a")
    if file then
      file:close()
    end
    return text
  end

  local DROPPED = { ["content-encoding"] = true, ["transfer-encoding"] = true,
    ["content-length"] = true }

  local function reply_of(row, body, chunk_bytes)
    local headers = {}
    for name, value in pairs(row.headers) do
      headers[name] = not DROPPED[name] and value or nil
    end
    if not headers["content-type"] then
      headers["content-type"] = row.file:find("%.sse$") and "" or "application/json"
    end
    return { status = row.status, headers = headers, body = body, chunk_bytes = chunk_bytes }
  end

  local function check_usage(expected, usage)
    assert.are.equal(expected.input_tokens, usage.input)
    assert.are.equal(expected.output_tokens, usage.output)
    assert.are.equal(expected.cache_read_input_tokens, usage.cache_read)
    assert.are.equal(expected.cache_creation_input_tokens, usage.cache_write)
  end

  local function check_answer(expect, result, kind, detail)
    if #expect.tools == 1 and expect.stop == "tool_use" then
      local tool = expect.tools[1]
      assert.are.equal(tool.name, result.tool)
      assert.are.same(tool.args, result.args)
      assert.are.equal(tool.id, result.id)
      assert.are.equal(expect.model, result.model)
    elseif #expect.tools > 1 then
      assert.are.equal("bad_tool_call", kind)
    else
      assert.are.equal(expect.stop == "max_tokens" and "truncated" or "no_tool_call", kind)
    end
    local answer = result or detail
    check_usage(expect.usage, answer.usage)
    if expect.text ~= json.null then
      assert.are.equal(expect.text, answer.text:sub(1, #expect.text))
    end
  end

  local function check(row, result, kind, detail)
    local expect = row.expect
    if not expect.error then
      check_answer(expect, result, kind, detail)
      return
    end
    assert.is_nil(result)
    assert.are.equal(expect.error == "truncated_tool_call" and "truncated" or expect.error, kind)
    assert.are.equal(expect.retry:find("^yes") ~= nil, detail.retryable)
    local seconds = (expect.delay or ""):match("^(%d+) s from retry%-after")
    assert.are.equal(seconds and seconds * 1000, detail.retry_after_ms)
  end

  local index = read("index.jsonl")
  if not index then
    pending("are read as they were meant", "no cassettes in " .. folder)
    return
  end

  for line in index:gmatch("[^\n]+") do
    local row = json.decode(line)
    if row.provider == "anthropic" then
      for _, chunk_bytes in ipairs({ 0, 1, 7 }) do
        local how = chunk_bytes > 0 and ("in pieces of %d bytes"):format(chunk_bytes) or "whole"
        it(("are read as they were meant: %s %s"):format(row.file, how), support.async(function()
          local reply = reply_of(row, read(row.file), chunk_bytes > 0 and chunk_bytes or nil)
          local server = anthropic_server.start({ replies = { reply } })
          local ok, result, _, kind, detail = async.pcall(decide, server,
            row.file:find("%.sse$") ~= nil)
          server:stop()
          assert(ok, result)
          check(row, result, kind, detail)
        end))
      end
    end
  end
end)
