---@meta
--- Types of the host's native modules, for editors and luacheck; never loaded.

error("this file only holds types")

--- host.core: the few things that every part of the runtime needs from the process.
---@class host.core
---@field version string
local core = {}

--- The text of a Lua file carried in the binary, by its path in the source tree.
---@param path string Such as "runtime/main.lua".
---@return string? source
function core.embedded(path) end

--- The paths that `embedded` knows.
---@return string[]
function core.embedded_paths() end

--- Sets who gets the errors that escape a callback of the loop, with their tracebacks. Without
--- one they go to stderr.
---@param fn? fun(text: string)
function core.set_error_hook(fn) end

--- The loop's handles that are not closing, those of native modules too.
---@return table<string, integer> counts By type.
---@return integer total
function core.handles() end

--- How many registry references native modules hold: 0 when all is closed.
---@return integer
function core.references() end

--- How many errors have escaped a callback since the start.
---@return integer
function core.callback_errors() end

--- host.dist: a hidden Erlang node that attaches to others and calls functions there.
---
--- Everything is a callback on the loop; nothing blocks. Terms become Lua values:
--- integers and floats are numbers (big integers the nearest double); binaries strings; atoms
--- strings, but `true` and `false` booleans, `null` and `nil` json.null; lists arrays (the list
--- "ab" is { 97, 98 }, an improper list has the field `tail`); tuples arrays with the metatable
--- `tuple_mt`; maps tables (keys: names and binaries as strings, integers as numbers, others as
--- they print). What has no Lua type (pid, port, reference, fun, bit string) is a `dist.Term`.
---
--- Lua values become terms: integral numbers integers, others floats; strings binaries; booleans
--- atoms; json.null the atom `null`; arrays lists; tables of names maps with binary keys; see
--- `tuple`, `map`, `atom`, `raw`. Anything else raises.
---@class host.dist
---@field tuple_mt table The metatable of tuples.
---@field self dist.Term In the arguments of a call: the pid that this call's answer goes to.
local dist = {}

--- A term without a Lua type. `tostring` prints it as the node that it came from does; `==` is true
--- for the same term; it can be sent back.
---@class dist.Term

--- A connection, or the attempt at one. It lives until it is closed or `on_down` is called, whether
--- or not anything holds it.
---@class dist.Conn
local Conn = {}

---@class dist.Info
---@field node string The node's name.
---@field own_name string Ours.
---@field creation integer Changes with each start of the node.
---@field flags number The node's capabilities, as bits.

---@class dist.Options
---@field node string "name@host"; with "name@host:port" epmd is not asked ("name@[::1]:port").
---@field own_name string "name@host", what the node will call us.
---@field cookie string
---@field epmd_port? integer Default: 4369.
---@field timeout_ms? integer For epmd, and again for all from there until it stands. Default: 5000.
---@field max_frame? integer Bytes of the longest message that is taken. Default: 16 MiB.
---@field creation? integer Ours. Default: random, the same for the life of the process.

--- Begins to attach to a node. Neither callback is called before this returns, and after
--- `conn:close()` neither is called.
---
--- Codes of `on_down`, each with what to do in its text: "EHOST" (the host cannot be resolved or
--- reached), "EEPMD" (no epmd there), "ENODE" (epmd does not know the node: lists those it knows),
--- "ECONNREFUSED" (nothing listens where the node should), "ETIMEDOUT", "ENAME" (another node
--- listens there), "ECOOKIE", "EALIVE" (it has a connection of our name), "EREFUSED" (it allows
--- only certain nodes), "ETLS", "EOLD" (before OTP 23), "EPROTO" (not a node, or one that broke the
--- protocol), "EDOWN" (a connection that stood was closed). The cookie is never in a text.
---@param opts dist.Options
---@param on_up fun(info: dist.Info) Once, when it stands.
---@param on_down fun(err: string, code: string, was_up: boolean) Once, when it fails or ends.
---@return dist.Conn
function dist.connect(opts, on_up, on_down) end

---@class dist.CallOptions
---@field max_heap_words? number The process is killed beyond that. Default: no bound.
---@field priority? "low"|"normal" Default: "low".
---@field reply? "exit"|"message" Default: "exit": the function's value is the answer. "message":
--- the function itself sends `{Tag, ok, Value}` or `{Tag, error, Text}` to `dist.self`, which its
--- arguments contain, and may then unlink; an error that it raises is logged by the node.

