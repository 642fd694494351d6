--- What models cost, in USD per million tokens, by the model's plain name.
---
--- A copy of this file, or a part of it, as `prices.lua` beside `clients.lua` or in /etc/beamlens
--- changes and extends the list; docs/money.md says how names are matched. `cache_read` and
--- `cache_write` cost as much as input where they are left out, `cache_write_1h` as much as
--- `cache_write`. `long` holds the prices of a request whose prompt has more than `over` tokens.
--- `regional` is by how much more Bedrock charges outside of its profile `global.`. Reasoning is
--- output.
---
--- The usual prices of the providers' own lists, without batch, priority and what is cheaper for a
--- time only. A model that is not here has no known price: nothing is guessed from its name. Taken
--- in November 2026; those of models that are sold no more are the last ones.

-- Reading the cache costs a tenth of input if nothing else is said, writing to it a quarter more
-- than input for 5 minutes, twice as much for an hour.
local function anthropic(input, output, more)
  local price = { input = input, output = output, cache_read = input * 0.1,
    cache_write = input * 1.25, cache_write_1h = input * 2 }
  for name, value in pairs(more or {}) do
    price[name] = value
  end
  return price
end

-- Since Claude 4.5.
local function claude(input, output, cache_read, long)
  return anthropic(input, output, { cache_read = cache_read, long = long, regional = 1.1 })
end

local function with_cache(input, output, cache_read, cache_write)
  return { input = input, output = output, cache_read = cache_read, cache_write = cache_write }
end

-- Beyond 272 000 tokens twice as much for the prompt, half as much again for the answer.
local function gpt(input, output, cache_read, cache_write)
  local price = with_cache(input, output, cache_read, cache_write)
  price.long = { over = 272000, input = 2 * input, output = 1.5 * output,
    cache_read = 2 * cache_read, cache_write = cache_write and 2 * cache_write }
  return price
end

local function pro(input, output, cache_read, long_input, long_output)
  local price = with_cache(input, output, cache_read)
  price.long = { over = 200000, input = long_input, output = long_output,
    cache_read = 2 * cache_read }
  return price
end

