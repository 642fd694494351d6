local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local clients = require("runtime.clients")
local clock = require("runtime.clock")
local events = require("runtime.events")
local prices = require("runtime.clients.prices")
local support = require("support")
local telemetry = require("runtime.telemetry")

local WAIT = { tool = "wait", input = { ms = 10000 } }
local OVERLOADED = { status = 529, error = "overloaded_error", message = "Overloaded" }
local BROKEN = { status = 500, error = "api_error", message = "oops" }
local DENIED = { status = 401, error = "authentication_error", message = "invalid x-api-key" }

local function env_of(values)
  return function(name)
    return values[name]
  end
end

local KEYED = env_of({ ANTHROPIC_API_KEY = "k-0123456789" })

local function request()
  return {
    system = "s",
    tools = { { name = "wait", description = "d", schema = { type = "object" } } },
    messages = { { role = "user", text = "u" } },
    context = { state = "healthy", findings = {}, wait = { min_ms = 1, max_ms = 60000 } },
    meta = { watcher = "w", domain = "d", node = "n@h", trace_id = "t" },
  }
end

local function anthropic(name, server, more)
  local client = { name = name, provider = "anthropic",
    options = { model = "claude-haiku-4-5", base_url = server.url } }
  for key, value in pairs(more or {}) do
    client[key] = value
  end
  return client
end

-- Runs `body` with as many servers as there are lists of replies.
local function with_servers(reply_lists, body)
  return support.async(function()
    local servers = {}
    for i, replies in ipairs(reply_lists) do
      servers[i] = anthropic_server.start(type(replies) == "function"
        and { on_request = replies } or { replies = replies })
    end
    local ok, err = async.pcall(body, unpack(servers))
    for _, server in ipairs(servers) do
      server:stop()
    end
    if not ok then
      error(err, 0)
    end
  end)
end

