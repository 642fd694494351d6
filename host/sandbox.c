// sandbox.c: host.sandbox, runs Lua that nobody trusts in a process of its own.
//
//   local box = sandbox.open({ pool = 4 })
//   local run = box:exec({ code = "return f(1)", fns = { "f" }, limits = {…} },
//     function(what, id, name, args)
//       if what == "call" then run:reply(id, true, 42) else use(id) end   -- "done", outcome
//     end)
//   box:close()
//
// All about processes is here and in the sandbox_*.c files; what the outcomes mean to a model is
// runtime/sandbox.lua.

#include "sandbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <luv/luv.h>

#include "host.h"
#include "modules.h"

#define BOX_TYPE "host.sandbox"
#define RUN_TYPE "host.sandbox.run"
#define MAX_MEMORY 1073741824.0
#define MAX_FORKS 10000
#define MAX_AGE_MS 3600000
#define MAX_ERROR_TEXT 2048 // of an answer

typedef struct BoxUserdata {
  Box *box; // held
} BoxUserdata;

void box_release(Box *box)
{
  if (--box->holders == 0) {
    if (box->image_fd >= 0) {
      close(box->image_fd);
    }
    free(box);
  }
}

// --- Runs -------------------------------------------------------------------------------------

static Run *check_run(lua_State *L)
{
  return luaL_checkudata(L, 1, RUN_TYPE);
}

// {"id":…,"ok":true,"values":[…]} or {…,"error":…}, the last of them of at most `max_bytes`.
static bool encode_reply(lua_State *L, CodecBuf *json, unsigned id, bool ok, size_t max_bytes)
{
  codec_putf(json, "{\"id\":%u,\"ok\":%s,\"%s\":", id, ok ? "true" : "false",
             ok ? "values" : "error");
  json->max = json->len + max_bytes;
  CodecEncoder encoder = {
      .keep_first_key = true, .max_depth = DECODE_DEPTH - 4, .max_values = MAX_VALUES};
  int n = lua_gettop(L);
  if (!ok) {
    size_t len;
    const char *text = luaL_checklstring(L, 4, &len);
    codec_put_string(json, text, len < MAX_ERROR_TEXT ? len : MAX_ERROR_TEXT);
  } else {
    // One value at least, so that type(f()) works; no nil at the end, so that `return f()` of a
    // function with one result is not a list.
    lua_settop(L, n < 4 ? 4 : n);
    while (n > 4 && lua_isnil(L, n)) {
      n--;
    }
    n = n < 4 ? 4 : n;
    codec_puts(json, "[");
    for (int i = 4; i <= n; i++) {
      codec_puts(json, i > 4 ? "," : "");
      if (codec_encode(L, i, &encoder, json) != CODEC_OK) {
        return false;
      }
    }
    codec_puts(json, "]");
  }
  json->max++;
  codec_puts(json, "}");
  return !json->full;
}

// reply(id, true, ...) or reply(id, false, error_text) -> true | nil, err, code
// Answers the call `id`; of an error, up to 2 KiB. EBIG: the values are more than the limit
// `reply_bytes` of JSON, or 200 000 values; nothing is sent.
// EDONE: the script has ended, or this call is answered.
static int l_reply(lua_State *L)
{
  Run *run = check_run(L);
  unsigned id = (unsigned)luaL_checkinteger(L, 2);
  luaL_checktype(L, 3, LUA_TBOOLEAN);
  bool ok = lua_toboolean(L, 3);
  if (!ok) {
    luaL_checkstring(L, 4);
  }
  if (run->over || !run->awaiting || id != run->calls) {
    return host_failf(L, "EDONE", "nobody waits for this answer");
  }
  CodecBuf json = CODEC_BUF(MAX_FRAME);
  if (!encode_reply(L, &json, id, ok, ok ? run->reply_bytes : 6 * MAX_ERROR_TEXT)) {
    codec_free(&json);
    return host_failf(L, "EBIG", "the answer is larger than %zu bytes", run->reply_bytes);
  }
  run->awaiting = false;
  child_send(run->child, FRAME_REPLY, &json);
  codec_free(&json);
  lua_pushboolean(L, 1);
  return 1;
}

