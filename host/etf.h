// etf.h: reading Erlang's external term format, without Lua and without trust.

#ifndef BEAMLENS_ETF_H
#define BEAMLENS_ETF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ETF_VERSION 131
#define ETF_MAX_DEPTH 64
#define ETF_MAX_ELEMENTS 1000000

typedef enum EtfKind {
  ETF_INTEGER, // integer
  ETF_BIG,     // bytes: the magnitude, least significant first; negative
  ETF_FLOAT,   // real
  ETF_ATOM,    // bytes, latin1
  ETF_BINARY,  // bytes
  ETF_BITS,    // bytes, of the last of which `bits` count
  ETF_STRING,  // bytes: a list of small integers
  ETF_NIL,
  ETF_LIST,  // count elements and a tail follow
  ETF_TUPLE, // count elements follow
  ETF_MAP,   // count pairs follow
  ETF_PID,   // node, words[0..1]: number and serial, creation
  ETF_PORT,  // node, words[0..1]: high and low, creation
  ETF_REF,   // node, words[0..word_count-1], creation
  ETF_FUN,   // module in bytes, words[0..1]: index and uniq
  ETF_EXPORT // module in bytes, name in node, words[0]: arity
} EtfKind;

typedef struct EtfText {
  const uint8_t *at; // borrowed from what is read
  size_t size;
  bool latin1; // else UTF-8
} EtfText;

// One step through a term. What is not a list, tuple or map is read whole: it lies between `start`
// and the reader's position.
typedef struct EtfToken {
  EtfKind kind;
  const uint8_t *start;
  EtfText bytes;
  EtfText node;
  int32_t integer;
  double real;
  uint32_t count;
  uint32_t creation;
  uint32_t words[5];
  int word_count;
  bool negative;
  uint8_t bits;
} EtfToken;

typedef struct EtfReader {
  const uint8_t *at; // borrowed
  const uint8_t *end;
  int depth;
  uint32_t elements; // seen so far, of all lists, tuples and maps
  const char *why;   // what is wrong, after a function returned false; static
} EtfReader;

void etf_init(EtfReader *r, const uint8_t *bytes, size_t size);

// Reads one step. False when the bytes are not a term or exceed the bounds: r->why.
bool etf_next(EtfReader *r, EtfToken *token);

// Before and after the elements of a list, tuple or map; false when they lie too deep.
bool etf_enter(EtfReader *r);
void etf_leave(EtfReader *r);

// Passes over one whole term.
bool etf_skip(EtfReader *r);

// Passes over a version byte.
bool etf_version(EtfReader *r);

// True when what lies at the reader's position, behind a version byte, is a compressed term. Then
// etf_inflated_size() passes over its head and says how many bytes it inflates to (false when more
// than `limit`), and etf_inflate() writes all of them to `out`, for a reader of their own. A
// compressed term ends what is read, and holds no other.
bool etf_is_compressed(const EtfReader *r);
bool etf_inflated_size(EtfReader *r, size_t limit, size_t *size);
bool etf_inflate(EtfReader *r, uint8_t *out, size_t size);

// Read a term that must be of this kind and, for a tuple, of this size.
bool etf_expect(EtfReader *r, EtfKind kind, EtfToken *token);
bool etf_expect_tuple(EtfReader *r, uint32_t size);

// True when the token is the atom `name`.
bool etf_is_atom(const EtfToken *token, const char *name);

// The nearest finite double of an ETF_BIG.
double etf_big_to_double(const EtfToken *token);

// Prints a term as the shell of the node `home` (may be NULL) would, cut to fit. Always ends with a
// zero byte and is valid UTF-8. Returns the length.
size_t etf_print(const uint8_t *bytes, size_t size, const char *home, char *out, size_t capacity);

#endif
