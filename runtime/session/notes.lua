--- What a recorder notes of itself, without a door that was opened: what the disk said, what the
--- environment had, the clock that users' code read, and what was cut. Methods of the recorder
--- (runtime/session/recorder.lua); runtime/session/answers.lua gives the same again.

local redacted = require("runtime.redact.secrets")
local session_format = require("runtime.session.format")
local uv = require("luv")

local M = {}

local METHODS = { "env", "note_now", "disk", "cut", "is_to_cut", "unix_s" }

function M:env(name)
  local value = os.getenv(name)
  if self.inside and self.variables[name] == nil then
    local is_secret = value ~= nil
      and (session_format.is_secret_name(name) or redacted.replace(value) ~= value)
    if is_secret then
      self:hide(value)
    end
    self.variables[name] = value ~= nil and (is_secret or value)
    if self.has_begun then
      self:note_now("env", { name }, self.variables[name])
    end
  end
  return value
end

-- What comes in by no door; see runtime/session/answers.lua.
function M:note_now(kind, labels, ...)
  self:note({ n = self.numbers, kind = kind, labels = labels }, true, nil, ...)
end

function M:disk(kind, path, ask)
  if not self.inside then
    return ask(path)
  end
  local labels = self.has_begun and self.files_known:ask(kind, path)
  local function noted(first, ...)
    if self.files_known:is_news(kind, path, first, ...) and self.has_begun then
      local shown = kind == "text" and first and self.files_known:without_secrets(first) or first
      self:note_now("file", labels, shown, ...)
    end
    return first, ...
  end
  return noted(ask(path))
end

function M:cut(text)
  if text and self.inside then
    self:note_now("overrun", nil, text)
  end
  return text
end

function M:is_to_cut(spent_ms, limit_ms) -- luacheck: no unused args
  return spent_ms > limit_ms
end

-- That of what came in last, until it is another while something runs.
function M:unix_s()
  local now_s = uv.gettimeofday()
  if not self.inside or not self.has_begun then
    return self.inside and math.floor(self.wall / 1000) or now_s
  end
  local told = self.time_told
  if not told or told.wall ~= self.wall then
    told = { wall = self.wall, value = math.floor(self.wall / 1000), asked = 0 }
    self.time_told = told
  end
  told.asked = told.asked + 1
  if told.value ~= now_s then
    self:note_now("time", { tostring(told.asked) }, now_s)
    told.value, told.asked = now_s, 0
  end
  return now_s
end

--- Adds the methods.
---@param methods table
function M.add(methods)
  for _, name in ipairs(METHODS) do
    methods[name] = M[name]
  end
end

return M
