--- Evaluation of Erlang on a node, with nothing of ours loaded there.
---
--- A source is parsed once, on the node, by `erl_scan` and `erl_parse`; its abstract form comes
--- back as bytes that are kept here and never decoded. Each evaluation is one process
--- running `erl_eval:exprs/2` on that form. Its last acts are to send us the answer, once, and to
--- unlink, so that the answer does not cross again as the reason of its exit. An answer above 2 KiB
--- crosses compressed; one above 16 MiB does not cross at all.

local async = require("runtime.async")
local dist = require("host.dist")
local node_modules = require("runtime.target.modules")

local M = {}

-- Around every source; the variables' names are not those of any. The messages are those that
-- host.dist expects of a call that answers by a message. To compress an answer of 13 KB, a pass of
-- the sweep, to 1.6 KB takes the node 0.1 ms.
local BEFORE = "try begin "
local AFTER = [[

end of
  Beamlens_value ->
    Beamlens_to ! case erlang:external_size(Beamlens_value) of
      Beamlens_size when Beamlens_size > 16777216 -> {self(), system_limit, Beamlens_size};
      Beamlens_size when Beamlens_size > 2048 ->
        {self(), compressed, term_to_binary(Beamlens_value, [compressed])};
      _ -> {self(), ok, Beamlens_value}
    end
catch Beamlens_class:Beamlens_reason ->
  Beamlens_to ! {self(), error, unicode:characters_to_binary(
    io_lib:format("~0tP:~0tP", [Beamlens_class, 9, Beamlens_reason, 20], [{chars_limit, 600}]))}
end,
erlang:unlink(Beamlens_to).]]

-- Forms are eight times as long as their source. Those of a long one, which works for long as well,
-- are kept and sent compressed: to inflate them takes the node 0.2 ms.
local LONG_SOURCE = 4000
local COMPRESSED = 80 -- the tag behind the version byte

local PARSE_TIMEOUT_MS = 5000
local RETRY_MS = 10000
local MAX_SOURCES = 256

local function var(name)
  return dist.tuple({ dist.atom("var"), 1, dist.atom(name) })
end

local function atom(name)
  return dist.tuple({ dist.atom("atom"), 1, dist.atom(name) })
end

local function integer(value)
  return dist.tuple({ dist.atom("integer"), 1, value })
end

local function call(mod, fun, args)
  local remote = dist.tuple({ dist.atom("remote"), 1, atom(mod), atom(fun) })
  return dist.tuple({ dist.atom("call"), 1, remote, args })
end

local function match_tuple(elements, expression)
  local pattern = dist.tuple({ dist.atom("tuple"), 1, elements })
  return dist.tuple({ dist.atom("match"), 1, pattern, expression })
end

-- fun(Parameter) -> Body end
local function lambda(parameter, body)
  local clause = dist.tuple({ dist.atom("clause"), 1, { var(parameter) }, {}, body })
  return dist.tuple({ dist.atom("fun"), 1, dist.tuple({ dist.atom("clauses"), { clause } }) })
end

-- The abstract form of the parser itself. It is a fun, so that no variable of it comes back beside
-- its value; and with all on one line the form is half as long, compressed.
--   (fun(Text) ->
--     {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)),
--     {ok, Forms} = erl_parse:parse_exprs(Tokens),
--     Flat = lists:map(fun(Form) -> erl_parse:map_anno(fun(_) -> 1 end, Form) end, Forms),
--     erlang:term_to_binary(Flat, [{compressed, Level}])
--   end)(Source).
local function parser_form(level)
  local one = lambda("_", { integer(1) })
  local option = dist.tuple({ dist.atom("tuple"), 1, { atom("compressed"), integer(level) } })
  local options = dist.tuple({ dist.atom("cons"), 1, option, dist.tuple({ dist.atom("nil"), 1 }) })
  local parser = lambda("Text", {
    match_tuple({ atom("ok"), var("Tokens"), var("_") },
      call("erl_scan", "string", { call("unicode", "characters_to_list", { var("Text") }) })),
    match_tuple({ atom("ok"), var("Forms") },
      call("erl_parse", "parse_exprs", { var("Tokens") })),
    dist.tuple({ dist.atom("match"), 1, var("Flat"), call("lists", "map",
      { lambda("Form", { call("erl_parse", "map_anno", { one, var("Form") }) }), var("Forms") }) }),
    call("erlang", "term_to_binary", { var("Flat"), options }),
  })
  return { dist.tuple({ dist.atom("call"), 1, parser, { var("Source") } }) }
