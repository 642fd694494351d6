local control = require("support.control")
local place = require("runtime.control.place")
local process = require("host.process")
local support = require("support")
local uv = require("luv")

local function environment(values)
  return function(name)
    return values[name]
  end
end

local function mode(path)
  return bit.band(assert(uv.fs_lstat(path)).mode, 511)
end

describe("the place of a control socket", function()
  it("is the service's folder, the session's, or one of the user's own in /tmp", function()
    local own = ("/tmp/beamlens-%d"):format(process.uid())
    assert.are.same({ "/run/lens", "/run/user/7/beamlens", own }, place.own_folders(environment({
      RUNTIME_DIRECTORY = "/run/lens:/run/other", XDG_RUNTIME_DIR = "/run/user/7" })))
    assert.are.same({ own }, place.own_folders(environment({ XDG_RUNTIME_DIR = "" })))
  end)

  it("is also looked for where the service has it, each once", function()
    local session = ("/run/user/%d"):format(process.uid())
    local folders = place.folders(environment({ XDG_RUNTIME_DIR = session,
      RUNTIME_DIRECTORY = "/run/beamlens" }))
    assert.are.same({ "/run/beamlens", session .. "/beamlens",
      ("/tmp/beamlens-%d"):format(process.uid()) }, folders)
  end)

  it("is where $BEAMLENS_RUNTIME_DIR says, and nowhere else", function()
    local env = environment({ BEAMLENS_RUNTIME_DIR = "/lens", XDG_RUNTIME_DIR = "/run/user/7" })
    assert.are.same({ "/lens" }, place.own_folders(env))
    assert.are.same({ "/lens" }, place.folders(env))
  end)

  it("is made for the owner alone; one that is there is left as it is", support.async(function()
    local folder = control.folder() .. "/sockets"
    assert.is_true(place.prepare(folder))
    assert.are.equal(448, mode(folder))
    assert(uv.fs_chmod(folder, 493))
    assert.is_true(place.prepare(folder))
    assert.are.equal(493, mode(folder))
  end))

  it("is none that others may write into", support.async(function()
    local folder = control.folder()
    for _, others in ipairs({ 511, 509, 451, 464 }) do -- 0777, 0775, 0703, 0720
      assert(uv.fs_chmod(folder, others))
      local ok, _, code = place.prepare(folder)
      assert.is_nil(ok)
      assert.are.equal("EPERM", code)
      assert.are.equal(others, mode(folder))
    end
  end))

  it("is another user's never", support.async(function()
    if process.uid() == 0 then
      local folder = control.folder()
      assert(uv.fs_chown(folder, 65534, 65534))
      assert.matches("belongs to another user", (select(2, place.prepare(folder))))
    else
      assert.matches("belongs to another user", (select(2, place.prepare("/"))))
    end
  end))

  it("is no file, no link and nothing that cannot be made", support.async(function()
    local folder = control.folder()
    support.write_file(folder .. "/file", "")
    assert(uv.fs_symlink("/tmp", folder .. "/link"))
    for name, expected in pairs({ file = "EPERM", link = "EPERM", ["file/x"] = "ENOTDIR",
      ["none/x"] = "ENOENT" }) do
      local ok, err, code = place.prepare(folder .. "/" .. name)
      assert.is_nil(ok)
      assert.are.equal(expected, code, err)
    end
  end))

  it("has room for a path of 107 bytes", function()
    assert.are.equal("/x/1.sock", place.path("/x", 1))
    assert.are.equal(107, #place.path("/" .. ("x"):rep(99), 1))
    assert.is_nil(place.path("/" .. ("x"):rep(100), 1))
  end)

  it("lists what is named as a socket, by pid", support.async(function()
    local folder = control.folder()
    for _, name in ipairs({ "20.sock", "3.sock", "x.sock", "3.sock.old", "notes" }) do
      support.write_file(folder .. "/" .. name, "")
    end
    assert.are.same({ { path = folder .. "/3.sock", pid = 3 },
      { path = folder .. "/20.sock", pid = 20 } }, place.sockets(folder))
    assert.are.same({}, place.sockets(folder .. "/none"))
  end))

  it("knows a process that lives from one that does not", function()
    assert.is_false(place.is_dead(uv.os_getpid()))
    assert.is_true(place.is_dead(2 ^ 22 + 1)) -- above the most that Linux gives
  end)
end)
