--- Spending: what has been spent, by whom, and whether a budget has room for one more request.
---
--- An account belongs to the process or to a watcher. It counts tokens by the hour and USD by the
--- day, both of UTC, with or without a limit. A request is admitted while what was spent and what
--- it will likely cost fit the limits of all its accounts. The most that it may cost is held back
--- until it is settled; near the limit requests therefore go one at a time, and however many ask
--- at once, a limit is passed by no more than one of them was misjudged.
---
--- Calm watching may bring what is spent to 60 % of a limit and no further: the rest is reserved
--- for requests of cycles that a finding woke.
---
---   local ledger = spending.new({ clock = clock, telemetry = bus })
---   local account = ledger:account("process", { usd_per_day = 5 })
---   local hold, failure = ledger:admit({ account }, estimate, deadline_ms)
---   ledger:settle(hold, { usd = 0.002, tokens = 1800 })

local async = require("runtime.async")
local failures = require("runtime.providers.failure")
local members = require("runtime.members")
local units = require("runtime.units")

local M = {}

local HOUR_MS, DAY_MS = 3600000, 86400000
local KINDS = {
  tokens_per_hour = { unit = "tokens", ms = HOUR_MS },
  usd_per_day = { unit = "usd", ms = DAY_MS },
}
local ORDER = { "tokens_per_hour", "usd_per_day" }
-- What was never settled counts as estimated, so long after its deadline.
local GRACE_MS = 5000

--- The budgets that there are, by name: what they count and how long their window is.
M.KINDS = KINDS

--- The share of a limit that calm watching may use.
M.CALM_SHARE = 0.6

---@class spending.Window
---@field kind string
---@field limit? number
---@field start_ms number Never goes back.
---@field entered_ms number By the monotonic clock.
---@field end_ms number As it was last looked at.
---@field used number
---@field held number The most that requests under way may cost.
---@field under_way number What they will likely cost.
---@field is_told boolean That it is exhausted was said.
---@field is_calm_told boolean That calm watching has used its share was said.

-- A window that nothing was asked of has no more than it needs: there are two for each watcher.
local window_mt = { __index = { used = 0, held = 0, under_way = 0, is_told = false,
  is_calm_told = false } }

---@class spending.Account
---@field name string
---@field windows table<string, spending.Window>
---@field total estimate.Cost Since the start, windows or not.
local Account = {}
local account_mt = { __index = Account }

---@class spending.Ledger
---@field accounts table<string, spending.Account>
local Ledger = {}
local ledger_mt = { __index = Ledger }

--- Creates a ledger in which nothing is spent.
---@param opts { clock: clock.Clock, telemetry: telemetry.Bus, on_change?:
--- fun(account: string, window: spending.Window) }
---@return spending.Ledger
function M.new(opts)
  return setmetatable({ clock = opts.clock, telemetry = opts.telemetry,
    on_change = opts.on_change or function() end, accounts = {}, open = members.new(),
    settled = async.signal() }, ledger_mt)
end

-- When a window ends; where the clock was set back behind it, its own length after it was entered.
local function end_of(self, window, wall_ms)
  local length = KINDS[window.kind].ms
  local end_ms = window.start_ms + length
  if wall_ms < window.start_ms then
    end_ms = math.min(end_ms, wall_ms + window.entered_ms + length - self.clock.now_ms())
  end
  return end_ms
end

-- Begins a new window when the present one is over. A window of the calendar is entered once: where
-- the clock is set back behind the present one, that one lasts on, until its own length has passed
-- by the monotonic clock. So whatever jumps the clock makes, no window is spent twice.
local function roll(self, window)
  local length, wall_ms = KINDS[window.kind].ms, self.clock.wall_ms()
  local start_ms, now_ms = math.floor(wall_ms / length) * length, self.clock.now_ms()
  window.entered_ms = window.entered_ms or now_ms
  local is_over = start_ms > window.start_ms
    or (start_ms < window.start_ms and now_ms - window.entered_ms >= length)
  if is_over then
    window.used, window.is_told, window.is_calm_told = nil, nil, nil
    window.start_ms, window.entered_ms = math.max(start_ms, window.start_ms), now_ms
  end
  window.end_ms = end_of(self, window, wall_ms)
  return window