end

-- Compressed forms as arguments of erl_eval:exprs/2, by
--   erl_eval:exprs(binary_to_term(Beamlens_forms), Beamlens_bindings).
local function unpacking(forms, bindings)
  return { {
    call("erl_eval", "exprs",
      { call("erlang", "binary_to_term", { var("Beamlens_forms") }), var("Beamlens_bindings") }),
  }, {
    dist.tuple({ dist.atom("Beamlens_bindings"), bindings }),
    dist.tuple({ dist.atom("Beamlens_forms"), forms }),
  } }
end

---@class eval.Evaluator
---@field parsed integer How many sources were parsed on the node.
---@field refusal? { err: string, code: string, until_ms: number } Why nothing can be evaluated, as
--- far as known.
---@field retry_ms number How long after that was found an eval has it looked at again.
local Evaluator = {}
local evaluator_mt = { __index = Evaluator }

--- Creates the evaluator of one node.
---@param opts { call: async fun(mod: string, fun: string, args: any[], opts: table):
--- any, string?, string?, modules: node_modules.Modules }
---@return eval.Evaluator
function M.new(opts)
  return setmetatable({
    call = opts.call,
    modules = opts.modules,
    prepared = {}, -- source -> { forms= } or { err=, code= } or { signal= } while being parsed
    count = 0,
    parsed = 0,
    retry_ms = RETRY_MS,
  }, evaluator_mt)
end

--- Forgets the parsed forms, as after a restart of the node.
function Evaluator:forget()
  self.prepared, self.count, self.refusal = {}, 0, nil
end

--- Makes sure that what evaluation needs is loaded.
---@async
---@param deadline async.Deadline
---@return true? ok
---@return string? err
---@return string? code `"ECODESERVER"`, `"ENOEVAL"`, or the code of a failed call.
function Evaluator:check(deadline)
  local ok, err, code = self.modules:confirm(node_modules.EVAL, deadline,
    node_modules.EVAL_REQUIRED)
  if ok then
    self.refusal = nil
    return true
  elseif code ~= "ECODESERVER" and code ~= "ENOMODULE" then
    return nil, err, code
  end
  local reason = err:match(": (.*)")
  if code == "ECODESERVER" then
    err = ("ECODESERVER: nothing can be evaluated on the node: %s; plain calls go on, look at "
      .. "sys:get_status(code_server) there"):format(reason)
  else
    code = "ENOEVAL"
    err = ("ENOEVAL: nothing can be evaluated on the node: %s; its release must contain stdlib")
      :format(reason)
  end
  self.refusal = { err = err, code = code, until_ms = async.now_ms() + self.retry_ms }
  return nil, err, code
end

-- Looks again, while evals are still refused: none waits for a code_server that does not answer.
function Evaluator:recheck(refusal)
  refusal.until_ms = math.huge
  async.spawn(function()
    self:check(async.deadline(PARSE_TIMEOUT_MS))
    if self.refusal == refusal then
      refusal.until_ms = async.now_ms() + self.retry_ms
    end
  end, { name = "eval.recheck", detached = true })
end

-- The same as `check`, at once where the answer is known to be no.
function Evaluator:admit(deadline)
  local refusal = self.refusal
  if not refusal then
    return self:check(deadline)
  end
  if async.now_ms() >= refusal.until_ms then
    self:recheck(refusal)
  end
  return nil, refusal.err, refusal.code
end

