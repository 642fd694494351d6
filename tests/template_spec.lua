local template = require("runtime.template")

local function render(text, variables)
  return assert(assert(template.compile(text, "t")):render(variables or {}))
end

local function compile_error(text)
  local compiled, err = template.compile(text, "t")
  assert.is_nil(compiled)
  return err
end

local function render_error(text, variables)
  local rendered, err = assert(template.compile(text, "t")):render(variables or {})
  assert.is_nil(rendered)
  return err
end

describe("a template", function()
  it("puts in values, fields and numbers without a trailing .0", function()
    assert.are.equal("shop@db1 has 12 of 0.5 true",
      render("{{ node }} has {{ a.b.c }} of {{half}} {{ yes }}",
        { node = "shop@db1", a = { b = { c = 12 } }, half = 0.5, yes = true }))
  end)

  it("chooses by truth: false, null, empty text, an empty table and a missing field are false",
    function()
      local text = "{% if a.x %}yes{% else %}no{% end %}"
      for _, value in ipairs({ false, "", {}, require("cjson").null }) do
        assert.are.equal("no", render(text, { a = { x = value } }))
      end
      assert.are.equal("no", render(text, { a = {} }))
      for _, value in ipairs({ true, "t", 0, { 1 } }) do
        assert.are.equal("yes", render(text, { a = { x = value } }))
      end
      assert.are.equal("", render("{% if not a %}hidden{% end %}", { a = true }))
    end)

  it("loops over lists, nested, with outer names in sight", function()
    assert.are.equal("n:a(1,2,)n:b()", render(
      "{% for x in list %}{{ n }}:{{ x.name }}({% for y in x.ys %}{{ y }},{% end %}){% end %}",
      { n = "n", list = { { name = "a", ys = { 1, 2 } }, { name = "b", ys = {} } } }))
  end)

  it("takes the line of a tag or a comment that stands alone on it", function()
    assert.are.equal("one\n  - a\n  - b\ntwo\n", render([[
one
{# said once,
   over two lines #}
  {% for x in list %}
  - {{ x }}
  {% end %}
two
]], { list = { "a", "b" } }))
  end)

  it("never reads what a value holds as template text", function()
    local text = "{{ secret }}{% if x %}{# #}{% end %}"
    assert.are.equal(text, render("{{ node_text }}", { node_text = text, secret = "no" }))
  end)

  it("keeps lone braces and percent signs", function()
    assert.are.equal("{ 50 % } {a} %}", render("{ 50 % } {a} %}"))
  end)

  it("says line and column of an unknown variable, in output, condition and loop", function()
    assert.are.equal("t:2:6: unknown variable `nodee`", render_error("a\nb {{ nodee }}"))
    assert.are.equal("t:1:7: unknown variable `nodee`", render_error("{% if nodee %}{% end %}"))
    assert.are.equal("t:1:13: unknown variable `rows`",
      render_error("{% for x in rows %}{% end %}"))
    assert.are.equal("t:1:4: unknown variable `a.b`", render_error("{{ a.b }}", { a = {} }))
    assert.are.equal("t:1:4: `a` has no fields: it is a number",
      render_error("{{ a.b }}", { a = 1 }))
  end)

  it("refuses to print or loop over what it cannot", function()
    assert.are.equal("t:1:4: `a` is a table and cannot be printed",
      render_error("{{ a }}", { a = {} }))
    assert.are.equal("t:1:13: `a` is a string, not a list",
      render_error("{% for x in a %}{% end %}", { a = "x" }))
  end)

  it("says line and column of what does not parse", function()
    assert.are.equal("t:2:9: expected `}}`", compile_error("a\n{{ name "))
    assert.are.equal("t:1:4: expected a name such as `node` or `domain.title`",
      compile_error("{{ 5 }}"))
    assert.are.equal("t:2:1: this `{% if %}` has no `{% end %}`",
      compile_error("\n{% if x %}a{% for y in x %}{% end %}"))
    assert.are.equal("t:1:1: this `{% for %}` has no `{% end %}`",
      compile_error("{% for y in x %}{% else %}{% end %}"))
    assert.are.equal("t:2:1: this tag closes nothing", compile_error("a\n{% end %}"))
    assert.are.equal("t:1:4: unknown tag `iff`; the tags are if, else, for, include, end",
      compile_error("{% iff x %}{% end %}"))
    assert.are.equal("t:1:10: expected `in`", compile_error("{% for x of y %}{% end %}"))
    assert.are.equal("t:1:9: expected `%}`", compile_error("{% if x y %}{% end %}"))
    assert.are.equal("t:1:11: this comment is not closed by `#}`", compile_error("{# never #"))
  end)

  it("lists what it reads, the items of its loops by their list", function()
    local compiled = assert(template.compile("{{ a.b }}\n{% for x in list %}{{ x.name }}{{ c }}"
      .. "{% if x %}{% else %}{{ d }}{% end %}{% end %}"))
    local names = {}
    for i, variable in ipairs(compiled:variables()) do
      names[i] = ("%s %d:%d"):format(table.concat(variable.steps, "."), variable.line,
        variable.column)
    end
    assert.are.same({ "a.b 1:4", "list 2:13", "list.[].name 2:23", "c 2:35", "list.[] 2:45",
      "d 2:62" }, names)
  end)

  it("includes others in its scope, and names them in errors", function()
    local texts = { head = "Hello {{ name }}{% for x in list %} {{ x }}{% end %}",
      wrong = "a\n{{ nobody }}", broken = "{% if x %}" }
    local function compile(text)
      local function include(name)
        if not texts[name] then
          return nil, "no template " .. name
        end
        return template.compile(texts[name], name)
      end
      return template.compile(text, { include = include, where = function(line, column)
        return ("main %d:%d "):format(line, column)
      end })
    end
    assert.are.equal("Hello you 1 2!", assert(compile("{% include head %}!")):render({ name = "you",
      list = { 1, 2 } }))
    assert.are.equal("wrong:2:4: unknown variable `nobody`",
      select(2, assert(compile("{% for x in list %}{% include wrong %}{% end %}")):render({
        list = { 1 } })))
    assert.are.equal("main 1:1 broken:1:1: this `{% if %}` has no `{% end %}`",
      select(2, compile("{% include broken %}")))
    assert.are.equal("main 2:1 no template lost", select(2, compile("\n{% include lost %}")))
    assert.are.equal('t:1:1: there is nothing to include under the name "x"',
      compile_error("{% include x %}"))
    assert.matches("expected the name of a prompt", compile_error("{% include %}"))
    local read = {}
    for i, variable in ipairs(assert(compile("{{ a }}{% include head %}")):variables()) do
      read[i] = variable.place .. variable.path
    end
    assert.are.same({ "main 1:4 a", "head:1:10: name", "head:1:29: list", "head:1:40: x" }, read)
  end)
end)
