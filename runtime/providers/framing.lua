--- How the events of a streamed answer lie in its body.
---
--- `sse` is text/event-stream, `ndjson` one JSON text a line, `eventstream` the binary frames of
--- AWS. An event is `{ event = name, data = JSON, headers = table? }` in each.

local eventstream = require("host.eventstream")
local ndjson = require("host.ndjson")
local sse = require("host.sse")

local M = {}

local TYPES = {
  { "vnd.amazon.eventstream", "eventstream" },
  { "event-stream", "sse" },
  { "ndjson", "ndjson" },
}

--- The framing of a body: by its type, else by how it begins.
---@param content_type string?
---@param asked string? The framing of the stream that was asked for; nil for a plain answer.
---@param bytes string The first of the body.
---@return "sse"|"ndjson"|"eventstream"|nil framing nil: a plain body.
function M.of(content_type, asked, bytes)
  local kind = (content_type or ""):lower()
  for _, known in ipairs(TYPES) do
    if kind:find(known[1], 1, true) then
      return known[2]
    end
  end
  if kind:find("json", 1, true) or kind:find("html", 1, true) or bytes:find("^%s*[{[<]") then
    return nil
  end
  return asked
end

local function event_of(frame)
  local headers = frame.headers
  return {
    event = headers[":event-type"] or headers[":exception-type"] or headers[":error-code"],
    data = frame.payload ~= "" and frame.payload or "{}",
    headers = headers,
  }
end

--- Creates the parser of a framing, with `feed(bytes)` and `finish()`.
---@param framing "sse"|"ndjson"|"eventstream"
---@param on_event fun(event: { event: string?, data: string, headers: table? })
function M.parser(framing, on_event)
  if framing == "eventstream" then
    return eventstream.new(function(frame)
      on_event(event_of(frame))
    end)
  elseif framing == "ndjson" then
    return ndjson.new(function(line)
      on_event({ data = line })
    end)
  end
  return sse.new(on_event)
end

return M
