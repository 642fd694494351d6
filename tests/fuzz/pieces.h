// pieces.h: for fuzzers of stream parsers. However a stream is cut, what comes out must be the
// same.

#ifndef BEAMLENS_FUZZ_PIECES_H
#define BEAMLENS_FUZZ_PIECES_H

#include <stddef.h>
#include <stdint.h>

#include "stream_status.h"

// What has come out of a parser so far.
typedef struct Digest {
  uint64_t hash;
  size_t items;
  StreamStatus status; // of its end
} Digest;

typedef struct PiecesParser {
  size_t size;                                // of its state
  void (*init)(void *parser, Digest *digest); // its handler digests each item
  StreamStatus (*feed)(void *parser, const char *bytes, size_t len);
  StreamStatus (*finish)(void *parser);
  void (*close)(void *parser);
} PiecesParser;

// Takes a part of an item into the digest, with a mark behind it.
void digest_mix(Digest *digest, const char *bytes, size_t len);

// Parses the stream whole, in pieces of `step` bytes, and byte by byte; aborts where the digests
// differ.
void pieces_check(const PiecesParser *parser, const uint8_t *bytes, size_t len, size_t step);

#endif
