// term.h: Erlang terms as Lua values and back.

#ifndef BEAMLENS_TERM_H
#define BEAMLENS_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ei.h>
#include <lua.h>

#include "etf.h"

// The metatables of opaque terms, and of tables that are marked as tuples and maps.
#define TERM_TYPE "beamlens.dist.term"
#define TUPLE_TYPE "beamlens.dist.tuple"
#define MAP_TYPE "beamlens.dist.map"

// A term that has no Lua type, as bytes in a userdata of TERM_TYPE.
typedef struct Term {
  bool is_self; // dist.self: stands for the pid of the call that it is sent with
  bool is_home; // an identifier of the node that it came from
  size_t size;
  uint8_t bytes[];
} Term;

// Pushes a copy of an encoded term (without version byte).
Term *term_push(lua_State *L, const uint8_t *bytes, size_t size);

// Why a value cannot be sent. Zero-terminated.
typedef struct TermError {
  char text[160];
} TermError;

// Appends the value at `index` as a term (without version byte). `self` (may be NULL) is the
// encoded pid that dist.self stands for. False: error->text; what was appended is then useless.
// Never raises.
bool term_encode(lua_State *L, int index, ei_x_buff *out, const ei_x_buff *self, TermError *error);

// Reads one term and pushes its Lua value; identifiers of the node `home` (may be NULL) print as on
// that node. False, with nothing pushed, when it is not a term or exceeds the bounds: r->why.
// Raises only when memory is short.
bool term_decode(lua_State *L, EtfReader *r, const char *home);

// Reads bytes that are one term with its version byte, compressed or not, and pushes its value. A
// compressed one of more than `limit` bytes is refused. As term_decode() else.
bool term_decode_whole(lua_State *L, EtfReader *r, const char *home, size_t limit);

// Adds term functions (encode, decode, tuple, atom, map, raw) and values (self, tuple_mt) to the
// table on top of the stack.
void term_open(lua_State *L);

#endif
