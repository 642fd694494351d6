// child.c: runs one script and ends with exactly one D or E frame, or dies.

#include "worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <ucontext.h>

#include <lauxlib.h>

static struct {
  const char *code; // borrowed from the string at index 1 of the state's stack
  size_t code_len;
  int error_line;
  char traceback[4096];
  char hint[256];
} run;

// The line from which host function `fn` was called.
static int call_line(lua_State *L, const char *fn)
{
  int line = script_line(L);
  return line > 0 ? line : tail_call_line(run.code, run.code_len, fn);
}

// --- Host functions ---------------------------------------------------------------------------

// The answer's error as a Lua error: "script:3: proc.info: no such process".
static int raise_answer(lua_State *L, const char *fn)
{
  lua_getfield(L, -1, "error");
  const char *text = lua_tostring(L, -1);
  text = text ? text : "failed";
  bool named = strncmp(text, fn, strlen(fn)) == 0;
  int line = call_line(L, fn);
  const char *position = "";
  if (line > 0) {
    position = lua_pushfstring(L, "script:%d: ", line);
  }
  lua_pushfstring(L, "%s%s%s%s", position, named ? "" : fn, named ? "" : ": ", text);
  return lua_error(L);
}

static int push_answer(lua_State *L, const char *fn)
{
  size_t len;
  char *json = wait_for_reply(&len);
  CodecDecoder decoder = {.max_depth = DECODE_DEPTH};
  if (!codec_decode(L, json, len, &decoder)) {
    _exit(EXIT_BAD_REQUEST);
  }
  free(json);
  int answer = lua_gettop(L);
  lua_getfield(L, answer, "ok");
  if (!lua_toboolean(L, -1)) {
    lua_settop(L, answer);
    return raise_answer(L, fn);
  }
  lua_getfield(L, answer, "values");
  int values = lua_gettop(L);
  int n = lua_istable(L, values) ? (int)lua_objlen(L, values) : 0;
  luaL_checkstack(L, n + 2, "too many results");
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, values, i);
    if (lua_islightuserdata(L, -1)) {
      lua_pop(L, 1);
      lua_pushnil(L);
    }
  }
  return n;
}

static int refuse_argument(lua_State *L, const char *fn, int arg, CodecStatus status,
                           const CodecEncoder *encoder, CodecBuf *frame)
{
  codec_free(frame);
  const char *why = status == CODEC_TOO_MANY ? "too many values" : encoder->error;
  int line = call_line(L, fn);
  if (line > 0) {
    lua_pushfstring(L, "script:%d: ", line);
  } else {
    lua_pushliteral(L, "");
  }
  if (status == CODEC_TOO_BIG) {
    lua_pushfstring(L, "%s: arguments larger than %d bytes", fn, (int)limits.args_bytes);
  } else {
    lua_pushfstring(L, "%s: bad argument #%d (%s)", fn, arg, why);
  }
  lua_concat(L, 2);
  return lua_error(L);
}

// A host function: the upvalue is its name. The script waits here until the host has answered.
static int l_call_host(lua_State *L)
{
  const char *fn = lua_tostring(L, lua_upvalueindex(1));
  if (calls_made >= limits.calls) {
    char text[96];
    int line = call_line(L, fn);
    snprintf(text, sizeof(text), "script:%d: limit: more than %u host calls in one script", line,
             limits.calls);
    report_failure(&(Failure){.kind = "limit", .message = text, .line = line});
  }
  int n = lua_gettop(L);
  CodecBuf frame = CODEC_BUF(MAX_CALL_ARGS + 512);
  codec_putf(&frame, "{\"id\":%u,\"fn\":\"%.200s\",\"args\":[", calls_made + 1, fn);
  frame.max = frame.len + limits.args_bytes;
  for (int i = 1; i <= n; i++) {
    if (i > 1) {
      codec_put(&frame, ",", 1);
    }
    CodecEncoder encoder = {.strict = true, .max_depth = MAX_DEPTH, .max_values = MAX_VALUES};
    CodecStatus status = codec_encode(L, i, &encoder, &frame);
    if (status != CODEC_OK) {
      return refuse_argument(L, fn, i, status, &encoder, &frame);
    }
  }
  frame.max += 8;
  codec_put(&frame, "]}", 2);
  calls_made++;
  write_frame(FRAME_CALL, frame.data, frame.len);
  codec_free(&frame);
  lua_settop(L, 0);
  return push_answer(L, fn);
}

// --- Errors -----------------------------------------------------------------------------------

// Without LuaJIT's addresses and the frames that are not the script's.
static void keep_traceback(const char *text)
{
  size_t len = 0;
  while (*text) {
    size_t line = strcspn(text, "\n");
    bool ours = strncmp(text, "\tscript:", 8) == 0;
    if (ours && len + line + 2 < sizeof(run.traceback)) {
      memcpy(run.traceback + len, text, line);
      len += line;
      run.traceback[len++] = '\n';
    }
    text += line + (text[line] == '\n');
  }
  run.traceback[len > 0 ? len - 1 : 0] = '\0';
}

