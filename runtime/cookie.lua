--- The cookie: the secret that lets us attach to a node.
---
--- Looked for in `--cookie-file`, then `BEAMLENS_COOKIE`, then `~/.erlang.cookie`. The first that
--- is there decides: when it is unusable that is an error, and the others are not tried. No error
--- text has any part of the cookie in it.

local uv = require("luv")

local M = {}

local MAX_BYTES = 255 -- an atom's length on the node

local S_IFMT, S_IFREG = 0xF000, 0x8000
local OTHERS, GROUP_AND_OTHERS = 0x07, 0x3F -- rwx bits

local function fail(code, text, ...)
  return nil, ("%s: %s"):format(code, text:format(...)), code
end

-- Checks what was read. `where` begins the error text.
local function check(text, where)
  local cookie = text:match("^%s*(.-)%s*$")
  if cookie == "" then
    return fail("EBADCOOKIE", "%s is empty", where)
  end
  if cookie:find("[\r\n]") then
    return fail("EBADCOOKIE", "%s has more than one line; a cookie is one line", where)
  end
  if cookie:find("[^\32-\126]") then
    return fail("EBADCOOKIE", "%s has a character that is not printable ASCII", where)
  end
  if #cookie > MAX_BYTES then
    return fail("EBADCOOKIE", "%s has %d characters; a cookie has at most %d", where, #cookie,
      MAX_BYTES)
  end
  return cookie
end

-- luv's error text is "CODE: text: path".
local function unreadable(path, err, code)
  return fail(code, "cannot read the cookie file %s: %s", path, err:match("^%u+: ([^:]*)") or err)
end

local function read(path)
  local fd, err, code = uv.fs_open(path, "r", 0)
  if not fd then
    return nil, err, code
  end
  -- One byte more than any good file, so that a longer one is seen to be longer.
  local text
  text, err, code = uv.fs_read(fd, 4096, 0)
  uv.fs_close(fd)
  return text, err, code
end

-- Reads a cookie file. `forbidden`: the permission bits that it must not have.
local function from_file(path, forbidden, advice)
  local stat, err, code = uv.fs_stat(path)
  if not stat then
    return unreadable(path, err, code)
  end
  if bit.band(stat.mode, S_IFMT) ~= S_IFREG then
    return fail("EBADCOOKIE", "the cookie file %s is not a regular file", path)
  end
  if bit.band(stat.mode, forbidden) ~= 0 then
    return fail("EPERMISSIONS", "the cookie file %s can be used by %s (mode %s): %s", path,
      forbidden == OTHERS and "everybody" or "others than its owner",
      ("%03o"):format(bit.band(stat.mode, 0x1FF)), advice:format(path))
  end
  local text
  text, err, code = read(path)
  if not text then
    return unreadable(path, err, code)
  end
  return check(text, ("the cookie file %s"):format(path))
end

--- Makes the function that finds the cookie. Each call of it reads anew, so a changed file is seen.
---
--- A `file` may be readable by its group, as mounted secrets are, but not by everybody;
--- `~/.erlang.cookie` must be its owner's alone, as Erlang itself demands.
---@param opts { file?: string, env?: (fun(name: string): string?), home?: string }
--- `file` is the path of `--cookie-file`; `env` reads the environment (default: `os.getenv`);
--- `home` is the home folder (default: `$HOME`).
---@return fun(): string?, string?, string? find Returns the cookie, or nil, error text and code:
--- `"ENOCOOKIE"` there is none, `"EBADCOOKIE"` it cannot be a cookie, `"EPERMISSIONS"` the file is
--- open to others, or the system's code, such as `"ENOENT"` or `"EACCES"`.
function M.find(opts)
  for key in pairs(opts) do
    if key ~= "file" and key ~= "env" and key ~= "home" then
      error(("unknown option %q"):format(tostring(key)), 2)
    end
  end
  local env = opts.env or os.getenv
  return function()
    if opts.file then
      return from_file(opts.file, OTHERS, "chmod o= %s")
    end
    local value = env("BEAMLENS_COOKIE")
    if value then
      return check(value, "BEAMLENS_COOKIE")
    end
    local home = opts.home or env("HOME")
    local path = home and home .. "/.erlang.cookie"
    if path and uv.fs_stat(path) then
      return from_file(path, GROUP_AND_OTHERS, "chmod 400 %s")
    end
    return fail("ENOCOOKIE", "no cookie: give --cookie-file FILE, set BEAMLENS_COOKIE, or put it "
      .. "into %s; it must be the node's own, see erlang:get_cookie()", path or "~/.erlang.cookie")
  end
end

return M
