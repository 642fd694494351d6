--- What is not as it was when a session was recorded.

local M = {}

local function name_of(path)
  return path:match("[^/]*$")
end

-- The digest of a file: one of its path, else of its name.
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

--- A line for each difference.
---@param header session.Header
---@param version string Of this beamlens.
---@param files { path: string, sha256: string }[] That are used now.
---@return string[]
function M.texts(header, version, files)
  local texts = {}
  local function tell(text, ...)
    texts[#texts + 1] = text:format(...)
  end
  if header.version ~= version then
    tell("recorded by beamlens %s, this is %s", header.version, version)
  end
  for _, file in ipairs(files) do
    local digest = digest_of(header.files, file.path)
    if not digest then
      tell("%s was not there when it was recorded", file.path)
    elseif digest ~= file.sha256 then
      tell("%s is not what it was when it was recorded", file.path)
    end
  end
  for _, file in ipairs(header.files) do
    if not digest_of(files, file.path) then
      tell("%s was there when it was recorded, and is not used now", file.path)
    end
  end
  return texts
end

return M
