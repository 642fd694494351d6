-- A model that judges as its prompt asks it to, behind the stub of Anthropic's API: it waits while
-- all is calm, looks again soon while something develops, and says once what a rule holds.
--
--   local model = calm_model.start({ wait_ms = 1800000 })
--   model.url, model.asked                         -- requests that a model would have answered
--   model.fail = function(index) return { status = 529, error = "overloaded_error" } end

local anthropic_server = require("support.anthropic_server")
local support = require("support")

local M = {}

local SOON_MS = 300000
local BYTES_PER_TOKEN = 4
local REASON = "the figures move as they did in the last hours, and no rule holds anything"
local NOTE = "calm; compare memory and the longest mailbox with the last snapshot"

-- The opening message of the running cycle, and how many calls were made in it.
local function cycle_of(body)
  local calls = 0
  for _, message in ipairs(body.messages) do
    if message.role == "assistant" then
      calls = calls + 1
    end
  end
  local content = body.messages[1].content
  return type(content) == "string" and content or content[1].text, calls
end

-- What it does about findings that hold: it looks, says what it saw, and waits.
local function investigate(opening, calls)
  local kind = opening:match('"type":"([^"]*)"')
  local subject = opening:match('"phase":"firing".-"subject":"([^"]*)"')
  if calls == 0 then
    return "execute", { reason = "who is behind it", code = "return get_current_time()" }
  elseif calls == 1 then
    return "fire_alert", { reason = "people should know", type = kind, subject = subject,
      severity = "warning", summary = subject .. " was looked into: see the execution",
      snapshot_ids = { opening:match("Snapshot (%x+)") } }
  end
  return "wait", { reason = "told", ms = SOON_MS, note = "told of " .. kind }
end

local function decide(self, body)
  local opening, calls = cycle_of(body)
  local is_told = opening:find("told of", 1, true)
  if opening:find('"phase":"firing"', 1, true) and not is_told then
    return investigate(opening, calls)
  end
  local is_calm = opening:find("Rule findings: none", 1, true)
  local ms = is_calm and self.wait_ms or math.min(SOON_MS, self.wait_ms)
  return "wait", { reason = REASON, ms = ms, note = is_told and "told of it" or NOTE }
end

-- Both are billed by what they hold.
local function answer(self, request)
  local tool, input = decide(self, request.body)
  return { tool = tool, input = input, usage = {
    input_tokens = math.ceil(#request.text / BYTES_PER_TOKEN), output_tokens = 120,
    cache_creation_input_tokens = 0, cache_read_input_tokens = 0 } }
end

--- Starts one; it ends with the case.
---@param opts { wait_ms: number } What it asks for while all is calm.
function M.start(opts)
  local self = { wait_ms = opts.wait_ms, asked = 0, tools = {} }
  self.server = anthropic_server.start({ on_request = function(request, index)
    -- Requests are not kept: there are thousands.
    self.server.requests[index] = false
    local failure = self.fail and self.fail(request, index)
    if failure then
      return failure
    end
    self.asked = self.asked + 1
    local reply = answer(self, request)
    self.tools[reply.tool] = (self.tools[reply.tool] or 0) + 1
    return reply
  end })
  self.url = self.server.url
  support.on_cleanup(function()
    self.server:stop()
  end)
  return self
end

return M
