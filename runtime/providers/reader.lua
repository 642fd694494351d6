--- Takes the answer to one request apart as it comes. Status and type decide how, before anything
--- is read: an error's body, a plain answer or a stream.

local answers = require("runtime.providers.answer")
local failures = require("runtime.providers.failure")
local framing = require("runtime.providers.framing")
local hints = require("runtime.providers.hints")
local json = require("runtime.json")

local M = {}

-- What no waiting changes, whatever the server says about trying again.
local FINAL = { auth = true, permission = true, not_found = true, quota = true }

-- Where the body does not say what is missing, it may be the address.
local NOT_THERE = { [404] = true, [405] = true, [410] = true }

local OBJECT = ("{"):byte()

---@class providers.Reader
local Reader = {}
local reader_mt = { __index = Reader }

--- Creates the reader of one answer.
---@param provider table As in exchange.lua.
---@param request table What was asked.
---@param url string Where.
---@return providers.Reader
function M.new(provider, request, url)
  return setmetatable({
    url = url,
    provider = provider,
    request = request,
    asked = provider.options.stream and (provider.framing or "sse") or nil,
    answer = answers.new(),
    pieces = {},
  }, reader_mt)
end

--- The head of the answer.
function Reader:on_headers(status, headers)
  self.status, self.headers = status, headers
  self.answer.request_id = headers["request-id"] or headers["x-request-id"]
    or headers["x-amzn-requestid"]
end

-- The first bytes of the body.
function Reader:begin(bytes)
  self.begun = true
  local is_good = self.status >= 200 and self.status < 300
  local kind = is_good and framing.of(self.headers["content-type"], self.asked, bytes)
  if kind then
    local decode
    decode, self.finish_decoding = self.provider:decoder(self.answer)
    self.parser = framing.parser(kind, function(event)
      self:on_event(decode, event)
    end)
  end
end

-- The decoder's last word: what a stream leaves open until it is over.
function Reader:end_stream()
  local finish = self.finish_decoding
  self.finish_decoding = nil
  if finish and not self.answer.failure and not pcall(finish) then
    self.answer.failure = failures.new("parse", "the stream has an unexpected shape")
  end
end

-- Some servers keep the connection alive by data that is a comment or nothing at all.
local function is_filler(data)
  return data:find("^%s*:") or not data:find("%S")
end

function Reader:on_event(decode, event)
  local answer = self.answer
  if answer.failure or answer.complete then
    return
  elseif event.data:byte() ~= OBJECT then
    if is_filler(event.data) then
      return
    elseif event.data:find("^%s*%[DONE%]%s*$") then
      self:end_stream()
      return
    end
  end
  local body, err = json.decode(event.data)
  if err then
    self:misread("an event of the stream is no JSON")
    return
  end
  -- Whatever a server sends must not end a watcher: a wrong shape is a failed answer.
  if not pcall(decode, body, event.event, event.headers) then
    self:misread("an event of the stream has an unexpected shape")
  end
end

-- The last event of a cut stream is mostly half an event: the cut is the reason.
function Reader:misread(message)
  if not self.ending then
    self.answer.failure = failures.new("parse", message)
  end
end

--- The next bytes of the body.
---@return boolean more False: all that is needed is here.
function Reader:on_data(bytes)
  if not self.begun then
    self:begin(bytes)
  end
  if not self.parser then
    self.pieces[#self.pieces + 1] = bytes
    return true
  end
  local ok, err, code = self.parser:feed(bytes)
  if not ok then
    self.answer.failure = failures.new("parse", err, { provider_code = code })
  end
  return not self.answer.failure and not self.answer.complete
end

function Reader:finish_stream(err, code)
  self.ending = true
  self.parser:finish()
  self:end_stream()
  local answer = self.answer
  if not answer.complete and not answer.failure and err then
    answer.failure = failures.from_transport(code, err)
    answer.failure.usage = answer.usage
  end
  return answers.judge(answer, self.request)
end

function Reader:finish_error(text, wall_ms)
  local status, headers = self.status, self.headers
  local text_of_status = ("HTTP %d"):format(status)
  if status >= 300 and status < 400 then
    -- To follow it would hand the key to another server.
    text_of_status = ("%s: the server redirects to %s, which is not followed; check base_url")
      :format(text_of_status, headers.location or "nowhere")
  elseif NOT_THERE[status] then
    text_of_status = ("%s at %s; check base_url and model"):format(text_of_status,
      failures.plain_url(self.url))
  end
  local failure = failures.new(failures.kind_of_status(status), text_of_status, {
    http = status,
    request_id = self.answer.request_id,
  })
  local body = json.decode(text)
  pcall(self.provider.read_error, self.provider, type(body) == "table" and body or {}, failure,
    headers)
  local hint_ms, is_reset = hints.retry_after_ms(status, headers, wall_ms)
  failure.retry_after_ms = not is_reset and hint_ms or failure.retry_after_ms or hint_ms
  local advice = headers["x-should-retry"]
  if advice == "false" or advice == "true" and not FINAL[failure.kind] then
    failure.retryable = advice == "true"
  end
  return nil, failure
end

-- What came instead of an answer, most often another server's page.
local function strange(text, headers)
  if not text:find("%S") then
    return "the answer is empty; check base_url"
  end
  local kind = (headers["content-type"] or ""):match("^%s*([%w/.+-]+)")
  return ("the answer is no JSON object%s; check base_url"):format(kind and " but " .. kind or "")
end

function Reader:finish_plain(text)
  local answer = self.answer
  local body, err = json.decode(text)
  if err or type(body) ~= "table" then
    return nil, failures.new("parse", strange(text, self.headers), {
      http = self.status,
      request_id = answer.request_id,
    })
  end
  if not pcall(self.provider.read, self.provider, body, answer) then
    return nil, failures.new("parse", "the answer has an unexpected shape", { http = self.status })
  end
  return answers.judge(answer, self.request)
end

--- The answer is over: its judgement.
---@param response table? Of runtime/http.lua, or nil with `err` and `code`.
---@return table? result As of answer.judge().
---@return providers.Failure?
function Reader:finish(response, err, code, wall_ms)
  if self.parser then
    return self:finish_stream(err, code)
  end
  if not response then
    return nil, failures.from_transport(code, err)
  end
  local text = table.concat(self.pieces)
  if response.status < 200 or response.status >= 300 then
    return self:finish_error(text, wall_ms)
  end
  return self:finish_plain(text)
end

return M
