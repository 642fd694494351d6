// byte_buffer.h: bytes that grow at the end.

#ifndef BEAMLENS_BYTE_BUFFER_H
#define BEAMLENS_BYTE_BUFFER_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct ByteBuffer {
  char *data; // owned; NULL while nothing was ever added
  size_t len;
  size_t cap;
} ByteBuffer;

// False when there is no memory; the buffer is then as it was.
static inline bool byte_buffer_add(ByteBuffer *b, const char *bytes, size_t len)
{
  if (len == 0) {
    return true;
  }
  if (len > b->cap - b->len) {
    size_t cap = b->cap ? b->cap : 256;
    while (cap - b->len < len) {
      if (cap > ((size_t)-1) / 2) {
        return false;
      }
      cap *= 2;
    }
    char *data = realloc(b->data, cap);
    if (!data) {
      return false;
    }
    b->data = data;
    b->cap = cap;
  }
  memcpy(b->data + b->len, bytes, len);
  b->len += len;
  return true;
}

// Forgets the bytes, keeps the memory.
static inline void byte_buffer_clear(ByteBuffer *b)
{
  b->len = 0;
}

static inline void byte_buffer_free(ByteBuffer *b)
{
  free(b->data);
  *b = (ByteBuffer){0};
}

#endif
