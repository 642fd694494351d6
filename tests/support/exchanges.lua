-- Recorded exchanges with models: a folder of bodies and an index.jsonl, a line for each with
-- `file`, `provider`, `status`, `headers` and `expect`, what a client must make of it:
--
--   { tools = { { id, name, args }… }, stop, text, usage = as on the wire, model }
--   { error = kind, retry = "yes"|"no", delay = "34.4 s …" }

local anthropic_server = require("support.anthropic_server")
local assert = require("luassert")
local async = require("runtime.async")
local json = require("runtime.json")

local M = {}

--- A file's bytes, or nil.
function M.read(path)
  local file = io.open(path, "rb")
  local text = file and file:read("*a")
  if file then
    file:close()
  end
  return text
end

--- The rows of a folder whose file's name begins with one of these words; nil without an index.
function M.rows(folder, prefixes)
  local index = M.read(folder .. "/index.jsonl")
  if not index then
    return nil
  end
  local rows = {}
  for line in index:gmatch("[^\n]+") do
    local row = json.decode(line)
    for _, prefix in ipairs(prefixes) do
      if row.file:find(prefix, 1, true) == 1 then
        row.path = folder .. "/" .. row.file
        rows[#rows + 1] = row
      end
    end
  end
  return rows
end

--- The body of the request that was recorded with an answer, or nil.
function M.request_body(row)
  local name = type(row.request) == "table" and row.request.body_file
  local text = name and M.read(row.path:match("^(.*/)") .. name)
  return text and json.decode(text)
end

-- Sizes of pieces that look random and are the same in each run.
local function random_sizes(seed)
  local sizes = {}
  for i = 1, 200 do
    seed = (seed * 16807) % 2147483647
    sizes[i] = 1 + seed % 60
  end
  return sizes
end

--- The ways in which a body is served: by name, the sizes of its pieces.
function M.ways(row)
  return {
    { "whole" },
    { "in pieces of 1 byte", 1 },
    { "in pieces of 7 bytes", 7 },
    { "in pieces of random sizes", random_sizes(#row.file * 7919 + 1) },
  }
end

local DROPPED = { ["content-encoding"] = true, ["transfer-encoding"] = true,
  ["content-length"] = true }
local TYPES = {
  eventstream = "application/vnd.amazon.eventstream",
  json = "application/json",
  sse = "text/event-stream",
}

local function reply_of(row, sizes)
  local headers = {}
  for name, value in pairs(row.headers or {}) do
    headers[name] = not DROPPED[name] and value or nil
  end
  headers["content-type"] = headers["content-type"] or TYPES[row.file:match("%.(%w+)$")]
  return { status = row.status, headers = headers, body = M.read(row.path),
    chunk_bytes = sizes }
end

--- True when the request asked for a stream.
function M.is_stream(row)
  return row.file:find("%.json$") == nil or row.file:find("array-stream", 1, true) ~= nil
end

--- Serves an exchange to `decide(server, row)`.
---@return table? result
---@return string? err
---@return string? kind
---@return table? detail
---@return table request What the server got.
function M.serve(row, sizes, decide)
  local server = anthropic_server.start({ replies = { reply_of(row, sizes) } })
  local ok, result, err, kind, detail = async.pcall(decide, server, row)
  server:stop()
  if not ok then
    error(result, 0)
  end
  return result, err, kind, detail, server.requests[1]
end

local function value_or_nil(value)
  return value ~= json.null and value or nil
end

local LENGTH = { MAX_TOKENS = true, max_tokens = true }
-- Words of an index for kinds of failures.
local KINDS = { corrupt_frame = "parse", throttled = "rate_limit",
  truncated_tool_call = "truncated" }

local function check_tool(expect, result, err)
  local tool = expect.tools[1]
  assert.is_table(result, err)
  assert.are.equal(tool.name, result.tool)
  assert.are.same(tool.args, result.args)
  assert.are.equal(value_or_nil(tool.id), result.id)
  assert.are.equal(expect.stop, result.stop)
  assert.are.equal(value_or_nil(expect.model) or result.model, result.model)
end

local function check_error(expect, result, kind, detail)
  assert.is_nil(result)
  assert.are.equal(KINDS[expect.error] or expect.error, kind)
  assert.are.equal(expect.retry:find("^yes") ~= nil, detail.retryable)
  local seconds = (expect.delay or ""):match("([%d.]+) s")
  assert.are.equal(seconds and tonumber(seconds) * 1000, detail.retry_after_ms)
end

--- Checks what came of an exchange. `usage_of(expected)` gives the counts in our own form.
function M.check(row, usage_of, result, err, kind, detail)
  local expect = row.expect
  if expect.error then
    check_error(expect, result, kind, detail)
  elseif #expect.tools == 1 then
    check_tool(expect, result, err)
  elseif #expect.tools > 1 then
    assert.are.equal("bad_tool_call", kind)
    for _, tool in ipairs(expect.tools) do
      assert.is_truthy(err:find(tool.name, 1, true))
    end
  else
    assert.are.equal(LENGTH[expect.stop] and "truncated" or "no_tool_call", kind)
  end
  local answer = result or detail
  if expect.usage then
    assert.are.same(usage_of(expect.usage), answer.usage)
  end
  if value_or_nil(expect.text) and not expect.error then
    assert.are.equal(expect.text, (answer.text or ""):sub(1, #expect.text))
  end
end

return M
