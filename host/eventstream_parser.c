// eventstream_parser.c: frames that lie whole in what was fed are handed over where they lie; only
// those that were cut are put together in a buffer. Nothing of a frame is believed before its
// checksum holds.

#include "eventstream_parser.h"

#include <zlib.h>

#define PRELUDE 12 // two lengths and their checksum
#define TRAILER 4

void eventstream_init(EventstreamParser *p, EventstreamHandler handler, void *arg)
{
  *p = (EventstreamParser){.handler = handler, .arg = arg};
}

void eventstream_close(EventstreamParser *p)
{
  byte_buffer_free(&p->frame);
}

static bool fail(EventstreamParser *p, StreamStatus status)
{
  p->status = status;
  return false;
}

static uint64_t read_number(const char *bytes, size_t len)
{
  uint64_t n = 0;
  for (size_t i = 0; i < len; i++) {
    n = n << 8 | (unsigned char)bytes[i];
  }
  return n;
}

static bool has_checksum(const char *bytes, size_t len)
{
  return crc32(0, (const unsigned char *)bytes, (unsigned int)len) == read_number(bytes + len, 4);
}

// Bytes of the value of a header that follow its type; those of BYTES and STRING are counted by a
// u16 before them.
static bool value_size(EventstreamType type, size_t *size)
{
  static const unsigned char sizes[] = {0, 0, 1, 2, 4, 8, 2, 2, 8, 16};
  if (type >= sizeof(sizes)) {
    return false;
  }
  *size = sizes[type];
  return true;
}

bool eventstream_next_header(const char **rest, size_t *len, EventstreamHeader *out)
{
  const char *at = *rest;
  size_t left = *len;
  size_t name_len = left > 0 ? (unsigned char)at[0] : 0;
  if (name_len == 0 || left < 2 + name_len) {
    return false;
  }
  *out = (EventstreamHeader){.name = at + 1, .name_len = name_len};
  out->type = (unsigned char)at[1 + name_len];
  at += 2 + name_len;
  left -= 2 + name_len;

  size_t size;
  if (!value_size(out->type, &size) || left < size) {
    return false;
  }
  uint64_t number = size <= 8 ? read_number(at, size) : 0;
  if (out->type == EVENTSTREAM_BYTES || out->type == EVENTSTREAM_STRING) {
    at += size;
    left -= size;
    size = (size_t)number;
    if (left < size) {
      return false;
    }
  }
  switch (out->type) {
  case EVENTSTREAM_I8:
    out->number = (int8_t)number;
    break;
  case EVENTSTREAM_I16:
    out->number = (int16_t)number;
    break;
  case EVENTSTREAM_I32:
    out->number = (int32_t)number;
    break;
  case EVENTSTREAM_I64:
  case EVENTSTREAM_TIMESTAMP:
    out->number = (int64_t)number;
    break;
  case EVENTSTREAM_TRUE:
  case EVENTSTREAM_FALSE:
    break;
  case EVENTSTREAM_BYTES:
  case EVENTSTREAM_STRING:
  case EVENTSTREAM_UUID:
    out->bytes = at;
    out->len = size;
    break;
  }
  *rest = at + size;
  *len = left - size;
  return true;
}

static bool are_headers(const char *bytes, size_t len)
{
  EventstreamHeader header;
  while (len > 0) {
    if (!eventstream_next_header(&bytes, &len, &header)) {
      return false;
    }
  }
  return true;
}

// Reads the length of the frame that begins here. False: there is none.
static bool take_prelude(EventstreamParser *p, const char *bytes, size_t *total)
{
  if (!has_checksum(bytes, PRELUDE - 4)) {
    return fail(p, STREAM_CORRUPT);
  }
  size_t headers = (size_t)read_number(bytes + 4, 4);
  *total = (size_t)read_number(bytes, 4);
  if (*total > EVENTSTREAM_MAX_FRAME || headers > EVENTSTREAM_MAX_HEADERS) {
    return fail(p, STREAM_TOO_BIG);
  }
  if (*total < PRELUDE + TRAILER + headers) {
    return fail(p, STREAM_INVALID);
  }
  return true;
}

// Takes a frame that is whole and whose prelude was checked.
static bool take_frame(EventstreamParser *p, const char *bytes, size_t total)
{
  if (!has_checksum(bytes, total - TRAILER)) {
    return fail(p, STREAM_CORRUPT);
  }
  size_t headers_len = (size_t)read_number(bytes + 4, 4);
  EventstreamFrame frame = {
      .headers = bytes + PRELUDE,
      .headers_len = headers_len,
      .payload = bytes + PRELUDE + headers_len,
      .payload_len = total - PRELUDE - TRAILER - headers_len,
  };
  if (!are_headers(frame.headers, frame.headers_len)) {
    return fail(p, STREAM_INVALID);
  }
  return p->handler(p->arg, &frame) || fail(p, STREAM_STOPPED);
}

// Adds what the unfinished frame lacks of `wanted` bytes, as far as there is more.
static bool fill(EventstreamParser *p, size_t wanted, const char **bytes, size_t *len)
{
  if (p->frame.len < wanted) {
    size_t n = wanted - p->frame.len < *len ? wanted - p->frame.len : *len;
    if (!byte_buffer_add(&p->frame, *bytes, n)) {
      return fail(p, STREAM_NO_MEMORY);
    }
    *bytes += n;
    *len -= n;
  }
  return p->frame.len >= wanted;
}

// Goes on with the frame of which a part came before. False: it is still not whole, or bad.
static bool take_rest(EventstreamParser *p, const char **bytes, size_t *len)
{
  size_t total;
  if (!fill(p, PRELUDE, bytes, len) || !take_prelude(p, p->frame.data, &total) ||
      !fill(p, total, bytes, len)) {
    return false;
  }
  bool ok = take_frame(p, p->frame.data, total);
  byte_buffer_clear(&p->frame);
  return ok;
}

StreamStatus eventstream_feed(EventstreamParser *p, const char *bytes, size_t len)
{
  while (p->status == STREAM_OK && len > 0) {
    size_t total = SIZE_MAX;
    if (p->frame.len == 0 && len >= PRELUDE && !take_prelude(p, bytes, &total)) {
      break;
    }
    if (total <= len) {
      take_frame(p, bytes, total);
      bytes += total;
      len -= total;
    } else if (!take_rest(p, &bytes, &len)) {
      break;
    }
  }
  return p->status;
}

StreamStatus eventstream_finish(EventstreamParser *p)
{
  if (p->status == STREAM_OK && p->frame.len > 0) {
    fail(p, STREAM_CUT);
  }
  return p->status;
}
