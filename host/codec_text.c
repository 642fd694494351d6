// codec_text.c: text that grows, and strings as JSON writes them; see codec.h.

#include "codec_internal.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
