// sse_fuzz.c: any bytes as an event stream. However they are cut, the events must be the same.

#include <stdlib.h>

#include "pieces.h"
#include "sse_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static bool on_event(void *arg, const char *event, size_t event_len, const char *data,
                     size_t data_len)
{
  Digest *digest = arg;
  if (event_len == 0 || data_len == 0) {
    abort();
  }
  digest_mix(digest, event, event_len);
  digest_mix(digest, data, data_len);
  digest->items++;
  return true;
}

static void init(void *parser, Digest *digest)
{
  sse_init(parser, on_event, digest);
}

static StreamStatus feed(void *parser, const char *bytes, size_t len)
{
  return sse_feed(parser, bytes, len);
}

static StreamStatus finish(void *parser)
{
  return sse_finish(parser);
}

static void close_parser(void *parser)
{
  sse_close(parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
  static const PiecesParser parser = {sizeof(SseParser), init, feed, finish, close_parser};
  pieces_check(&parser, bytes, len, len > 0 ? 1 + bytes[0] % 7 : 1);
  return 0;
}
