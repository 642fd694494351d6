--- HTTP requests as waiting calls.
---
---   local answer, err, code = http.request({ url = "https://…", timeout_ms = 10000 })

local async = require("runtime.async")
local native = require("host.http")
local world = require("runtime.world")

local M = {}

---@class http.Options
---@field url string `http://` or `https://`. Redirects are not followed.
---@field method? string Default: `GET`, or `POST` with a body.
---@field headers? string[] `"Name: value"` each. A value is in no error text.
---@field body? string|string[] Pieces are sent one after the other.
---@field connect_timeout_ms? number For name, connection and TLS. Default: 5000.
---@field idle_timeout_ms? number Without a byte in either direction. Default: 60000.
---@field timeout_ms? number For the whole request. Default: none.
---@field max_body_bytes? number Default: 16 MiB.
---@field ca_file? string Trusted certificates. Default: the system's.
---@field on_headers? fun(status: integer, headers: table<string, string>)
---@field on_data? fun(bytes: string): boolean? Gets the body as it comes; must not wait. When it
--- returns false it has all it wants, and the request succeeds within a second.

---@class http.Response
---@field status integer Any status is an answer, not an error.
---@field headers table<string, string> By lower-case name; repeated ones are joined by ", ".
---@field body? string Absent with `on_data`.
---@field connect_ms number Until the connection stood; 0 when an open one was used.
---@field total_ms number

-- What is asked for, without anything that may be secret.
local function label(opts)
  return ("%s %s"):format(opts.method or (opts.body and "POST" or "GET"),
    (tostring(opts.url):gsub("[?#].*", ""):gsub("//[^/]*@", "//")))
end

-- The request's callbacks under one: `on_event(name, …)`.
local function start(opts, on_event)
  local own = {}
  for name, value in pairs(opts) do
    own[name] = value
  end
  for _, name in ipairs({ "on_headers", "on_data" }) do
    own[name] = opts[name] and function(...)
      return on_event(name, ...)
    end
  end
  return native.request(own, function(...)
    on_event("done", ...)
  end)
end

-- The request of a session, which sees what comes in.
local function open(opts, done)
  return world.open("http", function(on_event)
    return start(opts, on_event)
  end, function(name, ...)
    return (opts[name] or done)(...)
  end, label(opts))
end

--- Makes a request and waits for the whole answer.
---@async
---@param opts http.Options
---@return http.Response?
---@return string? err
---@return string? code `"EHOST"` (no such host), `"ECONNECT"`, `"ETLS"`, `"ETIMEDOUT"`, `"ECUT"`
--- (the connection ended before the answer did), `"ETOOBIG"`, `"EHTTP"` (anything else)
function M.request(opts)
  return async.await(nil, function(done)
    local begin = world.is_inside() and open or native.request
    local req, err, code = begin(opts, done)
    if not req then
      done(nil, err, code)
      return
    end
    return function()
      req:cancel()
    end
  end)
end

return M
