--- Older samples, packed: blocks of up to 64, a column per metric.
---
--- A column is one value while it does not change, then whole numbers or hundredths as differences
--- from the first in 8, 16 or 32 bits, else doubles, else a plain list; metrics come out exactly as
--- they went in. A sample that is read again is a view: its data answer `data[key]`, but cannot be
--- gone through. `M.whole(data)` makes a table of them.

local ffi = require("ffi")
local json = require("runtime.json")

local M = {}

M.BLOCK = 64

local DOUBLE = ffi.typeof("double[64]")
local FLOAT, IDS = ffi.typeof("float[64]"), ffi.typeof("uint32_t[128]")

-- A kind of columns: encode(value, base) -> number or nil where it does not fit, decode(number,
-- base). The two least numbers stand for an absent value and for null. `scale` is how many units
-- of the column are one of the metric.
local function whole_kind(bits, scale)
  local absent = -2 ^ (bits - 1)
  local null, limit = absent + 1, -absent - 1
  return {
    new = ffi.typeof(("struct { double base; uint8_t kind; int%d_t at[64]; }"):format(bits)),
    base = function(value)
      return math.floor(value * scale + 0.5)
    end,
    encode = function(value, base)
      if value == nil then
        return absent
      elseif value == json.null then
        return null
      elseif type(value) ~= "number" or math.abs(value) >= 2 ^ 52 / scale then
        return nil
      end
      local units = math.floor(value * scale + 0.5)
      local stored = units - base
      return units / scale == value and stored > null and stored <= limit and stored or nil
    end,
    decode = function(stored, base)
      if stored > null then
        return (stored + base) / scale
      end
      return stored == null and json.null or nil
    end,
  }
end

-- From the narrowest on.
local KINDS = {
  whole_kind(8, 1), whole_kind(16, 1), whole_kind(16, 100), whole_kind(32, 1),
  whole_kind(32, 100),
  {
    new = ffi.typeof("struct { double base; uint8_t kind; double at[64]; }"),
    base = function()
      return 0
    end,
    encode = function(value)
      if value == nil then
        return -math.huge
      elseif value == json.null then
        return math.huge
      elseif type(value) == "number" and math.abs(value) < math.huge then
        return value
      end
    end,
    decode = function(stored)
      if math.abs(stored) < math.huge then
        return stored
      end
      return stored > 0 and json.null or nil
    end,
  },
}

-- What is a column, among the constants: cdata, or a list with this metatable.
local any_mt = {}

---@class packed.Block
---@field first integer The index of its first sample in the history.
---@field count integer
local Block = {}
local block_mt = { __index = Block }

--- An empty block.
---@param first integer
---@return packed.Block
function M.new(first)
  return setmetatable({
    first = first, count = 0,
    mono = DOUBLE(), at = DOUBLE(), took = FLOAT(), ids = IDS(),
    columns = {}, -- key -> the value of all its samples so far, or a column
    extra = {}, -- offset -> { id, host_clock, after_gap }
  }, block_mt)
end

-- The value of a metric at an offset.
local function read(self, key, offset)
  local column = self.columns[key]
  if type(column) == "cdata" then
    return KINDS[column.kind].decode(column.at[offset], column.base)
  elseif getmetatable(column) == any_mt then
    return column[offset]
  end
  return column
end

-- A column of a kind that holds all of the one that was and a new value, or nil.
local function convert(self, key, kind, value)
  local encode, column = KINDS[kind].encode, KINDS[kind].new()
  local base
  column.kind = kind
  for offset = 0, self.count do
    local one = value
    if offset < self.count then
      one = read(self, key, offset)
    end
    if not base and type(one) == "number" and math.abs(one) < 2 ^ 46 then
      base = KINDS[kind].base(one)
      column.base = base
    end
    local stored = encode(one, base or 0)
    if stored == nil then
      return nil
    end
    column.at[offset] = stored
  end
  return column
end