// cancel(): kills the script; the callback is not called any more. No-op when it is over.
static int l_cancel(lua_State *L)
{
  Run *run = check_run(L);
  Box *box = run->box;
  if (run->callback != LUA_NOREF) {
    run_end(run);
    host_unref(L, &run->callback);
    host_unref(L, &run->self);
    box_pump(box);
  }
  return 0;
}

// pid() -> pid of the process that runs the script | nil before it is known and at the end
static int l_pid(lua_State *L)
{
  Run *run = check_run(L);
  if (!run->child || run->child->pid == 0) {
    return 0;
  }
  lua_pushinteger(L, run->child->pid);
  return 1;
}

static int l_run_gc(lua_State *L)
{
  Run *run = check_run(L);
  if (run->callback != LUA_NOREF) {
    // Only at lua_close(): a run that has not called back holds itself.
    run->box->L = NULL;
    run_end(run);
  }
  box_release(run->box);
  return 0;
}

// --- Boxes ------------------------------------------------------------------------------------

static Box *check_box(lua_State *L)
{
  Box *box = ((BoxUserdata *)luaL_checkudata(L, 1, BOX_TYPE))->box;
  luaL_argcheck(L, !box->closed, 1, "sandbox is closed");
  return box;
}

static double check_limit(lua_State *L, int table, const char *name, double min)
{
  lua_getfield(L, table, name);
  double n = lua_tonumber(L, -1);
  lua_pop(L, 1);
  if (!(n >= min && n <= 1e12)) {
    luaL_error(L, "limits.%s must be a number from %f", name, min);
  }
  return n;
}

static size_t check_size(lua_State *L, int table, const char *name, size_t max)
{
  double n = check_limit(L, table, name, 0);
  return n < (double)max ? (size_t)n : max;
}

static void check_request(lua_State *L, Run *run)
{
  lua_getfield(L, 2, "limits");
  luaL_argcheck(L, lua_istable(L, -1), 2, "limits is a table");
  int limits = lua_gettop(L);
  run->wall_ms = check_limit(L, limits, "wall_ms", 1);
  run->cpu_ms = check_limit(L, limits, "cpu_ms", 1);
  run->memory_bytes = check_limit(L, limits, "memory_bytes", 1);
  run->result_bytes = (size_t)check_limit(L, limits, "result_bytes", 1);
  run->max_calls = (unsigned)check_limit(L, limits, "calls", 0);
  run->output_bytes = check_size(L, limits, "output_bytes", MAX_OUTPUT);
  run->args_bytes = check_size(L, limits, "args_bytes", MAX_CALL_ARGS);
  run->reply_bytes = check_size(L, limits, "reply_bytes", MAX_REPLY);
  lua_getfield(L, 2, "owner");
  snprintf(run->owner, sizeof(run->owner), "%s", luaL_optstring(L, -1, ""));
  lua_getfield(L, 2, "fns");
  luaL_argcheck(L, lua_istable(L, -1), 2, "fns is a list of names");
  lua_pop(L, 3);
}

