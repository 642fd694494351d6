// report.c: frames to and from the host, the clocks, and the report with which a run ends.

#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/time.h>

#define TICK_MS 50 // between the stages of a clock
#define KILL_MS 1000

typedef enum Phase {
  PHASE_RUN,   // Lua or a C function of it
  PHASE_WRITE, // a frame is half written
  PHASE_WAIT,  // for the host's answer
} Phase;

Limits limits;
unsigned calls_made;

static volatile sig_atomic_t phase = PHASE_RUN;
static volatile sig_atomic_t overdue; // the signal of the clock that ran out first
static volatile sig_atomic_t ticks;
static lua_State *state;
static struct timespec wall_start;

static char output[MAX_OUTPUT];
static size_t output_len;
static bool output_truncated;

// --- Frames -----------------------------------------------------------------------------------

static bool read_all(char *to, size_t len)
{
  while (len > 0) {
    ssize_t n = read(CHANNEL_FD, to, len);
    if (n > 0) {
      to += n;
      len -= (size_t)n;
    } else if (n == 0 || errno != EINTR) {
      return false;
    }
  }
  return true;
}

char *read_frame(char *type, size_t *len, size_t max)
{
  unsigned char header[FRAME_HEADER];
  if (!read_all((char *)header, sizeof(header))) {
    _exit(0);
  }
  *len = header[0] | (size_t)header[1] << 8 | (size_t)header[2] << 16 | (size_t)header[3] << 24;
  *type = (char)header[4];
  char *json = *len <= max ? malloc(*len + 1) : NULL;
  if (!json || !read_all(json, *len)) {
    _exit(EXIT_BAD_REQUEST);
  }
  json[*len] = '\0';
  return json;
}

static void write_all(const char *from, size_t len)
{
  while (len > 0) {
    ssize_t n = write(CHANNEL_FD, from, len);
    if (n > 0) {
      from += n;
      len -= (size_t)n;
    } else if (errno != EINTR) {
      _exit(EXIT_NO_REPORT);
    }
  }
}

static void put_frame(char type, const char *json, size_t len)
{
  char header[FRAME_HEADER] = {(char)len, (char)(len >> 8), (char)(len >> 16), (char)(len >> 24),
                               type};
  write_all(header, sizeof(header));
  write_all(json, len);
}

static _Noreturn void report_overdue(const char *where);

void write_frame(char type, const char *json, size_t len)
{
  phase = PHASE_WRITE;
  put_frame(type, json, len);
  phase = PHASE_RUN;
  if (overdue && type != FRAME_DONE) {
    report_overdue("");
  }
}

char *wait_for_reply(size_t *len)
{
  phase = PHASE_WAIT;
  // A clock may have run out just before; from here on its handler reports at once.
  if (overdue) {
    report_overdue(" (while waiting for a host function)");
  }
  char type;
  char *json = read_frame(&type, len, MAX_FRAME);
  phase = PHASE_RUN;
  if (type != FRAME_REPLY) {
    _exit(EXIT_BAD_REQUEST);
  }
  return json;
}

// --- Output and stats -------------------------------------------------------------------------

void output_add(const char *text, size_t len)
{
  size_t max = limits.output_bytes < sizeof(output) ? limits.output_bytes : sizeof(output);
  size_t room = max - output_len;
  if (len > room) {
    len = room;
    output_truncated = true;
  }
  memcpy(output + output_len, text, len);
  output_len += len;
}

static double ms_of(clockid_t clock)
{
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec * 1000 + (double)now.tv_nsec / 1e6;
}

void put_output_and_stats(CodecBuf *buf)
{
  double start = (double)wall_start.tv_sec * 1000 + (double)wall_start.tv_nsec / 1e6;
  double wall = wall_start.tv_sec ? ms_of(CLOCK_MONOTONIC) - start : 0;
  codec_puts(buf, ",\"output\":");
  codec_put_string(buf, output, output_len);
  codec_puts(buf, output_truncated ? ",\"output_truncated\":true" : "");
  codec_puts(buf, ",\"stats\":{\"cpu_ms\":");
  codec_putf(buf, "%.3f,\"wall_ms\":%.3f,\"mem_peak\":%zu,\"calls\":%u",
             ms_of(CLOCK_PROCESS_CPUTIME_ID), wall,
             heap.peak > heap.floor ? heap.peak - heap.floor : 0, calls_made);
  codec_puts(buf, heap.hit ? ",\"mem_limit_hit\":true}}" : "}}");
}

// --- Failures ---------------------------------------------------------------------------------

