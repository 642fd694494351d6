// store.c: host.store, an SQLite file with a thread of its own, so that the loop never waits for
// it.
//
//   local s = assert(store.open("state/beamlens.db", on_done))
//   s:start("INSERT INTO t VALUES (?1, ?2)", "a", 7)    -- one at a time
//   -- on_done() is called from the loop; then: s:take() -> rows, or nil, err, code
//
// The thread opens the file with its first request, and again with each one until that succeeds;
// s:drop() has it close the file, so that the next request opens what then lies there. A thread
// that hangs in a dead disk is left behind.

#include <stdio.h>

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <luv/luv.h>
#include <sqlite3.h>
#include <uv.h>

#include "byte_buffer.h"
#include "host.h"
#include "modules.h"
#include "request_thread.h"

#define STORE_TYPE "host.store.Store"
#define BUSY_MS 2000
#define MAX_PARAMS 16
#define MAX_ANSWER (16 * 1024 * 1024)

typedef struct Param {
  bool is_text;
  char *text; // owned
  size_t len;
  double number;
} Param;

typedef struct Job {
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
  RequestThread thread;
  Job *job; // of the thread; NULL once closed
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

static void job_free(void *arg)
{
  Job *job = arg;
  job_clear_request(job);
  byte_buffer_free(&job->rows);
  free(job->path);
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

static void serve(void *arg)
{
  Job *job = arg;
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

static void end(void *arg)
{
  Job *job = arg;
  sqlite3_close(job->db);
}

static const RequestKind kind = {
    .stack_bytes = 512 * 1024,
    .join_ms = 500,
    .serve = serve,
    .end = end,
    .free = job_free,
};

// --- The loop's side --------------------------------------------------------------------------

static void store_close(Store *s)
{
  s->job = NULL;
  request_thread_close(&s->thread);
}

// NULL when there is no memory.
static Job *job_new(const char *path, bool is_read_only)
{
  Job *job = calloc(1, sizeof(*job));
  if (!job) {
    return NULL;
  }
  job->is_read_only = is_read_only;
  job->path = strdup(path);
  if (!job->path) {
    job_free(job);
    return NULL;
  }
  return job;
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
  *s = (Store){0};
  luaL_getmetatable(L, STORE_TYPE);
  lua_setmetatable(L, -2);
  lua_insert(L, 2);
  request_thread_set_on_done(L, &s->thread);

  s->job = job_new(path, is_read_only);
  int err = request_thread_start(&s->thread, &kind, s->job);
  if (err == 0) {
    return 1;
  }
  s->job = NULL;
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

static void check_idle(lua_State *L, Store *s)
{
  luaL_argcheck(L, request_thread_is_idle(&s->thread), 1, "a request is running");
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
  check_idle(L, s);

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
  request_thread_ask(&s->thread);
  lua_pushboolean(L, 1);
  return 1;
}

// store:drop()
// A request as that of start(): closes the file. Raises while a request runs.
static int l_drop(lua_State *L)
{
  Store *s = check_open(L);
  check_idle(L, s);
  job_clear_request(s->job);
  request_thread_ask(&s->thread);
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
  luaL_argcheck(L, request_thread_take(&s->thread), 1, "no request is done");
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
