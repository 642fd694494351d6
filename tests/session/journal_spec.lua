local bit = require("bit")
local journal = require("runtime.session.journal")
local sessions = require("support.sessions")
local support = require("support")
local uv = require("luv")

local function never(err)
  error(err)
end

describe("a journal", function()
  it("has all lines in order, for its owner's eyes alone", support.async(function()
    local path = sessions.path()
    local j = assert(journal.open(path, never))
    local lines = {}
    for i = 1, 5000 do
      lines[i] = ("%d %s"):format(i, ("x"):rep(i % 300))
      j:write(lines[i])
    end
    j:close(10000)
    assert.are.equal(table.concat(lines, "\n") .. "\n", sessions.read(path))
    assert.are.equal(384, bit.band(uv.fs_stat(path).mode, 511))
  end))

  it("overwrites nothing, and says why it cannot begin", support.async(function()
    local path = support.write_file(sessions.path(), "mine")
    local j, err = journal.open(path, never)
    assert.is_nil(j)
    assert.matches("is there already, and no recording is overwritten", err)
    assert.are.equal("mine", sessions.read(path))
    assert.are.equal("/tmp is a folder", select(2, journal.open("/tmp", never)))
    j, err = journal.open("/proc/no_such_folder/x", never)
    assert.is_nil(j)
    assert.matches("^/proc/no_such_folder/x: no such file", err)
  end))

  it("says once that the disk is full, and takes no more", support.async(function()
    local failures = {}
    local j = assert(journal.open("/dev/full", function(err)
      failures[#failures + 1] = err
    end))
    j:write("a line")
    support.wait_until(function()
      return #failures > 0
    end, 10000, "the failure")
    j:write("another")
    j:close(10000)
    assert.are.same({ "no space left on device" }, failures)
  end))

  it("ends when the disk is too slow, and takes no more memory", support.async(function()
    local path, failures = sessions.path(), {}
    local j = assert(journal.open(path, function(err)
      failures[#failures + 1] = err
    end))
    local line = ("x"):rep(1024 * 1024)
    for _ = 1, 40 do
      j:write(line) -- the loop does not turn: nothing is written meanwhile
    end
    assert.are.equal(1, #failures)
    assert.matches("the disk is too slow: 16.0 MiB", failures[1])
    j:close(10000)
  end))
end)
