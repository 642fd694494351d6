// watchdog.c: host.watchdog, a thread that notices when Lua of a user's file does not come back.
//
//   watchdog.enter("hook guard of watchers/beam.lua:12", 100)
//   fn()
//   local cpu_ms, wall_ms, was_told = watchdog.leave()
//
// A loop of Lua can be cut by a hook, a call of C cannot: while it runs nothing else does. The
// thread then says on stderr, at once, who it is. It sleeps while nothing is entered.

#include "host.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "modules.h"
#include "quiet_thread.h"

#define MAX_DEPTH 16
#define LABEL_SIZE 256
#define LOOK_MS 100
// Beyond its limit. Time of the CPU, so that a busy machine is nobody's fault; or so many looks in
// a row at which the main thread slept: the call waits for something else.
#define TELL_CPU_MS 400.0
#define TELL_ASLEEP 20

typedef struct Level {
  char label[LABEL_SIZE];
  double cpu_ms;  // of the main thread when it was entered
  double wall_ms; // of the monotonic clock
  double limit_ms;
  int asleep; // looks in a row
  bool told;
} Level;

static struct {
  pthread_mutex_t lock;
  pthread_cond_t entered;
  pthread_t thread;
  clockid_t main_cpu;
  char main_stat[64]; // the path of its file in /proc
  Level levels[MAX_DEPTH];
  int depth;
  bool running; // the thread exists
  bool idle;    // it waits for `entered`
  bool stop;
} dog = {.lock = PTHREAD_MUTEX_INITIALIZER};

static double clock_ms(clockid_t clock)
{
  struct timespec t;
  if (clock_gettime(clock, &t) != 0) {
    return 0;
  }
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

// Says who does not come back. Called with the lock held, which it gives back meanwhile: a full
// pipe must not hold up the main thread, too.
static void tell(Level *level)
{
  char text[LABEL_SIZE + 128];
  double wall_ms = clock_ms(CLOCK_MONOTONIC) - level->wall_ms;
  int len = snprintf(text, sizeof(text),
                     "beamlens: %s has been running for %.1f s in one call that cannot be cut; "
                     "everything waits for it\n",
                     level->label, wall_ms / 1e3);
  level->told = true;
  pthread_mutex_unlock(&dog.lock);
  ssize_t written = len > 0 ? write(STDERR_FILENO, text, (size_t)len) : 0;
  (void)written; // nobody may be there to be told
  pthread_mutex_lock(&dog.lock);
}

// Whether the main thread waits for something, rather than for its turn.
static bool main_sleeps(void)
{
  char text[128] = "";
  int fd = open(dog.main_stat, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return false;
  }
  ssize_t len = read(fd, text, sizeof(text) - 1);
  close(fd);
  const char *name_end = len > 0 ? strrchr(text, ')') : NULL;
  return name_end && (strncmp(name_end, ") S", 3) == 0 || strncmp(name_end, ") D", 3) == 0);
}

static void look(void)
{
  Level *level = &dog.levels[(dog.depth < MAX_DEPTH ? dog.depth : MAX_DEPTH) - 1];
  double cpu_ms = clock_ms(dog.main_cpu) - level->cpu_ms;
  level->asleep = main_sleeps() ? level->asleep + 1 : 0;
  bool is_late = cpu_ms > level->limit_ms + TELL_CPU_MS || level->asleep >= TELL_ASLEEP;
  if (is_late && !level->told) {
    tell(level);
  }
}

static void wait_a_moment(void)
{
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += LOOK_MS * 1000000L;
  until.tv_sec += until.tv_nsec / 1000000000L;
  until.tv_nsec %= 1000000000L;
  pthread_cond_timedwait(&dog.entered, &dog.lock, &until);
}

static void *watch(void *arg)
{
  (void)arg;
  pthread_mutex_lock(&dog.lock);
  while (!dog.stop) {
    if (dog.depth == 0) {
      dog.idle = true;
      pthread_cond_wait(&dog.entered, &dog.lock);
      dog.idle = false;
    } else {
      wait_a_moment();
      if (dog.depth > 0) {
        look();
      }
    }
  }
  pthread_mutex_unlock(&dog.lock);
  return NULL;
}

// Starts the thread. Without one nothing is told, and all else works.
static void start(void)
{
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&dog.entered, &attr);
  pthread_condattr_destroy(&attr);
  pthread_getcpuclockid(pthread_self(), &dog.main_cpu);
  snprintf(dog.main_stat, sizeof(dog.main_stat), "/proc/self/task/%ld/stat", syscall(SYS_gettid));
  dog.stop = false;
  dog.running = quiet_thread_create(&dog.thread, NULL, watch, NULL) == 0;
}

