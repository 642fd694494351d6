--- The tables of the store, by version. A file of an older version is brought up to date, one of a
--- newer version or of another program is left as it is.

local M = {}

-- What leads from each version to the next; a new file begins before the first.
local STEPS = {
  [[
CREATE TABLE IF NOT EXISTS spending (
  account TEXT NOT NULL, budget TEXT NOT NULL, start_ms INTEGER NOT NULL, used REAL NOT NULL,
  is_told INTEGER NOT NULL, PRIMARY KEY (account, budget)) WITHOUT ROWID;
]],
  -- What watchers know: `body` and `data` are JSON, times Unix milliseconds.
  [[
CREATE TABLE watchers (
  name TEXT NOT NULL, node TEXT NOT NULL, domain TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (name, node, domain)) WITHOUT ROWID;
CREATE TABLE alerts (
  id TEXT NOT NULL PRIMARY KEY, watcher TEXT NOT NULL, node TEXT NOT NULL, status TEXT NOT NULL,
  detected_at INTEGER NOT NULL, last_seen INTEGER NOT NULL, resolved_at INTEGER,
  told_at INTEGER NOT NULL, begun_at INTEGER NOT NULL, told_by TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE snapshots (
  name TEXT NOT NULL, node TEXT NOT NULL, domain TEXT NOT NULL, id TEXT NOT NULL,
  captured_at INTEGER NOT NULL, data TEXT NOT NULL,
  PRIMARY KEY (name, node, domain, id)) WITHOUT ROWID;
CREATE TABLE nodes (name TEXT NOT NULL PRIMARY KEY, creation INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE set_aside (
  at_ms INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, error TEXT NOT NULL,
  content TEXT NOT NULL);
]],
}

-- A file without a version has at most the tables of the first one.
local FOREIGN = [[
SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
  AND name <> 'spending' LIMIT 1]]

local MAX_CHECKED_BYTES = 64 * 1024 * 1024

--- The version of a file that was just made.
M.VERSION = #STEPS

-- Changes nothing. Returns the version.
local function check(store)
  local rows, err, code = store:query("PRAGMA user_version")
  if not rows then
    return nil, err, code
  end
  local version = rows[1][1]
  if version > M.VERSION then
    return nil, ("ENEWER: it has schema %d and was written by a newer beamlens; this one knows "
      .. "schema %d"):format(version, M.VERSION), "ENEWER"
  end
  local foreign
  foreign, err, code = store:query(FOREIGN)
  if not foreign then
    return nil, err, code
  elseif version == 0 and foreign[1] then
    return nil, ("EFOREIGN: it belongs to another program: it has a table %s"):format(
      foreign[1][1]), "EFOREIGN"
  end
  return version
end

-- Goes through the whole file, unless that would take long.
local function check_pages(store)
  local rows, err, code = store:query("SELECT page_count * page_size "
    .. "FROM pragma_page_count(), pragma_page_size()")
  if rows and rows[1][1] <= MAX_CHECKED_BYTES then
    rows, err, code = store:query("PRAGMA quick_check(1)")
    if rows and rows[1][1] ~= "ok" then
      return nil, "EBROKEN: " .. rows[1][1]:gsub("%s+", " "), "EBROKEN"
    end
  end
  return rows, err, code
end

--- Checks a store without changing it.
---@async
---@param store store.Store
---@return integer? version
---@return string? err
---@return string? code EBROKEN; ENEWER: of a newer schema; EFOREIGN: of another program; or as of
--- `store:query`.
function M.check(store)
  local version, err, code = check(store)
  if not version then
    return nil, err, code
  end
  local ok
  ok, err, code = check_pages(store)
  if not ok then
    return nil, err, code
  end
  return version
end

local function steps_from(version)
  local sql = { "BEGIN IMMEDIATE;" }
  for i = version + 1, M.VERSION do
    sql[#sql + 1] = STEPS[i]
  end
  sql[#sql + 1] = ("PRAGMA user_version = %d; COMMIT"):format(M.VERSION)
  return table.concat(sql, "\n")
end

--- Checks a store and makes it ready to be written: in one transaction it gets the tables that it
--- does not have. To be called once for each opening of the file.
---@async
---@param store store.Store
---@return true? ok
---@return string? err
---@return string? code As of `check`.
function M.prepare(store)
  local version, err, code = M.check(store)
  if not version then
    return nil, err, code
  end
  local rows
  rows, err, code = store:query("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
  if rows and version < M.VERSION then
    rows, err, code = store:query(steps_from(version))
  end
  if not rows then
    return nil, err, code
  end
  return true
end

return M
