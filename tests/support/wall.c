// wall.c: preloaded into a program, moves its wall clock by the seconds in the file WALL_OFFSET (a
// 64-bit number, mapped, so that it may change at any time). The other clocks stay as they are.
//
// Built by tests/support/wall.lua.

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset_s;

__attribute__((constructor)) static void map_offset(void)
{
  const char *path = getenv("WALL_OFFSET");
  int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) {
    abort();
  }
  void *at = mmap(NULL, sizeof(*offset_s), PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (at == MAP_FAILED) {
    abort();
  }
  offset_s = at;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
  int err = (int)syscall(SYS_clock_gettime, id, now);
  if (err == 0 && offset_s && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
    now->tv_sec += *offset_s;
  }
  return err;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
  (void)zone;
  struct timespec t;
  int err = clock_gettime(CLOCK_REALTIME, &t);
  now->tv_sec = t.tv_sec;
  now->tv_usec = t.tv_nsec / 1000;
  return err;
}

time_t time(time_t *now)
{
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  if (now) {
    *now = t.tv_sec;
  }
  return t.tv_sec;
}