--- Calls a function on the node, in a process of its own there. Its output is the node's own. The
--- process ends with the connection.
---
--- Codes: "EREMOTE" (it raised or died there: class and reason in the text), "EHEAP" (beyond
--- `max_heap_words`), "ETOOBIG" (the answer exceeds `max_frame`), "ETERM" (the answer is more than
--- 64 deep, has more than a million elements, or is no term), "EDOWN" (no connection, or it ended:
--- then after `on_down`), "EOLD", "EBUSY" (8 MiB wait to be taken by the node). With "EDOWN" and
--- "EBUSY" `done` may be called before this returns. Raises for arguments that cannot be sent.
---@param module string An atom on the node: from our own source only.
---@param fun string
---@param args any[]
---@param opts dist.CallOptions
---@param done fun(value: any, err?: string, code?: string) Once, unless cancelled or closed by us.
---@return integer? id For `cancel`.
function Conn:call(module, fun, args, opts, done) end

--- Drops a call: `done` is not called any more, and its process is killed as soon as it is known.
--- An id whose call is over is ignored.
---@param id? integer
function Conn:cancel(id) end

--- Closes the connection at once; the node logs nothing. Calls in flight are dropped, and their
--- processes end. May be called twice.
function Conn:close() end

--- Figures: bytes since the start, and calls that nobody has cancelled or answered.
---@return { sent_bytes: number, received_bytes: number, calls_in_flight: integer }
function Conn:stats() end

--- A question to an epmd.
---@class dist.Request
local Question = {}

--- Drops the question: `done` is not called any more. May be called twice.
function Question:cancel() end

--- Asks an epmd for the nodes that it knows; gives up after 5 s ("EHOST", "EEPMD", "ETIMEDOUT").
---@param host string
---@param epmd_port? integer Default: 4369.
---@param done fun(names?: { name: string, port: integer }[], err?: string, code?: string)
---@return dist.Request
function dist.epmd_names(host, epmd_port, done) end

--- The external term format of a value, as term_to_binary/1 gives it. Raises for what has none.
---@param value any
---@return string bytes
function dist.encode(value) end

--- Reads one term. Safe for any bytes.
---@param bytes string With the version byte.
---@param home? string A node: its pids, ports and references print as on it.
---@return any value
---@return string? err
---@return string? code "ETERM"
function dist.decode(bytes, home) end

--- Marks a list to be sent as a tuple.
---@param list any[]
---@return any[] list The same table.
function dist.tuple(list) end

--- Marks a table to be sent as a map even when it is empty or has integer keys.
---@param table table
---@return table table The same one.
function dist.map(table) end

--- An atom. Only for names in our own source: a name that is new to a node stays there for ever.
---@param name string
---@return dist.Term
function dist.atom(name) end

--- A term that is sent as these bytes.
---@param bytes string One term of the external term format, with or without version byte.
---@return dist.Term
function dist.raw(bytes) end

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

---@class host.words
local words = {}

---@class host.words.Finder
local Finder = {}

--- What finds these words in texts, whatever the case of their letters of ASCII.
---@param list string[] At most 255, of 3 to 64 bytes each.
---@return host.words.Finder
function words.new(list) end

--- Where the first of the words begins.
---@param text string
---@return integer? position nil: the text holds none.
function Finder:find(text) end

---@class host.crypto
local crypto = {}

--- SHA-256.
---@param text string
---@return string hex 64 digits.
function crypto.sha256(text) end

--- HMAC with SHA-256.
---@param key string
---@param text string
---@return string hex 64 digits.
function crypto.hmac_sha256(key, text) end

--- The signature of AWS's version 4 over a text, by the key derived from a secret.
---@param secret string At most 252 bytes.
---@param date string "20150830"
---@param region string
---@param service string
---@param text string The string to sign.
---@return string hex 64 digits.
function crypto.sigv4(secret, date, region, service, text) end

--- RSASSA-PKCS1-v1_5 with SHA-256.
---@param pem string A private RSA key without a passphrase.
---@param text string
---@return string? signature
---@return string? err
---@return string? code `"EKEY"`
function crypto.rs256(pem, text) end

--- Base64 for URLs, without padding.
---@param bytes string
---@return string text
function crypto.base64url(bytes) end

---@class host.eventstream
local eventstream = {}

---@class host.eventstream.Parser
local FrameParser = {}

--- Creates a parser of AWS's event streams (application/vnd.amazon.eventstream).
---@param on_frame fun(frame: { headers: table<string, boolean|number|string>, payload: string })
--- Called by `feed` for each whole frame. 64-bit numbers are the nearest double, times Unix ms.
---@return host.eventstream.Parser
function eventstream.new(on_frame) end

