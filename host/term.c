// term.c: Erlang terms as Lua values and back; part of host.dist.
//
//   local bytes = dist.encode({ 1, "binary", dist.atom("ok"), dist.tuple({ true, 0.5 }) })
//   local value, err, code = dist.decode(bytes)
//   tostring(pid)                      -- "<0.123.0>": no Lua type has it, but it can be sent back
//
// Writing uses libei; reading uses etf.c, and says why.

#include "term.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

#define TERM_TYPE "beamlens.dist.term"
#define TUPLE_TYPE "beamlens.dist.tuple"
#define MAP_TYPE "beamlens.dist.map"

// A term that has no Lua type, as bytes.
typedef struct Term {
  bool is_self; // dist.self: stands for the pid of the call that it is sent with
  bool is_home; // an identifier of the node that it came from
  size_t size;
  uint8_t bytes[];
} Term;

static Term *push_term(lua_State *L, const uint8_t *bytes, size_t size)
{
  Term *term = lua_newuserdata(L, sizeof(*term) + size);
  term->is_self = false;
  term->is_home = false;
  term->size = size;
  memcpy(term->bytes, bytes, size);
  luaL_setmetatable(L, TERM_TYPE);
  return term;
}

// --- Lua to terms
// ---------------------------------------------------------------------------------

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
  return encode_value(&encoder, index);
}

// --- terms to Lua
// ---------------------------------------------------------------------------------

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
  Term *term = push_term(d->L, token->start, (size_t)(d->r->at - token->start));
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

// --- the Lua functions
// ----------------------------------------------------------------------------

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
// `bytes` is one term with its version byte. Identifiers of the node `home` print as on that node.
static int l_decode(lua_State *L)
{
  size_t size;
  const char *bytes = luaL_checklstring(L, 1, &size);
  const char *home = luaL_optstring(L, 2, NULL);
  EtfReader reader;
  etf_init(&reader, (const uint8_t *)bytes, size);
  if (!etf_version(&reader) || !term_decode(L, &reader, home)) {
    return host_failf(L, "ETERM", "not an Erlang term: %s", reader.why);
  }
  if (reader.at != reader.end) {
    return host_failf(L, "ETERM", "not an Erlang term: bytes follow it");
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
  push_term(L, (const uint8_t *)bytes, (size_t)index);
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
  push_term(L, bytes, size);
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
  push_term(L, (const uint8_t *)"", 0)->is_self = true;
  lua_setfield(L, -2, "self");
}
