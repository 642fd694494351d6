// dist_wire.c: bytes out of and into a connection that stands: frames, each with its length before
// it; one of no length is a tick.

#include "dist.h"

#include <stdlib.h>
#include <string.h>

#define PEEK_SIZE 4096 // of a frame that is too big: its control message fits

typedef struct Write {
  uv_write_t req;
  char *bytes; // owned
} Write;

static void on_write(uv_write_t *req, int status)
{
  (void)status; // a connection that is gone shows when reading
  Write *write = (Write *)req;
  free(write->bytes);
  free(write);
}

// Has the loop write what the socket did not take at once.
static bool write_later(Conn *conn, char *bytes, size_t size, size_t sent)
{
  Write *write = calloc(1, sizeof(*write));
  uv_buf_t buf = uv_buf_init(bytes + sent, (unsigned)(size - sent));
  if (!write) {
    free(bytes);
    return false;
  }
  write->bytes = bytes;
  if (uv_write(&write->req, (uv_stream_t *)conn->tcp, &buf, 1, on_write) != 0) {
    on_write(&write->req, 0);
    return false;
  }
  return true;
}

void conn_write(Conn *conn, char *bytes, size_t size)
{
  if (!bytes) {
    return;
  }
  // The socket takes nearly all at once, which saves a turn of the loop.
  uv_buf_t buf = uv_buf_init(bytes, (unsigned)size);
  int sent = uv_try_write((uv_stream_t *)conn->tcp, &buf, 1);
  if (sent == (int)size) {
    free(bytes);
  } else if (!write_later(conn, bytes, size, sent > 0 ? (size_t)sent : 0)) {
    return;
  }
  conn->sent_bytes += (double)size;
  conn->wrote_at_ms = uv_now(conn->tcp->loop);
}

void frame_begin(ei_x_buff *frame)
{
  static const char head[] = {0, 0, 0, 0, 'p'};
  ei_x_new(frame);
  ei_x_append_buf(frame, head, sizeof(head));
  ei_x_encode_version(frame);
}

void conn_send(Conn *conn, ei_x_buff *frame)
{
  uint32_t size = (uint32_t)frame->index - 4;
  for (int i = 0; i < 4; i++) {
    frame->buff[i] = (char)(size >> (24 - 8 * i));
  }
  if (conn->state == CONN_CLOSED) {
    ei_x_free(frame);
    return;
  }
  // ei_x_free() is ei's free(), which is libc's.
  conn_write(conn, frame->buff, (size_t)frame->index);
}

void conn_tick(Conn *conn)
{
  // With output waiting, the peer will hear from us anyway; and ticks cannot be made to pile up.
  if (uv_stream_get_write_queue_size((uv_stream_t *)conn->tcp) == 0) {
    conn_write(conn, calloc(1, 4), 4);
  }
}

// Takes up to `wanted - have` bytes off the front. Returns how many.
static size_t move(uint8_t *to, size_t have, size_t wanted, const uint8_t *bytes, size_t size)
{
  size_t count = wanted > have ? wanted - have : 0;
  count = count < size ? count : size;
  memcpy(to + have, bytes, count);
  return count;
}

// Takes a part of a frame's body; the whole of it is used, kept or dropped.
static size_t take_body(Conn *conn, const uint8_t *bytes, size_t size)
{
  uint32_t left = conn->frame_size - conn->frame_got;
  size_t used = size < left ? size : left;
  bool is_whole = conn->frame_size <= conn->max_frame;
  if (conn->frame_got == 0 && used == left && is_whole) {
    conn->head_size = 0;
    calls_take_frame(conn, bytes, used, true);
    return used;
  }
  uint32_t kept = is_whole || conn->frame_size < PEEK_SIZE ? conn->frame_size : PEEK_SIZE;
  if (!conn->frame) {
    conn->frame = malloc(kept);
    if (!conn->frame) {
      Failure failure;
      failure_set(&failure, "EDOWN", "not enough memory for a message of %u bytes",
                  conn->frame_size);
      conn_end(conn, &failure);
      return used;
    }
  }
  move(conn->frame, conn->frame_got < kept ? conn->frame_got : kept, kept, bytes, used);
  conn->frame_got += (uint32_t)used;
  if (conn->frame_got == conn->frame_size) {
    uint8_t *frame = conn->frame;
    conn->frame = NULL;
    conn->frame_got = 0;
    conn->head_size = 0;
    calls_take_frame(conn, frame, kept, is_whole);
    free(frame);
  }
  return used;
}

void conn_take_frames(Conn *conn, const uint8_t *bytes, size_t size)
{
  while (size > 0 && conn->state >= CONN_LEADER) {
    size_t used;
    if (conn->head_size < sizeof(conn->head)) {
      used = move(conn->head, conn->head_size, sizeof(conn->head), bytes, size);
      conn->head_size += used;
      if (conn->head_size == sizeof(conn->head)) {
        conn->frame_size = (uint32_t)conn->head[0] << 24 | (uint32_t)conn->head[1] << 16 |
                           (uint32_t)conn->head[2] << 8 | conn->head[3];
        conn->frame_got = 0;
        if (conn->frame_size == 0) {
          conn->head_size = 0;
          conn_tick(conn);
        }
      }
    } else {
      used = take_body(conn, bytes, size);
    }
    bytes += used;
    size -= used;
  }
}
