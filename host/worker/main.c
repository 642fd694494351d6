// main.c: the zygote of the sandbox. Waits on its control socket with a warm Lua state and forks a
// child for each script. Ends when the host closes the socket; the children end with it.

#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define MAX_CHILDREN 64

typedef struct Child {
  uint64_t id;
  pid_t pid; // 0: free
} Child;

static Child children[MAX_CHILDREN];
static int ended_fd; // signalfd for SIGCHLD

// LuaJIT refers to the loader; the linker turns that to these (--wrap). There is nothing to load.
void *__wrap_dlopen(const char *file, int mode);
void *__wrap_dlsym(void *handle, const char *name);
int __wrap_dlclose(void *handle);
char *__wrap_dlerror(void);

void *__wrap_dlopen(const char *file, int mode)
{
  (void)file;
  (void)mode;
  return NULL;
}

void *__wrap_dlsym(void *handle, const char *name)
{
  (void)handle;
  (void)name;
  return NULL;
}

int __wrap_dlclose(void *handle)
{
  (void)handle;
  return 0;
}

char *__wrap_dlerror(void)
{
  return NULL;
}

// The host has gone or has had enough. The children are reaped here: in a container nobody else
// may.
static _Noreturn void end_all(void)
{
  for (Child *child = children; child < children + MAX_CHILDREN; child++) {
    if (child->pid) {
      kill(child->pid, SIGKILL);
    }
  }
  while (waitpid(-1, NULL, 0) > 0) {
  }
  _exit(0);
}

static void tell(uint32_t type, uint64_t id, int32_t value, const char *text)
{
  ControlMessage message = {.type = type, .id = id, .value = value};
  if (text) {
    snprintf(message.text, sizeof(message.text), "%s", text);
  }
  if (send(CONTROL_FD, &message, sizeof(message), MSG_NOSIGNAL) != sizeof(message)) {
    end_all();
  }
}

static void block_signals(int how)
{
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(how, &set, NULL);
}

static _Noreturn void become_child(lua_State *L, int channel, pid_t zygote)
{
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != zygote) {
    _exit(0);
  }
  close(ended_fd);
  if (dup2(channel, CHANNEL_FD) != CHANNEL_FD) {
    _exit(EXIT_BAD_REQUEST);
  }
  for (int fd = 0; fd < channel; fd++) {
    if (fd != CHANNEL_FD) {
      close(fd);
    }
  }
  close(channel);
  block_signals(SIG_UNBLOCK);
  jail_limit();
  child_main(L);
}

static void start_child(lua_State *L, uint64_t id, int channel)
{
  Child *child = children;
  while (child < children + MAX_CHILDREN && child->pid) {
    child++;
  }
  if (child == children + MAX_CHILDREN) {
    close(channel);
    tell(CONTROL_STARTED, id, -EAGAIN, NULL);
    return;
  }
  pid_t zygote = getpid();
  pid_t pid = fork();
  if (pid == 0) {
    become_child(L, channel, zygote);
  }
  int error = errno;
  close(channel);
  if (pid > 0) {
    *child = (Child){.id = id, .pid = pid};
  }
  tell(CONTROL_STARTED, id, pid > 0 ? pid : -error, NULL);
}

static void kill_child(uint64_t id)
{
  for (Child *child = children; child < children + MAX_CHILDREN; child++) {
    if (child->pid && child->id == id) {
      kill(child->pid, SIGKILL);
    }
  }
}

static void reap_children(void)
{
  struct signalfd_siginfo info;
  while (read(ended_fd, &info, sizeof(info)) == sizeof(info)) {
  }
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    for (Child *child = children; child < children + MAX_CHILDREN; child++) {
      if (child->pid == pid) {
        child->pid = 0;
        tell(CONTROL_EXITED, child->id, status, NULL);
      }
    }
  }
}

static int received_fd(struct msghdr *header)
{
  struct cmsghdr *part = CMSG_FIRSTHDR(header);
  int fd = -1;
  if (part && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
    memcpy(&fd, CMSG_DATA(part), sizeof(fd));
  }
  return fd;
}

static void take_command(lua_State *L)
{
  ControlMessage message;
  struct iovec part = {.iov_base = &message, .iov_len = sizeof(message)};
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } rights;
  struct msghdr header = {.msg_iov = &part,
                          .msg_iovlen = 1,
                          .msg_control = rights.bytes,
                          .msg_controllen = sizeof(rights.bytes)};
  ssize_t n = recvmsg(CONTROL_FD, &header, 0);
  if (n < 0 && errno == EINTR) {
    return;
  }
  if (n != sizeof(message)) {
    end_all();
  }
  int channel = received_fd(&header);
  if (message.type == CONTROL_FORK && channel >= 0) {
    start_child(L, message.id, channel);
  } else if (message.type == CONTROL_KILL) {
    kill_child(message.id);
  }
}

static _Noreturn void broken(const char *why)
{
  tell(CONTROL_BROKEN, 0, 0, why);
  _exit(EXIT_BAD_REQUEST);
}

// Nothing of the host comes along: no descriptor, no environment, no signal setting.
static void leave_host(void)
{
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  for (int signal_nr = 1; signal_nr < 32; signal_nr++) {
    signal(signal_nr, SIG_DFL);
  }
  if (close_range(CONTROL_FD + 1, ~0u, 0) != 0) {
    for (int fd = CONTROL_FD + 1; fd < 4096; fd++) {
      close(fd);
    }
  }
  clearenv();
  putenv((char *)"TZ=UTC0");
  tzset(); // looks for a file of that name, which a child must not
}

int main(void)
{
  leave_host();
  const char *problem = jail_prepare();
  if (problem) {
    broken(problem);
  }
  jail_isolate();
  // After the change of user, which resets both.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_DUMPABLE, 0);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    broken("the kernel has no no_new_privs");
  }
  lua_State *L = environment_new();
  if (!L) {
    broken("not enough memory");
  }
  block_signals(SIG_BLOCK);
  sigset_t ended;
  sigemptyset(&ended);
  sigaddset(&ended, SIGCHLD);
  ended_fd = signalfd(-1, &ended, SFD_NONBLOCK | SFD_CLOEXEC);
  tell(CONTROL_READY, 0, 0, NULL);

  struct pollfd fds[] = {{.fd = CONTROL_FD, .events = POLLIN}, {.fd = ended_fd, .events = POLLIN}};
  for (;;) {
    if (poll(fds, 2, -1) < 0 && errno != EINTR) {
      _exit(EXIT_BAD_REQUEST);
    }
    if (fds[1].revents) {
      reap_children();
    }
    if (fds[0].revents) {
      take_command(L);
    }
  }
}