return {
  ["claude-fable-5-1"] = claude(10, 50, 0.25),
  ["claude-fable-5"] = claude(10, 50),
  ["claude-mythos-5-1"] = claude(10, 50, 0.25),
  ["claude-mythos-5"] = claude(10, 50),
  ["claude-opus-5-5"] = claude(4, 20, 0.2),
  ["claude-opus-5"] = claude(5, 25),
  ["claude-opus-4-8"] = claude(5, 25),
  ["claude-opus-4-7"] = claude(5, 25),
  ["claude-opus-4-6"] = claude(5, 25),
  ["claude-opus-4-5"] = claude(5, 25),
  ["claude-opus-4-1"] = anthropic(15, 75),
  ["claude-opus-4"] = anthropic(15, 75),
  ["claude-3-opus"] = anthropic(15, 75),
  ["claude-sonnet-5-5"] = claude(2, 10, 0.1),
  ["claude-sonnet-5"] = claude(2, 10),
  ["claude-sonnet-4-6"] = claude(3, 15),
  ["claude-sonnet-4-5"] = claude(3, 15),
  ["claude-sonnet-4"] = anthropic(3, 15),
  ["claude-3-7-sonnet"] = anthropic(3, 15),
  ["claude-3-5-sonnet"] = anthropic(3, 15),
  ["claude-haiku-5-5"] = claude(0.1, 0.5, 0.01, { over = 100000, input = 0.5, output = 2.5,
    cache_read = 0.05, cache_write = 0.625, cache_write_1h = 1 }),
  ["claude-haiku-4-5"] = claude(1, 5),
  ["claude-3-5-haiku"] = anthropic(0.8, 4),
  ["claude-3-haiku"] = anthropic(0.25, 1.25, { cache_read = 0.03, cache_write = 0.3 }),

  ["gpt-6.1-sol"] = gpt(2, 10, 0.1),
  ["gpt-6-sol"] = gpt(2, 10, 0.2, 2.5),
  ["gpt-6-luna"] = gpt(0.1, 0.5, 0.01, 0.125),
  ["gpt-5.6-sol"] = gpt(5, 30, 0.5, 6.25),
  ["gpt-5.6-terra"] = gpt(2, 12, 0.2, 2.5),
  ["gpt-5.6-luna"] = gpt(0.2, 1.2, 0.02, 0.25),
  ["gpt-5.5"] = gpt(5, 30, 0.5),
  ["gpt-5.5-pro"] = { input = 30, output = 180 },
  ["gpt-5.4"] = gpt(2.5, 15, 0.25),
  ["gpt-5.4-pro"] = { input = 30, output = 180 },
  ["gpt-5.4-mini"] = with_cache(0.75, 4.5, 0.075),
  ["gpt-5.4-nano"] = with_cache(0.2, 1.25, 0.02),
  ["gpt-5.3-codex"] = with_cache(1.75, 14, 0.175),
  ["gpt-5.2-codex"] = with_cache(1.75, 14, 0.175),
  ["gpt-5.2"] = with_cache(1.75, 14, 0.175),
  ["gpt-5.1"] = with_cache(1.25, 10, 0.125),
  ["gpt-5"] = with_cache(1.25, 10, 0.125),
  ["gpt-5-mini"] = with_cache(0.25, 2, 0.025),
  ["gpt-5-nano"] = with_cache(0.05, 0.4, 0.005),
  ["gpt-4.1"] = with_cache(2, 8, 0.5),
  ["gpt-4.1-mini"] = with_cache(0.4, 1.6, 0.1),
  ["gpt-4.1-nano"] = with_cache(0.1, 0.4, 0.025),
  ["gpt-4o"] = with_cache(2.5, 10, 1.25),
  ["gpt-4o-mini"] = with_cache(0.15, 0.6, 0.075),
  ["o1"] = with_cache(15, 60, 7.5),
  ["o3"] = with_cache(2, 8, 0.5),
  ["o3-mini"] = with_cache(1.1, 4.4, 0.55),
  ["o4-mini"] = with_cache(1.1, 4.4, 0.275),

  ["gemini-3.8-flash"] = with_cache(1.5, 7.5, 0.15),
  ["gemini-3.6-flash"] = with_cache(1.5, 7.5, 0.15),
  ["gemini-3.5-flash"] = with_cache(1.5, 9, 0.15),
  ["gemini-3.1-pro-preview"] = pro(2, 12, 0.2, 4, 18),
  ["gemini-3.1-flash-lite"] = { input = 0.25, output = 1.5 },
  ["gemini-3.1-flash-lite-preview"] = { input = 0.25, output = 1.5 },
  ["gemini-3-pro-preview"] = pro(2, 12, 0.2, 4, 18),
  ["gemini-3-flash-preview"] = with_cache(0.5, 3, 0.05),
  ["gemini-2.5-pro"] = pro(1.25, 10, 0.125, 2.5, 15),
  ["gemini-2.5-flash"] = with_cache(0.3, 2.5, 0.03),
  ["gemini-2.5-flash-lite"] = with_cache(0.1, 0.4, 0.01),
  ["gemini-2.0-flash"] = with_cache(0.1, 0.4, 0.025),
  ["gemini-2.0-flash-lite"] = { input = 0.075, output = 0.3 },

  -- Those of us-east-1; some regions charge up to a tenth more.
  ["nova-2-lite"] = with_cache(0.3, 2.5, 0.075),
  ["nova-premier"] = { input = 2.5, output = 12.5 },
  ["nova-pro"] = with_cache(0.8, 3.2, 0.2),
  ["nova-lite"] = with_cache(0.06, 0.24, 0.015),
  ["nova-micro"] = with_cache(0.035, 0.14, 0.00875),

  ["grok-3-mini"] = with_cache(0.3, 0.5, 0.075),
  ["deepseek-chat"] = with_cache(0.28, 0.42, 0.028),
  ["deepseek-reasoner"] = with_cache(0.28, 0.42, 0.028),

  ["rules"] = { input = 0, output = 0 },
}
