// sandbox_child.c: speaks with one child of the sandbox. Everything that it sends is treated as
// hostile: sizes, order, names and JSON are checked, and a wrong frame is the end of it.

#include "sandbox.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/wait.h>

#include "host.h"

#define GRACE_MS 1500 // after the wall limit; the child's own clocks come before

typedef struct Write {
  uv_write_t request;
  char *data; // owned
} Write;

static void protocol_error(Child *child, const char *what)
{
  Run *run = child->run;
  if (run) {
    run_fail(run, "crash", "the script's process broke the protocol (%s)", what);
  } else {
    child_close(child);
  }
}

// --- Outcomes ---------------------------------------------------------------------------------

// The process ended without a report: says why, as well as its status tells.
static void fail_by_status(Run *run, int status, bool overdue)
{
  bool by_signal = status != -1 && WIFSIGNALED(status);
  int signal = by_signal ? WTERMSIG(status) : 0;
  bool no_report = status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_REPORT;
  if (status == -1) {
    const char *problem = run->box->problem;
    run_fail(run, "sandbox", "sandbox unavailable: %s",
             *problem ? problem : "its process ended; try again");
  } else if (signal == SIGSYS) {
    run_fail(run, "denied", "denied: the script made a forbidden system call");
  } else if (no_report || (signal == SIGKILL && overdue)) {
    run_fail(run, "timeout", "script exceeded its time limit of %.1f s", run->wall_ms / 1000);
  } else if (run->memory_hit) {
    run_fail(run, "memory", "script exceeded its memory limit");
  } else if (signal == SIGKILL) {
    // Not by us, nor by a clock: the system, or somebody on it.
    run_fail(run, "sandbox", "sandbox unavailable: the script's process was killed; try again");
  } else if (by_signal) {
    run_fail(run, "crash", "the script crashed the interpreter (signal %d); simplify it", signal);
  } else {
    run_fail(run, "crash", "the script crashed the interpreter (exit %d); simplify it",
             WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  }
}

// Whether the kernel may have killed it for its time: RLIMIT_CPU comes 1 to 2 s after the limit.
static bool is_overdue(const Child *child)
{
  uint64_t ran_ms = uv_now(child->box->loop) - child->run->started_ms;
  double least_ms = child->run->cpu_ms + 1000;
  least_ms = child->run->wall_ms < least_ms ? child->run->wall_ms : least_ms;
  return (double)ran_ms >= least_ms;
}

static void settle(Child *child)
{
  if (!child->eof || !child->exited) {
    return;
  }
  if (child->run) {
    fail_by_status(child->run, child->status, is_overdue(child));
  } else {
    child_close(child);
  }
}

void child_on_exit(Child *child, int status)
{
  child->exited = true;
  child->status = status;
  settle(child);
}

static void on_deadline(uv_timer_t *timer)
{
  Child *child = timer->data;
  Zygote *zygote = child->zygote;
  if (child->run && child->pid == 0 && zygote) {
    run_fail(child->run, "sandbox", "sandbox unavailable: its worker does not answer");
    zygote_lose(zygote);
  } else if (child->run) {
    run_fail(child->run, "timeout", "script exceeded its time limit of %.1f s",
             child->run->wall_ms / 1000);
  }
}

// --- Frames from the child --------------------------------------------------------------------

static size_t max_length(const Run *run, char type)
{
  switch (type) {
  case FRAME_CALL:
    return run->args_bytes + 1024;
  case FRAME_DONE:
  case FRAME_ERROR:
    return run->result_bytes + 6 * run->output_bytes + MAX_ERROR_JSON + 1024;
  case FRAME_MEMORY:
    return 2;
  default:
    return 0;
  }
}

// Pushes the frame's JSON, which must be an object.
static bool push_frame(lua_State *L, const char *json, size_t len)
{
  CodecDecoder decoder = {
      .max_depth = DECODE_DEPTH, .max_values = 2 * MAX_VALUES, .keep_null = true};
  if (!codec_decode(L, json, len, &decoder)) {
    return false;
  }
  if (*json != '{') {
    lua_pop(L, 1);
    return false;
  }
  return true;
}

static bool may_call(const Run *run, const char *name, size_t len)
{
  char key[256];
  if (len == 0 || len > sizeof(key) - 2 || memchr(name, '\0', len)) {
    return false;
  }
  key[0] = '\0';
  memcpy(key + 1, name, len);
  key[len + 1] = '\0';
  return memmem(run->names.data, run->names.len, key, len + 2) != NULL;
}

// A call: {id, fn, args}. Leaves the stack as it was.
static void on_call_frame(Child *child, const char *json, size_t len)
{
  Run *run = child->run;
  lua_State *L = run->box->L;
  int top = lua_gettop(L);
  if (run->awaiting || run->calls >= run->max_calls || !push_frame(L, json, len)) {
    protocol_error(child, "call");
    return;
  }
  lua_getfield(L, top + 1, "id");
  lua_getfield(L, top + 1, "fn");
  lua_getfield(L, top + 1, "args");
  size_t name_len = 0;
  const char *name =
      lua_type(L, top + 3) == LUA_TSTRING ? lua_tolstring(L, top + 3, &name_len) : "";
  bool ok = lua_type(L, top + 2) == LUA_TNUMBER && lua_tonumber(L, top + 2) == run->calls + 1 &&
            lua_istable(L, top + 4) && may_call(run, name, name_len);
  if (ok) {
    run->calls++;
    run->awaiting = true;
    run_on_call(run, name);
  } else {
    protocol_error(child, "call");
  }
  lua_settop(L, top);
}

static void on_last_frame(Child *child, char type, const char *json, size_t len)
{
  Run *run = child->run;
  lua_State *L = run->box->L;
  if (!push_frame(L, json, len)) {
    protocol_error(child, "report");
    return;
  }
  lua_getfield(L, -1, "ok");
  bool ok = lua_isboolean(L, -1) && lua_toboolean(L, -1) == (type == FRAME_DONE);
  lua_getfield(L, -2, "error");
  ok = ok && lua_istable(L, -1) == (type == FRAME_ERROR);
  lua_pop(L, 2);
  if (!ok) {
    lua_pop(L, 1);
    protocol_error(child, "report");
    return;
  }
  run_finish(run);
}

static void on_frame(Child *child, char type, const char *json, size_t len)
{
  switch (type) {
  case FRAME_CALL:
    on_call_frame(child, json, len);
    break;
  case FRAME_MEMORY:
    if (child->run->memory_hit) {
      protocol_error(child, "memory");
    }
    if (child->run) {
      child->run->memory_hit = true;
    }
    break;
  default:
    on_last_frame(child, type, json, len);
  }
}

static size_t frame_length(const char *header)
{
  const unsigned char *h = (const unsigned char *)header;
  return h[0] | (size_t)h[1] << 8 | (size_t)h[2] << 16 | (size_t)h[3] << 24;
}

// Takes bytes of the current frame; returns how many.
static size_t take_bytes(Child *child, const char *data, size_t len)
{
  CodecBuf *frame = &child->frame;
  size_t want = FRAME_HEADER;
  if (frame->len >= FRAME_HEADER) {
    want += frame_length(frame->data);
  }
  size_t n = want - frame->len < len ? want - frame->len : len;
  codec_put(frame, data, n);
  if (frame->len == FRAME_HEADER && want == FRAME_HEADER) {
    char type = frame->data[4];
    size_t max = max_length(child->run, type);
    size_t length = frame_length(frame->data);
    if (max == 0 || length == 0 || length > max) {
      protocol_error(child, max == 0 ? "unknown frame" : "frame size");
    }
  } else if (frame->len == want && want > FRAME_HEADER) {
    // The callback may close the child; its buffer stays until the handles are closed.
    on_frame(child, frame->data[4], frame->data + FRAME_HEADER, want - FRAME_HEADER);
    frame->len = 0;
  }
  return n;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
  Child *child = stream->data;
  if (n < 0) {
    child->eof = true;
    uv_read_stop(stream);
    settle(child);
    return;
  }
  size_t at = 0;
  while (at < (size_t)n && child->run && !child->closing) {
    at += take_bytes(child, buf->base + at, (size_t)n - at);
  }
  if (at < (size_t)n && !child->closing) {
    child_close(child); // spoke while idle
  }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
  static char bytes[65536];
  (void)handle;
  (void)suggested;
  *buf = uv_buf_init(bytes, sizeof(bytes));
}

// --- Frames to the child ----------------------------------------------------------------------

static void on_written(uv_write_t *request, int status)
{
  (void)status; // a broken channel is seen by the reader
  Write *write = (Write *)request;
  free(write->data);
  free(write);
}

bool child_send(Child *child, char type, CodecBuf *json)
{
  Write *write = malloc(sizeof(*write));
  write->data = malloc(FRAME_HEADER + json->len);
  size_t len = json->len;
  char header[FRAME_HEADER] = {(char)len, (char)(len >> 8), (char)(len >> 16), (char)(len >> 24),
                               type};
  memcpy(write->data, header, FRAME_HEADER);
  memcpy(write->data + FRAME_HEADER, json->data, len);
  uv_buf_t buf = uv_buf_init(write->data, (unsigned)(FRAME_HEADER + len));
  if (uv_write(&write->request, (uv_stream_t *)&child->channel, &buf, 1, on_written) != 0) {
    free(write->data);
    free(write);
    return false;
  }
  return true;
}

void child_start(Child *child, Run *run)
{
  child->used = true;
  child->run = run;
  run->child = child;
  run->box->running++;
  run->box->memory += run->memory_bytes;
  run->started_ms = uv_now(run->box->loop);
  child_send(child, FRAME_EXECUTE, &run->request);
  codec_free(&run->request);
  uv_timer_start(&child->deadline, on_deadline, (uint64_t)run->wall_ms + GRACE_MS, 0);
}

// --- Life -------------------------------------------------------------------------------------

static void on_closed(uv_handle_t *handle)
{
  Child *child = handle->data;
  if (--child->handles == 0) {
    Box *box = child->box;
    codec_free(&child->frame);
    free(child);
    box_release(box);
  }
}

Child *child_new(Box *box, uint64_t id, int fd)
{
  Child *child = calloc(1, sizeof(*child));
  child->box = box;
  child->id = id;
  child->frame = CODEC_BUF(MAX_FRAME);
  child->channel.data = child;
  child->deadline.data = child;
  child->handles = 2;
  child->next = box->children;
  box->children = child;
  box->holders++;
  uv_pipe_init(box->loop, &child->channel, 0);
  uv_timer_init(box->loop, &child->deadline);
  if (uv_pipe_open(&child->channel, fd) != 0 ||
      uv_read_start((uv_stream_t *)&child->channel, on_alloc, on_read) != 0) {
    child_close(child);
    return NULL;
  }
  return child;
}

void child_close(Child *child)
{
  if (child->closing) {
    return;
  }
  child->closing = true;
  if (child->run) {
    child->box->memory -= child->run->memory_bytes;
    child->run->child = NULL;
    child->run = NULL;
    child->box->running--;
  }
  if (!child->exited) {
    zygote_kill_child(child);
  }
  zygote_forget_child(child);
  uv_close((uv_handle_t *)&child->channel, on_closed);
  uv_close((uv_handle_t *)&child->deadline, on_closed);
}
