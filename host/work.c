// work.c: host.work, a thread with a Lua state of its own, for libraries that block.
//
//   local thread = assert(work.open(package.path, package.cpath, on_done))
//   assert(thread:start("luasql_helper", "query", "select 1"))   -- one at a time
//   -- on_done() is called from the loop; then: thread:take() -> ok, values…
//
// The two sides share a Job, which is plain memory under a mutex; neither touches the other's
// state. Whoever lets go of the Job last frees it, so a thread that is abandoned while it blocks
// cleans up after itself if it ever comes back.

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <luv/luv.h>
#include <uv.h>

#include "host.h"
#include "modules.h"
#include "work_copy.h"

#define THREAD_TYPE "host.work.Thread"
#define STACK_BYTES (2 * 1024 * 1024)
#define JOIN_MS 100

typedef enum JobState { JOB_IDLE, JOB_ASKED, JOB_RUNNING, JOB_DONE } JobState;

typedef struct Job {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int holders;       // the loop's side and the thread
  bool closed;       // the loop's side is gone
  JobState state;    // one request at a time
  uv_async_t *async; // borrowed from Thread; NULL once closed
  char *path;        // owned
  char *cpath;       // owned
  ByteBuffer asked;  // module, function and arguments
  ByteBuffer answer; // what it returned, or its error
  bool ok;
} Job;

typedef struct Thread {
  lua_State *L;      // borrowed; the main state
  Job *job;          // held; NULL once closed
  uv_async_t *async; // owned; freed in its close callback
  pthread_t id;
  int on_done; // reference
} Thread;

// --- The thread's side ------------------------------------------------------------------------

static void job_release(Job *job)
{
  pthread_mutex_lock(&job->lock);
  int left = --job->holders;
  pthread_mutex_unlock(&job->lock);
  if (left > 0) {
    return;
  }
  byte_buffer_free(&job->asked);
  byte_buffer_free(&job->answer);
  free(job->path);
  free(job->cpath);
  pthread_cond_destroy(&job->changed);
  pthread_mutex_destroy(&job->lock);
  free(job);
}

// The arguments are the Job; leaves what the function returns.
static int run_request(lua_State *L)
{
  Job *job = lua_touserdata(L, 1);
  int count = work_copy_in(L, job->asked.data, job->asked.len);
  lua_getglobal(L, "require");
  lua_pushvalue(L, 2);
  lua_call(L, 1, 1);
  if (!lua_istable(L, -1)) {
    return luaL_error(L, "module %s returns no table", lua_tostring(L, 2));
  }
  lua_pushvalue(L, 3);
  lua_gettable(L, -2);
  if (lua_isnil(L, -1)) {
    return luaL_error(L, "module %s has no function %s", lua_tostring(L, 2), lua_tostring(L, 3));
  }
  lua_replace(L, 3);
  lua_pop(L, 1);
  lua_call(L, count - 2, LUA_MULTRET);
  return lua_gettop(L) - 2;
}

static void put_error(Job *job, lua_State *L)
{
  char unused[160];
  byte_buffer_clear(&job->answer);
  job->ok = false;
  if (lua_type(L, -1) != LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER) {
    lua_pushfstring(L, "an error that is a %s", luaL_typename(L, -1));
  }
  int top = lua_gettop(L);
  work_copy_out(L, top, top, &job->answer, unused, sizeof(unused));
}

static void serve(lua_State *L, Job *job)
{
  char error[160];
  lua_settop(L, 0);
  byte_buffer_clear(&job->answer);
  lua_pushcfunction(L, run_request);
  lua_pushlightuserdata(L, job);
  job->ok = lua_pcall(L, 1, LUA_MULTRET, 0) == 0;
  if (!job->ok) {
    put_error(job, L);
  } else if (!work_copy_out(L, 1, lua_gettop(L), &job->answer, error, sizeof(error))) {
    lua_settop(L, 0);
    lua_pushfstring(L, "what it returns: %s", error);
    put_error(job, L);
  }
  lua_settop(L, 0);
}

