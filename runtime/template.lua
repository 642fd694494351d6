--- Prompt templates: text with values, conditions and loops.
---
---   {{ name }}  {{ a.b }}                              a value; an unknown one is an error
---   {% if x %}…{% else %}…{% end %}  {% if not x %}    false: false, null, "", {}, a missing field
---   {% for item in list %}…{% end %}
---   {% include name %}                                 another template, in the same scope
---   {# a comment #}
---
--- A tag or comment alone on its line takes the line with it. Values are put in as they are and
--- are never read as template text. Errors carry line and column of the template.

local grammar = require("runtime.template.grammar")
local json_null = require("cjson").null
local lpeg = require("lpeg")

local mistake = grammar.mistake

local M = {}

---@class template.Template
local Template = {}
local template_mt = { __index = Template }

-- Line and column of a position, both from 1.
local function line_and_column(text, position)
  local line, start = 1, 1
  for after in text:sub(1, position - 1):gmatch("\n()") do
    line, start = line + 1, after
  end
  return line, position - start + 1
end

local function located(self, problem)
  if type(problem) ~= "table" then
    error(problem, 0)
  end
  local at = problem.template or self
  return at:place(problem.position) .. problem.message
end

--- Where a position of the text is, for the beginning of an error.
---@param position integer
---@return string
function Template:place(position)
  return self.where(line_and_column(self.text, position))
end

-- Puts the templates that are included in their places.
local function include_all(self, nodes, include)
  for _, this in ipairs(nodes) do
    if type(this) == "table" then
      if this.kind == "include" then
        local err
        this.template, err = include(this.name)
        if not this.template then
          mistake(this.position, "%s", err)
        end
      end
      include_all(self, this.body or {}, include)
      include_all(self, this.otherwise or {}, include)
    end
  end
end

local function includes_nothing(name)
  return nil, ("there is nothing to include under the name %q"):format(name)
end

--- Compiles a template.
---@param text string
---@param opts? string|{ where: (fun(line: integer, column: integer): string),
--- include?: fun(name: string): template.Template?, string? } A name for errors (default
--- `template`), or what an error begins with, and where other templates come from.
---@return template.Template?
---@return string? err `NAME:LINE:COLUMN: message`
function M.compile(text, opts)
  if type(text) ~= "string" then
    error(("a template is text, not a %s"):format(type(text)), 2)
  end
  if type(opts) ~= "table" then
    local name = opts or "template"
    opts = { where = function(line, column)
      return ("%s:%d:%d: "):format(name, line, column)
    end }
  end
  local self = setmetatable({ text = text, where = opts.where }, template_mt)
  local ok, problem = pcall(function()
    self.nodes = lpeg.match(grammar.grammar, text)
    include_all(self, self.nodes, opts.include or includes_nothing)
  end)
  if not ok then
    return nil, located(self, problem)
  end
  return self
end

local function is_true(value)
  if type(value) == "table" then
    return next(value) ~= nil
  end
  return value ~= nil and value ~= false and value ~= json_null and value ~= ""
end

-- The value of a path. The first name must be known; a later one may be absent (nil).
local function lookup(scope, steps)
  local value = scope[steps[1]]
  if value == nil then
    mistake(steps.position, "unknown variable `%s`", steps[1])
  end
  for i = 2, #steps do
    if type(value) ~= "table" then
      mistake(steps.position, "`%s` has no fields: it is a %s",
        table.concat(steps, ".", 1, i - 1), type(value))
    end
    value = value[steps[i]]
    if value == nil then
      return nil
    end
  end
  return value
end

local PRINT = {
  string = function(value)
    return value
  end,
  number = function(value)
    return ("%.14g"):format(value)
  end,
  boolean = tostring,
}

local render_nodes

local RENDER = {
  output = function(this, scope, out)
    local value = lookup(scope, this.path)
    local print_it = PRINT[type(value)]
    if not print_it then
      mistake(this.path.position, value == nil and "unknown variable `%s`"
        or "`%s` is a %s and cannot be printed", table.concat(this.path, "."), type(value))
    end
    out[#out + 1] = print_it(value)
  end,
  ["if"] = function(this, scope, out)
    if is_true(lookup(scope, this.path)) ~= (this.negated == true) then
      render_nodes(this.body, scope, out)
    elseif this.otherwise then
      render_nodes(this.otherwise, scope, out)
    end
  end,
  ["for"] = function(this, scope, out)
    local list = lookup(scope, this.path)
    if type(list) ~= "table" then
      mistake(this.path.position, "`%s` is a %s, not a list", table.concat(this.path, "."),
        type(list))
    end
    for _, item in ipairs(list) do
      render_nodes(this.body, setmetatable({ [this.item] = item }, { __index = scope }), out)
    end
  end,
}

function RENDER.include(this, scope, out)
  local ok, problem = pcall(render_nodes, this.template.nodes, scope, out)
  if not ok then
    if type(problem) == "table" then
      problem.template = problem.template or this.template
    end
    error(problem, 0)
  end
end

function render_nodes(nodes, scope, out)
  for _, this in ipairs(nodes) do
    if type(this) == "string" then
      out[#out + 1] = this
    else
      RENDER[this.kind](this, scope, out)
    end
  end
end

--- Renders with these variables.
---@param variables table
---@return string? text
---@return string? err `NAME:LINE:COLUMN: message`
function Template:render(variables)
  local out = {}
  local ok, problem = pcall(render_nodes, self.nodes, variables, out)
  if not ok then
    return nil, located(self, problem)
  end
  return table.concat(out)
end

-- The steps of a path; those of a loop's item begin with the list that it is of.
local function steps_of(path, bound)
  local steps = {}
  for _, step in ipairs(bound[path[1]] or { path[1] }) do
    steps[#steps + 1] = step
  end
  for i = 2, #path do
    steps[#steps + 1] = path[i]
  end
  return steps
end

local function collect(self, nodes, bound, found)
  for _, this in ipairs(nodes) do
    if type(this) == "table" and this.template then
      collect(this.template, this.template.nodes, bound, found)
    elseif type(this) == "table" then
      local line, column = line_and_column(self.text, this.path.position)
      local steps = steps_of(this.path, bound)
      found[#found + 1] = { name = this.path[1], line = line, column = column, steps = steps,
        path = table.concat(this.path, "."), is_item = bound[this.path[1]] ~= nil,
        place = self:place(this.path.position) }
      local inner = bound
      if this.kind == "for" then
        steps = { unpack(steps) }
        steps[#steps + 1] = "[]"
        inner = setmetatable({ [this.item] = steps }, { __index = bound })
      end
      collect(self, this.body or {}, inner, found)
      collect(self, this.otherwise or {}, bound, found)
    end
  end
  return found
end

--- What the template and those that it includes read, in order of appearance.
---@return { name: string, path: string, steps: string[], is_item: boolean, place: string,
--- line: integer, column: integer }[] variables `steps` is the whole path; where an item of a loop
--- is read (`is_item`) it begins with that of the list, and "[]".
function Template:variables()
  return collect(self, self.nodes, {}, {})
end

return M
