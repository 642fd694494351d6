// store.c: host.store, an SQLite file with a thread of its own, so that the loop never waits for
// it.
//
//   local s = assert(store.open("state/beamlens.db", on_done))
//   s:start("INSERT INTO t VALUES (?1, ?2)", "a", 7)    -- one at a time
//   -- on_done() is called from the loop; then: s:take() -> rows, or nil, err, code
//
// The thread opens the file with its first request, and again with each one until that succeeds;
// s:drop() has it close the file, so that the next request opens what then lies there.
// The two sides share a Job, which is plain memory under a mutex; whoever lets go of it last frees
// it, so that a thread that hangs in a dead disk is left behind and cleans up if it comes back.

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <luv/luv.h>
#include <sqlite3.h>
#include <uv.h>

#include "byte_buffer.h"
#include "host.h"
#include "modules.h"

#define STORE_TYPE "host.store.Store"
#define STACK_BYTES (512 * 1024)
#define JOIN_MS 500
#define BUSY_MS 2000
#define MAX_PARAMS 16
#define MAX_ANSWER (16 * 1024 * 1024)

typedef struct Param {
  bool is_text;
  char *text; // owned
  size_t len;
  double number;
} Param;

typedef enum JobState { JOB_IDLE, JOB_ASKED, JOB_RUNNING, JOB_DONE } JobState;

typedef struct Job {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int holders;       // the loop's side and the thread
  bool closed;       // the loop's side is gone
  JobState state;    // one request at a time
  uv_async_t *async; // borrowed from Store; NULL once closed
  char *path;        // owned
  bool is_read_only; // never writes, never makes the file
  sqlite3 *db;       // owned by the thread; NULL while it is not open
  char *sql;         // owned; NULL: the file is to be closed
  Param params[MAX_PARAMS];
  int param_count;
  ByteBuffer rows; // cells, each a type and its value; 'E' ends a row
  char error[256]; // "" when all went well
  char code[32];
} Job;

typedef struct Store {
  lua_State *L;      // borrowed; the main state
  Job *job;          // held; NULL once closed
  uv_async_t *async; // owned; freed in its close callback
  pthread_t id;
  int on_done; // reference
} Store;

// --- The thread's side ------------------------------------------------------------------------

static void job_clear_request(Job *job)
{
  for (int i = 0; i < job->param_count; i++) {
    free(job->params[i].text);
    job->params[i].text = NULL;
  }
  job->param_count = 0;
  free(job->sql);
  job->sql = NULL;
}

static void job_release(Job *job)
{
  pthread_mutex_lock(&job->lock);
  int left = --job->holders;
  pthread_mutex_unlock(&job->lock);
  if (left > 0) {
    return;
  }
  job_clear_request(job);
  byte_buffer_free(&job->rows);
  free(job->path);
  pthread_cond_destroy(&job->changed);
  pthread_mutex_destroy(&job->lock);
  free(job);
}

// What the operating system said to SQLite, as a code; NULL where that is none of ours.
static const char *code_of_system(int sys)
{
  switch (sys) {
  case ENOSPC:
  case EDQUOT:
    return "ENOSPC";
  case EROFS:
  case EACCES:
  case EPERM:
    return "EROFS";
  case EISDIR:
    return "EISDIR";
  default:
    return NULL;
  }
}

static const char *code_of(int rc, int sys)
{
  const char *code = NULL;
  switch (rc & 0xff) {
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
    return "EBUSY";
  case SQLITE_READONLY:
  case SQLITE_PERM:
    return "EROFS";
  case SQLITE_FULL:
    return "ENOSPC";
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    return "EBROKEN";
  case SQLITE_CANTOPEN:
  case SQLITE_IOERR:
    code = code_of_system(sys);
    break;
  default:
    break;
  }
  return code ? code : "ESTORE";
}

static bool job_fail(Job *job, int rc, const char *text)
{
  int kind = rc & 0xff;
  bool is_system = job->db && (kind == SQLITE_CANTOPEN || kind == SQLITE_IOERR);
  int sys = is_system ? sqlite3_system_errno(job->db) : 0;
  snprintf(job->code, sizeof(job->code), "%s", code_of(rc, sys));
  if (sys) {
    snprintf(job->error, sizeof(job->error), "%s (%s)", text,
             uv_strerror(uv_translate_sys_error(sys)));
  } else {
    snprintf(job->error, sizeof(job->error), "%s", text);
  }
  return false;
}

