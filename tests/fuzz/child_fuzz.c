// child_fuzz.c: libFuzzer target for what a child reads: its request and the answers to its calls.
// The child's own code runs here, with a buffer in place of its channel and with its clocks, limits
// and jail left out; what would end the process ends the try.
//
// First byte: bit 0, whether the rest is whole frames of the host's or only the JSON of `args`, and
// after 0xff the JSON of the answer to the one call, in frames that are right.

#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>

#include "worker/worker.h"

static _Noreturn void fuzz_exit(int status);
static ssize_t fuzz_read(int fd, void *to, size_t len);
static ssize_t fuzz_write(int fd, const void *from, size_t len);

#define _exit fuzz_exit
#define read fuzz_read
#define write fuzz_write
#define getrlimit(resource, limit) (-1) // the stack stays as it is
void real_clocks_start(lua_State *L);
#define clocks_start real_clocks_start
#include "worker/report.c"
#undef clocks_start
#define state fuzz_state
#include "worker/child.c"
#undef state
#include "worker/environment.c"
#include "worker/source.c"
#undef _exit
#undef getrlimit
#undef read
#undef write

#define MAX_SIZE 60000
#define MAX_STEPS 20000

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static jmp_buf end_of_try;
static CodecBuf input;
static size_t input_at;
static CodecBuf sent;

static _Noreturn void fuzz_exit(int status)
{
  longjmp(end_of_try, status + 1);
}

static ssize_t fuzz_read(int fd, void *to, size_t len)
{
  (void)fd;
  size_t left = input.len - input_at;
  len = len < left ? len : left;
  if (len > 0) {
    memcpy(to, input.data + input_at, len);
  }
  input_at += len;
  return (ssize_t)len;
}

static ssize_t fuzz_write(int fd, const void *from, size_t len)
{
  (void)fd;
  codec_put(&sent, from, len);
  return (ssize_t)len;
}

void jail_limit_cpu(double cpu_ms)
{
  (void)cpu_ms;
}

bool jail_close(void)
{
  return true;
}

static void on_step_limit(lua_State *L, lua_Debug *at)
{
  (void)L;
  (void)at;
  fuzz_exit(EXIT_NO_REPORT);
}

void clocks_start(lua_State *L)
{
  lua_sethook(L, on_step_limit, LUA_MASKCOUNT, MAX_STEPS);
}

static void put_frame_of(char type, const char *before, const char *json, size_t len,
                         const char *after)
{
  CodecBuf body = CODEC_BUF(MAX_FRAME);
  codec_puts(&body, before);
  codec_put(&body, json, len);
  codec_puts(&body, after);
  char header[FRAME_HEADER] = {(char)body.len, (char)(body.len >> 8), (char)(body.len >> 16),
                               (char)(body.len >> 24), type};
  codec_put(&input, header, FRAME_HEADER);
  codec_put(&input, body.data, body.len);
  codec_free(&body);
}

static void prepare_input(const char *bytes, size_t size, bool whole)
{
  input = CODEC_BUF(MAX_FRAME);
  sent = CODEC_BUF(MAX_FRAME);
  input_at = 0;
  if (whole) {
    codec_put(&input, bytes, size);
    return;
  }
  const char *cut = memchr(bytes, 0xff, size);
  size_t len = cut ? (size_t)(cut - bytes) : size;
  put_frame_of(
      FRAME_EXECUTE,
      "{\"code\":\"local a, b = f(args) print(type(a)) return a, b, args\",\"fns\":[\"f\"],"
      "\"limits\":{\"wall_ms\":1,\"cpu_ms\":1,\"memory_bytes\":4000000,\"result_bytes\":"
      "30000,\"output_bytes\":1000,\"args_bytes\":30000,\"calls\":2},\"args\":",
      bytes, len, "}");
  if (cut) {
    put_frame_of(FRAME_REPLY, "{\"id\":1,\"ok\":true,\"values\":[", cut + 1, size - len - 1, "]}");
  }
}

// What a child sends is frames that the host's decoder accepts.
static void check_sent(lua_State *L)
{
  size_t at = 0;
  while (at + FRAME_HEADER <= sent.len) {
    const unsigned char *h = (const unsigned char *)sent.data + at;
    size_t len = h[0] | (size_t)h[1] << 8 | (size_t)h[2] << 16 | (size_t)h[3] << 24;
    if (!strchr("CNDE", h[4]) || len > sent.len - at - FRAME_HEADER) {
      abort();
    }
    CodecDecoder decoder = {
        .max_depth = DECODE_DEPTH, .max_values = 2 * MAX_VALUES, .keep_null = true};
    if (!codec_decode(L, sent.data + at + FRAME_HEADER, len, &decoder)) {
      abort();
    }
    lua_settop(L, 0);
    at += FRAME_HEADER + len;
  }
  if (at != sent.len) {
    abort();
  }
}

static void reset(void)
{
  memset(&heap, 0, sizeof(heap));
  memset(&run, 0, sizeof(run));
  memset(&limits, 0, sizeof(limits));
  phase = PHASE_RUN;
  calls_made = 0;
  output_len = 0;
  output_truncated = false;
}

// The tries end by a jump, which leaves buffers behind.
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
  return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
  static lua_State *checker;
  if (size < 1 || size > MAX_SIZE) {
    return 0;
  }
  if (!checker) {
    checker = luaL_newstate();
  }
  reset();
  prepare_input((const char *)bytes + 1, size - 1, bytes[0] & 1);
  static lua_State *L; // static: the jump would lose it
  L = environment_new();
  if (setjmp(end_of_try) == 0) {
    child_main(L);
  }
  heap.cap = 0;
  check_sent(checker);
  lua_sethook(L, NULL, 0, 0);
  lua_close(L);
  codec_free(&input);
  codec_free(&sent);
  return 0;
}
