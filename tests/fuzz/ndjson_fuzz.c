// ndjson_fuzz.c: any bytes as lines. However they are cut, the lines must be the same.

#include <stdint.h>
#include <stdlib.h>

#include "ndjson_splitter.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

typedef struct Digest {
  uint64_t hash;
  size_t lines;
} Digest;

static bool on_line(void *arg, const char *line, size_t len)
{
  Digest *d = arg;
  if (len == 0 || memchr(line, '\n', len)) {
    abort();
  }
  for (size_t i = 0; i < len; i++) {
    d->hash = (d->hash ^ (uint8_t)line[i]) * 1099511628211ULL;
  }
  d->hash = (d->hash ^ 256) * 1099511628211ULL;
  d->lines++;
  return true;
}

// Feeds pieces of `step` bytes; each piece is a copy, so that a read past its end is seen.
static Digest split(const uint8_t *bytes, size_t len, size_t step)
{
  Digest d = {14695981039346656037ULL, 0};
  NdjsonSplitter s;
  ndjson_init(&s, on_line, &d);
  for (size_t i = 0; i < len; i += step) {
    size_t n = len - i < step ? len - i : step;
    char *piece = malloc(n);
    if (!piece) {
      abort();
    }
    memcpy(piece, bytes + i, n);
    ndjson_feed(&s, piece, n);
    free(piece);
  }
  ndjson_finish(&s);
  ndjson_close(&s);
  return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
  Digest whole = split(bytes, len, len ? len : 1);
  Digest cut = split(bytes, len, len > 0 ? 1 + bytes[0] % 7 : 1);
  Digest single = split(bytes, len, 1);
  if (whole.hash != cut.hash || whole.hash != single.hash || whole.lines != cut.lines) {
    abort();
  }
  return 0;
}
