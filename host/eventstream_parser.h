// eventstream_parser.h: application/vnd.amazon.eventstream, taken apart as it arrives. Plain C,
// without Lua.
//
// A frame, all numbers big endian: u32 its whole length, u32 the length of its headers, u32 CRC-32
// of these eight bytes; the headers; the payload; u32 CRC-32 of all before. A header: u8 length of
// its name, the name, u8 type, the value.

#ifndef BEAMLENS_EVENTSTREAM_PARSER_H
#define BEAMLENS_EVENTSTREAM_PARSER_H

#include <stdint.h>

#include "byte_buffer.h"
#include "stream_status.h"

#define EVENTSTREAM_MAX_FRAME ((size_t)16 * 1024 * 1024)
#define EVENTSTREAM_MAX_HEADERS ((size_t)128 * 1024)

typedef enum EventstreamType {
  EVENTSTREAM_TRUE,
  EVENTSTREAM_FALSE,
  EVENTSTREAM_I8,
  EVENTSTREAM_I16,
  EVENTSTREAM_I32,
  EVENTSTREAM_I64,
  EVENTSTREAM_BYTES,
  EVENTSTREAM_STRING,
  EVENTSTREAM_TIMESTAMP, // Unix ms
  EVENTSTREAM_UUID,
} EventstreamType;

typedef struct EventstreamHeader {
  const char *name; // borrowed, like `bytes`: part of the frame
  size_t name_len;
  EventstreamType type;
  int64_t number;    // of the I types and TIMESTAMP
  const char *bytes; // of BYTES, STRING and UUID (16 bytes)
  size_t len;
} EventstreamHeader;

typedef struct EventstreamFrame {
  const char *headers; // borrowed; valid headers, for eventstream_next_header()
  size_t headers_len;
  const char *payload; // borrowed
  size_t payload_len;
} EventstreamFrame;

// Gets a whole frame, only valid during the call. False stops the parser for good.
typedef bool (*EventstreamHandler)(void *arg, const EventstreamFrame *frame);

typedef struct EventstreamParser {
  EventstreamHandler handler;
  void *arg;           // borrowed; for the handler
  ByteBuffer frame;    // the unfinished frame
  StreamStatus status; // once not STREAM_OK, it stays
} EventstreamParser;

void eventstream_init(EventstreamParser *p, EventstreamHandler handler, void *arg);

// Takes bytes, cut anywhere, and calls the handler for each frame that is now whole.
StreamStatus eventstream_feed(EventstreamParser *p, const char *bytes, size_t len);

// The stream has ended; STREAM_CUT inside a frame.
StreamStatus eventstream_finish(EventstreamParser *p);

void eventstream_close(EventstreamParser *p);

// Takes the header at *rest, and moves *rest and *len behind it. False when the bytes are no
// header; never so with those of a frame, as long as *len is not 0.
bool eventstream_next_header(const char **rest, size_t *len, EventstreamHeader *out);

#endif
