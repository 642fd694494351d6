// term_fuzz.c: any bytes as a term, as a frame for calls in flight, as a handshake, as an answer of
// epmd, as a whole term that may be compressed. The first byte says as which.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lualib.h>

#include "dist.h"
#include "etf.h"
#include "host.h"
#include "term.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static lua_State *state(void)
{
  static lua_State *L;
  if (!L) {
    L = luaL_newstate();
    luaL_openlibs(L);
    lua_newtable(L);
    term_open(L);
    lua_setglobal(L, "dist");
  }
  return L;
}

static void must(bool condition)
{
  if (!condition) {
    abort();
  }
}

// What can be passed over can be decoded, printed and, as a raw term, sent back; and only that.
static void as_term(const uint8_t *bytes, size_t size)
{
  lua_State *L = state();
  int top = lua_gettop(L);
  EtfReader skipper;
  EtfReader decoder;
  char text[300];
  etf_init(&skipper, bytes, size);
  etf_init(&decoder, bytes, size);
  bool skipped = etf_skip(&skipper);
  bool decoded = term_decode(L, &decoder, "n@h");
  must(skipped == decoded);
  must(etf_print(bytes, size, "n@h", text, sizeof(text)) == strlen(text));
  if (decoded) {
    must(skipper.at == decoder.at);
    must(lua_gettop(L) == top + 1);
    // What came may hold what cannot be sent (a list with a tail), but looking at it does no harm.
    ei_x_buff out;
    TermError error;
    ei_x_new(&out);
    if (term_encode(L, -1, &out, NULL, &error)) {
      etf_init(&skipper, (const uint8_t *)out.buff, (size_t)out.index);
      must(etf_skip(&skipper) && skipper.at == skipper.end);
    }
    ei_x_free(&out);
    lua_getglobal(L, "tostring");
    lua_pushvalue(L, -2);
    must(lua_pcall(L, 1, 1, 0) == 0);
  } else {
    must(skipper.why && decoder.why);
  }
  lua_settop(L, top);
}

static int on_done(lua_State *L)
{
  must(!lua_isnil(L, 1) || (lua_isstring(L, 2) && lua_isstring(L, 3)));
  return 0;
}

static void add_call(Conn *conn, bool is_message)
{
  lua_State *L = conn->L;
  CallSpec spec = {
      .module = "m", .function = "f", .is_message = is_message, .max_heap_words = 1000};
  TermError error;
  lua_pushcfunction(L, on_done);
  int done = host_ref(L);
  lua_newtable(L);
  must(calls_start(conn, L, &spec, lua_gettop(L), done, &error) != 0);
  lua_pop(L, 1);
}

// Frames for a connection with three calls. It counts as closed, so that nothing is sent.
static void as_frames(const uint8_t *bytes, size_t size)
{
  static Conn conn;
  lua_State *L = state();
  memset(&conn, 0, sizeof(conn));
  conn.L = L;
  conn.max_frame = 1024;
  conn.self_ref = conn.up_ref = conn.down_ref = LUA_NOREF;
  conn.handshake.creation = 7;
  conn.ref_tail = 9;
  strcpy(conn.handshake.own_name, "b@h");
  strcpy(conn.handshake.node, "n@h");
  for (int i = 0; i < 3; i++) {
    add_call(&conn, i == 1);
  }
  calls_cancel(&conn, 3);
  while (size > 2) {
    size_t frame = (size_t)bytes[0] << 8 | bytes[1];
    bytes += 2;
    size -= 2;
    frame = frame < size ? frame : size;
    // A copy of its own, so that reading past its end is seen.
    uint8_t *copy = malloc(frame ? frame : 1);
    memcpy(copy, bytes, frame);
    calls_take_frame(&conn, copy, frame, frame % 8 != 0);
    free(copy);
    bytes += frame;
    size -= frame;
  }
  Failure failure = {.code = "EDOWN", .text = "over"};
  calls_drop(&conn, &failure);
  lua_settop(L, 0);
}

static void as_handshake(const uint8_t *bytes, size_t size)
{
  static Handshake h;
  HandshakePacket out;
  memset(&h, 0, sizeof(h));
  strcpy(h.node, "n@h");
  strcpy(h.own_name, "b@h");
  strcpy(h.cookie, "s3cr3t");
  h.cookie_size = strlen(h.cookie);
  handshake_begin(&h, &out);
  if (!handshake_check_start(&h, bytes, size)) {
    return;
  }
  HandshakeStep step = HANDSHAKE_MORE;
  while (size >= 2 && step == HANDSHAKE_MORE) {
    size_t packet = (size_t)bytes[0] << 8 | bytes[1];
    bytes += 2;
    size -= 2;
    packet = packet < size ? packet : size;
    step = handshake_take(&h, bytes, packet, &out);
    must(out.size <= sizeof(out.bytes));
    bytes += packet;
    size -= packet;
  }
  if (step == HANDSHAKE_MORE) {
    handshake_closed(&h);
  }
  must(step == HANDSHAKE_UP || h.failure.code);
}

static void as_names(const uint8_t *bytes, size_t size)
{
  char name[DIST_NAME_MAX];
  int port;
  const char *at = (const char *)bytes;
  const char *end = at + size;
  while (epmd_next_name(&at, end, name, &port)) {
    must(strlen(name) < sizeof(name) && port > 0 && port < 65536);
  }
}

static void as_whole(const uint8_t *bytes, size_t size)
{
  lua_State *L = state();
  int top = lua_gettop(L);
  EtfReader r;
  etf_init(&r, bytes, size);
  if (term_decode_whole(L, &r, "n@h", 65536)) {
    must(lua_gettop(L) == top + 1 && r.at == r.end);
  } else {
    must(lua_gettop(L) == top && r.why);
  }
  lua_settop(L, top);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
  static void (*const kinds[])(const uint8_t *, size_t) = {as_term, as_frames, as_handshake,
                                                           as_names, as_whole};
  if (size > 0) {
    kinds[bytes[0] % 5](bytes + 1, size - 1);
  }
  return 0;
}
