// sse_parser.h: text/event-stream, taken apart as it arrives. Plain C, without Lua.

#ifndef BEAMLENS_SSE_PARSER_H
#define BEAMLENS_SSE_PARSER_H

#include "byte_buffer.h"
#include "stream_status.h"

#define SSE_MAX_EVENT ((size_t)1024 * 1024)

// Gets a whole event; both texts are only valid during the call. `event` is "message" when the
// stream names none. False stops the parser for good.
typedef bool (*SseHandler)(void *arg, const char *event, size_t event_len, const char *data,
                           size_t data_len);

typedef struct SseParser {
  SseHandler handler;
  void *arg;           // borrowed; for the handler
  ByteBuffer line;     // the unfinished line
  ByteBuffer event;    // the name of the unfinished event
  ByteBuffer data;     // its data lines, each followed by LF
  bool after_cr;       // the last byte was CR: an LF belongs to it
  bool started;        // the first line, which may begin with a BOM, is over
  StreamStatus status; // once not STREAM_OK, it stays
} SseParser;

void sse_init(SseParser *p, SseHandler handler, void *arg);

// Takes bytes, cut anywhere, and calls the handler for each event that is now whole.
StreamStatus sse_feed(SseParser *p, const char *bytes, size_t len);

// The stream has ended: hands over an event that lacks its blank line.
StreamStatus sse_finish(SseParser *p);

void sse_close(SseParser *p);

#endif
