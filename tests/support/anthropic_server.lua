-- A server on loopback that speaks Anthropic's Messages API, for specs.
--
--   local server = require("support.anthropic_server").start({
--     replies = {
--       { tool = "wait", input = { ms = 10000 } },
--       { status = 529, error = "overloaded_error", message = "Overloaded" },
--     },
--   })
--   -- ANTHROPIC_BASE_URL = server.url; afterwards: server.requests[1].body.tool_choice
--   server:stop()
--
-- Instead of `replies`, `on_request = function(request, index) return reply end`. A reply is one of
--   { tool = name, input = table, text?, id?, usage?, stop_reason?, model? }  a tool call
--   { calls = { { name, input }, … } }                      several at once
--   { text = "…" }                                          no call
--   { status = n, error = type, message = text, headers? }  an error
--   { status?, headers?, body = text }                      exactly this body
--   { hang = true }                                         no answer at all
--   { cut = true, tool = …, input = … }                     half a stream, then EOF
--   { raw = bytes }                                         these bytes, then EOF
-- each with `delay_ms` before it and, where its body is streamed, `pause_ms` between the pieces
-- and `chunk_bytes`, the size of the pieces or a list of sizes (default: odd sizes). Past the last
-- reply the answer is a 500 that is not to be retried.
--
-- server.url, server.port, server.requests = list of { method, path, headers, text, body, at_ms }.

local json = require("runtime.json")
local uv = require("luv")

local M = {}

local Server = {}
local server_mt = { __index = Server }

local ODD_SIZES = { 1, 7, 64, 3, 200, 19, 1000 }
local DEFAULT_USAGE = {
  input_tokens = 700,
  cache_creation_input_tokens = 0,
  cache_read_input_tokens = 0,
  output_tokens = 50,
}

-- --- what the model says ---------------------------------------------------------------------

local function is_answer(reply)
  return reply.tool or reply.calls or reply.text
end

local function content_of(reply, index)
  local content = {}
  if reply.text then
    content[1] = { type = "text", text = reply.text }
  end
  local calls = reply.calls or (reply.tool and { { reply.tool, reply.input } }) or {}
  for i, call in ipairs(calls) do
    content[#content + 1] = {
      type = "tool_use",
      id = reply.id or ("toolu_%d_%d"):format(index, i),
      name = call[1],
      input = next(call[2] or {}) and call[2] or json.object({}),
    }
  end
  return content
end

