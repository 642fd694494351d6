// no_jail.c: in place of host/worker/jail.c in the worker that is built with sanitizers, which need
// more memory and system calls than the jail allows. Never in a program that is installed.

#include "worker/worker.h"

#ifndef SANITIZER_LOG
#define SANITIZER_LOG "sanitizer.log"
#endif

// The host gives its worker no environment.
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
  return "log_path=" SANITIZER_LOG ":exitcode=99:detect_leaks=0:allocator_may_return_null=1:"
         "handle_abort=1:detect_stack_use_after_return=0:symbolize=0";
}

const char *jail_prepare(void)
{
  return NULL;
}

void jail_isolate(void)
{
}

void jail_limit(void)
{
}

void jail_limit_cpu(double cpu_ms)
{
  (void)cpu_ms;
}

bool jail_close(void)
{
  return true;
}
