-- The jail tried from inside, with a worker made for it (tests/support/probe.c): system calls that
-- a broken interpreter could make, and bytes that it could send.

local jail = require("support.jail")
local json = require("runtime.json")
local support = require("support")
local uv = require("luv")

-- Names of probe.c.
local ENDING = {
  "open", "creat", "openat", "openat2", "stat", "unlink", "memfd_create", "socket", "socketpair",
  "connect", "sendto", "recvfrom", "sendmsg", "recvmsg", "execve", "execveat", "fork", "vfork",
  "clone", "clone3", "kill", "tgkill", "pidfd_open", "ptrace", "process_vm_readv",
  "process_vm_writev", "mprotect", "pkey_mprotect", "mmap_executable", "mmap_file", "mmap_fixed",
  "remap_file_pages", "userfaultfd", "read_stdin", "write_stdout", "write_stderr", "read_other",
  "write_other", "writev", "pread", "dup", "dup2", "fcntl", "ioctl", "close", "prctl", "seccomp",
  "arch_prctl", "io_uring_setup", "io_setup", "bpf", "perf_event_open", "keyctl", "rt_sigaction",
  "rt_sigprocmask", "timer_delete", "timer_settime", "setitimer", "prlimit64", "setrlimit",
  "unshare", "setns", "mount", "chroot", "setuid", "capset", "personality", "modify_ldt", "getpid",
  "uname", "sysinfo", "nanosleep", "poll", "shmget", "no_such_call", "x32_getpid", "x32_write",
  "int80",
}
local HARMLESS = { "mmap_private", "brk", "munmap", "futex", "clock_gettime", "gettimeofday" }

