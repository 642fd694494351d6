--- ets_table_info: one table by its name or printed id. The text never becomes an atom.

local fields = require("domains.node.fields")
local names = require("runtime.names")

local M = {}

local TIMEOUT_MS = 5000

-- Bindings: Name (a binary), Id (a binary; empty unless a reference is meant).
local SOURCE = [==[
Exact = fun(Bytes) ->
  try binary_to_existing_atom(Bytes, utf8) of
    Atom -> case ets:info(Atom, id) of undefined -> none; Tid -> Tid end
  catch error:_ -> none
  end
end,
Printed = fun(Refs) ->
  case lists:keyfind(binary_to_list(Id), 1,
      lists:zip(lists:map(fun erlang:ref_to_list/1, Refs), Refs)) of
    {_, Ref} -> Ref;
    false -> none
  end
end,
Largest = fun(Atom, Refs) ->
  Named = lists:zip(lists:zipwith(fun ets:info/2, Refs, lists:duplicate(length(Refs), name)), Refs),
  case lists:sort([{ets:info(T, memory), T} || {N, T} <- Named, N =:= Atom]) of
    [] -> none;
    Found -> element(2, lists:last([X || {W, _} = X <- [{0, none} | Found], is_integer(W)]))
  end
end,
Unnamed = fun(Bytes) ->
  try binary_to_existing_atom(Bytes, utf8) of
    Atom -> Largest(Atom, [T || T <- ets:all(), is_reference(T)])
  catch error:_ -> none
  end
end,
First = fun
  Loop([]) -> none;
  Loop([Try | Rest]) -> case Try() of none -> Loop(Rest); T -> T end
end,
Table = case byte_size(Id) of
  0 ->
    First([fun() -> Exact(Name) end, fun() -> Exact(Prefixed) end, fun() -> Unnamed(Name) end,
      fun() -> Unnamed(Prefixed) end]);
  _ -> Printed([T || T <- ets:all(), is_reference(T)])
end,
Keys = [name, named_table, id, owner, type, protection, size, memory, compressed, read_concurrency,
  write_concurrency, keypos],
case Table of
  none -> undefined;
  _ ->
    % It may go while it is asked; what was read before keypos, the last, was then still there.
    case [ets:info(Table, K) || K <- Keys] of
      [_, _, _, _, _, _, _, _, _, _, _, undefined] -> undefined;
      [N, IsNamed, T, Owner, Type, Protection, Size, Words, Compressed, Read, Write, Position] ->
        {atom_to_binary(N, utf8),
         case IsNamed of true -> atom_to_binary(N, utf8); _ -> list_to_binary(ref_to_list(T)) end,
         Owner, Type, Protection, Size, Words * erlang:system_info(wordsize), Compressed =:= true,
         Read =:= true, Write =/= false, Position}
    end
end.
]==]

--- What `read` answers, for docs. An answer without a table has `error` and `table_name` alone.
M.RETURNS = {
  { name = "error", type = "string", optional = true, doc = "table_not_found" },
  { name = "table_name", type = "string", optional = true },
  { name = "name", type = "string", optional = true },
  { name = "id", type = "string", optional = true },
  { name = "owner_pid", type = "string", optional = true },
  { name = "type", type = "string", optional = true },
  { name = "protection", type = "string", optional = true },
  { name = "size", type = "integer", unit = "objects", optional = true },
  { name = "memory_kb", type = "integer", unit = "KiB", optional = true },
  { name = "memory_mb", type = "number", unit = "MiB", optional = true },
  { name = "compressed", type = "boolean", optional = true },
  { name = "read_concurrency", type = "boolean", optional = true },
  { name = "write_concurrency", type = "boolean", optional = true },
  { name = "keypos", type = "integer", optional = true },
}

--- Reads one table.
---@async
---@param target domain.Target
---@param table_name string
---@return table?
---@return string? err
---@return string? code
function M.read(target, table_name)
  local is_id = table_name:find("^#Ref<%d+%.%d+%.%d+%.%d+>$") ~= nil
  local found, err, code = target:eval(SOURCE, {
    Name = table_name, Prefixed = "Elixir." .. table_name, Id = is_id and table_name or "",
  }, { timeout_ms = TIMEOUT_MS })
  if found == nil then
    return nil, err, code
  elseif type(found) ~= "table" then
    return { error = "table_not_found", table_name = names.clean(table_name) }
  end
  return {
    name = names.atom(found[1]),
    id = found[2]:find("^#Ref<") and found[2] or names.atom(found[2]),
    owner_pid = tostring(found[3]),
    type = found[4],
    protection = found[5],
    size = found[6],
    memory_kb = math.floor(found[7] / 1024 + 0.5),
    memory_mb = fields.mib(found[7]),
    compressed = found[8],
    read_concurrency = found[9],
    write_concurrency = found[10],
    keypos = found[11],
  }
end

return M
