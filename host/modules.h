// modules.h: the native modules, each opened when Lua first requires it.

#ifndef BEAMLENS_MODULES_H
#define BEAMLENS_MODULES_H

#include <lua.h>

int luaopen_host_core(lua_State *L);
int luaopen_host_crypto(lua_State *L);
int luaopen_host_dist(lua_State *L);
int luaopen_host_eventstream(lua_State *L);
int luaopen_host_http(lua_State *L);
int luaopen_host_json(lua_State *L);
int luaopen_host_lock(lua_State *L);
int luaopen_host_ndjson(lua_State *L);
int luaopen_host_process(lua_State *L);
int luaopen_host_sse(lua_State *L);
int luaopen_host_sandbox(lua_State *L);
int luaopen_host_store(lua_State *L);
int luaopen_host_watchdog(lua_State *L);
int luaopen_host_words(lua_State *L);
int luaopen_host_work(lua_State *L);

// Of lua-cjson, whose header leaves it out.
int luaopen_cjson_safe(lua_State *L);

// Registers every native module and every embedded Lua module in package.preload.
void modules_register(lua_State *L);

// Lets `require` find, after all else, the modules in the folders of the built-in domains: those
// that a domain's blocking calls run. For a state that has nothing else of ours.
void modules_find_in_domains(lua_State *L);

#endif
