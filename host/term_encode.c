// term_encode.c: Lua values as Erlang terms, written by libei.

#include "term.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <lauxlib.h>

typedef struct Encoder {
  lua_State *L;
  ei_x_buff *out;        // borrowed
  const ei_x_buff *self; // borrowed; may be NULL
  TermError *error;      // borrowed
  int depth;
} Encoder;

static bool encode_value(Encoder *e, int index);

static bool refuse(Encoder *e, const char *why)
{
  snprintf(e->error->text, sizeof(e->error->text), "%s", why);
  return false;
}

static bool check(Encoder *e, int status)
{
  return status == 0 || refuse(e, "not enough memory");
}

// An integral double beyond 64 bits, exactly.
static bool encode_big(Encoder *e, double value)
{
  int exponent;
  double fraction = frexp(fabs(value), &exponent);
  uint64_t mantissa = (uint64_t)ldexp(fraction, 53);
  int shift = exponent - 53;
  uint8_t bytes[3 + 136] = {ERL_SMALL_BIG_EXT, 0, value < 0};
  size_t size = 0;
  for (int bit = 0; bit < 53; bit++) {
    if (mantissa >> bit & 1) {
      bytes[3 + (bit + shift) / 8] |= (uint8_t)(1 << (bit + shift) % 8);
      size = (size_t)(bit + shift) / 8 + 1;
    }
  }
  bytes[1] = (uint8_t)size;
  return check(e, ei_x_append_buf(e->out, (const char *)bytes, (int)(3 + size)));
}

static bool encode_number(Encoder *e, double value)
{
  if (!isfinite(value)) {
    return refuse(e, "a number that is not finite cannot be sent");
  }
  if (value != floor(value)) {
    return check(e, ei_x_encode_double(e->out, value));
  }
  if (fabs(value) >= 9.2e18) {
    return encode_big(e, value);
  }
  return check(e, ei_x_encode_longlong(e->out, (long long)value));
}

static bool encode_string(Encoder *e, int index)
{
  size_t size;
  const char *bytes = lua_tolstring(e->L, index, &size);
  if (size > INT32_MAX / 2) {
    return refuse(e, "a string is too long to be sent");
  }
  return check(e, ei_x_encode_binary(e->out, bytes, (int)size));
}

static bool encode_elements(Encoder *e, int index, size_t count)
{
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(e->L, index, (int)i);
    bool ok = encode_value(e, lua_gettop(e->L));
    lua_pop(e->L, 1);
    if (!ok) {
      return false;
    }
  }
  return true;
}

static bool encode_list(Encoder *e, int index, size_t count)
{
  if (count == 0) {
    return check(e, ei_x_encode_empty_list(e->out));
  }
  return check(e, ei_x_encode_list_header(e->out, (long)count)) &&
         encode_elements(e, index, count) && check(e, ei_x_encode_empty_list(e->out));
}

static bool encode_pairs(Encoder *e, int index, size_t count)
{
  if (!check(e, ei_x_encode_map_header(e->out, (long)count))) {
    return false;
  }
  for (lua_pushnil(e->L); lua_next(e->L, index); lua_pop(e->L, 1)) {
    int top = lua_gettop(e->L);
    if (!encode_value(e, top - 1) || !encode_value(e, top)) {
      lua_pop(e->L, 2);
      return false;
    }
  }
  return true;
}

// What a table is to be sent as.
typedef enum TableKind { AS_LIST, AS_TUPLE, AS_MAP, AS_NOTHING } TableKind;

// Counts the keys: a list has 1..n, a map strings (with dist.map() integers too).
static TableKind classify(lua_State *L, int index, TableKind marked, size_t *count)
{
  size_t numbers = 0;
  size_t strings = 0;
  size_t others = 0;
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    int type = lua_type(L, -2);
    if (type == LUA_TNUMBER) {
      numbers++;
    } else if (type == LUA_TSTRING) {
      strings++;
    } else {
      others++;
    }
  }
  *count = numbers + strings;
  if (others > 0) {
    return AS_NOTHING;
  }
  if (marked == AS_MAP || (marked == AS_LIST && strings > 0 && numbers == 0)) {
    return AS_MAP;
  }
  return strings == 0 && numbers == lua_objlen(L, index) ? marked : AS_NOTHING;
}

static bool has_metatable(lua_State *L, int index, const char *name)
{
  if (!lua_getmetatable(L, index)) {
    return false;
  }
  luaL_getmetatable(L, name);
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same;
}

static bool encode_table(Encoder *e, int index)
{
  TableKind marked = has_metatable(e->L, index, TUPLE_TYPE) ? AS_TUPLE
                     : has_metatable(e->L, index, MAP_TYPE) ? AS_MAP
                                                            : AS_LIST;
  size_t count;
  switch (classify(e->L, index, marked, &count)) {
  case AS_LIST:
    return encode_list(e, index, count);
  case AS_TUPLE:
    return check(e, ei_x_encode_tuple_header(e->out, (long)count)) &&
           encode_elements(e, index, count);
  case AS_MAP:
    return encode_pairs(e, index, count);
  default:
    return refuse(e, "a table is neither a list (1 to n) nor a map (names)");
  }
}

static bool encode_term(Encoder *e, int index)
{
  const Term *term = luaL_testudata(e->L, index, TERM_TYPE);
  if (!term) {
    return refuse(e, "a userdata cannot be sent");
  }
  if (!term->is_self) {
    return check(e, ei_x_append_buf(e->out, (const char *)term->bytes, (int)term->size));
  }
  if (!e->self) {
    return refuse(e, "dist.self is known only to a call");
  }
  return check(e, ei_x_append(e->out, e->self));
}

static bool encode_light(Encoder *e, int index)
{
  if (lua_touserdata(e->L, index) != NULL) {
    return refuse(e, "a light userdata cannot be sent");
  }
  return check(e, ei_x_encode_atom(e->out, "null"));
}

static bool encode_value(Encoder *e, int index)
{
  if (e->depth == ETF_MAX_DEPTH || !lua_checkstack(e->L, 8)) {
    return refuse(e, "a table is nested more than 64 deep");
  }
  e->depth++;
  bool ok;
  switch (lua_type(e->L, index)) {
  case LUA_TNUMBER:
    ok = encode_number(e, lua_tonumber(e->L, index));
    break;
  case LUA_TSTRING:
    ok = encode_string(e, index);
    break;
  case LUA_TBOOLEAN:
    ok = check(e, ei_x_encode_boolean(e->out, lua_toboolean(e->L, index)));
    break;
  case LUA_TTABLE:
    ok = encode_table(e, index);
    break;
  case LUA_TLIGHTUSERDATA:
    ok = encode_light(e, index);
    break;
  case LUA_TUSERDATA:
    ok = encode_term(e, index);
    break;
  default:
    ok = refuse(e, "neither nil nor a function nor a coroutine can be sent");
  }
  e->depth--;
  return ok;
}

bool term_encode(lua_State *L, int index, ei_x_buff *out, const ei_x_buff *self, TermError *error)
{
  Encoder encoder = {.L = L, .out = out, .self = self, .error = error};
  return encode_value(&encoder, index < 0 ? lua_gettop(L) + 1 + index : index);
}
