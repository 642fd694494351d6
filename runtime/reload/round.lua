--- One round of a reload: what the files say now, checked as a whole, as a plan for
--- runtime/app/changes.lua. What is wrong stays as it was; the rest is not kept from applying.

local async = require("runtime.async")
local suggest = require("runtime.suggest")

local M = {}

local BREATH_MS = 20

---@class round.Round
---@field plan changes.Item[]
---@field drafts sources.Draft[]
---@field failed { file: string, line?: integer, error: string }[]
---@field changed string[] The files that were read anew, sorted.
---@field again_ms? number
local Round = {}
local round_mt = { __index = Round }

function Round:fail(file, err)
  local at, line = err:match("^(.-):(%d+): ")
  table.insert(self.failed, { file = at or file, line = tonumber(line), error = err })
end

-- Several mistakes, each of which begins a line with its file and line; others go on with theirs.
function Round:fail_each(file, err)
  local mistakes = {}
  for line in err:gmatch("[^\n]+") do
    if mistakes[1] and not line:find("^%S[^:]*:%d+: ") then
      mistakes[#mistakes] = mistakes[#mistakes] .. "\n" .. line
    else
      mistakes[#mistakes + 1] = line
    end
  end
  for _, mistake in ipairs(mistakes) do
    self:fail(file, mistake)
  end
end

-- Lets the loop go on between two of many watchers.
local function breathe(self)
  local now_ms = async.now_ms()
  if now_ms - self.breathed_ms > BREATH_MS then
    async.sleep(0)
    self.breathed_ms = async.now_ms()
  end
end

-- The parts of all policies of a draft; nil when one is wrong, which was told.
local function parts_of(self, draft)
  local items, is_whole = {}, true
  local tried = {}
  for _, policy in ipairs(draft.policies) do
    breathe(self)
    local known = tried[policy.origin]
    if not known then
      local parts, err = self.loaded:try(policy)
      known = { parts = parts }
      tried[policy.origin] = known
      if not parts then
        self:fail_each(draft.path, err)
        is_whole = false
      end
    end
    items[#items + 1] = { policy = policy, parts = known.parts }
  end
  return is_whole and items or nil
end

-- The watchers of a file as they are in force.
local function items_in_force(self, draft)
  local file, items = self.sources.files[draft.path], {}
  for i, policy in ipairs(file and file.policies or {}) do
    items[i] = { policy = policy, parts = assert(self.loaded:of(policy)) }
  end
  return items
end

local function refuse(self, draft)
  self.sources:refuse(draft)
  draft.is_refused, draft.items = true, items_in_force(self, draft)
  draft.changed = {}
end

local function resolve(self, draft)
  if not draft.policies then
    draft.items = {}
    return
  end
  draft.items = parts_of(self, draft)
  if not draft.items then
    refuse(self, draft)
  end
end

-- The first draft that is new and has a watcher which another file has, too; with what to say.
local function find_twin(drafts)
  local owner = {}
  local function line_in(draft, name)
    for _, item in ipairs(draft.items) do
      if item.policy.name == name then
        return item.policy.line_of("name")
      end
    end
  end
  for _, draft in ipairs(drafts) do
    for _, item in ipairs(draft.items) do
      local policy = item.policy
      local name = ("%s on %s"):format(policy.name, policy.node)
      local other = owner[name]
      if other then
        local culprit, file = draft, other.path
        if not draft.trace or draft.is_refused then
          culprit, file = other, draft.path
        end
        return culprit, ("%s:%d: watcher %s is defined twice; also in %s"):format(culprit.path,
          line_in(culprit, policy.name), name, file)
      end
      owner[name] = draft
    end
  end
end

local function check_twins(self)
  local draft, err = find_twin(self.drafts)
  while draft do
    self:fail(draft.path, err)
    if draft.is_refused or not draft.trace then
      error(err) -- what is in force has none
    end
    refuse(self, draft)
    draft, err = find_twin(self.drafts)
  end
end

local function collect(self)
  local seen = {}
  local function add(paths)
    for _, path in ipairs(paths) do
      seen[path] = true
    end
  end
  add(self.loaded.changed)
  for _, draft in ipairs(self.drafts) do
    add(draft.changed)
    for _, item in ipairs(draft.items) do
      self.plan[#self.plan + 1] = item
    end
  end
  for _, path in ipairs(suggest.keys(seen)) do
    self.changed[#self.changed + 1] = path
  end
end

--- Looks at all files. Nothing is in force before `commit`.
---@async
---@param opts { loaded: parts.Loaded, sources: sources.Sources, is_final?: boolean }
---@return round.Round
function M.look(opts)
  local self = setmetatable({ loaded = opts.loaded, sources = opts.sources, failed = {}, plan = {},
    changed = {}, breathed_ms = async.now_ms() }, round_mt)
  self.drafts, self.again_ms = opts.sources:round(function(path, err)
    self:fail(path, err)
  end, opts.is_final)
  for _, draft in ipairs(self.drafts) do
    resolve(self, draft)
  end
  check_twins(self)
  for _, failure in ipairs(self.loaded.failures) do
    self:fail(failure.file, failure.error)
  end
  collect(self)
  return self
end

--- Notes which versions of the watcher files are in force now.
function Round:commit()
  for _, draft in ipairs(self.drafts) do
    if not draft.is_refused then
      self.sources:put(draft)
    end
  end
end

return M