-- Runs scripts, given as code, one after another in a host whose worker is the probe: it takes the
-- file beside itself when there is no memory to run one from. Returns their outcomes.
local function run_probes(codes)
  local host = uv.exepath():match("^(.*/)") .. "probe/beamlens"
  local list = support.write_file(support.tmp_path("probes.json"), json.encode(codes))
  local script = support.write_file(support.tmp_path("probes.lua"), ([[
    local async = require("runtime.async")
    local json = require("runtime.json")
    local box = require("runtime.sandbox").new()
    async.run(function()
      for _, code in ipairs(assert(json.decode(assert(io.open(%q)):read("*a")))) do
        local outcome = box:exec({ code = code, functions = { "f" }, on_call = function(_, args)
          return true, args[1]
        end, limits = { callbacks = 3, cpu_ms = 1000, wall_ms = 240000, result_bytes = 1000 } })
        local after = box:exec({ code = "return 1 + 1" })
        print(json.encode({ ok = outcome.ok, kind = outcome.kind, value = outcome.value,
          message = outcome.message, after = after.value, starts = box:stats().starts }))
      end
      box:close()
    end)
    async.run_dry()
  ]]):format(list))
  local text = jail.read_command(("%s lua %s"):format(jail.refusing("memory", host), script))
  os.remove(list)
  os.remove(script)
  local outcomes = {}
  for line in text:gmatch("[^\n]+") do
    outcomes[#outcomes + 1] = assert(json.decode(line))
  end
  assert.are.equal(#codes, #outcomes)
  for i, outcome in ipairs(outcomes) do
    assert.are.same({ 2, 1 }, { outcome.after, outcome.starts }, "after " .. codes[i]:sub(1, 100))
  end
  return outcomes
end

local function probe_codes(names)
  local codes = {}
  for i, name in ipairs(names) do
    codes[i] = ("return { probe(%q) }"):format(name)
  end
  return codes
end

local function frame(kind, text, length)
  length = length or #text
  local bytes = string.char(length % 256, math.floor(length / 256) % 256,
    math.floor(length / 65536) % 256, math.floor(length / 16777216) % 256) .. kind .. text
  return ("raw(%q)"):format(bytes):gsub("[%z\1-\31\127-\255]", function(c)
    return ("\\%03d"):format(c:byte())
  end) .. " "
end

describe("the jail", function()
  it("ends a process at each system call that a script does not need", support.async(function()
    for i, outcome in ipairs(run_probes(probe_codes(ENDING))) do
      assert.are.same({ false, "denied" }, { outcome.ok, outcome.kind }, ENDING[i])
      assert.matches("forbidden system call", outcome.message, 1, true)
    end
  end, 60))

  it("lets a script have memory and the time", support.async(function()
    for i, outcome in ipairs(run_probes(probe_codes(HARMLESS))) do
      assert.is_true(outcome.ok, HARMLESS[i])
      assert.are.equal(0, outcome.value[2], HARMLESS[i])
    end
  end))

  it("ends a process that breaks the protocol, whatever it sends", support.async(function()
    local call = '{"id":1,"fn":"f","args":[1]}'
    local done = '{"ok":true,"value":1,"output":"","stats":{}}'
    local codes = {
      frame("?", "{}"),
      frame("X", "{}"),
      frame("R", '{"id":1,"ok":true,"values":[1]}'),
      frame("C", call, 0),
      frame("C", call, 0xffffffff),
      frame("C", call, 300 * 1024),
      frame("D", done, 0x7fffffff),
      frame("D", done, 2 * 1024 ^ 2),
      frame("C", "[]"),
      frame("C", "{}"),
      frame("C", "nonsense"),
      frame("C", '{"id":1,"fn":"f","args":[1]'),
      frame("C", '{"id":2,"fn":"f","args":[]}'),
      frame("C", '{"id":0,"fn":"f","args":[]}'),
      frame("C", '{"id":1.5,"fn":"f","args":[]}'),
      frame("C", '{"id":"1","fn":"f","args":[]}'),
      frame("C", '{"id":1,"fn":"g","args":[]}'),
      frame("C", '{"id":1,"fn":"","args":[]}'),
      frame("C", '{"id":1,"fn":"f\\u0000f","args":[]}'),
      frame("C", ('{"id":1,"fn":"%s","args":[]}'):format(("f"):rep(1000))),
      frame("C", '{"id":1,"fn":["f"],"args":[]}'),
      frame("C", '{"id":1,"fn":"f","args":"x"}'),
      frame("C", '{"id":1,"fn":"f","args":' .. ("["):rep(100) .. ("]"):rep(100) .. "}"),
      frame("C", '{"id":1,"fn":"\255","args":[]}'),
      frame("N", "{}") .. frame("N", "{}"),
      frame("N", "{ }"),
      frame("D", "[1]"),
      frame("D", "{}"),
      frame("D", '{"ok":false,"value":1}'),
      frame("D", '{"ok":"true","value":1}'),
      frame("D", '{"ok":true,"error":{"kind":"x"}}'),
      frame("E", '{"ok":true,"error":{}}'),
      frame("E", '{"ok":false}'),
      frame("E", '{"ok":false,"error":"x"}'),
      frame("E", "\0\0\0\0"),
      "while true do raw(('x'):rep(1000)) end",
      "for i = 1, 5 do raw(string.char(28, 0, 0, 0) .. 'C{\"id\":' .. i .. "
        .. "',\"fn\":\"f\",\"args\":[1]}') end",
    }
    for i, outcome in ipairs(run_probes(codes)) do
      assert.are.same({ false, "crash" }, { outcome.ok, outcome.kind }, codes[i]:sub(1, 100))
      assert.matches("broke the protocol", outcome.message, 1, true)
    end
  end, 60))

  it("believes a well-made report, but neither its types nor that it is the end",
    support.async(function()
      local outcomes = run_probes({
        frame("D", '{"ok":true,"value":5,"output":{},"stats":[1],"lossy":"x","hint":1}')
          .. "while true do raw('more') end",
        frame("E", '{"ok":false,"error":{"kind":"owned","message":{},"line":"x"},"output":1}'),
        frame("E", '{"ok":false,"error":{"kind":"runtime","message":"0x7fffdeadbeef","line":-1}}'),
      })
      assert.are.same({ true, 5 }, { outcomes[1].ok, outcomes[1].value })
      assert.are.same({ "crash", "the script failed" },
        { outcomes[2].kind, outcomes[2].message })
      assert.are.same({ "runtime", "0x1" }, { outcomes[3].kind, outcomes[3].message })
    end))
end)
