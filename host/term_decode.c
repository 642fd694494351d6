// term_decode.c: Erlang terms as Lua values, read by etf.c, which also says why not by libei.

#include "term.h"

#include <string.h>

#include <lauxlib.h>

typedef struct Decoder {
  lua_State *L;
  EtfReader *r;     // borrowed
  const char *home; // borrowed; may be NULL
} Decoder;

static bool push_value(Decoder *d);

static void push_text(lua_State *L, EtfText text)
{
  if (!text.latin1) {
    lua_pushlstring(L, (const char *)text.at, text.size);
    return;
  }
  char utf8[2 * 1020]; // an atom has at most 255 * 4 bytes
  size_t size = 0;
  for (size_t i = 0; i < text.size; i++) {
    if (text.at[i] < 0x80) {
      utf8[size++] = (char)text.at[i];
    } else {
      utf8[size++] = (char)(0xC0 | text.at[i] >> 6);
      utf8[size++] = (char)(0x80 | (text.at[i] & 0x3F));
    }
  }
  lua_pushlstring(L, utf8, size);
}

static void push_atom(lua_State *L, const EtfToken *token)
{
  if (etf_is_atom(token, "true")) {
    lua_pushboolean(L, 1);
  } else if (etf_is_atom(token, "false")) {
    lua_pushboolean(L, 0);
  } else if (etf_is_atom(token, "null") || etf_is_atom(token, "nil")) {
    lua_pushlightuserdata(L, NULL); // json.null
  } else {
    push_text(L, token->bytes);
  }
}

static void push_byte_list(lua_State *L, EtfText bytes)
{
  lua_createtable(L, (int)bytes.size, 0);
  for (size_t i = 0; i < bytes.size; i++) {
    lua_pushinteger(L, bytes.at[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
}

static void push_opaque(Decoder *d, const EtfToken *token)
{
  Term *term = term_push(d->L, token->start, (size_t)(d->r->at - token->start));
  bool has_node = token->kind == ETF_PID || token->kind == ETF_PORT || token->kind == ETF_REF;
  term->is_home = has_node && d->home && strlen(d->home) == token->node.size &&
                  memcmp(d->home, token->node.at, token->node.size) == 0;
}

static bool push_elements(Decoder *d, uint32_t count)
{
  lua_createtable(d->L, (int)count, 0);
  for (uint32_t i = 1; i <= count; i++) {
    if (!push_value(d)) {
      return false;
    }
    lua_rawseti(d->L, -2, (int)i);
  }
  return true;
}

static bool push_list(Decoder *d, uint32_t count)
{
  if (!push_elements(d, count)) {
    return false;
  }
  if (d->r->at < d->r->end && *d->r->at == ERL_NIL_EXT) {
    return etf_skip(d->r);
  }
  if (!push_value(d)) {
    return false;
  }
  lua_setfield(d->L, -2, "tail");
  return true;
}

// A key that is neither a name nor an integer becomes its printed form.
static bool push_key(Decoder *d)
{
  EtfToken token;
  if (!etf_next(d->r, &token)) {
    return false;
  }
  if (token.kind == ETF_ATOM || token.kind == ETF_BINARY) {
    push_text(d->L, token.bytes);
  } else if (token.kind == ETF_INTEGER) {
    lua_pushinteger(d->L, token.integer);
  } else if (token.kind == ETF_BIG) {
    lua_pushnumber(d->L, etf_big_to_double(&token));
  } else {
    char text[256];
    uint32_t elements = d->r->elements;
    d->r->at = token.start;
    if (token.kind >= ETF_LIST && token.kind <= ETF_MAP) {
      d->r->elements = elements - token.count * (token.kind == ETF_MAP ? 2 : 1);
    }
    if (!etf_skip(d->r)) {
      return false;
    }
    size_t size =
        etf_print(token.start, (size_t)(d->r->at - token.start), d->home, text, sizeof(text));
    lua_pushlstring(d->L, text, size);
  }
  return true;
}

static bool push_map(Decoder *d, uint32_t count)
{
  lua_createtable(d->L, 0, (int)count);
  for (uint32_t i = 0; i < count; i++) {
    if (!push_key(d) || !push_value(d)) {
      return false;
    }
    lua_rawset(d->L, -3);
  }
  return true;
}

static bool push_parts(Decoder *d, const EtfToken *token)
{
  if (!etf_enter(d->r)) {
    return false;
  }
  bool ok = token->kind == ETF_LIST    ? push_list(d, token->count)
            : token->kind == ETF_TUPLE ? push_elements(d, token->count)
                                       : push_map(d, token->count);
  if (!ok) {
    return false;
  }
  if (token->kind == ETF_TUPLE) {
    luaL_setmetatable(d->L, TUPLE_TYPE);
  }
  etf_leave(d->r);
  return true;
}

// Pushes one value. After a failure the stack holds leftovers, which term_decode() removes.
static bool push_value(Decoder *d)
{
  EtfToken token;
  if (!etf_next(d->r, &token)) {
    return false;
  }
  if (!lua_checkstack(d->L, 8)) {
    d->r->why = "not enough memory";
    return false;
  }
  switch (token.kind) {
  case ETF_INTEGER:
    lua_pushinteger(d->L, token.integer);
    return true;
  case ETF_BIG:
    lua_pushnumber(d->L, etf_big_to_double(&token));
    return true;
  case ETF_FLOAT:
    lua_pushnumber(d->L, token.real);
    return true;
  case ETF_ATOM:
    push_atom(d->L, &token);
    return true;
  case ETF_BINARY:
    push_text(d->L, token.bytes);
    return true;
  case ETF_STRING:
    push_byte_list(d->L, token.bytes);
    return true;
  case ETF_NIL:
    lua_newtable(d->L);
    return true;
  case ETF_LIST:
  case ETF_TUPLE:
  case ETF_MAP:
    return push_parts(d, &token);
  default:
    push_opaque(d, &token);
    return true;
  }
}

bool term_decode(lua_State *L, EtfReader *r, const char *home)
{
  Decoder decoder = {.L = L, .r = r, .home = home};
  int top = lua_gettop(L);
  if (push_value(&decoder)) {
    return true;
  }
  lua_settop(L, top);
  return false;
}

// Leaves in place of the reader one over the inflated bytes, which are in a userdata that it
// pushes: nothing leaks when memory runs short later.
static bool inflate_term(lua_State *L, EtfReader *r, size_t limit)
{
  size_t size;
  if (!lua_checkstack(L, 1)) {
    r->why = "not enough memory";
    return false;
  }
  if (!etf_inflated_size(r, limit, &size)) {
    return false;
  }
  uint8_t *bytes = lua_newuserdata(L, size);
  if (!etf_inflate(r, bytes, size)) {
    return false;
  }
  etf_init(r, bytes, size);
  return true;
}

bool term_decode_whole(lua_State *L, EtfReader *r, const char *home, size_t limit)
{
  int top = lua_gettop(L);
  bool ok = etf_version(r) && (!etf_is_compressed(r) || inflate_term(L, r, limit)) &&
            term_decode(L, r, home);
  if (ok && r->at != r->end) {
    r->why = "bytes follow it";
    ok = false;
  }
  if (ok && lua_gettop(L) > top + 1) {
    lua_remove(L, top + 1); // the inflated bytes
  }
  lua_settop(L, ok ? top + 1 : top);
  return ok;
}
