--- What is wrong with a store, in words for people, and what to do about it.

local M = {}

local CURE = {
  ENOSPC = "make room", EBUSY = "end the program that holds it", EISDIR = "it is a folder",
  ENEWER = "run the newer beamlens, or give this one another --store",
  EFOREIGN = "give another --store",
  EACCES = "change who may write there",
  EROFS = "make its disk writable, or give another --store",
  EBROKEN = "run sets it aside and begins a new one",
}

--- An error without its code.
---@param err any
---@return string
function M.plain(err)
  return (tostring(err):gsub("^E%u+: ", ""))
end

--- An error and its cure: `database or disk is full (make room)`.
---@param err any
---@param code? string
---@return string
function M.text(err, code)
  local cure = CURE[code]
  return M.plain(err) .. (cure and (" (%s)"):format(cure) or "")
end

return M
