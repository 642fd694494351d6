local changes = require("support.changes")
local json = require("runtime.json")
local recording = require("support.recording")
local support = require("support")

local function through_json(value)
  return value ~= nil and assert(json.decode(assert(json.encode_strict(value)))) or nil
end

-- A recording's path that is removed at the end, with the lines of it.
local function made(name, write)
  local lines, path = support.tmp_path(name .. ".jsonl"), support.tmp_path(name .. ".xz")
  support.on_cleanup(function()
    os.remove(lines)
    os.remove(path)
  end)
  local w = recording.create(lines, { scenario = name, nodes = { "a@h", "b@h" }, started_at = 0 })
  write(w)
  recording.compress(lines, path)
  return path
end

local function entries(path, kind)
  local found = {}
  for entry in recording.lines(path) do
    if not kind or entry.k == kind then
      found[#found + 1] = entry
    end
  end
  return found
end

local function row(pid, changed)
  local one = { pid = pid, name = "worker", memory_kb = 100, per_s = 0.1, registered = false,
    parent = json.null, ids = { "a", "b" } }
  for key, value in pairs(changed or {}) do
    one[key] = value
  end
  return one
end

describe("changes", function()
  local cases = {
    { "nothing", { a = 1, b = { "x" } }, { a = 1, b = { "x" } } },
    { "numbers", { a = 1, b = 2.5, c = -3, d = 9007199254740993 },
      { a = 4000000000, b = 0.1, c = 3, d = 123456789.123456789 } },
    { "texts and truth", { a = "x", b = true, c = false }, { a = "y\n\"ü", b = false, c = true } },
    { "null", { a = json.null, b = 1, c = json.null }, { a = 1, b = json.null, c = json.null } },
    { "keys that come and go", { a = 1, b = 2, c = 3 }, { b = 2, d = false, e = json.null } },
    { "kinds", { a = 1, b = { 1 }, c = { x = 1 } }, { a = { 1 }, b = { x = 1 }, c = 1 } },
    { "lists", { 1, 2, 3, 4, 5 }, { 5, 2, 3, 9, json.null, 1 } },
    { "lists of tables", { { x = 1 }, { x = 2 } }, { { x = 1 }, { x = 3 } } },
    { "empty tables", { a = {}, b = { 1 }, c = { x = 1 } }, { a = { 1 }, b = {}, c = {} } },
    { "rows", { ["<1>"] = row("<1>"), ["<2>"] = row("<2>"), ["<3>"] = row("<3>") },
      { ["<2>"] = row("<2>", { memory_kb = 7, parent = "<1>" }), ["<4>"] = row("<4>") } },
  }
  for _, case in ipairs(cases) do
    it("of " .. case[1] .. " give the new value", function()
      local _, old, new = unpack(case)
      local before = json.encode(old)
      local change = through_json(changes.between(old, new))
      assert.are.equal(json.encode(new), json.encode(changes.apply(old, change)))
      assert.are.equal(before, json.encode(old))
    end)
  end

  it("know rows that come back, and rows that hold their own key", function()
    local series = {
      { rows = { ["<1>"] = row("<1>"), ["<2>"] = row("<2>", { memory_kb = 5 }) } },
      { rows = { ["<2>"] = row("<2>"), ["<3>"] = row("<3>", { parent = "<2>" }), x = "rows" } },
      { rows = { ["<1>"] = row("<1>", { memory_kb = 7 }), ["<4>"] = row("<4>", { name = "<4>" }),
        ["<5>"] = row("<5>", { ids = {} }), ["<6>"] = 6, x = { "rows" } } },
      {},
      { rows = { ["<2>"] = row("<2>"), ["<1>"] = { rows = "<1>" } } },
      { rows = { ["<1>"] = row("<1>") }, ["<1>"] = row("<1>") },
    }
    local written, read, value, last = changes.past(), changes.past(), {}, {}
    for i, new in ipairs(series) do
      local change = changes.between(last, new, written)
      value, last = changes.apply(value, through_json(change), read), new
      assert.are.equal(json.encode(new), json.encode(value))
      if i == 3 then -- no more than that its second field is 93 less than when it was there
        local text = json.encode(change)
        assert.is_truthy(text:find('"<1>",0,[[1,-93],0]', 1, true), text)
      end
    end
  end)

  it("are nil where nothing changed", function()
    local one = { rows = { ["<1>"] = row("<1>") }, top = { "<1>" } }
    assert.is_nil(changes.between(one, { rows = { ["<1>"] = row("<1>") }, top = { "<1>" } }))
  end)

  it("share with the old value what did not change", function()
    local old = { rows = { ["<1>"] = row("<1>"), ["<2>"] = row("<2>") } }
    local new = { rows = { ["<1>"] = row("<1>", { memory_kb = 9 }), ["<2>"] = row("<2>") } }
    local applied = changes.apply(old, changes.between(old, new))
    assert.are.equal(old.rows["<2>"], applied.rows["<2>"])
    assert.are.equal(9, applied.rows["<1>"].memory_kb)
  end)

  it("refuse a table that JSON would not give back", function()
    assert.has_error(function()
      changes.between({}, { [7] = "x" })
    end)
  end)
end)

describe("a recording", function()
  it("gives back samples and passes as they were, whatever they hold", support.async(function()
    local first = { swept_at = 1795466985123, mono_ms = -576460751234, errors = {},
      processes = { total = 2, rows = { ["<1>"] = row("<1>"), ["<2>"] = row("<2>") },
        top = { memory = { "<2>", "<1>" } } } }
    local second = { swept_at = 1795466995123, mono_ms = -576460741234, errors = {},
      processes = { total = 3, rows = { ["<3>"] = row("<3>") },
        top = { memory = { "<2>", "<3>" } } },
      allocators = { { name = "eheap", used_pct = 41.123456789012345 } } }
    local samples = {
      { at_ms = 1795466985123, mono_ms = -576460751234, took_ms = 1.2345678901234567,
        after_gap = true, data = { rss_mb = 1.25, limit = json.null, basis = "rss" } },
      { at_ms = 1795466995123, mono_ms = -576460741234, took_ms = 0.5,
        data = { rss_mb = 1.3, limit = 7, basis = "rss" }, sweep = first },
      { at_ms = 1795467005123, mono_ms = -576460731234, took_ms = 0.5, later = { 1, 2 },
        data = { rss_mb = 1.3, limit = 7, basis = "rss" }, sweep = second },
    }
    local expected = {}
    local path = made("round-trip", function(w)
      for i, sample in ipairs(samples) do
        expected[i] = json.encode(sample)
        sample.id = "0123456789abcdef"
        w:sample(i * 1000, 1, "beam", sample)
        w:sample(i * 1000 + 10, 2, "gc", samples[1])
        if i == 2 then -- the sweep goes on with the tables of a pass that was written
          local shared = first.processes.rows["<2>"]
          shared.memory_kb, second.processes.rows["<2>"] = 2 ^ 40, shared
        end
      end
      w:close({ figures = {} })
    end)
    local seen = {}
    for _, entry in ipairs(entries(path, "sample")) do
      if entry.n == 1 then
        assert.matches("^%x+$", entry.v.id)
        entry.v.id = nil
        seen[#seen + 1] = json.encode(entry.v)
        assert.are.equal(#seen * 1000, entry.t)
        assert.are.equal("beam", entry.d)
      end
    end
    assert.are.same(expected, seen)
  end))

  it("writes a pass once for all who saw it, and another one even when it is equal",
    support.async(function()
      local function sample(pass)
        return { at_ms = 1, mono_ms = 1, took_ms = 1, data = {}, sweep = pass }
      end
      local one, equal = { mono_ms = 5, rows = {} }, { mono_ms = 5, rows = {} }
      local path = made("passes", function(w)
        w:sample(1, 1, "beam", sample(one))
        w:sample(2, 1, "gc", sample(one))
        w:sample(3, 1, "beam", sample(equal))
        w:sample(4, 1, "gc", sample(nil))
        w:close({})
      end)
      assert.are.equal(2, #entries(path, "pass"))
      local s = entries(path, "sample")
      assert.are.equal(s[1].v.sweep, s[2].v.sweep)
      assert.are_not.equal(s[2].v.sweep, s[3].v.sweep)
      assert.are.equal(5, s[3].v.sweep.mono_ms)
      assert.is_nil(s[4].v.sweep)
    end))

  it("keeps events, its head and its end", support.async(function()
    local path = made("events", function(w)
      w:event(1500, 2, "down", { code = "ECLOSED", err = "ECLOSED: gone" })
      w:event(2500, 2, "restarted")
      w:close({ figures = { { name = "restarts", value = 1 } } })
    end)
    local all = entries(path)
    assert.are.equal("events", all[1].v.scenario)
    assert.are.same({ kind = "down", info = { code = "ECLOSED", err = "ECLOSED: gone" } }, all[2].v)
    assert.are.same({ kind = "restarted" }, all[3].v)
    assert.are.equal(1, all[4].v.figures[1].value)
  end))

  it("is refused when it was cut short", support.async(function()
    local path = made("cut", function(w)
      w:event(1, 1, "up")
      w.file:close()
    end)
    assert.has_error(function()
      entries(path)
    end, path .. " is not whole")
  end))
end)
