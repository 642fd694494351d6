---@meta
--- Types of the host's native modules, for editors and luacheck; never loaded.

error("this file only holds types")

---@class host.http
local http = {}

---@class host.http.Request
local Request = {}

--- Ends the request; its callbacks are not called any more. May be called at any time.
function Request:cancel() end

--- Starts an HTTP request on the loop. Unknown options and wrong types raise.
---@param opts http.Options See runtime/http.lua.
---@param done fun(answer: http.Response?, err: string?, code: string?) Called once, unless the
--- request is cancelled, and never from inside `request`. Codes: EHOST, ECONNECT, ETLS, ETIMEDOUT,
--- ECUT, ETOOBIG, EHTTP, ENOMEM.
---@return host.http.Request? req nil when it cannot even start; `done` is then not called.
---@return string? err
---@return string? code
function http.request(opts, done) end

--- The version of libcurl, which is loaded by the first request; nil before it.
---@return string?
function http.loaded() end

---@class host.sse
local sse = {}

---@class host.sse.Parser
local Parser = {}

--- Creates a parser of an event stream.
---@param on_event fun(event: { event: string, data: string }) Called by `feed` and `finish` for
--- each event that has data. `event.event` is "message" when the stream names none.
---@return host.sse.Parser
function sse.new(on_event) end

--- Takes bytes, cut anywhere. An error of `on_event` is raised here, and stops the parser.
---@param bytes string
---@return true? ok
---@return string? err
---@return string? code `"ETOOBIG"`: one event has more than 1 MiB.
function Parser:feed(bytes) end

--- The stream has ended: an event that lacks its blank line is handed over.
---@return true? ok
---@return string? err
---@return string? code
function Parser:finish() end
