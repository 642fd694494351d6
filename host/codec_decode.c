// codec_decode.c: JSON text as a value of a Lua state; see codec.h.

#include "codec_internal.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

typedef struct Decoding {
  CodecDecoder *opts;
  const char *start;
  const char *at;
  const char *end;
  size_t values;
  unsigned depth;
  CodecBuf scratch; // unescaped strings
} Decoding;

static bool decode_value(lua_State *L, Decoding *d);

static bool wrong(Decoding *d, const char *error)
{
  if (!d->opts->error) {
    d->opts->error = error;
    d->opts->error_at = (size_t)(d->at - d->start);
  }
  return false;
}

static void skip_space(Decoding *d)
{
  while (d->at < d->end && (*d->at == ' ' || *d->at == '\n' || *d->at == '\t' || *d->at == '\r')) {
    d->at++;
  }
}

static bool take(Decoding *d, char c)
{
  if (d->at < d->end && *d->at == c) {
    d->at++;
    return true;
  }
  return false;
}

static bool take_digits(Decoding *d)
{
  const char *from = d->at;
  while (d->at < d->end && *d->at >= '0' && *d->at <= '9') {
    d->at++;
  }
  return d->at > from;
}

static bool decode_number(lua_State *L, Decoding *d)
{
  const char *from = d->at;
  take(d, '-');
  bool ok = take(d, '0') || take_digits(d);
  if (ok && take(d, '.')) {
    ok = take_digits(d);
  }
  if (ok && (take(d, 'e') || take(d, 'E'))) {
    if (!take(d, '+')) {
      take(d, '-');
    }
    ok = take_digits(d);
  }
  if (!ok) {
    return wrong(d, "bad number");
  }
  d->scratch.len = 0;
  codec_put(&d->scratch, from, (size_t)(d->at - from));
  codec_put(&d->scratch, "", 1);
  double n = d->scratch.full ? HUGE_VAL : strtod(d->scratch.data, NULL);
  if (!isfinite(n)) {
    return wrong(d, "number out of range");
  }
  lua_pushnumber(L, n);
  return true;
}

static int hex4(const char *s)
{
  int code = 0;
  for (int i = 0; i < 4; i++) {
    char c = s[i];
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0) {
      return -1;
    }
    code = code * 16 + digit;
  }
  return code;
}

static void put_utf8(CodecBuf *buf, unsigned code)
{
  if (code < 0x80) {
    codec_put(buf, (char[]){(char)code}, 1);
  } else if (code < 0x800) {
    codec_put(buf, (char[]){(char)(0xc0 | code >> 6), (char)(0x80 | (code & 63))}, 2);
  } else if (code < 0x10000) {
    codec_put(buf,
              (char[]){(char)(0xe0 | code >> 12), (char)(0x80 | (code >> 6 & 63)),
                       (char)(0x80 | (code & 63))},
              3);
  } else {
    codec_put(buf,
              (char[]){(char)(0xf0 | code >> 18), (char)(0x80 | (code >> 12 & 63)),
                       (char)(0x80 | (code >> 6 & 63)), (char)(0x80 | (code & 63))},
              4);
  }
}

