--- A conversation as alternating turns, which several wire formats want.

local M = {}

--- Neighbours of the same role become one turn; a turn without content is left out.
---@param conversation table[] Messages as runtime/clients.lua has them.
---@param parts_of fun(message: table, position: integer): table[] The content of one message. It is
--- called in their order.
---@return { is_model: boolean, parts: table[] }[]
function M.of(conversation, parts_of)
  local turns = {}
  for position, message in ipairs(conversation) do
    local parts = parts_of(message, position)
    local is_model = message.role == "assistant"
    local last = turns[#turns]
    if #parts > 0 and (not last or last.is_model ~= is_model) then
      last = { is_model = is_model, parts = {} }
      turns[#turns + 1] = last
    end
    for _, part in ipairs(parts) do
      table.insert(last.parts, part)
    end
  end
  return turns
end

return M