static bool job_open(Job *job)
{
  if (job->db) {
    return true;
  }
  int flags = job->is_read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  int rc = sqlite3_open_v2(job->path, &job->db, flags, NULL);
  if (rc != SQLITE_OK) {
    job_fail(job, rc, job->db ? sqlite3_errmsg(job->db) : "out of memory");
    sqlite3_close(job->db);
    job->db = NULL;
    return false;
  }
  sqlite3_busy_timeout(job->db, BUSY_MS);
  return true;
}

static void bind_params(Job *job, sqlite3_stmt *stmt)
{
  int count = sqlite3_bind_parameter_count(stmt);
  for (int i = 0; i < job->param_count && i < count; i++) {
    const Param *p = &job->params[i];
    if (p->is_text) {
      sqlite3_bind_text64(stmt, i + 1, p->text, p->len, SQLITE_STATIC, SQLITE_UTF8);
    } else {
      sqlite3_bind_double(stmt, i + 1, p->number);
    }
  }
}

static bool put_cell(ByteBuffer *rows, sqlite3_stmt *stmt, int column)
{
  int type = sqlite3_column_type(stmt, column);
  if (type == SQLITE_NULL) {
    return byte_buffer_add(rows, "Z", 1);
  } else if (type == SQLITE_INTEGER || type == SQLITE_FLOAT) {
    double number = sqlite3_column_double(stmt, column);
    return byte_buffer_add(rows, "N", 1) &&
           byte_buffer_add(rows, (const char *)&number, sizeof(number));
  }
  const char *text = sqlite3_column_blob(stmt, column);
  size_t len = (size_t)sqlite3_column_bytes(stmt, column);
  return byte_buffer_add(rows, "T", 1) && byte_buffer_add(rows, (const char *)&len, sizeof(len)) &&
         byte_buffer_add(rows, text, len);
}

static bool put_row(ByteBuffer *rows, sqlite3_stmt *stmt)
{
  int columns = sqlite3_column_count(stmt);
  for (int i = 0; i < columns; i++) {
    if (!put_cell(rows, stmt, i)) {
      return false;
    }
  }
  return byte_buffer_add(rows, "E", 1) && rows->len <= MAX_ANSWER;
}

static bool step_all(Job *job, sqlite3_stmt *stmt)
{
  int rc;
  while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
    if (!put_row(&job->rows, stmt)) {
      return job_fail(job, SQLITE_TOOBIG, "the answer is too large");
    }
  }
  return rc == SQLITE_DONE || job_fail(job, rc, sqlite3_errmsg(job->db));
}

// Each statement of the text, one after the other; all get the same parameters.
static bool run_sql(Job *job)
{
  const char *rest = job->sql;
  bool ok = true;
  while (ok && *rest) {
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(job->db, rest, -1, &stmt, &rest);
    if (rc != SQLITE_OK) {
      return job_fail(job, rc, sqlite3_errmsg(job->db));
    }
    if (stmt) {
      bind_params(job, stmt);
      ok = step_all(job, stmt);
      sqlite3_finalize(stmt);
    }
  }
  return ok;
}

