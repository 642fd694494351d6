-- A recorder and a player over doors of the spec's own. Cases run outside of tasks: the sessions
-- turn the loop themselves.

local journal = require("runtime.session.journal")
local async = require("runtime.async")
local core = require("host.core")
local player = require("runtime.session.player")
local recorder = require("runtime.session.recorder")
local sessions = require("support.sessions")
local uv = require("luv")
local values = require("runtime.session.values")
local world = require("runtime.world")

local path

local function new_recorder()
  path = os.tmpname()
  os.remove(path)
  return recorder.new({ journal = assert(journal.open(path, error)), arguments = { "w.lua" },
    warn = error })
end

-- Ends a recording. Returns its lines as tables.
local function close(r, reason)
  if reason then
    r:finish(reason)
  end
  assert(async.run(r.journal.close, r.journal, 10000))
  local lines = {}
  for line in sessions.read(path):gmatch("[^\n]+") do
    lines[#lines + 1] = assert(values.from_line(line))
  end
  return lines
end

local function play()
  local told = {}
  local p = assert(player.new(path, function(text)
    told[#told + 1] = text
  end))
  return p, told
end

-- Starts what calls back from the loop, once for each of the values.
local function later(...)
  local list = { ... }
  return function(on_event)
    local timer = uv.new_timer()
    timer:start(1, 1, function()
      local value = table.remove(list, 1)
      if #list == 0 then
        timer:close()
      end
      on_event(value)
    end)
    return { close = function() end }
  end
end

local function forbidden()
  error("a replay asks nobody")
end

local function turn_until(session, is_done)
  for _ = 1, 10000 do
    if is_done() then
      return
    end
    session:turn()
  end
  error("nothing came in")
end

describe("a session", function()
  after_each(function()
    os.remove(path)
    uv.run("nowait")
    assert.are.equal(0, core.callback_errors())
  end)

  -- What comes in by three doors: once, several times, and at once; with the clocks at that time.
  local function scenario(session, start_once, start_many, start_sync)
    local seen = {}
    local function note(name)
      return function(...)
        seen[#seen + 1] = { name, session:now_ms(), session:wall_ms(), session:random(4), ... }
      end
    end
    session:open("call", start_once, note("once"), "erlang", "nodes", { 1, 2 })
    session:open("script", start_many, note("many"))
    session:open("call", start_sync, note("sync"), "at once")
    seen[#seen + 1] = { session:open("reply", function()
      return nil, "EBIG: too large", "EBIG"
    end) }
    seen[#seen + 1] = { session:value("hostname", function()
      return "host1"
    end) }
    turn_until(session, function()
      return #seen == 7
    end)
    return seen
  end

  it("is replayed as it was recorded", function()
    local r = new_recorder()
    local recorded = scenario(r, later("answer"), later({ 1 }, { b = "\255" }, "last"),
      function(on_event)
        on_event("now", nil, "EBUSY")
        return {}
      end)
    close(r, "over")
    local p, told = play()
    assert.are.same(recorded, scenario(p, forbidden, forbidden, forbidden))
    p:finish("over")
    assert.are.equal(0, p.status)
    assert.are.same({}, told)
    p:close()
  end)

  it("has clocks that stand still until something comes in", function()
    local r = new_recorder()
    local now, wall = r:now_ms(), r:wall_ms()
    local stop = uv.hrtime() + 3e6
    repeat until uv.hrtime() > stop
    assert.are.equal(now, r:now_ms())
    assert.are.equal(wall, r:wall_ms())
    local came
    r:open("timer", later(true), function()
      came = r:now_ms()
      local again = uv.hrtime() + 3e6
      repeat until uv.hrtime() > again
      assert.are.equal(came, r:now_ms())
    end)
    r:leave(function()
      assert.is_true(r:now_ms() > now)
      assert.is_false(r:is_inside())
      r:open("timer", function() end, error, "of nobody's business")
    end)
    turn_until(r, function()
      return came
    end)
    assert.is_true(came > now + 3)
    local lines = close(r, "over")
    assert.are.equal(3, #lines)
    assert.are.equal(came, lines[2].t)
  end)

  it("lets what comes in during something else have its turn after it", function()
    local r, order, first = new_recorder(), {}, nil
    r:open("call", function(on_event)
      first = on_event
      return {}
    end, function(text)
      order[#order + 1] = text
    end)
    r:open("timer", later(true), function()
      order[#order + 1] = "timer"
      r:leave(function()
        first("call")
      end)
      order[#order + 1] = "timer is over"
    end)
    turn_until(r, function()
      return #order == 3
    end)
    assert.are.same({ "timer", "timer is over", "call" }, order)
    local lines = close(r, "over")
    assert.are.same({ "timer", "call" }, { lines[2].kind, lines[3].kind })
  end)

  it("tells of a task that goes on by something unseen", function()
    local told = {}
    local r = new_recorder()
    r.warn = function(text)
      told[#told + 1] = text
    end
    world.install(r)
    local signal, done = async.signal(), 0
    for i = 1, 2 do
      async.spawn(function()
        signal:wait()
        done = done + 1
      end, { name = "waits" .. i, detached = true })
    end
    async.spawn(function()
      async.sleep(1)
      done = done + 1
    end, { detached = true })
    later(true)(function()
      signal:fire()
    end)
    turn_until(r, function()
      return done == 3
    end)
    world.install(nil)
    close(r, "over")
    assert.are.equal(1, #told)
    assert.matches('may not replay: the task "waits1" went on by something that is not in it',
      told[1])
  end)

  it("keeps secrets out, wherever they come up", function()
    local r = new_recorder()
    local secret = 'se"cret\\key 1'
    r:hide(secret)
    r:hide("short")
    assert.are.equal(os.getenv("PATH"), r:env("PATH"))
    assert.are.equal(nil, r:env("NO_SUCH_API_KEY"))
    assert.are.equal("a_cookie_of_a_node", (r:secret("cookie", function()
      return "a_cookie_of_a_node"
    end)))
    local count = 0
    r:open("call", later({ said = "x " .. secret .. " y" }, "a_cookie_of_a_node"), function()
      count = count + 1
    end)
    turn_until(r, function()
      return count == 2
    end)
    local lines = close(r, "over")
    assert.are.equal(os.getenv("PATH"), lines[1].env.PATH)
    assert.is_false(lines[1].env.NO_SUCH_API_KEY)
    assert.are.same({ "cookie 1", { "$0" }, { "$0" } }, lines[2].v)
    assert.are.same({ { said = "x [secret] y" } }, lines[3].v)
    assert.are.same({ "[secret]" }, lines[4].v)
    assert.is_nil(sessions.read(path):find("cret", 1, true) and sessions.read(path):find("key 1"))
  end)

  it("has the secret of a cookie by its number, so that another one is seen", function()
    local r, cookies = new_recorder(), { "cookie-a", "cookie-a", "cookie-b" }
    for _, cookie in ipairs(cookies) do
      r:secret("cookie", function()
        return cookie
      end)
    end
    r:secret("cookie", function()
      return nil, "ENOCOOKIE: none", "ENOCOOKIE"
    end)
    r:turn()
    close(r, "over")
    local p = play()
    local read = {}
    for i = 1, 3 do
      read[i] = p:secret("cookie", forbidden)
    end
    assert.are.same({ "cookie 1", "cookie 1", "cookie 2" }, read)
    assert.are.same({ nil, "ENOCOOKIE: none", "ENOCOOKIE" }, { p:secret("cookie", forbidden) })
    p:close()
  end)
end)

describe("a replay", function()
  after_each(function()
    os.remove(path)
  end)

  local function recorded(open)
    local r = new_recorder()
    local is_done = open(r)
    turn_until(r, is_done)
    close(r, "over")
    return play()
  end

  local function one_call(session, ...)
    local came = {}
    session:open("call", session.journal and later("x") or forbidden, function(value)
      came[#came + 1] = value
    end, ...)
    return function()
      return #came > 0
    end
  end

  it("says what was recorded, and what the run asks for", function()
    local p, told = recorded(function(r)
      return one_call(r, "erlang", "nodes")
    end)
    one_call(p, "erlang", "processes")
    assert.is_false(p:turn())
    assert.are.equal(1, p.status)
    assert.are.equal(path .. ":2: the run diverges at entry 1: recorded was call (erlang nodes), "
      .. "and the run asks for call (erlang processes)", told[1])
    p:close()
  end)

  it("says when nobody waits for what was recorded, and who waits instead", function()
    local p, told = recorded(function(r)
      return one_call(r, "erlang", "nodes")
    end)
    p:value("hostname", forbidden)
    assert.is_false(p:turn())
    assert.matches("recorded was call %(erlang nodes%), and the run asks for hostname$", told[1])
    p:close()

    p, told = play()
    assert.is_false(p:turn())
    assert.matches("and the run waits for nothing$", told[1])
    p:close()
  end)

  it("says when the run ends before the recording, or goes on after it", function()
    local p, told = recorded(function(r)
      return one_call(r)
    end)
    p:finish("over")
    assert.are.equal(1, p.status)
    assert.matches("recorded was call, and the run ends there$", told[1])
    p:close()

    p, told = play()
    local is_done = one_call(p)
    turn_until(p, is_done)
    one_call(p, "more")
    assert.is_false(p:turn())
    assert.matches("recorded was the end of the run, and the run waits for call %(more%)$", told[1])
    p:close()
  end)

  it("lets a connection go on when one of its calls is cancelled", function()
    local function open(session)
      local came = {}
      local conn = session:open("connect", later("up", "down"), function(what)
        came[#came + 1] = what
      end)
      local call = session:open("call", function()
        return {}
      end, error)
      -- The recorder's are not real: only a replay's can be cancelled.
      if not session.journal then
        conn:cancel(call)
        conn:cancel(nil)
      end
      return function()
        return #came == 2
      end
    end
    local p = recorded(open)
    turn_until(p, open(p))
    p:finish("over")
    assert.are.equal(0, p.status)
    p:close()
  end)
end)