static int stop(lua_State *L)
{
  (void)L;
  if (dog.running) {
    pthread_mutex_lock(&dog.lock);
    dog.stop = true;
    pthread_cond_signal(&dog.entered);
    pthread_mutex_unlock(&dog.lock);
    pthread_join(dog.thread, NULL);
    pthread_cond_destroy(&dog.entered);
    dog.running = false;
  }
  return 0;
}

static void set_label(Level *level, const char *label)
{
  snprintf(level->label, sizeof(level->label), "%s", label);
}

// enter(label, limit_ms)
// Code of this name begins to run, and will be cut after so much of the CPU's time. Levels may be
// nested; what is too deep is not watched.
static int l_enter(lua_State *L)
{
  const char *label = luaL_checkstring(L, 1);
  double limit_ms = luaL_checknumber(L, 2);
  if (!dog.running) {
    start();
  }
  pthread_mutex_lock(&dog.lock);
  if (dog.depth < MAX_DEPTH) {
    Level *level = &dog.levels[dog.depth];
    set_label(level, label);
    level->cpu_ms = clock_ms(CLOCK_THREAD_CPUTIME_ID);
    level->wall_ms = clock_ms(CLOCK_MONOTONIC);
    level->limit_ms = limit_ms;
    level->asleep = 0;
    level->told = false;
  }
  dog.depth++;
  if (dog.idle) {
    pthread_cond_signal(&dog.entered);
  }
  pthread_mutex_unlock(&dog.lock);
  return 0;
}

// at(label)
// The code that was entered last is here now.
static int l_at(lua_State *L)
{
  const char *label = luaL_checkstring(L, 1);
  pthread_mutex_lock(&dog.lock);
  if (dog.depth > 0 && dog.depth <= MAX_DEPTH) {
    set_label(&dog.levels[dog.depth - 1], label);
  }
  pthread_mutex_unlock(&dog.lock);
  return 0;
}

// leave() -> cpu_ms, wall_ms, was_told
// The code that was entered last has come back. What it took of the CPU and of the clock, and
// whether the thread told of it.
static int l_leave(lua_State *L)
{
  double cpu_ms = 0, wall_ms = 0;
  bool told = false;
  pthread_mutex_lock(&dog.lock);
  if (dog.depth > 0 && --dog.depth < MAX_DEPTH) {
    Level *level = &dog.levels[dog.depth];
    cpu_ms = clock_ms(CLOCK_THREAD_CPUTIME_ID) - level->cpu_ms;
    wall_ms = clock_ms(CLOCK_MONOTONIC) - level->wall_ms;
    told = level->told;
  }
  pthread_mutex_unlock(&dog.lock);
  lua_pushnumber(L, cpu_ms);
  lua_pushnumber(L, wall_ms);
  lua_pushboolean(L, told);
  return 3;
}

// cpu_ms() -> what this thread has taken of the CPU
static int l_cpu_ms(lua_State *L)
{
  lua_pushnumber(L, clock_ms(CLOCK_THREAD_CPUTIME_ID));
  return 1;
}

static const luaL_Reg functions[] = {
    {"enter", l_enter}, {"at", l_at}, {"leave", l_leave}, {"cpu_ms", l_cpu_ms}, {NULL, NULL},
};

int luaopen_host_watchdog(lua_State *L)
{
  luaL_newlib(L, functions);
  // Its end is that of the state: a table has no finaliser here, a userdata has.
  lua_newuserdata(L, 1);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, stop);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_setfield(L, LUA_REGISTRYINDEX, "host.watchdog.end");
  return 1;
}
