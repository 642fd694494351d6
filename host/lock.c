// lock.c: host.lock, a file that one process at a time can have.
//
//   local l = assert(lock.take("state/beamlens.db.lock"))
//   l:close()
//   lock.owner("state/beamlens.db.lock")    -- a process id, or nil

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#include "host.h"
#include "modules.h"

#define LOCK_TYPE "host.lock.Lock"

typedef struct Lock {
  int fd; // owned; -1 once closed
} Lock;

// take(path) -> lock | nil, err, code, pid
// ELOCKED: the process `pid` has it. It is given back when the process ends, however it ends.
static int l_take(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  Lock *lock = lua_newuserdata(L, sizeof(*lock));
  lock->fd = -1;
  luaL_getmetatable(L, LOCK_TYPE);
  lua_setmetatable(L, -2);

  lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock->fd < 0) {
    return host_fail(L, -errno);
  }
  struct flock wanted = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (fcntl(lock->fd, F_SETLK, &wanted) == 0) {
    return 1;
  }
  int err = errno;
  if (err != EACCES && err != EAGAIN) {
    return host_fail(L, -err);
  }
  struct flock holder = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  bool known = fcntl(lock->fd, F_GETLK, &holder) == 0 && holder.l_type != F_UNLCK;
  int count = host_failf(L, "ELOCKED", "another process has it");
  lua_pushinteger(L, known ? holder.l_pid : 0);
  return count + 1;
}

// lock:close(): gives it back. May be called twice.
static int l_close(lua_State *L)
{
  Lock *lock = luaL_checkudata(L, 1, LOCK_TYPE);
  if (lock->fd >= 0) {
    close(lock->fd);
    lock->fd = -1;
  }
  return 0;
}

// owner(path) -> pid | nil
// The process that has the lock; nil also where there is no such file. Not for a process that may
// have it itself: closing any descriptor of the file gives its lock back.
static int l_owner(lua_State *L)
{
  int fd = open(luaL_checkstring(L, 1), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return 0;
  }
  struct flock holder = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  bool known = fcntl(fd, F_GETLK, &holder) == 0 && holder.l_type != F_UNLCK;
  close(fd);
  if (!known) {
    return 0;
  }
  lua_pushinteger(L, holder.l_pid);
  return 1;
}

static const luaL_Reg functions[] = {{"take", l_take}, {"owner", l_owner}, {NULL, NULL}};

static const luaL_Reg methods[] = {{"close", l_close}, {NULL, NULL}};

static const luaL_Reg metamethods[] = {{"__gc", l_close}, {NULL, NULL}};

int luaopen_host_lock(lua_State *L)
{
  luaL_newmetatable(L, LOCK_TYPE);
  luaL_setfuncs(L, metamethods, 0);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);

  luaL_newlib(L, functions);
  return 1;
}
