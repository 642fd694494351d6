// stream_binding.h: the Lua side that all parsers of streams share. A module that is opened so has
//
//   new(handler) -> parser       handler(item) is called once per item that is whole
//   parser:feed(bytes) -> true | nil, err, code
//   parser:finish() -> true | nil, err, code    the stream has ended
//
// An error of the handler is raised by the call that led to it, and the parser is then stopped, as
// it is after any other error.

#ifndef BEAMLENS_STREAM_BINDING_H
#define BEAMLENS_STREAM_BINDING_H

#include <stdbool.h>

#include "host.h"

#include "stream_status.h"

typedef struct StreamBinding StreamBinding;

// What is particular to one kind of stream. `parser` is `size` bytes that belong to the binding.
typedef struct StreamKind {
  const char *type; // of the userdata, "host.sse.parser"
  const char *item; // for messages: "an event"
  size_t max_item;  // bytes, for messages
  size_t size;
  void (*init)(void *parser, StreamBinding *binding); // `binding` is for the two calls below
  StreamStatus (*feed)(void *parser, const char *bytes, size_t len);
  StreamStatus (*finish)(void *parser);
  void (*close)(void *parser);
} StreamKind;

// stream_open(L, kind) -> the module's table. `kind` must live as long as the process.
int stream_open(lua_State *L, const StreamKind *kind);

// Begins to hand over an item: pushes the handler. Then push the item, and call stream_give().
lua_State *stream_take_handler(StreamBinding *binding);

// Calls the handler with the item on top. False when it failed: the parser must then stop with
// STREAM_STOPPED. The error stays on the stack until feed() or finish() raises it.
bool stream_give(StreamBinding *binding);

#endif
