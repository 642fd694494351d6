// eventstream.c: host.eventstream, an incremental parser of AWS's event streams.
//
//   local parser = eventstream.new(function(frame)
//     print(frame.headers[":event-type"], frame.payload)
//   end)
//   assert(parser:feed(bytes))   -- nil, err, code when a frame is too big or damaged
//   assert(parser:finish())

#include "host.h"

#include "eventstream_parser.h"
#include "modules.h"

#define EVENTSTREAM_TYPE "host.eventstream.parser"

typedef struct Eventstream {
  EventstreamParser parser; // owns its buffer
  lua_State *L;             // borrowed; the caller of feed() while one runs, else NULL
} Eventstream;

// check_idle(L) -> the parser; raises when the handler calls it
static Eventstream *check_idle(lua_State *L)
{
  Eventstream *s = luaL_checkudata(L, 1, EVENTSTREAM_TYPE);
  luaL_argcheck(L, !s->L, 1, "the parser is used by its own handler");
  return s;
}

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

// Calls the Lua handler. An error stops the parser and stays on the stack.
static bool on_frame(void *arg, const EventstreamFrame *frame)
{
  Eventstream *s = arg;
  lua_State *L = s->L;
  lua_getfenv(L, 1);
  lua_getfield(L, -1, "on_frame");
  lua_remove(L, -2);
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
  return lua_pcall(L, 1, 0, 0) == 0;
}

static int push_status(lua_State *L, EventstreamStatus status, bool raised)
{
  switch (status) {
  case EVENTSTREAM_OK:
    lua_pushboolean(L, 1);
    return 1;
  case EVENTSTREAM_TOO_BIG:
    return host_failf(L, "ETOOBIG", "a frame of the stream has more than %zu bytes",
                      EVENTSTREAM_MAX_FRAME);
  case EVENTSTREAM_CORRUPT:
    return host_failf(L, "ECRC", "a frame of the stream is damaged: its checksum is wrong");
  case EVENTSTREAM_INVALID:
    return host_failf(L, "EFRAME", "a frame of the stream is malformed");
  case EVENTSTREAM_CUT:
    return host_failf(L, "ECUT", "the stream ended inside a frame");
  case EVENTSTREAM_NO_MEMORY:
    return host_failf(L, "ENOMEM", "not enough memory");
  case EVENTSTREAM_STOPPED:
    break;
  }
  if (raised) {
    return lua_error(L);
  }
  return host_failf(L, "ECANCELED", "the handler of the stream failed before");
}

// feed(bytes) -> true | nil, err, code
// Calls the handler for each frame that is now whole. Its error is raised here, and the parser is
// then stopped, as it is after ETOOBIG (a frame above 16 MiB, or headers above 128 KiB), ECRC
// (a wrong checksum) and EFRAME (lengths or headers that contradict each other).
static int l_feed(lua_State *L)
{
  Eventstream *s = check_idle(L);
  size_t len;
  const char *bytes = luaL_checklstring(L, 2, &len);
  lua_settop(L, 2);
  s->L = L;
  EventstreamStatus status = eventstream_feed(&s->parser, bytes, len);
  s->L = NULL;
  return push_status(L, status, lua_gettop(L) > 2);
}

// finish() -> true | nil, err, code
// The stream has ended. ECUT: inside a frame.
static int l_finish(lua_State *L)
{
  Eventstream *s = check_idle(L);
  return push_status(L, eventstream_finish(&s->parser), false);
}

// new(on_frame) -> parser
// `on_frame({headers=, payload=})` is called by feed(). A header's value is a boolean, a number
// (64-bit ones as the nearest double, times in Unix ms) or text.
static int l_new(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TFUNCTION);
  Eventstream *s = lua_newuserdata(L, sizeof(*s));
  eventstream_init(&s->parser, on_frame, s);
  s->L = NULL;
  luaL_setmetatable(L, EVENTSTREAM_TYPE);
  lua_createtable(L, 0, 1);
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "on_frame");
  lua_setfenv(L, -2);
  return 1;
}

static int l_gc(lua_State *L)
{
  Eventstream *s = luaL_checkudata(L, 1, EVENTSTREAM_TYPE);
  eventstream_close(&s->parser);
  return 0;
}

static const luaL_Reg functions[] = {
    {"new", l_new},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"feed", l_feed},
    {"finish", l_finish},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", l_gc},
    {NULL, NULL},
};

int luaopen_host_eventstream(lua_State *L)
{
  luaL_newmetatable(L, EVENTSTREAM_TYPE);
  luaL_setfuncs(L, metamethods, 0);
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);

  luaL_newlib(L, functions);
  return 1;
}
