// codec_encode.c: a value of a Lua state as JSON text; see codec.h.

#include "codec_internal.h"

#include <math.h>
#include <stdint.h>

#include <lauxlib.h>

#define TYPE_CDATA 10 // LuaJIT's type of 64-bit integers and complex numbers

// --- Marks ------------------------------------------------------------------------------------

static const char mark_keys[2];

void codec_push_mark(lua_State *L, CodecMark mark)
{
  lua_pushlightuserdata(L, (void *)&mark_keys[mark]);
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushlightuserdata(L, (void *)&mark_keys[mark]);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
  }
}

static const void *mark_pointer(lua_State *L, CodecMark mark)
{
  lua_pushlightuserdata(L, (void *)&mark_keys[mark]);
  lua_rawget(L, LUA_REGISTRYINDEX);
  const void *pointer = lua_topointer(L, -1);
  lua_pop(L, 1);
  return pointer;
}

// --- Values -----------------------------------------------------------------------------------

static CodecStatus encode_value(lua_State *L, int idx, Encoding *e);

// A table is an array if its keys are 1..n with few holes. Returns n, or -1 for an object.
static long array_length(lua_State *L, int idx)
{
  double max = 0;
  double count = 0;
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
    double n = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
    if (!(n >= 1 && n <= INT32_MAX && n == floor(n))) {
      lua_pop(L, 2);
      return -1;
    }
    count++;
    max = n > max ? n : max;
  }
  return max <= 2 * count + 8 ? (long)max : -1;
}

static CodecStatus encode_array(lua_State *L, int idx, long n, Encoding *e)
{
  codec_put(e->out, "[", 1);
  for (long i = 1; i <= n; i++) {
    if (i > 1) {
      codec_put(e->out, ",", 1);
    }
    lua_rawgeti(L, idx, (int)i);
    CodecStatus status = encode_value(L, idx + 1, e);
    if (status != CODEC_OK) {
      return status;
    }
    lua_settop(L, idx);
  }
  codec_put(e->out, "]", 1);
  return CODEC_OK;
}

// The place of a key in the `__order` of the table's metatable; SIZE_MAX when it has none.
static size_t key_rank(lua_State *L, int table, int key)
{
  size_t rank = SIZE_MAX;
  if (lua_type(L, key) != LUA_TSTRING || !luaL_getmetafield(L, table, "__order")) {
    return rank;
  }
  size_t n = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
  for (size_t i = 1; i <= n && rank == SIZE_MAX; i++) {
    lua_rawgeti(L, -1, (int)i);
    rank = lua_rawequal(L, -1, key) ? i : SIZE_MAX;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return rank;
}

// Writes the entries one after another, unsorted and without commas.
static CodecStatus put_entries(lua_State *L, int idx, Encoding *e, CodecBuf *entries)
{
  for (lua_pushnil(L); lua_next(L, idx); lua_settop(L, idx + 1)) {
    Entry entry = {.start = e->out->len, .rank = SIZE_MAX};
    if (e->opts->ordered) {
      entry.rank = key_rank(L, idx, idx + 1);
    }
    CodecStatus status = codec_put_key(L, idx + 1, e);
    if (status != CODEC_OK) {
      return status;
    }
    entry.key_len = e->out->len - entry.start;
    codec_put(e->out, ":", 1);
    status = encode_value(L, idx + 2, e);
    if (status != CODEC_OK) {
      return status;
    }
    entry.len = e->out->len - entry.start;
    codec_put(entries, (const char *)&entry, sizeof(entry));
    if (entries->full) {
      return CODEC_TOO_BIG;
    }
  }
  return CODEC_OK;
}

static CodecStatus encode_object(lua_State *L, int idx, Encoding *e)
{
  codec_put(e->out, "{", 1);
  size_t start = e->out->len;
  CodecBuf entries = CODEC_BUF(SIZE_MAX / 2);
  CodecStatus status = put_entries(L, idx, e, &entries);
  size_t n = entries.len / sizeof(Entry);
  if (status == CODEC_OK && n > 1 && !e->out->full) {
    status = codec_sort_entries(e, start, (Entry *)(void *)entries.data, n);
  }
  codec_free(&entries);
  codec_put(e->out, "}", 1);
  return status;
}

static CodecStatus encode_table(lua_State *L, int idx, Encoding *e)
{
  const void *table = lua_topointer(L, idx);
  for (unsigned i = 0; i < e->depth; i++) {
    if (e->path[i] == table) {
      return codec_put_stand_in(e, "<cycle>", "table contains a cycle");
    }
  }
  if (e->depth >= e->opts->max_depth || e->depth >= CODEC_MAX_DEPTH || !lua_checkstack(L, 8)) {
    return codec_put_stand_in(e, "<too deep>", "table is nested too deeply");
  }
  bool object = false;
  if (e->object_mark && lua_getmetatable(L, idx)) {
    object = lua_topointer(L, -1) == e->object_mark;
    lua_pop(L, 1);
  }
  e->path[e->depth++] = table;
  long n = object ? -1 : array_length(L, idx);
  CodecStatus status = n >= 0 ? encode_array(L, idx, n, e) : encode_object(L, idx, e);
  e->depth--;
  return status;
}

// Encodes the value on top of the stack, which is at the absolute index `idx`.
static CodecStatus encode_value(lua_State *L, int idx, Encoding *e)
{
  CodecStatus status = CODEC_OK;
  if (e->opts->max_values > 0 && ++e->values > e->opts->max_values) {
    return CODEC_TOO_MANY;
  }
  switch (lua_type(L, idx)) {
  case LUA_TNIL:
    codec_puts(e->out, "null");
    break;
  case LUA_TBOOLEAN:
    codec_puts(e->out, lua_toboolean(L, idx) ? "true" : "false");
    break;
  case LUA_TNUMBER:
    codec_put_number(e, lua_tonumber(L, idx));
    break;
  case LUA_TSTRING: {
    size_t len;
    const char *s = lua_tolstring(L, idx, &len);
    e->opts->lossy |= codec_put_string(e->out, s, len);
    break;
  }
  case LUA_TTABLE:
    status = encode_table(L, idx, e);
    break;
  case LUA_TLIGHTUSERDATA:
    if (!lua_touserdata(L, idx)) {
      codec_puts(e->out, "null");
      break;
    }
    status = codec_put_stand_in(e, "<userdata>", "contains a userdata");
    break;
  case TYPE_CDATA:
    status = codec_put_cdata(L, idx, e);
    break;
  case LUA_TFUNCTION:
    status = codec_put_stand_in(e, "<function>", "contains a function");
    break;
  case LUA_TTHREAD:
    status = codec_put_stand_in(e, "<thread>", "contains a coroutine");
    break;
  default:
    status = codec_put_stand_in(e, "<userdata>", "contains a userdata");
  }
  return status == CODEC_OK && e->out->full ? CODEC_TOO_BIG : status;
}

CodecStatus codec_encode(lua_State *L, int idx, CodecEncoder *encoder, CodecBuf *out)
{
  Encoding e = {.opts = encoder, .out = out};
  int top = lua_gettop(L);
  luaL_checkstack(L, 8, "JSON");
  e.object_mark = mark_pointer(L, CODEC_OBJECT);
  encoder->lossy = false;
  encoder->error[0] = '\0';
  lua_pushvalue(L, idx);
  CodecStatus status = encode_value(L, top + 1, &e);
  lua_settop(L, top);
  return status;
}
