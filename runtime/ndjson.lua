--- An incremental parser of streams with one JSON text a line; the interface is that of host.sse.
---
---   local parser = ndjson.new(function(event) print(event.data) end)
---   assert(parser:feed(bytes))   -- nil, err, code when one line is too big
---   assert(parser:finish())

local M = {}

local MAX_LINE = 1024 * 1024

---@class ndjson.Parser
local Parser = {}
local parser_mt = { __index = Parser }

--- Creates a parser.
---@param on_event fun(event: { event: string, data: string }) Gets each line that is not blank.
---@return ndjson.Parser
function M.new(on_event)
  return setmetatable({ on_event = on_event, pieces = {}, size = 0 }, parser_mt)
end

function Parser:take_line()
  local line = table.concat(self.pieces)
  self.pieces, self.size = {}, 0
  if line:find("%S") then
    self.on_event({ event = "", data = line })
  end
end

--- Takes bytes in pieces of any size.
---@param bytes string
---@return true?
---@return string? err
---@return string? code `"ETOOBIG"`: one line has more than 1 MiB.
function Parser:feed(bytes)
  local at = 1
  while at <= #bytes do
    local line_end = bytes:find("\n", at, true)
    local piece = bytes:sub(at, (line_end or #bytes + 1) - 1)
    self.size = self.size + #piece
    if self.size > MAX_LINE then
      return nil, ("ETOOBIG: a line of the stream has more than %d bytes"):format(MAX_LINE),
        "ETOOBIG"
    end
    self.pieces[#self.pieces + 1] = piece
    if line_end then
      self:take_line()
    end
    at = (line_end or #bytes) + 1
  end
  return true
end

--- Takes a last line that has no end.
---@return true
function Parser:finish()
  self:take_line()
  return true
end

return M
