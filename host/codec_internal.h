// codec_internal.h: what the files of the codec share, and nobody else needs.

#ifndef BEAMLENS_CODEC_INTERNAL_H
#define BEAMLENS_CODEC_INTERNAL_H

#include "codec.h"

// The length of the UTF-8 sequence at `s` (no overlong form, surrogate or value past U+10FFFF), or
// 0 when there is none.
static inline size_t utf8_length(const unsigned char *s, size_t left)
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

// Fails an encoding: CODEC_BAD_VALUE.
CodecStatus codec_bad(Encoding *e, const char *what);

// What has no JSON form is named in brackets, or fails a strict encoding.
CodecStatus codec_put_stand_in(Encoding *e, const char *text, const char *complaint);

void codec_put_number(Encoding *e, double n);

// A 64-bit integer is a number up to 15 digits, else its digits as text.
CodecStatus codec_put_cdata(lua_State *L, int idx, Encoding *e);

// Writes the key at `idx` as a JSON string, without changing it as lua_tolstring() would.
CodecStatus codec_put_key(lua_State *L, int idx, Encoding *e);

// Puts the entries, which begin at `start` in the output, in the order of their keys.
CodecStatus codec_sort_entries(Encoding *e, size_t start, Entry *entry, size_t n);

#endif
