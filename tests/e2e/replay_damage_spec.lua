-- Replays that cannot be the same: of other files, of damaged recordings; and recordings that
-- cannot be written.

local beamlens = require("support.beamlens")
local node = require("support.node")
local sessions = require("support.sessions")
local support = require("support")
local tree = require("support.tree")

local WATCHER = [[return {
  domain = "beam", node = "nobody@127.0.0.1:%d", prompt = "own", sample = "1s",
  wait = { min = "1s", max = "2s" }, renotify = "1h",
}]]
local PROMPT = [[return { name = "own", description = "A prompt.", template = "Watch. Look." }]]

local function run(args, env)
  return beamlens.run({ "run", unpack(args) }, { env = env, timeout_ms = 60000 })
end

-- Records a watcher of a node that is not there. Returns the folder, the file and what was printed.
local function record()
  local port = node.free_port()
  local root = tree.make({ ["watchers/a.lua"] = WATCHER:format(port),
    ["prompts/own.lua"] = PROMPT })
  local path = sessions.path()
  local status, stdout, stderr = run({ root .. "/watchers/a.lua", "--record", path, "--for", "2s",
    "--log", "json" }, { "BEAMLENS_COOKIE=some-cookie" })
  assert.are.equal(0, status, stderr)
  return root, path, stdout
end

