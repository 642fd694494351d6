-- Goes through docs/domains.md as a newcomer does: each Lua block is written to the file that its
-- first line names, each command of a console block is run, and what it prints is what the page
-- says. There `…` stands for any text in a line, and alone for any lines.

local async = require("runtime.async")
local node = require("support.node")
local postgres = require("support.postgres")
local support = require("support")
local tree = require("support.tree")
local uv = require("luv")

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

-- All blocks of the page: their language and their text.
local function blocks()
  local list = {}
  for language, text in read("docs/domains.md"):gmatch("```(%w*)\n(.-)```\n") do
    list[#list + 1] = { language = language, text = text }
  end
  return list
end

-- The commands of a console block with the lines that they print.
local function commands(text)
  local list = {}
  for line in text:gmatch("([^\n]*)\n") do
    local command = line:match("^%$ (.*)")
    if command then
      list[#list + 1] = { command = command, lines = {} }
    else
      table.insert(list[#list].lines, line)
    end
  end
  return list
end

local function as_pattern(line)
  return "^" .. line:gsub("%p", "%%%0"):gsub("…", ".*") .. "$"
end

-- Whether lines of output, from one on, are what the page shows from its line `at` on.
local function is_shown(output, from, lines, at)
  if not lines[at] then
    return output[from] == nil
  elseif lines[at] == "…" then
    for i = from, #output + 1 do
      if is_shown(output, i, lines, at + 1) then
        return true
      end
    end
    return false
  end
  return output[from] ~= nil and output[from]:find(as_pattern(lines[at])) ~= nil
    and is_shown(output, from + 1, lines, at + 1)
end

local function matches(output, lines)
  local list = {}
  for line in output:gmatch("([^\n]*)\n") do
    list[#list + 1] = line
  end
  return is_shown(list, 1, lines, 1)
end

-- Runs the host until it has printed what the page shows.
local function watch(reader, step)
  local path = reader.root .. "/output"
  local fd = assert(uv.fs_open(path, "w", 384))
  local args = {}
  for word in (step.command:gsub("^beamlens ", "") .. " --log text"):gmatch("%S+") do
    args[#args + 1] = word
  end
  local handle
  handle = assert(uv.spawn(uv.exepath(), { args = args, env = reader.env, cwd = reader.root,
    stdio = { nil, fd, fd } }, function()
    handle:close()
    handle = nil
  end))
  uv.fs_close(fd)
  support.on_cleanup(function()
    if handle then
      handle:kill("sigkill")
    end
  end)
  local deadline = async.deadline(30000)
  while handle and not matches(read(path), step.lines) and deadline:left_ms() > 0 do
    async.sleep(50)
  end
  assert.is_true(matches(read(path), step.lines), read(path))
  handle:kill("sigterm")
  support.wait_until(function()
    return not handle
  end, 20000)
end

local function run(reader, step)
  if step.command:find("^beamlens run ") then
    return watch(reader, step)
  end
  local script = ('beamlens() { "%s" "$@"; }; cd "%s"; %s'):format(uv.exepath(), reader.root,
    step.command)
  local _, output = node.run_program("/bin/sh", { "-c", script }, reader.env)
  assert.is_true(matches(output, step.lines), step.command .. "\n" .. output)
end

local FOLLOW = {
  erlang = function(reader, text)
    for line in text:gmatch("([^\n]+)\n") do
      reader.node:eval(line)
    end
  end,
  sh = function(reader, text)
    assert.matches("BEAMLENS_NODE=shop@localhost BEAMLENS_COOKIE=%a+ BEAMLENS_DIR=%.\n", text)
    assert.are.equal(0, (node.run_program("/bin/sh", { "-ec", ("cd '%s'\n%s"):format(reader.root,
      text) })))
    reader.root = reader.root .. "/shop"
  end,
  lua = function(reader, text)
    local path = assert(text:match("^%-%- (%S+%.lua)\n"), text)
    assert.is_not_nil(load(text), path)
    uv.fs_mkdir((reader.root .. "/" .. path):match("^(.*)/"), 448)
    support.write_file(reader.root .. "/" .. path, text)
    if path:find("^watchers/") then
      run(reader, { command = "beamlens check " .. path, lines = { path .. ": ok (watcher)" } })
    end
  end,
  console = function(reader, text)
    for _, step in ipairs(commands(text)) do
      run(reader, step)
    end
  end,
}

describe("docs/domains.md", function()
  it("can be followed to the letter", support.async(function()
    local n = node.start({ name = "shop" })
    local server = postgres.start()
    server:session("shop")
    local reader = { root = tree.make({}), node = n, env = server:env({
      "BEAMLENS_NODE=" .. n.name, "BEAMLENS_COOKIE=" .. n.cookie, "BEAMLENS_DIR=.",
      "ERL_EPMD_PORT=" .. n.epmd_port, "HOME=/nonexistent", "PATH=/usr/bin:/bin",
      "BEAMLENS_STORE=none",
    }) }
    assert.are.equal("shop@localhost", n.name)
    local seen = {}
    for _, block in ipairs(blocks()) do
      seen[block.language] = (seen[block.language] or 0) + 1
      assert(FOLLOW[block.language], "a block of " .. block.language)(reader, block.text)
    end
    assert.is_true(seen.lua >= 8 and seen.console >= 8)
  end, 120))
end)