local function message_of(reply, index, request)
  local content = content_of(reply, index)
  local last = content[#content]
  return {
    id = ("msg_%d"):format(index),
    type = "message",
    role = "assistant",
    model = reply.model or (request.body or {}).model or "claude-test",
    content = content,
    stop_reason = reply.stop_reason or (last and last.type == "tool_use" and "tool_use")
      or "end_turn",
    stop_sequence = json.null,
    usage = reply.usage or DEFAULT_USAGE,
  }
end

-- Lines are padded as the real server pads them.
local function event(kind, data)
  data.type = kind
  local text = json.encode(data)
  return ("event: %s\ndata: %s%s}\n\n"):format(kind, text:sub(1, -2), (" "):rep(#text % 15))
end

local function block_events(block, index)
  local start = { type = block.type }
  local deltas = {}
  if block.type == "text" then
    start.text = ""
    deltas[1] = { type = "text_delta", text = block.text }
  else
    start.id, start.name, start.input = block.id, block.name, json.object({})
    deltas[1] = { type = "input_json_delta", partial_json = "" }
    local args = next(block.input) and json.encode(block.input) or ""
    local at = 1
    while at <= #args do
      -- Nine bytes, and what belongs to the last character.
      local stop = args:find("[^\128-\191]", at + 9) or #args + 1
      deltas[#deltas + 1] = { type = "input_json_delta", partial_json = args:sub(at, stop - 1) }
      at = stop
    end
  end
  local events = { event("content_block_start", { index = index, content_block = start }) }
  events[#events + 1] = event("ping", {})
  for _, delta in ipairs(deltas) do
    events[#events + 1] = event("content_block_delta", { index = index, delta = delta })
  end
  events[#events + 1] = event("content_block_stop", { index = index })
  return table.concat(events)
end

--- The whole stream of a message, as text.
function M.stream_text(message)
  local content, stop, usage = message.content, message.stop_reason, message.usage
  local start = {}
  for name, value in pairs(message) do
    start[name] = value
  end
  start.content, start.stop_reason = json.array({}), json.null
  start.usage = { input_tokens = usage.input_tokens, output_tokens = 1 }
  local events = { event("message_start", { message = start }) }
  for i, block in ipairs(content) do
    events[#events + 1] = block_events(block, i - 1)
  end
  events[#events + 1] = event("message_delta", {
    delta = { stop_reason = stop, stop_sequence = json.null },
    usage = usage,
  })
  events[#events + 1] = event("message_stop", {})
  return table.concat(events)
end

-- --- HTTP ------------------------------------------------------------------------------------

local function parse_head(text)
  local method, path = text:match("^(%u+) (%S+) HTTP/1%.1\r\n")
  local headers = {}
  for name, value in text:gmatch("\r\n([^:\r\n]+):[ \t]*([^\r\n]*)") do
    headers[name:lower()] = value
  end
  return { method = method, path = path, headers = headers }
end

local function head(status, headers)
  local lines = { ("HTTP/1.1 %d Status"):format(status) }
  for name, value in pairs(headers) do
    lines[#lines + 1] = ("%s: %s"):format(name, value)
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

-- One chunk of the chunked coding after the other, each in a write of its own.
local function send_chunks(client, text, sizes, done, pause)
  local at, turn = 1, 0
  local function send_next()
    if client:is_closing() then
      return
    end
    if at > #text then
      done()
      return
    end
    turn = turn + 1
    local size = sizes[(turn - 1) % #sizes + 1]
    local piece = text:sub(at, at + size - 1)
    at = at + size
    client:write(("%x\r\n%s\r\n"):format(#piece, piece), function()
      pause(send_next)
    end)
  end
  send_next()
end

local function with(headers, more)
  local all = {}
  for name, value in pairs(headers) do
    all[name:lower()] = value
  end
  for name, value in pairs(more or {}) do
    all[name:lower()] = value
  end
  return all
end

local function send_plain(client, reply, body)
  client:write(head(reply.status or 200, with({
    ["content-type"] = "application/json",
    ["request-id"] = "req_test",
    ["content-length"] = #body,
  }, reply.headers)) .. body)
end

local function send_stream(server, client, reply, text)
  client:write(head(reply.status or 200, with({
    ["content-type"] = "text/event-stream; charset=utf-8",
    ["request-id"] = "req_test",
    ["transfer-encoding"] = "chunked",
  }, reply.headers)))
  local sizes = reply.chunk_bytes or ODD_SIZES
  sizes = type(sizes) == "table" and sizes or { sizes }
  if reply.cut then
    text = text:sub(1, math.floor(#text * 0.6))
  end
  send_chunks(client, text, sizes, function()
    if reply.cut then
      client:close()
    else
      client:write("0\r\n\r\n")
    end
  end, function(go_on)
    server:after(reply.pause_ms, go_on)
  end)
end

function Server:send(client, request, reply, index)
  if reply.hang then
    return
  elseif reply.raw then
    client:write(reply.raw, function()
      if not client:is_closing() then
        client:close()
      end
    end)
  elseif reply.error then
    send_plain(client, reply, json.encode({
      type = "error",
      error = { type = reply.error, message = reply.message or reply.error },
      request_id = "req_test",
    }))
  elseif reply.body and reply.chunk_bytes then
    send_stream(self, client, reply, reply.body)
  elseif reply.body then
    send_plain(client, reply, reply.body)
  else
    assert(is_answer(reply), "the server does not know this kind of reply")
    local message = message_of(reply, index, request)
    if (request.body or {}).stream then
      send_stream(self, client, reply, M.stream_text(message))
    else
      send_plain(client, reply, json.encode(message))
    end
  end
end

local NO_REPLY = {
  status = 500,
  error = "api_error",
  message = "the spec's server has no reply left",
  headers = { ["x-should-retry"] = "false" },
}

function Server:reply_to(request)
  local index = #self.requests
  if self.on_request then
    return self.on_request(request, index) or NO_REPLY
  end
  return self.replies[index] or NO_REPLY
end

function Server:handle(client, request)
  request.body = json.decode(request.text)
  request.at_ms = uv.hrtime() / 1e6
  table.insert(self.requests, request)
  local index = #self.requests
  local reply = self:reply_to(request)
  self:after(reply.delay_ms, function()
    if not client:is_closing() then
      self:send(client, request, reply, index)
    end
  end)
end

-- Calls `fn` after a time, or at once without one.
function Server:after(ms, fn)
  if not ms then
    fn()
    return
  end
  local timer = uv.new_timer()
  self.open[timer] = true
  timer:start(ms, 0, function()
    self:close(timer)
    fn()
  end)
end

function Server:close(handle)
  self.open[handle] = nil
  if not handle:is_closing() then
    handle:close()
  end
end

-- Takes whole requests off the front of what has arrived.
function Server:take(client, buffer)
  while true do
    local head_end = select(2, buffer:find("\r\n\r\n", 1, true))
    local request = head_end and parse_head(buffer:sub(1, head_end))
    local length = request and tonumber(request.headers["content-length"]) or 0
    if not request or #buffer < head_end + length then
      return buffer
    end
    request.text = buffer:sub(head_end + 1, head_end + length)
    buffer = buffer:sub(head_end + length + 1)
    self:handle(client, request)
  end
end

function Server:accept()
  local client = uv.new_tcp()
  self.listener:accept(client)
  client:nodelay(true)
  self.open[client] = true
  self.connections = self.connections + 1
  local buffer = ""
  client:read_start(function(err, bytes)
    if err or not bytes then
      self:close(client)
      return
    end
    buffer = self:take(client, buffer .. bytes)
  end)
end

--- Starts a server on a free port of loopback.
function M.start(opts)
  local self = setmetatable({
    replies = opts.replies or {},
    on_request = opts.on_request,
    requests = {},
    connections = 0,
    open = {},
    listener = uv.new_tcp(),
  }, server_mt)
  assert(self.listener:bind("127.0.0.1", 0))
  assert(self.listener:listen(16, function()
    self:accept()
  end))
  self.port = self.listener:getsockname().port
  self.url = ("http://127.0.0.1:%d"):format(self.port)
  return self
end

--- Closes the server and every connection.
function Server:stop()
  for handle in pairs(self.open) do
    self:close(handle)
  end
  self:close(self.listener)
end

return M
