--- How the events of a streamed answer lie in its body.
---
--- `sse` is text/event-stream, `ndjson` one JSON text a line. An event is
--- `{ event = name, data = JSON }` in both.

local ndjson = require("runtime.ndjson")
local sse = require("host.sse")

local M = {}

local PARSERS = { sse = sse.new, ndjson = ndjson.new }
local TYPES = { { "event-stream", "sse" }, { "ndjson", "ndjson" } }

--- The framing of a body: by its type, else by how it begins.
---@param content_type string?
---@param asked string? The framing of the stream that was asked for; nil for a plain answer.
---@param bytes string The first of the body.
---@return "sse"|"ndjson"|nil framing nil: a plain body.
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

--- Creates the parser of a framing, with `feed(bytes)` and `finish()`.
---@param framing "sse"|"ndjson"
---@param on_event fun(event: { event: string?, data: string })
function M.parser(framing, on_event)
  return PARSERS[framing](on_event)
end

return M
