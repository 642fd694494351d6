--- What models cost, in USD per million tokens, by the model's plain name.
---
--- A copy of this file, or a part of it, as `prices.lua` beside `clients.lua` or in /etc/beamlens
--- changes and extends the list; docs/providers.md says how names are matched. `cache_read` and
--- `cache_write` cost as much as input where they are left out. Reasoning is output.
---
--- Prices of providers' own list for everyone, without batch or long-context rates. As of
--- January 2026.

-- Reading the cache costs a tenth of input, writing to it (5 minutes) a quarter more.
local function anthropic(input, output)
  return { input = input, output = output, cache_read = input * 0.1, cache_write = input * 1.25 }
end

-- Writing to the cache is not charged for: it costs as much as input.
local function cached(input, output, cache_read)
  return { input = input, output = output, cache_read = cache_read }
end

return {
  ["claude-haiku-4-5"] = anthropic(1, 5),
  ["claude-sonnet-4-5"] = anthropic(3, 15),
  ["claude-opus-4-5"] = anthropic(5, 25),
  ["claude-opus-4-1"] = anthropic(15, 75),
  ["claude-opus-4"] = anthropic(15, 75),
  ["claude-sonnet-4"] = anthropic(3, 15),
  ["claude-3-7-sonnet"] = anthropic(3, 15),
  ["claude-3-5-sonnet"] = anthropic(3, 15),
  ["claude-3-5-haiku"] = anthropic(0.8, 4),
  ["claude-3-haiku"] = { input = 0.25, output = 1.25, cache_read = 0.03, cache_write = 0.3 },

  ["gpt-5.2"] = cached(1.75, 14, 0.175),
  ["gpt-5.1"] = cached(1.25, 10, 0.125),
  ["gpt-5"] = cached(1.25, 10, 0.125),
  ["gpt-5-mini"] = cached(0.25, 2, 0.025),
  ["gpt-5-nano"] = cached(0.05, 0.4, 0.005),
  ["gpt-4.1"] = cached(2, 8, 0.5),
  ["gpt-4.1-mini"] = cached(0.4, 1.6, 0.1),
  ["gpt-4.1-nano"] = cached(0.1, 0.4, 0.025),
  ["gpt-4o"] = cached(2.5, 10, 1.25),
  ["gpt-4o-mini"] = cached(0.15, 0.6, 0.075),
  ["o3"] = cached(2, 8, 0.5),
  ["o4-mini"] = cached(1.1, 4.4, 0.275),

  ["gemini-3-pro-preview"] = cached(2, 12, 0.2),
  ["gemini-3-flash-preview"] = cached(0.5, 3, 0.05),
  ["gemini-2.5-pro"] = cached(1.25, 10, 0.125),
  ["gemini-2.5-flash"] = cached(0.3, 2.5, 0.03),
  ["gemini-2.5-flash-lite"] = cached(0.1, 0.4, 0.01),
  ["gemini-2.0-flash"] = cached(0.1, 0.4, 0.025),
  ["gemini-2.0-flash-lite"] = { input = 0.075, output = 0.3 },

  ["nova-micro"] = cached(0.035, 0.14, 0.00875),
  ["nova-lite"] = cached(0.06, 0.24, 0.015),
  ["nova-pro"] = cached(0.8, 3.2, 0.2),

  ["grok-3-mini"] = cached(0.3, 0.5, 0.075),
  ["deepseek-chat"] = cached(0.28, 0.42, 0.028),
  ["deepseek-reasoner"] = cached(0.28, 0.42, 0.028),

  ["rules"] = { input = 0, output = 0 },
}
