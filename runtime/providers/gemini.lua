--- The wire format of Gemini models, shared by Google's two addresses for them: the requests.
--- Answers: gemini_answer.lua.
---
--- Tools are forced by the mode ANY. There is no switch against several calls at once: such an
--- answer is refused.

local json = require("runtime.json")
local shared = require("runtime.providers.shared")
local turns = require("runtime.providers.turns")

local M = {}

--- Options that both addresses have.
M.OPTIONS = {
  top_p = { type = "number", min = 0 },
  top_k = { type = "whole", min = 0 },
  generationConfig = { type = "table" },
  safetySettings = { type = "table" },
}

-- What stands for a signature where the call was made by another model: Gemini 3 refuses calls in
-- the conversation that have none.
local NO_SIGNATURE = "skip_thought_signature_validator"

local function wants_signature(model)
  local version = tonumber(model:match("gemini%-(%d+)"))
  return version ~= nil and version >= 3
end

local function call_part(call, model)
  local origin = call.origin or {}
  local is_own = origin.model == model
  local args = call.args or {}
  return {
    functionCall = {
      name = call.name,
      args = next(args) == nil and json.object({}) or args,
      id = is_own and origin.id or nil,
    },
    thoughtSignature = is_own and origin.signature
      or (wants_signature(model) and NO_SIGNATURE) or nil,
  }
end

local function response_part(message, last, model)
  local origin = last and last.origin or {}
  return {
    functionResponse = {
      name = message.name or (last and last.name),
      response = { [message.is_error and "error" or "result"] = message.text },
      id = origin.model == model and origin.id or nil,
    },
  }
end

local function contents_of(conversation, model)
  local last
  local list = turns.of(conversation, function(message)
    if message.role == "tool" then
      return { response_part(message, last, model) }
    end
    local parts = {}
    if message.text and message.text:find("%S") then
      parts[1] = { text = message.text }
    end
    if message.call then
      last = message.call
      parts[#parts + 1] = call_part(last, model)
    end
    return parts
  end)
  for i, turn in ipairs(list) do
    list[i] = { role = turn.is_model and "model" or "user", parts = turn.parts }
  end
  return list
end

local function tools_of(tools)
  local list = {}
  for i, tool in ipairs(tools) do
    list[i] = {
      name = tool.name,
      description = tool.description,
      parametersJsonSchema = tool.schema,
    }
  end
  return { { functionDeclarations = list } }
end

--- The body of a request.
---@param request table The normalised request of runtime/clients.lua.
---@param provider { options: table, model: string, tool_lists: table, system_parts: table }
---@return table
function M.body(request, provider)
  local options = provider.options
  local generation = {
    maxOutputTokens = request.max_tokens or options.max_tokens,
    temperature = options.temperature,
    topP = options.top_p,
    topK = options.top_k,
  }
  for name, value in pairs(options.generationConfig or {}) do
    generation[name] = value
  end
  local body = {
    systemInstruction = shared.system_part(provider.system_parts, request.system,
      { parts = { { text = request.system } } }),
    contents = contents_of(request.messages, provider.model),
    tools = shared.tool_list(provider.tool_lists, request.tools, tools_of),
    toolConfig = {
      functionCallingConfig = {
        mode = "ANY",
        allowedFunctionNames = request.force and { request.force } or nil,
      },
    },
    generationConfig = generation,
    safetySettings = options.safetySettings,
  }
  for name, value in pairs(options.extra or {}) do
    body[name] = value
  end
  return body
end

--- The end of the address: the model and what is asked of it.
---@param model string "gemini-2.5-flash", or a path: "tunedModels/x".
---@param stream boolean
---@return string
function M.method(model, stream)
  return model .. (stream and ":streamGenerateContent?alt=sse" or ":generateContent")
end

return M
