// refuse.c: runs a program on a kernel that seems to lack seccomp: refuse filters|set PROGRAM
// ARG...
//
// "filters": the system call seccomp() fails. "set": prctl(PR_SET_SECCOMP) fails.

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define FIELD(name) (unsigned)offsetof(struct seccomp_data, name)

int main(int argc, char **argv)
{
  if (argc < 3) {
    fputs("usage: refuse filters|set|memory PROGRAM ARG...\n", stderr);
    return 2;
  }
  struct sock_filter filters[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_filter set[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_SECCOMP, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof(set) / sizeof(set[0]), set};
  if (strcmp(argv[1], "memory") == 0) {
    filters[1].k = SYS_memfd_create;
  }
  if (strcmp(argv[1], "set") != 0) {
    program = (struct sock_fprog){sizeof(filters) / sizeof(filters[0]), filters};
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) {
    perror("refuse");
    return 2;
  }
  execv(argv[2], argv + 2);
  perror(argv[2]);
  return 2;
}
