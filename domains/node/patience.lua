--- Reading files on a node with care: while all dirty IO schedulers are taken, such a read does not
--- return. So each has a short deadline, and after a late answer no file is read for a while, since
--- what hangs there stays there.

local async = require("runtime.async")

local M = {}

local TIMEOUT_MS = 500
local FIRST_REST_MS = 60000 -- doubled each time
local MAX_REST_MS = 15 * 60000

--- Runs `read`, unless an earlier one of this domain and node was late a short time ago.
---@async
---@param target domain.Target
---@param read async fun(target: domain.Target, deadline: async.Deadline): any, string?, string?
---@return any value nil when it is late, or resting.
function M.read(target, read)
  local memo, now_ms = target.memo, target.clock.now_ms()
  if memo.rest_until_ms and now_ms < memo.rest_until_ms then
    return nil
  end
  local value, _, code = read(target, async.deadline(TIMEOUT_MS))
  if value == nil then
    if code == "ETIMEDOUT" then
      memo.rest_ms = math.min(MAX_REST_MS, 2 * (memo.rest_ms or FIRST_REST_MS / 2))
      memo.rest_until_ms = now_ms + memo.rest_ms
    end
    return nil
  end
  memo.rest_ms, memo.rest_until_ms = nil, nil
  return value
end

return M
