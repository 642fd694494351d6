local cookie = require("runtime.cookie")
local support = require("support")
local uv = require("luv")

local SECRET = "s3cret-cookie"

local function env(values)
  return function(name)
    return values[name]
  end
end

-- A home folder whose cookie file has this text and mode.
local function home_with(text, mode)
  local home = support.tmp_path("home")
  uv.fs_mkdir(home, 448)
  local path = home .. "/.erlang.cookie"
  os.remove(path)
  if text then
    support.write_file(path, text)
    assert(uv.fs_chmod(path, mode))
  end
  return home, path
end

local function file_with(text, mode)
  local path = support.write_file(support.tmp_path("cookie"), text)
  assert(uv.fs_chmod(path, mode or 384))
  return path
end

local function find(opts)
  opts.env = opts.env or env({})
  return cookie.find(opts)()
end

local function assert_refused(code, pattern, ...)
  local value, err, actual = ...
  assert.is_nil(value)
  assert.are.equal(code, actual)
  assert.matches("^" .. code .. ": ", err)
  assert.matches(pattern, err)
  assert.is_nil(err:find(SECRET, 1, true), "the error text has the cookie")
end

describe("the cookie", function()
  it("comes from the file, then the environment, then the home folder", function()
    local home = home_with("from-home\n", 256)
    local path = file_with("from-file\n")
    local set = env({ BEAMLENS_COOKIE = "from-env" })
    assert.are.equal("from-file", find({ file = path, env = set, home = home }))
    assert.are.equal("from-env", find({ env = set, home = home }))
    assert.are.equal("from-home", find({ home = home }))
    assert.are.equal("from-home", find({ env = env({ HOME = home }) }))
  end)

  it("is read anew at each call", function()
    local path = file_with("one")
    local get = cookie.find({ file = path })
    assert.are.equal("one", get())
    support.write_file(path, "two")
    assert.are.equal("two", get())
  end)

  it("may have spaces within, and loses newlines and spaces around", function()
    assert.are.equal("a b", find({ file = file_with("\n a b \r\n\n") }))
  end)

  it("is missing with a word on where to put it", function()
    local home = home_with(nil)
    assert_refused("ENOCOOKIE", "%-%-cookie%-file.*BEAMLENS_COOKIE.*%.erlang%.cookie",
      find({ home = home }))
    assert_refused("ENOCOOKIE", "BEAMLENS_COOKIE", find({}))
  end)

  it("is not looked for elsewhere when the given file is absent", function()
    assert_refused("ENOENT", "/nowhere/cookie", find({
      file = "/nowhere/cookie",
      env = env({ BEAMLENS_COOKIE = SECRET }),
    }))
  end)

  it("is refused when empty, too long, of two lines or of other characters", function()
    assert_refused("EBADCOOKIE", "is empty", find({ file = file_with("\n") }))
    assert_refused("EBADCOOKIE", "BEAMLENS_COOKIE is empty",
      find({ env = env({ BEAMLENS_COOKIE = "" }) }))
    assert_refused("EBADCOOKIE", "has 256 characters; a cookie has at most 255",
      find({ file = file_with(("x"):rep(256)) }))
    assert.are.equal(255, #find({ file = file_with(("x"):rep(255)) }))
    assert_refused("EBADCOOKIE", "more than one line", find({ file = file_with(SECRET .. "\nx") }))
    assert_refused("EBADCOOKIE", "not printable ASCII",
      find({ file = file_with(SECRET .. "\195\164") }))
    assert_refused("EBADCOOKIE", "not a regular file", find({ file = "tests" }))
  end)

  it("is refused when the file is open to others, with the command that helps", function()
    local home, path = home_with(SECRET, 288) -- 440
    assert_refused("EPERMISSIONS", "others than its owner %(mode 440%): chmod 400 " ..
      path:gsub("%p", "%%%0"), find({ home = home }))
    assert_refused("EPERMISSIONS", "everybody %(mode 644%): chmod o=",
      find({ file = file_with(SECRET, 420) }))
    assert.are.equal(SECRET, find({ file = file_with(SECRET, 288) }))
  end)

  it("has no other options", function()
    assert.has_error(function()
      cookie.find({ path = "x" })
    end, 'unknown option "path"')
  end)
end)
