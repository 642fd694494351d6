// eventstream_fuzz.c: any bytes as an AWS event stream. However they are cut, the frames must be
// the same. When the first byte is odd, the checksums of what follows it are made right first, so
// that what lies behind them is reached.

#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "eventstream_parser.h"
#include "pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static bool on_frame(void *arg, const EventstreamFrame *frame)
{
  Digest *digest = arg;
  const char *rest = frame->headers;
  size_t len = frame->headers_len;
  EventstreamHeader header;
  while (len > 0) {
    if (!eventstream_next_header(&rest, &len, &header) || header.name_len == 0) {
      abort();
    }
    digest_mix(digest, header.name, header.name_len);
    digest_mix(digest, (const char *)&header.number, sizeof(header.number));
    digest_mix(digest, header.bytes, header.len);
  }
  if (rest != frame->payload) {
    abort();
  }
  digest_mix(digest, frame->payload, frame->payload_len);
  digest->items++;
  return true;
}

static void init(void *parser, Digest *digest)
{
  eventstream_init(parser, on_frame, digest);
}

static StreamStatus feed(void *parser, const char *bytes, size_t len)
{
  return eventstream_feed(parser, bytes, len);
}

static StreamStatus finish(void *parser)
{
  return eventstream_finish(parser);
}

static void close_parser(void *parser)
{
  eventstream_close(parser);
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

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
  static const PiecesParser parser = {sizeof(EventstreamParser), init, feed, finish, close_parser};
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
  pieces_check(&parser, copy + 1, len - 1, step);
  free(copy);
  return 0;
}
