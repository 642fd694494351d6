--- What a replay says first: which files are not what they were when the session was recorded.

local core = require("host.core")

local M = {}

local function name_of(path)
  return path:match("[^/]*$")
end

-- The digest of a file when it was recorded: one of its path, else of its name.
local function digest_of(files, path)
  for _, same in ipairs({ function(other)
    return other == path
  end, function(other)
    return name_of(other) == name_of(path)
  end }) do
    for _, file in ipairs(files) do
      if same(file.path) then
        return file.sha256
      end
    end
  end
end

--- Says what is not as it was.
---@param header session.Header
---@param files { path: string, sha256: string }[] Those of the start now.
---@param warn fun(text: string)
function M.tell(header, files, warn)
  if header.version ~= core.version then
    warn(("recorded by beamlens %s, this is %s"):format(header.version, core.version))
  end
  for _, file in ipairs(files) do
    local digest = digest_of(header.files, file.path)
    if not digest then
      warn(("%s was not there when it was recorded"):format(file.path))
    elseif digest ~= file.sha256 then
      warn(("%s is not what it was when it was recorded"):format(file.path))
    end
  end
  for _, file in ipairs(header.files) do
    if not digest_of(files, file.path) then
      warn(("%s was there when it was recorded, and is not used now"):format(file.path))
    end
  end
end

return M
