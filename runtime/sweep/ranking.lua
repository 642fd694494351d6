--- Who leads among the rows of a part of the sweep, by each of its orders.

local M = {}

M.MOST = 50

---@class sweep.Ranking
local Ranking = {}
local ranking_mt = { __index = Ranking }

--- Creates a ranking.
---@generic Row: table
---@param opts { orders: table<string, string>, id: string,
--- is_before: fun(a: Row, b: Row): boolean }
--- `orders` names the field of each order, the largest first; a row without it does not take part.
--- `id` is the field of what a row is listed by; `is_before` decides between equal ones.
---@return sweep.Ranking
function M.new(opts)
  return setmetatable({ orders = opts.orders, id = opts.id, is_before = opts.is_before },
    ranking_mt)
end

local function ranked(self, rows, field, most)
  local list = {}
  for _, row in pairs(rows) do
    if row[field] then
      list[#list + 1] = row
    end
  end
  table.sort(list, function(a, b)
    if a[field] ~= b[field] then
      return a[field] > b[field]
    end
    return self.is_before(a, b)
  end)
  local ids = {}
  for i = 1, math.min(most, #list) do
    ids[i] = list[i][self.id]
  end
  return ids
end

--- The leading rows in all orders.
---@param rows table<string, table>
---@param most? integer How many of each. Default: 50.
---@return table<string, string[]> top Ids by order.
function Ranking:of(rows, most)
  local top = {}
  for order, field in pairs(self.orders) do
    top[order] = ranked(self, rows, field, most or M.MOST)
  end
  return top
end

--- The same, each order made whenever somebody asks for it: nothing is kept.
---@param rows table<string, table>
---@return table<string, string[]> top
function Ranking:on_demand(rows)
  return setmetatable({}, { __index = function(_, order)
    local field = self.orders[order]
    return field and ranked(self, rows, field, M.MOST)
  end })
end

return M
