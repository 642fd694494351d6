// term.c: what host.dist offers of terms: to write and read them, and to say what a Lua value is to
// be sent as.
//
//   local bytes = dist.encode({ 1, "binary", dist.atom("ok"), dist.tuple({ true, 0.5 }) })
//   local value, err, code = dist.decode(bytes)
//   tostring(pid)                      -- "<0.123.0>": no Lua type has it, but it can be sent back

#include "term.h"

#include <string.h>

#include <lauxlib.h>

#include "host.h"

#define MAX_INFLATED (16 * 1024 * 1024)

Term *term_push(lua_State *L, const uint8_t *bytes, size_t size)
{
  Term *term = lua_newuserdata(L, sizeof(*term) + size);
  term->is_self = false;
  term->is_home = false;
  term->size = size;
  memcpy(term->bytes, bytes, size);
  luaL_setmetatable(L, TERM_TYPE);
  return term;
}

// encode(value) -> bytes, with the version byte, as term_to_binary/1 gives them
// Raises on a value that cannot be sent.
static int l_encode(lua_State *L)
{
  luaL_checkany(L, 1);
  ei_x_buff out;
  TermError error = {"not enough memory"};
  if (ei_x_new_with_version(&out) != 0) {
    return luaL_error(L, "%s", error.text);
  }
  bool ok = term_encode(L, 1, &out, NULL, &error);
  if (ok) {
    lua_pushlstring(L, out.buff, (size_t)out.index);
  }
  ei_x_free(&out);
  return ok ? 1 : luaL_error(L, "%s", error.text);
}

// decode(bytes, home) -> value | nil, err, "ETERM"
// `bytes` is one term with its version byte; a compressed one has at most 16 MiB. Identifiers of
// the node `home` print as on that node.
static int l_decode(lua_State *L)
{
  size_t size;
  const char *bytes = luaL_checklstring(L, 1, &size);
  const char *home = luaL_optstring(L, 2, NULL);
  EtfReader reader;
  etf_init(&reader, (const uint8_t *)bytes, size);
  if (!term_decode_whole(L, &reader, home, MAX_INFLATED)) {
    return host_failf(L, "ETERM", "not an Erlang term: %s", reader.why);
  }
  return 1;
}

static int mark(lua_State *L, const char *type)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  luaL_setmetatable(L, type);
  return 1;
}

// tuple(list) -> list, the same table, marked to be sent as a tuple
static int l_tuple(lua_State *L)
{
  return mark(L, TUPLE_TYPE);
}

// map(table) -> table, the same one, marked to be sent as a map even if empty or with integer keys
static int l_map(lua_State *L)
{
  return mark(L, MAP_TYPE);
}

// atom(name) -> term
// For names in our own source only: an atom that a node does not have yet stays there for ever.
static int l_atom(lua_State *L)
{
  size_t size;
  const char *name = luaL_checklstring(L, 1, &size);
  luaL_argcheck(L, size <= 255, 1, "an atom has at most 255 bytes");
  char bytes[16 + MAXATOMLEN_UTF8];
  int index = 0;
  if (ei_encode_atom_len_as(bytes, &index, name, (int)size, ERLANG_UTF8, ERLANG_UTF8) != 0) {
    return luaL_argerror(L, 1, "not valid UTF-8");
  }
  term_push(L, (const uint8_t *)bytes, (size_t)index);
  return 1;
}

// raw(bytes) -> term, for bytes of the external term format, with or without version byte
static int l_raw(lua_State *L)
{
  size_t size;
  const uint8_t *bytes = (const uint8_t *)luaL_checklstring(L, 1, &size);
  if (size > 0 && bytes[0] == ETF_VERSION) {
    bytes++;
    size--;
  }
  EtfReader reader;
  etf_init(&reader, bytes, size);
  luaL_argcheck(L, etf_skip(&reader) && reader.at == reader.end, 1, "not one Erlang term");
  term_push(L, bytes, size);
  return 1;
}

// tostring(term): as the node that it came from prints it
static int l_tostring(lua_State *L)
{
  const Term *term = luaL_checkudata(L, 1, TERM_TYPE);
  if (term->is_self) {
    lua_pushliteral(L, "dist.self");
    return 1;
  }
  char text[512];
  char home[255 * 4 + 1] = "";
  EtfReader reader;
  EtfToken token;
  etf_init(&reader, term->bytes, term->size);
  if (term->is_home && etf_next(&reader, &token)) {
    memcpy(home, token.node.at, token.node.size);
    home[token.node.size] = '\0';
  }
  size_t size = etf_print(term->bytes, term->size, home, text, sizeof(text));
  lua_pushlstring(L, text, size);
  return 1;
}

// term == term: the same bytes
static int l_eq(lua_State *L)
{
  const Term *a = luaL_testudata(L, 1, TERM_TYPE);
  const Term *b = luaL_testudata(L, 2, TERM_TYPE);
  lua_pushboolean(L, a && b && a->is_self == b->is_self && a->size == b->size &&
                         memcmp(a->bytes, b->bytes, a->size) == 0);
  return 1;
}

static const luaL_Reg functions[] = {
    {"encode", l_encode}, {"decode", l_decode}, {"tuple", l_tuple}, {"map", l_map},
    {"atom", l_atom},     {"raw", l_raw},       {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__tostring", l_tostring},
    {"__eq", l_eq},
    {NULL, NULL},
};

void term_open(lua_State *L)
{
  luaL_newmetatable(L, TERM_TYPE);
  luaL_setfuncs(L, metamethods, 0);
  lua_pop(L, 1);
  luaL_newmetatable(L, MAP_TYPE);
  lua_pop(L, 1);

  luaL_setfuncs(L, functions, 0);
  luaL_newmetatable(L, TUPLE_TYPE);
  lua_setfield(L, -2, "tuple_mt");
  term_push(L, (const uint8_t *)"", 0)->is_self = true;
  lua_setfield(L, -2, "self");
}
