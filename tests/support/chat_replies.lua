-- Replies of a server of chat completions, for support.anthropic_server.
--
--   local replies = require("support.chat_replies")
--   server = anthropic_server.start({ replies = { replies.call("wait", { ms = 5000 }) } })

local json = require("runtime.json")

local M = {}

local USAGE = { prompt_tokens = 100, completion_tokens = 20, total_tokens = 120 }

local function stream(...)
  local events = {}
  for i, event in ipairs({ ... }) do
    events[i] = ("data: %s\n\n"):format(json.encode(event))
  end
  return {
    headers = { ["content-type"] = "text/event-stream" },
    body = table.concat(events) .. "data: [DONE]\n\n",
    chunk_bytes = 50,
  }
end

local function answer(delta, finish, usage)
  return stream({ model = "m-1", choices = { { index = 0, delta = delta } } },
    { model = "m-1", choices = { { index = 0, delta = json.object({}), finish_reason = finish } } },
    { model = "m-1", choices = json.array({}), usage = usage or USAGE })
end

--- A tool call.
function M.call(name, args, usage)
  return answer({ tool_calls = { { index = 0, id = "call_1", type = "function",
    ["function"] = { name = name, arguments = json.encode(json.object(args or {})) } } } },
    "tool_calls", usage)
end

--- An answer in words.
function M.text(text, finish)
  return answer({ content = text }, finish or "stop")
end

--- A refusal.
function M.refused(status, err)
  return { status = status, body = json.encode({ error = err }) }
end

--- A line of an Ollama stream, and its end.
function M.ollama(message)
  return {
    headers = { ["content-type"] = "application/x-ndjson" },
    body = json.encode({ model = "m-1", message = message, done = false }) .. "\n"
      .. json.encode({ model = "m-1", message = { role = "assistant", content = "" }, done = true,
        done_reason = "stop", prompt_eval_count = 100, eval_count = 20 }) .. "\n",
    chunk_bytes = 9,
  }
end

return M
