--- Domains: what is watched on a node. A domain file returns one table; this checks it, and gives
--- its snapshot and callbacks to the rest of the runtime with arguments and results checked.
---
---   local d = assert(domain.new(dofile("domains/beam.lua"), { file = "domains/beam.lua" }))
---   d:snapshot({ target = t, sweep = s, node = t.node, clock = c })
---   d:invoke(ctx, "beam_top_processes", { 5, "memory" })  --> true, value, meta

local arguments = require("runtime.domain.arguments")
local async = require("runtime.async")
local common = require("runtime.domain.common")
local docs = require("runtime.domain.docs")
local misfits = require("runtime.domain.misfits")
local results = require("runtime.domain.results")
local shape = require("runtime.domain.shape")
local suggest = require("runtime.suggest")
local world = require("runtime.world")

local M = {}

local SWEEP_TIMEOUT_MS = 30000

---@class domain.Context
---@field target? table runtime/target.lua; nil for a domain that watches no node.
---@field sweep? sweep.Sweep
---@field node? string
---@field clock clock.Clock
---@field settings? table<string, any> The policy's, checked; default: the domain's own.
---@field on_misfit? fun(text: string) Told of what is not as the domain's metrics and returns say.

---@class domain.Param
---@field name string
---@field type "string"|"integer"|"number"|"boolean"
---@field default? any Without one the argument must be given.
---@field min? number
---@field max? number Of a text: its length in bytes.
---@field values? string[] The words that are allowed.
---@field aliases? table<string, string> Other words, and what they stand for.
---@field doc? string

---@class domain.Field
---@field name string
---@field type "string"|"integer"|"number"|"boolean"|"list"|"table"
---@field unit? string
---@field doc? string
---@field nullable? boolean
---@field optional? boolean
---@field fields? domain.Field[] Of the rows of a list, or of a table.

---@class domain.Callback
---@field name string
---@field params domain.Param[]
---@field returns domain.Field[] With `list = true` the result is a list of rows with these fields.
---@field doc string
---@field needs_node? boolean
---@field run async fun(target: domain.Target, ...): any, table|string?, string?

---@class domain.Domain
---@field name string
---@field title string
---@field description string
---@field instructions string
---@field path? string Its file; nil for one that is built in.
---@field metrics domain.Field[]
---@field rules table[]
---@field sweeps string[] The parts of the sweep (runtime/sweep.lua) that it reads.
---@field settings domain.Param[] What a policy may set.
---@field watches_node boolean False: `target = "none"`; it reads something else than a BEAM node.
local Domain = {}
local domain_mt = { __index = Domain }