static void put_field(CodecBuf *buf, const char *name, const char *text, size_t len, size_t max)
{
  codec_putf(buf, ",\"%s\":", name);
  codec_put_string(buf, text, len < max ? len : max);
}

_Noreturn void report_failure(const Failure *failure)
{
  // Never on the heap: the handler of a clock may have interrupted malloc().
  static char json[MAX_OUTPUT_JSON + MAX_ERROR_JSON];
  CodecBuf buf = CODEC_FIXED(json);
  codec_puts(&buf, "{\"ok\":false,\"error\":{\"kind\":");
  codec_put_string(&buf, failure->kind, strlen(failure->kind));
  size_t len = failure->message_len ? failure->message_len : strlen(failure->message);
  put_field(&buf, "message", failure->message, len, 4096);
  if (failure->line > 0) {
    codec_putf(&buf, ",\"line\":%d", failure->line);
  }
  if (failure->traceback && *failure->traceback) {
    put_field(&buf, "traceback", failure->traceback, strlen(failure->traceback), 2048);
  }
  if (failure->hint && *failure->hint) {
    put_field(&buf, "hint", failure->hint, strlen(failure->hint), 512);
  }
  codec_put(&buf, "}", 1);
  put_output_and_stats(&buf);
  phase = PHASE_WRITE;
  put_frame(FRAME_ERROR, buf.data, buf.len);
  _exit(0);
}

_Noreturn void report_memory(void)
{
  char text[96];
  snprintf(text, sizeof(text), "script exceeded its memory limit of %.4g MiB",
           (double)limits.memory_bytes / (1 << 20));
  report_failure(&(Failure){.kind = "memory", .message = text});
}

// --- Clocks -----------------------------------------------------------------------------------

static void time_up_text(char *text, size_t size, const char *where)
{
  if (overdue == SIGALRM) {
    snprintf(text, size, "script exceeded its time limit of %.1f s%s", limits.wall_ms / 1000,
             where);
  } else {
    snprintf(text, size, "script used more than its CPU time limit of %.1f s%s",
             limits.cpu_ms / 1000, where);
  }
}

static _Noreturn void report_overdue(const char *where)
{
  char text[160];
  time_up_text(text, sizeof(text), where);
  report_failure(&(Failure){.kind = "timeout", .message = text});
}

// Stage 1: before the next instruction of the script, where its line is known.
static void on_next_instruction(lua_State *L, lua_Debug *at)
{
  (void)at;
  char where[48] = "";
  char text[160];
  int line = script_line(L);
  if (line > 0) {
    snprintf(where, sizeof(where), " (at line %d)", line);
  }
  time_up_text(text, sizeof(text), where);
  report_failure(&(Failure){.kind = "timeout", .message = text, .line = line});
}

static void on_clock(int signal)
{
  if (!overdue) {
    overdue = signal;
  }
  if (phase == PHASE_WRITE) {
    return; // write_frame() looks at `overdue` afterwards
  }
  if (phase == PHASE_WAIT) {
    report_overdue(" (while waiting for a host function)");
  }
  if (ticks++ == 0) {
    lua_sethook(state, on_next_instruction, LUA_MASKCOUNT, 1);
  } else {
    // Stage 2: no instruction within a tick.
    report_overdue(" (inside a built-in function such as a string pattern)");
  }
}

static void clock_start(clockid_t clock, int signal, double ms, long tick_ms)
{
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signal};
  struct itimerspec spec = {
      .it_value = {.tv_sec = (time_t)(ms / 1000),
                   .tv_nsec = (long)((ms - 1000 * (double)(time_t)(ms / 1000)) * 1e6) + 1},
      .it_interval = {.tv_nsec = tick_ms * 1000000},
  };
  timer_t timer;
  if (timer_create(clock, &event, &timer) != 0 || timer_settime(timer, 0, &spec, NULL) != 0) {
    report_failure(&(Failure){.kind = "sandbox", .message = "sandbox unavailable: no timer"});
  }
}

void clocks_start(lua_State *L)
{
  state = L;
  struct sigaction action = {.sa_handler = on_clock};
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGALRM);
  sigaddset(&action.sa_mask, SIGPROF);
  sigaction(SIGALRM, &action, NULL);
  sigaction(SIGPROF, &action, NULL);
  clock_gettime(CLOCK_MONOTONIC, &wall_start);
  clock_start(CLOCK_MONOTONIC, SIGALRM, limits.wall_ms, TICK_MS);
  clock_start(CLOCK_PROCESS_CPUTIME_ID, SIGPROF, limits.cpu_ms, TICK_MS);
  clock_start(CLOCK_MONOTONIC, SIGKILL, limits.wall_ms + KILL_MS, 0);
}
