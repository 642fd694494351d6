--- Clients that consist of others: one after the other (`fallback`), or in turn (`round-robin`).
---
--- Each is `fn(registry, client, call, deadline_ms) -> result | nil, failure`. Members may be
--- strategies, too. A member whose breaker is open costs no time.

local failures = require("runtime.providers.failure")

local M = {}

-- The model did answer: another one is not asked, the watcher tells it what was wrong.
local ANSWERED = { bad_tool_call = true, no_tool_call = true }

-- The failure of a whole list. It can be tried again when one of them can, at the earliest time
-- that one of them named; `probe_ms` is when the first of those left alone may be asked.
local function combine(client, list)
  local texts, soonest_ms, probe_ms = {}, nil, nil
  local retryable, not_asked = false, true
  for i, failure in ipairs(list) do
    texts[i] = ("%s: %s"):format(failure.client, failure.message)
    retryable = retryable or failure.retryable
    not_asked = not_asked and failure.not_asked
    local own_probe_ms = failure.not_asked and failure.retry_after_ms or failure.probe_ms
    probe_ms = own_probe_ms and math.min(probe_ms or own_probe_ms, own_probe_ms) or probe_ms
    if failure.retryable or failure.not_asked then
      local ms = failure.retry_after_ms or 0
      soonest_ms = math.min(soonest_ms or ms, ms)
    end
  end
  local combined = failures.copy(list[#list])
  combined.client = client.name
  combined.message = failures.clean(table.concat(texts, "; "))
  combined.retryable, combined.not_asked = retryable, not_asked or nil
  combined.probe_ms = probe_ms
  combined.retry_after_ms = soonest_ms ~= 0 and soonest_ms or nil
  return combined
end

-- True when asking the client takes no time: it has no server, or is left alone for now.
local function is_instant(registry, client)
  for _, name in ipairs(client.members or {}) do
    if not is_instant(registry, registry.clients[name]) then
      return false
    end
  end
  return client.members ~= nil or client.provider == "rules" or client.breaker:blocked_ms() > 0
end

-- The share of the time that is left for a member, when others that take time come after it.
local function share_ms(registry, client, at, left_ms)
  local count = 1
  for i = at + 1, #client.members do
    count = count + (is_instant(registry, registry.clients[client.members[i]]) and 0 or 1)
  end
  return left_ms / count
end

-- Asks one member after the other, each within its share of the time that is left.
local function fall_back(registry, client, call, deadline_ms)
  local list = {}
  for i, name in ipairs(client.members) do
    local member = registry.clients[name]
    local now_ms = registry.clock.now_ms()
    if now_ms < deadline_ms or is_instant(registry, member) then
      local result, failure = registry:run(member, call,
        now_ms + share_ms(registry, client, i, math.max(0, deadline_ms - now_ms)))
      if result or ANSWERED[failure.kind] and not failure.not_asked then
        return result, failure
      end
      list[#list + 1] = failure
    end
  end
  return nil, #list > 1 and combine(client, list) or list[1]
end

-- The member whose turn it is. One that is left alone for now is passed over.
local function next_member(registry, client)
  local count = #client.members
  local turn = client.turn or client.options.start or math.floor(registry.random() * count)
  for i = turn, turn + count - 1 do
    local member = registry.clients[client.members[i % count + 1]]
    if member.provider == "rules" or not is_instant(registry, member) then
      client.turn = i + 1
      return member
    end
  end
  client.turn = turn + 1
  return registry.clients[client.members[turn % count + 1]]
end

-- Each call takes the next member. There is no failover but by the client's own retry policy; with
-- one, what cannot succeed again goes straight to the next member.
local function take_turn(registry, client, call, deadline_ms)
  local left = client.policy and math.min(client.policy.max_retries, #client.members - 1) or 0
  while true do
    local result, failure = registry:run(next_member(registry, client), call, deadline_ms)
    local is_final = result or ANSWERED[failure.kind] or failure.retryable or failure.not_asked
    if is_final or left == 0 or registry.clock.now_ms() >= deadline_ms then
      return result, failure
    end
    left = left - 1
  end
end

--- By the provider's name.
M.OF = { fallback = fall_back, ["round-robin"] = take_turn }

return M
