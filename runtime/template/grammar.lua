--- The grammar of runtime/template.lua: from the text of a template to its nodes.

local lpeg = require("lpeg")

local P, R, S, V = lpeg.P, lpeg.R, lpeg.S, lpeg.V
local B, C, Cb, Cc, Cg, Cmt, Cp, Ct = lpeg.B, lpeg.C, lpeg.Cb, lpeg.Cc, lpeg.Cg, lpeg.Cmt, lpeg.Cp,
  lpeg.Ct

local M = {}

--- Raises a mistake; runtime/template.lua turns it into text with line and column.
---@param position integer
---@param message string
---@param ... any For the message.
function M.mistake(position, message, ...)
  error({ position = position, message = message:format(...) }, 0)
end

local mistake = M.mistake

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
    mistake(position, "unknown tag `%s`; the tags are if, else, for, include, end", text)
  end)
end

local expected_path = path + fail("expected a name such as `node` or `domain.title`")
local stop = P("{{") + "{%" + "{#" + lone_tag + lone_comment

local function node(kind, pattern)
  return Ct(Cg(Cc(kind), "kind") * Cg(Cp(), "position") * pattern)
end

M.grammar = P({
  "template",
  template = V("body") * (-1 + V("stray")),
  body = Ct(V("item") ^ 0),
  item = V("text") + V("comment") + V("output") + V("condition") + V("loop") + V("include")
    + unknown_tag(),
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
  include = node("include",
    tag(word("include") * space * Cg(C((letter + R("09") + "-") ^ 1)
      + fail("expected the name of a prompt"), "name"))),
  stray = blank * fail("this tag closes nothing"),
})

return M
