--- The tables of what watchers know: how their rows are read and written. See
--- runtime/store/schema.lua for the tables themselves.

local alerts_kept = require("runtime.alerts.kept")
local json = require("runtime.json")
local watcher_kept = require("runtime.watcher.kept")

local M = {}

-- Read so many rows at a time: an answer of the store is bounded.
local PAGE = { watchers = 500, alerts = 20, snapshots = 500, nodes = 1000 }

-- Rows that cannot be read are kept, but not without end.
local KEPT_ASIDE = 1000

local SELECT = {
  watchers = "SELECT name, node, domain, body FROM watchers ORDER BY name, node, domain",
  alerts = "SELECT id, told_at, begun_at, told_by, body FROM alerts ORDER BY begun_at, id",
  snapshots = "SELECT name, node, domain, id, captured_at, data FROM snapshots "
    .. "ORDER BY name, node, domain, captured_at, id",
  nodes = "SELECT name, creation FROM nodes ORDER BY name",
}

local function put(table_name, columns)
  local values = {}
  for i in ipairs(columns) do
    values[i] = "value ->> " .. i - 1
  end
  return ("INSERT OR REPLACE INTO %s (%s) SELECT %s FROM json_each($ROWS)"):format(table_name,
    table.concat(columns, ", "), table.concat(values, ", "))
end

local function delete(table_name, keys, negation)
  local values = {}
  for i in ipairs(keys) do
    values[i] = "value ->> " .. i - 1
  end
  return ("DELETE FROM %s WHERE (%s) %sIN (SELECT %s FROM json_each($ROWS))"):format(table_name,
    table.concat(keys, ", "), negation or "", table.concat(values, ", "))
end

local function statements(table_name, columns, key_count)
  local keys = { unpack(columns, 1, key_count) }
  return { put = put(table_name, columns), delete = delete(table_name, keys),
    prune = delete(table_name, keys, "NOT ") }
end

--- SQL by table, for runtime/store/rows.lua.
M.SQL = {
  watchers = statements("watchers", { "name", "node", "domain", "body" }, 3),
  alerts = statements("alerts", { "id", "watcher", "node", "status", "detected_at", "last_seen",
    "resolved_at", "told_at", "begun_at", "told_by", "body" }, 1),
  snapshots = statements("snapshots", { "name", "node", "domain", "id", "captured_at", "data" }, 4),
  nodes = statements("nodes", { "name", "creation" }, 1),
}
M.SQL.set_aside = { put = put("set_aside", { "at_ms", "kind", "key", "error", "content" })
  .. ("; DELETE FROM set_aside WHERE rowid <= (SELECT max(rowid) FROM set_aside) - %d"):format(
    KEPT_ASIDE) }

--- Several texts as one key.
---@param ... string
---@return string
function M.key(...)
  return table.concat({ ... }, "\0")
end

--- The texts of a key.
---@param key string
---@return string[]
function M.parts(key)
  local list = {}
  for part in (key .. "\0"):gmatch("(.-)%z") do
    list[#list + 1] = part
  end
  return list
end

--- The row of an alert.
---@param kept alerts_kept.Kept
---@return any[]
function M.alert_row(kept)
  local alert = kept.alert
  return { alert.id, alert.watcher, alert.node, alert.status, alert.detected_at, alert.last_seen,
    alert.resolved_at or json.null, kept.told_at, kept.begun_at, kept.told_by, json.encode(alert) }
end

-- Decodes a row's JSON. nil and what is wrong with it.
local function decode(text, mistake)
  local value, err = json.decode(tostring(text))
  if err then
    return nil, err
  end
  local wrong = mistake(value)
  if wrong then
    return nil, wrong
  end
  return value
end

local function data_mistake(data)
  return type(data) ~= "table" and "its data are no object" or nil
end

-- Each takes a row; returns what it says, or nil and why it says nothing.
local READ = {}

function READ.watchers(row)
  local state, err = decode(row[4], watcher_kept.mistake)
  return state and { key = M.key(row[1], row[2], row[3]), state = state, body = row[4] }, err
end

function READ.alerts(row)
  local alert, err = decode(row[5], alerts_kept.mistake)
  return alert and { alert = alert, told_at = row[2], begun_at = row[3], told_by = row[4] }, err
end

function READ.snapshots(row)
  local data, err = decode(row[6], data_mistake)
  return data and { owner = M.key(row[1], row[2], row[3]),
    snapshot = { id = row[4], captured_at = row[5], data = data } }, err
end

function READ.nodes(row)
  return { name = row[1], creation = row[2] }
end

local KEYS = { watchers = 3, alerts = 1, snapshots = 4, nodes = 1 }

local function read_table(query, name, found)
  local from = 0
  repeat
    local rows, err, code = query(("%s LIMIT %d OFFSET %d"):format(SELECT[name], PAGE[name], from))
    if not rows then
      return nil, err, code
    end
    for _, row in ipairs(rows) do
      local value, mistake = READ[name](row)
      if value then
        table.insert(found[name], value)
      else
        table.insert(found.spoiled, { kind = name, key = M.key(unpack(row, 1, KEYS[name])),
          error = mistake, content = json.encode(row) })
      end
    end
    from = from + #rows
  until #rows < PAGE[name]
  return true
end

--- Reads all tables.
---@async
---@param query async fun(sql: string, ...): any[][]?, string?, string?
---@return table? found Lists `watchers`, `alerts`, `snapshots`, `nodes`, and `spoiled`: rows that
--- cannot be read.
---@return string? err
---@return string? code
function M.read(query)
  local found = { watchers = {}, alerts = {}, snapshots = {}, nodes = {}, spoiled = {} }
  for _, name in ipairs({ "watchers", "alerts", "snapshots", "nodes" }) do
    local ok, err, code = read_table(query, name, found)
    if not ok then
      return nil, err, code
    end
  end
  return found
end

return M