--- Takes bytes, cut anywhere. An error of `on_frame` is raised here, and stops the parser.
---@param bytes string
---@return true? ok
---@return string? err
---@return string? code `"ETOOBIG"` (a frame above 16 MiB, headers above 128 KiB), `"ECRC"` (a wrong
--- checksum), `"EFRAME"` (malformed)
function FrameParser:feed(bytes) end

--- The stream has ended.
---@return true? ok
---@return string? err
---@return string? code `"ECUT"`: inside a frame.
function FrameParser:finish() end

---@class host.ndjson
local ndjson = {}

---@class host.ndjson.Splitter
local Splitter = {}

--- Creates a splitter of streams with one JSON text a line.
---@param on_line fun(line: string) Called by `feed` and `finish` for each line that is not blank,
--- without its end and the space around it.
---@return host.ndjson.Splitter
function ndjson.new(on_line) end

--- Takes bytes, cut anywhere. An error of `on_line` is raised here, and stops the splitter.
---@param bytes string
---@return true? ok
---@return string? err
---@return string? code `"ETOOBIG"`: a line has more than 1 MiB.
function Splitter:feed(bytes) end

--- The stream has ended: a line that lacks its end is handed over.
---@return true? ok
---@return string? err
---@return string? code
function Splitter:finish() end

--- host.process: what a service is to the system.
---@class host.process
local process = {}

--- The second of all signals for which this was called ends the process at once: nothing is
--- flushed, closed or waited for, and no call holds it up. Raises unless the loop listens to it.
---@param signum integer
---@param status integer Of the process then.
function process.exit_at_second(signum, status) end

--- The effective user id of this process.
---@return integer
function process.uid() end

--- The user whose process is at the other end of a connected Unix socket.
---@param fd integer
---@return integer? uid
---@return string? err
---@return string? code
function process.peer_uid(fd) end

--- Sends one datagram to a Unix socket; never waits.
---@param path string Of the socket; "@" and a name for an abstract one.
---@param text string
---@return true? ok
---@return string? err
---@return string? code `"EAGAIN"`: the receiver's queue is full. `"EINVAL"`: not an address.
function process.notify(path, text) end

--- host.json: JSON that is exact, sorted and always valid UTF-8. Use runtime/json.lua.
---@class host.json
---@field null lightuserdata The one null, `cjson.null`.
---@field array_mt table Marks a list.
---@field object_mt table Marks an object.
local json = {}

--- Never raises: what has no JSON form is named in brackets, as in "<function>".
---@param value any
---@return string text
---@return boolean lossy Something was replaced.
function json.encode(value) end

---@param value any
---@return string? text
---@return string? err
---@return string? code "EJSON": the value holds something that has no JSON form, or itself.
function json.encode_strict(value) end

--- The strict decoder of the sandbox: bad UTF-8 is an error, null is the light userdata NULL.
---@param text string
---@return any value
---@return string? err
---@return string? code "EJSON"
function json.decode(text) end

--- host.sandbox: runs Lua that nobody trusts in a process of its own. Use runtime/sandbox.lua.
---@class host.sandbox
local sandbox = {}

--- A worker program with idle processes, which lives until it is closed.
---@class host.sandbox.Box
local Box = {}

--- One script. It lives until its outcome, whether or not anything holds it.
---@class host.sandbox.Run
local Run = {}

--- Starts the worker program. If that fails, `exec` tries again and says why not.
---@param opts? { pool?: integer } Idle processes kept ready: default 4, at most 16.
---@return host.sandbox.Box
function sandbox.open(opts) end

--- Runs a script. From the loop, never from inside a call of this module, come any number of
--- `callback("call", id, name, args)`, each to be answered with `Run:reply`, and exactly one
--- `callback("done", frame)`, unless the run is cancelled. The frame is what the child reported
--- (nothing in it but its shape is checked) or made here: `{ ok = true, value, lossy, hint, output,
--- output_truncated, stats }` or `{ ok = false, error = { kind, message, line, traceback, hint },
--- … }`. Sixteen scripts run at once; others wait for their turn.
---@param request { code: string, args: any, fns: string[], limits: table } `limits` has all of
--- wall_ms, cpu_ms, memory_bytes, result_bytes, calls.
---@param callback fun(what: "call"|"done", ...)
---@return host.sandbox.Run? run
---@return string? err
---@return string? code "EBIG": the request is larger than 16 MiB. "ESANDBOX": no process to be had.
function Box:exec(request, callback) end

