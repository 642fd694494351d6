// probe.c: the jail tried from inside. Linked into the worker that make builds for the specs, where
// scripts have two functions more:
//
//   probe("open")   makes one system call; returns its result and errno if it lives to do so
//   raw(bytes)      writes bytes of any kind to the host

#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define X32 0x40000000L
#define PAGE 4096L

typedef struct Probe {
  const char *name;
  long number;
  long args[6];
} Probe;

static char text[64] = "/tmp/x";
static uint64_t words[64];
static struct msghdr message;
static char *const no_strings[] = {NULL};

#define P(pointer) ((long)(intptr_t)(pointer))

static const Probe probes[] = {
    {"open", SYS_open, {P(text), O_RDONLY}},
    {"creat", SYS_creat, {P(text), 0600}},
    {"openat", SYS_openat, {AT_FDCWD, P(text), O_RDWR | O_CREAT, 0600}},
    {"openat2", SYS_openat2, {AT_FDCWD, P(text), P(words), 24}},
    {"stat", SYS_stat, {P(text), P(words)}},
    {"unlink", SYS_unlink, {P(text)}},
    {"memfd_create", SYS_memfd_create, {P(text), 0}},
    {"socket", SYS_socket, {AF_INET, SOCK_STREAM, 0}},
    {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, P(words)}},
    {"connect", SYS_connect, {CHANNEL_FD, P(words), 16}},
    {"sendto", SYS_sendto, {CHANNEL_FD, P(text), 1, 0, 0, 0}},
    {"recvfrom", SYS_recvfrom, {CHANNEL_FD, P(text), 1, MSG_DONTWAIT, 0, 0}},
    {"sendmsg", SYS_sendmsg, {CHANNEL_FD, P(&message), 0}},
    {"recvmsg", SYS_recvmsg, {CHANNEL_FD, P(&message), MSG_DONTWAIT}},
    {"execve", SYS_execve, {P("/bin/true"), P(no_strings), P(no_strings)}},
    {"execveat", SYS_execveat, {AT_FDCWD, P("/bin/true"), P(no_strings), P(no_strings), 0}},
    {"fork", SYS_fork, {0}},
    {"vfork", SYS_vfork, {0}},
    {"clone", SYS_clone, {SIGCHLD}},
    {"clone3", SYS_clone3, {P(words), 64}},
    {"kill", SYS_kill, {1, 0}},
    {"tgkill", SYS_tgkill, {1, 1, 0}},
    {"pidfd_open", SYS_pidfd_open, {1, 0}},
    {"ptrace", SYS_ptrace, {PTRACE_TRACEME}},
    {"process_vm_readv", SYS_process_vm_readv, {1, P(words), 1, P(words), 1, 0}},
    {"process_vm_writev", SYS_process_vm_writev, {1, P(words), 1, P(words), 1, 0}},
    {"mprotect", SYS_mprotect, {P(words), PAGE, PROT_READ | PROT_EXEC}},
    {"pkey_mprotect", SYS_pkey_mprotect, {P(words), PAGE, PROT_EXEC, 0}},
    {"mmap_executable",
     SYS_mmap,
     {0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
    {"mmap_file", SYS_mmap, {0, PAGE, PROT_READ, MAP_PRIVATE, CHANNEL_FD, 0}},
    {"mmap_fixed",
     SYS_mmap,
     {0x10000, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0}},
    {"remap_file_pages", SYS_remap_file_pages, {P(words), PAGE, 0, 0, 0}},
    {"userfaultfd", SYS_userfaultfd, {0}},
    {"read_stdin", SYS_read, {0, P(text), 1}},
    {"write_stdout", SYS_write, {1, P(text), 1}},
    {"write_stderr", SYS_write, {2, P(text), 1}},
    {"read_other", SYS_read, {CHANNEL_FD + 1, P(text), 1}},
    {"write_other", SYS_write, {1000, P(text), 1}},
    {"writev", SYS_writev, {CHANNEL_FD, P(words), 0}},
    {"pread", SYS_pread64, {CHANNEL_FD, P(text), 1, 0}},
    {"dup", SYS_dup, {CHANNEL_FD}},
    {"dup2", SYS_dup2, {CHANNEL_FD, 1}},
    {"fcntl", SYS_fcntl, {CHANNEL_FD, F_GETFD}},
    {"ioctl", SYS_ioctl, {CHANNEL_FD, 0, 0}},
    {"close", SYS_close, {1000}},
    {"prctl", SYS_prctl, {PR_GET_DUMPABLE}},
    {"seccomp", SYS_seccomp, {2, 0, P(words)}},
    {"arch_prctl", SYS_arch_prctl, {0x1003, P(words)}},
    {"io_uring_setup", SYS_io_uring_setup, {1, P(words)}},
    {"io_setup", SYS_io_setup, {1, P(words)}},
    {"bpf", SYS_bpf, {0, P(words), 64}},
    {"perf_event_open", SYS_perf_event_open, {P(words), 0, -1, -1, 0}},
    {"keyctl", SYS_keyctl, {0, 0, 0}},
    {"rt_sigaction", SYS_rt_sigaction, {SIGALRM, 0, P(words), 8}},
    {"rt_sigprocmask", SYS_rt_sigprocmask, {SIG_BLOCK, 0, P(words), 8}},
    {"timer_delete", SYS_timer_delete, {0}},
    {"timer_settime", SYS_timer_settime, {0, 0, P(words), 0}},
    {"setitimer", SYS_setitimer, {0, P(words), 0}},
    {"prlimit64", SYS_prlimit64, {0, RLIMIT_CPU, 0, P(words)}},
    {"setrlimit", SYS_setrlimit, {RLIMIT_AS, P(words)}},
    {"unshare", SYS_unshare, {0}},
    {"setns", SYS_setns, {CHANNEL_FD, 0}},
    {"mount", SYS_mount, {P(text), P(text), P(text), 0, 0}},
    {"chroot", SYS_chroot, {P(text)}},
    {"setuid", SYS_setuid, {0}},
    {"capset", SYS_capset, {P(words), P(words)}},
    {"personality", SYS_personality, {0xffffffff}},
    {"modify_ldt", SYS_modify_ldt, {0, P(words), 8}},
    {"getpid", SYS_getpid, {0}},
    {"uname", SYS_uname, {P(words)}},
    {"sysinfo", SYS_sysinfo, {P(words)}},
    {"nanosleep", SYS_nanosleep, {P(words), 0}},
    {"poll", SYS_poll, {0, 0, 0}},
    {"shmget", SYS_shmget, {0, PAGE, 0600}},
    {"no_such_call", 100000, {0}},
    {"x32_getpid", X32 | SYS_getpid, {0}},
    {"x32_write", X32 | SYS_write, {CHANNEL_FD, P(text), 0}},
    // What a script's run needs.
    {"mmap_private",
     SYS_mmap,
     {0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
    {"brk", SYS_brk, {0}},
    {"munmap", SYS_munmap, {0x10000, PAGE}},
    {"futex", SYS_futex, {P(words), FUTEX_WAKE, 1}},
    {"clock_gettime", SYS_clock_gettime, {CLOCK_MONOTONIC, P(words)}},
    {"gettimeofday", SYS_gettimeofday, {P(words), 0}},
    {NULL, 0, {0}},
};

static int push_result(lua_State *L, long result)
{
  int error = errno;
  lua_pushnumber(L, (lua_Number)result);
  lua_pushinteger(L, error);
  return 2;
}

// The 32-bit way into the kernel: getpid() is number 20 there.
static long enter_32_bit(void)
{
  long result = 20;
  __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
  return result;
}

static int l_probe(lua_State *L)
{
  const char *name = luaL_checkstring(L, 1);
  errno = 0;
  if (strcmp(name, "int80") == 0) {
    return push_result(L, enter_32_bit());
  }
  for (const Probe *probe = probes; probe->name; probe++) {
    if (strcmp(probe->name, name) == 0) {
      const long *a = probe->args;
      return push_result(L, syscall(probe->number, a[0], a[1], a[2], a[3], a[4], a[5]));
    }
  }
  return luaL_error(L, "no probe %s", name);
}

static int l_raw(lua_State *L)
{
  size_t len;
  const char *bytes = luaL_checklstring(L, 1, &len);
  while (len > 0) {
    ssize_t n = write(CHANNEL_FD, bytes, len);
    if (n <= 0) {
      return push_result(L, n);
    }
    bytes += n;
    len -= (size_t)n;
  }
  return 0;
}

void probe_add(lua_State *L)
{
  environment_add(L, "probe", l_probe);
  environment_add(L, "raw", l_raw);
}
