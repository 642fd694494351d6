// ndjson.c: host.ndjson, an incremental splitter of streams with one JSON text a line.
//
//   local splitter = ndjson.new(function(line) print(line) end)
//   assert(splitter:feed(bytes))   -- nil, err, code when a line is too long
//   assert(splitter:finish())

#include "host.h"

#include "modules.h"
#include "ndjson_splitter.h"

#define NDJSON_TYPE "host.ndjson.splitter"

typedef struct Ndjson {
  NdjsonSplitter splitter; // owns its buffer
  lua_State *L;            // borrowed; the caller of feed() or finish() while one runs, else NULL
} Ndjson;

// check_idle(L) -> the splitter; raises when the handler calls it
static Ndjson *check_idle(lua_State *L)
{
  Ndjson *s = luaL_checkudata(L, 1, NDJSON_TYPE);
  luaL_argcheck(L, !s->L, 1, "the splitter is used by its own handler");
  return s;
}

// Calls the Lua handler. An error stops the splitter and stays on the stack.
static bool on_line(void *arg, const char *line, size_t len)
{
  Ndjson *s = arg;
  lua_State *L = s->L;
  lua_getfenv(L, 1);
  lua_getfield(L, -1, "on_line");
  lua_remove(L, -2);
  lua_pushlstring(L, line, len);
  return lua_pcall(L, 1, 0, 0) == 0;
}

static int push_status(lua_State *L, NdjsonStatus status, bool raised)
{
  switch (status) {
  case NDJSON_OK:
    lua_pushboolean(L, 1);
    return 1;
  case NDJSON_TOO_BIG:
    return host_failf(L, "ETOOBIG", "a line of the stream has more than %zu bytes",
                      NDJSON_MAX_LINE);
  case NDJSON_NO_MEMORY:
    return host_failf(L, "ENOMEM", "not enough memory");
  case NDJSON_STOPPED:
    break;
  }
  if (raised) {
    return lua_error(L);
  }
  return host_failf(L, "ECANCELED", "the handler of the stream failed before");
}

// feed(bytes) -> true | nil, err, code
// Calls the handler for each line that is now whole. Its error is raised here, and the splitter is
// then stopped. ETOOBIG: a line has more than 1 MiB.
static int l_feed(lua_State *L)
{
  Ndjson *s = check_idle(L);
  size_t len;
  const char *bytes = luaL_checklstring(L, 2, &len);
  lua_settop(L, 2);
  s->L = L;
  NdjsonStatus status = ndjson_feed(&s->splitter, bytes, len);
  s->L = NULL;
  return push_status(L, status, lua_gettop(L) > 2);
}

// finish() -> true | nil, err, code
// The stream has ended: a line that lacks its end is handed over.
static int l_finish(lua_State *L)
{
  Ndjson *s = check_idle(L);
  lua_settop(L, 2);
  s->L = L;
  NdjsonStatus status = ndjson_finish(&s->splitter);
  s->L = NULL;
  return push_status(L, status, lua_gettop(L) > 2);
}

// new(on_line) -> splitter
// `on_line(text)` is called by feed() and finish(), once per line that is not blank, without its
// end and the space around it.
static int l_new(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TFUNCTION);
  Ndjson *s = lua_newuserdata(L, sizeof(*s));
  ndjson_init(&s->splitter, on_line, s);
  s->L = NULL;
  luaL_setmetatable(L, NDJSON_TYPE);
  lua_createtable(L, 0, 1);
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "on_line");
  lua_setfenv(L, -2);
  return 1;
}

static int l_gc(lua_State *L)
{
  Ndjson *s = luaL_checkudata(L, 1, NDJSON_TYPE);
  ndjson_close(&s->splitter);
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

int luaopen_host_ndjson(lua_State *L)
{
  luaL_newmetatable(L, NDJSON_TYPE);
  luaL_setfuncs(L, metamethods, 0);
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);

  luaL_newlib(L, functions);
  return 1;
}
