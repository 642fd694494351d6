-- beamlens check on good files, and on bad ones with the line of each mistake.

local beamlens = require("support.beamlens")
local support = require("support")
local tree = require("support.tree")

-- Writes files below a folder of the case, and checks one of them.
local function check(files, name)
  local root = tree.make(files)
  local status, out, err = beamlens.run({ "check", root .. "/" .. name })
  local plain = root:gsub("%p", "%%%0")
  return status, (out:gsub(plain, "")), (err:gsub(plain, ""))
end

local DOMAIN = [[
return {
  name = "shop",
  snapshot = function() return { orders = 1 } end,
  callbacks = {
    { name = "shop_orders", doc = "Orders.", returns = { { name = "n", type = "integer" } },
      run = function() return { n = 1 } end },
  },
}
]]

describe("beamlens check", function()
  it("says what each file is", support.async(function()
    for name, text in pairs({
      ["domains/shop.lua"] = DOMAIN,
      ["prompts/night.lua"] = 'return { name = "n", description = "d", template = "{{thing}}" }',
      ["clients.lua"] = 'return { primary = "rules" }',
      ["one.lua"] = 'return { clients = { { name = "A", provider = "rules" } } }',
      ["domains/shop/db.lua"] = 'local driver = require("luasql.nothing") return driver',
    }) do
      local status, out, err = check({ [name] = text }, name)
      assert.are.same({ 0, "" }, { status, err }, name)
      assert.matches(": ok %([%a ]+%)$", out)
    end
    local status, out, err = check({ ["domains/shop.lua"] = DOMAIN,
      ["watchers/shop.lua"] = 'return { domain = "shop", node = "a@b" }' }, "watchers/shop.lua")
    assert.are.same({ 0, "/watchers/shop.lua: ok (watcher)", "" }, { status, out, err })
  end, 40))

  it("has all that a watcher names and that there is not, once for its nodes", support.async(
    function()
      local status, _, err = check({ ["watchers/w.lua"] = [[
return {
  domain = "beam", node = { "a@b", "c@d" },
  prompt = "watchr",
  client = "Haiku",
}]] }, "watchers/w.lua")
      assert.are.equal(2, status)
      assert.are.equal('/watchers/w.lua:3: no prompt "watchr"; did you mean "watcher"?\n'
        .. '/watchers/w.lua:4: no client "Haiku"; allowed: rules\n', err)
    end))

  it("has each mistake of a watcher's own registry at its line", support.async(function()
    local status, _, err = check({ ["watchers/w.lua"] = [[
return {
  domain = "beam", node = "a@b",
  clients = {
    primary = "X",
    clients = {
      { name = "A", provider = "anthropic",
        options = { modl = "x" } },
    },
  },
}]] }, "watchers/w.lua")
    assert.are.equal(2, status)
    assert.are.equal(table.concat({
      '/watchers/w.lua:4: primary: unknown client "X"; did you mean "A"?',
      '/watchers/w.lua:7: client "A": options.model is missing',
      '/watchers/w.lua:7: client "A": options: unknown field "modl"; did you mean "model"?',
    }, "\n"), (err:gsub("\n$", "")))
  end))

  it("has the mistakes of the registry and the prices that a watcher uses in their own files",
    support.async(function()
      local status, out, err = check({ ["domains/shop.lua"] = DOMAIN,
        ["clients.lua"] = 'return {\n  primary = "Main",\n  limits = 7,\n}',
        ["prices.lua"] = "return {\n  m = { input = 1 },\n}",
        ["watchers/shop.lua"] = 'return { domain = "shop", node = "a@b" }' }, "watchers/shop.lua")
      assert.are.same({ 2, "" }, { status, out })
      assert.are.equal(table.concat({
        '/watchers/../clients.lua:2: primary: unknown client "Main"; allowed: rules',
        "/watchers/../clients.lua:3: limits must be a table",
        '/watchers/../prices.lua:2: model "m": needs input and output',
      }, "\n"), (err:gsub("\n$", "")))
    end))

  it("warns of a context that the prompt fills alone", support.async(function()
    local function warning_with(context_tokens)
      local status, out, err = check({ ["domains/shop.lua"] = DOMAIN,
        ["clients.lua"] = ('return { clients = { { name = "A", provider = "ollama", options = { '
          .. 'model = "m", context_tokens = %d } } } }'):format(context_tokens),
        ["watchers/shop.lua"] = 'return {\n  domain = "shop", node = "a@b",\n  client = "A" }' },
        "watchers/shop.lua")
      assert.are.equal(0, status)
      assert.matches(": ok %(watcher%)", out)
      return err
    end
    assert.matches("/watchers/shop%.lua:3: the prompt takes about [%d ]+ tokens of a context that "
      .. "has room for 1 200: ", warning_with(2000))
    assert.are.equal("", warning_with(100000))
  end))

  it("names file, line and cure of each mistake, by status 2", support.async(function()
    for _, case in ipairs({
      { "watchers/a.lua", 'return {\n  domain = "beam",\n  nod = "a@b",\n  node = "a@b",\n}',
        '/watchers/a.lua:3: unknown field "nod"; did you mean "node"' },
      { "watchers/a.lua", 'return {\n  domain = "beem",\n  node = "a@b",\n}',
        '/watchers/a.lua:2: no domain "beem"; did you mean "beam"' },
      { "watchers/a.lua", 'return {\n  domain = "beam",\n  node = "a@b",\n  prompt = "watchr",\n}',
        '/watchers/a.lua:4: no prompt "watchr"; did you mean "watcher"' },
      { "watchers/a.lua", 'return {\n  domain = "beam",\n  node = "a@b",\n  client = "Haik",\n}',
        '/watchers/a.lua:4: no client "Haik"' },
      { "watchers/a.lua", 'return {\n  domain = "beam"\n  node = "a@b",\n}',
        "/watchers/a.lua:3: '}' expected" },
      { "watchers/a.lua",
        'return {\n  domain = "beam", node = "a@b",\n  rules = { { type = "mine" } },\n}',
        "/watchers/a.lua:3: rules %[1%].when is missing" },
      { "watchers/a.lua", 'return {\n  domain = "beam", node = "a@b",\n  rules = {\n    '
        .. '{ type = "mine", when = print, holds = "1s" } },\n}',
        '/watchers/a.lua:4: rules %[1%] has an unknown field "holds"; did you mean "hold"%?' },
      { "domains/shop.lua", DOMAIN:gsub('"shop_orders"', '"orders"'),
        '/domains/shop.lua:5: callbacks%[1%] %(orders%).name is "orders"; it must begin with "sh' },
      { "domains/shop.lua", DOMAIN:gsub('doc = "Orders."', 'docs = "Orders."'),
        '/domains/shop.lua:5: callbacks%[1%] %(shop_orders%) has an unknown field "docs"' },
      { "domains/shop.lua", DOMAIN:gsub("snapshot = function%(%) return { orders = 1 } end,", ""),
        "/domains/shop.lua:.*snapshot is missing" },
      { "prompts/p.lua",
        'return {\n  name = "p", description = "d",\n  template = [[one\n{{two}}]],\n}',
        "/prompts/p.lua:4: column %d+: unknown variable `two`" },
      { "prompts/p.lua",
        'return {\n  name = "p", description = "d",\n  template = [[\none\n{{tools}}]],\n}',
        "/prompts/p.lua:5: column 3: `tools` is a table and cannot be printed" },
      { "prompts/p.lua",
        'return { name = "p", description = "d",\n  template = "{% include q %}" }',
        "/prompts/p.lua:2: column 1: no prompt \"q\"" },
      { "domains/shop/db.lua", "local M = {}\nreturn M }", "/domains/shop/db.lua:2: '<eof>' exp" },
      { "clients.lua", 'return {\n  primary = "Main",\n}', "/clients.lua:2: " },
    }) do
      local status, out, err = check({ [case[1]] = case[2] }, case[1])
      assert.are.same({ 2, "" }, { status, out }, case[3])
      assert.matches(case[3], err)
    end
    local status, _, err = beamlens.run({ "check", "nowhere.lua" })
    assert.are.equal(2, status)
    assert.matches("nowhere.lua", err)
  end, 40))
end)