-- Has the node parse a source. Returns what is kept of it; `final` failures are kept too.
function Evaluator:parse(source, deadline)
  local ok, err, code = self:admit(deadline)
  if ok then
    ok, err, code = self.modules:confirm(node_modules.named_in(source), deadline, {})
  end
  if not ok then
    return { err = err, code = code }
  end
  local text = BEFORE .. source:match("^(.*)%.%s*$") .. AFTER
  local answer
  self.parsed = self.parsed + 1
  answer, err, code = self.call("erl_eval", "exprs",
    { parser_form(#text > LONG_SOURCE and 9 or 0), { dist.tuple({ dist.atom("Source"), text }) } },
    { timeout_ms = deadline:left_ms() })
  if answer == nil then
    return { err = err, code = code, final = code == "EREMOTE" }
  end
  return { forms = answer[2], final = true } -- {value, Binary, Bindings}
end

function Evaluator:start_parse(source)
  if self.count >= MAX_SOURCES then
    self:forget()
  end
  local prepared, entry = self.prepared, { signal = async.signal() }
  prepared[source] = entry
  self.count = self.count + 1
  -- Detached: the first to ask may be cancelled while others wait.
  async.spawn(function()
    local result = self:parse(source, async.deadline(PARSE_TIMEOUT_MS))
    prepared[source] = result.final and result or nil
    if not result.final and prepared == self.prepared then
      self.count = self.count - 1
    end
    entry.result = result
    entry.signal:fire(true)
  end, { name = "eval.parse", detached = true })
  return entry
end

-- The form of a source, parsed at its first use; uses at the same time wait for the same parse.
function Evaluator:prepare(source, deadline)
  local entry = self.prepared[source]
  if not entry then
    entry = self:start_parse(source)
  end
  if entry.signal and not entry.result then
    local ok, err, code = entry.signal:wait(deadline:left_ms())
    if not ok then
      return nil, err, code
    end
  end
  entry = entry.result or entry
  return entry.forms, entry.err, entry.code
end

-- Raises unless the name is a variable of the source. It becomes an atom on the node: only one that
-- the source has made already.
local function check_name(source, name)
  if type(name) ~= "string" or not name:find("^[A-Z][%w_]*$") then
    error(("a binding's name is an Erlang variable, not %q"):format(tostring(name)), 5)
  elseif not source:find("%f[%w_]" .. name .. "%f[^%w_]") then
    error(("the source has no variable %s"):format(name), 5)
  end
end

-- The same for all names. What a known source was found to have is not looked for again.
local function check_names(source, bindings, entry)
  local found = entry and entry.names or {}
  for name in pairs(bindings) do
    if not found[name] then
      check_name(source, name)
      found[name] = true
    end
  end
  if entry then
    entry.names = found
  end
end

-- Lua's bindings as erl_eval wants them: a list of {Name, Value} in the order of the names.
local function bindings_term(bindings)
  local names = { "Beamlens_to" }
  for name in pairs(bindings) do
    names[#names + 1] = name
  end
  table.sort(names)
  local list = {}
  for i, name in ipairs(names) do
    local value = name == "Beamlens_to" and dist.self or bindings[name]
    list[i] = dist.tuple({ dist.atom(name), value })
  end
  return list
end

--- Evaluates a source.
---@async
---@param source string Constant Erlang expressions, ending with a full stop.
---@param bindings? table<string, any> Values of the source's variables.
---@param opts { timeout_ms: number, max_heap_words?: integer, priority?: string }
---@return any value
---@return string? err
---@return string? code `"ECODESERVER"`: the code_server there does not answer, and what this source
--- needs, or any, is not loaded; `"ENOEVAL"`: the node's release lacks what evaluating needs;
--- `"EREMOTE"`: it raised there, or the source does not parse; or the code of a failed call.
function Evaluator:run(source, bindings, opts)
  local entry = self.prepared[source]
  if not entry and not source:find("%.%s*$") then
    error("an Erlang source ends with a full stop", 3)
  end
  bindings = bindings or {}
  check_names(source, bindings, entry)
  local list = bindings_term(bindings)
  local deadline = async.deadline(opts.timeout_ms)
  local forms, err, code = self:prepare(source, deadline)
  if not forms then
    return nil, err, code
  end
  local args = forms:byte(2) == COMPRESSED and unpacking(forms, list) or { dist.raw(forms), list }
  return self.call("erl_eval", "exprs", args, {
    timeout_ms = deadline:left_ms(),
    max_heap_words = opts.max_heap_words,
    priority = opts.priority,
    reply = "message",
  })
end

return M