static void serve(Job *job)
{
  byte_buffer_clear(&job->rows);
  job->error[0] = '\0';
  if (!job->sql) {
    sqlite3_close(job->db);
    job->db = NULL;
    return;
  }
  if (!job_open(job) || !run_sql(job)) {
    // What a failed request has begun is not left open for the next one.
    if (job->db && !sqlite3_get_autocommit(job->db)) {
      sqlite3_exec(job->db, "ROLLBACK", NULL, NULL, NULL);
    }
  }
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

static void *thread_main(void *arg)
{
  Job *job = arg;
  while (next_request(job)) {
    serve(job);
    pthread_mutex_lock(&job->lock);
    job->state = JOB_DONE;
    if (job->async) {
      uv_async_send(job->async);
    }
    pthread_mutex_unlock(&job->lock);
  }
  sqlite3_close(job->db);
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
  Store *s = async->data;
  pthread_mutex_lock(&s->job->lock);
  bool done = s->job->state == JOB_DONE;
  pthread_mutex_unlock(&s->job->lock);
  if (done) {
    host_push_ref(s->L, s->on_done);
    host_call(s->L, 0, 0);
  }
}

// Joins a thread that has nothing to do; one that does not end in time is left to itself.
static void thread_end(Store *s)
{
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += JOIN_MS * 1000000L;
  until.tv_sec += until.tv_nsec / 1000000000L;
  until.tv_nsec %= 1000000000L;
  if (pthread_clockjoin_np(s->id, NULL, CLOCK_MONOTONIC, &until) != 0) {
    pthread_detach(s->id);
  }
}

static void store_close(Store *s)
{
  Job *job = s->job;
  if (!job) {
    return;
  }
  s->job = NULL;
  pthread_mutex_lock(&job->lock);
  job->closed = true;
  job->async = NULL;
  bool runs = job->state == JOB_RUNNING;
  pthread_cond_signal(&job->changed);
  pthread_mutex_unlock(&job->lock);
  if (runs) {
    pthread_detach(s->id);
  } else {
    thread_end(s);
  }
  job_release(job);
  uv_close((uv_handle_t *)s->async, on_closed);
  host_unref(s->L, &s->on_done);
}

static Job *job_new(const char *path, uv_async_t *async)
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
  if (job->path) {
    return job;
  }
  job->holders = 1;
  job_release(job);
  return NULL;
}

static int thread_start(Store *s)
{
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK_BYTES);
  int err = pthread_create(&s->id, &attr, thread_main, s->job);
  pthread_attr_destroy(&attr);
  return err;
}

static Store *check_open(lua_State *L)
{
  Store *s = luaL_checkudata(L, 1, STORE_TYPE);
  luaL_argcheck(L, s->job, 1, "store is closed");
  return s;
}

// open(path, on_done, [is_read_only]) -> store | nil, err, code
// Starts the thread; the file is opened with the first request. One that is read only is not made.
static int l_open(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  bool is_read_only = lua_toboolean(L, 3);
  lua_settop(L, 2);

  Store *s = lua_newuserdata(L, sizeof(*s));
  *s = (Store){.L = luv_state(L), .on_done = LUA_NOREF};
  luaL_getmetatable(L, STORE_TYPE);
  lua_setmetatable(L, -2);
  lua_insert(L, 2);
  s->on_done = host_ref(L);

  s->async = malloc(sizeof(*s->async));
  s->job = s->async ? job_new(path, s->async) : NULL;
  int err = s->job ? uv_async_init(luv_loop(L), s->async, on_done) : UV_ENOMEM;
  if (err == 0) {
    s->job->is_read_only = is_read_only;
    uv_unref((uv_handle_t *)s->async);
    s->async->data = s;
    err = -thread_start(s);
    if (err == 0) {
      return 1;
    }
    uv_close((uv_handle_t *)s->async, on_closed);
  } else {
    free(s->async);
  }
  if (s->job) {
    s->job->holders = 1;
    job_release(s->job);
    s->job = NULL;
  }
  host_unref(L, &s->on_done);
  return host_fail(L, err);
}

// Copies a parameter. False when there is no memory.
static bool take_param(lua_State *L, int at, Param *p)
{
  *p = (Param){.is_text = lua_type(L, at) == LUA_TSTRING};
  if (!p->is_text) {
    p->number = lua_tonumber(L, at);
    return true;
  }
  const char *text = lua_tolstring(L, at, &p->len);
  p->text = malloc(p->len + 1);
  if (p->text) {
    memcpy(p->text, text, p->len + 1);
  }
  return p->text;
}

static void check_idle(lua_State *L, Job *job)
{
  pthread_mutex_lock(&job->lock);
  bool idle = job->state == JOB_IDLE;
  pthread_mutex_unlock(&job->lock);
  luaL_argcheck(L, idle, 1, "a request is running");
}