static bool build_request(lua_State *L, Run *run)
{
  lua_getfield(L, 2, "fns");
  codec_put(&run->names, "", 1);
  for (int i = 1; i <= (int)lua_objlen(L, -1); i++) {
    lua_rawgeti(L, -1, i);
    size_t len = 0;
    const char *name = lua_tolstring(L, -1, &len);
    codec_put(&run->names, name ? name : "", len + (name != NULL));
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  CodecEncoder encoder = {.keep_first_key = true, .max_depth = DECODE_DEPTH};
  return codec_encode(L, 2, &encoder, &run->request) == CODEC_OK;
}

static int refuse(lua_State *L, Run *run, const char *code, const char *text)
{
  run_end(run);
  return host_failf(L, code, "%s", text);
}

// exec(request, callback) -> run | nil, err, code
// `request` is {code, args, fns, owner, limits{wall_ms, cpu_ms, memory_bytes, result_bytes,
// output_bytes, args_bytes, reply_bytes, calls}}.
// Later, from the loop, any number of callback("call", id, name, args), each to be answered with
// run:reply(), and exactly one callback("done", frame), unless the run is cancelled: the D or E
// frame of the script, or one made here with error kind timeout, denied, memory, crash, cancelled
// or sandbox (no process can be had, or it was killed). At most 16 scripts run at once, 8 of one
// named `owner`, and with at most the box's memory together; others wait, and owners take turns.
// EBIG: the request is larger than 16 MiB.
static int l_exec(lua_State *L)
{
  Box *box = check_box(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  lua_settop(L, 3);

  Run *run = lua_newuserdata(L, sizeof(*run));
  *run = (Run){.box = box, .self = LUA_NOREF, .callback = LUA_NOREF, .over = true};
  run->request = CODEC_BUF(MAX_FRAME);
  run->names = CODEC_BUF(MAX_FRAME);
  box->holders++;
  luaL_setmetatable(L, RUN_TYPE);
  check_request(L, run);
  if (!build_request(L, run)) {
    return refuse(L, run, "EBIG", "the request is too large or nested too deeply");
  }
  lua_pushvalue(L, 3);
  run->callback = host_ref(L);
  lua_pushvalue(L, 4);
  run->self = host_ref(L);
  run->over = false;
  run_enqueue(run);
  lua_settop(L, 4);
  return 1;
}

static void push_count(lua_State *L, const char *name, unsigned n)
{
  lua_pushinteger(L, (lua_Integer)n);
  lua_setfield(L, -2, name);
}

// stats() -> {running, queued, idle, starts, memory_bytes, zygotes = list of pids,
// children = list of pids}
// `starts` counts the worker programs started so far; `memory_bytes` sums the limits of what runs.
static int l_stats(lua_State *L)
{
  Box *box = ((BoxUserdata *)luaL_checkudata(L, 1, BOX_TYPE))->box;
  unsigned idle = 0;
  unsigned queued = 0;
  int zygotes = 0;
  int children = 0;
  for (Run *run = box->queue; run; run = run->next) {
    queued++;
  }
  lua_newtable(L);
  lua_newtable(L);
  lua_newtable(L);
  for (Zygote *zygote = box->zygotes; zygote; zygote = zygote->next) {
    if (!zygote->lost) {
      lua_pushinteger(L, zygote->process.pid);
      lua_rawseti(L, -3, ++zygotes);
    }
  }
  for (Child *child = box->children; child; child = child->next) {
    idle += !child->used;
    if (child->pid) {
      lua_pushinteger(L, child->pid);
      lua_rawseti(L, -2, ++children);
    }
  }
  lua_setfield(L, -3, "children");
  lua_setfield(L, -2, "zygotes");
  push_count(L, "running", box->running);
  push_count(L, "queued", queued);
  push_count(L, "idle", idle);
  push_count(L, "starts", box->starts);
  lua_pushnumber(L, box->memory);
  lua_setfield(L, -2, "memory_bytes");
  return 1;
}

static void box_shut(Box *box)
{
  box->closed = true;
  while (box->queue) {
    run_fail(box->queue, "cancelled", "the sandbox was closed");
  }
  while (box->children) {
    Child *child = box->children;
    if (child->run) {
      run_fail(child->run, "cancelled", "the sandbox was closed");
    } else {
      child_close(child);
    }
  }
  for (Zygote *zygote = box->zygotes; zygote; zygote = zygote->next) {
    zygote_lose(zygote);
  }
  // Tells the failures and closes itself.
  box_kick(box);
}

// close(): kills all; executions that still run get kind "cancelled". May be called twice.
static int l_close(lua_State *L)
{
  Box *box = ((BoxUserdata *)luaL_checkudata(L, 1, BOX_TYPE))->box;
  if (!box->closed) {
    box_shut(box);
    host_unref(L, &box->self);
  }
  return 0;
}

static int l_box_gc(lua_State *L)
{
  Box *box = ((BoxUserdata *)luaL_checkudata(L, 1, BOX_TYPE))->box;
  if (!box->closed) {
    box->L = NULL; // only at lua_close(): an open box holds itself
    box_shut(box);
  }
  box_release(box);
  return 0;
}

static double option(lua_State *L, const char *name, double default_value, double min, double max)
{
  if (lua_isnoneornil(L, 1)) {
    return default_value;
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, name);
  double n = luaL_optnumber(L, -1, default_value);
  lua_pop(L, 1);
  if (!(n >= min && n <= max)) {
    luaL_error(L, "%s is a number from %f to %f", name, min, max);
  }
  return n;
}

// open({ pool?, max_memory?, max_forks?, max_age_ms? }) -> box
// Starts the worker program and `pool` (default 4, at most 16) idle processes. If that fails,
// exec() tries again and says why not. `max_memory`: bytes that running scripts may have together
// (default 1 GiB). `max_forks`, `max_age_ms`: when another worker program takes over (default and
// most: 10 000 scripts, 1 h).
static int l_open(lua_State *L)
{
  unsigned pool = (unsigned)option(L, "pool", 4, 0, 16);
  double max_memory = option(L, "max_memory", MAX_MEMORY, 1, 1e15);
  double max_forks = option(L, "max_forks", MAX_FORKS, 1, MAX_FORKS);
  double max_age_ms = option(L, "max_age_ms", MAX_AGE_MS, 0, MAX_AGE_MS);
  BoxUserdata *userdata = lua_newuserdata(L, sizeof(*userdata));
  Box *box = calloc(1, sizeof(*box));
  *box = (Box){.L = luv_context(L)->L,
               .loop = luv_loop(L),
               .holders = 2,
               .pool = pool,
               .max_memory = max_memory,
               .max_forks = (unsigned)max_forks,
               .max_age_ms = (uint64_t)max_age_ms,
               .image_fd = IMAGE_UNMADE};
  userdata->box = box;
  uv_timer_init(box->loop, &box->kick);
  box->kick.data = box;
  luaL_setmetatable(L, BOX_TYPE);
  lua_pushvalue(L, -1);
  box->self = host_ref(L);
  zygote_fill_pool(box);
  return 1;
}

static const luaL_Reg functions[] = {
    {"open", l_open},
    {NULL, NULL},
};

static const luaL_Reg box_methods[] = {
    {"exec", l_exec},
    {"stats", l_stats},
    {"close", l_close},
    {NULL, NULL},
};

static const luaL_Reg box_metamethods[] = {
    {"__gc", l_box_gc},
    {NULL, NULL},
};

static const luaL_Reg run_methods[] = {
    {"reply", l_reply},
    {"cancel", l_cancel},
    {"pid", l_pid},
    {NULL, NULL},
};

static const luaL_Reg run_metamethods[] = {
    {"__gc", l_run_gc},
    {NULL, NULL},
};

static void new_type(lua_State *L, const char *name, const luaL_Reg *metamethods,
                     const luaL_Reg *methods)
{
  luaL_newmetatable(L, name);
  luaL_setfuncs(L, metamethods, 0);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

int luaopen_host_sandbox(lua_State *L)
{
  new_type(L, BOX_TYPE, box_metamethods, box_methods);
  new_type(L, RUN_TYPE, run_metamethods, run_methods);
  luaL_newlib(L, functions);
  return 1;
}