// Waits for a request. False when there will be none.
static bool next_request(Job *job)
{
  pthread_mutex_lock(&job->lock);
  while (job->state != JOB_ASKED && !job->closed) {
    pthread_cond_wait(&job->changed, &job->lock);
  }
  bool more = !job->closed;
  if (more) {
    job->state = JOB_RUNNING;
  }
  pthread_mutex_unlock(&job->lock);
  return more;
}

// C libraries stay loaded when the state closes: what they keep per process or thread, and the
// destructors of that, would outlive their code. The next thread finds them as they are.
static void keep_libraries(lua_State *L)
{
  luaL_getmetatable(L, "_LOADLIB");
  if (lua_istable(L, -1)) {
    lua_pushnil(L);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
}

static int prepare(lua_State *L)
{
  Job *job = lua_touserdata(L, 1);
  luaL_openlibs(L);
  keep_libraries(L);
  lua_getglobal(L, "package");
  lua_pushstring(L, job->path);
  lua_setfield(L, -2, "path");
  lua_pushstring(L, job->cpath);
  lua_setfield(L, -2, "cpath");
  modules_find_in_domains(L);
  return 0;
}

static void *thread_main(void *arg)
{
  Job *job = arg;
  lua_State *L = luaL_newstate();
  bool ready = L && lua_cpcall(L, prepare, job) == 0;
  while (next_request(job)) {
    if (ready) {
      serve(L, job);
    }
    pthread_mutex_lock(&job->lock);
    job->state = JOB_DONE;
    if (job->async) {
      uv_async_send(job->async);
    }
    pthread_mutex_unlock(&job->lock);
  }
  if (L) {
    lua_close(L);
  }
  job_release(job);
  return NULL;
}

// --- The loop's side --------------------------------------------------------------------------

static void on_closed(uv_handle_t *handle)
{
  free(handle);
}

static void on_done(uv_async_t *async)
{
  Thread *t = async->data;
  pthread_mutex_lock(&t->job->lock);
  bool done = t->job->state == JOB_DONE;
  pthread_mutex_unlock(&t->job->lock);
  if (done) {
    host_push_ref(t->L, t->on_done);
    host_call(t->L, 0, 0);
  }
}

// Joins a thread that has nothing to do; one that still runs is left to itself.
static void thread_end(Thread *t)
{
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += JOIN_MS * 1000000L;
  until.tv_sec += until.tv_nsec / 1000000000L;
  until.tv_nsec %= 1000000000L;
  if (pthread_clockjoin_np(t->id, NULL, CLOCK_MONOTONIC, &until) != 0) {
    pthread_detach(t->id);
  }
}

static void thread_close(Thread *t)
{
  Job *job = t->job;
  if (!job) {
    return;
  }
  t->job = NULL;
  pthread_mutex_lock(&job->lock);
  job->closed = true;
  job->async = NULL;
  bool runs = job->state == JOB_RUNNING;
  pthread_cond_signal(&job->changed);
  pthread_mutex_unlock(&job->lock);
  if (runs) {
    pthread_detach(t->id);
  } else {
    thread_end(t);
  }
  job_release(job);
  uv_close((uv_handle_t *)t->async, on_closed);
  host_unref(t->L, &t->on_done);
}

static Job *job_new(const char *path, const char *cpath, uv_async_t *async)
{
  Job *job = calloc(1, sizeof(*job));
  if (!job) {
    return NULL;
  }
  pthread_mutex_init(&job->lock, NULL);
  pthread_cond_init(&job->changed, NULL);
  job->holders = 2;
  job->async = async;
  job->path = strdup(path);
  job->cpath = strdup(cpath);
  if (job->path && job->cpath) {
    return job;
  }
  job->holders = 1;
  job_release(job);
  return NULL;
}

// No signal is blocked: a program that the library starts would inherit that and ignore SIGTERM.
static int thread_start(Thread *t)
{
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK_BYTES);
  int err = pthread_create(&t->id, &attr, thread_main, t->job);
  pthread_attr_destroy(&attr);
  return err;
}

