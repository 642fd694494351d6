// ndjson_splitter.c: a line ends with LF; a CR before it is space that JSON ignores, and is cut off
// like all space around a line. Whole lines are handed over where they lie.

#include "ndjson_splitter.h"

void ndjson_init(NdjsonSplitter *s, NdjsonHandler handler, void *arg)
{
  *s = (NdjsonSplitter){.handler = handler, .arg = arg};
}

void ndjson_close(NdjsonSplitter *s)
{
  byte_buffer_free(&s->line);
}

static void fail(NdjsonSplitter *s, StreamStatus status)
{
  s->status = status;
}

static bool is_space(char c)
{
  return c == ' ' || c == '\t' || c == '\r';
}

// Takes one line without its end.
static void take_line(NdjsonSplitter *s, const char *line, size_t len)
{
  while (len > 0 && is_space(line[len - 1])) {
    len--;
  }
  while (len > 0 && is_space(*line)) {
    line++;
    len--;
  }
  if (len > 0 && !s->handler(s->arg, line, len)) {
    fail(s, STREAM_STOPPED);
  }
}

// Takes a piece of a line; `ended` says that its line end follows.
static void take_piece(NdjsonSplitter *s, const char *piece, size_t len, bool ended)
{
  if (len > NDJSON_MAX_LINE - s->line.len) {
    fail(s, STREAM_TOO_BIG);
  } else if (ended && s->line.len == 0) {
    take_line(s, piece, len);
  } else if (!byte_buffer_add(&s->line, piece, len)) {
    fail(s, STREAM_NO_MEMORY);
  } else if (ended) {
    take_line(s, s->line.data, s->line.len);
    byte_buffer_clear(&s->line);
  }
}

StreamStatus ndjson_feed(NdjsonSplitter *s, const char *bytes, size_t len)
{
  while (len > 0 && s->status == STREAM_OK) {
    const char *end = memchr(bytes, '\n', len);
    size_t n = end ? (size_t)(end - bytes) : len;
    take_piece(s, bytes, n, end);
    size_t used = end ? n + 1 : n;
    bytes += used;
    len -= used;
  }
  return s->status;
}

StreamStatus ndjson_finish(NdjsonSplitter *s)
{
  if (s->status == STREAM_OK) {
    take_piece(s, "", 0, true);
  }
  return s->status;
}