static int on_error(lua_State *L)
{
  run.error_line = script_line(L);
  luaL_traceback(L, L, NULL, 1);
  keep_traceback(lua_tostring(L, -1));
  lua_pop(L, 1);
  return 1;
}

static int line_of(const char *message)
{
  int line = 0;
  return sscanf(message, "script:%9d:", &line) == 1 ? line : 0;
}

// The error object on top of the stack as text: a string, a table's field `message`, or JSON.
static const char *error_text(lua_State *L, size_t *len)
{
  if (lua_type(L, -1) == LUA_TSTRING) {
    return lua_tolstring(L, -1, len);
  }
  if (lua_istable(L, -1)) {
    lua_pushliteral(L, "message");
    lua_rawget(L, -2);
    if (lua_type(L, -1) == LUA_TSTRING) {
      return lua_tolstring(L, -1, len);
    }
    lua_pop(L, 1);
  }
  static char json[2048];
  CodecBuf buf = CODEC_BUF(sizeof(json));
  CodecEncoder encoder = {.keep_first_key = true, .max_depth = 8, .max_values = 1000};
  CodecStatus status = codec_encode(L, -1, &encoder, &buf);
  if (status != CODEC_OK) {
    *len = (size_t)snprintf(json, sizeof(json), "(error object is a large %s value)",
                            luaL_typename(L, -1));
  } else {
    *len = buf.len;
    memcpy(json, buf.data, buf.len);
  }
  codec_free(&buf);
  return json;
}

static _Noreturn void report_lua_error(lua_State *L, int status)
{
  size_t len;
  const char *message = error_text(L, &len);
  if (status == LUA_ERRMEM || strcmp(message, "not enough memory") == 0) {
    report_memory();
  }
  Failure failure = {.kind = "runtime", .message = message, .message_len = len};
  failure.line = line_of(message);
  const char *detail = strncmp(message, "script:", 7) == 0 ? strchr(message + 7, ' ') : NULL;
  if (status == LUA_ERRSYNTAX) {
    failure.kind = "syntax";
    failure.hint = run.hint;
  } else {
    failure.line = failure.line ? failure.line : run.error_line;
    failure.traceback = run.traceback;
    if (detail && strncmp(detail, " denied: ", 9) == 0) {
      failure.kind = "denied";
    } else if (strcmp(message, "stack overflow") == 0) {
      failure.hint = "a function calls itself without end or too deeply"; // which one is not known
    }
  }
  report_failure(&failure);
}

// --- The run ----------------------------------------------------------------------------------

static void put_value(lua_State *L, int from, CodecBuf *buf)
{
  int n = lua_gettop(L) - from + 1;
  CodecEncoder encoder = {.max_depth = MAX_DEPTH, .max_values = MAX_VALUES};
  CodecStatus status = CODEC_OK;
  bool lossy = false;
  size_t start = buf->len;
  buf->max = start + limits.result_bytes;
  codec_puts(buf, n == 0 ? "null" : n > 1 ? "[" : "");
  for (int i = 0; i < n && status == CODEC_OK; i++) {
    codec_puts(buf, i > 0 ? "," : "");
    status = codec_encode(L, from + i, &encoder, buf);
    lossy |= encoder.lossy;
  }
  codec_puts(buf, n > 1 ? "]" : "");
  char text[200];
  if (status == CODEC_TOO_BIG || buf->full) {
    snprintf(text, sizeof(text),
             "result is larger than %zu bytes; return less data (aggregate, filter or take the "
             "first rows)",
             limits.result_bytes);
  } else if (status == CODEC_TOO_MANY) {
    snprintf(text, sizeof(text), "too many values (limit %d)", MAX_VALUES);
  } else if (status == CODEC_BAD_VALUE) {
    snprintf(text, sizeof(text), "the result has no JSON form: %s", encoder.error);
  } else {
    buf->max += MAX_OUTPUT_JSON + MAX_ERROR_JSON;
    codec_puts(buf, lossy ? ",\"lossy\":true" : "");
    return;
  }
  report_failure(&(Failure){.kind = "result", .message = text});
}

static _Noreturn void report_done(lua_State *L, int from)
{
  if (lua_gettop(L) < from) {
    missing_return(L, run.code, run.code_len, run.hint, sizeof(run.hint));
  }
  CodecBuf buf = CODEC_BUF(64);
  codec_puts(&buf, "{\"ok\":true,\"value\":");
  put_value(L, from, &buf);
  if (*run.hint) {
    codec_puts(&buf, ",\"hint\":");
    codec_put_string(&buf, run.hint, strlen(run.hint));
  }
  put_output_and_stats(&buf);
  if (buf.full) {
    _exit(EXIT_NO_REPORT);
  }
  write_frame(FRAME_DONE, buf.data, buf.len);
  _exit(0);
}