end

--- The account of a name; made when there is none.
---@param name string
---@param limits? { tokens_per_hour?: number, usd_per_day?: number } They replace those in force.
---@return spending.Account
function Ledger:account(name, limits)
  local account = self.accounts[name]
  if not account then
    account = setmetatable({ name = name, windows = {}, ledger = self,
      total = { tokens = 0, usd = 0 } }, account_mt)
    for kind in pairs(KINDS) do
      account.windows[kind] = roll(self, setmetatable({ kind = kind, start_ms = 0 }, window_mt))
    end
    self.accounts[name] = account
  end
  for kind, window in pairs(account.windows) do
    if limits then
      window.limit = limits[kind]
    end
  end
  return account
end

--- Takes what was spent before a restart, unless its window is over.
---@param rows { account: string, budget: string, start_ms: number, used: number,
--- is_told: boolean, is_calm_told: boolean }[]
function Ledger:restore(rows)
  for _, row in ipairs(rows) do
    local window = KINDS[row.budget] and roll(self, self:account(row.account).windows[row.budget])
    if window and row.start_ms >= window.start_ms then
      window.used = window.used + row.used
      window.is_told, window.is_calm_told = row.is_told, row.is_calm_told
      window.start_ms = row.start_ms
    end
  end
end

local function each_window(accounts, fn)
  for _, account in ipairs(accounts) do
    for _, kind in ipairs(ORDER) do
      fn(account, account.windows[kind], KINDS[kind].unit)
    end
  end
end

-- "full" with the window that has no room, "wait" while others may use what is left, or nil.
local function judge(self, accounts, cost, is_calm)
  local verdict, full
  each_window(accounts, function(account, window, unit)
    local likely = cost.likely[unit]
    roll(self, window)
    if not window.limit or likely <= 0 or (full and not full.is_reserved) then
      return
    end
    local limit = window.limit * (is_calm and M.CALM_SHARE or 1)
    if window.used + likely > limit then
      -- A budget that is spent says more than one whose rest is reserved.
      local is_reserved = window.used + likely <= window.limit
      if not full or not is_reserved then
        verdict, full = "full", { account = account, window = window, is_reserved = is_reserved }
      end
    elseif not full and window.held > 0
      and window.used + window.held + cost.most[unit] > limit then
      verdict = "wait"
    end
  end)
  return verdict, full
end

local function until_ms(window)
  return window.end_ms
end

local function bare_amount(kind, value)
  if KINDS[kind].unit == "usd" then
    return ("%.2f"):format(value)
  end
  return units.format_count(math.floor(value + 0.5))
end

local function amount(kind, value)
  return bare_amount(kind, value) .. (KINDS[kind].unit == "usd" and " USD" or " tokens")
end

-- Says once per window that a budget, or its share for calm watching, is spent.
local function tell(self, full, meta)
  local window = full.window
  local flag = full.is_reserved and "is_calm_told" or "is_told"
  if window[flag] then
    return
  end
  window[flag] = true
  self.on_change(full.account.name, window)
  self.telemetry:execute(full.is_reserved and "beamlens.watcher.budget_reserved"
    or "beamlens.watcher.budget_exhausted", { until_time = until_ms(window) }, {
      watcher = meta.watcher, domain = meta.domain, node = meta.node, account = full.account.name,
      budget = window.kind, limit = window.limit, used = window.used,
    })
end

-- The failure of a request that is not made.
local function refuse(self, full, meta)
  local window, account = full.window, full.account
  tell(self, full, meta)
  local text = full.is_reserved
    and "calm watching has used its share of the budget of %s %s until %s UTC (%s)"
    or "the budget of %s %s is spent until %s UTC (%s)"
  return failures.new("budget", text:format(amount(window.kind, window.limit),
    window.kind == "usd_per_day" and "a day" or "an hour",
    units.format_clock(until_ms(window)):sub(1, 5), account.name),
    { until_ms = until_ms(window), is_reserved = full.is_reserved or nil })
end

