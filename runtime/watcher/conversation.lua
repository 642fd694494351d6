--- A conversation with a model, in no provider's format: the messages of one cycle.
---
---   { role = "user", text = … }                                  the opening message
---   { role = "assistant", call = { id, name, args, origin }, text = … }  one tool call
---   { role = "tool", id = …, name = …, text = …, is_error = … }  its result
---
--- Results are JSON inside a fence that nothing in them can close, since the node wrote most of it.
--- A result has at most 8 KiB; after two more calls it shrinks to 1 KiB.

local json = require("runtime.json")
local redact = require("runtime.redact")

local M = {}

M.MAX_BYTES = 8192
M.OLD_BYTES = 1024
-- How many of the last results stay whole.
local FRESH = 2
-- Kept free for `total` and `returned` when a list is cut.
local CUT_MARGIN = 64

---@class conversation.Conversation
local Conversation = {}
local conversation_mt = { __index = Conversation }

--- Fences JSON as data. `</` becomes `<\/`, and the beginning of a fence `\u003c`: the same JSON,
--- which closes no fence and opens none.
---@param text string JSON.
---@param tag? string Default: `data`.
---@return string
function M.fence(text, tag)
  tag = tag or "data"
  text = text:gsub("</", "<\\/"):gsub("<([DdNn][AaOo][Tt][AaEe])", "\\u003c%1")
  return ("<%s>%s</%s>"):format(tag, text, tag)
end

--- Encodes an object with these keys first; the others follow sorted.
---@param value table
---@param order? string[]
---@return string
function M.encode(value, order)
  local copy = {}
  for key, field in pairs(value) do
    copy[key] = field
  end
  return next(copy) == nil and "{}" or json.encode(setmetatable(copy, { __order = order }))
end

-- The key of the longest list in an object.
local function longest_list(value)
  local found
  for key, field in pairs(value) do
    if type(field) == "table" and #field > 0 and (not found or #field > #value[found]) then
      found = key
    end
  end
  return found
end

-- The first rows of a list whose JSON fits into `room` bytes.
local function rows_that_fit(rows, room)
  local kept = {}
  for i, row in ipairs(rows) do
    room = room - #json.encode(row) - 1
    if room < 0 then
      break
    end
    kept[i] = row
  end
  return kept
end

local function copy_with(value, changes)
  local copy = {}
  for key, field in pairs(value) do
    copy[key] = field
  end
  for key, field in pairs(changes) do
    copy[key] = field
  end
  return copy
end

--- Cuts text at a whole character.
---@param text string
---@param bytes integer At most.
---@return string
function M.cut(text, bytes)
  if #text <= bytes then
    return text
  end
  return (text:sub(1, bytes):gsub("[\192-\255][\128-\191]*$", ""))
end

--- Encodes a result in at most `max` bytes: its longest list is cut at a row, with `total` and
--- `returned`; what has no list is replaced by its size and its start.
---@param value table
---@param order? string[] As for `encode`.
---@param max? integer Default: 8192.
---@return string
function M.fit(value, order, max)
  max = max or M.MAX_BYTES
  local text = M.encode(value, order)
  if #text <= max then
    return text
  end
  local size, key = #text, longest_list(value)
  if key then
    local rows = value[key]
    local without = M.encode(copy_with(value, { [key] = {} }), order)
    local kept = rows_that_fit(rows, max - #without - CUT_MARGIN)
    text = M.encode(copy_with(value,
      { [key] = kept, total = value.total or #rows, returned = #kept }), order)
    if #text <= max then
      return text
    end
  end
  return M.encode({ error = ("the result has %d bytes, at most %d are shown"):format(size, max),
    -- Half a key is no key any more, but still a part of one.
    start = M.cut(redact.text(text), math.floor(max / 4)) }, { "error" })
end

--- Creates an empty conversation.
---@param opts? { on_shorten?: fun(before_bytes: integer, after_bytes: integer) }
---@return conversation.Conversation
function M.new(opts)
  return setmetatable({
    on_shorten = opts and opts.on_shorten or function() end,
    list = {},
    results = {}, -- { message, json } of those that are still whole, oldest first
  }, conversation_mt)
end

--- The messages, oldest first. The same tables from call to call.
---@return table[]
function Conversation:messages()
  return self.list
end

--- The position of the last message up to which nothing will change any more: a whole result does,
--- when it shrinks. nil while there is only the opening: a calm cycle asks once, and a provider's
--- cache would be paid for in vain.
---@return integer?
function Conversation:settled()
  if #self.list < 2 then
    return nil
  end
  local will_shrink = {}
  for _, result in ipairs(self.results) do
    will_shrink[result.message] = #result.json > M.OLD_BYTES
  end
  for i, message in ipairs(self.list) do
    if will_shrink[message] then
      return i - 1
    end
  end
  return #self.list
end

--- How many bytes of text the messages have.
---@return integer
function Conversation:bytes()
  local total = 0
  for _, message in ipairs(self.list) do
    total = total + #(message.text or "")
    if message.call then
      total = total + #json.encode_once(message.call.args)
    end
  end
  return total
end

--- Begins anew with an opening message.
---@param text string
function Conversation:open(text)
  self.list = { { role = "user", text = text } }
  self.results = {}
end

--- Adds the model's call.
---@param call { id: string, tool: string, args: table, text: string?, origin: table? }
function Conversation:add_call(call)
  self.list[#self.list + 1] = {
    role = "assistant",
    call = { id = call.id, name = call.tool, args = call.args, origin = call.origin },
    text = call.text,
  }
end

local function shorten(result)
  local kept = M.cut(result.json, M.OLD_BYTES)
  result.message.text = ("%s\n(an older result: the first %d of %d bytes)"):format(
    M.fence(kept .. "…"), #kept, #result.json)
end

--- Adds the result of the last call, and shrinks the one of three calls ago.
---@param call { id: string, tool: string }
---@param text string JSON, within the limit.
---@param info? { is_error?: boolean, notice?: string } A `notice` is the runtime's own words.
function Conversation:add_result(call, text, info)
  info = info or {}
  local message = {
    role = "tool",
    id = call.id,
    name = call.tool,
    text = M.fence(text) .. (info.notice and "\n" .. info.notice or ""),
    is_error = info.is_error or nil,
  }
  self.list[#self.list + 1] = message
  table.insert(self.results, { message = message, json = text })
  if #self.results > FRESH then
    local old = table.remove(self.results, 1)
    if #old.json > M.OLD_BYTES then
      local before = self:bytes()
      shorten(old)
      self.on_shorten(before, self:bytes())
    end
  end
end

--- What is between the opening message and the last call.
---@return table[] messages
function Conversation:old()
  local old = {}
  for i = 2, #self.list - 2 do
    old[#old + 1] = self.list[i]
  end
  return old
end

--- Puts the runtime's words in the place of `old`.
---@param text string
---@param summary { calls: integer, lines: string[] } What they say, for the next time.
function Conversation:replace_old(text, summary)
  local count = #self.list
  self.list = { self.list[1], { role = "user", text = text, summary = summary },
    self.list[count - 1],
    self.list[count] }
  self.results = { self.results[#self.results] }
end

--- Shrinks all results at once.
function Conversation:shrink()
  for _, result in ipairs(self.results) do
    if #result.json > M.OLD_BYTES then
      shorten(result)
    end
  end
  self.results = {}
end

--- Adds the runtime's words to the last message, when there is no call to answer.
---@param text string
function Conversation:remark(text)
  local last = self.list[#self.list]
  last.text = ("%s\n\n%s"):format(last.text or "", text)
end

return M
