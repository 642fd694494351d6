--- Older samples, packed: blocks of up to 64, a column per metric.
---
--- A column is one value while it does not change, then whole numbers or hundredths in 32 bits,
--- else doubles, else a plain list; metrics come out exactly as they went in. A sample that is read
--- again is a view: its data answer `data[key]`, but cannot be gone through. `M.whole(data)` makes
--- a table of them.

local ffi = require("ffi")
local json = require("runtime.json")

local M = {}

M.BLOCK = 64

local INT, DOUBLE = ffi.typeof("int32_t[64]"), ffi.typeof("double[64]")
local FLOAT, IDS = ffi.typeof("float[64]"), ffi.typeof("uint32_t[128]")
local ABSENT, NULL = -2147483648, -2147483647 -- in a column of 32 bits
local LIMIT = 2147483646
local ABSENT_DOUBLE, NULL_DOUBLE = -math.huge, math.huge

-- The kinds of columns from the narrowest on: encode(value) -> number or nil, decode(number).
local KINDS = {
  {
    new = INT,
    encode = function(value)
      if value == nil then
        return ABSENT
      elseif value == json.null then
        return NULL
      elseif type(value) == "number" and value % 1 == 0 and value > -LIMIT and value < LIMIT then
        return value
      end
    end,
    decode = function(stored)
      if stored > NULL then
        return stored
      end
      return stored == NULL and json.null or nil
    end,
  },
  {
    new = INT,
    encode = function(value)
      if value == nil then
        return ABSENT
      elseif value == json.null then
        return NULL
      elseif type(value) == "number" and value > -LIMIT / 100 and value < LIMIT / 100 then
        local hundredths = math.floor(value * 100 + 0.5)
        return hundredths / 100 == value and hundredths or nil
      end
    end,
    decode = function(stored)
      if stored > NULL then
        return stored / 100
      end
      return stored == NULL and json.null or nil
    end,
  },
  {
    new = DOUBLE,
    encode = function(value)
      if value == nil then
        return ABSENT_DOUBLE
      elseif value == json.null then
        return NULL_DOUBLE
      elseif type(value) == "number" and math.abs(value) < math.huge then
        return value
      end
    end,
    decode = function(stored)
      if stored ~= ABSENT_DOUBLE and stored ~= NULL_DOUBLE then
        return stored
      end
      return stored == NULL_DOUBLE and json.null or nil
    end,
  },
}
local ANY = #KINDS + 1 -- a Lua list

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
    constant = {}, -- key -> the value of all its samples so far
    kind = {}, values = {}, -- key -> of a column with several values
    extra = {}, -- offset -> { id, host_clock, after_gap }
  }, block_mt)
end

-- The value of a column at an offset.
local function read(self, key, offset)
  local kind = self.kind[key]
  if not kind then
    return self.constant[key]
  elseif kind == ANY then
    return self.values[key][offset]
  end
  return KINDS[kind].decode(self.values[key][offset])
end

-- Moves a column into the first kind from `kind` on that holds all of it and a new value.
local function widen(self, key, kind, value)
  local count = self.count
  while kind < ANY do
    local encode, values = KINDS[kind].encode, KINDS[kind].new()
    local fits = true
    for offset = 0, count do
      local stored
      if offset < count then
        stored = encode(read(self, key, offset))
      else
        stored = encode(value)
      end
      if stored == nil then
        fits = false
        break
      end
      values[offset] = stored
    end
    if fits then
      self.kind[key], self.values[key], self.constant[key] = kind, values, nil
      return
    end
    kind = kind + 1
  end
  local values = {}
  for offset = 0, count - 1 do
    values[offset] = read(self, key, offset)
  end
  values[count] = value
  self.kind[key], self.values[key], self.constant[key] = ANY, values, nil
end

local function put(self, key, value)
  local kind = self.kind[key]
  if not kind then
    local constant = self.constant[key]
    if self.count == 0 then
      self.constant[key] = value
    elseif constant ~= value then
      widen(self, key, 1, value)
    end
  elseif kind == ANY then
    self.values[key][self.count] = value
  else
    local stored = KINDS[kind].encode(value)
    if stored ~= nil then
      self.values[key][self.count] = stored
    else
      widen(self, key, kind, value)
    end
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
  for _, keys in ipairs({ self.kind, self.constant }) do
    for key in pairs(keys) do
      if data[key] == nil then
        put(self, key, nil)
      end
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
  for _, keys in ipairs({ block.kind, block.constant }) do
    for key in pairs(keys) do
      copy[key] = read(block, key, offset)
    end
  end
  return copy
end

return M