local function hold(self, accounts, cost, deadline_ms)
  local held = { accounts = accounts, cost = cost, expires_ms = deadline_ms + GRACE_MS }
  each_window(accounts, function(account, window, unit)
    window.held = window.held + cost.most[unit]
    window.under_way = window.under_way + cost.likely[unit]
    self.on_change(account.name, window)
  end)
  self.open:add(held)
  return held
end

-- Settles what nobody settled: its task was ended.
local function expire(self)
  local now_ms = self.clock.now_ms()
  local expired = self.open:list(function(held)
    return held.expires_ms < now_ms
  end)
  for _, held in ipairs(expired) do
    self:settle(held, held.cost.likely)
  end
end

--- Asks for a request. While others hold back what is left, it waits for them.
---@async
---@param accounts spending.Account[]
---@param cost_of fun(): { likely: estimate.Cost, most: estimate.Cost } Asked anew after each wait.
---@param deadline_ms number By the clock's `now_ms`.
---@param meta? { watcher?: string, domain?: string, node?: string, is_calm?: boolean } For the
--- event; a calm request leaves alone what is reserved for findings.
---@return table? held For `settle`, with its `cost`.
---@return providers.Failure? failure Kind `budget`; `until_ms` is when the budget refills, and with
--- `is_reserved` a cycle that a finding woke may still ask.
function Ledger:admit(accounts, cost_of, deadline_ms, meta)
  meta = meta or {}
  while true do
    expire(self)
    local cost = cost_of()
    local verdict, full = judge(self, accounts, cost, meta.is_calm)
    if verdict == "full" then
      return nil, refuse(self, full, meta)
    elseif not verdict then
      return hold(self, accounts, cost, deadline_ms)
    end
    local left_ms = deadline_ms - self.clock.now_ms()
    if left_ms <= 0 then
      return nil, failures.new("budget", "other requests may use what is left of the budget")
    end
    self.settled:wait(math.min(left_ms, GRACE_MS))
  end
end

--- Corrects what was held back for a request by what it has cost. Settling twice does nothing.
---@param held table
---@param spent estimate.Cost
function Ledger:settle(held, spent)
  if not self.open:has(held) then
    return
  end
  self.open:remove(held)
  local cost = held.cost
  each_window(held.accounts, function(account, window, unit)
    roll(self, window)
    window.held = math.max(0, window.held - cost.most[unit])
    window.under_way = math.max(0, window.under_way - cost.likely[unit])
    window.used = window.used + spent[unit]
    account.total[unit] = account.total[unit] + spent[unit]
    self.on_change(account.name, window)
  end)
  if self.open:is_empty() then
    -- Sums of fractions leave crumbs.
    each_window(held.accounts, function(_, window)
      window.held, window.under_way = nil, nil
    end)
  end
  self.settled:fire()
end

--- The limits in force, and how far they are used.
---@return { unit: "tokens"|"usd", limit: number, used: number, left_ms: number }[]
function Account:limits()
  local list, now_ms = {}, self.ledger.clock.wall_ms()
  for _, kind in ipairs(ORDER) do
    local window = roll(self.ledger, self.windows[kind])
    if window.limit then
      list[#list + 1] = { unit = KINDS[kind].unit, limit = window.limit,
        used = window.used + window.under_way, left_ms = until_ms(window) - now_ms }
    end
  end
  return list
end

--- What is left, in words: `0.42 of 1.00 USD until 00:00 UTC, 0.40 of it only for cycles that a
--- finding wakes`. nil without a limit.
---@return string?
function Account:left_text()
  local parts = {}
  for _, kind in ipairs(ORDER) do
    local window = roll(self.ledger, self.windows[kind])
    if window.limit then
      local left = math.max(0, window.limit - window.used - window.under_way)
      local reserved = math.min(left, (1 - M.CALM_SHARE) * window.limit)
      parts[#parts + 1] = ("%s of %s until %s UTC, %s of it only for cycles that a finding wakes")
        :format(bare_amount(kind, left), amount(kind, window.limit),
          units.format_clock(until_ms(window)):sub(1, 5), bare_amount(kind, reserved))
    end
  end
  return parts[1] and table.concat(parts, "; ")
end

return M
