-- Every recorded request to Google's and Amazon's models (see BEAMLENS_CASES), asked anew by us: it
-- has the shape of the one that the provider took.

local cassettes = require("support.cassettes")
local support = require("support")

local FOLDER = (os.getenv("BEAMLENS_CASES") or "../shared/cases") .. "/cassettes"

-- A recorded body of Google's as a normalised request.
local READ = {}

local function google_message(content)
  local message = { role = content.role == "model" and "assistant" or "user" }
  for _, part in ipairs(content.parts) do
    if part.functionCall then
      message.call = { name = part.functionCall.name, args = part.functionCall.args,
        origin = { model = "gemini-2.5-flash", signature = part.thoughtSignature } }
    elseif part.functionResponse then
      message = { role = "tool", name = part.functionResponse.name, text = "result" }
    else
      message.text = part.text
    end
  end
  return message
end

function READ.gemini(body)
  local request = { tools = {}, messages = {},
    system = body.systemInstruction and body.systemInstruction.parts[1].text or "s" }
  for i, content in ipairs(body.contents) do
    request.messages[i] = google_message(content)
  end
  for i, tool in ipairs(body.tools and body.tools[1].functionDeclarations or {}) do
    request.tools[i] = { name = tool.name, description = tool.description,
      schema = tool.parameters or tool.parametersJsonSchema or tool.parameters_json_schema }
  end
  local config = (body.toolConfig or {}).functionCallingConfig or {}
  request.force = (config.allowedFunctionNames or {})[1]
  return request
end

READ.vertex = READ.gemini

function READ.bedrock(body)
  local request = { tools = {}, messages = {}, system = "s" }
  for _, block in ipairs(body.system or {}) do
    request.system = block.text or request.system
  end
  for i, message in ipairs(body.messages) do
    request.messages[i] = { role = message.role, text = message.content[1].text }
  end
  local config = body.toolConfig or {}
  for _, tool in ipairs(config.tools or {}) do
    local spec = tool.toolSpec
    table.insert(request.tools, spec and { name = spec.name, description = spec.description,
      schema = spec.inputSchema.json })
  end
  local choice = config.toolChoice or {}
  request.force = choice.tool and choice.tool.name
  return request
end

local function take_paths(value, path, paths)
  if type(value) ~= "table" or next(value) == nil then
    paths[path] = true
    return paths
  end
  for key, item in pairs(value) do
    local below = path .. (type(key) == "number" and "[]" or "." .. key)
    -- Schemas and arguments are the tools' own.
    local is_own = key == "parameters" or key == "parametersJsonSchema" or key == "inputSchema"
      or key == "parameters_json_schema" or key == "args" or key == "response"
    take_paths(not is_own and item or nil, below, paths)
  end
  return paths
end

-- What every one of our requests holds, whether or not a recorded one did.
local OURS = {
  gemini = { ".toolConfig.functionCallingConfig.mode", ".systemInstruction.parts[].text",
    ".generationConfig.maxOutputTokens", ".tools[].functionDeclarations",
    ".tools[].functionDeclarations[].parametersJsonSchema" },
  bedrock = { ".system[].text", ".system[].cachePoint.type", ".inferenceConfig.maxTokens",
    ".toolConfig.tools", ".toolConfig.toolChoice.any" },
}
OURS.vertex = OURS.gemini

local function compare_google(recorded, sent)
  assert.are.equal("ANY", sent.toolConfig.functionCallingConfig.mode)
  local allowed = ((recorded.toolConfig or {}).functionCallingConfig or {}).allowedFunctionNames
  assert.are.equal(allowed and allowed[1],
    (sent.toolConfig.functionCallingConfig.allowedFunctionNames or {})[1])
  assert.are.equal(#recorded.contents, #sent.contents)
  for i, content in ipairs(recorded.contents) do
    assert.are.equal(content.role, sent.contents[i].role)
    for j, part in ipairs(content.parts) do
      local ours = sent.contents[i].parts[j]
      assert.are.equal(part.text, ours.text)
      assert.are.same(part.functionCall, ours.functionCall)
      assert.are.equal(part.thoughtSignature, ours.thoughtSignature)
      assert.are.equal((part.functionResponse or {}).name, (ours.functionResponse or {}).name)
    end
  end
  local wanted = recorded.tools and recorded.tools[1].functionDeclarations or {}
  for i, tool in ipairs(wanted) do
    local ours = sent.tools[1].functionDeclarations[i]
    assert.are.equal(tool.name, ours.name)
    assert.are.equal(tool.description, ours.description)
    assert.are.same(tool.parametersJsonSchema or tool.parameters or tool.parameters_json_schema,
      ours.parametersJsonSchema)
  end
end

local function compare_bedrock(recorded, sent)
  assert.are.same(recorded.messages, sent.messages)
  local config = recorded.toolConfig or {}
  if config.toolChoice and not config.toolChoice.auto then
    assert.are.same(config.toolChoice, sent.toolConfig.toolChoice)
  end
  for i, tool in ipairs(config.tools or {}) do
    if tool.toolSpec then
      tool.toolSpec.strict = nil
      assert.are.same(tool.toolSpec, sent.toolConfig.tools[i].toolSpec)
    end
  end
end

local COMPARE = { gemini = compare_google, vertex = compare_google, bedrock = compare_bedrock }

local function check_request(row)
  local recorded = row.request_body
  local _, _, _, _, requests = cassettes.ask(row, READ[row.provider](recorded))
  local sent = assert(requests[1].body)
  COMPARE[row.provider](recorded, sent)
  local known = take_paths(recorded, "", {})
  for _, path in ipairs(OURS[row.provider]) do
    known[path] = true
  end
  for path in pairs(take_paths(sent, "", {})) do
    assert(known[path], "the recorded request has no " .. path)
  end
end

local SKIPPED = {
  -- The recorded request is the mistake.
  ["vertex-error-400-role.json"] = true,
  -- Blocks for a guardrail, which we do not send.
  ["bedrock-guardrail.eventstream"] = true,
}

describe("the requests to clouds", function()
  local rows = cassettes.rows(FOLDER)
  if not rows then
    pending("have the shape of the recorded ones", "no cassettes in " .. FOLDER)
    return
  end
  for _, row in ipairs(rows) do
    if READ[row.provider] and row.request_body and not SKIPPED[row.file] then
      it("have the shape of the recorded one: " .. row.file, support.async(function()
        check_request(row)
      end))
    end
  end
end)
