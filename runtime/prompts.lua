--- Prompts: loading and checking a prompt table, and the variables that it is rendered with.
---
---   return { name = "watcher", description = "…", template = [[…]] }
---
--- `{% include name %}` puts the template of another prompt in.
---
--- The rendered text is the stable part of every request, which providers cache: no variable holds
--- a time or a figure of the node.

local loader = require("runtime.loader")
local template = require("runtime.template")
local units = require("runtime.units")

local M = {}

local FIELDS = { name = "text", description = "text", template = "text" }
-- What a template may read: true is a value, "[]" an item of a list; ANY may hold anything.
local ANY = {}
local SHAPE = {
  domain = { name = true, title = true, description = true, instructions = true,
    watches_node = true },
  tools = { ["[]"] = { name = true, description = true, schema = ANY } },
  thing = true, metric_docs = true, callback_docs = true, rule_types = true, instructions = true,
  wait_min = true, wait_max = true, calls_per_cycle = true,
}

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

local function check_fields(prompt, opts)
  local function where(field)
    return opts.source and ("%s:%d"):format(opts.file, loader.line_of(opts.source, field))
      or opts.file
  end
  if type(prompt) ~= "table" then
    return nil, ("%s: a prompt file returns a table, not a %s"):format(where("return"),
      type(prompt))
  end
  for field in pairs(prompt) do
    if not FIELDS[field] then
      return nil, ("%s: unknown field `%s`; the fields are %s"):format(where(tostring(field)),
        tostring(field), sorted(FIELDS))
    end
  end
  for field in pairs(FIELDS) do
    if type(prompt[field]) ~= "string" or prompt[field] == "" then
      return nil, ("%s: `%s` must be text, not %s"):format(where(field), field,
        prompt[field] == "" and "empty" or type(prompt[field]))
    end
  end
  return true
end

-- What is wrong with a path that a template reads, or nil.
local function unknown(variable)
  local shape = SHAPE
  for _, step in ipairs(variable.steps) do
    local inner = type(shape) == "table" and shape[step] or nil
    local owner = variable.path:match("^(.*)%.[^.]*$")
    if shape == ANY then
      return nil
    elseif inner == nil then
      local known = shape == SHAPE and "the variables are " .. sorted(shape)
        or (shape == true or shape["[]"]) and ("`%s` has no fields"):format(owner)
        or ("`%s` has %s"):format(owner, sorted(shape))
      return ("unknown variable `%s`; %s"):format(variable.path, known)
    end
    shape = inner
  end
end

-- The line of the source on which the text of the template begins.
local function first_line(source, text)
  local at = source:find(text, 1, true)
  if at then
    return 1 + select(2, source:sub(1, at - 1):gsub("\n", ""))
  end
  return loader.line_of(source, "template")
end

-- How errors in a template begin: with file and line where the source is known.
local function places(prompt, file, source)
  local first = source and first_line(source, prompt.template)
  return function(line, column)
    if first then
      return ("%s:%d: column %d: "):format(file, first + line - 1, column)
    end
    return ("%s: template:%d:%d: "):format(file, line, column)
  end
end

local compile

-- A function that finds and compiles what a template includes.
local function includer(opts, within)
  return function(name)
    if within[name] then
      return nil, ("%q includes itself"):format(name)
    end
    local found, err = opts.include(name)
    if not found then
      return nil, err
    end
    return compile(found.value, { file = found.file, source = found.source,
      include = opts.include }, setmetatable({ [name] = true }, { __index = within }))
  end
end

function compile(prompt, opts, within)
  local ok, err = check_fields(prompt, opts)
  if not ok then
    return nil, err
  end
  return template.compile(prompt.template, { where = places(prompt, opts.file, opts.source),
    include = opts.include and includer(opts, within) })
end

--- Checks a prompt table and compiles its template.
---@param prompt table
---@param opts? { file?: string, source?: string, include?: fun(name: string):
--- { value: table, file: string, source: string }?, string? } `file` is for errors, which have its
--- lines where the `source` is given. `include` finds other prompts.
---@return prompts.Prompt?
---@return string? err
function M.new(prompt, opts)
  opts = opts or {}
  opts = { file = opts.file or "prompt", source = opts.source, include = opts.include }
  local compiled, err = compile(prompt, opts, {})
  if not compiled then
    return nil, err
  end
  for _, variable in ipairs(compiled:variables()) do
    local problem = unknown(variable)
    if problem then
      return nil, variable.place .. problem
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

--- Variables that stand for a watcher's, to render a prompt that no watcher is at hand for: all
--- of them have a value.
---@param tool_list table[] As `tools` of `variables`.
---@return table
function M.sample(tool_list)
  local function text(what)
    return function()
      return "(" .. what .. ")"
    end
  end
  return M.variables({
    domain = { name = "sample", title = "Sample", description = "a domain", instructions = "Look.",
      rules = { { type = "sample_growth" } }, docs = text("callbacks"),
      metric_docs = text("figures") },
    policy = { instructions = "Know this.", wait = { min_ms = 10000, max_ms = 1800000 },
      limits = { calls_per_cycle = 15 } },
    tools = tool_list,
  })
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
