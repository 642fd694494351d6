--- Loading what watchers share, by kind: `(found, trace, loader) -> value | nil, err, worker`.
--- `found` is what the loader found, `trace` is told of all that the file depends on.

local beamlens = require("runtime.beamlens")
local domain = require("runtime.domain")
local domain_lines = require("runtime.domain.lines")
local loader = require("runtime.loader")
local prompts = require("runtime.prompts")

local M = {}

--- A domain, with the worker of its thread.
---@return domain.Domain?
---@return string? err
---@return work.Worker? worker
function M.domains(found, own)
  local globals, worker = beamlens.for_domain(found, own)
  local value, err = loader.run(found.source, found.chunk_name, globals, found.path and own)
  local loaded, mistakes
  if not err then
    loaded, err, mistakes = domain.new(value, { file = found.chunk_name })
  end
  if loaded then
    loaded.path = found.path
    return loaded, nil, worker
  end
  worker:close()
  if mistakes then
    err = err:gsub("^[^:]*", function(file)
      return ("%s:%d"):format(file, domain_lines.of(found.source, mistakes[1]))
    end, 1)
  end
  return nil, err
end

-- Finds the prompts that one includes: in its own folder, and where all prompts are looked up.
local function include_from(found, own, files)
  return function(name)
    local other, err = files:find("prompts", name, found.path, own)
    if not other then
      return nil, err
    end
    local value
    value, err = loader.run(other.source, other.chunk_name, nil, other.path and own)
    if err then
      return nil, err
    end
    return { value = value, source = other.source, file = other.chunk_name }
  end
end

--- A prompt, as the function that renders it.
---@param found { source: string, chunk_name: string, path?: string }
---@param own trace.Trace
---@param files loader.Loader
---@return (fun(variables: table): string?, string?)?
---@return string? err
function M.prompts(found, own, files)
  local value, err = loader.run(found.source, found.chunk_name, nil, found.path and own)
  if err then
    return nil, err
  end
  local prompt
  prompt, err = prompts.new(value, { file = found.chunk_name, source = found.source,
    include = include_from(found, own, files) })
  return prompt and function(variables)
    return prompt:render(variables)
  end, err
end

return M
