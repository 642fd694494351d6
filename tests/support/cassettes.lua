-- Recorded exchanges with models: which client reads each, how it is served, what must come out.
--
-- A folder holds index.jsonl, a row { file, provider, status, headers, request?, expect } each, and
-- the bodies. `expect` is { stop, tools = { { name, args, id? } }, text, usage, model } as the
-- provider names things, or { error, retry, delay }.

local anthropic_server = require("support.anthropic_server")
local assert = require("luassert")
local async = require("runtime.async")
local clients = require("runtime.clients")
local json = require("runtime.json")

local M = {}

local KEY = "k-0123456789"

local function generic(url)
  return "openai-generic", { base_url = url }
end

-- The provider and its options for a server at this address, by the row's provider.
local CLIENTS = {
  anthropic = function(url)
    return "anthropic", { base_url = url }
  end,
  openai = function(url)
    return "openai", { base_url = url .. "/v1" }
  end,
  azure = function(url)
    return "azure-openai", { base_url = url .. "/openai/deployments/d" }
  end,
  openrouter = function(url)
    return "openrouter", { base_url = url }
  end,
  ollama = function(url, row)
    local path = row.request and row.request.path
    if (row.expect.format or path or "/api/chat"):find("native", 1, true) or path == "/api/chat"
        or not path then
      return "ollama", { base_url = url }
    end
    return generic(url)
  end,
  groq = generic,
  together = generic,
  deepseek = generic,
  mistral = generic,
  xai = generic,
  generic = generic,
  gemini = function(url)
    return "google-ai", { base_url = url, model = "gemini-2.5-flash", api_key = KEY }
  end,
  vertex = function(url)
    return "vertex-ai", { base_url = url, model = "gemini-2.5-flash", api_key = KEY,
      project_id = "my-project", location = "us-central1" }
  end,
  bedrock = function(url)
    return "aws-bedrock", { base_url = url, model = "anthropic.claude-3-haiku-20240307-v1:0",
      region = "us-east-1", access_key_id = "AKIDEXAMPLE", secret_access_key = KEY }
  end,
}
-- What no client of ours asks a model for.
local NO_ANSWER = { ["vertex-oauth-token.json"] = true }

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read("*a")
  if file then
    file:close()
  end
  return text
end

