local prompt_texts = require("runtime.watcher.prompt_texts")
local support = require("support")
local watched = require("support.watched")

describe("a system prompt", function()
  local rendered

  -- A watcher with a prompt and a domain in common with the others of the case.
  local function another(first, policy)
    local it_is = watched.new({}, policy).watcher
    if first then
      it_is.prompt, it_is.domain = first.prompt, first.domain
    else
      rendered = 0
      local render = it_is.prompt
      it_is.prompt = function(variables)
        rendered = rendered + 1
        return render(variables)
      end
    end
    return it_is
  end

  it("is rendered once for all watchers that are told alike", support.async(function()
    local texts, one = prompt_texts.new(), another()
    local text = texts:get(one)
    assert.are.equal(text, texts:get(another(one)))
    assert.are.equal(1, rendered)

    for _, change in ipairs({ { instructions = "Imports run at night." },
      { wait = { min_ms = 10000, max_ms = 60000 } }, { limits = { calls_per_cycle = 3 } } }) do
      assert.are_not.equal(text.text, texts:get(another(one, change)).text)
    end
    local elsewhere = another(one)
    elsewhere.meta = { watcher = "beam", domain = "beam", node = "other@db1" }
    assert.are.equal(text.text, texts:get(elsewhere).text)
    assert.are.equal(5, rendered)
    elsewhere.domain = setmetatable({ title = "another machine" }, { __index = one.domain })
    assert.matches("another machine", texts:get(elsewhere).text)
  end))

  it("is a watcher's own where its policy redacts", support.async(function()
    local texts, one = prompt_texts.new(), another()
    local text = texts:get(one).text
    local own = another(one, { redact = function(given)
      return (given:gsub("Watch memory", "Watch it"))
    end })
    assert.matches("Watch it", texts:get(own).text)
    assert.are.equal(text, texts:get(another(one)).text)
  end))

  it("is kept no longer than a watcher has it", support.async(function()
    local texts, one = prompt_texts.new(), another()
    local held = setmetatable({ texts:get(one) }, { __mode = "v" })
    collectgarbage()
    collectgarbage()
    assert.is_nil(held[1])
    one.system = texts:get(one)
    held[1] = one.system
    collectgarbage()
    collectgarbage()
    assert.are.equal(one.system, held[1])
    assert.are.equal(2, rendered)
  end))
end)
