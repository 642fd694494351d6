// modules.h: the native modules, each opened when Lua first requires it.

#ifndef BEAMLENS_MODULES_H
#define BEAMLENS_MODULES_H

#include <lua.h>

int luaopen_host_core(lua_State *L);

// Registers every native module and every embedded Lua module in package.preload.
void modules_register(lua_State *L);

#endif
