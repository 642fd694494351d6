-- docs/recording.md names each kind of what comes in.

local core = require("host.core")
local sessions = require("support.sessions")

local DOORS = { "world%.open", "world%.value", "world%.secret", "async%.outside", "session:open",
  "self:note_now" }

describe("docs/recording.md", function()
  it("lists every kind that a recording can have", function()
    local page, kinds = sessions.read("docs/recording.md"), {}
    for _, path in ipairs(core.embedded_paths()) do
      local source = core.embedded(path)
      for _, door in ipairs(DOORS) do
        for kind in source:gmatch(door .. '%("([%w_]+)"') do
          kinds[kind] = path
        end
      end
    end
    kinds[require("runtime.clients.questions").KIND] = "runtime/clients/questions.lua"
    -- Only that they could not be had is ever noted.
    kinds.lock, kinds.store, kinds.sandbox = nil, nil, nil
    local count = 0
    for kind, path in pairs(kinds) do
      count = count + 1
      assert.is_truthy(page:find("`" .. kind .. "`", 1, true), kind .. " of " .. path)
    end
    assert.is_true(count > 12)
  end)
end)
