// quiet_thread.c: threads that no signal reaches; see quiet_thread.h.

#include "quiet_thread.h"

#include <signal.h>

// What a thread's own fault raises ends the process even when it is blocked; a sanitizer's handler
// must have its say first.
static void set_blocked(sigset_t *set)
{
  static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
  sigfillset(set);
  for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
    sigdelset(set, faults[i]);
  }
}

int quiet_thread_create(pthread_t *id, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
  sigset_t blocked, before;
  set_blocked(&blocked);
  // The new thread has the mask of this one from its first moment on.
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  int status = pthread_create(id, attr, run, arg);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return status;
}
