// work_copy.c: Lua values as plain bytes; see work_copy.h.
//
// A value is a tag and what follows it: a number its eight bytes, a string its length and bytes, a
// table the tag TABLE, its keys and values in turn, and the tag END. The bytes never leave the
// process.

#include "work_copy.h"

#include <stdio.h>

#include <lauxlib.h>

enum { TAG_NIL = 'z', TAG_TRUE = 't', TAG_FALSE = 'f', TAG_NUMBER = 'n', TAG_STRING = 's' };
enum { TAG_TABLE = '{', TAG_END = '}' };

typedef struct Writer {
  lua_State *L;    // borrowed
  ByteBuffer *out; // borrowed
  char *error;     // borrowed
  size_t size;
} Writer;

static bool put(Writer *w, const void *bytes, size_t len)
{
  if (len > WORK_MAX_BYTES - w->out->len || !byte_buffer_add(w->out, bytes, len)) {
    snprintf(w->error, w->size, "more than %d MiB of values", WORK_MAX_BYTES >> 20);
    return false;
  }
  return true;
}

static bool put_tag(Writer *w, char tag)
{
  return put(w, &tag, 1);
}

static bool put_value(Writer *w, int idx, int depth);

static bool put_table(Writer *w, int idx, int depth)
{
  if (depth >= WORK_MAX_DEPTH || !lua_checkstack(w->L, 4)) {
    snprintf(w->error, w->size, "a table deeper than %d levels, or one that holds itself",
             WORK_MAX_DEPTH);
    return false;
  }
  if (!put_tag(w, TAG_TABLE)) {
    return false;
  }
  lua_pushnil(w->L);
  while (lua_next(w->L, idx)) {
    int value = lua_gettop(w->L);
    if (!put_value(w, value - 1, depth + 1) || !put_value(w, value, depth + 1)) {
      lua_pop(w->L, 2);
      return false;
    }
    lua_pop(w->L, 1);
  }
  return put_tag(w, TAG_END);
}

// `idx` is absolute.
static bool put_value(Writer *w, int idx, int depth)
{
  int type = lua_type(w->L, idx);
  if (type == LUA_TNIL) {
    return put_tag(w, TAG_NIL);
  }
  if (type == LUA_TBOOLEAN) {
    return put_tag(w, lua_toboolean(w->L, idx) ? TAG_TRUE : TAG_FALSE);
  }
  if (type == LUA_TNUMBER) {
    lua_Number number = lua_tonumber(w->L, idx);
    return put_tag(w, TAG_NUMBER) && put(w, &number, sizeof(number));
  }
  if (type == LUA_TSTRING) {
    size_t len;
    const char *text = lua_tolstring(w->L, idx, &len);
    return put_tag(w, TAG_STRING) && put(w, &len, sizeof(len)) && put(w, text, len);
  }
  if (type == LUA_TTABLE) {
    return put_table(w, idx, depth);
  }
  snprintf(w->error, w->size, "a %s cannot be copied", lua_typename(w->L, type));
  return false;
}

bool work_copy_out(lua_State *L, int first, int last, ByteBuffer *out, char *error, size_t size)
{
  Writer w = {.L = L, .out = out, .error = error, .size = size};
  for (int i = first; i <= last; i++) {
    if (!put_value(&w, i, 0)) {
      size_t used = strlen(error);
      snprintf(error + used, size - used, " (value %d)", i - first + 1);
      return false;
    }
  }
  return true;
}

static const char *push_value(lua_State *L, const char *at);

static const char *push_table(lua_State *L, const char *at)
{
  lua_newtable(L);
  while (*at != TAG_END) {
    at = push_value(L, at);
    at = push_value(L, at);
    lua_rawset(L, -3);
  }
  return at + 1;
}

static const char *push_value(lua_State *L, const char *at)
{
  luaL_checkstack(L, 4, "too many values");
  char tag = *at++;
  if (tag == TAG_NUMBER) {
    lua_Number number;
    memcpy(&number, at, sizeof(number));
    lua_pushnumber(L, number);
    return at + sizeof(number);
  }
  if (tag == TAG_STRING) {
    size_t len;
    memcpy(&len, at, sizeof(len));
    lua_pushlstring(L, at + sizeof(len), len);
    return at + sizeof(len) + len;
  }
  if (tag == TAG_TABLE) {
    return push_table(L, at);
  }
  if (tag == TAG_NIL) {
    lua_pushnil(L);
  } else {
    lua_pushboolean(L, tag == TAG_TRUE);
  }
  return at;
}

int work_copy_in(lua_State *L, const char *bytes, size_t len)
{
  int count = 0;
  for (const char *at = bytes, *end = bytes + len; at < end; count++) {
    at = push_value(L, at);
  }
  return count;
}
