--- The lines of a recording: a header, an entry for each thing that came in, and an end.

local M = {}

--- The version of the format.
M.VERSION = 1

local MARK = "beamlens_session"
local MAX_TIME_MS = 1e15

-- Variables whose values are secrets, by their names.
local SECRET_WORDS = { "KEY", "TOKEN", "SECRET", "PASS", "PWD", "COOKIE", "CREDENTIAL", "AUTH",
  "SIGNATURE", "DSN" }

--- Whether a variable of this name holds a secret.
---@param name string
---@return boolean
function M.is_secret_name(name)
  for _, word in ipairs(SECRET_WORDS) do
    if name:upper():find(word, 1, true) then
      return true
    end
  end
  return false
end

---@class session.Header
---@field version string Of beamlens.
---@field seed string
---@field t number Monotonic milliseconds at the start.
---@field w integer Unix milliseconds at the start.
---@field arguments string[] The command line after `run`.
---@field files { path: string, sha256: string }[] In the order of loading.
---@field env table<string, string|boolean> false: not set; true: set, and kept out.

--- The first line's table.
---@param fields session.Header
---@return table
function M.header(fields)
  local header = { [MARK] = M.VERSION }
  for name, value in pairs(fields) do
    header[name] = value
  end
  return header
end

local HEADER = { version = "string", seed = "string", t = "number", w = "number",
  arguments = "table", files = "table", env = "table" }

--- Checks the first line's table.
---@param header? table
---@return session.Header?
---@return string? err
function M.check_header(header)
  local version = header and header[MARK]
  if type(version) ~= "number" then
    return nil, "it is no recording of a session"
  elseif version ~= M.VERSION then
    return nil, ("its format is version %s, and this beamlens reads version %d"):format(
      tostring(version), M.VERSION)
  end
  for name, kind in pairs(HEADER) do
    if type(header[name]) ~= kind then
      return nil, ("its first line is damaged: %s is missing"):format(name)
    end
  end
  for _, argument in ipairs(header.arguments) do
    if type(argument) ~= "string" then
      return nil, "its first line is damaged: an argument is no text"
    end
  end
  for _, file in ipairs(header.files) do
    if type(file) ~= "table" or type(file.path) ~= "string" or type(file.sha256) ~= "string" then
      return nil, "its first line is damaged: a file has no digest"
    end
  end
  return header
end

---@class session.Entry
---@field n integer The number of the door.
---@field kind string
---@field of? string[] What was asked for.
---@field sync? boolean It came while its door was being opened.
---@field is? "refused" The door could not be opened.
---@field v any[] What came.
---@field t? number
---@field w? number

local function is_time(value)
  return type(value) == "number" and math.abs(value) < MAX_TIME_MS
end

--- Checks another line's table.
---@param entry? table
---@return session.Entry|{ end: string }|nil
---@return string? err
function M.check_entry(entry)
  if type(entry) ~= "table" then
    return nil, "it is no entry"
  elseif type(entry["end"]) == "string" then
    return entry
  end
  local n = entry.n
  local has_time = is_time(entry.t) and is_time(entry.w)
  if type(n) ~= "number" or n < 1 or n % 1 ~= 0 or type(entry.kind) ~= "string"
    or type(entry.v) ~= "table" or not (entry.sync == true or has_time) then
    return nil, "it is no entry"
  end
  for _, label in ipairs(type(entry.of) == "table" and entry.of or {}) do
    if type(label) ~= "string" then
      return nil, "it is no entry"
    end
  end
  return entry
end

return M