// Gives the request to the thread.
static void job_ask(Job *job)
{
  pthread_mutex_lock(&job->lock);
  job->state = JOB_ASKED;
  pthread_cond_signal(&job->changed);
  pthread_mutex_unlock(&job->lock);
}

// store:start(sql, ...) -> true | nil, err, code
// Parameters are texts and numbers. Raises while a request runs.
static int l_start(lua_State *L)
{
  Store *s = check_open(L);
  Job *job = s->job;
  const char *sql = luaL_checkstring(L, 2);
  int count = lua_gettop(L) - 2;
  luaL_argcheck(L, count <= MAX_PARAMS, 2, "too many parameters");
  for (int i = 3; i <= count + 2; i++) {
    luaL_argcheck(L, lua_type(L, i) == LUA_TSTRING || lua_type(L, i) == LUA_TNUMBER, i,
                  "text or number expected");
  }
  check_idle(L, job);

  // The thread reads the request only once the state says so.
  job_clear_request(job);
  job->sql = strdup(sql);
  bool ok = job->sql;
  for (int i = 0; ok && i < count; i++) {
    ok = take_param(L, i + 3, &job->params[i]);
    job->param_count = i + 1;
  }
  if (!ok) {
    return host_fail(L, UV_ENOMEM);
  }
  job_ask(job);
  lua_pushboolean(L, 1);
  return 1;
}

// store:drop()
// A request as that of start(): closes the file. Raises while a request runs.
static int l_drop(lua_State *L)
{
  Job *job = check_open(L)->job;
  check_idle(L, job);
  job_clear_request(job);
  job_ask(job);
  return 0;
}

// Pushes the cell at *at, and moves on.
static void push_cell(lua_State *L, const char **at)
{
  char type = *(*at)++;
  if (type == 'N') {
    double number;
    memcpy(&number, *at, sizeof(number));
    *at += sizeof(number);
    lua_pushnumber(L, number);
  } else if (type == 'T') {
    size_t len;
    memcpy(&len, *at, sizeof(len));
    *at += sizeof(len);
    lua_pushlstring(L, *at, len);
    *at += len;
  } else {
    lua_pushnil(L);
  }
}

static void push_rows(lua_State *L, const ByteBuffer *rows)
{
  const char *at = rows->data, *end = rows->len > 0 ? rows->data + rows->len : at;
  lua_newtable(L);
  for (int row = 1; at < end; row++) {
    lua_newtable(L);
    for (int column = 1; *at != 'E'; column++) {
      push_cell(L, &at);
      lua_rawseti(L, -2, column);
    }
    at++;
    lua_rawseti(L, -2, row);
  }
}

// store:take() -> rows | nil, err, code
// After on_done(). Rows are lists of cells; NULL is nil. EBUSY: another process holds the file;
// EROFS, ENOSPC, EISDIR; EBROKEN: it is no store; ESTORE: anything else.
static int l_take(lua_State *L)
{
  Store *s = check_open(L);
  Job *job = s->job;
  pthread_mutex_lock(&job->lock);
  bool done = job->state == JOB_DONE;
  if (done) {
    job->state = JOB_IDLE;
  }
  pthread_mutex_unlock(&job->lock);
  luaL_argcheck(L, done, 1, "no request is done");
  if (job->error[0]) {
    return host_failf(L, job->code, "%s", job->error);
  }
  push_rows(L, &job->rows);
  return 1;
}

// store:close()
// Never waits for a request that runs. May be called twice.
static int l_close(lua_State *L)
{
  store_close(luaL_checkudata(L, 1, STORE_TYPE));
  return 0;
}

static const luaL_Reg functions[] = {{"open", l_open}, {NULL, NULL}};

static const luaL_Reg methods[] = {
    {"start", l_start}, {"take", l_take}, {"drop", l_drop}, {"close", l_close}, {NULL, NULL}};

static const luaL_Reg metamethods[] = {{"__gc", l_close}, {NULL, NULL}};

int luaopen_host_store(lua_State *L)
{
  luaL_newmetatable(L, STORE_TYPE);
  luaL_setfuncs(L, metamethods, 0);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);

  luaL_newlib(L, functions);
  return 1;
}
