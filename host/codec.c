// codec.c: JSON between text and a Lua state; see codec.h.
//
// Both directions are one file, longer than usual: it is compiled three times (host, worker,
// fuzzer) and shares its text buffer and UTF-8 rules.

#include "codec.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "number_text.h"

#define TYPE_CDATA 10 // LuaJIT's type of 64-bit integers and complex numbers

// --- Text -------------------------------------------------------------------------------------

static bool buf_reserve(CodecBuf *buf, size_t more)
{
  if (buf->full || more > buf->max - buf->len) {
    buf->full = true;
    return false;
  }
  if (buf->len + more <= buf->cap) {
    return true;
  }
  if (buf->fixed) {
    buf->full = true;
    return false;
  }
  size_t cap = buf->cap ? buf->cap : 256;
  while (cap < buf->len + more) {
    cap *= 2;
  }
  char *data = realloc(buf->data, cap);
  if (!data) {
    buf->full = true;
    return false;
  }
  buf->data = data;
  buf->cap = cap;
  return true;
}

void codec_put(CodecBuf *buf, const char *text, size_t len)
{
  if (len > 0 && buf_reserve(buf, len)) {
    memcpy(buf->data + buf->len, text, len);
    buf->len += len;
  }
}

void codec_puts(CodecBuf *buf, const char *text)
{
  codec_put(buf, text, strlen(text));
}

