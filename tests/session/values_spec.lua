local dist = require("host.dist")
local json = require("runtime.json")
local native = require("host.json")
local values = require("runtime.session.values")

-- What becomes of values that go through a recording.
local function through(...)
  local line = assert(values.to_line({ v = json.array(values.encode(...)) }))
  return values.decode(assert(values.from_line(line)).v)
end

local function random_text(random)
  local bytes = {}
  for i = 1, random(0, 12) do
    bytes[i] = string.char(random(0, 255))
  end
  return table.concat(bytes)
end

local random_value

local function random_table(random, depth)
  local t, kind = {}, random(1, 4)
  for i = 1, random(0, 4) do
    local key = kind == 1 and random_text(random) or kind == 2 and random(-3, 9) or i
    t[key] = random_value(random, depth + 1)
  end
  return t
end

function random_value(random, depth)
  local kind = random(1, depth > 3 and 4 or 6)
  if kind == 1 then
    return random_text(random)
  elseif kind == 2 then
    return (random() - 0.5) * 10 ^ random(-20, 20)
  elseif kind == 3 then
    return random(0, 1) == 1
  elseif kind == 4 then
    return random(-1000, 1000)
  end
  return random_table(random, depth)
end

describe("values of a recording", function()
  it("come back as they were", function()
    local list = {
      "", "text", "$0", "$", "ünïcödé", "\0\1\255", "a\nb", 0, -1, 0.1, 1 / 3, 2 ^ 53, 1e300, true,
      false, json.null, {}, { 1, 2, 3 }, { "$b", "no bytes" }, { "$$", 1 },
      { a = 1, b = { c = 2 } },
      { [1] = "a", [3] = "c" }, { [0] = "x" }, { x = 1, 2 }, { ["\255"] = 1 }, { [1.5] = "y" },
      { ["1"] = "a text, not a number" }, math.huge, -math.huge,
    }
    for i, value in ipairs(list) do
      assert.are.same(value, through(value), ("value %d"):format(i))
    end
    local nan = through(0 / 0)
    assert.is_true(nan ~= nan)
    assert.are.equal(-math.huge, 1 / through(-0.0))
    assert.are.equal(4, select("#", through(nil, 1, nil, nil)))
    assert.are.same({ nil, 1, nil, "x" }, { through(nil, 1, nil, "x") })
  end)

  it("come back as they were, whatever they are", function()
    local seed = 20261126
    math.randomseed(seed)
    for i = 1, 3000 do
      local value = random_value(math.random, 0)
      assert.are.same(value, through(value), ("value %d of seed %d"):format(i, seed))
    end
  end)

  it("keep the marks of tuples, lists and objects", function()
    local tuple = through(dist.tuple({ "a", dist.tuple({}) }))
    assert.are.equal(dist.tuple_mt, getmetatable(tuple))
    assert.are.equal(dist.tuple_mt, getmetatable(tuple[2]))
    assert.are.equal(native.array_mt, getmetatable(through(json.array({ 1 }))))
    assert.are.equal(native.object_mt, getmetatable(through(json.object({}))))
    assert.are.equal("{}", json.encode(through(json.object({}))))
  end)

  it("keep terms of a node, which print as on it", function()
    -- <0.123.0> of a@b, with its node as each kind of atom
    for _, atom in ipairs({ "\119\3a@b", "\100\0\3a@b", "\118\0\3a@b", "\115\3a@b" }) do
      local bytes = "\131\88" .. atom .. "\0\0\0\123\0\0\0\0\0\0\0\1"
      for _, home in ipairs({ "a@b", "c@d" }) do
        local pid = dist.decode(bytes, home)
        local again = through(pid)
        assert.are.equal(tostring(pid), tostring(again))
        assert.are.equal(pid, again)
      end
      assert.are.equal("<0.123.0>", tostring(through(dist.decode(bytes, "a@b"))))
    end
  end)

  it("that no recording has are errors, never more", function()
    for _, line in ipairs({ '[["$b",1]]', '[["$b","*"]]', '[["$n","x"]]', '[["$n"]]', '[["$r"]]',
      '[["$r","AAAA"]]', '[["$r",1,2]]', '[["$r","g2E",{}]]', '[["$o",1]]', '[["$p",["$0"],1]]',
      '[["$p",["$n","nan"],1]]' }) do
      local ok, err = pcall(values.decode, (assert(values.from_line(line))))
      assert.is_false(ok, line)
      assert.are.equal("a value that no recording has", err)
    end
    assert.is_nil((values.from_line("7")))
    assert.is_nil((values.from_line("")))
    assert.is_nil((values.from_line("{")))
  end)
end)

describe("labels of what is asked for", function()
  it("are names, and digests of all else", function()
    assert.are.same({ "erlang", "5000" }, values.labels("erlang", 5000))
    local labels = values.labels({ a = 1, b = { 2 } }, ("x"):rep(100), "two\nlines", nil)
    for i = 1, 4 do
      assert.matches("^#%x+$", labels[i])
    end
  end)

  it("are the same for what is the same", function()
    local a, b = { z = 1 }, { y = 2, z = 1 }
    for i = 1, 50 do
      a["k" .. i], b["k" .. 51 - i] = true, true
    end
    a.y = 2
    assert.are.same(values.labels(a), values.labels(b))
    b.y = 3
    assert.are_not.same(values.labels(a), values.labels(b))
    assert.are.same(values.labels({ dist.atom("a") }), values.labels({ dist.atom("a") }))
    assert.are_not.same(values.labels({ dist.atom("a") }), values.labels({ dist.atom("b") }))
  end)
end)
