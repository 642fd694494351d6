--- Users' files in a session. Those of the start are read from the disk by the recorded run and by
--- its replay, and compared by digest. From then on each answer of the disk that is another one
--- than before is an entry, so that a replay has the same versions at the same moments.
---
--- An entry of the kind `file` has no number of its own; it tells what was asked ("text", "type",
--- "list" or "access"), of which path, and at which asking since the last entry of it.

local crypto = require("host.crypto")
local json = require("runtime.json")
local redacted = require("runtime.redact.secrets")
local values = require("runtime.session.values")

local M = {}

-- The options of clients whose values no recording has.
local SECRET_NAMES = { api_key = true, access_key_id = true, secret_access_key = true,
  session_token = true, private_key = true, credentials = true, password = true, secret = true,
  token = true }
local LITERALS = { '("[^"\n]*")', "('[^'\n]*')", "(%[%[.-%]%])" }

---@class session_files.Files
local Files = {}
local files_mt = { __index = Files }

--- Nothing was asked yet.
---@return session_files.Files
function M.new()
  return setmetatable({ known = {}, asked = {}, secrets = {}, secret = 0 }, files_mt)
end

local function key_of(kind, path)
  return kind .. "\0" .. path
end

--- Notes an asking. Returns the labels that an entry of it has.
---@param kind string
---@param path string
---@return string[]
function Files:ask(kind, path)
  local key = key_of(kind, path)
  self.asked[key] = (self.asked[key] or 0) + 1
  local shown = path:find("[%c\128-\255]") and values.labels(path)[1] or path
  return { kind, shown, tostring(self.asked[key]) }
end

--- Remembers an answer; the askings since then begin anew.
---@param kind string
---@param path string
---@param answer any
function Files:set(kind, path, answer)
  local key = key_of(kind, path)
  self.known[key], self.asked[key] = answer, nil
end

--- The last answer.
---@param kind string
---@param path string
---@return any
function Files:get(kind, path)
  return self.known[key_of(kind, path)]
end

--- Whether an answer is another one than the last of the same question, and takes it for that.
---@param kind string
---@param path string
---@param ... any The answer.
---@return boolean
function Files:is_news(kind, path, ...)
  local digest = crypto.sha256(json.encode(values.encode(...)))
  if self:get(kind, path) == digest then
    return false
  end
  self:set(kind, path, digest)
  return true
end

-- Another text for each secret: a file in which only that changed is another file in a replay, too.
local function stand_in(self, secret)
  if not self.secrets[secret] then
    self.secret = self.secret + 1
    self.secrets[secret] = ("[secret %d]"):format(self.secret)
  end
  return self.secrets[secret]
end

-- The texts that a table of headers gives to names.
local function hide_headers(self, block)
  return (block:gsub("(=%s*[\"'])([^\"'\n]+)", function(before, value)
    return before .. stand_in(self, value)
  end))
end

--- A file's text without the secrets that are written in it: values of options that hold keys, of
--- headers, and what looks like a key or token anywhere in a literal.
---@param text string
---@return string
function Files:without_secrets(text)
  text = text:gsub("([%a_][%w_]*)(%s*=%s*)([\"'])([^\"'\n]+)", function(name, is, quote, value)
    return SECRET_NAMES[name] and name .. is .. quote .. stand_in(self, value) or nil
  end)
  text = text:gsub("%f[%w_]headers%s*=%s*%b{}", function(block)
    return hide_headers(self, block)
  end)
  for _, pattern in ipairs(LITERALS) do
    text = text:gsub(pattern, redacted.replace)
  end
  return text
end

return M