local function lines_of(text)
  local lines = {}
  for line in text:gmatch("[^\n]*\n?") do
    lines[#lines + 1] = line ~= "" and line or nil
  end
  return lines
end

local function change(path, from, to)
  local text = sessions.read(path)
  local at, stop = text:find(from, 1, true)
  assert(at, text)
  support.write_file(path, text:sub(1, at - 1) .. to .. text:sub(stop + 1))
end

describe("a replay", function()
  it("names the files that are not what they were, and says where the run diverges",
    support.async(function()
      local root, path, stdout = record()
      change(root .. "/prompts/own.lua", "Look.", "Look around.")
      local status, replayed, stderr = sessions.replay(path)
      -- No model was asked: another prompt makes no difference here.
      assert.are.equal(0, status, stderr)
      assert.are.equal(stdout, replayed)
      assert.matches("prompts/own%.lua is not what it was when it was recorded", stderr)

      change(root .. "/watchers/a.lua", 'sample = "1s"', 'sample = "3s"')
      status, replayed, stderr = sessions.replay(path)
      assert.are.equal(1, status, stderr)
      assert.is_true(#replayed < #stdout)
      local first, second, third = stderr:match("([^\n]*)\n([^\n]*)\n.-\n?([^\n]*)\n$")
      assert.matches("not set", first)
      assert.matches("watchers/a%.lua is not what it was", second)
      assert.matches("jsonl:%d+: the run diverges at entry %d+: recorded was %w+ .*, and the run "
        .. "%w+", third)
    end, 60))

  it("takes other files and options in the place of those that were recorded", support.async(
    function()
      local root, path, stdout = record()
      os.rename(root .. "/watchers/a.lua", root .. "/watchers/b.lua")
      local status, _, stderr = sessions.replay(path)
      assert.are.equal(2, status)
      assert.matches("watchers/a%.lua: no such file", stderr)
      status, _, stderr = sessions.replay(path, { root .. "/watchers/b.lua", "--for", "1s" })
      assert.are.equal(1, status)
      assert.matches("b%.lua was not there when it was recorded", stderr)
      os.rename(root .. "/watchers/b.lua", root .. "/watchers/a.lua")
      local replayed
      status, replayed = sessions.replay(path)
      assert.are.same({ 0, stdout }, { status, replayed })
    end, 60))

  it("goes as far as a recording goes that was cut", support.async(function()
    local _, path, stdout = record()
    local text = sessions.read(path)
    for _, share in ipairs({ 0.5, 0.8, 0.95 }) do
      support.write_file(path, (text:sub(1, math.floor(#text * share)):gsub("\n$", "")))
      local status, replayed, stderr = sessions.replay(path)
      assert.are.equal(0, status, stderr)
      assert.matches("whose last line is cut, ends after %d+ entries, and has no end of the run",
        stderr)
      assert.are.equal(stdout:sub(1, #replayed), replayed)
    end
  end, 60))

  it("says what is wrong with a file that is no recording", support.async(function()
    local _, path = record()
    local text = sessions.read(path)
    local cases = {
      ["it is empty"] = "",
      ["it is no recording of a session"] = "\0\1\2 garbage\n\n",
      ["its format is version 99, and this beamlens reads version 1"] =
        text:gsub('"beamlens_session":1', '"beamlens_session":99'),
      ["its first line is damaged: seed is missing"] = text:gsub('"seed"', '"sead"'),
      ["jsonl:3: it is no entry"] = text:gsub("^([^\n]*\n[^\n]*\n)[^\n]*", "%1garbage"),
    }
    for expected, damaged in pairs(cases) do
      support.write_file(path, damaged)
      local status, stdout, stderr = sessions.replay(path)
      assert.are.equal(2, status, expected)
      assert.is_truthy(stderr:find(expected, 1, true), stderr)
      assert.is_nil(stdout:find("sampler", 1, true))
    end
    for file, expected in pairs({ ["/tmp"] = "is a directory", ["/proc/none"] = "No such file" }) do
      local status, _, stderr = sessions.replay(file)
      assert.are.equal(2, status)
      assert.is_truthy(stderr:lower():find(expected:lower(), 1, true), stderr)
    end
  end, 90))

  it("of a damaged recording ends, and says why", support.async(function()
    local _, path = record()
    local lines = lines_of(sessions.read(path))
    local seed = 26112026
    math.randomseed(seed)
    local damages = {
      function(text)
        local at = math.random(#text)
        return text:sub(1, at - 1) .. string.char(math.random(0, 255)) .. text:sub(at + 1)
      end,
      function(text)
        local at = math.random(#text)
        return text:sub(1, at) .. text:sub(at + math.random(20))
      end,
      function(text)
        return text:gsub("%d+", function(digits)
          return math.random(4) == 1 and tostring(math.random(0, 9)) or digits
        end)
      end,
      function()
        return ""
      end,
      function(text)
        return text .. text
      end,
    }
    for round = 1, 10 do
      local changed = { unpack(lines) }
      local at = math.random(#changed)
      changed[at] = damages[(round - 1) % #damages + 1](changed[at])
      support.write_file(path, table.concat(changed))
      local status, _, stderr = sessions.replay(path)
      assert(status >= 0 and status <= 2, ("round %d of seed %d: status %d\n%s"):format(round, seed,
        status, stderr))
      assert(status == 0 or stderr:find("beamlens: .*%S"), stderr)
    end
  end, 120))
end)

describe("a recording", function()
  it("that cannot be written is refused at the start, and overwrites nothing", support.async(
    function()
      local root, path = record()
      local text = sessions.read(path)
      local watcher = root .. "/watchers/a.lua"
      for file, expected in pairs({ [path] = "is there already", [root] = "is a folder",
        ["/proc/none/x"] = "no such file or directory" }) do
        local status, stdout, stderr = run({ watcher, "--record", file, "--for", "1s" })
        assert.are.same({ 2, "" }, { status, stdout })
        assert.matches("^beamlens: cannot record: ", stderr)
        assert.is_truthy(stderr:find(expected, 1, true), stderr)
      end
      assert.are.equal(text, sessions.read(path))
      local status, _, stderr = run({ watcher, "--record", "x", "--replay", path })
      assert.are.equal(2, status)
      assert.matches("one of them at a time", stderr)
    end, 60))

  it("leaves no file behind when the run cannot begin", support.async(function()
    local path = sessions.path()
    local status = run({ "/proc/none.lua", "--record", path })
    assert.are.equal(2, status)
    assert.is_nil(io.open(path))
  end))

  it("on a full disk is said to end, and watching goes on", support.async(function()
    local root = record()
    local status, stdout, stderr = run({ root .. "/watchers/a.lua", "--record", "/dev/full",
      "--for", "2s", "--log", "json" }, { "BEAMLENS_COOKIE=some-cookie" })
    assert.are.equal(0, status)
    assert.matches("the recording /dev/full ends here: no space left on device; watching goes on",
      stderr)
    assert.matches("beamlens.watcher.loop_stopped", stdout)
  end, 60))
end)
