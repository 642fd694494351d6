// core.c: host.core, the few things that every part of the runtime needs from the process.
//
//   local core = require("host.core")
//   local source = core.embedded("runtime/main.lua")
//   core.set_error_hook(function(text) log:error(text) end)

#include "host.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <luv/luv.h>
#include <uv.h>

#include "embedded.h"
#include "modules.h"

#ifndef BEAMLENS_VERSION
#define BEAMLENS_VERSION "dev"
#endif

static int references;      // held by host_ref()
static int callback_errors; // errors that escaped a callback
static int error_hook = LUA_NOREF;

int host_fail(lua_State *L, int uv_errno)
{
  return host_failf(L, uv_err_name(uv_errno), "%s", uv_strerror(uv_errno));
}

int host_failf(lua_State *L, const char *code, const char *fmt, ...)
{
  char text[1024];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof(text), fmt, args);
  va_end(args);
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s", code, text);
  lua_pushstring(L, code);
  return 3;
}

static int add_traceback(lua_State *L)
{
  const char *text = lua_tostring(L, 1);
  luaL_traceback(L, L, text ? text : "(error object is not a string)", 1);
  return 1;
}

// Reports the error text on top of the stack and pops it.
static void report_error(lua_State *L)
{
  callback_errors++;
  if (error_hook != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, error_hook);
    lua_pushvalue(L, -2);
    if (lua_pcall(L, 1, 0, 0) == 0) {
      lua_pop(L, 1);
      return;
    }
    lua_pop(L, 1);
  }
  const char *text = lua_tostring(L, -1);
  fprintf(stderr, "beamlens: error in a callback: %s\n", text ? text : "?");
  lua_pop(L, 1);
}

int host_call(lua_State *L, int nargs, int nresults)
{
  int base = lua_gettop(L) - nargs;
  lua_pushcfunction(L, add_traceback);
  lua_insert(L, base);
  int status = lua_pcall(L, nargs, nresults, base);
  lua_remove(L, base);
  if (status != 0) {
    report_error(L);
    return -1;
  }
  return lua_gettop(L) - base + 1;
}

int host_ref(lua_State *L)
{
  references++;
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

void host_unref(lua_State *L, int *ref)
{
  if (*ref != LUA_NOREF) {
    luaL_unref(L, LUA_REGISTRYINDEX, *ref);
    *ref = LUA_NOREF;
    references--;
  }
}

void host_push_ref(lua_State *L, int ref)
{
  lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
}

// embedded(path) -> source | nil
// The text of a Lua file carried in the binary, by its path in the source tree.
static int l_embedded(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  for (const Embedded *file = embedded; file->path; file++) {
    if (strcmp(file->path, path) == 0) {
      lua_pushlstring(L, file->start, (size_t)(file->end - file->start));
      return 1;
    }
  }
  lua_pushnil(L);
  return 1;
}

// embedded_paths() -> list of the paths that embedded() knows
static int l_embedded_paths(lua_State *L)
{
  lua_newtable(L);
  for (int i = 0; embedded[i].path; i++) {
    lua_pushstring(L, embedded[i].path);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

// set_error_hook(fn | nil)
// `fn(text)` gets every error that escapes a callback of the loop, with its traceback.
static int l_set_error_hook(lua_State *L)
{
  if (!lua_isnoneornil(L, 1)) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
  }
  luaL_unref(L, LUA_REGISTRYINDEX, error_hook);
  error_hook = LUA_NOREF;
  if (!lua_isnoneornil(L, 1)) {
    lua_pushvalue(L, 1);
    error_hook = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  return 0;
}

// references() -> how many registry references native modules hold; 0 when all is closed
static int l_references(lua_State *L)
{
  lua_pushinteger(L, references);
  return 1;
}

// callback_errors() -> how many errors have escaped a callback since the start
static int l_callback_errors(lua_State *L)
{
  lua_pushinteger(L, callback_errors);
  return 1;
}

static void count_handle(uv_handle_t *handle, void *arg)
{
  lua_State *L = arg;
  if (uv_is_closing(handle)) {
    return;
  }
  const char *type = uv_handle_type_name(uv_handle_get_type(handle));
  lua_getfield(L, -1, type);
  lua_pushinteger(L, lua_tointeger(L, -1) + 1);
  lua_setfield(L, -3, type);
  lua_pop(L, 1);
}

// handles() -> table of type name -> count, total
// The loop's handles that are not closing. Unlike uv.walk it sees those of native modules too.
static int l_handles(lua_State *L)
{
  lua_newtable(L);
  uv_walk(luv_loop(L), count_handle, L);
  lua_Integer total = 0;
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    total += lua_tointeger(L, -1);
  }
  lua_pushinteger(L, total);
  return 2;
}

static const luaL_Reg functions[] = {
    {"embedded", l_embedded},
    {"embedded_paths", l_embedded_paths},
    {"set_error_hook", l_set_error_hook},
    {"handles", l_handles},
    {"references", l_references},
    {"callback_errors", l_callback_errors},
    {NULL, NULL},
};

int luaopen_host_core(lua_State *L)
{
  luaL_newlib(L, functions);
  lua_pushliteral(L, BEAMLENS_VERSION);
  lua_setfield(L, -2, "version");
  return 1;
}
