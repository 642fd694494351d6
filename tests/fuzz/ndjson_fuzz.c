// ndjson_fuzz.c: any bytes as lines. However they are cut, the lines must be the same.

#include <stdlib.h>

#include "ndjson_splitter.h"
#include "pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static bool on_line(void *arg, const char *line, size_t len)
{
  Digest *digest = arg;
  if (len == 0 || memchr(line, '\n', len)) {
    abort();
  }
  digest_mix(digest, line, len);
  digest->items++;
  return true;
}

static void init(void *splitter, Digest *digest)
{
  ndjson_init(splitter, on_line, digest);
}

static StreamStatus feed(void *splitter, const char *bytes, size_t len)
{
  return ndjson_feed(splitter, bytes, len);
}

static StreamStatus finish(void *splitter)
{
  return ndjson_finish(splitter);
}

static void close_splitter(void *splitter)
{
  ndjson_close(splitter);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
  static const PiecesParser parser = {sizeof(NdjsonSplitter), init, feed, finish, close_splitter};
  pieces_check(&parser, bytes, len, len > 0 ? 1 + bytes[0] % 7 : 1);
  return 0;
}
