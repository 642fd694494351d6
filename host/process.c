// process.c: host.process, what a service is to the system: who is at the other end of a Unix
// socket, messages to the service manager, and an end that nothing holds up. libuv has none of it.
//
//   if process.peer_uid(pipe:fileno()) == process.uid() then … end
//   assert(process.notify("/run/systemd/notify", "READY=1"))
//   process.exit_at_second(uv.constants.SIGTERM, 130)

#include "host.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>

#include "modules.h"

// uid() -> the effective user id of this process
static int l_uid(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)geteuid());
  return 1;
}

// peer_uid(fd) -> uid | nil, err, code
// The user whose process is at the other end of a connected Unix socket, as the kernel saw it when
// the connection was made.
static int l_peer_uid(lua_State *L)
{
  int fd = luaL_checkint(L, 1);
  struct ucred peer;
  socklen_t size = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return host_fail(L, -errno);
  }
  lua_pushinteger(L, (lua_Integer)peer.uid);
  return 1;
}

// Fills in an address; a leading @ stands for the zero byte of an abstract one. Returns its size,
// or 0 when the path is none or too long.
static socklen_t address_of(const char *path, size_t len, struct sockaddr_un *address)
{
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  if ((path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof(address->sun_path)) {
    return 0;
  }
  memcpy(address->sun_path, path, len);
  if (path[0] == '@') {
    address->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
  }
  return (socklen_t)sizeof(*address);
}

// notify(path, text) -> true | nil, err, code
// Sends one datagram to a Unix socket, by its path or, abstract, by "@" and its name. Never waits:
// EAGAIN when the receiver's queue is full.
static int l_notify(lua_State *L)
{
  size_t path_len, len;
  const char *path = luaL_checklstring(L, 1, &path_len);
  const char *text = luaL_checklstring(L, 2, &len);
  struct sockaddr_un address;
  socklen_t size = address_of(path, path_len, &address);
  if (size == 0) {
    return host_failf(L, "EINVAL", "%s is no address of a Unix socket", path);
  }
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return host_fail(L, -errno);
  }
  ssize_t sent =
      sendto(fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address, size);
  int err = sent < 0 ? errno : 0;
  close(fd);
  if (err) {
    return host_fail(L, -err);
  }
  lua_pushboolean(L, 1);
  return 1;
}

// The loop hears of a signal at its next turn, which never comes while a call of C does not return.
static struct {
  void (*next[NSIG])(int); // libuv's own
  volatile sig_atomic_t count;
  int status;
} second;

static void on_signal(int signum)
{
  if (++second.count > 1) {
    _exit(second.status);
  }
  second.next[signum](signum);
}

// exit_at_second(signum, status)
// Of all signals for which this was called, and to which the loop listens already, the second one
// ends the process at once, whatever it does. For a signal that is over when the loop stops
// listening to it.
static int l_exit_at_second(lua_State *L)
{
  int signum = luaL_checkint(L, 1);
  second.status = luaL_checkint(L, 2);
  struct sigaction action;
  luaL_argcheck(L, signum > 0 && signum < NSIG && sigaction(signum, NULL, &action) == 0, 1,
                "no signal");
  luaL_argcheck(L, action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN, 1,
                "the loop does not listen to it");
  second.count = 0;
  if (action.sa_handler != on_signal) {
    second.next[signum] = action.sa_handler;
    action.sa_handler = on_signal;
    sigaction(signum, &action, NULL);
  }
  return 0;
}

static const luaL_Reg functions[] = {
    {"exit_at_second", l_exit_at_second},
    {"uid", l_uid},
    {"peer_uid", l_peer_uid},
    {"notify", l_notify},
    {NULL, NULL},
};

int luaopen_host_process(lua_State *L)
{
  luaL_newlib(L, functions);
  return 1;
}
