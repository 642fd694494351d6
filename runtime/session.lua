--- A session of `run` that is recorded (`--record FILE`) or replayed (`--replay FILE`).
---
---   local s, err = session.new(opts, line, warn)     -- nil: neither is asked for
---   s:start(); …; s:finish("iterations"); …; status = s:stop(status)

local async = require("runtime.async")
local clocks = require("runtime.session.clocks")
local journal = require("runtime.session.journal")
local json = require("runtime.json")
local options = require("runtime.options")
local order = require("runtime.session.order")
local player = require("runtime.session.player")
local recorder = require("runtime.session.recorder")
local world = require("runtime.world")

local M = {}

local CLOSE_MS = 2000
-- Options that say nothing about what is watched, and how.
local OWN = { "record", "replay", "log" }

---@class session.Session
---@field is_replay boolean
local Session = {}
local session_mt = { __index = Session }

local function new_recorder(opts, line, warn)
  local path = opts.record
  local file, err = journal.open(path, function(reason)
    warn(("the recording %s ends here: %s; watching goes on"):format(path, reason))
  end)
  if not file then
    return nil, "cannot record: " .. err
  end
  return recorder.new({ journal = file, arguments = json.array({ unpack(line.args) }),
    warn = warn })
end

-- What the command line leaves open is as it was recorded.
local function complete(opts, recorded)
  local has_files = #opts > 0
  for key, value in pairs(recorded) do
    if type(key) == "number" and not has_files or opts[key] == nil and type(key) == "string" then
      opts[key] = value
    end
  end
end

local function new_player(opts, line, warn)
  local opened, err = player.new(opts.replay, warn)
  if not opened then
    return nil, "cannot replay: " .. err
  end
  -- Its folder may be another one here, and is looked for only when it is used.
  local known = setmetatable({ dir = { arg = "DIR" } }, { __index = line.known })
  local recorded, line_err = options.parse(opened.header.arguments, known)
  if not recorded then
    opened:close()
    return nil, ("cannot replay: %s: its command line is damaged: %s"):format(opts.replay, line_err)
  end
  for _, name in ipairs(OWN) do
    recorded[name] = nil
  end
  complete(opts, recorded)
  return opened
end

--- Creates the session that the options of `run` ask for.
---@param opts table Of the command line. A replay takes those that are missing from the recording.
---@param line { args: string[], known: table<string, options.Option> } What they were read from.
---@param warn fun(text: string)
---@return session.Session? session nil without an error: none.
---@return string? err
function M.new(opts, line, warn)
  if not opts.record and not opts.replay then
    return nil
  elseif opts.record and opts.replay or opts["show-payload"] then
    return nil, "--record, --replay and --show-payload: one of them at a time"
  end
  local make = opts.record and new_recorder or new_player
  local side, err = make(opts, line, warn)
  if not side then
    return nil, err
  end
  return setmetatable({ side = side, is_replay = opts.replay ~= nil }, session_mt)
end

--- Puts it between the runtime and the world.
function Session:start()
  order.install()
  clocks.install()
  world.install(self.side)
end

--- Keeps texts out of the recording.
---@param texts string[]
function Session:hide(texts)
  for _, text in ipairs(texts) do
    self.side:hide(text)
  end
end

--- Whose lines a replay waits for, since it is faster than their reader.
---@param output output.Output
function Session:set_output(output)
  if self.is_replay then
    self.side:set_output(output)
  end
end

--- True when a replay has ended before its run did.
---@return boolean
function Session:is_over()
  return self.is_replay and self.side.status ~= nil
end

--- The run has come to its end: what follows is no part of it.
---@async
---@param reason string
function Session:finish(reason)
  self.side:finish(reason)
  world.install(nil)
  order.remove()
  clocks.remove()
end

--- Ends it. Status and what is left to say of a replay.
---@param status integer Of the run.
---@return integer status
function Session:stop(status)
  world.install(nil)
  order.remove()
  clocks.remove()
  if self.is_replay then
    self.side:close()
    -- Where the replay has ended before its run, nobody else does it.
    async.run(self.side.close_output, self.side, CLOSE_MS)
    return self.side.status or status
  end
  async.run(function()
    self.side.journal:close(CLOSE_MS)
  end)
  if not self.side.has_begun then
    self.side.journal:discard()
  end
  return status
end

return M
