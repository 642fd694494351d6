-- Recorded exchanges with models: which client reads each, how it is served, what must come out.
--
-- A folder holds index.jsonl, a row { file, provider, status, headers, request?, expect } each, and
-- the bodies. `expect` is { stop, tools = { { name, args, id? } }, text, usage, model } as the
-- provider names things, or { error, retry, delay }.

local assert = require("luassert")
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
}

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
    if CLIENTS[row.provider] then
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
  options.model = "claude-haiku-4-5"
  options.stream = not row.file:find("%.json$")
  return { clients = { { name = "C", provider = provider, options = options } } }
end

--- The environment of every client: each key is set.
function M.env(name)
  return name:find("_KEY$") and KEY or nil
end

local DROPPED = { ["content-encoding"] = true, ["transfer-encoding"] = true,
  ["content-length"] = true }

--- What the server sends: the body whole, or in pieces of these sizes.
function M.reply(row, sizes)
  local headers = {}
  for name, value in pairs(row.headers) do
    headers[name] = not DROPPED[name] and value or nil
  end
  if not headers["content-type"] then
    headers["content-type"] = row.file:find("%.json$") and "application/json" or ""
  end
  return { status = row.status, headers = headers, body = row.body, chunk_bytes = sizes }
end

-- --- what must come out ----------------------------------------------------------------------

local function value(v)
  return v ~= json.null and v or nil
end

-- Anthropic counts what the cache served beside the input, the others inside it.
local function check_usage(expected, usage)
  if not value(expected) then
    return
  elseif expected.input_tokens then
    assert.are.equal(expected.input_tokens, usage.input)
    assert.are.equal(expected.output_tokens, usage.output)
    assert.are.equal(expected.cache_read_input_tokens, usage.cache_read)
    assert.are.equal(expected.cache_creation_input_tokens, usage.cache_write)
  elseif expected.prompt_eval_count then
    assert.are.equal(expected.prompt_eval_count, usage.input)
    assert.are.equal(expected.eval_count, usage.output)
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

local TRUNCATED = { max_tokens = true, length = true }

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
  else
    assert.are.equal(TRUNCATED[expect.stop] and "truncated" or "no_tool_call", kind)
  end
  check_usage(expect.usage, answer.usage)
  if value(expect.text) and expect.text ~= "" then
    assert.are.equal(expect.text, answer.text:sub(1, #expect.text))
  end
  if not result then
    assert.are.equal(expect.stop, detail.provider_code)
  end
end

local KINDS = { truncated_tool_call = "truncated", provider_error = "invalid_request" }

-- "41 s from retry-after", "0.174 s from …", "… use retry-after 1 s"; backoff has none.
local function delay_ms(text)
  local seconds = (value(text) or ""):match("([%d.]+) s from") or (value(text) or "")
    :match("retry%-after ([%d.]+) s")
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
