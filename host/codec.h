// codec.h: JSON between text and a Lua state. Used by the host and by the sandbox's worker, so it
// needs nothing but the Lua API and libc. No metamethod ever runs.

#ifndef BEAMLENS_CODEC_H
#define BEAMLENS_CODEC_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

// Text that grows. Begin with CODEC_BUF(max); codec_free() gives the memory back.
typedef struct CodecBuf {
  char *data; // owned, unless `fixed`
  size_t len;
  size_t cap;
  size_t max; // never longer than this
  bool fixed; // `data` is the caller's and does not grow: safe in a signal handler
  bool full;  // something did not fit; what is there is cut
} CodecBuf;

#define CODEC_BUF(max_bytes) ((CodecBuf){.max = (max_bytes)})
#define CODEC_FIXED(array) \
  ((CodecBuf){.data = (array), .cap = sizeof(array), .max = sizeof(array), .fixed = true})

void codec_put(CodecBuf *buf, const char *text, size_t len);
void codec_puts(CodecBuf *buf, const char *text);
void codec_putf(CodecBuf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void codec_free(CodecBuf *buf);

// Puts a quoted JSON string. Each byte that is not UTF-8 becomes U+FFFD; returns true if one did.
bool codec_put_string(CodecBuf *buf, const char *text, size_t len);

typedef enum CodecStatus {
  CODEC_OK,
  CODEC_TOO_BIG,   // more than buf->max bytes
  CODEC_TOO_MANY,  // more than max_values values
  CODEC_BAD_VALUE, // strict, or a key twice: see `error`
} CodecStatus;

typedef struct CodecEncoder {
  bool strict;         // functions, cycles and the like are errors, not text
  bool keep_first_key; // two keys that print alike: keep one (lossy) instead of failing
  bool ordered;        // keys that the metatable lists in `__order` come first, in that order
  unsigned max_depth;  // at most CODEC_MAX_DEPTH
  size_t max_values;   // 0: any number
  bool lossy;          // out: something was replaced
  char error[120];     // out: why CODEC_BAD_VALUE
} CodecEncoder;

#define CODEC_MAX_DEPTH 128

// Appends the value at `idx` as JSON. Object keys are sorted. May raise only when memory is out.
CodecStatus codec_encode(lua_State *L, int idx, CodecEncoder *encoder, CodecBuf *out);

typedef struct CodecDecoder {
  unsigned max_depth;
  size_t max_values; // 0: any number
  bool keep_null;    // null stays (light userdata NULL) in objects and at the top
  const char *error; // out
  size_t error_at;   // out: offset of the byte where decoding stopped
} CodecDecoder;

// Pushes the value of a JSON text and returns true; on bad JSON pushes nothing.
bool codec_decode(lua_State *L, const char *text, size_t len, CodecDecoder *decoder);

typedef enum CodecMark {
  CODEC_ARRAY,
  CODEC_OBJECT,
} CodecMark;

// Pushes the metatable that marks a table as array or object, so that an empty one prints `[]` or
// `{}`.
void codec_push_mark(lua_State *L, CodecMark mark);

#endif
