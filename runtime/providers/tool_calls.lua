--- Tool calls that arrive in fragments, as streams of chat completions have them.
---
--- Servers differ: the index may be missing, the same for every call, or not begin at 0; id and
--- name may be repeated or be empty in later fragments. A fragment belongs to the last call of its
--- index, else to the last call; a new id, or a name after arguments, begins another one.

local shared = require("runtime.providers.shared")

local M = {}

---@class tool_calls.Calls
local Calls = {}
local calls_mt = { __index = Calls }

--- No calls yet.
---@return tool_calls.Calls
function M.new()
  return setmetatable({ list = {} }, calls_mt)
end

local function filled(value)
  return value ~= "" and shared.text(value) or nil
end

function Calls:last_of(index)
  for i = #self.list, 1, -1 do
    if index == nil or self.list[i].index == index then
      return self.list[i]
    end
  end
end

function Calls:with_id(id)
  for _, call in ipairs(self.list) do
    if call.id == id then
      return call
    end
  end
end

-- The call that a fragment continues; nil: it begins one.
function Calls:continued(index, id, name)
  local call = index == nil and id and self:with_id(id) or self:last_of(index)
  if not call or (id and call.id and id ~= call.id) then
    return nil
  end
  local begun = #call.pieces > 0 or call.args ~= nil
  if name and begun and not (id and id == call.id) then
    return nil
  end
  -- Without index and id only a name tells where the next call begins.
  if name and index == nil and id == nil and call.name then
    return nil
  end
  return call
end

--- Takes one fragment `{ index?, id?, function = { name?, arguments? } }`.
---@param fragment table
function Calls:add(fragment)
  local index = type(fragment.index) == "number" and fragment.index or nil
  local fn = shared.table(fragment["function"]) or {}
  local id, name = filled(fragment.id), filled(fn.name)
  local call = self:continued(index, id, name)
  if not call then
    call = { index = index, pieces = {} }
    table.insert(self.list, call)
  elseif call.name and id then
    name = nil
  end
  call.id = call.id or id
  if name then
    call.name = (call.name or "") .. name
  end
  if type(fn.arguments) == "table" then
    call.args = fn.arguments
  elseif filled(fn.arguments) then
    table.insert(call.pieces, fn.arguments)
  end
end

--- The calls as far as they are known.
---@return providers.Call[]
function Calls:finish()
  local calls = {}
  for i, call in ipairs(self.list) do
    calls[i] = {
      id = call.id,
      name = call.name,
      args = call.args,
      args_text = table.concat(call.pieces),
    }
  end
  return calls
end

return M