void codec_putf(CodecBuf *buf, const char *fmt, ...)
{
  char text[512];
  va_list args;
  va_start(args, fmt);
  int len = vsnprintf(text, sizeof(text), fmt, args);
  va_end(args);
  if (len > 0) {
    codec_put(buf, text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
  }
}

void codec_free(CodecBuf *buf)
{
  if (!buf->fixed) {
    free(buf->data);
    buf->data = NULL;
    buf->cap = 0;
  }
  buf->len = 0;
}

// The length of the UTF-8 sequence at `s` (no overlong form, surrogate or value past U+10FFFF), or
// 0 when there is none.
static size_t utf8_length(const unsigned char *s, size_t left)
{
  if (s[0] < 0x80) {
    return 1;
  }
  size_t len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
  if (s[0] < 0xc2 || s[0] > 0xf4 || left < len) {
    return 0;
  }
  for (size_t i = 1; i < len; i++) {
    if ((s[i] & 0xc0) != 0x80) {
      return 0;
    }
  }
  if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
      (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) {
    return 0;
  }
  return len;
}

static void put_escape(CodecBuf *buf, unsigned char c)
{
  static const char hex[] = "0123456789abcdef";
  static const char *const from = "\"\\\n\r\t\b\f";
  static const char *const to = "\"\\nrtbf";
  const char *found = c ? strchr(from, c) : NULL;
  if (found) {
    codec_put(buf, (char[]){'\\', to[found - from]}, 2);
  } else {
    codec_put(buf, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
  }
}

// How many bytes from here on stand for themselves, at least: most texts are such bytes, and eight
// are looked at together.
static size_t plain_run(const unsigned char *s, size_t len)
{
  const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
  size_t i = 0;
  for (; len - i >= 8; i += 8) {
    uint64_t w;
    memcpy(&w, s + i, sizeof(w));
    uint64_t quote = w ^ ones * '"', escape = w ^ ones * '\\';
    // A top bit is set for a byte that is not ASCII, below a space, a quote or a backslash.
    uint64_t odd =
        w | ((w - ones * ' ') & ~w) | ((quote - ones) & ~quote) | ((escape - ones) & ~escape);
    if (odd & tops) {
      break;
    }
  }
  return i;
}

bool codec_put_string(CodecBuf *buf, const char *text, size_t len)
{
  const unsigned char *s = (const unsigned char *)text;
  bool replaced = false;
  codec_put(buf, "\"", 1);
  size_t plain = 0; // bytes from here to i are to be copied as they are
  size_t i = 0;
  while (i < len && !buf->full) {
    i += plain_run(s + i, len - i);
    if (i == len) {
      break;
    }
    size_t n = utf8_length(s + i, len - i);
    if (n > 0 && s[i] >= 0x20 && s[i] != '"' && s[i] != '\\') {
      i += n;
      continue;
    }
    codec_put(buf, text + plain, i - plain);
    if (n == 0) {
      codec_put(buf, "\xef\xbf\xbd", 3);
      replaced = true;
    } else {
      put_escape(buf, s[i]);
    }
    i++;
    plain = i;
  }
  codec_put(buf, text + plain, i - plain);
  codec_put(buf, "\"", 1);
  return replaced;
}

// --- Marks ------------------------------------------------------------------------------------

static const char mark_keys[2];

void codec_push_mark(lua_State *L, CodecMark mark)
{
  lua_pushlightuserdata(L, (void *)&mark_keys[mark]);
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushlightuserdata(L, (void *)&mark_keys[mark]);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
  }
}

static const void *mark_pointer(lua_State *L, CodecMark mark)
{
  lua_pushlightuserdata(L, (void *)&mark_keys[mark]);
  lua_rawget(L, LUA_REGISTRYINDEX);
  const void *pointer = lua_topointer(L, -1);
  lua_pop(L, 1);
  return pointer;
}

// --- Encoding ---------------------------------------------------------------------------------

typedef struct Encoding {
  CodecEncoder *opts;
  CodecBuf *out;
  const void *object_mark;
  size_t values;
  unsigned depth;
  unsigned odd_keys; // tables and the like used as keys so far: their names in the output
  const void *path[CODEC_MAX_DEPTH]; // the tables around the current value
} Encoding;

// One `"key":value` of an object, as offsets in the output.
typedef struct Entry {
  const char *base; // set before sorting
  size_t start;
  size_t key_len;
  size_t len;
  size_t rank; // place in an explicit order; SIZE_MAX: none, after those and by key
} Entry;

static CodecStatus encode_value(lua_State *L, int idx, Encoding *e);

static CodecStatus bad(Encoding *e, const char *what)
{
  snprintf(e->opts->error, sizeof(e->opts->error), "%s", what);
  return CODEC_BAD_VALUE;
}

// What has no JSON form is named in brackets, or fails a strict encoding.
static CodecStatus put_stand_in(Encoding *e, const char *text, const char *complaint)
{
  if (e->opts->strict) {
    return bad(e, complaint);
  }
  e->opts->lossy = true;
  codec_putf(e->out, "\"%s\"", text);
  return CODEC_OK;
}

static void put_number(Encoding *e, double n)
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

// A 64-bit integer is a number up to 15 digits, else its digits as text.
static CodecStatus put_cdata(lua_State *L, int idx, Encoding *e)
{
  if (e->opts->strict) {
    return bad(e, "contains a cdata value");
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
  return put_stand_in(e, "<cdata>", "");
}

// Writes the key at `idx` as a JSON string, without changing it as lua_tolstring() would.
static CodecStatus put_key(lua_State *L, int idx, Encoding *e)
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
      return bad(e, "a table key is neither text nor a number");
    }
    e->opts->lossy = true;
  }
  codec_put_string(e->out, text, strlen(text));
  return CODEC_OK;
}

// A table is an array if its keys are 1..n with few holes. Returns n, or -1 for an object.
static long array_length(lua_State *L, int idx)
{
  double max = 0;
  double count = 0;
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
    double n = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
    if (!(n >= 1 && n <= INT32_MAX && n == floor(n))) {
      lua_pop(L, 2);
      return -1;
    }
    count++;
    max = n > max ? n : max;
  }
  return max <= 2 * count + 8 ? (long)max : -1;
}

static CodecStatus encode_array(lua_State *L, int idx, long n, Encoding *e)
{
  codec_put(e->out, "[", 1);
  for (long i = 1; i <= n; i++) {
    if (i > 1) {
      codec_put(e->out, ",", 1);
    }
    lua_rawgeti(L, idx, (int)i);
    CodecStatus status = encode_value(L, idx + 1, e);
    if (status != CODEC_OK) {
      return status;
    }
    lua_settop(L, idx);
  }
  codec_put(e->out, "]", 1);
  return CODEC_OK;
}

