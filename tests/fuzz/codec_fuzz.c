// codec_fuzz.c: libFuzzer target for the JSON codec.
//
// What decodes must encode, decode again, and then encode to the same bytes; and any bytes as a Lua
// string must encode to JSON that the decoder accepts.

#include "codec.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static CodecBuf encode(lua_State *L, unsigned max_depth)
{
  CodecBuf text = CODEC_BUF(SIZE_MAX / 2);
  CodecEncoder encoder = {.max_depth = max_depth, .keep_first_key = true};
  if (codec_encode(L, -1, &encoder, &text) != CODEC_OK) {
    abort();
  }
  return text;
}

static bool decode(lua_State *L, const char *text, size_t len, unsigned max_depth)
{
  // A copy of just this size, so that the sanitizer sees a read past its end.
  char *copy = malloc(len ? len : 1);
  memcpy(copy, text, len);
  CodecDecoder decoder = {.max_depth = max_depth, .max_values = 10000, .keep_null = true};
  bool ok = codec_decode(L, copy, len, &decoder);
  free(copy);
  if (!ok && (!decoder.error || decoder.error_at > len)) {
    abort();
  }
  return ok;
}

// Encodes the value on top, decodes that and encodes again: the same bytes.
static void check_round_trip(lua_State *L)
{
  CodecBuf first = encode(L, CODEC_MAX_DEPTH);
  if (!decode(L, first.data, first.len, CODEC_MAX_DEPTH)) {
    abort();
  }
  CodecBuf second = encode(L, CODEC_MAX_DEPTH);
  if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0) {
    abort();
  }
  codec_free(&first);
  codec_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static lua_State *L;
  if (!L) {
    L = luaL_newstate();
  }
  if (size > 20000) {
    return 0;
  }
  const char *text = (const char *)data;
  if (decode(L, text, size, 64)) {
    check_round_trip(L);
  } else if (lua_gettop(L) != 0) {
    abort(); // a failure pushes nothing
  }
  lua_settop(L, 0);

  lua_pushlstring(L, text, size);
  check_round_trip(L);
  lua_settop(L, 0);

  // Tight budgets: cut or refused, never beyond them.
  if (decode(L, text, size, 4)) {
    char small[64];
    CodecBuf fixed = CODEC_FIXED(small);
    CodecEncoder encoder = {.strict = true, .max_depth = 2, .max_values = 8};
    codec_encode(L, -1, &encoder, &fixed);
    if (fixed.len > sizeof(small)) {
      abort();
    }
  }
  lua_settop(L, 0);
  return 0;
}
