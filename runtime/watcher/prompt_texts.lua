--- System prompts: what watchers are told alike is rendered, and freed of secrets, once for all of
--- them. It depends on the files, on a few fields of the policy, and on the node, whose name is no
--- secret.
---
--- A text lives as long as a watcher has it.

local prompts = require("runtime.prompts")
local tools = require("runtime.tools")

local M = {}

---@class prompt_texts.Text
---@field text string

---@class prompt_texts.Texts
local Texts = {}
local texts_mt = { __index = Texts }

--- None was rendered.
---@return prompt_texts.Texts
function M.new()
  return setmetatable({ of_prompt = setmetatable({}, { __mode = "k" }) }, texts_mt)
end

-- Those of a prompt and a domain, as loaded.
local function shared_by(self, watcher)
  local of_domain = self.of_prompt[watcher.prompt] or setmetatable({}, { __mode = "k" })
  self.of_prompt[watcher.prompt] = of_domain
  local texts = of_domain[watcher.domain] or setmetatable({}, { __mode = "v" })
  of_domain[watcher.domain] = texts
  return texts
end

local function key_of(watcher)
  local policy = watcher.policy
  return ("%s\0%.14g\0%.14g\0%.14g\0%s"):format(watcher.meta.node, policy.wait.min_ms,
    policy.wait.max_ms, policy.limits.calls_per_cycle, policy.instructions or "")
end

-- Renders it for one watcher.
local function render(watcher)
  local text, err = watcher.prompt(prompts.variables({ domain = watcher.domain,
    policy = watcher.policy, tools = tools.for_request() }))
  if not text then
    error("the prompt does not render: " .. tostring(err), 0)
  end
  return { text = watcher.hooks:redact(text) }
end

--- The system prompt of a watcher. One whose policy has a `redact` of its own has it for itself.
---@async
---@param watcher watcher.Watcher
---@return prompt_texts.Text
function Texts:get(watcher)
  if watcher.hooks:has("redact") then
    return render(watcher)
  end
  local texts, key = shared_by(self, watcher), key_of(watcher)
  local found = texts[key]
  if not found then
    found = render(watcher)
    texts[key] = found
  end
  return found
end

return M
