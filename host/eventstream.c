// eventstream.c: host.eventstream, an incremental parser of AWS's event streams.
//
//   local parser = eventstream.new(function(frame)
//     print(frame.headers[":event-type"], frame.payload)
//   end)
//   assert(parser:feed(bytes))   -- nil, err, code when a frame is too big or damaged
//   assert(parser:finish())
//
// A header's value is a boolean, a number (64-bit ones as the nearest double, times in Unix ms) or
// text. ETOOBIG: a frame has more than 16 MiB, or its headers more than 128 KiB. ECRC: a checksum
// is wrong. EFRAME: lengths or headers contradict each other. ECUT: the stream ended inside a
// frame.

#include "eventstream_parser.h"
#include "modules.h"
#include "stream_binding.h"

// "01234567-89ab-cdef-0123-456789abcdef"
static void push_uuid(lua_State *L, const char *bytes)
{
  char text[36];
  size_t n = 0;
  for (int i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) {
      text[n++] = '-';
    }
    unsigned char byte = (unsigned char)bytes[i];
    text[n++] = "0123456789abcdef"[byte >> 4];
    text[n++] = "0123456789abcdef"[byte & 15];
  }
  lua_pushlstring(L, text, n);
}

static void push_value(lua_State *L, const EventstreamHeader *header)
{
  switch (header->type) {
  case EVENTSTREAM_TRUE:
  case EVENTSTREAM_FALSE:
    lua_pushboolean(L, header->type == EVENTSTREAM_TRUE);
    break;
  case EVENTSTREAM_I8:
  case EVENTSTREAM_I16:
  case EVENTSTREAM_I32:
  case EVENTSTREAM_I64:
  case EVENTSTREAM_TIMESTAMP:
    lua_pushnumber(L, (lua_Number)header->number);
    break;
  case EVENTSTREAM_BYTES:
  case EVENTSTREAM_STRING:
    lua_pushlstring(L, header->bytes, header->len);
    break;
  case EVENTSTREAM_UUID:
    push_uuid(L, header->bytes);
    break;
  }
}

static bool on_frame(void *arg, const EventstreamFrame *frame)
{
  lua_State *L = stream_take_handler(arg);
  lua_createtable(L, 0, 2);
  lua_newtable(L);
  const char *rest = frame->headers;
  size_t len = frame->headers_len;
  EventstreamHeader header;
  while (len > 0 && eventstream_next_header(&rest, &len, &header)) {
    lua_pushlstring(L, header.name, header.name_len);
    push_value(L, &header);
    lua_rawset(L, -3);
  }
  lua_setfield(L, -2, "headers");
  lua_pushlstring(L, frame->payload, frame->payload_len);
  lua_setfield(L, -2, "payload");
  return stream_give(arg);
}

static void init(void *parser, StreamBinding *binding)
{
  eventstream_init(parser, on_frame, binding);
}

static StreamStatus feed(void *parser, const char *bytes, size_t len)
{
  return eventstream_feed(parser, bytes, len);
}

static StreamStatus finish(void *parser)
{
  return eventstream_finish(parser);
}

static void close_parser(void *parser)
{
  eventstream_close(parser);
}

static const StreamKind kind = {
    .type = "host.eventstream.parser",
    .item = "a frame",
    .max_item = EVENTSTREAM_MAX_FRAME,
    .size = sizeof(EventstreamParser),
    .init = init,
    .feed = feed,
    .finish = finish,
    .close = close_parser,
};

int luaopen_host_eventstream(lua_State *L)
{
  return stream_open(L, &kind);
}
