// work.c: host.work, a thread with a Lua state of its own, for libraries that block.
//
//   local thread = assert(work.open(package.path, package.cpath, on_done))
//   assert(thread:start("luasql_helper", "query", "select 1"))   -- one at a time
//   -- on_done() is called from the loop; then: thread:take() -> ok, values…
//
// Neither side touches the other's Lua state: what goes to and fro is copied. A thread that blocks
// is left behind.

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "host.h"
#include "modules.h"
#include "request_thread.h"
#include "work_copy.h"

#define THREAD_TYPE "host.work.Thread"

typedef struct Job {
  lua_State *L;      // owned by the thread; NULL when there was no memory for it
  char *path;        // owned
  char *cpath;       // owned
  ByteBuffer asked;  // module, function and arguments
  ByteBuffer answer; // what it returned, or its error
  bool ok;
} Job;

typedef struct Thread {
  RequestThread thread;
  Job *job; // of the thread; NULL once closed
} Thread;

// --- The thread's side ------------------------------------------------------------------------

static void job_free(void *arg)
{
  Job *job = arg;
  byte_buffer_free(&job->asked);
  byte_buffer_free(&job->answer);
  free(job->path);
  free(job->cpath);
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

static void serve(void *arg)
{
  Job *job = arg;
  lua_State *L = job->L;
  char error[160];
  if (!L) {
    return;
  }
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

static void begin(void *arg)
{
  Job *job = arg;
  job->L = luaL_newstate();
  if (job->L && lua_cpcall(job->L, prepare, job) != 0) {
    lua_close(job->L);
    job->L = NULL;
  }
}

static void end(void *arg)
{
  Job *job = arg;
  if (job->L) {
    lua_close(job->L);
  }
}

static const RequestKind kind = {
    .stack_bytes = 2 * 1024 * 1024,
    .join_ms = 100,
    // A program that the library starts would inherit what is blocked and ignore SIGTERM.
    .takes_signals = true,
    .begin = begin,
    .serve = serve,
    .end = end,
    .free = job_free,
};

// --- The loop's side --------------------------------------------------------------------------

static void thread_close(Thread *t)
{
  t->job = NULL;
  request_thread_close(&t->thread);
}

// NULL when there is no memory.
static Job *job_new(const char *path, const char *cpath)
{
  Job *job = calloc(1, sizeof(*job));
  if (!job) {
    return NULL;
  }
  job->path = strdup(path);
  job->cpath = strdup(cpath);
  if (!job->path || !job->cpath) {
    job_free(job);
    return NULL;
  }
  return job;
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
  *t = (Thread){0};
  luaL_getmetatable(L, THREAD_TYPE);
  lua_setmetatable(L, -2);
  lua_insert(L, 3);
  request_thread_set_on_done(L, &t->thread);

  t->job = job_new(path, cpath);
  int err = request_thread_start(&t->thread, &kind, t->job);
  if (err == 0) {
    return 1;
  }
  t->job = NULL;
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
  luaL_argcheck(L, request_thread_is_idle(&t->thread), 1, "a call is running");

  char error[160];
  byte_buffer_clear(&job->asked);
  if (!work_copy_out(L, 2, lua_gettop(L), &job->asked, error, sizeof(error))) {
    return host_failf(L, "EWORK", "arguments: %s", error);
  }
  request_thread_ask(&t->thread);
  lua_pushboolean(L, 1);
  return 1;
}

// thread:take() -> ok, ...
// After on_done(): the values that the function returned, or false and its error.
static int l_take(lua_State *L)
{
  Thread *t = check_open(L);
  luaL_argcheck(L, request_thread_take(&t->thread), 1, "no call is done");
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