-- A registry that notes its pauses and does not make them.
local function open(config, more)
  local pauses = {}
  local opts = {
    config = config,
    env = KEYED,
    random = function()
      return 0.5
    end,
    sleep = function(ms)
      pauses[#pauses + 1] = ms
    end,
  }
  for name, value in pairs(more or {}) do
    opts[name] = value
  end
  return assert(clients.new(opts)), pauses
end

local function always(reply)
  return function()
    return reply
  end
end

describe("a registry", function()
  it("is built in: Haiku with a key, the rules without", function()
    local keyed = assert(clients.new({ env = KEYED }))
    assert.are.equal("Haiku", keyed.primary)
    assert.are.same({
      { name = "Haiku", provider = "anthropic", model = "claude-haiku-4-5-20251001", key = "set" },
      { name = "rules", provider = "rules", model = "rules" },
    }, keyed:list())
    assert.is_nil(keyed.notice)
    assert.are.equal("rules", assert(clients.new({ env = env_of({}) })).primary)
    assert.are.equal("rules", assert(clients.new({ env = env_of({ ANTHROPIC_API_KEY = " " }) }))
      .primary)
  end)

  it("always has the client rules and the policy DefaultRetry", function()
    local registry = open({ clients = { { name = "A", provider = "anthropic",
      retry_policy = "DefaultRetry", options = { model = "m" } } } })
    assert.are.same({ "A", "rules" }, registry:names())
    assert.are.equal("A", registry.primary)
  end)

  it("says which keys are missing", function()
    local registry = open({ clients = { { name = "A", provider = "anthropic",
      options = { model = "m" } } } }, { env = env_of({}) })
    assert.are.equal("missing", registry:list()[1].key)
  end)

  it("reads values from the environment", with_servers({ { WAIT } }, function(server)
    local registry = open({ clients = { anthropic("A", server, { options = {
      model = "env.MODEL", api_key = "env.OTHER_KEY", base_url = server.url } }) } },
      { env = env_of({ MODEL = "m7", OTHER_KEY = "other" }) })
    assert(registry:decide(nil, request()))
    assert.are.equal("m7", server.requests[1].body.model)
    assert.are.equal("other", server.requests[1].headers["x-api-key"])
  end))

  it("lists every mistake, with what was meant", function()
    local registry, err = clients.new({ env = env_of({}), config = {
      primry = "x",
      primary = "Mainn",
      clients = {
        { name = "Main", provider = "antropic" },
        { name = "B", provider = "anthropic", retry_policy = "DefaultRery",
          options = { modell = "m", max_tokens = "many", base_url = "here" } },
        { name = "B", provider = "rules" },
        { provider = "rules" },
        { name = "F", provider = "fallback", options = { strategy = { "Main", "HH", "F" } } },
        { name = "G", provider = "round-robin", options = { strategy = {} } },
        { name = "H", provider = "anthropic", options = { model = "env.NOT_SET" } },
      },
      retry_policies = { P = { max_retries = -1, strategy = { type = "linear" } } },
      limits = { usd_per_day = "5" },
    } })
    assert.is_nil(registry)
    assert.are.equal(table.concat({
      'client "B": options.base_url must be like https://host/path',
      'client "B": options.max_tokens must be a whole number, at least 1',
      'client "B": options.model is missing',
      'client "B": options: unknown field "modell"; did you mean "model"?',
      'client "B": there are two clients of this name',
      'client "B": unknown retry policy "DefaultRery"; did you mean "DefaultRetry"?',
      'client "F": options.strategy leads back to the client itself',
      'client "F": options.strategy: unknown client "HH"; did you mean "H"?',
      'client "G": options.strategy must be a list of clients\' names',
      'client "H": options.model: the environment variable NOT_SET is not set',
      'client "Main": unknown provider "antropic"; did you mean "anthropic"?',
      "client 4 needs a name",
      "limits.usd_per_day must be a number of USD",
      'primary: unknown client "Mainn"; did you mean "Main"?',
      'retry policy "P": max_retries must be a whole number from 0 to 20',
      'retry policy "P": unknown type "linear"; allowed: constant_delay, exponential_backoff',
      'unknown field "primry"; did you mean "primary"?',
    }, "\n"), err)
  end)

  it("survives a configuration of any shape", function()
    for _, config in ipairs({ "x", 7, { clients = 7 }, { clients = { 7 } }, { primary = {} },
      { clients = { { name = "A" } } }, { clients = { { name = "A", provider = {} } } },
      { primary = "rules", retry_policies = 7 }, { primary = "rules", retry_policies = { 7 } },
      { primary = "rules", retry_policies = { P = { max_retries = 1, strategy = 7 } } },
      { primary = "rules", limits = 7 }, { primary = "rules", limits = { usd_per_day = 0 / 0 } },
      { clients = { { name = "A", provider = "fallback", options = 7 } } },
      { clients = { { name = "A", provider = "fallback", options = { strategy = { 7 } } } } },
      { clients = { { name = "A", provider = "anthropic", options = { model = 7,
        headers = { "x" }, price = 7, extra = 7, stream = "no" } } } },
    }) do
      local registry, err = clients.new({ config = config, env = env_of({}) })
      assert.is_nil(registry)
      assert.is_true(#err > 0)
    end
  end)

  it("lacks a key whose variable is not set, but for one that may be left out", function()
    local function key_of(variable)
      local options = { model = "m", region = "us-east-1", access_key_id = "AKID01234567",
        secret_access_key = "s-0123456789", session_token = "env.UNSET", [variable] = "env.UNSET" }
      return clients.new({ env = env_of({ AWS_BEARER_TOKEN_BEDROCK = "b-0123456789" }), config = {
        clients = { { name = "A", provider = "aws-bedrock", options = options } } } }):list()[1]
    end
    assert.are.equal("set", key_of("session_token").key)
    assert.are.equal("UNSET", key_of("secret_access_key").key_variable)
    assert.are.equal("UNSET", key_of("api_key").key_variable)
  end)

  it("has a key where its provider needs none but one is given", function()
    local list = clients.new({ env = env_of({ MINE = "k-0123456789" }), config = { primary = "A",
      clients = { { name = "A", provider = "openai-generic", options = { model = "m",
        base_url = "http://h/v1", api_key = "env.MINE" } }, { name = "B", provider = "ollama",
        options = { model = "m" } } } } }):list()
    assert.are.same({ "set" }, { list[1].key, list[2].key })
  end)

  it("shows no key in a mistake", function()
    local _, err = clients.new({ env = env_of({}), config = { clients = { { name = "A",
      provider = "anthropic", options = { model = "m", api_key = { "sesame" },
        headers = { authorization = "sesame\n" } } } } } })
    assert.is_nil(err:find("sesame"))
    assert.is_truthy(err:find("options.headers", 1, true))
  end)
end)

describe("a registry's file", function()
  local function load_text(text)
    local path = support.write_file(support.tmp_path("clients.lua"), text)
    local config, err = clients.load(path, KEYED)
    return config, err and err:gsub(path:gsub("%W", "%%%0"), "F")
  end

  it("is a table for a registry", function()
    local config = assert(load_text([[
return {
  primary = "Main",
  clients = {
    { name = "Haiku", provider = "anthropic", retry_policy = "DefaultRetry",
      options = { model = env("NO_SUCH", "claude-haiku-4-5-20251001") } },
    { name = "Main", provider = "fallback", options = { strategy = { "Haiku", "rules" } } },
  },
  retry_policies = { DefaultRetry = { max_retries = 1 } },
  limits = { usd_per_day = 5.00 },
}]]))
    local registry = assert(clients.new({ config = config, env = KEYED }))
    assert.are.equal("Main", registry.primary)
    assert.are.equal(5, registry.limits.usd_per_day)
    assert.are.equal(1, registry.clients.Haiku.policy.max_retries)
  end)

  it("has its mistakes by line", function()
    local config, err = load_text([[
return {
  primary = "Mainn",
  clients = {
    { name = "Haiku", provider = "anthropic",
      options = { model = "x" } },
    {
      name = "Main",
      provider = "fallbak",
      options = { strategy = { "Haiku" } },
    },
    { name = "Other", provider = "anthropic",
      options = {
        model = "x",
        max_tokens = 0,
      } },
  },
}]])
    assert.is_nil(config)
    assert.are.equal(table.concat({
      'F:2: primary: unknown client "Mainn"; did you mean "Main"?',
      'F:8: client "Main": unknown provider "fallbak"; did you mean "fallback"?',
      'F:14: client "Other": options.max_tokens must be a whole number, at least 1',
    }, "\n"), err)
  end)

  it("has the mistakes of what has no name, or another's, where they stand", function()
    local _, err = load_text([[
local shared = { model = "m", max_tokens = 1.5 }
return {
  primary = "A",
  clients = {
    { name = "A", provider = "anthropic", options = { model = "m" } },
    { provider = "anthropic",
      options = { model = "m" } },
    "B",
    { name = "A", provider = "openai", options = { model = "m" } },
    { options = { model = "",
        temperature = 1 / 0 }, provider = "openai", name = "C" },
    { name = "D" },
    { name = "E", provider = "openai", options = shared },
  },
}]])
    assert.are.equal(table.concat({
      'F:1: client "E": options.max_tokens must be a whole number, at least 1',
      "F:6: client 2 needs a name",
      "F:8: client 3 needs a name",
      'F:9: client "A": there are two clients of this name',
      'F:10: client "C": options.model is empty',
      'F:11: client "C": options.temperature must be a number, at least 0',
      'F:12: client "D": provider is missing',
    }, "\n"), (err:gsub("; allowed: [^\n]*", "")))
  end)

  it("has the mistakes of each retry policy at that policy", function()
    local _, err = load_text([[
return {
  clients = { { name = "A", provider = "anthropic", retry_policy = "Second",
    options = { model = "m" } } },
  retry_policies = {
    First = { max_retries = 3, strategy = { type = "constant_delay", delay_ms = 0 / 1 } },
    ["Second"] = {
      max_retries = 0.5,
      strategy = {
        type = "exponential_backoff",
        delay_ms = 0 / 0,
        multiplier = 0.5,
        jitter = true,
      },
    },
    Third = { max_retries = 1, strategy = false },
    Fourth = 7,
    Fifth = { strategy = { type = "none" } },
  },
}]])
    assert.are.equal(table.concat({
      'F:7: retry policy "Second": max_retries must be a whole number from 0 to 20',
      'F:10: retry policy "Second": delay_ms must be a number, at least 0',
      'F:11: retry policy "Second": multiplier must be a number, at least 1',
      'F:12: retry policy "Second": unknown field "jitter"; allowed: delay_ms, max_delay_ms, '
        .. "multiplier, type",
      'F:15: retry policy "Third": strategy must be a table',
      'F:16: retry policy "Fourth": must be a table',
      'F:17: retry policy "Fifth": max_retries must be a whole number from 0 to 20',
      'F:17: retry policy "Fifth": unknown type "none"; allowed: constant_delay, '
        .. "exponential_backoff",
    }, "\n"), err)
  end)

  it("has its clients in a list, their policies by name, and whole turns", function()
    local _, err = load_text([[
return {
  primary = "R",
  clients = {
    { name = "A", provider = "rules" },
    { name = "R", provider = "round-robin",
      retry_policy = { max_retries = 1 },
      options = { strategy = { "A" },
        start = 0.5 } },
    { name = "S", provider = "fallback", options = { strategy = { "A", next = "R" } } },
    { name = "T", provider = "openai", options = { model = "m",
      ca_file = "build/no-such.pem" } },
    Haiku = { provider = "anthropic" },
  },
}]])
    assert.are.equal(table.concat({
      'F:6: client "R": retry_policy must be the name of one',
      'F:8: client "R": options.start must be a whole number, at least 0',
      'F:9: client "S": options.strategy must be a list of clients\' names',
      'F:11: client "T": options.ca_file cannot be read: build/no-such.pem: '
        .. "No such file or directory",
      'F:12: clients must be a list: give "Haiku" its place in it and the field name',
    }, "\n"), err)
  end)

  it("may be no Lua, fail, or not be there", function()
    local _, syntax = load_text("return {\n  primary = \n}")
    assert.is_truthy(syntax:find("^F:3: "))
    local _, raised = load_text("\nerror('no')")
    assert.is_truthy(raised:find("^F:2: no"))
    local config, missing = clients.load("build/tmp/no-such-file.lua", KEYED)
    assert.is_nil(config)
    assert.is_truthy(missing:find("no-such-file.lua", 1, true))
  end)
end)

describe("retries", function()
  local function policy(name, max)
    return { [name or "P"] = { max_retries = max or 3, strategy = { type = "exponential_backoff",
      delay_ms = 200, multiplier = 2, max_delay_ms = 500 } } }
  end

  it("repeat what can succeed again, with full jitter", with_servers({
    { BROKEN, BROKEN, BROKEN, WAIT },
  }, function(server)
    local registry, pauses = open({
      clients = { anthropic("A", server, { retry_policy = "P" }) },
      retry_policies = policy(),
    })
    local result = assert(registry:decide(nil, request()))
    assert.are.equal("wait", result.tool)
    assert.are.equal(4, result.attempts)
    assert.are.same({ 100, 200, 250 }, pauses)
  end))

  it("leave an overloaded server alone for a second at least", with_servers({
    { OVERLOADED, OVERLOADED, WAIT },
  }, function(server)
    local registry, pauses = open({
      clients = { anthropic("A", server, { retry_policy = "P" }) },
      retry_policies = policy(),
    })
    assert(registry:decide(nil, request()))
    assert.are.same({ 1100, 1200 }, pauses)
  end))

  it("wait as long as the server asks", with_servers({
    { { status = 429, error = "rate_limit_error", headers = { ["retry-after"] = "41" } }, WAIT },
  }, function(server)
    local registry, pauses = open({
      clients = { anthropic("A", server, { retry_policy = "P" }) },
      retry_policies = policy(),
    })
    assert(registry:decide(nil, request()))
    assert.are.same({ 41100 }, pauses)
  end))

  it("give up at once when the server asks for more time than there is", with_servers({
    { { status = 429, error = "rate_limit_error", headers = { ["retry-after"] = "41" } }, WAIT },
  }, function(server)
    local registry, pauses = open({
      clients = { anthropic("A", server, { retry_policy = "P" }) },
      retry_policies = policy(),
    })
    local _, _, kind, detail = registry:decide(nil, request(), { timeout_ms = 30000 })
    assert.are.equal("rate_limit", kind)
    assert.are.equal(41000, detail.retry_after_ms)
    assert.are.same({}, pauses)
    assert.are.equal(1, #server.requests)
  end))

  it("are none for what fails again, without a policy, or past the policy's number", with_servers({
    { DENIED, BROKEN, BROKEN, BROKEN },
  }, function(server)
    local config = {
      primary = "A",
      clients = { anthropic("A", server, { retry_policy = "P" }), anthropic("B", server) },
      retry_policies = policy("P", 1),
    }
    local registry = open(config)
    assert.are.equal("auth", select(3, registry:decide("A", request())))
    assert.are.equal(1, #server.requests)
    assert.are.equal("server", select(3, registry:decide("B", request())))
    assert.are.equal(2, #server.requests)
    local _, _, _, detail = registry:decide("A", request())
    assert.are.equal(2, detail.attempts)
    assert.are.equal(4, #server.requests)
  end))

  it("repeat a stream that was cut", with_servers({
    { { cut = true, tool = "wait", input = { ms = 1 } }, WAIT },
  }, function(server)
    local registry = open({
      clients = { anthropic("A", server, { retry_policy = "DefaultRetry" }) } })
    assert.are.equal(10000, assert(registry:decide(nil, request())).args.ms)
  end))

  it("pause for a constant time when told so", with_servers({
    { BROKEN, BROKEN, WAIT },
  }, function(server)
    local registry, pauses = open({
      clients = { anthropic("A", server, { retry_policy = "P" }) },
      retry_policies = { P = { max_retries = 2, strategy = { type = "constant_delay",
        delay_ms = 70 } } },
    })
    assert(registry:decide(nil, request()))
    assert.are.same({ 70, 70 }, pauses)
  end))

  it("share one deadline with the requests", with_servers({
    always({ hang = true }),
  }, function(server)
    local registry = assert(clients.new({ env = KEYED, config = {
      clients = { anthropic("A", server, { retry_policy = "DefaultRetry" }) } } }))
    local system = clock.system()
    local started = system.now_ms()
    local _, _, kind = registry:decide(nil, request(), { timeout_ms = 200 })
    assert.are.equal("timeout", kind)
    local took = system.now_ms() - started
    -- A request alone may take a minute.
    assert.is_true(took >= 190 and took < 30000, took)
  end))
end)

describe("fallback", function()
  local function fallback_of(...)
    local members, list = { ... }, {}
    local names = {}
    for i, member in ipairs(members) do
      names[i], list[i] = member.name, member
    end
    list[#list + 1] = { name = "F", provider = "fallback", options = { strategy = names } }
    return { primary = "F", clients = list }
  end

  it("asks the next client at once, whatever the first failed with", with_servers({
    { DENIED }, { WAIT },
  }, function(a, b)
    local registry, pauses = open(fallback_of(anthropic("A", a), anthropic("B", b)))
    local result = assert(registry:decide(nil, request()))
    assert.are.equal("B", result.client)
    assert.are.equal(2, result.attempts)
    assert.are.same({}, pauses)
  end))

  it("does not ask another model when the first did answer, but wrongly", with_servers({
    { { text = "Hello." } }, { WAIT },
  }, function(a, b)
    local registry = open(fallback_of(anthropic("A", a), anthropic("B", b)))
    assert.are.equal("no_tool_call", select(3, registry:decide(nil, request())))
    assert.are.equal(0, #b.requests)
  end))

  it("says of each client why it failed", with_servers({
    { DENIED }, { OVERLOADED },
  }, function(a, b)
    local registry = open(fallback_of(anthropic("A", a), anthropic("B", b)))
    local _, err, kind, detail = registry:decide(nil, request())
    assert.are.equal("A: invalid x-api-key; B: Overloaded", err)
    assert.are.equal("overloaded", kind)
    assert.is_true(detail.retryable)
  end))

  it("ends with the rules where they are a member", with_servers({ { DENIED } }, function(a)
    local registry = open({ primary = "F", clients = { anthropic("A", a), { name = "F",
      provider = "fallback", options = { strategy = { "A", "rules" } } } } })
    local result = assert(registry:decide(nil, request()))
    assert.are.equal("rules", result.client)
    assert.are.equal("wait", result.tool)
  end))

  it("lets a member's own retries run first, and its own policy repeat the list", with_servers({
    { BROKEN, BROKEN, BROKEN, WAIT }, { BROKEN },
  }, function(a, b)
    local config = fallback_of(anthropic("A", a, { retry_policy = "Once" }), anthropic("B", b))
    config.clients[3].retry_policy = "Once"
    config.retry_policies = { Once = { max_retries = 1 } }
    local result = assert((open(config)):decide(nil, request()))
    assert.are.equal("A", result.client)
    assert.are.equal(5, result.attempts)
    assert.are.equal(1, #b.requests)
  end))

  it("may hold a strategy, whose members' failures are told with its name", with_servers({
    { BROKEN, BROKEN }, { DENIED, DENIED }, { DENIED },
  }, function(a, b, c)
    local registry = open({ primary = "Outer", clients = {
      anthropic("A", a), anthropic("B", b), anthropic("C", c),
      { name = "Inner", provider = "fallback", options = { strategy = { "A", "Turns" } } },
      { name = "Turns", provider = "round-robin", options = { strategy = { "B" } } },
      { name = "Outer", provider = "fallback", options = { strategy = { "Inner", "C" } } },
    } })
    local _, err, kind, detail = registry:decide(nil, request())
    assert.are.equal("Inner: A: oops; B: invalid x-api-key; C: invalid x-api-key", err)
    assert.are.same({ "auth", true, 3 }, { kind, detail.retryable, detail.attempts })
  end))

  it("gives a model all the time when only the rules come after it", with_servers({
    always({ hang = true }),
  }, function(a)
    local bus, took_ms = telemetry.new(), nil
    assert(bus:attach("spec", "beamlens.llm.exception", function(_, measurements)
      took_ms = measurements.duration
    end))
    local registry = open({ primary = "F", clients = { anthropic("A", a), { name = "F",
      provider = "fallback", options = { strategy = { "A", "rules" } } } } }, { telemetry = bus })
    local result = assert(registry:decide(nil, request(), { timeout_ms = 400 }))
    assert.are.equal("rules", result.client)
    assert.is_true(took_ms > 300, took_ms)
  end))

  it("leaves time for the next one when the first hangs", with_servers({
    always({ hang = true }), { WAIT },
  }, function(a, b)
    local registry = open(fallback_of(anthropic("A", a), anthropic("B", b)))
    assert.are.equal("B", assert(registry:decide(nil, request(), { timeout_ms = 6000 })).client)
  end))
end)

describe("round-robin", function()
  it("takes turns, and moves on with each retry of its own policy", with_servers({
    { WAIT, BROKEN, WAIT }, { WAIT, WAIT },
  }, function(a, b)
    local registry = open({ primary = "R", clients = {
      anthropic("A", a), anthropic("B", b),
      { name = "R", provider = "round-robin", retry_policy = "DefaultRetry",
        options = { strategy = { "A", "B" }, start = 0 } },
    } })
    local order = {}
    for i = 1, 4 do
      order[i] = assert(registry:decide(nil, request())).client
    end
    -- The third call finds A broken and takes B's turn.
    assert.are.same({ "A", "B", "B", "A" }, order)
  end))

  it("asks no member again that refused for good, in turn or in a list", with_servers({
    always(BROKEN), always(DENIED),
  }, function(a, b)
    for count, provider in ipairs({ "round-robin", "fallback" }) do
      local registry = open({ primary = "R", clients = {
        anthropic("A", a), anthropic("B", b),
        { name = "R", provider = provider, retry_policy = "Thrice",
          options = { strategy = { "A", "B" }, start = provider == "round-robin" and 0 or nil } },
      }, retry_policies = { Thrice = { max_retries = 3, strategy = { type = "constant_delay",
        delay_ms = 1 } } } })
      assert.is_nil((registry:decide(nil, request())))
      assert.are.equal(count, #b.requests)
      assert.is_true(#a.requests >= 2 * count)
    end
  end))

  it("has no failover without a policy", with_servers({ { BROKEN }, { WAIT } }, function(a, b)
    local registry = open({ primary = "R", clients = {
      anthropic("A", a), anthropic("B", b),
      { name = "R", provider = "round-robin", options = { strategy = { "A", "B" }, start = 0 } },
    } })
    assert.are.equal("server", select(3, registry:decide(nil, request())))
    assert.are.equal(0, #b.requests)
  end))
end)

describe("deciding", function()
  it("names a client that does not exist", support.async(function()
    local registry = open(nil)
    local result, err, kind = registry:decide("Haikku", request())
    assert.is_nil(result)
    assert.are.equal('unknown client "Haikku"; did you mean "Haiku"?', err)
    assert.are.equal("invalid_request", kind)
  end))

  it("says so when a request is cancelled", with_servers({
    always({ hang = true }),
  }, function(server)
    local bus, seen = telemetry.new(), {}
    assert(bus:attach_many("log", { "beamlens.llm.start", "beamlens.llm.exception" },
      function(event, _, metadata)
        seen[#seen + 1] = event .. " " .. (metadata.kind or "")
      end))
    local registry = open({ clients = { anthropic("A", server) } }, { telemetry = bus })
    local task = async.spawn(function()
      registry:decide(nil, request())
    end)
    support.wait_until(function()
      return server.requests[1]
    end)
    task:cancel()
    assert.are.same({ "beamlens.llm.start ", "beamlens.llm.exception cancelled" }, seen)
  end))

  it("emits start and stop, or exception, with what events.lua lists", with_servers({
    { OVERLOADED, { tool = "wait", input = { ms = 1 }, usage = { input_tokens = 100,
      output_tokens = 10, cache_read_input_tokens = 5, cache_creation_input_tokens = 6 } } },
  }, function(server)
    local log, bus = {}, telemetry.new()
    assert(bus:attach_many("log", { "beamlens.llm.start", "beamlens.llm.stop",
      "beamlens.llm.exception" }, function(event, measurements, metadata)
      log[#log + 1] = { event:match("%a+$"), measurements, metadata }
      for name in pairs(measurements) do
        assert.is_truthy((" " .. table.concat(events[event].measurements, " ") .. " ")
          :find(" " .. name .. " ", 1, true), name)
      end
      for name in pairs(metadata) do
        assert.is_truthy((" " .. table.concat(events[event].metadata, " ") .. " ")
          :find(" " .. name .. " ", 1, true), name)
      end
    end))
    local registry = open({ clients = { anthropic("A", server,
      { retry_policy = "DefaultRetry" }) } }, { telemetry = bus })
    assert(registry:decide(nil, request()))
    assert.are.same({ "start", "exception", "start", "stop" },
      { log[1][1], log[2][1], log[3][1], log[4][1] })
    assert.is_true(log[1][2].system_time > 1.7e12)
    for _, entry in ipairs(log) do
      local metadata = entry[3]
      assert.are.same({ "w", "d", "n@h", "t", "A", "anthropic", "claude-haiku-4-5" },
        { metadata.watcher, metadata.domain, metadata.node, metadata.trace_id, metadata.client,
          metadata.provider, metadata.model })
    end
    local failed, stopped = log[2], log[4]
    assert.is_true(failed[2].duration > 0)
    assert.are.same({ "overloaded", 529, "Overloaded", true },
      { failed[3].kind, failed[3].http_status, failed[3].message, failed[3].retryable })
    assert.are.same({ 100, 10, 5, 6 }, { stopped[2].input_tokens, stopped[2].output_tokens,
      stopped[2].cache_read_tokens, stopped[2].cache_write_tokens })
    assert.is_true(math.abs(stopped[2].cost_usd - 158e-6) < 1e-12)
    assert.are.equal("tool_use", stopped[3].stop)
    assert.are.equal("req_test", stopped[3].request_id)
    assert.is_true(stopped[2].duration % 1 ~= 0)
  end))

  it("stops asking models when the day's money is spent, until the next day", with_servers({
    always({ tool = "wait", input = {}, usage = { input_tokens = 1000000, output_tokens = 0 } }),
  }, function(server)
    local moved = clock.manual(86400000 * 20000)
    local registry = open({
      primary = "A",
      clients = { anthropic("A", server) },
      limits = { usd_per_day = 1.5 },
    }, { clock = moved })
    assert(registry:decide(nil, request()))
    local _, err, kind, detail = registry:decide(nil, request())
    assert.are.equal("budget", kind)
    assert.are.equal("the budget of 1.50 USD a day is spent until 00:00 UTC (process)", err)
    assert.is_false(detail.retryable)
    assert.are.equal(86400000 * 20001, detail.until_ms)
    assert.are.equal(86400000 * 20001, detail.budget_until_ms)
    assert.are.equal(1, #server.requests)
    assert.is_truthy(registry:decide("rules", request()))
    moved.advance(86400000)
    assert.is_truthy(registry:decide(nil, request()))
  end))
end)

describe("a budget that is spent", function()
  local function spent_out(server, more)
    local config = { primary = "F", clients = { anthropic("A", server),
      { name = "F", provider = "fallback", options = { strategy = { "A", more.name } } } },
      limits = { usd_per_day = 0 } }
    config.clients[3] = more.provider and more or nil
    return open(config)
  end

  it("still lets a model be asked that costs nothing", with_servers({
    always(WAIT), always({ body = [[{"model":"m","created_at":"2026-01-01T00:00:00Z",]]
      .. [["message":{"role":"assistant","content":"","tool_calls":[{"function":]]
      .. [[{"name":"wait","arguments":{"ms":10000}}}]},"done":true,"done_reason":"stop",]]
      .. [["prompt_eval_count":5,"eval_count":2}]] .. "\n" }),
  }, function(server, free)
    local registry = spent_out(server, { name = "B", provider = "ollama",
      options = { model = "m", base_url = free.url, stream = false } })
    local result = assert(registry:decide(nil, request()))
    assert.are.equal("B", result.client)
    assert.are.equal(0, result.cost_usd)
    assert.are.equal(0, #server.requests)
  end))

  it("leaves the rules of a fallback to answer, which says until when", with_servers({
    always(WAIT),
  }, function(server)
    local result = assert(spent_out(server, { name = "rules" }):decide(nil, request()))
    assert.are.equal("rules", result.provider)
    assert.are.equal(0, result.budget_until_ms % 86400000)
    assert.are.equal(0, #server.requests)
  end))

  it("does not keep a fallback from a model that failed otherwise", with_servers({
    always(WAIT), always(DENIED),
  }, function(server, other)
    local registry = spent_out(server, { name = "B", provider = "anthropic", options = {
      model = "own", price = { input = 0, output = 0 }, base_url = other.url } })
    local result, _, kind, detail = registry:decide(nil, request())
    assert.is_nil(result)
    assert.are.equal("auth", kind)
    assert.is_nil(detail.budget_until_ms)
  end))

  it("counts a cut answer as it was estimated, and a refused request not at all", with_servers({
    { DENIED, { cut = true, tool = "wait", input = {} } },
  }, function(server)
    local registry = open({ clients = { anthropic("A", server) } })
    local used = registry.account.windows.tokens_per_hour
    registry:decide(nil, request())
    assert.are.equal(0, used.used)
    registry:decide(nil, request())
    assert.is_true(used.used > 0)
    assert.are.same({ 0, 0 }, { used.held, used.under_way })
  end))
end)

describe("prices", function()
  it("are known by a model's name with or without its date, and else unknown", function()
    assert.are.equal(1, prices.of("claude-haiku-4-5-20251001").input)
    assert.are.equal(prices.of("claude-haiku-4-5"), prices.of("claude-haiku-4-5-20251001"))
    assert.is_nil(prices.of("claude-haiku-4-5-turbo"))
    assert.is_nil(prices.of("gpt-99"))
    assert.is_nil(prices.cost_usd(nil, { input = 1, output = 1 }))
    assert.is_nil(prices.cost_usd(prices.of("claude-haiku-4-5"), { output = 1 }))
    assert.are.equal(6, prices.cost_usd(prices.of("claude-haiku-4-5"),
      { input = 1e6, output = 1e6 }))
  end)

  it("may be set by a client", with_servers({
    { { tool = "wait", input = {}, usage = { input_tokens = 10, output_tokens = 1 } } },
  }, function(server)
    local registry = open({ clients = { anthropic("A", server, { options = { model = "own",
      base_url = server.url, price = { input = 1e6, output = 2e6 } } }) } })
    assert.are.equal(12, assert(registry:decide(nil, request())).cost_usd)
  end))
end)
