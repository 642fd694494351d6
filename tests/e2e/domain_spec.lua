-- A domain of one's own: a file in a `domains` folder beside the watcher's is all it takes.

local beamlens = require("support.beamlens")
local node = require("support.node")
local support = require("support")
local uv = require("luv")

local DOMAIN = [[
local beamlens = require("beamlens")

return {
  name = "shop",
  title = "Shop",
  description = "The shop's database.",
  instructions = "Few orders are no fault.",
  metrics = { { name = "orders", type = "integer" } },
  snapshot = function()
    beamlens.sleep(1)
    local orders, err = beamlens.work("shop_db", "count", { "orders" })
    beamlens.log(("orders=%s err=%s http=%s"):format(tostring(orders), tostring(err),
      type(beamlens.http.request)))
    return orders and { orders = orders }, err
  end,
  callbacks = {},
}
]]

local HELPER = [[
local ffi = require("ffi")
ffi.cdef("unsigned int sleep(unsigned int seconds);")
local calls = 0
return {
  count = function(what)
    calls = calls + 1
    if calls == 2 then
      local folder = debug.getinfo(1, "S").source:match("^@(.*)/")
      assert(io.open(folder .. "/blocks", "w")):close()
      ffi.C.sleep(600)
    end
    return what .. calls
  end,
}
]]

-- Makes the folder of a user, and removes it when the case ends.
local function write_folder(files)
  local root = assert(uv.fs_mkdtemp(support.tmp_path("domain-XXXXXX")))
  support.on_cleanup(function()
    os.execute(("rm -rf '%s'"):format(root))
  end)
  for path, text in pairs(files) do
    uv.fs_mkdir(root .. "/" .. path:match("^[^/]*"), 448)
    support.write_file(root .. "/" .. path, text)
  end
  return root
end

describe("a custom domain", function()
  it("is found beside the watcher, uses beamlens.work, and does not hold up the end",
    support.async(function()
      local n = node.start({ name = "domain1" })
      local root = write_folder({
        ["watchers/shop.lua"] = 'return { name = "shop", domain = "shop", sample = "1s" }',
        ["domains/shop.lua"] = DOMAIN,
        ["domains/shop_db.lua"] = HELPER,
      })
      local b = beamlens.start({ "run", "watchers/shop.lua", "--node", n.name, "--log", "json" },
        { cwd = root, env = { "ERL_EPMD_PORT=" .. n.epmd_port, "BEAMLENS_COOKIE=" .. n.cookie } })
      local log
      support.wait_until(function()
        log = b:stderr() .. b:stdout()
        return log:find("orders=", 1, true) and uv.fs_stat(root .. "/domains/blocks")
      end, 10000, "the second call that blocks")
      assert.matches("orders=orders1 err=nil http=function", log)
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
    end, 40))
end)
