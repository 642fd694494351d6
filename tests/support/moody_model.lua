-- A model that does all that models do, behind the stub of Anthropic's API: it looks, runs scripts,
-- alerts, resolves and waits; now and then it calls what does not exist, or its server fails.
--
--   local model = moody_model.start({ wait_ms = 60000, each = 100 })
--   model.url, model.answered, model.invalid, model.failed
--
-- What it does is drawn from a sequence that is the same in each run.

local anthropic_server = require("support.anthropic_server")
local support = require("support")

local M = {}

local BYTES_PER_TOKEN = 4
-- Few, so that all of them were told of before it is first looked at what is kept.
local SUBJECTS = 4

local Model = {}
local model_mt = { __index = Model }

local function newest_snapshot(text)
  return text:match("Snapshot (%x+)")
end

-- What it does before it waits, by a draw from 1 to 100. The first range that holds it is taken.
local ACTIONS = {
  { 60 },
  { 70, function()
    return "take_snapshot", { reason = "another look" }
  end },
  { 75, function()
    return "execute", { reason = "what time is it, and what does the node say",
      code = "pcall(beam_get_memory) return get_current_time()" }
  end },
  { 77, function()
    return "execute", { reason = "a mistake", code = "return nothing.there" }
  end },
  { 82, function(self, opening)
    return "fire_alert", { reason = "odd", type = "other", severity = "warning",
      subject = ("worker_%d"):format(self:draw(SUBJECTS)), summary = "it is odd",
      snapshot_ids = { newest_snapshot(opening) } }
  end },
  { 87, function()
    return "set_state", { reason = "all is well again", state = "healthy" }
  end },
  { 90, function()
    return "set_state", { reason = "odd", state = "observing" }
  end },
  { 93, function()
    return "get_alerts", { reason = "what fired", limit = 5 }
  end },
  { 96, function()
    return "get_snapshots", { reason = "the last ones", limit = 3 }
  end },
  { 100, function()
    return "wait", { reason = "a short look again", ms = 10000 }
  end },
}

local INVALID = {
  { tool = "reboot", input = { reason = "a tool that is not there" } },
  { tool = "wait", input = { reason = "no time" } },
  { tool = "wait", input = { reason = "too short", ms = 30 } },
  { tool = "set_state", input = { state = "fine" } },
  { tool = "fire_alert", input = { type = "other", summary = "x", severity = "warning",
    snapshot_ids = { "0123456789abcdef" } } },
  { text = "All is well." },
}

local FAILURES = {
  { status = 529, error = "overloaded_error" },
  { status = 500, error = "api_error" },
  { status = 429, error = "rate_limit_error", headers = { ["retry-after"] = "7" } },
  { status = 400, error = "invalid_request_error", message = "no" },
  { status = 401, error = "authentication_error" },
  { cut = true, tool = "wait", input = { ms = 60000, reason = "cut off" } },
  { raw = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n<html>" },
  { raw = "nonsense\r\n\r\n" },
  { raw = "" },
}
-- A server that is away for some time fails all retries.
local IN_A_ROW = { 1, 1, 4 }

--- A number from 1 to `most`.
function Model:draw(most)
  self.seed = (self.seed * 16807) % 2147483647
  return self.seed % most + 1
end

function Model:decide(body)
  local content = body.messages[1].content
  local opening = type(content) == "string" and content or content[1].text
  if #body.messages == 1 then
    local drawn = self:draw(100)
    for _, action in ipairs(ACTIONS) do
      if drawn <= action[1] then
        if action[2] then
          return action[2](self, opening)
        end
        break
      end
    end
  end
  return "wait", { reason = "calm", ms = self.wait_ms, note = "all as before" }
end

function Model:fail()
  if self.failures_left == 0 and self:draw(self.each) == 1 then
    self.failing = FAILURES[self:draw(#FAILURES)]
    self.failures_left = IN_A_ROW[self:draw(#IN_A_ROW)]
  end
  if self.failures_left > 0 then
    self.failures_left = self.failures_left - 1
    self.failed = self.failed + 1
    return self.failing
  end
end

function Model:answer(request)
  self.answered = self.answered + 1
  local reply = {}
  if self:draw(self.each) == 1 then
    self.invalid = self.invalid + 1
    for key, value in pairs(INVALID[self:draw(#INVALID)]) do
      reply[key] = value
    end
  else
    reply.tool, reply.input = self:decide(request.body)
  end
  reply.usage = { input_tokens = math.ceil(#request.text / BYTES_PER_TOKEN), output_tokens = 100,
    cache_creation_input_tokens = 0, cache_read_input_tokens = 0 }
  return reply
end

--- Starts one; it ends with the case.
---@param opts { wait_ms: number, each: integer } What it asks for at the end of a cycle; one answer
--- of `each` is no valid call, and one request of so many fails.
function M.start(opts)
  local self = setmetatable({ wait_ms = opts.wait_ms, each = opts.each, seed = 4711, answered = 0,
    invalid = 0, failed = 0, failures_left = 0 }, model_mt)
  self.server = anthropic_server.start({ on_request = function(request, index)
    self.server.requests[index] = false -- kept by nobody
    return self:fail() or self:answer(request)
  end })
  self.url = self.server.url
  support.on_cleanup(function()
    self.server:stop()
  end)
  return self
end

return M
