// sse.c: host.sse, an incremental parser of event streams.
//
//   local parser = sse.new(function(event) print(event.event, event.data) end)
//   assert(parser:feed(bytes))   -- nil, err, code when one event is too big
//   assert(parser:finish())
//
// ETOOBIG: one event has more than 1 MiB. An event without data is dropped; the last one counts
// although its blank line is missing.

#include "modules.h"
#include "sse_parser.h"
#include "stream_binding.h"

static bool on_event(void *arg, const char *event, size_t event_len, const char *data,
                     size_t data_len)
{
  lua_State *L = stream_take_handler(arg);
  lua_createtable(L, 0, 2);
  lua_pushlstring(L, event, event_len);
  lua_setfield(L, -2, "event");
  lua_pushlstring(L, data, data_len);
  lua_setfield(L, -2, "data");
  return stream_give(arg);
}

static void init(void *parser, StreamBinding *binding)
{
  sse_init(parser, on_event, binding);
}

static StreamStatus feed(void *parser, const char *bytes, size_t len)
{
  return sse_feed(parser, bytes, len);
}

static StreamStatus finish(void *parser)
{
  return sse_finish(parser);
}

static void close_parser(void *parser)
{
  sse_close(parser);
}

static const StreamKind kind = {
    .type = "host.sse.parser",
    .item = "an event",
    .max_item = SSE_MAX_EVENT,
    .size = sizeof(SseParser),
    .init = init,
    .feed = feed,
    .finish = finish,
    .close = close_parser,
};

int luaopen_host_sse(lua_State *L)
{
  return stream_open(L, &kind);
}
