--- Prompt templates: text with values, conditions and loops.
---
---   {{ name }}  {{ a.b }}                              a value; an unknown one is an error
---   {% if x %}…{% else %}…{% end %}  {% if not x %}    false: false, null, "", {}, a missing field
---   {% for item in list %}…{% end %}
---   {# a comment #}
---
--- A tag or comment alone on its line takes the line with it. Values are put in as they are and
--- are never read as template text. Errors carry line and column of the template.

local lpeg = require("lpeg")

local json_null = require("cjson").null

local P, R, S, V = lpeg.P, lpeg.R, lpeg.S, lpeg.V
local B, C, Cb, Cc, Cg, Cmt, Cp, Ct = lpeg.B, lpeg.C, lpeg.Cb, lpeg.Cc, lpeg.Cg, lpeg.Cmt, lpeg.Cp,
  lpeg.Ct

local M = {}

---@class template.Template
local Template = {}
local template_mt = { __index = Template }

-- Raises a mistake; `compile` and `render` turn it into text with line and column.
local function mistake(position, message, ...)
  error({ position = position, message = message:format(...) }, 0)
end

local space = S(" \t\r\n") ^ 0
local blank = S(" \t") ^ 0
local letter = R("az", "AZ") + "_"
local name = C(letter * (letter + R("09")) ^ 0)
local path = Ct(Cg(Cp(), "position") * name * ("." * name) ^ 0)

local function word(text)
  return P(text) * -(letter + R("09"))
end

local function fail(message)
  return P(function(_, position)
    mistake(position, message)
  end)
end

-- A tag that stands alone on its line, with the line's blanks and its end.
local line_start = -B(1) + B("\n")

local function lone(open, close)
  return line_start * blank * open * (1 - P(close)) ^ 0 * close * blank * (P("\n") + -1)
end

local lone_tag = lone("{%", "%}")
local lone_comment = lone("{#", "#}")

local function alone_or_inline(is_lone, pattern)
  return #is_lone * blank * pattern * blank * P("\n") ^ -1 + pattern
end

local function tag(inner)
  return alone_or_inline(lone_tag,
    "{%" * space * inner * space * (P("%}") + fail("expected `%%}`")))
end

local function opened_here(kind)
  return Cmt(Cb("position"), function(_, _, position)
    mistake(position, "this `{%% %s %%}` has no `{%% end %%}`", kind)
  end)
end

local function unknown_tag()
  return "{%" * space * Cmt(Cp() * C((1 - S(" \t\r\n%")) ^ 0), function(_, _, position, text)
    if text == "end" or text == "else" then
      return false
    end
    mistake(position, "unknown tag `%s`; the tags are if, else, for, end", text)
  end)
end

local expected_path = path + fail("expected a name such as `node` or `domain.title`")
local stop = P("{{") + "{%" + "{#" + lone_tag + lone_comment

local function node(kind, pattern)
  return Ct(Cg(Cc(kind), "kind") * Cg(Cp(), "position") * pattern)
end

local grammar = P({
  "template",
  template = V("body") * (-1 + V("stray")),
  body = Ct(V("item") ^ 0),
  item = V("text") + V("comment") + V("output") + V("condition") + V("loop") + unknown_tag(),
  text = C((1 - stop) ^ 1),
  comment = alone_or_inline(lone_comment,
    "{#" * (1 - P("#}")) ^ 0 * (P("#}") + fail("this comment is not closed by `#}`"))),
  output = node("output", "{{" * space * Cg(expected_path, "path") * space
    * (P("}}") + fail("expected `}}`"))),
  condition = node("if",
    tag(word("if") * space * Cg((word("not") * space * Cc(true)) ^ -1, "negated")
      * Cg(expected_path, "path"))
    * Cg(V("body"), "body") * (tag(word("else")) * Cg(V("body"), "otherwise")) ^ -1
    * (tag(word("end")) + opened_here("if"))),
  loop = node("for",
    tag(word("for") * space * Cg(name + fail("expected the name of an item"), "item") * space
      * (word("in") + fail("expected `in`")) * space * Cg(expected_path, "path"))
    * Cg(V("body"), "body") * (tag(word("end")) + opened_here("for"))),
  stray = blank * fail("this tag closes nothing"),
})

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
  local line, column = line_and_column(self.text, problem.position)
  return ("%s:%d:%d: %s"):format(self.name, line, column, problem.message)
end

--- Compiles a template.
---@param text string
---@param name_of? string For errors. Default: `template`.
---@return template.Template?
---@return string? err `NAME:LINE:COLUMN: message`
function M.compile(text, name_of)
  if type(text) ~= "string" then
    error(("a template is text, not a %s"):format(type(text)), 2)
  end
  local self = setmetatable({ text = text, name = name_of or "template" }, template_mt)
  local ok, result = pcall(lpeg.match, grammar, text)
  if not ok then
    return nil, located(self, result)
  end
  self.nodes = result
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

local function collect(self, nodes, bound, found)
  for _, this in ipairs(nodes) do
    if type(this) == "table" then
      if not bound[this.path[1]] then
        local line, column = line_and_column(self.text, this.path.position)
        found[#found + 1] = { name = this.path[1], line = line, column = column,
          path = table.concat(this.path, ".") }
      end
      local inner = bound
      if this.kind == "for" then
        inner = setmetatable({ [this.item] = true }, { __index = bound })
      end
      collect(self, this.body or {}, inner, found)
      collect(self, this.otherwise or {}, bound, found)
    end
  end
  return found
end

--- The variables that the template reads, in order of appearance; items of its loops excluded.
---@return { name: string, path: string, line: integer, column: integer }[]
function Template:variables()
  return collect(self, self.nodes, {}, {})
end

return M
