// host.h: what every native module of the host shares.

#ifndef BEAMLENS_HOST_H
#define BEAMLENS_HOST_H

#include <lauxlib.h>
#include <lua.h>

// Pushes `nil, "CODE: text", "CODE"` for an error of libuv or errno (negative, as libuv has them).
// Returns 3, to be returned from a lua_CFunction.
int host_fail(lua_State *L, int uv_errno);

// Pushes `nil, "CODE: text", "CODE"` with a code of ours and a formatted text. Returns 3.
int host_failf(lua_State *L, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// Calls the Lua function that lies below `nargs` arguments on the stack, and pops all of them.
// The one way in which C enters Lua from the loop: an error is reported with its traceback through
// the hook that the runtime has set (host.set_error_hook; stderr without one), and counted.
// Returns the number of results left on the stack (`nresults`, or all with LUA_MULTRET), or -1.
int host_call(lua_State *L, int nargs, int nresults);

// Takes a reference to the value on top of the stack and pops it; host_unref() gives it back and
// sets *ref to LUA_NOREF. Both are counted: host.references() must be 0 at exit.
int host_ref(lua_State *L);
void host_unref(lua_State *L, int *ref);

// Pushes the value of a reference taken by host_ref().
void host_push_ref(lua_State *L, int ref);

#endif
