// sse_fuzz.c: any bytes as an event stream. However they are cut, the events must be the same.
//
//   clang -g -fsanitize=fuzzer,address,undefined -Ihost tests/fuzz/sse_fuzz.c host/sse_parser.c

#include <stdint.h>
#include <stdlib.h>

#include "sse_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

typedef struct Digest {
  uint64_t hash;
  size_t events;
} Digest;

static void mix(Digest *d, const char *bytes, size_t len)
{
  for (size_t i = 0; i < len; i++) {
    d->hash = (d->hash ^ (uint8_t)bytes[i]) * 1099511628211ULL;
  }
  d->hash = (d->hash ^ 256) * 1099511628211ULL;
}

static bool on_event(void *arg, const char *event, size_t event_len, const char *data,
                     size_t data_len)
{
  Digest *d = arg;
  if (event_len == 0 || data_len == 0) {
    abort();
  }
  mix(d, event, event_len);
  mix(d, data, data_len);
  d->events++;
  return true;
}

// Feeds pieces of `step` bytes; each piece is a copy, so that a read past its end is seen.
static Digest parse(const uint8_t *bytes, size_t len, size_t step)
{
  Digest d = {14695981039346656037ULL, 0};
  SseParser p;
  sse_init(&p, on_event, &d);
  for (size_t i = 0; i < len; i += step) {
    size_t n = len - i < step ? len - i : step;
    char *piece = malloc(n);
    if (!piece) {
      abort();
    }
    memcpy(piece, bytes + i, n);
    sse_feed(&p, piece, n);
    free(piece);
  }
  sse_finish(&p);
  sse_close(&p);
  return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
  Digest whole = parse(bytes, len, len ? len : 1);
  Digest cut = parse(bytes, len, len > 0 ? 1 + bytes[0] % 7 : 1);
  Digest single = parse(bytes, len, 1);
  if (whole.hash != cut.hash || whole.hash != single.hash || whole.events != cut.events) {
    abort();
  }
  return 0;
}