static int compare_entries(const Entry *x, const Entry *y)
{
  if (x->rank != y->rank) {
    return x->rank < y->rank ? -1 : 1;
  }
  size_t n = x->key_len < y->key_len ? x->key_len : y->key_len;
  int order = memcmp(x->base + x->start, y->base + y->start, n);
  if (order != 0) {
    return order;
  }
  if (x->key_len != y->key_len) {
    return x->key_len < y->key_len ? -1 : 1;
  }
  return x->start < y->start ? -1 : 1;
}

// Merges the sorted halves a[0..mid) and a[mid..n) into `to`.
static void merge_entries(const Entry *a, size_t mid, size_t n, Entry *to)
{
  for (size_t left = 0, right = mid; left < mid || right < n;) {
    bool take_left = left < mid && (right == n || compare_entries(&a[left], &a[right]) <= 0);
    *to++ = take_left ? a[left++] : a[right++];
  }
}

// Not qsort(), which may ask the system how much memory there is: that ends a script's process.
static bool merge_sort(Entry *entry, size_t n)
{
  Entry *other = malloc(n * sizeof(*other));
  if (!other) {
    return false;
  }
  Entry *from = entry;
  Entry *to = other;
  for (size_t width = 1; width < n; width *= 2) {
    for (size_t i = 0; i < n; i += 2 * width) {
      size_t len = n - i < 2 * width ? n - i : 2 * width;
      merge_entries(from + i, len < width ? len : width, len, to + i);
    }
    Entry *swap = from;
    from = to;
    to = swap;
  }
  if (from != entry) {
    memcpy(entry, from, n * sizeof(*entry));
  }
  free(other);
  return true;
}

static bool same_key(const Entry *x, const Entry *y)
{
  return x->key_len == y->key_len &&
         memcmp(x->base + x->start, y->base + y->start, x->key_len) == 0;
}

// The place of a key in the `__order` of the table's metatable; SIZE_MAX when it has none.
static size_t key_rank(lua_State *L, int table, int key)
{
  size_t rank = SIZE_MAX;
  if (lua_type(L, key) != LUA_TSTRING || !luaL_getmetafield(L, table, "__order")) {
    return rank;
  }
  size_t n = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
  for (size_t i = 1; i <= n && rank == SIZE_MAX; i++) {
    lua_rawgeti(L, -1, (int)i);
    rank = lua_rawequal(L, -1, key) ? i : SIZE_MAX;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return rank;
}

// Writes the entries one after another, unsorted and without commas.
static CodecStatus put_entries(lua_State *L, int idx, Encoding *e, CodecBuf *entries)
{
  for (lua_pushnil(L); lua_next(L, idx); lua_settop(L, idx + 1)) {
    Entry entry = {.start = e->out->len, .rank = SIZE_MAX};
    if (e->opts->ordered) {
      entry.rank = key_rank(L, idx, idx + 1);
    }
    CodecStatus status = put_key(L, idx + 1, e);
    if (status != CODEC_OK) {
      return status;
    }
    entry.key_len = e->out->len - entry.start;
    codec_put(e->out, ":", 1);
    status = encode_value(L, idx + 2, e);
    if (status != CODEC_OK) {
      return status;
    }
    entry.len = e->out->len - entry.start;
    codec_put(entries, (const char *)&entry, sizeof(entry));
    if (entries->full) {
      return CODEC_TOO_BIG;
    }
  }
  return CODEC_OK;
}

// Puts the entries, which begin at `start` in the output, in the order of their keys.
static CodecStatus sort_entries(Encoding *e, size_t start, Entry *entry, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    entry[i].base = e->out->data;
  }
  if (!merge_sort(entry, n)) {
    return CODEC_TOO_BIG;
  }
  CodecBuf sorted = CODEC_BUF(e->out->max - start);
  CodecStatus status = CODEC_OK;
  for (size_t i = 0; i < n && status == CODEC_OK; i++) {
    if (i > 0 && same_key(&entry[i - 1], &entry[i])) {
      e->opts->lossy = true;
      if (!e->opts->keep_first_key) {
        status = bad(e, "two keys of a table print alike");
      }
      continue;
    }
    if (i > 0) {
      codec_put(&sorted, ",", 1);
    }
    codec_put(&sorted, entry[i].base + entry[i].start, entry[i].len);
  }
  if (sorted.full) {
    status = CODEC_TOO_BIG;
  }
  if (status == CODEC_OK) {
    e->out->len = start;
    codec_put(e->out, sorted.data, sorted.len);
  }
  codec_free(&sorted);
  return status;
}

