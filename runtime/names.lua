--- Names of things on a node, as beamlens prints them everywhere.
---
--- What a node calls its processes, modules and tables may be any bytes: what comes out of here is
--- bounded, valid UTF-8 without control characters.

local M = {}

local REPLACEMENT = "\239\191\189" -- U+FFFD
local MAX_BYTES = 200

-- The length of the UTF-8 sequence at `i`, or nil where there is none.
local function sequence_length(text, i)
  local a, b = text:byte(i, i + 1)
  if a < 0x80 then
    return 1
  end
  b = b or 0
  local length = a >= 0xC2 and a <= 0xDF and 2 or a >= 0xE0 and a <= 0xEF and 3
    or a >= 0xF0 and a <= 0xF4 and 4
  if not length or b < 0x80 or b > 0xBF
    -- Overlong forms, surrogates, and what lies beyond U+10FFFF.
    or (a == 0xE0 and b < 0xA0) or (a == 0xED and b > 0x9F)
    or (a == 0xF0 and b < 0x90) or (a == 0xF4 and b > 0x8F) then
    return nil
  end
  for k = i + 2, i + length - 1 do
    local c = text:byte(k) or 0
    if c < 0x80 or c > 0xBF then
      return nil
    end
  end
  return length
end

--- Replaces each byte that is not part of valid UTF-8 by U+FFFD.
---@param text string
---@return string
function M.utf8(text)
  if not text:find("[\128-\255]") then
    return text
  end
  local parts, i = {}, 1
  while i <= #text do
    local ascii_end = select(2, text:find("^[%z\1-\127]+", i))
    if ascii_end then
      parts[#parts + 1] = text:sub(i, ascii_end)
      i = ascii_end + 1
    else
      local length = sequence_length(text, i)
      parts[#parts + 1] = length and text:sub(i, i + length - 1) or REPLACEMENT
      i = i + (length or 1)
    end
  end
  return table.concat(parts)
end

--- Makes text fit to be a name: valid UTF-8, control characters as `?`, at most `max_bytes`.
---@param text string
---@param max_bytes? integer Default: 200.
---@return string
function M.clean(text, max_bytes)
  local limit = max_bytes or MAX_BYTES
  local clean = M.utf8(text:sub(1, limit + 4)):gsub("%c", "?")
  if #clean <= limit then
    return clean
  end
  local last = limit - #"…"
  while last > 0 and (clean:byte(last + 1) or 0) >= 0x80 and clean:byte(last + 1) < 0xC0 do
    last = last - 1
  end
  return clean:sub(1, last) .. "…"
end

--- A registered name or a module: without Elixir's prefix.
---@param atom_text string
---@return string
function M.atom(atom_text)
  return M.clean((atom_text:gsub("^Elixir%.", "")))
end

--- A function: `mod:fun/arity` of Erlang, `Mod.fun/arity` of Elixir.
---@param mfa any[] Module, function and arity, as texts and a number.
---@return string
function M.mfa(mfa)
  local module, name, arity = tostring(mfa[1]), tostring(mfa[2]), mfa[3]
  local elixir = module:match("^Elixir%.(.+)$")
  if elixir then
    return M.clean(("%s.%s/%d"):format(elixir, name, arity))
  end
  return M.clean(("%s:%s/%d"):format(module, name, arity))
end

--- A process's label, as the node printed it. Elixir's modules lose their quotes and prefix.
---@param printed string
---@return string
function M.label(printed)
  return M.clean((printed:gsub("'Elixir%.([%w_.]+)'", "%1"):gsub("^Elixir%.", "")))
end

--- A name without what differs from one process to the next of its kind: pids, references, ports.
---@param name string
---@return string
function M.stable(name)
  return (name:gsub("#%w+<[%d.]+>", "#<>"):gsub("<%d+%.%d+%.%d+>", "<>"))
end

-- The groups of an IPv6 address, the longest run of zeros left out.
local function ipv6(groups)
  local from, length = 0, 1
  for i = 1, #groups do
    local run = 0
    while groups[i + run] == 0 do
      run = run + 1
    end
    if run > length then
      from, length = i, run
    end
  end
  local texts = {}
  for i, group in ipairs(groups) do
    texts[i] = ("%x"):format(group)
  end
  if from == 0 then
    return table.concat(texts, ":")
  end
  return table.concat(texts, ":", 1, from - 1) .. "::" .. table.concat(texts, ":", from + length)
end

--- An address and a number of a port: `10.0.0.5:5432`, `[::1]:5432`.
---@param address number[] As Erlang has it: 4 numbers, or 8.
---@param port number
---@return string
function M.address(address, port)
  if #address == 8 then
    return ("[%s]:%d"):format(ipv6(address), port)
  end
  return ("%s:%d"):format(table.concat(address, "."), port)
end

return M
