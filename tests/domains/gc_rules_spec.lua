local lives = require("support.lives")

local RULE = lives.rule(dofile("domains/gc.lua").rules, "large_heap")

-- A node of 8 GiB with one process whose heap is heap_mb(t).
local function run(seconds, heap_mb, data)
  return lives.live(RULE, {
    seconds = seconds,
    data = function(t)
      local made = { memory_rss_mb = 500 + heap_mb(t), memory_limit_mb = 8192,
        memory_code_mb = 20 }
      for key, value in pairs(data or {}) do
        made[key] = value
      end
      return made
    end,
    pass = function(t)
      local kb = math.floor(heap_mb(t) * 1024)
      return { processes = {
        rows = { ["<0.512.0>"] = { pid = "<0.512.0>", name = "importer", subject = "importer",
          total_heap_kb = kb, memory_kb = kb, message_queue = 3 } },
        top = { heap = { "<0.512.0>" } }, total = 100, skipped = 0,
        tracked = { "memory_kb", "total_heap_kb" },
      } }
    end,
  }, { "processes" })
end

describe("large_heap", function()
  it("finds a heap that is a fifth of the limit and grew by half", function()
    local found = run(3600, function(t) return 600 + t * 0.5 end)
    assert.equal(0, #found[1700])
    local finding = found[3000][1]
    assert.equal("importer", finding.subject)
    assert.equal("<0.512.0>", finding.pid)
    assert.equal("warning", finding.severity)
    assert.is_true(math.abs(finding.per_s - 512) < 5, finding.per_s)
    assert.matches("^importer <0.512.0>: heap 2.1 GiB, 26 %% of the memory limit, 1.2 GiB 30 m "
      .. "before; memory limit in about 3 h$", finding.summary)
  end)

  it("lets a batch that ends, a table of routes and a small heap be", function()
    local function count(heap_mb)
      local n = 0
      for _, list in pairs(run(5400, heap_mb)) do
        n = n + #list
      end
      return n
    end
    assert.equal(0, count(function(t) return (t >= 1200 and t < 2400) and 3000 or 50 end))
    assert.equal(0, count(function() return 4000 end))
    assert.equal(0, count(function(t) return 100 + t * 0.1 end))
    -- Collections let a heap swing.
    assert.equal(0, count(function(t) return t % 200 < 100 and 1700 or 2700 end))
  end)

  it("ends when the heap has been the same for half an hour, or is small", function()
    local found = run(6000, function(t) return 600 + math.min(t, 3000) * 0.5 end)
    assert.equal(1, #found[3000])
    assert.equal(0, #found[5000])
    found = run(3600, function(t) return t < 3000 and 600 + t * 0.5 or 100 end)
    assert.equal(0, #found[3100])
  end)

  it("says nothing where the limit is not known, or the node has just started", function()
    for _, data in ipairs({ { memory_limit_mb = false }, { uptime_s = 600 } }) do
      for _, list in pairs(run(3600, function(t) return 600 + t * 0.5 end, data)) do
        assert.equal(0, #list)
      end
    end
  end)
end)
