-- beamlens check on domain files: every kind of mistake, with the line that it is on.

local beamlens = require("support.beamlens")
local support = require("support")
local tree = require("support.tree")

local GOOD = [[
local function count()
  return { orders = 1 }
end

return {
  name = "shop",
  title = "Shop",
  target = "none",
  settings = {
    { name = "path", type = "string", default = "/" },
  },
  metrics = {
    { name = "orders", type = "integer" },
    { name = "late", type = "number", optional = true },
  },
  snapshot = count,
  callbacks = {
    {
      name = "shop_orders",
      params = {
        { name = "limit", type = "integer", default = 5, max = 9 },
        { name = "order", type = "string", default = "up", values = { "up", "down" } },
      },
      returns = { { name = "orders", type = "integer" } },
      doc = "Orders.",
      run = count,
    },
    { name = "shop_late", returns = { list = true, { name = "id", type = "string" } },
      doc = "Late.", run = count },
  },
  rules = {
    {
      type = "shop_late",
      hold = "5s",
      next = { "ls" },
      investigate = "return shop_orders()",
      when = function() end,
    },
  },
}
]]

-- One change each: what is replaced, by what, and the line and text of what is said. Only what is
-- said of it: everything else of the file is right.
local MISTAKES = {
  { 'name = "shop",\n', "", 5, "name is missing" },
  { 'name = "shop"', "name = 7", 6, "name is a number; it must be text" },
  { 'title = "Shop"', 'title = ""', 7, "title is empty; it must be text" },
  { 'title = "Shop"', 'titel = "Shop"', 7,
    'the domain has an unknown field "titel"; did you mean "title"?' },
  { 'target = "none"', 'target = "nowhere"', 8, 'target is "nowhere"; allowed: node, none' },
  { 'target = "none",', 'target = "none", sweeps = { "ports" },', 8,
    'sweeps is set, but a domain with target "none" has no node to sweep' },
  { 'target = "none",', 'sweeps = { "portz" },', 8, 'sweeps[1] is "portz"; did you mean "ports"?' },
  { 'default = "/" }', "}", 10, "settings[1] (path).default is missing: a watcher need not set" },
  { 'default = "/" }', "default = 7 }", 10, "settings[1] (path).default is 7; it must be text" },
  { 'name = "orders", type = "integer" },\n    {', 'name = "orders", type = "int" },\n    {', 13,
    'metrics[1] (orders).type is "int"; allowed: boolean, integer, number, string' },
  { 'name = "orders", type = "integer" },\n    {', 'name = "orders", type = "list" },\n    {', 13,
    'metrics[1] (orders).type is "list"; allowed: boolean, integer, number, string' },
  { 'name = "orders", type = "integer" },\n    {', 'name = "orders" },\n    {', 13,
    "metrics[1] (orders).type is missing" },
  { 'name = "late", type', 'name = "orders", type', 14, "metrics[2] (orders) is there twice" },
  { 'name = "late", type', 'name = "function", type', 14,
    'metrics[2] (function).name is "function", a word of Lua itself, which scripts cannot use as a '
      .. "name" },
  { "optional = true", 'optional = "yes"', 14,
    "metrics[2] (late).optional is a string; it must be a boolean" },
  { "  snapshot = count,\n", "", 5, "snapshot is missing" },
  { "snapshot = count,", "snapshot = count(),", 16,
    "snapshot is a table; it must be a function" },
  { 'name = "shop_late", returns', 'name = "shop_orders", returns', 28,
    "callbacks[2] (shop_orders) is there twice" },
  { 'name = "shop_orders",', 'name = "orders",', 19,
    'callbacks[1] (orders).name is "orders"; it must begin with "shop_"' },
  { 'name = "shop_orders",', 'name = "Shop-Orders",', 19,
    'callbacks[1] (Shop-Orders).name is "Shop-Orders"; a name has lower-case letters, digits and '
      .. "_, and begins with a letter" },
  { 'name = "shop_orders",', 'name = "get_node_info",', 19,
    'callbacks[1] (get_node_info).name is "get_node_info", which every domain has already' },
  { '"limit", type = "integer",', '"limit",', 21,
    "callbacks[1] (shop_orders).params[1] (limit).type is missing" },
  { 'name = "limit"', 'nam = "limit"', 21,
    'callbacks[1] (shop_orders).params[1] has an unknown field "nam"; did you mean "name"?' },
  { 'name = "limit"', 'name = "end"', 21, 'params[1] (end).name is "end", a word of Lua itself' },
  { "default = 5, max", "default = 50, max", 21,
    "callbacks[1] (shop_orders).params[1] (limit).default is 50; it must be a whole number, at "
      .. "most 9" },
  { "default = 5, max = 9", "min = 11, max = 9", 21,
    "callbacks[1] (shop_orders).params[1] (limit).min is 11, above max, which is 9" },
  { "max = 9", 'max = "9"', 21, "params[1] (limit).max is a string; it must be a number" },
  { "max = 9", 'values = { "a" }', 21,
    'params[1] (limit).values has no effect: the type is "integer"' },
  { 'values = { "up", "down" }', "values = {}", 22,
    "params[2] (order).values is empty; it lists the words that are allowed" },
  { 'values = { "up", "down" }', 'values = { "up", 7 }', 22,
    "params[2] (order).values[2] is a number; it must be text" },
  { 'values = { "up", "down" }', 'values = { "down" }', 22,
    'params[2] (order).default is up; it must be one of "down"' },
  { 'values = { "up", "down" }', 'aliases = { rise = 1 }', 22,
    'params[2] (order).aliases has "rise" stand for "1"; it must be text' },
  { 'returns = { { name = "orders", type = "integer" } },', "", 19,
    "callbacks[1] (shop_orders).returns is missing" },
  { 'returns = { { name = "orders", type = "integer" } }', 'returns = "orders"', 24,
    "callbacks[1] (shop_orders).returns is a string; it must be a table" },
  { 'returns = { { name = "orders", type = "integer" } }',
    'returns = { { name = "orders", type = "object" } }', 24,
    'returns[1] (orders).type is "object"; allowed: boolean, integer, list' },
  { 'returns = { { name = "orders", type = "integer" } }',
    'returns = { { name = "orders", type = "integer", fields = {} } }', 24,
    'fields is set, but the type is "integer"; only a list or a table has fields' },
  { "returns = { list = true,", 'returns = { list = "yes",', 28,
    "callbacks[2] (shop_late).returns.list is a string; it must be a boolean" },
  { "returns = { list = true,", "returns = { lists = true,", 28,
    'callbacks[2] (shop_late).returns has an unknown field "lists"; allowed: list' },
  { 'doc = "Orders.",', "", 19, "callbacks[1] (shop_orders).doc is missing" },
  { "run = count,\n", "run = 'count',\n", 26,
    "callbacks[1] (shop_orders).run is a string; it must be a function" },
  { 'callbacks = {\n    {\n', 'callbacks = {\n    nil,\n    {\n', 17,
    "callbacks has a hole: 2 items, the last of them at 3" },
  { "  rules = {\n    {", "  rules = {\n    late = {", 32,
    'rules has a field "late"; it must be a list' },
  { "      when = function() end,\n", "", 33, "rules[1] (shop_late).when is missing" },
  { 'type = "shop_late",', 'type = "shop_late", severity = "fatal",', 33,
    'rules[1] (shop_late).severity is "fatal"; allowed: critical, info, warning' },
  { 'hold = "5s"', 'hold = "5 sec"', 34,
    'rules[1] (shop_late).hold "5 sec" is not a duration: write 250ms, 10s, 5m, 1h30m or 2d' },
  { 'hold = "5s"', "hold = true", 34,
    'rules[1] (shop_late).hold is none: a duration is text such as "10s", not a boolean' },
  { 'next = { "ls" }', "next = 7", 35,
    "rules[1] (shop_late).next is a number; it must be a list of commands, or a function" },
  { "return shop_orders()", "return shop_orders(", 36,
    "rules[1] (shop_late).investigate is no Lua: script:1: unexpected symbol near '<eof>'" },
  { "return {\n  name", "return { {\n  name", 41, "'}' expected (to close '{' at line 5)" },
  { "local function count()\n  return { orders = 1 }", "local function count(\n  return {}", 2,
    "<name> or '...' expected near 'return'" },
  { "return {\n  name", "print(shopp.name)\nreturn {\n  name", 5, 'undeclared global "shopp"' },
  { "return {\n  name", "shop = {}\nreturn {\n  name", 5,
    'assignment to global "shop": declare it with `local`' },
  { "return {\n  name", 'error("no luck")\nreturn {\n  name', 5, "no luck" },
  { "return {\n  name", "local t = nil\nprint(t.x)\nreturn {\n  name", 6,
    "attempt to index local 't' (a nil value)" },
  { "return {\n  name", 'require("no.such.thing")\nreturn {\n  name', 5,
    "module 'no.such.thing' not found" },
  { "return {\n  name", "return 'shop'\nlocal _ = {\n  name", 6, "'<eof>' expected" },
  { "return {\n  name", "error({})\nreturn {\n  name", 5, "an error that is a table" },
  { GOOD, "local M = {}\n", 1, "the file returns nothing; end it with `return {…}`" },
  { GOOD, "local x = 1\nreturn 'shop'\n", 2, "the domain is a string; it must be a table" },
}

