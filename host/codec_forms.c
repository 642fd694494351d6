// codec_forms.c: how a value that is no table is written: as a number, as a key, and by name where
// JSON has no form for it.

#include "codec_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "number_text.h"

CodecStatus codec_bad(Encoding *e, const char *what)
{
  snprintf(e->opts->error, sizeof(e->opts->error), "%s", what);
  return CODEC_BAD_VALUE;
}

CodecStatus codec_put_stand_in(Encoding *e, const char *text, const char *complaint)
{
  if (e->opts->strict) {
    return codec_bad(e, complaint);
  }
  e->opts->lossy = true;
  codec_putf(e->out, "\"%s\"", text);
  return CODEC_OK;
}

void codec_put_number(Encoding *e, double n)
{
  if (isfinite(n)) {
    char text[NUMBER_TEXT_SIZE];
    number_text(text, n);
    codec_puts(e->out, text);
  } else {
    e->opts->lossy = true;
    codec_puts(e->out, isnan(n) ? "\"NaN\"" : n > 0 ? "\"Infinity\"" : "\"-Infinity\"");
  }
}

CodecStatus codec_put_cdata(lua_State *L, int idx, Encoding *e)
{
  if (e->opts->strict) {
    return codec_bad(e, "contains a cdata value");
  }
  // The one for cdata is LuaJIT's own C function, which Lua code cannot replace.
  if (luaL_callmeta(L, idx, "__tostring") && lua_type(L, -1) == LUA_TSTRING) {
    const char *text = lua_tostring(L, -1);
    size_t digits = strspn(text + (*text == '-'), "0123456789");
    const char *suffix = text + (*text == '-') + digits;
    if (digits > 0 && (strcmp(suffix, "LL") == 0 || strcmp(suffix, "ULL") == 0)) {
      codec_putf(e->out, digits <= 15 ? "%.*s" : "\"%.*s\"", (int)(suffix - text), text);
      lua_pop(L, 1);
      return CODEC_OK;
    }
  }
  lua_settop(L, idx);
  return codec_put_stand_in(e, "<cdata>", "");
}

CodecStatus codec_put_key(lua_State *L, int idx, Encoding *e)
{
  char text[64];
  switch (lua_type(L, idx)) {
  case LUA_TSTRING: {
    size_t len;
    const char *s = lua_tolstring(L, idx, &len);
    e->opts->lossy |= codec_put_string(e->out, s, len);
    return CODEC_OK;
  }
  case LUA_TNUMBER: {
    double n = lua_tonumber(L, idx);
    if (isfinite(n)) {
      number_text(text, n);
    } else {
      snprintf(text, sizeof(text), "%s", n > 0 ? "Infinity" : "-Infinity");
    }
    break;
  }
  case LUA_TBOOLEAN:
    snprintf(text, sizeof(text), "%s", lua_toboolean(L, idx) ? "true" : "false");
    break;
  default:
    snprintf(text, sizeof(text), "<%s 0x%x>", lua_typename(L, lua_type(L, idx)), ++e->odd_keys);
    if (e->opts->strict) {
      return codec_bad(e, "a table key is neither text nor a number");
    }
    e->opts->lossy = true;
  }
  codec_put_string(e->out, text, strlen(text));
  return CODEC_OK;
}
