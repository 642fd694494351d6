// ndjson.c: host.ndjson, an incremental splitter of streams with one JSON text a line.
//
//   local splitter = ndjson.new(function(line) print(line) end)
//   assert(splitter:feed(bytes))   -- nil, err, code when a line is too long
//   assert(splitter:finish())
//
// ETOOBIG: a line has more than 1 MiB. Blank lines are passed over, and so is the space around a
// line; a last line that lacks its end counts.

#include "modules.h"
#include "ndjson_splitter.h"
#include "stream_binding.h"

static bool on_line(void *arg, const char *line, size_t len)
{
  lua_State *L = stream_take_handler(arg);
  lua_pushlstring(L, line, len);
  return stream_give(arg);
}

static void init(void *splitter, StreamBinding *binding)
{
  ndjson_init(splitter, on_line, binding);
}

static StreamStatus feed(void *splitter, const char *bytes, size_t len)
{
  return ndjson_feed(splitter, bytes, len);
}

static StreamStatus finish(void *splitter)
{
  return ndjson_finish(splitter);
}

static void close_splitter(void *splitter)
{
  ndjson_close(splitter);
}

static const StreamKind kind = {
    .type = "host.ndjson.splitter",
    .item = "a line",
    .max_item = NDJSON_MAX_LINE,
    .size = sizeof(NdjsonSplitter),
    .init = init,
    .feed = feed,
    .finish = finish,
    .close = close_splitter,
};

int luaopen_host_ndjson(lua_State *L)
{
  return stream_open(L, &kind);
}
