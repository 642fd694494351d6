-- Every recorded request to Anthropic (see BEAMLENS_CASES), asked anew by us: instructions,
-- messages, tools and the choice have the form that the API took. Cache marks are left out.

local anthropic = require("runtime.providers.anthropic")
local cassettes = require("support.cassettes")
local json = require("runtime.json")

local FOLDER = (os.getenv("BEAMLENS_CASES") or "../shared/cases") .. "/cassettes"

local function blocks_of(content)
  return type(content) == "table" and content or { { type = "text", text = content } }
end

local function text_of(content)
  local pieces = {}
  for _, block in ipairs(blocks_of(content)) do
    pieces[#pieces + 1] = block.text
  end
  return table.concat(pieces)
end

-- A recorded message in our form; nil where it says more than ours can.
local function message_of(recorded)
  local blocks = blocks_of(recorded.content)
  local block = blocks[1]
  if #blocks ~= 1 then
    return nil
  elseif block.type == "text" then
    return { role = recorded.role, text = block.text }
  elseif block.type == "tool_use" then
    return { role = "assistant", call = { id = block.id, name = block.name, args = block.input } }
  elseif block.type == "tool_result" then
    return { role = "tool", id = block.tool_use_id, text = text_of(block.content) }
  end
end

local function request_of(body)
  local request = { system = body.system and text_of(body.system) or "s", messages = {},
    tools = {}, force = (body.tool_choice or {}).name }
  for i, recorded in ipairs(body.messages) do
    request.messages[i] = message_of(recorded)
    if not request.messages[i] then
      return nil
    end
  end
  for i, tool in ipairs(body.tools or {}) do
    request.tools[i] = { name = tool.name, description = tool.description,
      schema = tool.input_schema }
  end
  return request
end

-- Without the marks, texts as blocks.
local function plain(value)
  if type(value) ~= "table" then
    return value
  end
  local copy = {}
  for key, item in pairs(value) do
    if key == "content" and type(item) == "string" and value.type ~= "tool_result" then
      copy[key] = { { type = "text", text = item } }
    elseif key == "content" and value.type == "tool_result" then
      copy[key] = text_of(item)
    elseif key ~= "cache_control" and key ~= "strict" and item ~= json.null
        and not (key == "is_error" and item == false) then
      copy[key] = plain(item)
    end
  end
  return copy
end

local function check(recorded, request)
  local provider = anthropic.new({ model = recorded.model, max_tokens = recorded.max_tokens,
    stream = recorded.stream or false }, cassettes.env)
  local call = assert(provider:request(request))
  local sent = assert(json.decode(json.encode(call.body)))
  assert.are.same(plain(recorded.messages), plain(sent.messages))
  assert.are.same(plain(recorded.tools or {}), plain(sent.tools))
  if recorded.system then
    assert.are.equal(text_of(recorded.system), text_of(sent.system))
  end
  local choice = recorded.tool_choice
  if choice and choice.type ~= "auto" then
    assert.are.same({ type = choice.type, name = choice.name, disable_parallel_tool_use = true },
      sent.tool_choice)
  end
  for _, name in ipairs({ "model", "max_tokens" }) do
    assert.are.equal(recorded[name], sent[name])
  end
  assert.are.equal(recorded.stream or false, sent.stream)
end

describe("every recorded request to Anthropic", function()
  local rows = cassettes.rows(FOLDER)
  if not rows then
    pending("is like ours", "no cassettes in " .. FOLDER)
    return
  end
  for _, row in ipairs(rows) do
    local body = row.provider == "anthropic" and row.request_body
    local request = body and request_of(body)
    if request then
      it(("is like ours: %s"):format(row.file), function()
        check(body, request)
      end)
    end
  end
end)

describe("a conversation that grows", function()
  -- What a client that was asked before sends, byte for byte, is what a new one would.
  it("is sent as if each request were the first", function()
    local options = { model = "claude-haiku-4-5-20251001", max_tokens = 100, stream = true }
    local asked = anthropic.new(options, cassettes.env)
    local talk = { { role = "user", text = "opening" } }
    local function check_all()
      for cache_to = 0, #talk do
        local request = { system = "s", tools = {}, messages = talk,
          cache_to = cache_to > 0 and cache_to or nil }
        local first = assert(anthropic.new(options, cassettes.env):request(request)).body
        local again = assert(asked:request(request)).body
        assert.are.equal(json.encode(first), table.concat(json.pieces(again)))
        assert.are.equal(json.encode(first), json.encode(again))
      end
    end
    check_all()
    for i = 1, 3 do
      talk[#talk + 1] = { role = "assistant", text = i == 2 and "Hm." or nil,
        call = { id = i < 3 and "call " .. i or nil, name = "wait", args = { ms = i } } }
      talk[#talk + 1] = { role = "tool", id = i == 1 and "call 1" or nil, name = "wait",
        text = "result " .. i, is_error = i == 2 or nil }
      check_all()
    end
    talk[3].text = "shorter"
    talk[1].text = "opening\n\nremark"
    table.insert(talk, 2, { role = "user", text = "a summary" })
    table.insert(talk, 3, { role = "user", text = " " })
    check_all()
  end)
end)
