// pieces.c: a stream, whole and cut; see pieces.h.

#include "pieces.h"

#include <stdlib.h>
#include <string.h>

void digest_mix(Digest *digest, const char *bytes, size_t len)
{
  for (size_t i = 0; i < len; i++) {
    digest->hash = (digest->hash ^ (uint8_t)bytes[i]) * 1099511628211ULL;
  }
  digest->hash = (digest->hash ^ 256) * 1099511628211ULL;
}

static void *allocate(size_t size)
{
  void *memory = malloc(size);
  if (!memory) {
    abort();
  }
  return memory;
}

// Feeds pieces of `step` bytes; each piece is a copy, so that a read past its end is seen.
static Digest parse(const PiecesParser *parser, const uint8_t *bytes, size_t len, size_t step)
{
  Digest digest = {14695981039346656037ULL, 0, STREAM_OK};
  void *state = allocate(parser->size);
  parser->init(state, &digest);
  for (size_t i = 0; i < len; i += step) {
    size_t n = len - i < step ? len - i : step;
    char *piece = allocate(n);
    memcpy(piece, bytes + i, n);
    parser->feed(state, piece, n);
    free(piece);
  }
  digest.status = parser->finish(state);
  parser->close(state);
  free(state);
  return digest;
}

static void check_same(Digest x, Digest y)
{
  if (x.hash != y.hash || x.items != y.items || x.status != y.status) {
    abort();
  }
}

void pieces_check(const PiecesParser *parser, const uint8_t *bytes, size_t len, size_t step)
{
  Digest whole = parse(parser, bytes, len, len ? len : 1);
  check_same(whole, parse(parser, bytes, len, step));
  check_same(whole, parse(parser, bytes, len, 1));
}
