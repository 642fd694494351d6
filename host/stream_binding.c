// stream_binding.c: parsers of streams as Lua objects.

#include "stream_binding.h"

#include <stdalign.h>
#include <stdint.h>

struct StreamBinding {
  const StreamKind *kind; // borrowed
  lua_State *L;           // borrowed; the caller of feed() or finish() while one runs, else NULL
  alignas(uint64_t) char parser[]; // Lua's own memory is aligned to 8 bytes, not to max_align_t
};

// The kind is the methods' upvalue.
static StreamBinding *check_binding(lua_State *L)
{
  const StreamKind *kind = lua_touserdata(L, lua_upvalueindex(1));
  return luaL_checkudata(L, 1, kind->type);
}

// check_idle(L) -> the parser; raises when its handler calls it
static StreamBinding *check_idle(lua_State *L)
{
  StreamBinding *s = check_binding(L);
  luaL_argcheck(L, !s->L, 1, "the parser is used by its own handler");
  return s;
}

lua_State *stream_take_handler(StreamBinding *s)
{
  lua_getfenv(s->L, 1);
  lua_getfield(s->L, -1, "handler");
  lua_remove(s->L, -2);
  return s->L;
}

bool stream_give(StreamBinding *s)
{
  return lua_pcall(s->L, 1, 0, 0) == 0;
}

static int push_status(lua_State *L, const StreamKind *kind, StreamStatus status, bool raised)
{
  switch (status) {
  case STREAM_OK:
    lua_pushboolean(L, 1);
    return 1;
  case STREAM_TOO_BIG:
    return host_failf(L, "ETOOBIG", "%s of the stream has more than %zu bytes", kind->item,
                      kind->max_item);
  case STREAM_CORRUPT:
    return host_failf(L, "ECRC", "%s of the stream is damaged: its checksum is wrong", kind->item);
  case STREAM_INVALID:
    return host_failf(L, "EFRAME", "%s of the stream is malformed", kind->item);
  case STREAM_CUT:
    return host_failf(L, "ECUT", "the stream ended inside %s", kind->item);
  case STREAM_NO_MEMORY:
    return host_failf(L, "ENOMEM", "not enough memory");
  case STREAM_STOPPED:
    break;
  }
  if (raised) {
    return lua_error(L);
  }
  return host_failf(L, "ECANCELED", "the handler of the stream failed before");
}

static int l_feed(lua_State *L)
{
  StreamBinding *s = check_idle(L);
  size_t len;
  const char *bytes = luaL_checklstring(L, 2, &len);
  lua_settop(L, 2);
  s->L = L;
  StreamStatus status = s->kind->feed(s->parser, bytes, len);
  s->L = NULL;
  return push_status(L, s->kind, status, lua_gettop(L) > 2);
}

static int l_finish(lua_State *L)
{
  StreamBinding *s = check_idle(L);
  lua_settop(L, 1);
  s->L = L;
  StreamStatus status = s->kind->finish(s->parser);
  s->L = NULL;
  return push_status(L, s->kind, status, lua_gettop(L) > 1);
}

static int l_new(lua_State *L)
{
  const StreamKind *kind = lua_touserdata(L, lua_upvalueindex(1));
  luaL_checktype(L, 1, LUA_TFUNCTION);
  StreamBinding *s = lua_newuserdata(L, sizeof(*s) + kind->size);
  s->kind = kind;
  s->L = NULL;
  kind->init(s->parser, s);
  luaL_setmetatable(L, kind->type);
  lua_createtable(L, 0, 1);
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "handler");
  lua_setfenv(L, -2);
  return 1;
}

static int l_gc(lua_State *L)
{
  StreamBinding *s = check_binding(L);
  s->kind->close(s->parser);
  return 0;
}

static const luaL_Reg functions[] = {
    {"new", l_new},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"feed", l_feed},
    {"finish", l_finish},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", l_gc},
    {NULL, NULL},
};

// Adds functions to the table on top. Their upvalue is the kind.
static void add_functions(lua_State *L, const luaL_Reg *list, const StreamKind *kind)
{
  for (; list->name; list++) {
    lua_pushlightuserdata(L, (void *)kind);
    lua_pushcclosure(L, list->func, 1);
    lua_setfield(L, -2, list->name);
  }
}

int stream_open(lua_State *L, const StreamKind *kind)
{
  luaL_newmetatable(L, kind->type);
  add_functions(L, metamethods, kind);
  lua_newtable(L);
  add_functions(L, methods, kind);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);

  lua_newtable(L);
  add_functions(L, functions, kind);
  return 1;
}
