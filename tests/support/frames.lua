-- Writes frames of application/vnd.amazon.eventstream, for specs.
--
--   frames.frame({ { ":event-type", "messageStart" } }, '{"role":"assistant"}')
--
-- A header is { name, value } with a text, or { name, value, type } with one of the types' names.

local bit = require("bit")

local M = {}

local function crc_table()
  local list = {}
  for i = 0, 255 do
    local crc = i
    for _ = 1, 8 do
      local shifted = bit.rshift(crc, 1)
      crc = bit.band(crc, 1) == 1 and bit.bxor(shifted, 0xEDB88320) or shifted
    end
    list[i] = crc
  end
  return list
end

local TABLE = crc_table()

--- CRC-32 as gzip has it.
function M.crc32(text)
  local crc = bit.bnot(0)
  for i = 1, #text do
    crc = bit.bxor(TABLE[bit.band(bit.bxor(crc, text:byte(i)), 255)], bit.rshift(crc, 8))
  end
  return bit.bnot(crc) % 2 ^ 32
end

--- A number as `size` bytes, big endian.
function M.number(n, size)
  local bytes = {}
  for i = size, 1, -1 do
    bytes[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(bytes)
end

local function counted(text)
  return M.number(#text, 2) .. text
end

local function fixed(size)
  return function(n)
    return M.number(n, size)
  end
end

local function as_is(bytes)
  return bytes
end

local function nothing()
  return ""
end

local TYPES = {
  ["true"] = { 0, nothing }, ["false"] = { 1, nothing },
  i8 = { 2, fixed(1) }, i16 = { 3, fixed(2) }, i32 = { 4, fixed(4) }, i64 = { 5, as_is },
  bytes = { 6, counted }, string = { 7, counted }, timestamp = { 8, as_is }, uuid = { 9, as_is },
}

--- One header.
function M.header(name, value, kind)
  local encode = TYPES[kind or "string"]
  return string.char(#name) .. name .. string.char(encode[1]) .. encode[2](value)
end

--- A frame around these bytes; `total` and `headers_len` lie when they are given.
function M.raw(headers, payload, total, headers_len)
  local prelude = M.number(total or 16 + #headers + #payload, 4)
    .. M.number(headers_len or #headers, 4)
  local text = prelude .. M.number(M.crc32(prelude), 4) .. headers .. payload
  return text .. M.number(M.crc32(text), 4)
end

--- A whole frame.
---@param headers { [1]: string, [2]: any, [3]: string? }[]
---@param payload string
function M.frame(headers, payload)
  local list = {}
  for i, header in ipairs(headers) do
    list[i] = M.header(header[1], header[2], header[3])
  end
  return M.raw(table.concat(list), payload)
end

return M
