// stream_status.h: how the parsers of streams say what became of the bytes.

#ifndef BEAMLENS_STREAM_STATUS_H
#define BEAMLENS_STREAM_STATUS_H

// Once a parser's is not STREAM_OK, it stays.
typedef enum StreamStatus {
  STREAM_OK = 0,
  STREAM_TOO_BIG, // one item exceeds the parser's cap
  STREAM_CORRUPT, // a checksum is wrong
  STREAM_INVALID, // an item contradicts itself
  STREAM_CUT,     // the stream ended inside an item that must be whole
  STREAM_NO_MEMORY,
  STREAM_STOPPED, // the handler asked for it
} StreamStatus;

#endif
