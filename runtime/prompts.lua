--- Prompts: loading and checking a prompt table, and the variables that it is rendered with.
---
---   return { name = "watcher", description = "…", template = [[…]] }
---
--- The rendered text is the stable part of every request, which providers cache: no variable holds
--- a time or a figure of the node.

local template = require("runtime.template")
local units = require("runtime.units")

local M = {}

local FIELDS = { name = "text", description = "text", template = "text" }
local KNOWN = { domain = true, thing = true, metric_docs = true, callback_docs = true,
  rule_types = true, instructions = true, tools = true, wait_min = true, wait_max = true,
  calls_per_cycle = true }

---@class prompts.Prompt
---@field name string
---@field description string
local Prompt = {}
local prompt_mt = { __index = Prompt }

local function sorted(set)
  local names = {}
  for name in pairs(set) do
    names[#names + 1] = name
  end
  table.sort(names)
  return table.concat(names, ", ")
end

local function check_fields(prompt, where)
  if type(prompt) ~= "table" then
    return nil, ("%s: a prompt file returns a table, not a %s"):format(where, type(prompt))
  end
  for field in pairs(prompt) do
    if not FIELDS[field] then
      return nil, ("%s: unknown field `%s`; the fields are %s"):format(where, tostring(field),
        sorted(FIELDS))
    end
  end
  for field in pairs(FIELDS) do
    if type(prompt[field]) ~= "string" or prompt[field] == "" then
      return nil, ("%s: `%s` must be text, not %s"):format(where, field,
        prompt[field] == "" and "empty" or type(prompt[field]))
    end
  end
  return true
end

--- Checks a prompt table and compiles its template.
---@param prompt table
---@param opts? { file?: string } For errors.
---@return prompts.Prompt?
---@return string? err
function M.new(prompt, opts)
  local where = opts and opts.file or "prompt"
  local ok, err = check_fields(prompt, where)
  if not ok then
    return nil, err
  end
  local compiled, compile_err = template.compile(prompt.template, where .. ": template")
  if not compiled then
    return nil, compile_err
  end
  for _, variable in ipairs(compiled:variables()) do
    if not KNOWN[variable.name] then
      return nil, ("%s: template:%d:%d: unknown variable `%s`; the variables are %s"):format(where,
        variable.line, variable.column, variable.path, sorted(KNOWN))
    end
  end
  return setmetatable({ name = prompt.name, description = prompt.description,
    compiled = compiled }, prompt_mt)
end

--- Renders the prompt.
---@param variables table As `variables` makes them.
---@return string? text
---@return string? err
function Prompt:render(variables)
  return self.compiled:render(variables)
end

--- The variables of a watcher's prompt: the same bytes for every node and every cycle.
---@param opts { domain: table, policy: table, tools: table[] }
---@return table
function M.variables(opts)
  local domain, policy = opts.domain, opts.policy
  local watches_node = domain.watches_node ~= false
  local types = {}
  for i, rule in ipairs(domain.rules or {}) do
    types[i] = rule.type
  end
  return {
    domain = { name = domain.name, title = domain.title or domain.name,
      description = domain.description or "", instructions = domain.instructions or "",
      watches_node = watches_node },
    thing = watches_node and "node" or "system",
    metric_docs = domain:metric_docs() or "",
    callback_docs = domain:docs() or "",
    rule_types = table.concat(types, ", "),
    instructions = policy.instructions or "",
    tools = opts.tools,
    wait_min = units.format_duration(policy.wait.min_ms),
    wait_max = units.format_duration(policy.wait.max_ms),
    calls_per_cycle = policy.limits.calls_per_cycle,
  }
end

return M
