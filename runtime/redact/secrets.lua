--- Keys, tokens and passwords in a text: by their own form, or by the word before them.

local lpeg = require("lpeg")
local words = require("host.words")

local P, R, S, B, Cs = lpeg.P, lpeg.R, lpeg.S, lpeg.B, lpeg.Cs

local M = {}

local alpha, digit = R("az", "AZ"), R("09")
local alnum = alpha + digit
local url_safe = alnum + S("_-")
local dense = alnum + S("+/_=.~-")
local space = S(" \t")
-- A line's end, also escaped in JSON once or more often.
local newline = S("\r\n") + P("\\")^1 * S("rn")
-- Marks of our own are no values.
local mark = P("[redacted")

local function mask(name)
  return ("[redacted:%s]"):format(name)
end

-- `pattern`, replaced.
local function gone(pattern, name)
  return pattern / mask(name)
end

-- How far is looked ahead.
local AHEAD = 64

local function at_least(set, count)
  return set^count
end

-- What follows in `set` holds one of `what`.
local function with(set, what)
  return #((set - what)^-AHEAD * what)
end

local function any_case(word)
  local pattern = P(true)
  for char in word:gmatch(".") do
    -- "-" stands for what joins words of a name, or nothing.
    pattern = pattern * (char == "-" and S("_-. ")^-1 or S(char:lower() .. char:upper()))
  end
  return pattern
end

local function any_of(list)
  local pattern = P(false)
  for word in list:gmatch("%S+") do
    pattern = pattern + any_case(word)
  end
  return pattern
end

-- --- by their form -----------------------------------------------------------------------------

local function pem()
  local label = (R("AZ", "09") + S(" "))^1
  local begin = P("-----BEGIN ") * label * "-----"
  local whole = (1 - P("-----"))^0 * "-----END " * label^-1 * P("-----")^-1
  local line = alnum + S("+/=")
  local cut = (newline * line^0 + at_least(line, 16))^1
  return gone(begin * (whole + cut^-1), "pem")
end

local function jwt()
  local rest = P(".") * url_safe^0
  return gone(P("eyJ") * at_least(url_safe, 17) * rest^-4, "token")
end

