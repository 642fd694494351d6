--- The client that answers as models did in a recorded session: what each watcher was answered
--- there, in that order. Failures are not repeated.

local failures = require("runtime.providers.failure")
local questions = require("runtime.clients.questions")
local session_reader = require("runtime.session.reader")
local values = require("runtime.session.values")

local M = {}

M.options = {
  file = { type = "file", required = true },
  context_tokens = { type = "number", min = 1 },
  -- Nobody has to be paid.
  price = { type = "price", default = { input = 0, output = 0 } },
}

---@class providers.Replay
local Replay = {}
local replay_mt = { __index = Replay }

-- The result of an entry, if it is that of a model that answered.
local function result_of(entry)
  if entry.kind ~= questions.KIND or type(entry.of) ~= "table" then
    return nil
  end
  local ok, is_done, result = pcall(values.decode, entry.v)
  if ok and is_done == true and type(result) == "table" and type(result.tool) == "string" then
    return result
  end
end

-- The answers of a recording, by watcher: lists of `{ node, result }`.
local function read_answers(path)
  local reader, err = session_reader.open(path)
  if not reader then
    return nil, err
  end
  local answers = {}
  local entry
  entry, err = reader:next()
  while entry do
    local result = result_of(entry)
    if result then
      local watcher = entry.of[2] or ""
      answers[watcher] = answers[watcher] or {}
      table.insert(answers[watcher], { node = entry.of[3], result = result })
    end
    entry, err = reader:next()
  end
  reader:close()
  if err then
    return nil, err
  end
  return answers
end

--- What is wrong with the options together.
---@param options table
---@return { field: string, text: string }[]
function M.mistakes(options)
  if not options.file then
    return {}
  end
  local answers, err = read_answers(options.file)
  if not answers then
    return { { field = "file", text = "options.file: " .. err } }
  elseif next(answers) == nil then
    return { { field = "file", text = ("options.file: %s: no model answers in it"):format(
      options.file) } }
  end
  return {}
end

--- Creates the provider.
---@param options table
---@return providers.Replay
function M.new(options)
  return setmetatable({ model = "replay", options = options, given = {},
    answers = read_answers(options.file) or {} }, replay_mt)
end

--- It needs none.
function Replay:has_key() -- luacheck: no unused args
  return true
end

--- It has none.
---@return string[]
function Replay:secrets() -- luacheck: no unused args
  return {}
end

-- The next answer of a list: one for this node, unless the recording is of other nodes.
local function take(list, node)
  local is_of_node = false
  for _, answer in ipairs(list) do
    is_of_node = is_of_node or answer.node == node
  end
  for i, answer in ipairs(list) do
    if not is_of_node or answer.node == node then
      return table.remove(list, i).result
    end
  end
end

--- Answers as it was answered.
---@param request table
---@return table? result
---@return providers.Failure? failure
function Replay:decide(request)
  local meta = request.meta or {}
  local watcher = meta.watcher or ""
  local list = self.answers[watcher]
  if not list then
    return nil, failures.new("not_found", ("%s: no model answers the watcher %q in it"):format(
      self.options.file, watcher))
  end
  local result = take(list, meta.node)
  if not result then
    return nil, failures.new("not_found", ("%s: all %d answers to the watcher %q are given")
      :format(self.options.file, self.given[watcher] or 0, watcher))
  end
  self.given[watcher] = (self.given[watcher] or 0) + 1
  return result
end

return M