static CodecStatus encode_object(lua_State *L, int idx, Encoding *e)
{
  codec_put(e->out, "{", 1);
  size_t start = e->out->len;
  CodecBuf entries = CODEC_BUF(SIZE_MAX / 2);
  CodecStatus status = put_entries(L, idx, e, &entries);
  size_t n = entries.len / sizeof(Entry);
  if (status == CODEC_OK && n > 1 && !e->out->full) {
    status = sort_entries(e, start, (Entry *)(void *)entries.data, n);
  }
  codec_free(&entries);
  codec_put(e->out, "}", 1);
  return status;
}

static CodecStatus encode_table(lua_State *L, int idx, Encoding *e)
{
  const void *table = lua_topointer(L, idx);
  for (unsigned i = 0; i < e->depth; i++) {
    if (e->path[i] == table) {
      return put_stand_in(e, "<cycle>", "table contains a cycle");
    }
  }
  if (e->depth >= e->opts->max_depth || e->depth >= CODEC_MAX_DEPTH || !lua_checkstack(L, 8)) {
    return put_stand_in(e, "<too deep>", "table is nested too deeply");
  }
  bool object = false;
  if (e->object_mark && lua_getmetatable(L, idx)) {
    object = lua_topointer(L, -1) == e->object_mark;
    lua_pop(L, 1);
  }
  e->path[e->depth++] = table;
  long n = object ? -1 : array_length(L, idx);
  CodecStatus status = n >= 0 ? encode_array(L, idx, n, e) : encode_object(L, idx, e);
  e->depth--;
  return status;
}

// Encodes the value on top of the stack, which is at the absolute index `idx`.
static CodecStatus encode_value(lua_State *L, int idx, Encoding *e)
{
  CodecStatus status = CODEC_OK;
  if (e->opts->max_values > 0 && ++e->values > e->opts->max_values) {
    return CODEC_TOO_MANY;
  }
  switch (lua_type(L, idx)) {
  case LUA_TNIL:
    codec_puts(e->out, "null");
    break;
  case LUA_TBOOLEAN:
    codec_puts(e->out, lua_toboolean(L, idx) ? "true" : "false");
    break;
  case LUA_TNUMBER:
    put_number(e, lua_tonumber(L, idx));
    break;
  case LUA_TSTRING: {
    size_t len;
    const char *s = lua_tolstring(L, idx, &len);
    e->opts->lossy |= codec_put_string(e->out, s, len);
    break;
  }
  case LUA_TTABLE:
    status = encode_table(L, idx, e);
    break;
  case LUA_TLIGHTUSERDATA:
    if (!lua_touserdata(L, idx)) {
      codec_puts(e->out, "null");
      break;
    }
    status = put_stand_in(e, "<userdata>", "contains a userdata");
    break;
  case TYPE_CDATA:
    status = put_cdata(L, idx, e);
    break;
  case LUA_TFUNCTION:
    status = put_stand_in(e, "<function>", "contains a function");
    break;
  case LUA_TTHREAD:
    status = put_stand_in(e, "<thread>", "contains a coroutine");
    break;
  default:
    status = put_stand_in(e, "<userdata>", "contains a userdata");
  }
  return status == CODEC_OK && e->out->full ? CODEC_TOO_BIG : status;
}

CodecStatus codec_encode(lua_State *L, int idx, CodecEncoder *encoder, CodecBuf *out)
{
  Encoding e = {.opts = encoder, .out = out};
  int top = lua_gettop(L);
  luaL_checkstack(L, 8, "JSON");
  e.object_mark = mark_pointer(L, CODEC_OBJECT);
  encoder->lossy = false;
  encoder->error[0] = '\0';
  lua_pushvalue(L, idx);
  CodecStatus status = encode_value(L, top + 1, &e);
  lua_settop(L, top);
  return status;
}

// --- Decoding ---------------------------------------------------------------------------------

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
