// modules.c: the table of native modules, and the Lua files embedded in the binary.
//
// Nothing is opened here: package.preload gets an opener per name, so that what a command does
// not use costs neither time nor memory.

#include "modules.h"

#include <string.h>

#include <lauxlib.h>
#include <lua-cjson.h>
#include <lua-lpeg.h>
#include <luv/luv.h>

#include "embedded.h"

// One module a line.
// clang-format off
static const luaL_Reg natives[] = {
    {"host.core", luaopen_host_core},
    {"host.crypto", luaopen_host_crypto},
    {"host.dist", luaopen_host_dist},
    {"host.eventstream", luaopen_host_eventstream},
    {"host.http", luaopen_host_http},
    {"host.json", luaopen_host_json},
    {"host.lock", luaopen_host_lock},
    {"host.ndjson", luaopen_host_ndjson},
    {"host.process", luaopen_host_process},
    {"host.sse", luaopen_host_sse},
    {"host.sandbox", luaopen_host_sandbox},
    {"host.store", luaopen_host_store},
    {"host.watchdog", luaopen_host_watchdog},
    {"host.words", luaopen_host_words},
    {"host.work", luaopen_host_work},
    {"luv", luaopen_luv},
    {"cjson", luaopen_cjson},
    {"cjson.safe", luaopen_cjson_safe},
    {"lpeg", luaopen_lpeg},
    {NULL, NULL},
};
// clang-format on

// Opens an embedded Lua module; its index in `embedded` is the upvalue.
static int open_embedded(lua_State *L)
{
  const Embedded *file = &embedded[lua_tointeger(L, lua_upvalueindex(1))];
  lua_pushfstring(L, "@%s", file->path);
  if (luaL_loadbufferx(L, file->start, (size_t)(file->end - file->start), lua_tostring(L, -1),
                       "t") != 0) {
    return lua_error(L);
  }
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

// "runtime/providers/rules.lua" is the module "runtime.providers.rules".
static void push_module_name(lua_State *L, const char *path)
{
  size_t len = strlen(path) - strlen(".lua");
  luaL_Buffer name;
  luaL_buffinit(L, &name);
  for (size_t i = 0; i < len; i++) {
    luaL_addchar(&name, path[i] == '/' ? '.' : path[i]);
  }
  luaL_pushresult(&name);
}

// The module "orders.db" is "domains/orders/db.lua"; a domain itself is no module.
static int find_domain_module(lua_State *L)
{
  const char *name = luaL_checkstring(L, 1);
  lua_pushliteral(L, "domains.");
  lua_pushvalue(L, 1);
  lua_concat(L, 2);
  const char *wanted = lua_tostring(L, -1);
  for (int i = 0; strchr(name, '.') && embedded[i].path; i++) {
    push_module_name(L, embedded[i].path);
    if (strcmp(wanted, lua_tostring(L, -1)) == 0) {
      lua_pushinteger(L, i);
      lua_pushcclosure(L, open_embedded, 1);
      return 1;
    }
    lua_pop(L, 1);
  }
  lua_pushfstring(L, "\n\tno module '%s' among the built-in domains", name);
  return 1;
}

void modules_find_in_domains(lua_State *L)
{
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "loaders");
  lua_pushcfunction(L, find_domain_module);
  lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
  lua_pop(L, 2);
}

void modules_register(lua_State *L)
{
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  for (const luaL_Reg *m = natives; m->name; m++) {
    lua_pushcfunction(L, m->func);
    lua_setfield(L, -2, m->name);
  }
  for (int i = 0; embedded[i].path; i++) {
    push_module_name(L, embedded[i].path);
    lua_pushinteger(L, i);
    lua_pushcclosure(L, open_embedded, 1);
    lua_settable(L, -3);
  }
  lua_pop(L, 2);
}
