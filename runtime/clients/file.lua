--- Files of client registries: reading one, and saying on which line each mistake is.

local client_config = require("runtime.clients.config")
local loader = require("runtime.loader")
local tables = require("runtime.loader.tables")
local traces = require("runtime.loader.trace")

local M = {}

local function text_of(mistake)
  if mistake.client then
    return ("client %q: %s"):format(mistake.client, mistake.text)
  end
  return mistake.text
end

-- The line of a mistake in a retry policy: that of its field, searched from the policy's name in
-- the table of policies.
local function line_in_policy(source, mistake)
  local line, is_in_table, policy_line = 0, false, nil
  local policy = "%f[%w_]" .. mistake.policy:gsub("%W", "%%%0") .. "%f[^%w_][\"'%]%s]*="
  local field = "%f[%w_]" .. mistake.field:gsub("%W", "%%%0") .. "%f[^%w_]"
  for text in (source .. "\n"):gmatch("(.-)\n") do
    line = line + 1
    is_in_table = is_in_table or text:find("%f[%w_]retry_policies%s*=") ~= nil
    policy_line = policy_line or is_in_table and text:find(policy) and line or nil
    if policy_line and text:find(field) then
      return line
    end
  end
  return policy_line or 1
end

-- A field of a table as it is written, or of the table in one of its fields.
local function field_in(found, name, inner)
  local fields = found and found.fields or {}
  local deep = fields[inner] and fields[inner].value
  return name and (fields[name] or deep and deep.fields[name])
end

-- The line of a mistake in a registry that is written as one table, else nil.
local function written_at(registry, mistake)
  local list = field_in(registry, "clients")
  local policies = field_in(registry, "retry_policies")
  if mistake.policy then
    local policy = policies and policies.value and policies.value.fields[mistake.policy]
    local field = policy and field_in(policy.value, mistake.field, "strategy")
    return field and field.line or policy and policy.line
  elseif mistake.index then
    local client = list and list.value and list.value.fields[mistake.index]
    local field = client and field_in(client.value, mistake.field, "options")
    return field and field.line or client and client.line
  end
  local field = field_in(registry, mistake.field, "limits")
  return field and field.line
end

-- The line of a mistake in any other: that of its field, searched from the line that names its
-- client.
local function line_of(source, mistake)
  if mistake.policy then
    return line_in_policy(source, mistake)
  elseif not mistake.client then
    return mistake.field and loader.line_of(source, mistake.field) or 1
  end
  local line, client_line, field_line = 0, nil, nil
  local client = "%f[%w_]name%s*=%s*[\"']" .. mistake.client:gsub("%W", "%%%0") .. "[\"']"
  local field = "%f[%w_]" .. (mistake.field or "name"):gsub("%W", "%%%0") .. "%f[^%w_]"
  for text in (source .. "\n"):gmatch("(.-)\n") do
    line = line + 1
    if text:find(client) then
      client_line, field_line = line, nil
    elseif text:find("%f[%w_]name%s*=") and client_line then
      break
    end
    if client_line and not field_line and text:find(field) then
      field_line = line
    end
  end
  return field_line or client_line or 1
end

--- A line for each mistake of a registry that is in no file.
---@param mistakes client_config.Mistake[]
---@return string
function M.describe(mistakes)
  local lines = {}
  for i, mistake in ipairs(mistakes) do
    lines[i] = text_of(mistake)
  end
  table.sort(lines)
  return table.concat(lines, "\n")
end

-- A line `FILE:LINE: text` for each mistake, in the order of the file.
local function located(mistakes, source, path, registry)
  for _, mistake in ipairs(mistakes) do
    mistake.line = registry and written_at(registry, mistake) or line_of(source, mistake)
  end
  table.sort(mistakes, function(a, b)
    if a.line ~= b.line then
      return a.line < b.line
    end
    return text_of(a) < text_of(b)
  end)
  local lines = {}
  for i, mistake in ipairs(mistakes) do
    lines[i] = ("%s:%d: %s"):format(path, mistake.line, text_of(mistake))
  end
  return table.concat(lines, "\n")
end

--- Checks a registry that stands in another file, a watcher's.
---@param config table
---@param path string
---@param env fun(name: string): string?
---@return string? err A line `FILE:LINE: text` for each mistake.
function M.mistakes_in(config, path, env)
  local _, mistakes = client_config.check(config, env)
  if not mistakes then
    return nil
  end
  local source = loader.read(path) or ""
  local inline = field_in(tables.read(source), "clients")
  return located(mistakes, source, path, inline and inline.value)
end

--- Reads a registry's file and checks it.
---@param path string
---@param env? fun(name: string): string? Default: the process's environment.
---@param trace? trace.Trace Is told what the file depends on.
---@return table? config For `new`.
---@return string? err A line `FILE:LINE: text` for each mistake.
function M.load(path, env, trace)
  env = env or os.getenv
  trace = trace or traces.new()
  local source, err = trace:read(path)
  if not source then
    return nil, err
  end
  local config, problem = loader.run(source, path, {
    env = function(name, default)
      return env(name) or default
    end,
  }, trace)
  if problem then
    return nil, problem
  end
  local _, mistakes = client_config.check(config, env)
  if not mistakes then
    return config
  end
  return nil, located(mistakes, source, path, tables.read(source))
end

return M
