// sse_parser.c: the WHATWG rules for event streams, with two changes that model servers need: an
// event without data is dropped, and the last event counts although its blank line is missing.

#include "sse_parser.h"

void sse_init(SseParser *p, SseHandler handler, void *arg)
{
  *p = (SseParser){.handler = handler, .arg = arg};
}

void sse_close(SseParser *p)
{
  byte_buffer_free(&p->line);
  byte_buffer_free(&p->event);
  byte_buffer_free(&p->data);
}

static bool fail(SseParser *p, StreamStatus status)
{
  p->status = status;
  return false;
}

static bool dispatch(SseParser *p)
{
  size_t len = p->data.len;
  bool go_on = true;
  if (len > 1) { // not only the LF of an empty data line
    const char *event = p->event.len ? p->event.data : "message";
    size_t event_len = p->event.len ? p->event.len : strlen("message");
    go_on = p->handler(p->arg, event, event_len, p->data.data, len - 1);
  }
  byte_buffer_clear(&p->event);
  byte_buffer_clear(&p->data);
  return go_on || fail(p, STREAM_STOPPED);
}

static bool is_field(const char *name, size_t len, const char *wanted)
{
  return len == strlen(wanted) && memcmp(name, wanted, len) == 0;
}

// Takes one line without its end.
static bool take_line(SseParser *p, const char *line, size_t len)
{
  if (!p->started) {
    p->started = true;
    if (len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
      line += 3;
      len -= 3;
    }
  }
  if (len == 0) {
    return dispatch(p);
  }
  const char *colon = memchr(line, ':', len);
  size_t name_len = colon ? (size_t)(colon - line) : len;
  const char *value = colon ? colon + 1 : line + len;
  size_t value_len = (size_t)(line + len - value);
  if (value_len > 0 && *value == ' ') {
    value++;
    value_len--;
  }

  // Comments have an empty name; `id`, `retry` and unknown fields mean nothing to us.
  bool ok = true;
  if (is_field(line, name_len, "data")) {
    if (value_len + 1 > SSE_MAX_EVENT - p->data.len) {
      return fail(p, STREAM_TOO_BIG);
    }
    ok = byte_buffer_add(&p->data, value, value_len) && byte_buffer_add(&p->data, "\n", 1);
  } else if (is_field(line, name_len, "event")) {
    byte_buffer_clear(&p->event);
    ok = byte_buffer_add(&p->event, value, value_len);
  }
  return ok || fail(p, STREAM_NO_MEMORY);
}

// Takes a piece of a line; `ended` says that its line end follows.
static bool take_piece(SseParser *p, const char *piece, size_t len, bool ended)
{
  if (len > SSE_MAX_EVENT - p->line.len) {
    return fail(p, STREAM_TOO_BIG);
  }
  if (ended && p->line.len == 0) {
    return take_line(p, piece, len);
  }
  if (!byte_buffer_add(&p->line, piece, len)) {
    return fail(p, STREAM_NO_MEMORY);
  }
  if (!ended) {
    return true;
  }
  bool ok = take_line(p, p->line.data, p->line.len);
  byte_buffer_clear(&p->line);
  return ok;
}

StreamStatus sse_feed(SseParser *p, const char *bytes, size_t len)
{
  size_t start = 0;
  for (size_t i = 0; i < len && p->status == STREAM_OK; i++) {
    char c = bytes[i];
    if (c == '\n' && p->after_cr) {
      start = i + 1; // the LF of a CRLF: the CR has ended the line
    } else if (c == '\n' || c == '\r') {
      take_piece(p, bytes + start, i - start, true);
      start = i + 1;
    }
    p->after_cr = c == '\r';
  }
  if (p->status == STREAM_OK && start < len) {
    take_piece(p, bytes + start, len - start, false);
  }
  return p->status;
}

StreamStatus sse_finish(SseParser *p)
{
  if (p->status == STREAM_OK && p->line.len > 0) {
    take_piece(p, "", 0, true);
  }
  if (p->status == STREAM_OK) {
    dispatch(p);
  }
  return p->status;
}
