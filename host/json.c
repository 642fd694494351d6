// json.c: host.json, JSON text that is exact, sorted and always valid UTF-8.
//
//   local json = require("host.json")
//   local text, lossy = json.encode({ b = 1, a = { 0.1 } })    -- {"a":[0.1],"b":1}

#include "host.h"

#include <stdint.h>

#include <lauxlib.h>

#include "codec.h"
#include "modules.h"

static int push_and_free(lua_State *L, CodecBuf *text)
{
  lua_pushlstring(L, text->data ? text->data : "", text->len);
  codec_free(text);
  return 1;
}

// encode(value) -> text, lossy
// Never raises: what has no JSON form is named in brackets, as in "<function>", and `lossy` is
// true.
static int l_encode(lua_State *L)
{
  luaL_checkany(L, 1);
  CodecBuf text = CODEC_BUF(SIZE_MAX / 2);
  CodecEncoder encoder = {.keep_first_key = true, .ordered = true, .max_depth = CODEC_MAX_DEPTH};
  codec_encode(L, 1, &encoder, &text);
  push_and_free(L, &text);
  lua_pushboolean(L, encoder.lossy);
  return 2;
}

// encode_strict(value) -> text | nil, err, code
// EJSON: the value holds something that has no JSON form, or itself.
static int l_encode_strict(lua_State *L)
{
  luaL_checkany(L, 1);
  CodecBuf text = CODEC_BUF(SIZE_MAX / 2);
  CodecEncoder encoder = {.strict = true, .ordered = true, .max_depth = CODEC_MAX_DEPTH};
  if (codec_encode(L, 1, &encoder, &text) == CODEC_OK) {
    return push_and_free(L, &text);
  }
  codec_free(&text);
  return host_failf(L, "EJSON", "%s", encoder.error);
}

// decode(text) -> value | nil, err, code
// The strict decoder that the sandbox uses: bad UTF-8 is an error, null is the light userdata NULL.
static int l_decode(lua_State *L)
{
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  CodecDecoder decoder = {.max_depth = CODEC_MAX_DEPTH, .keep_null = true};
  if (codec_decode(L, text, len, &decoder)) {
    return 1;
  }
  return host_failf(L, "EJSON", "%s at byte %zu", decoder.error, decoder.error_at + 1);
}

static const luaL_Reg functions[] = {
    {"encode", l_encode},
    {"encode_strict", l_encode_strict},
    {"decode", l_decode},
    {NULL, NULL},
};

int luaopen_host_json(lua_State *L)
{
  luaL_newlib(L, functions);
  codec_push_mark(L, CODEC_ARRAY);
  lua_setfield(L, -2, "array_mt");
  codec_push_mark(L, CODEC_OBJECT);
  lua_setfield(L, -2, "object_mt");
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  return 1;
}
