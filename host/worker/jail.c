// jail.c: takes rights away from the zygote and, more, from its children.

#include "worker.h"

#include <errno.h>
#include <grp.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define NOBODY 65534
#define ADDRESS_SPACE (640ul << 20)

static struct sock_filter filter[256];
static struct sock_fprog program = {.filter = filter};

// Allows a system call when its arguments pass the comparisons.
static int allow(scmp_filter_ctx ctx, int syscall_nr, unsigned n, const struct scmp_arg_cmp *args)
{
  return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, syscall_nr, n, args);
}

// All that a script's run needs: its channel, private memory, clocks, the end.
static int add_rules(scmp_filter_ctx ctx)
{
  static const int plain[] = {
      SCMP_SYS(brk),           SCMP_SYS(munmap),       SCMP_SYS(mremap),
      SCMP_SYS(futex),         SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall),
      SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(exit),
      SCMP_SYS(exit_group),
  };
  const struct scmp_arg_cmp channel = {
      .arg = 0, .op = SCMP_CMP_EQ, .datum_a = CHANNEL_FD, .datum_b = 0};
  const struct scmp_arg_cmp private_memory[] = {
      {.arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = PROT_EXEC, .datum_b = 0},
      {.arg = 3,
       .op = SCMP_CMP_MASKED_EQ,
       .datum_a = MAP_ANONYMOUS | MAP_FIXED,
       .datum_b = MAP_ANONYMOUS},
  };
  int failed = 0;
  for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
    failed |= allow(ctx, plain[i], 0, NULL);
  }
  failed |= allow(ctx, SCMP_SYS(read), 1, &channel);
  failed |= allow(ctx, SCMP_SYS(write), 1, &channel);
  failed |= allow(ctx, SCMP_SYS(mmap), 2, private_memory);
  return failed;
}

// libseccomp writes the filter to a descriptor only; it is small enough for a pipe.
static const char *export_filter(scmp_filter_ctx ctx)
{
  int fds[2];
  if (pipe(fds) != 0) {
    return "cannot make a pipe";
  }
  int failed = seccomp_export_bpf(ctx, fds[1]);
  close(fds[1]);
  ssize_t size = failed ? -1 : read(fds[0], filter, sizeof(filter));
  close(fds[0]);
  if (size <= 0 || size == sizeof(filter)) {
    return "cannot make the seccomp filter";
  }
  program.len = (unsigned short)((size_t)size / sizeof(filter[0]));
  return NULL;
}

const char *jail_prepare(void)
{
  unsigned action = SECCOMP_RET_KILL_PROCESS;
  if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) != 0) {
    return "the kernel has no seccomp filters";
  }
  scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
  if (!ctx) {
    return "cannot make the seccomp filter";
  }
  const char *error = "cannot make the seccomp filter";
  if (seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) == 0 &&
      add_rules(ctx) == 0) {
    error = export_filter(ctx);
  }
  seccomp_release(ctx);
  return error;
}

static void drop_capabilities(void)
{
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[2];
  memset(none, 0, sizeof(none));
  syscall(SYS_capset, &header, none);
}

// Each step is a bonus to the filter, and many systems forbid some: none is required.
void jail_isolate(void)
{
  int spaces = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS;
  if (unshare(spaces) == 0 || unshare(CLONE_NEWUSER | spaces) == 0) {
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0) {
      mount("none", "/tmp", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k");
    }
    if (chroot("/tmp") == 0 && chdir("/") != 0) {
      _exit(EXIT_BAD_REQUEST);
    }
  }
  if (getuid() == 0) {
    int failed = setgroups(0, NULL);
    failed |= setresgid(NOBODY, NOBODY, NOBODY);
    failed |= setresuid(NOBODY, NOBODY, NOBODY);
    (void)failed;
  }
  drop_capabilities();
}

static void limit(int resource, rlim_t value)
{
  struct rlimit old;
  if (getrlimit((__rlimit_resource_t)resource, &old) == 0 && old.rlim_max < value) {
    value = old.rlim_max;
  }
  struct rlimit set = {.rlim_cur = value, .rlim_max = value};
  setrlimit((__rlimit_resource_t)resource, &set);
}

void jail_limit(void)
{
  limit(RLIMIT_NOFILE, CHANNEL_FD + 1);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_NPROC, 0);
  limit(RLIMIT_MEMLOCK, 0);
  limit(RLIMIT_MSGQUEUE, 0);
  limit(RLIMIT_AS, ADDRESS_SPACE);
}

void jail_limit_cpu(double cpu_ms)
{
  limit(RLIMIT_CPU, (rlim_t)ceil(cpu_ms / 1000) + 1);
}

bool jail_close(void)
{
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}