local function replaced(what, with)
  local from, to = GOOD:find(what, 1, true)
  assert(from, what)
  return GOOD:sub(1, from - 1) .. with .. GOOD:sub(to + 1)
end

describe("beamlens check of a domain", function()
  it("finds nothing in a good one, and warns when its name is not its file's",
    support.async(function()
      local root = tree.make({ ["domains/shop.lua"] = GOOD, ["domains/copy.lua"] = GOOD })
      assert.are.same({ 0, "domains/shop.lua: ok (domain)", "" },
        { beamlens.run({ "check", "domains/shop.lua" }, { cwd = root }) })
      local status, _, err = beamlens.run({ "check", "domains/copy.lua" }, { cwd = root })
      assert.are.equal(0, status)
      assert.are.equal('beamlens: domains/copy.lua:6: the name is "shop", but watchers find this '
        .. 'domain by its file\'s name, "copy"\n', err)
    end))

  it("names each mistake with its line and what is allowed", support.async(function()
    local files, args = {}, { "check" }
    for i, case in ipairs(MISTAKES) do
      local path = ("domains/%d/domains/shop.lua"):format(i)
      files[path] = replaced(case[1], case[2])
      args[i + 1] = path
    end
    local root = tree.make(files)
    local status, out, err = beamlens.run(args, { cwd = root })
    assert.are.same({ 2, "" }, { status, out })
    local told = {}
    for line in err:gmatch("[^\n]+") do
      local number = tonumber(line:match("^domains/(%d+)/"))
      if number then
        told[number] = told[number] or {}
        table.insert(told[number], (line:gsub("^domains/%d+/", "")))
      end
    end
    local wrong = {}
    for i, case in ipairs(MISTAKES) do
      local lines = told[i] or {}
      local at = ("domains/shop.lua:%d: "):format(case[3])
      if #lines ~= 1 or lines[1]:sub(1, #at) ~= at or not lines[1]:find(case[4], 1, true) then
        wrong[#wrong + 1] = ("%s%s\n  but: %s"):format(at, case[4], table.concat(lines, "\n"))
      end
    end
    assert.are.equal("", table.concat(wrong, "\n"))
  end, 60))

  it("finds all mistakes of a file at once, and run says how many", support.async(function()
    local root = tree.make({
      ["domains/shop.lua"] = 'return {\n  name = "shop",\n  titel = 1,\n  callbacks = 7,\n}\n',
      ["watchers/shop.lua"] = 'return {\n  domain = "shop",\n}\n',
    })
    local status, _, err = beamlens.run({ "check", "domains/shop.lua" }, { cwd = root })
    assert.are.same({ 2, "domains/shop.lua:1: snapshot is missing\n"
      .. 'domains/shop.lua:3: the domain has an unknown field "titel"; did you mean "title"?\n'
      .. "domains/shop.lua:4: callbacks is a number; it must be a table\n" }, { status, err })
    for _, command in ipairs({ "check", "run" }) do
      status, _, err = beamlens.run({ command, root .. "/watchers/shop.lua" })
      assert.are.equal(2, status)
      assert.matches("watchers/shop.lua:2: .*/domains/shop.lua:3: .* %(and 2 more, which "
        .. "`beamlens check` lists%)", err)
    end
  end, 40))
end)

describe("a result that does not fit", function()
  local DOMAIN = [[
return {
  name = "shop",
  target = "none",
  metrics = { { name = "orders", type = "integer" }, { name = "late", type = "integer" } },
  snapshot = function() return { orders = 1.5, lates = 2 } end,
  callbacks = { { name = "shop_list", doc = "x", run = function() return { { id = 7 } } end,
    returns = { list = true, { name = "id", type = "string" }, { name = "at", type = "number",
      optional = true } } } },
}
]]

  it("is told to who looks at a domain of their own", support.async(function()
    local root = tree.make({ ["domains/shop.lua"] = DOMAIN })
    local opts = { cwd = root, env = { "BEAMLENS_DIR=." } }
    assert.are.same({ 0, '{"lates":2,"orders":1.5}',
      'beamlens: snapshot.orders is a number (1.5), but its type is "integer"\n'
        .. "beamlens: snapshot.late is missing; say optional = true if it may be\n"
        .. 'beamlens: snapshot has lates, of which the domain says nothing; did you mean "late"?\n',
    }, { beamlens.run({ "snapshot", "shop" }, opts) })
    assert.are.same({ 0, '1',
      'beamlens: shop_list[1].id is a number (7), but its type is "string"\n' },
      { beamlens.run({ "exec", "shop", "-e", "return #shop_list()" }, opts) })
  end, 40))
end)
