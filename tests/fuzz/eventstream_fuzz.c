// eventstream_fuzz.c: any bytes as an AWS event stream. However they are cut, the frames must be
// the same. When the first byte is odd, the checksums of what follows it are made right first, so
// that what lies behind them is reached.

#include <stdint.h>
#include <stdlib.h>

#include <zlib.h>

#include "eventstream_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

typedef struct Digest {
  uint64_t hash;
  size_t frames;
  StreamStatus status;
} Digest;

static void mix(Digest *d, const char *bytes, size_t len)
{
  for (size_t i = 0; i < len; i++) {
    d->hash = (d->hash ^ (uint8_t)bytes[i]) * 1099511628211ULL;
  }
  d->hash = (d->hash ^ 256) * 1099511628211ULL;
}

static bool on_frame(void *arg, const EventstreamFrame *frame)
{
  Digest *d = arg;
  const char *rest = frame->headers;
  size_t len = frame->headers_len;
  EventstreamHeader header;
  while (len > 0) {
    if (!eventstream_next_header(&rest, &len, &header) || header.name_len == 0) {
      abort();
    }
    mix(d, header.name, header.name_len);
    mix(d, (const char *)&header.number, sizeof(header.number));
    mix(d, header.bytes, header.len);
  }
  if (rest != frame->payload) {
    abort();
  }
  mix(d, frame->payload, frame->payload_len);
  d->frames++;
  return true;
}

// Feeds pieces of `step` bytes; each piece is a copy, so that a read past its end is seen.
static Digest parse(const uint8_t *bytes, size_t len, size_t step)
{
  Digest d = {14695981039346656037ULL, 0, STREAM_OK};
  EventstreamParser p;
  eventstream_init(&p, on_frame, &d);
  for (size_t i = 0; i < len; i += step) {
    size_t n = len - i < step ? len - i : step;
    char *piece = malloc(n);
    if (!piece) {
      abort();
    }
    memcpy(piece, bytes + i, n);
    eventstream_feed(&p, piece, n);
    free(piece);
  }
  d.status = eventstream_finish(&p);
  eventstream_close(&p);
  return d;
}

static void write_u32(uint8_t *at, size_t n)
{
  for (int i = 3; i >= 0; i--) {
    at[i] = n & 255;
    n >>= 8;
  }
}

// Makes the lengths fit and the checksums right, frame after frame.
static void repair(uint8_t *bytes, size_t len)
{
  while (len >= 16) {
    size_t total = 16 + (((size_t)bytes[2] << 8 | bytes[3]) % (len - 15));
    size_t headers = ((size_t)bytes[6] << 8 | bytes[7]) % (total - 15);
    write_u32(bytes, total);
    write_u32(bytes + 4, headers);
    write_u32(bytes + 8, crc32(0, bytes, 8));
    write_u32(bytes + total - 4, crc32(0, bytes, (unsigned int)total - 4));
    bytes += total;
    len -= total;
  }
}

static void check(const uint8_t *bytes, size_t len, size_t step)
{
  Digest whole = parse(bytes, len, len ? len : 1);
  Digest cut = parse(bytes, len, step);
  Digest single = parse(bytes, len, 1);
  if (whole.hash != cut.hash || whole.hash != single.hash || whole.frames != cut.frames) {
    abort();
  }
  if (whole.status != cut.status || whole.status != single.status) {
    abort();
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
  if (len == 0) {
    return 0;
  }
  size_t step = 1 + bytes[0] / 2 % 40;
  uint8_t *copy = malloc(len);
  if (!copy) {
    abort();
  }
  memcpy(copy, bytes, len);
  if (bytes[0] & 1) {
    repair(copy + 1, len - 1);
  }
  check(copy + 1, len - 1, step);
  free(copy);
  return 0;
}