// After "\u": a code unit, or two that make one character.
static bool decode_unicode(Decoding *d)
{
  int code = d->end - d->at >= 4 ? hex4(d->at) : -1;
  if (code < 0) {
    return wrong(d, "bad \\u escape");
  }
  d->at += 4;
  if (code >= 0xd800 && code <= 0xdfff) {
    int low = d->end - d->at >= 6 && d->at[0] == '\\' && d->at[1] == 'u' ? hex4(d->at + 2) : -1;
    if (code > 0xdbff || low < 0xdc00 || low > 0xdfff) {
      return wrong(d, "half of a surrogate pair");
    }
    d->at += 6;
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  put_utf8(&d->scratch, (unsigned)code);
  return true;
}

static bool decode_escape(Decoding *d)
{
  static const char *const from = "\"\\/bfnrt";
  static const char *const to = "\"\\/\b\f\n\r\t";
  char c = d->at < d->end ? *d->at++ : '\0';
  if (c == 'u') {
    return decode_unicode(d);
  }
  const char *found = c ? strchr(from, c) : NULL;
  if (!found) {
    return wrong(d, "bad escape");
  }
  codec_put(&d->scratch, &to[found - from], 1);
  return true;
}

static bool decode_string(lua_State *L, Decoding *d)
{
  d->at++;
  d->scratch.len = 0;
  const char *plain = d->at; // bytes from here on are not copied yet
  while (d->at < d->end && *d->at != '"') {
    unsigned char c = (unsigned char)*d->at;
    size_t n = utf8_length((const unsigned char *)d->at, (size_t)(d->end - d->at));
    if (n == 0 || c < 0x20) {
      return wrong(d, n == 0 ? "bad UTF-8" : "control character in a string");
    }
    if (c != '\\') {
      d->at += n;
      continue;
    }
    codec_put(&d->scratch, plain, (size_t)(d->at - plain));
    d->at++;
    if (!decode_escape(d)) {
      return false;
    }
    plain = d->at;
  }
  if (d->at == d->end) {
    return wrong(d, "a string does not end");
  }
  if (d->scratch.len == 0) {
    lua_pushlstring(L, plain, (size_t)(d->at - plain));
  } else {
    codec_put(&d->scratch, plain, (size_t)(d->at - plain));
    if (d->scratch.full) {
      return wrong(d, "a string is too long");
    }
    lua_pushlstring(L, d->scratch.data, d->scratch.len);
  }
  d->at++;
  return true;
}

static bool decode_array(lua_State *L, Decoding *d)
{
  d->at++;
  lua_newtable(L);
  skip_space(d);
  if (take(d, ']')) {
    return true;
  }
  for (int i = 1;; i++) {
    if (!decode_value(L, d)) {
      return false;
    }
    lua_rawseti(L, -2, i);
    skip_space(d);
    if (take(d, ']')) {
      return true;
    }
    if (!take(d, ',')) {
      return wrong(d, "expected , or ]");
    }
  }
}

static bool decode_object(lua_State *L, Decoding *d)
{
  d->at++;
  lua_newtable(L);
  skip_space(d);
  if (take(d, '}')) {
    return true;
  }
  for (;;) {
    skip_space(d);
    if (d->at == d->end || *d->at != '"') {
      return wrong(d, "expected a key");
    }
    if (!decode_string(L, d)) {
      return false;
    }
    skip_space(d);
    if (!take(d, ':')) {
      return wrong(d, "expected :");
    }
    if (!decode_value(L, d)) {
      return false;
    }
    if (!d->opts->keep_null && lua_islightuserdata(L, -1)) {
      lua_pop(L, 1);
      lua_pushnil(L);
    }
    lua_rawset(L, -3);
    skip_space(d);
    if (take(d, '}')) {
      return true;
    }
    if (!take(d, ',')) {
      return wrong(d, "expected , or }");
    }
  }
}

static bool decode_word(Decoding *d, const char *word)
{
  size_t len = strlen(word);
  if ((size_t)(d->end - d->at) < len || memcmp(d->at, word, len) != 0) {
    return wrong(d, "unexpected character");
  }
  d->at += len;
  return true;
}

static bool decode_container(lua_State *L, Decoding *d)
{
  if (d->depth >= d->opts->max_depth || !lua_checkstack(L, 6)) {
    return wrong(d, "nested too deeply");
  }
  d->depth++;
  bool ok = *d->at == '[' ? decode_array(L, d) : decode_object(L, d);
  d->depth--;
  return ok;
}

// Pushes one value. When it fails, what is on the stack is rubbish.
static bool decode_value(lua_State *L, Decoding *d)
{
  skip_space(d);
  if (d->at == d->end) {
    return wrong(d, "the text ends too early");
  }
  if (d->opts->max_values > 0 && ++d->values > d->opts->max_values) {
    return wrong(d, "too many values");
  }
  switch (*d->at) {
  case '{':
  case '[':
    return decode_container(L, d);
  case '"':
    return decode_string(L, d);
  case 't':
  case 'f':
    lua_pushboolean(L, *d->at == 't');
    return decode_word(d, *d->at == 't' ? "true" : "false");
  case 'n':
    lua_pushlightuserdata(L, NULL);
    return decode_word(d, "null");
  default:
    return decode_number(L, d);
  }
}

bool codec_decode(lua_State *L, const char *text, size_t len, CodecDecoder *decoder)
{
  Decoding d = {.opts = decoder, .start = text, .at = text, .end = text + len};
  d.scratch = CODEC_BUF(SIZE_MAX / 2);
  decoder->error = NULL;
  int top = lua_gettop(L);
  luaL_checkstack(L, 8, "JSON");
  bool ok = decode_value(L, &d);
  if (ok) {
    skip_space(&d);
    ok = d.at == d.end || wrong(&d, "text after the value");
  }
  codec_free(&d.scratch);
  if (!ok) {
    lua_settop(L, top);
    return false;
  }
  if (!decoder->keep_null && lua_islightuserdata(L, -1)) {
    lua_pop(L, 1);
    lua_pushnil(L);
  }
  return true;
}
