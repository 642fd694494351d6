// main.c: the process. Makes the trusted Lua state on libuv's loop, hands it the native modules and
// the embedded Lua files, and runs runtime/main.lua with the command line.

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <luv/luv.h>
#include <uv.h>

#include "host.h"
#include "modules.h"

#define SETTLE_MS 500

// luv enters Lua through here: host_call() under the signature that luv wants.
static int enter_lua(lua_State *L, int nargs, int nresults, int flags)
{
  (void)flags;
  int results = host_call(L, nargs, nresults);
  return results >= 0 ? results : -LUA_ERRRUN;
}

static int traceback(lua_State *L)
{
  if (!lua_isstring(L, 1)) {
    return 1;
  }
  luaL_traceback(L, L, lua_tostring(L, 1), 1);
  return 1;
}

// Runs require("runtime.main")(arguments) -> exit status.
static int run_main(lua_State *L, int argc, char **argv)
{
  lua_pushcfunction(L, traceback);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "runtime.main");
  int failed = lua_pcall(L, 1, 1, -3);
  if (!failed) {
    lua_createtable(L, argc - 1, 1);
    for (int i = 0; i < argc; i++) {
      lua_pushstring(L, argv[i]);
      lua_rawseti(L, -2, i);
    }
    failed = lua_pcall(L, 1, 1, -3);
  }
  if (failed) {
    const char *text = lua_tostring(L, -1);
    fprintf(stderr, "beamlens: internal error: %s\n", text ? text : "?");
    return 1;
  }
  return (int)lua_tointeger(L, -1);
}

static void count_open(uv_handle_t *handle, void *arg)
{
  int *count = arg;
  *count += !uv_is_closing(handle);
}

static int open_handles(uv_loop_t *loop)
{
  int count = 0;
  uv_walk(loop, count_open, &count);
  return count;
}

static void on_too_late(uv_timer_t *timer)
{
  uv_stop(timer->loop);
}

// Runs the loop until no handle is open, for SETTLE_MS at the most: a child process that was told
// to end takes a moment. True when none is left.
static int run_dry(uv_loop_t *loop)
{
  static uv_timer_t limit;
  uv_timer_init(loop, &limit);
  // Not unreferenced: a loop that waits for nothing else would not look at its timers.
  uv_timer_start(&limit, on_too_late, SETTLE_MS, 0);
  while (open_handles(loop) > 1 && uv_is_active((uv_handle_t *)&limit)) {
    uv_run(loop, UV_RUN_ONCE);
  }
  uv_close((uv_handle_t *)&limit, NULL);
  uv_run(loop, UV_RUN_NOWAIT);
  return open_handles(loop) == 0;
}

// A standard descriptor that is closed would become the next file or socket. It is held open, so
// that reading there ends at once, and writing fails.
static int hold_standard_descriptors(void)
{
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd) {
      return -1;
    }
  }
  return 0;
}

int main(int argc, char **argv)
{
  signal(SIGPIPE, SIG_IGN);
  if (hold_standard_descriptors() != 0) {
    return 1;
  }
  argv = uv_setup_args(argc, argv);

  // Static: signals may still come while the process exits, and find their handles by the loop.
  static uv_loop_t loop;
  if (uv_loop_init(&loop) != 0) {
    fputs("beamlens: cannot make an event loop\n", stderr);
    return 1;
  }
  lua_State *L = luaL_newstate();
  if (!L) {
    fputs("beamlens: not enough memory\n", stderr);
    return 1;
  }
  luaL_openlibs(L);
  luv_set_loop(L, &loop);
  luv_set_callback(L, enter_lua);
  modules_register(L);

  int status = run_main(L, argc, argv);

  // What was closed has its callbacks called while the state still stands: luv's need it. Where a
  // handle stays open even so, the process ends at once, without taking the state down under it.
  if (!run_dry(&loop)) {
    fflush(NULL);
    _exit(status);
  }
  lua_close(L);
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  uv_library_shutdown();
  return status;
}