static Thread *check_open(lua_State *L)
{
  Thread *t = luaL_checkudata(L, 1, THREAD_TYPE);
  luaL_argcheck(L, t->job, 1, "thread is closed");
  return t;
}

// open(path, cpath, on_done) -> thread | nil, err, code
static int l_open(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  const char *cpath = luaL_checkstring(L, 2);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  lua_settop(L, 3);

  Thread *t = lua_newuserdata(L, sizeof(*t));
  *t = (Thread){.L = luv_state(L), .on_done = LUA_NOREF};
  luaL_getmetatable(L, THREAD_TYPE);
  lua_setmetatable(L, -2);
  lua_insert(L, 3);
  t->on_done = host_ref(L);

  t->async = malloc(sizeof(*t->async));
  t->job = t->async ? job_new(path, cpath, t->async) : NULL;
  int err = t->job ? uv_async_init(luv_loop(L), t->async, on_done) : UV_ENOMEM;
  if (err == 0) {
    uv_unref((uv_handle_t *)t->async);
    t->async->data = t;
    err = -thread_start(t);
    if (err == 0) {
      return 1;
    }
    uv_close((uv_handle_t *)t->async, on_closed);
  } else {
    free(t->async);
  }
  if (t->job) {
    t->job->holders = 1;
    job_release(t->job);
    t->job = NULL;
  }
  host_unref(L, &t->on_done);
  return host_fail(L, err);
}

// thread:start(module, fn_name, ...) -> true | nil, err, code
// Raises while a call runs. "EWORK": an argument cannot be copied.
static int l_start(lua_State *L)
{
  Thread *t = check_open(L);
  Job *job = t->job;
  luaL_checkstring(L, 2);
  luaL_checkstring(L, 3);
  pthread_mutex_lock(&job->lock);
  bool idle = job->state == JOB_IDLE;
  pthread_mutex_unlock(&job->lock);
  luaL_argcheck(L, idle, 1, "a call is running");

  // The thread reads `asked` only once the state says so.
  char error[160];
  byte_buffer_clear(&job->asked);
  if (!work_copy_out(L, 2, lua_gettop(L), &job->asked, error, sizeof(error))) {
    return host_failf(L, "EWORK", "arguments: %s", error);
  }
  pthread_mutex_lock(&job->lock);
  job->state = JOB_ASKED;
  pthread_cond_signal(&job->changed);
  pthread_mutex_unlock(&job->lock);
  lua_pushboolean(L, 1);
  return 1;
}

// thread:take() -> ok, ...
// After on_done(): the values that the function returned, or false and its error.
static int l_take(lua_State *L)
{
  Thread *t = check_open(L);
  pthread_mutex_lock(&t->job->lock);
  bool done = t->job->state == JOB_DONE;
  if (done) {
    t->job->state = JOB_IDLE;
  }
  pthread_mutex_unlock(&t->job->lock);
  luaL_argcheck(L, done, 1, "no call is done");
  lua_settop(L, 1);
  lua_pushboolean(L, t->job->ok);
  return 1 + work_copy_in(L, t->job->answer.data, t->job->answer.len);
}

// thread:close()
// Never waits for a call that runs: its thread is left to itself. May be called twice.
static int l_close(lua_State *L)
{
  thread_close(luaL_checkudata(L, 1, THREAD_TYPE));
  return 0;
}

static const luaL_Reg functions[] = {{"open", l_open}, {NULL, NULL}};

static const luaL_Reg methods[] = {
    {"start", l_start}, {"take", l_take}, {"close", l_close}, {NULL, NULL}};

static const luaL_Reg metamethods[] = {{"__gc", l_close}, {NULL, NULL}};

int luaopen_host_work(lua_State *L)
{
  luaL_newmetatable(L, THREAD_TYPE);
  luaL_setfuncs(L, metamethods, 0);
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  return 1;
}