static int run_script(lua_State *L)
{
  lua_settop(L, 0);
  lua_pushcfunction(L, on_error);
  int status = load_text(L, run.code, run.code_len);
  if (status == LUA_ERRSYNTAX) {
    missing_return(L, run.code, run.code_len, run.hint, sizeof(run.hint));
  }
  if (status == 0) {
    status = lua_pcall(L, 0, LUA_MULTRET, 1);
  }
  if (status != 0) {
    report_lua_error(L, status);
  }
  report_done(L, 2);
}

static double number_field(lua_State *L, int table, const char *name, double min)
{
  lua_getfield(L, table, name);
  double n = lua_tonumber(L, -1);
  lua_pop(L, 1);
  if (!(n >= min)) {
    _exit(EXIT_BAD_REQUEST);
  }
  return n;
}

static void read_limits(lua_State *L, int request)
{
  lua_getfield(L, request, "limits");
  int table = lua_gettop(L);
  if (!lua_istable(L, table)) {
    _exit(EXIT_BAD_REQUEST);
  }
  limits.wall_ms = number_field(L, table, "wall_ms", 1);
  limits.cpu_ms = number_field(L, table, "cpu_ms", 1);
  limits.memory_bytes = (size_t)number_field(L, table, "memory_bytes", 1);
  limits.result_bytes = (size_t)number_field(L, table, "result_bytes", 1);
  limits.output_bytes = (size_t)number_field(L, table, "output_bytes", 0);
  limits.args_bytes = (size_t)number_field(L, table, "args_bytes", 1);
  limits.args_bytes = limits.args_bytes < MAX_CALL_ARGS ? limits.args_bytes : MAX_CALL_ARGS;
  limits.calls = (unsigned)number_field(L, table, "calls", 0);
}

// Reads the request, which the host made: the one thing done with full rights.
static int prepare(lua_State *L)
{
  char type;
  size_t len;
  char *json = read_frame(&type, &len, MAX_FRAME);
  CodecDecoder decoder = {.max_depth = DECODE_DEPTH + 2};
  if (type != FRAME_EXECUTE || !codec_decode(L, json, len, &decoder)) {
    _exit(EXIT_BAD_REQUEST);
  }
  free(json);
  int request = lua_gettop(L);
  read_limits(L, request);

  lua_getfield(L, request, "fns");
  int fns = lua_gettop(L);
  for (int i = 1; i <= (int)lua_objlen(L, fns); i++) {
    lua_rawgeti(L, fns, i);
    environment_add(L, lua_tostring(L, -1), l_call_host);
    lua_pop(L, 1);
  }
#ifdef WORKER_PROBE
  probe_add(L);
#endif
  lua_getfield(L, request, "args");
  if (lua_isnil(L, -1)) {
    lua_pushlightuserdata(L, NULL);
  }
  lua_setglobal(L, "args");

  uint32_t seed;
  if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) == sizeof(seed)) {
    environment_seed(L, seed);
  }
  lua_getfield(L, request, "code");
  run.code = lua_tolstring(L, -1, &run.code_len);
  lua_setfield(L, LUA_REGISTRYINDEX, "code");
  return 0;
}

static int on_panic(lua_State *L)
{
  (void)L;
  if (heap.hit) {
    report_memory();
  }
  _exit(EXIT_NO_REPORT);
}

static lua_State *state_to_run;

static _Noreturn void run_jailed(void)
{
  lua_State *L = state_to_run;
  jail_limit_cpu(limits.cpu_ms);
  clocks_start(L);
  if (!jail_close()) {
    char text[128];
    snprintf(text, sizeof(text), "sandbox unavailable: seccomp: %s", strerror(errno));
    report_failure(&(Failure){.kind = "sandbox", .message = text});
  }
  heap.floor = heap.used;
  heap.peak = heap.used;
  heap.cap = heap.used + limits.memory_bytes;
  int status = lua_cpcall(L, run_script, NULL);
  report_lua_error(L, status);
}

// Goes on with run_jailed() on a stack that is large enough, where the system's limit is too low.
static void change_stack(void)
{
  struct rlimit limit;
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= WORKER_STACK) {
    return;
  }
  static ucontext_t context;
  void *stack = mmap(NULL, WORKER_STACK, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED || getcontext(&context) != 0) {
    return;
  }
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = WORKER_STACK;
  makecontext(&context, run_jailed, 0);
  setcontext(&context);
}

_Noreturn void child_main(lua_State *L)
{
  lua_atpanic(L, on_panic);
  if (lua_cpcall(L, prepare, NULL) != 0 || !run.code) {
    _exit(EXIT_BAD_REQUEST);
  }
  state_to_run = L;
  change_stack();
  run_jailed();
}
