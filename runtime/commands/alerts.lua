--- `beamlens alerts [ID]`: the alerts in the store, whether a host runs or not; one whole with its
--- evidence.

local alert_text = require("runtime.alerts.text")
local alerts_kept = require("runtime.alerts.kept")
local common = require("runtime.commands.common")
local failures = require("runtime.store.failures")
local json = require("runtime.json")
local options = require("runtime.options")
local schema = require("runtime.store.schema")
local store = require("runtime.store")
local uv = require("luv")

local M = {}

local LIST = [[
SELECT body FROM alerts WHERE max(last_seen, coalesce(resolved_at, 0)) >= ?1 AND status LIKE ?2
ORDER BY detected_at DESC, id LIMIT 20 OFFSET ?3]]
local ONE = "SELECT body FROM alerts WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 4"
local PAGE = 20
-- Schemas before this one have no alerts.
local FIRST_SCHEMA = 2

M.options = {
  store = common.STORE_OPTION,
  json = { doc = "print each alert whole, as a line of JSON" },
  since = { arg = "TIME", doc = "those that fired, were seen or ended in this time, such as 1h",
    parse = options.duration },
  firing = { doc = "those that fire now" },
  help = { doc = "print this" },
}

-- Opens the store to read it. nil and what is wrong with it.
local function open(given)
  local path, place_err = store.path(given)
  if not path then
    return nil, place_err
      or "there is no store: `none` keeps alerts in the memory of the host alone"
  elseif not uv.fs_stat(path) then
    return nil, ("there is no store %s: it is made by beamlens run; --store names another one")
      :format(path)
  end
  local opened, err, code = store.read(path)
  local version
  if opened then
    version, err, code = schema.check(opened)
    if version then
      return opened, version
    end
    opened:close()
  end
  return nil, ("the store %s: %s"):format(path, failures.text(err, code))
end

local function print_one(text, as_json)
  local alert = json.decode(text)
  if as_json or alerts_kept.mistake(alert) then
    print(text)
  else
    print(alert_text.whole(alert, os.time() * 1000))
  end
end

local function list(opened, opts)
  local since_ms = opts.since and os.time() * 1000 - opts.since or 0
  local offset = 0
  repeat
    local rows, err = opened:query(LIST, since_ms, opts.firing and "firing" or "%", offset)
    if not rows then
      return nil, err
    end
    for _, row in ipairs(rows) do
      local alert = json.decode(row[1])
      if opts.json then
        print(row[1])
      elseif not alerts_kept.mistake(alert) then
        print(alert_text.line(alert))
      end
    end
    offset = offset + #rows
  until #rows < PAGE
  return true
end

local function one(opened, id, opts)
  if not id:find("^%x+$") then
    return nil, ("%q is no id of an alert"):format(id)
  end
  local rows, err = opened:query(ONE, id:lower())
  if not rows then
    return nil, err
  elseif #rows == 0 then
    return nil, ("no alert %s; `beamlens alerts` lists those that are kept"):format(id)
  elseif #rows > 1 then
    local ids = {}
    for i, row in ipairs(rows) do
      ids[i] = i <= 3 and (json.decode(row[1]) or {}).id or "…"
    end
    return nil, ("%s begins more than one id: %s"):format(id, table.concat(ids, ", "))
  end
  print_one(rows[1][1], opts.json)
  return true
end

local function show(opts)
  if #opts > 1 then
    common.warn(("alerts takes one id: %q"):format(opts[2]))
    return 2
  elseif opts[1] and (opts.since or opts.firing) then
    common.warn("--since and --firing choose from all alerts: give them without an id")
    return 2
  end
  local opened, version = open(opts.store)
  if not opened then
    common.warn(version)
    return 1
  end
  local ok, err = true, nil
  if opts[1] and version < FIRST_SCHEMA then
    ok, err = nil, ("no alert %s"):format(opts[1])
  elseif opts[1] then
    ok, err = one(opened, opts[1], opts)
  elseif version >= FIRST_SCHEMA then
    ok, err = list(opened, opts)
  end
  opened:close()
  if not ok then
    common.warn(failures.plain(err))
  end
  return ok and 0 or 1
end

---@param args string[]
---@return integer status
function M.main(args)
  return common.main(args, M.options, "alerts [ID] [OPTION...]", show)
end

return M