-- Moves a metric into the first kind from `kind` on that holds all of it and a new value.
local function widen(self, key, kind, value)
  for i = kind, #KINDS do
    local column = convert(self, key, i, value)
    if column then
      self.columns[key] = column
      return
    end
  end
  local list = setmetatable({}, any_mt)
  for offset = 0, self.count - 1 do
    list[offset] = read(self, key, offset)
  end
  list[self.count] = value
  self.columns[key] = list
end

local function put(self, key, value)
  local column = self.columns[key]
  if type(column) == "cdata" then
    local stored = KINDS[column.kind].encode(value, column.base)
    if stored ~= nil then
      column.at[self.count] = stored
    else
      widen(self, key, column.kind, value)
    end
  elseif getmetatable(column) == any_mt then
    column[self.count] = value
  elseif self.count == 0 then
    self.columns[key] = value
  elseif column ~= value then
    widen(self, key, 1, value)
  end
end

--- Adds a sample, without its sweep. The block must have room.
---@param sample history.Sample
function Block:add(sample)
  local offset, data = self.count, sample.data
  self.mono[offset], self.at[offset] = sample.mono_ms, sample.at_ms
  self.took[offset] = sample.took_ms or 0
  for key, value in pairs(data) do
    put(self, key, value)
  end
  for key in pairs(self.columns) do
    if data[key] == nil then
      put(self, key, nil)
    end
  end
  local high, low = tostring(sample.id):match("^(%x%x%x%x%x%x%x%x)(%x%x%x%x%x%x%x%x)$")
  if high then
    self.ids[2 * offset], self.ids[2 * offset + 1] = tonumber(high, 16), tonumber(low, 16)
  end
  if sample.host_clock or sample.after_gap or not high then
    self.extra[offset] = { host_clock = sample.host_clock, after_gap = sample.after_gap,
      id = not high and sample.id or nil }
  end
  self.count = offset + 1
end

local function copy_column(column)
  if type(column) == "cdata" then
    return ffi.new(ffi.typeof(column), column)
  elseif getmetatable(column) == any_mt then
    local list = setmetatable({}, any_mt)
    for offset, value in pairs(column) do
      list[offset] = value
    end
    return list
  end
  return column
end

--- Another block of the same samples, which can be added to.
---@return packed.Block
function Block:copy()
  local other = M.new(self.first)
  other.count = self.count
  for _, name in ipairs({ "mono", "at", "took", "ids" }) do
    ffi.copy(other[name], self[name], ffi.sizeof(self[name]))
  end
  for key, column in pairs(self.columns) do
    other.columns[key] = copy_column(column)
  end
  for offset, extra in pairs(self.extra) do
    other.extra[offset] = extra
  end
  return other
end

--- A metric of a sample, by the sample's index in the history.
---@param index integer
---@param key string
---@return any
function Block:value(index, key)
  return read(self, key, index - self.first)
end

--- The time of a sample of the block, by its index in the history.
---@param index integer
---@return number
function Block:mono_ms(index)
  return self.mono[index - self.first]
end

local data_mt = {}

function data_mt.__index(data, key)
  return read(rawget(data, 1), key, rawget(data, 2))
end

--- A sample as it was added, by its index in the history.
---@param index integer
---@return history.Sample
function Block:view(index)
  local offset = index - self.first
  local extra = self.extra[offset] or {}
  return {
    id = extra.id or ("%08x%08x"):format(self.ids[2 * offset], self.ids[2 * offset + 1]),
    at_ms = self.at[offset], mono_ms = self.mono[offset], took_ms = self.took[offset],
    host_clock = extra.host_clock, after_gap = extra.after_gap,
    data = setmetatable({ self, offset }, data_mt),
  }
end

--- The data of a sample as a table to go through: of a view a new one, else the same.
---@param data table
---@return table
function M.whole(data)
  if getmetatable(data) ~= data_mt then
    return data
  end
  local block, offset, copy = rawget(data, 1), rawget(data, 2), {}
  for key in pairs(block.columns) do
    copy[key] = read(block, key, offset)
  end
  return copy
end

return M
