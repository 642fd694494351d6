// wire_fuzz.c: libFuzzer target for what a hostile child can send. The host's side is the real one,
// with a socket in place of the process.
//
// First byte: how the process ends (2 bits), whether the rest is frames that lack their lengths,
// separated by 0xff (1 bit), whether calls are answered at once (1 bit). Second: where the bytes
// are cut into two writes.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <luv/luv.h>
#include <lualib.h>
#include <sys/socket.h>

#include "host.h"
#include "modules.h"
#include "sandbox.h"

#define MAX_SIZE 60000

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

// What the runtime does with calls and outcomes. `run` is the run, `at_once` whether to answer.
static const char runtime[] =
    "local outcome, json = require('runtime.sandbox.outcome'), require('runtime.json')\n"
    "return function(what, id, name, args)\n"
    "  if what == 'call' then\n"
    "    assert((name == 'f' or name == 'proc.info') and type(args) == 'table')\n"
    "    if at_once then assert(run:reply(id, true, args, nil) or run:reply(id, false, 'big')) "
    "end\n"
    "    return\n"
    "  end\n"
    "  ended = ended + 1\n"
    "  local o = outcome.new('return 1\\nreturn 2', id)\n"
    "  local told = json.encode({ o.message, o.told })\n"
    "  assert(o.ok or #told < 2048, told)\n"
    "  assert(json.decode(told))\n"
    "end\n";

static void must(bool condition)
{
  if (!condition) {
    abort();
  }
}

static int enter_lua(lua_State *L, int nargs, int nresults, int flags)
{
  (void)flags;
  int results = host_call(L, nargs, nresults);
  must(results >= 0);
  return results;
}

// What cjson keeps is known to Lua's memory alone, where the sanitizer does not look.
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
  return "leak:strbuf_";
}

static lua_State *state(void)
{
  static lua_State *L;
  if (!L) {
    L = luaL_newstate();
    luaL_openlibs(L);
    luv_set_loop(L, uv_default_loop());
    luv_set_callback(L, enter_lua);
    modules_register(L);
    must(luaL_dostring(L, "require('luv') require('host.sandbox')") == 0);
    must(luaL_loadstring(L, runtime) == 0 && lua_pcall(L, 0, 1, 0) == 0);
    lua_setglobal(L, "on_event");
    lua_settop(L, 0);
  }
  return L;
}

static void on_kick_closed(uv_handle_t *handle)
{
  box_release(handle->data);
}

static Box *new_box(lua_State *L)
{
  Box *box = calloc(1, sizeof(*box));
  *box = (Box){.L = L,
               .loop = uv_default_loop(),
               .holders = 2,
               .image_fd = IMAGE_NONE,
               .self = LUA_NOREF,
               .max_memory = 1e9};
  uv_timer_init(box->loop, &box->kick);
  box->kick.data = box;
  return box;
}

static Run *new_run(lua_State *L, Box *box)
{
  Run *run = lua_newuserdata(L, sizeof(*run));
  *run = (Run){.box = box,
               .wall_ms = 1e9,
               .cpu_ms = 1e9,
               .memory_bytes = 1,
               .result_bytes = 20000,
               .output_bytes = 5000,
               .args_bytes = 5000,
               .reply_bytes = 4000,
               .max_calls = 5};
  run->request = CODEC_BUF(MAX_FRAME);
  codec_puts(&run->request, "{}");
  run->names = CODEC_BUF(MAX_FRAME);
  codec_put(&run->names, "\0f\0proc.info\0", 13);
  box->holders++;
  luaL_getmetatable(L, "host.sandbox.run");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_setglobal(L, "run");
  run->self = host_ref(L);
  lua_getglobal(L, "on_event");
  run->callback = host_ref(L);
  return run;
}

// Gives each part between 0xff its header: the first byte is the type.
static size_t frame_parts(const uint8_t *bytes, size_t size, uint8_t *out)
{
  size_t len = 0;
  for (size_t at = 0; at < size;) {
    const uint8_t *end = memchr(bytes + at, 0xff, size - at);
    size_t part = end ? (size_t)(end - bytes) - at : size - at;
    if (part > 0) {
      size_t json = part - 1;
      uint8_t header[FRAME_HEADER] = {(uint8_t)json, (uint8_t)(json >> 8), (uint8_t)(json >> 16), 0,
                                      bytes[at]};
      memcpy(out + len, header, FRAME_HEADER);
      memcpy(out + len + FRAME_HEADER, bytes + at + 1, json);
      len += FRAME_HEADER + json;
    }
    at += part + 1;
  }
  return len;
}

static void turn(void)
{
  for (int i = 0; i < 4; i++) {
    uv_run(uv_default_loop(), UV_RUN_NOWAIT);
  }
}

static void send_bytes(int fd, const uint8_t *bytes, size_t len)
{
  // What does not fit, or comes after the end of the run, is lost.
  ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
  (void)n;
  turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
  static const int statuses[] = {0, 9, 31 /* SIGSYS */, 3 << 8};
  static uint8_t framed[8 * MAX_SIZE];
  if (size < 2 || size > MAX_SIZE) {
    return 0;
  }
  lua_State *L = state();
  lua_pushboolean(L, bytes[0] & 8);
  lua_setglobal(L, "at_once");
  lua_pushinteger(L, 0);
  lua_setglobal(L, "ended");

  Box *box = new_box(L);
  int fds[2];
  must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  Child *child = child_new(box, 1, fds[0]);
  must(child != NULL);
  Run *run = new_run(L, box);
  child_start(child, run);

  const uint8_t *from = bytes + 2;
  size_t len = size - 2;
  if (bytes[0] & 4) {
    len = frame_parts(from, len, framed);
    from = framed;
  }
  size_t cut = len * bytes[1] / 256;
  send_bytes(fds[1], from, cut);
  send_bytes(fds[1], from + cut, len - cut);
  close(fds[1]);
  turn();
  // The process's end is told by its zygote, in any order with the end of its channel.
  if (box->children) {
    child_on_exit(box->children, statuses[bytes[0] & 3]);
  }
  turn();

  // One outcome, nothing left, and nothing of the box's in the loop.
  lua_getglobal(L, "ended");
  must(lua_tointeger(L, -1) == 1);
  must(run->over && !run->child && box->running == 0 && box->memory == 0 && !box->children);
  lua_settop(L, 0);
  lua_pushnil(L);
  lua_setglobal(L, "run");
  lua_gc(L, LUA_GCCOLLECT, 0);
  uv_close((uv_handle_t *)&box->kick, on_kick_closed);
  turn();
  must(box->holders == 1);
  box_release(box);
  must(uv_loop_alive(uv_default_loop()) == 0);
  return 0;
}