--- `starts` counts the worker programs started so far; the lists hold process ids.
---@return { running: integer, queued: integer, idle: integer, starts: integer,
---   zygotes: integer[], children: integer[] }
function Box:stats() end

--- Ends all processes; what still runs gets kind "cancelled". May be called twice.
function Box:close() end

--- Answers the call `id` with values, or with `false` and the text of an error.
---@param id integer
---@param ok boolean
---@param ... any
---@return true? ok
---@return string? err
---@return string? code "EBIG": the values are more than 4 MiB of JSON or 200 000 values; nothing is
--- sent. "EDONE": the script has ended, or this call is answered.
function Run:reply(id, ok, ...) end

--- Kills the script; its callback is not called any more.
function Run:cancel() end

--- The process that runs the script; nil before it is known and at the end.
---@return integer?
function Run:pid() end

--- host.work: a thread with a Lua state of its own. Use runtime/work.lua.
---@class host.work
local work = {}

--- One thread. What it runs when it is closed runs on unseen, and is freed if it ever ends.
---@class host.work.Thread
local Thread = {}

--- Starts a thread with this `package.path` and `package.cpath`. `on_done` is called from the loop
--- when a call has ended.
---@param path string
---@param cpath string
---@param on_done fun()
---@return host.work.Thread? thread
---@return string? err
---@return string? code As libuv has them: "EAGAIN", "ENOMEM".
function work.open(path, cpath, on_done) end

--- Runs `require(module)[fn_name](...)`. One call at a time: raises while one runs.
---@param module string
---@param fn_name string
---@param ... any Copied.
---@return true? ok
---@return string? err
---@return string? code "EWORK": an argument cannot be copied.
function Thread:start(module, fn_name, ...) end

--- What the call has returned, or `false` and the text of its error. Once, after `on_done`.
---@return boolean ok
---@return any ...
function Thread:take() end

--- Ends the thread without waiting for a call that runs. May be called twice.
function Thread:close() end

--- host.watchdog: a thread that notices when Lua of a user's file does not come back. Use
--- runtime/metered.lua.
---@class host.watchdog
local watchdog = {}

--- Code of this name begins to run. Levels may be nested.
---@param label string
---@param limit_ms number After so much of the CPU's time it will be cut.
function watchdog.enter(label, limit_ms) end

--- The code that was entered last is here now.
---@param label string
function watchdog.at(label) end

--- The code that was entered last has come back.
---@return number cpu_ms
---@return number wall_ms
---@return boolean was_told The thread told of it on stderr.
function watchdog.leave() end

--- What this thread has taken of the CPU.
---@return number ms
function watchdog.cpu_ms() end

--- host.store: an SQLite file with a thread of its own. Use runtime/store.lua.
---@class host.store
local store = {}

--- One file. A request that runs when it is closed runs on unseen.
---@class host.store.Store
local Store = {}

--- Starts the thread; the file is opened, and made, with the first request. `on_done` is called
--- from the loop when a request has ended. One that is read only is not made.
---@param path string
---@param on_done fun()
---@param is_read_only? boolean
---@return host.store.Store? store
---@return string? err
---@return string? code
function store.open(path, on_done, is_read_only) end

--- Runs SQL, which may be several statements. One request at a time: raises while one runs.
---@param sql string
---@param ... string|number For ?1 to ?16.
---@return true? ok
---@return string? err
---@return string? code
function Store:start(sql, ...) end

--- The rows of the request, as lists of cells. Once, after `on_done`.
---@return any[][]? rows
---@return string? err
---@return string? code EBUSY, EROFS, ENOSPC, EISDIR, EBROKEN or ESTORE.
function Store:take() end

--- Closes the file, as a request of its own; the next one opens what then lies there.
function Store:drop() end

--- Ends the thread without waiting for a request that runs. May be called twice.
function Store:close() end

--- host.lock: a file that one process at a time can have.
---@class host.lock
local lock = {}

---@class host.lock.Lock
local Lock = {}

--- Makes this process the owner of what the file stands for, until it ends or closes the lock.
---@param path string
---@return host.lock.Lock? lock
---@return string? err
---@return string? code ELOCKED: the process `pid` has it.
---@return integer? pid
function lock.take(path) end

--- The other process that has it; nil also where there is no such file. A process that has it
--- itself must not ask: it would give it back.
---@param path string
---@return integer? pid
function lock.owner(path) end

--- Gives it back. May be called twice.
function Lock:close() end