--- Checks a domain's table.
---@param definition any What the domain's file returned.
---@param opts? { file?: string } For errors.
---@return domain.Domain?
---@return string? err Names the field, what it is and what is allowed; and says how many more
--- mistakes there are.
---@return string[]? mistakes All of them, without the file.
function M.new(definition, opts)
  local file = opts and opts.file
  local checked, mistakes = shape.check(definition)
  if not checked then
    local more = #mistakes > 1 and (" (and %d more, which `beamlens check` lists)")
      :format(#mistakes - 1) or ""
    return nil, (file and file .. ": " or "") .. mistakes[1] .. more, mistakes
  end
  local self = setmetatable(checked, domain_mt)
  self.file = file
  self.read_metrics = definition.snapshot
  self.list, self.by_name = {}, {}
  for _, source in ipairs({ checked.own_callbacks, common.callbacks }) do
    for _, callback in ipairs(source) do
      self.list[#self.list + 1] = callback
      self.by_name[callback.name] = callback
    end
  end
  self.default_settings = assert(self:read_settings())
  self.own_callbacks = nil
  self.memos = setmetatable({}, { __mode = "k" })
  return self
end

---@class domain.Target What `snapshot` and the callbacks of a domain get.
---@field node? string
---@field sweep? sweep.Sweep
---@field clock clock.Clock
---@field settings table<string, any> By name, as of the domain's `settings`.
---@field memo table Kept from call to call, for this domain and context.
local Target = {}
local target_mt = { __index = Target }

local NO_NODE = "ENODE: this domain watches no node"

--- Calls a function on the node; see `target:call`.
---@async
function Target:call(...)
  if not self.target then
    return nil, NO_NODE, "ENODE"
  end
  return self.target:call(...)
end

--- Evaluates Erlang on the node; see `target:eval`.
---@async
function Target:eval(...)
  if not self.target then
    return nil, NO_NODE, "ENODE"
  end
  return self.target:eval(...)
end

--- What the sweep last found in one of the domain's `sweeps`, or its first pass as soon as it is
--- there; see `sweep:part`.
---@async
---@param part string
---@return table? result
---@return string? err
---@return string? code
---@return sweep.Pass? pass
function Target:swept(part)
  if not self.sweep then
    return nil, ("ENOSWEEP: nothing sweeps the %s of this node"):format(part), "ENOSWEEP"
  end
  return self.sweep:part(part, SWEEP_TIMEOUT_MS)
end

local function seen_by_domain(self, ctx)
  self.memos[ctx] = self.memos[ctx] or {}
  return setmetatable({
    target = ctx.target,
    node = ctx.node or (ctx.target and ctx.target.node),
    sweep = ctx.sweep,
    clock = ctx.clock,
    settings = ctx.settings or self.default_settings,
    memo = self.memos[ctx],
  }, target_mt)
end

-- Runs a function of the domain. What one that watches no node reads (files, say) nobody else
-- knows: to a session it is outside, and what it returns comes in. Returns what `pcall` does, the
-- function's first three results alone, and the length of the first.
local function run(self, ctx, fn, ...)
  local is_outside = not self.watches_node and world.is_inside()
  local function taken(ok, value, ...)
    local second, third = ...
    local length = type(value) == "table" and #value or nil
    if is_outside and value ~= nil then
      value = results.plain(value)
    end
    return ok, value, second, third, length
  end
  if not is_outside then
    return taken(async.pcall(fn, seen_by_domain(self, ctx), ...))
  end
  local args, count = { ... }, select("#", ...)
  return async.outside("domain", function()
    return taken(async.pcall(fn, seen_by_domain(self, ctx), unpack(args, 1, count)))
  end, self.name, ...)
end

--- Checks a policy's settings and fills in the defaults.
---@param given? table<string, any>
---@return table<string, any>? settings
---@return string? err
function Domain:read_settings(given)
  return arguments.settings(self.settings, given or {})
end

local function each(list, fn)
  for _, item in ipairs(list) do
    fn(item)
  end
end

local function first_line(err)
  return (tostring(err):match("^[^\n]*"))
end

--- Takes a snapshot: the domain's metrics now.
---@async
---@param ctx domain.Context
---@return table<string, any>? data Numbers, texts, booleans and `json.null`.
---@return string? err
---@return string? code
function Domain:snapshot(ctx)
  local ok, data, err, code = run(self, ctx, self.read_metrics)
  if not ok then
    return nil, ("ELUA: the snapshot of %s failed: %s"):format(self.name, first_line(data)), "ELUA"
  elseif data == nil then
    return nil, err, code
  elseif type(data) ~= "table" then
    return nil, ("ELUA: the snapshot of %s is a %s, not a table"):format(self.name, type(data)),
      "ELUA"
  end
  local flat = results.flat(data)
  if ctx.on_misfit then
    each(misfits.of_snapshot(self.metrics, flat), ctx.on_misfit)
  end
  return flat
end

--- The callbacks, the common ones included.
---@return domain.Callback[]
function Domain:callbacks()
  return { unpack(self.list) }
end

local function list_meta(meta, value, total, took_ms)
  meta = type(meta) == "table" and results.plain(meta) or {}
  meta.total = meta.total or total
  meta.returned = #value
  meta.skipped = meta.skipped or 0
  meta.took_ms = meta.took_ms or took_ms
  return meta
end

--- Calls a callback.
---@async
---@param ctx domain.Context
---@param name string
---@param args any[] In order, or one table with the arguments by name; `json.null` is "not given".
---@return true? ok
---@return any value The result, plain; or what was wrong.
---@return table? meta Of a list: `{ total, returned, skipped, took_ms }`.
function Domain:invoke(ctx, name, args)
  local callback = self.by_name[name]
  if not callback then
    return nil, ("there is no callback %q%s"):format(tostring(name),
      suggest.hint(tostring(name), suggest.keys(self.by_name)))
  end
  local values, problem = arguments.check(callback, args or {})
  if not values then
    return nil, problem
  end
  local started_ms = ctx.clock.now_ms()
  local ok, value, meta, _, length = run(self, ctx, callback.run,
    unpack(values, 1, #callback.params))
  if not ok then
    return nil, ("%s failed: %s"):format(name, first_line(value))
  elseif value == nil then
    return nil, ("%s: %s"):format(name, tostring(meta or "no answer"))
  end
  local total = callback.returns.list and length
  local plain = results.plain(value)
  if ctx.on_misfit then
    each(misfits.of_result(callback, plain), ctx.on_misfit)
  end
  if total then
    meta = list_meta(meta, plain, total, math.floor(ctx.clock.now_ms() - started_ms + 0.5))
  end
  return true, plain, type(meta) == "table" and results.plain(meta) or nil
end

--- The callbacks for a prompt: arguments, results and docs.
---@return string
function Domain:docs()
  local shown = {}
  for _, callback in ipairs(self.list) do
    shown[#shown + 1] = (self.watches_node or not callback.needs_node) and callback or nil
  end
  return docs.callbacks(shown)
end

--- What a policy may set, a line each; empty when there is nothing.
---@return string
function Domain:setting_docs()
  return docs.settings(self.settings)
end

--- The metrics of the snapshot for a prompt.
---@return string
function Domain:metric_docs()
  return docs.metrics(self.metrics)
end

return M
