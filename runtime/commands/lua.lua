--- `beamlens lua FILE [ARG...]`: runs a Lua file in the host's trusted state, with its native
--- modules and its loop. The specs and benchmarks run this way.

local M = {}

---@param args string[]
---@return integer status What the file returned, if a number; else 0.
function M.main(args)
  local path = args[1]
  if not path then
    io.stderr:write("beamlens: usage: beamlens lua FILE [ARG...]\n")
    return 2
  end
  local chunk, err = loadfile(path)
  if not chunk then
    io.stderr:write(("beamlens: %s\n"):format(err))
    return 2
  end
  rawset(_G, "arg", { [0] = path, unpack(args, 2) })
  return tonumber((chunk(unpack(args, 2)))) or 0
end

return M
