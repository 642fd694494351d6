// sse.c: host.sse, an incremental parser of event streams.
//
//   local parser = sse.new(function(event) print(event.event, event.data) end)
//   assert(parser:feed(bytes))   -- nil, err, code when one event is too big
//   assert(parser:finish())

#include "host.h"

#include "modules.h"
#include "sse_parser.h"

#define SSE_TYPE "host.sse.parser"

typedef struct Sse {
  SseParser parser; // owns its buffers
  lua_State *L;     // borrowed; the caller of feed() or finish() while one runs, else NULL
} Sse;

// check_idle(L) -> the parser; raises when the handler calls it
static Sse *check_idle(lua_State *L)
{
  Sse *s = luaL_checkudata(L, 1, SSE_TYPE);
  luaL_argcheck(L, !s->L, 1, "the parser is used by its own handler");
  return s;
}

// Calls the Lua handler. An error stops the parser and stays on the stack.
static bool on_event(void *arg, const char *event, size_t event_len, const char *data,
                     size_t data_len)
{
  Sse *s = arg;
  lua_State *L = s->L;
  lua_getfenv(L, 1);
  lua_getfield(L, -1, "on_event");
  lua_remove(L, -2);
  lua_createtable(L, 0, 2);
  lua_pushlstring(L, event, event_len);
  lua_setfield(L, -2, "event");
  lua_pushlstring(L, data, data_len);
  lua_setfield(L, -2, "data");
  return lua_pcall(L, 1, 0, 0) == 0;
}

static int push_status(lua_State *L, SseStatus status, bool raised)
{
  switch (status) {
  case SSE_OK:
    lua_pushboolean(L, 1);
    return 1;
  case SSE_TOO_BIG:
    return host_failf(L, "ETOOBIG", "an event of the stream has more than %zu bytes",
                      SSE_MAX_EVENT);
  case SSE_NO_MEMORY:
    return host_failf(L, "ENOMEM", "not enough memory");
  case SSE_STOPPED:
    break;
  }
  if (raised) {
    return lua_error(L);
  }
  return host_failf(L, "ECANCELED", "the handler of the stream failed before");
}

// feed(bytes) -> true | nil, err, code
// Calls the handler for each event that is now whole. Its error is raised here, and the parser is
// then stopped. ETOOBIG: one event has more than 1 MiB.
static int l_feed(lua_State *L)
{
  Sse *s = check_idle(L);
  size_t len;
  const char *bytes = luaL_checklstring(L, 2, &len);
  lua_settop(L, 2);
  s->L = L;
  SseStatus status = sse_feed(&s->parser, bytes, len);
  s->L = NULL;
  return push_status(L, status, lua_gettop(L) > 2);
}

// finish() -> true | nil, err, code
// The stream has ended: an event that lacks its blank line is handed over.
static int l_finish(lua_State *L)
{
  Sse *s = check_idle(L);
  lua_settop(L, 2);
  s->L = L;
  SseStatus status = sse_finish(&s->parser);
  s->L = NULL;
  return push_status(L, status, lua_gettop(L) > 2);
}

// new(on_event) -> parser
// `on_event({event=, data=})` is called by feed() and finish(), once per event that has data.
static int l_new(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TFUNCTION);
  Sse *s = lua_newuserdata(L, sizeof(*s));
  sse_init(&s->parser, on_event, s);
  s->L = NULL;
  luaL_setmetatable(L, SSE_TYPE);
  lua_createtable(L, 0, 1);
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "on_event");
  lua_setfenv(L, -2);
  return 1;
}

static int l_gc(lua_State *L)
{
  Sse *s = luaL_checkudata(L, 1, SSE_TYPE);
  sse_close(&s->parser);
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

int luaopen_host_sse(lua_State *L)
{
  luaL_newmetatable(L, SSE_TYPE);
  luaL_setfuncs(L, metamethods, 0);
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);

  luaL_newlib(L, functions);
  return 1;
}
