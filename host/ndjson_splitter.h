// ndjson_splitter.h: the lines of application/x-ndjson, as they arrive. Plain C, without Lua.

#ifndef BEAMLENS_NDJSON_SPLITTER_H
#define BEAMLENS_NDJSON_SPLITTER_H

#include "byte_buffer.h"
#include "stream_status.h"

#define NDJSON_MAX_LINE ((size_t)1024 * 1024)

// Gets a line that is not blank, without its end; only valid during the call. False stops the
// splitter for good.
typedef bool (*NdjsonHandler)(void *arg, const char *line, size_t len);

typedef struct NdjsonSplitter {
  NdjsonHandler handler;
  void *arg;           // borrowed; for the handler
  ByteBuffer line;     // the unfinished line
  StreamStatus status; // once not STREAM_OK, it stays
} NdjsonSplitter;

void ndjson_init(NdjsonSplitter *s, NdjsonHandler handler, void *arg);

// Takes bytes, cut anywhere, and calls the handler for each line that is now whole.
StreamStatus ndjson_feed(NdjsonSplitter *s, const char *bytes, size_t len);

// The stream has ended: hands over a line that lacks its end.
StreamStatus ndjson_finish(NdjsonSplitter *s);

void ndjson_close(NdjsonSplitter *s);

#endif