--- The rows of a folder that a client of ours reads; nil when there is no such folder.
function M.rows(folder)
  local index = read(folder .. "/index.jsonl")
  if not index then
    return nil
  end
  local rows = {}
  for line in index:gmatch("[^\n]+") do
    local row = assert(json.decode(line))
    if CLIENTS[row.provider] and not NO_ANSWER[row.file] then
      row.body = assert(read(folder .. "/" .. row.file), row.file)
      local request_file = row.request and row.request.body_file
      row.request_body = type(request_file) == "string"
        and json.decode(read(folder .. "/" .. request_file)) or nil
      rows[#rows + 1] = row
    end
  end
  return rows
end

--- The registry with one client for a row, at this address.
function M.config(row, url)
  local provider, options = CLIENTS[row.provider](url, row)
  options.model = options.model or "claude-haiku-4-5"
  options.stream = not row.file:find("%.json$") or row.file:find("array-stream", 1, true) ~= nil
  return { clients = { { name = "C", provider = provider, options = options } } }
end

--- The environment of every client: each key is set.
function M.env(name)
  return name:find("_KEY$") and KEY or nil
end

local DROPPED = { ["content-encoding"] = true, ["transfer-encoding"] = true,
  ["content-length"] = true }
-- By the end of a file's name, where the row names no type.
local TYPES = { json = "application/json", eventstream = "application/vnd.amazon.eventstream" }

--- What the server sends: the body whole, or in pieces of these sizes.
function M.reply(row, sizes)
  local headers = {}
  for name, value in pairs(row.headers or {}) do
    headers[name] = not DROPPED[name] and value or nil
  end
  headers["content-type"] = headers["content-type"] or TYPES[row.file:match("%.(%w+)$")] or ""
  return { status = row.status, headers = headers, body = row.body, chunk_bytes = sizes }
end

--- Asks the client of a row, whose server answers with the row's body, whole or in pieces.
---@return table? result
---@return string? err
---@return string? kind
---@return table? detail
---@return table[] requests What the server got.
function M.ask(row, request, sizes)
  local server = anthropic_server.start({ replies = { M.reply(row, sizes) } })
  local registry = assert(clients.new({ config = M.config(row, server.url), env = M.env }))
  local ok, result, err, kind, detail = async.pcall(registry.decide, registry, nil, request)
  server:stop()
  assert(ok, result)
  return result, err, kind, detail, server.requests
end

-- --- what must come out ----------------------------------------------------------------------

local function value(v)
  return v ~= json.null and v or nil
end

-- Gemini's thoughts are beside the candidates.
local function check_gemini(expected, usage)
  local cached, thoughts = expected.cachedContentTokenCount, expected.thoughtsTokenCount
  assert.are.same({ input = expected.promptTokenCount - (cached or 0),
    output = (expected.candidatesTokenCount or 0) + (thoughts or 0),
    cache_read = cached, reasoning = thoughts }, usage)
end

-- Anthropic counts what the cache served beside the input, the others inside it.
local function check_usage(expected, usage)
  if not value(expected) or next(expected) == nil then
    return
  elseif expected.promptTokenCount then
    check_gemini(expected, usage)
  elseif expected.inputTokens then
    assert.are.same({ input = expected.inputTokens, output = expected.outputTokens,
      cache_read = expected.cacheReadInputTokens,
      cache_write = expected.cacheWriteInputTokens }, usage)
  elseif expected.input_tokens then
    assert.are.equal(expected.input_tokens, usage.input)
    assert.are.equal(expected.output_tokens, usage.output)
    assert.are.equal(expected.cache_read_input_tokens, usage.cache_read)
    assert.are.equal(expected.cache_creation_input_tokens, usage.cache_write)
  elseif expected.prompt_eval_count then
    assert.are.equal(expected.prompt_eval_count, usage.input)
    assert.are.equal(expected.eval_count, usage.output)
  elseif not expected.prompt_tokens then
    assert.are.same({}, usage)
  else
    local cached = (value(expected.prompt_tokens_details) or {}).cached_tokens
      or expected.cached_tokens
    local details = value(expected.completion_tokens_details) or {}
    assert.are.equal(expected.prompt_tokens,
      usage.input + (usage.cache_read or 0) + (usage.cache_write or 0))
    assert.are.equal(cached, usage.cache_read)
    assert.are.equal(details.reasoning_tokens, usage.reasoning)
    assert.are.equal(expected.total_tokens - expected.prompt_tokens, usage.output)
  end
end

local TRUNCATED = { max_tokens = true, length = true, MAX_TOKENS = true }

local function check_answer(expect, result, kind, detail)
  local answer = result or detail
  if #expect.tools == 1 and not TRUNCATED[expect.stop] then
    assert(result, detail and detail.message)
    local tool = expect.tools[1]
    assert.are.equal(tool.name, result.tool)
    assert.are.same(tool.args, result.args)
    assert.are.equal(value(tool.id), result.id)
    assert.are.equal(expect.stop, result.stop)
    assert.are.equal(value(expect.model) or result.model, result.model)
  elseif #expect.tools > 1 then
    assert.are.equal("bad_tool_call", kind)
    for _, tool in ipairs(expect.tools) do
      assert.is_truthy(detail.message:find(tool.name, 1, true))
    end
  else
    assert.are.equal(TRUNCATED[expect.stop] and "truncated" or "no_tool_call", kind)
  end
  check_usage(expect.usage, answer.usage)
  if value(expect.text) and expect.text ~= "" then
    assert.are.equal(expect.text, answer.text:sub(1, #expect.text))
  end
  if not result and type(expect.stop) == "string" then
    assert.are.equal(expect.stop, detail.provider_code)
  end
end

local KINDS = { truncated_tool_call = "truncated", provider_error = "invalid_request",
  corrupt_frame = "parse", throttled = "rate_limit" }

-- "41 s from retry-after", "34.4 s in the body", "… use retry-after 1 s", "3 s"; backoff has none.
local function delay_ms(text)
  text = value(text) or ""
  local seconds = text:match("retry%-after ([%d.]+) s") or text:match("([%d.]+) s%f[%A]")
  return seconds and tonumber(seconds) * 1000
end

--- Checks what a registry made of a row: the results of `decide`.
function M.check(row, result, kind, detail)
  local expect = row.expect
  if not value(expect.error) then
    check_answer(expect, result, kind, detail)
    return
  end
  assert.is_nil(result)
  assert.are.equal(KINDS[expect.error] or expect.error, kind)
  assert.are.equal(expect.retry:find("^yes") ~= nil, detail.retryable)
  assert.are.equal(delay_ms(expect.delay), detail.retry_after_ms)
  if value(expect.usage) and detail.usage then
    check_usage(expect.usage, detail.usage)
  end
end

return M
