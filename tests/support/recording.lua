-- Recordings of watched nodes: what their samplers and sweeps saw, and how their connections went.
--
--   local w = recording.create("build/tmp/pg.jsonl", { scenario = "pg", … })
--   w:sample(5020, 1, "beam", sample)              -- ms since the begin, node, domain
--   w:event(5030, 1, "restarted", info)
--   w:close({ members = 20000 })
--   recording.compress("build/tmp/pg.jsonl", "tests/recordings/pg.xz")
--
--   for line in recording.lines("tests/recordings/pg.xz") do … end
--
-- A file is JSON lines under xz. Samples and passes of the sweep are taken as they come, whatever
-- they hold, and written as what changed against the one before of the same node (and domain); see
-- support/changes.lua. A sample refers to its pass. A sample's id is left out, and the tracks
-- of a pass, which a history makes anew from the rows.

local changes = require("support.changes")
local json = require("runtime.json")
local node = require("support.node")
local rows = require("runtime.sweep.rows")

local M = {}

M.VERSION = 1

local Writer = {}
local writer_mt = { __index = Writer }

local function shell_word(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- A copy: passes share tables that the next one may change.
local function copy(value)
  if type(value) ~= "table" then
    return value
  end
  local new, count = {}, 0
  for key, inner in pairs(rows.whole(value)) do
    new[key] = copy(inner)
    count = count + 1
  end
  assert(new[1] == nil or count == #new, "a list with holes, or with keys that are texts")
  return new
end

--- Begins a file of JSON lines.
---@param path string
---@param head table What is to be known of it: scenario, nodes and so on.
function M.create(path, head)
  local self = setmetatable({ file = assert(io.open(path, "w")), samples = {}, passes = {},
    pass_number = {} }, writer_mt)
  head.version = M.VERSION
  self:line({ k = "head", v = head })
  return self
end

function Writer:line(entry)
  assert(self.file:write(assert(json.encode_strict(entry)), "\n"))
end

-- The number of a node's pass, which is written when it is new. 0: none.
function Writer:pass(at_ms, node_index, pass)
  local last = self.passes[node_index] or { plain = {}, number = 0, past = changes.past() }
  if not pass then
    return 0
  elseif last.pass == pass then
    return last.number
  end
  local plain = {}
  for key, value in pairs(pass) do
    if key ~= "tracks" then
      plain[key] = copy(value)
    end
  end
  self:line({ k = "pass", t = at_ms, n = node_index,
    v = changes.between(last.plain, plain, last.past) or 0 })
  local number = last.number + 1
  self.passes[node_index] = { pass = pass, plain = plain, number = number, past = last.past }
  return number
end

--- Writes a sample, before a history has it: that takes its pass away later.
---@param at_ms number Since the recording began.
---@param node_index integer
---@param domain_name string
---@param sample history.Sample
function Writer:sample(at_ms, node_index, domain_name, sample)
  local plain = {}
  for key, value in pairs(sample) do
    if key ~= "id" and key ~= "sweep" then
      plain[key] = copy(value)
    end
  end
  plain.pass = self:pass(at_ms, node_index, sample.sweep)
  local key = node_index .. domain_name
  self:line({ k = "sample", t = at_ms, n = node_index, d = domain_name,
    v = changes.between(self.samples[key] or {}, plain) or 0 })
  self.samples[key] = plain
end

--- Writes what subscribers of a node's target were told.
function Writer:event(at_ms, node_index, kind, info)
  self:line({ k = "event", t = at_ms, n = node_index, v = { kind = kind, info = copy(info) } })
end

--- Ends the file, with what was there to be seen.
---@param seen table
function Writer:close(seen)
  self:line({ k = "end", v = seen })
  self.file:close()
end

--- Makes the file of a recording out of its lines.
---@async
---@param from string
---@param to string
function M.compress(from, to)
  local code, text = node.run_program("sh", { "-c",
    ("xz -9e -c %s > %s"):format(shell_word(from), shell_word(to)) })
  assert(code == 0, text)
end

local Reader = {}
local reader_mt = { __index = Reader }

function Reader:pass(entry)
  local last = self.passes[entry.n] or { pass = {}, number = 0, past = changes.past() }
  local pass = changes.apply(last.pass, entry.v, last.past)
  -- A pass is known by its identity, even when nothing changed.
  if pass == last.pass then
    pass = copy(pass)
  end
  self.passes[entry.n] = { pass = pass, number = last.number + 1, past = last.past }
  entry.v = pass
end

function Reader:sample(entry)
  local key = entry.n .. entry.d
  local plain = changes.apply(self.samples[key] or {}, entry.v)
  self.samples[key], self.count = plain, self.count + 1
  local sample = { id = ("%016x"):format(self.count) }
  for name, value in pairs(plain) do
    sample[name] = value
  end
  sample.pass = nil
  if plain.pass > 0 then
    local last = self.passes[entry.n]
    assert(last and last.number == plain.pass, "a sample refers to a pass that is not the last")
    sample.sweep = last.pass
  end
  entry.v = sample
end

--- Goes through a recording: `{ k, t, n, d, v }`, where `k` is "head", "pass", "sample", "event" or
--- "end", `t` ms since the begin, `n` the node's index, `d` the domain, `v` what it is.
---@param path string Packed by xz.
---@return fun(): table?
function M.lines(path)
  local pipe = assert(io.popen("xz -dc " .. shell_word(path)))
  local reader = setmetatable({ samples = {}, passes = {}, count = 0 }, reader_mt)
  local ended = false
  return function()
    local text = pipe:read("*l")
    if not text then
      pipe:close()
      assert(ended, path .. " is not whole")
      return nil
    end
    local entry = assert(json.decode(text))
    if entry.k == "pass" or entry.k == "sample" then
      reader[entry.k](reader, entry)
    end
    ended = entry.k == "end"
    return entry
  end
end

return M
