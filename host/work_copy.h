// work_copy.h: Lua values as plain bytes, to carry them from one Lua state to another.

#ifndef BEAMLENS_WORK_COPY_H
#define BEAMLENS_WORK_COPY_H

#include <stdbool.h>

#include <lua.h>

#include "byte_buffer.h"

#define WORK_MAX_DEPTH 32
#define WORK_MAX_BYTES (16 * 1024 * 1024)

// Appends the values at first..last. No metamethod runs. False when one of them is neither nil,
// boolean, number, string nor a table of those, or is too deep or too large; `error` (of `size`
// bytes) then names it.
bool work_copy_out(lua_State *L, int first, int last, ByteBuffer *out, char *error, size_t size);

// Pushes the values of bytes made by work_copy_out() and returns how many. Raises when memory is
// out, or when there are more values than the stack takes.
int work_copy_in(lua_State *L, const char *bytes, size_t len);

#endif