local function aws_key()
  local kind = P("AKIA") + "ASIA" + "ABIA" + "ACCA"
  local char = R("AZ", "09")
  return gone(kind * #(char^16) * char^0 * -alnum, "key")
end

-- Each with how many characters follow at least; names of people's own, such as sk-learn-worker,
-- hold no digit.
local function prefixed()
  local pattern = P(false)
  for prefix, count in pairs({
    ["sk-"] = 16, ["sk_live_"] = 16, ["sk_test_"] = 16, ["rk_live_"] = 16, ["ghp_"] = 16,
    ["gho_"] = 16, ["ghu_"] = 16, ["ghs_"] = 16, ["ghr_"] = 16, ["github_pat_"] = 16,
    ["glpat-"] = 16, ["xoxa-"] = 10, ["xoxb-"] = 10, ["xoxe-"] = 10, ["xoxp-"] = 10,
    ["xoxr-"] = 10, ["xoxs-"] = 10, ["xapp-"] = 10, ["AIza"] = 30, ["ya29."] = 16, ["hf_"] = 24,
    ["npm_"] = 30, ["SG."] = 30, ["shpat_"] = 16, ["dop_v1_"] = 16, ["pypi-"] = 30,
  }) do
    local char = prefix == "SG." and url_safe + "." or url_safe
    pattern = pattern + P(prefix) * with(char, digit) * at_least(char, count)
  end
  local begin = P("sk") + "rk_" + "gh" + "gi" + "gl" + "xo" + "xa" + "AI" + "ya" + "hf" + "np"
    + "SG" + "sh" + "do" + "py"
  return #begin * gone(pattern, "key")
end

-- "Bearer …" and "Basic …", where what follows is no word.
local function scheme()
  local value = with(dense, digit + "=") * at_least(dense, 8) + at_least(dense, 32)
  return (any_of("bearer basic") * space^1) * gone(value, "token")
end

-- "://user:password@" and "://token@".
local function address()
  local stop = S(":/@?#\"'<>\\") + S(" \t\r\n")
  local user = (1 - stop)^0
  local part = (1 - (stop - ":"))^0 * "@"
  local password = (part * #part)^0 * (1 - (stop - ":"))^1
  return P("://") * -mark * (user * ":" * gone(password, "password") * #P("@")
    + gone(at_least(url_safe, 20), "token") * #P("@"))
end

-- --- by the word before them -------------------------------------------------------------------

local CERTAIN = [[password-hash password-digest password passwd pwd passphrase secret-access-key
  secret-key-base secret-key secret api-key apikey access-key-secret access-key access-token
  auth-token refresh-token id-token bearer-token client-secret private-key encryption-key
  signing-key signing-salt setcookie]]
local LIKELY = "session-token session-id token auth cookie session signature credentials credential"

-- The first two letters of those, so that most words cost no more than this.
local BEGIN_OF_WORD = #(S("pP") * S("aAwWrR") + S("sS") * S("eEiI") + S("aA") * S("pPcCuU")
  + S("cC") * S("lLoOrR") + S("tT") * S("oO") + any_of("re id be en"))

local function quoted(quote, backslashes)
  local inner = backslashes
    and (1 - (S("\\\n") + quote) + P("\\")^1 * (1 - (P("\\") + quote)))^1
    or (P("\\") * 1 + (1 - (S("\\\n") + quote)))^1
  local open = backslashes and P("\\")^1 * quote or quote
  return open, inner
end

-- `value(inner)` within quotes of any kind, and within those of an Erlang binary.
local function in_quotes(wrap)
  local pattern = P(false)
  for _, quote in ipairs({ P('"'), P("'") }) do
    for _, backslashes in ipairs({ true, false }) do
      local open, inner = quoted(quote, backslashes)
      pattern = pattern + open * wrap(inner)
    end
  end
  return P("<<")^-1 * pattern
end

-- mod:fun/1, Mod.fun/1 and Mod.Name after what looks like a word with its colon.
local name_char = alnum + S("_.:?!")
local fun = name_char^-AHEAD * "/" * digit^1 * -dense
local part = R("AZ") * alnum^0
local module = part * ("." * part)^1 * -dense
local bare = 1 - (S(" \t\r\n\"'`,;&(){}[]<>\\") + "|")
local number = S("+-")^-1 * (digit + S(".,"))^1 * S("%")^-1 * -bare
local literal = any_of("true false nil null none undefined unset") * -bare
local random = with(dense, digit) * with(dense, alpha) * at_least(dense, 16)

-- The end of the word, and what joins it to its value.
local key_end = (P("\\")^0 * S("\"'") * P(">>")^-1)^-1 * space^-4
local equals = key_end * "=" * -P(">") * space^-4
local joined = key_end * (P("=>") + ":=" + P(":") * -P("//") + "=") * space^-4
local comma = key_end * "," * space^-4

local function after_words()
  local in_pair = B(S("{[")) + B(S("{[") * S("\"':")) + B('{<<"') + B('[\\"') + B('{\\"')
  local certain, likely = any_of(CERTAIN), any_of(LIKELY)
  local camel = R("az")^1 * (P("Password") + "Secret" + "ApiKey" + "AccessToken" + "AuthToken")
  local text = in_quotes(function(inner)
    return -mark * gone(inner, "secret")
  end)
  local tokens = in_quotes(function()
    return -(fun + module) * gone(random, "secret")
  end) + -(fun + module) * gone(random, "secret")
  local assigned = equals * -(literal + mark + fun + number) * gone(at_least(bare, 4), "secret")
  local told = joined * -(literal + mark + fun + module + number)
    * gone(with(bare, digit) * at_least(bare, 8), "secret")
  local pair = #(comma * P("<<")^-1 * (1 - S(",{}[]\n"))^1 * S("]}")) * comma * text
  local pin = any_of("password passwd pwd passphrase") * equals * gone(at_least(digit, 4), "secret")
  local cookie = any_case("setcookie") * space^1 * gone(at_least(alnum + S("_-"), 4), "secret")
  local value = joined * text + assigned + told
  return BEGIN_OF_WORD * (certain * value + pin + in_pair * (certain + likely) * pair + cookie
    + likely * joined * tokens) + camel * value
end

-- Words that begin anywhere but within another; escapes such as \n begin none.
local function build()
  local header = any_of("authorization") * joined
    * in_quotes(function(inner)
      return -mark * gone(inner, "token")
    end)
    + any_of("authorization") * joined * (alpha^1 * space^1)^-1
    * -mark * gone(at_least(dense, 8), "token")
  local at_word = jwt() + aws_key() + prefixed() + scheme() + header + after_words()
  local escape = P("\\")^1 * S("nrtbf")^-1
  local word = alnum^1
  local other = (1 - (alnum + S("-:\\")))^1
  return Cs((#alnum * (at_word + word) + other + escape + pem() + address() + 1)^0)
end

local grammar = build()

-- Nothing above matches a text that holds none of these, in whatever case. Most texts do not, and
-- to look for them costs a tenth of the grammar.
local signs = words.new({
  "-----begin ", "://", "eyj", "akia", "asia", "abia", "acca",
  "sk-", "sk_", "rk_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox",
  "xapp-", "aiza", "ya29.", "hf_", "npm_", "sg.", "shpat_", "dop_v1_", "pypi-",
  "bearer", "basic", "auth", "passw", "passp", "pwd", "secret", "key", "token", "signing", "cookie",
  "session", "signature", "credential",
})

--- Replaces secrets.
---@param text string
---@return string
function M.replace(text)
  return signs:find(text) and grammar:match(text) or text
end

return M
