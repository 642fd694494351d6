// etf.c: a bounds-checked reader of Erlang's external term format.
//
// libei is not used for reading: its ei_decode_*() take no end of the buffer and trust every length
// in it, and what a node (or whoever listens on its port) sends must never be trusted. Every tag is
// read in etf_next() and nowhere else.

#include "etf.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
  TAG_NEW_FLOAT = 70,
  TAG_BIT_BINARY = 77,
  TAG_NEWER_REFERENCE = 90,
  TAG_NEW_PID = 88,
  TAG_NEW_PORT = 89,
  TAG_SMALL_INTEGER = 97,
  TAG_INTEGER = 98,
  TAG_FLOAT = 99,
  TAG_ATOM = 100,
  TAG_PORT = 102,
  TAG_PID = 103,
  TAG_SMALL_TUPLE = 104,
  TAG_LARGE_TUPLE = 105,
  TAG_NIL = 106,
  TAG_STRING = 107,
  TAG_LIST = 108,
  TAG_BINARY = 109,
  TAG_SMALL_BIG = 110,
  TAG_LARGE_BIG = 111,
  TAG_NEW_FUN = 112,
  TAG_EXPORT = 113,
  TAG_NEW_REFERENCE = 114,
  TAG_SMALL_ATOM = 115,
  TAG_MAP = 116,
  TAG_ATOM_UTF8 = 118,
  TAG_SMALL_ATOM_UTF8 = 119,
  TAG_V4_PORT = 120,
};

void etf_init(EtfReader *r, const uint8_t *bytes, size_t size)
{
  *r = (EtfReader){.at = bytes, .end = bytes + size};
}

static bool fail(EtfReader *r, const char *why)
{
  r->why = why;
  return false;
}

static bool take(EtfReader *r, size_t size, const uint8_t **bytes)
{
  if ((size_t)(r->end - r->at) < size) {
    return fail(r, "it ends in the middle of a term");
  }
  *bytes = r->at;
  r->at += size;
  return true;
}

// Reads a big-endian number of up to four bytes.
static bool take_number(EtfReader *r, size_t size, uint32_t *value)
{
  const uint8_t *bytes;
  if (!take(r, size, &bytes)) {
    return false;
  }
  *value = 0;
  for (size_t i = 0; i < size; i++) {
    *value = *value << 8 | bytes[i];
  }
  return true;
}

static bool take_text(EtfReader *r, size_t length_size, EtfText *text)
{
  uint32_t size;
  if (!take_number(r, length_size, &size) || !take(r, size, &text->at)) {
    return false;
  }
  text->size = size;
  text->latin1 = false;
  return true;
}

// Counts elements that follow; each takes at least one byte.
static bool take_count(EtfReader *r, size_t length_size, uint32_t per, EtfToken *token)
{
  if (!take_number(r, length_size, &token->count)) {
    return false;
  }
  uint64_t elements = (uint64_t)token->count * per;
  if (elements > (size_t)(r->end - r->at)) {
    return fail(r, "it ends in the middle of a term");
  }
  if (elements > ETF_MAX_ELEMENTS - r->elements) {
    return fail(r, "it has more than 1000000 elements");
  }
  r->elements += (uint32_t)elements;
  return true;
}

static bool take_atom(EtfReader *r, EtfText *text)
{
  uint32_t tag;
  if (!take_number(r, 1, &tag)) {
    return false;
  }
  bool latin1 = tag == TAG_ATOM || tag == TAG_SMALL_ATOM;
  if (!latin1 && tag != TAG_ATOM_UTF8 && tag != TAG_SMALL_ATOM_UTF8) {
    return fail(r, "there is no atom where one must be");
  }
  bool is_small = tag == TAG_SMALL_ATOM || tag == TAG_SMALL_ATOM_UTF8;
  if (!take_text(r, is_small ? 1 : 2, text)) {
    return false;
  }
  if (text->size > 255 * 4) {
    return fail(r, "an atom is too long");
  }
  text->latin1 = latin1;
  return true;
}

static bool take_words(EtfReader *r, int count, EtfToken *token)
{
  token->word_count = count;
  for (int i = 0; i < count; i++) {
    if (!take_number(r, 4, &token->words[i])) {
      return false;
    }
  }
  return true;
}

static bool take_pid(EtfReader *r, size_t creation_size, EtfToken *token)
{
  token->kind = ETF_PID;
  return take_atom(r, &token->node) && take_words(r, 2, token) &&
         take_number(r, creation_size, &token->creation);
}

static bool take_port(EtfReader *r, uint32_t tag, EtfToken *token)
{
  token->kind = ETF_PORT;
  if (!take_atom(r, &token->node)) {
    return false;
  }
  if (tag == TAG_V4_PORT) {
    return take_words(r, 2, token) && take_number(r, 4, &token->creation);
  }
  token->words[0] = 0;
  token->word_count = 2;
  return take_number(r, 4, &token->words[1]) &&
         take_number(r, tag == TAG_PORT ? 1 : 4, &token->creation);
}

static bool take_reference(EtfReader *r, size_t creation_size, EtfToken *token)
{
  uint32_t count;
  token->kind = ETF_REF;
  if (!take_number(r, 2, &count) || !take_atom(r, &token->node) ||
      !take_number(r, creation_size, &token->creation)) {
    return false;
  }
  if (count == 0 || count > 5) {
    return fail(r, "a reference has a wrong size");
  }
  return take_words(r, (int)count, token);
}

// The integers and pids inside other terms are read here, not by etf_expect(): a fun there instead
// would recurse without a bound.
static bool take_inner_integer(EtfReader *r, uint32_t *value)
{
  uint32_t tag;
  if (!take_number(r, 1, &tag)) {
    return false;
  }
  if (tag != TAG_SMALL_INTEGER && tag != TAG_INTEGER) {
    return fail(r, "there is no integer where one must be");
  }
  return take_number(r, tag == TAG_INTEGER ? 4 : 1, value);
}

static bool take_inner_pid(EtfReader *r)
{
  uint32_t tag;
  EtfToken token;
  if (!take_number(r, 1, &tag)) {
    return false;
  }
  if (tag != TAG_PID && tag != TAG_NEW_PID) {
    return fail(r, "there is no pid where one must be");
  }
  return take_pid(r, tag == TAG_NEW_PID ? 4 : 1, &token);
}

static bool take_fun(EtfReader *r, EtfToken *token)
{
  const uint8_t *start = r->at;
  const uint8_t *unused;
  uint32_t size;
  uint32_t free_count;
  if (!take_number(r, 4, &size) || !take(r, 1 + 16 + 4, &unused) ||
      !take_number(r, 4, &free_count) || !take_atom(r, &token->bytes) ||
      !take_inner_integer(r, &token->words[0]) || !take_inner_integer(r, &token->words[1]) ||
      !take_inner_pid(r) || !etf_enter(r)) {
    return false;
  }
  // Each takes at least a byte, so that the count cannot make this long.
  for (uint32_t i = 0; i < free_count; i++) {
    if (!etf_skip(r)) {
      return false;
    }
  }
  etf_leave(r);
  token->kind = ETF_FUN;
  return (size_t)(r->at - start) == size || fail(r, "a fun has a wrong size");
}

static bool take_export(EtfReader *r, EtfToken *token)
{
  token->kind = ETF_EXPORT;
  return take_atom(r, &token->bytes) && take_atom(r, &token->node) &&
         take_inner_integer(r, &token->words[0]);
}

static bool take_big(EtfReader *r, size_t length_size, EtfToken *token)
{
  uint32_t size;
  uint32_t sign;
  if (!take_number(r, length_size, &size) || !take_number(r, 1, &sign) ||
      !take(r, size, &token->bytes.at)) {
    return false;
  }
  token->kind = ETF_BIG;
  token->bytes.size = size;
  token->negative = sign != 0;
  return true;
}

static bool take_float(EtfReader *r, EtfToken *token)
{
  const uint8_t *bytes;
  uint64_t word = 0;
  if (!take(r, 8, &bytes)) {
    return false;
  }
  for (int i = 0; i < 8; i++) {
    word = word << 8 | bytes[i];
  }
  token->kind = ETF_FLOAT;
  memcpy(&token->real, &word, sizeof(word));
  return isfinite(token->real) || fail(r, "a float is not finite");
}

static bool take_bits(EtfReader *r, EtfToken *token)
{
  uint32_t size;
  uint32_t bits;
  if (!take_number(r, 4, &size) || !take_number(r, 1, &bits) || !take(r, size, &token->bytes.at)) {
    return false;
  }
  token->kind = ETF_BITS;
  token->bytes.size = size;
  token->bits = (uint8_t)bits;
  return (size > 0 && bits >= 1 && bits <= 8) || fail(r, "a bit string has a wrong size");
}

static bool take_integer(EtfReader *r, size_t size, EtfToken *token)
{
  uint32_t value;
  token->kind = ETF_INTEGER;
  if (!take_number(r, size, &value)) {
    return false;
  }
  token->integer = (int32_t)value;
  return true;
}

static bool take_string(EtfReader *r, EtfToken *token)
{
  token->kind = ETF_STRING;
  if (!take_text(r, 2, &token->bytes)) {
    return false;
  }
  if (token->bytes.size > ETF_MAX_ELEMENTS - r->elements) {
    return fail(r, "it has more than 1000000 elements");
  }
  r->elements += (uint32_t)token->bytes.size;
  return true;
}

static bool take_identifier(EtfReader *r, uint32_t tag, EtfToken *token)
{
  switch (tag) {
  case TAG_PID:
    return take_pid(r, 1, token);
  case TAG_NEW_PID:
    return take_pid(r, 4, token);
  case TAG_PORT:
  case TAG_NEW_PORT:
  case TAG_V4_PORT:
    return take_port(r, tag, token);
  case TAG_NEW_REFERENCE:
    return take_reference(r, 1, token);
  case TAG_NEWER_REFERENCE:
    return take_reference(r, 4, token);
  case TAG_NEW_FUN:
    return take_fun(r, token);
  case TAG_EXPORT:
    return take_export(r, token);
  default:
    return fail(r, "a type of term is unknown");
  }
}

bool etf_next(EtfReader *r, EtfToken *token)
{
  uint32_t tag;
  token->start = r->at;
  if (!take_number(r, 1, &tag)) {
    return false;
  }
  switch (tag) {
  case TAG_SMALL_INTEGER:
    return take_integer(r, 1, token);
  case TAG_INTEGER:
    return take_integer(r, 4, token);
  case TAG_SMALL_BIG:
    return take_big(r, 1, token);
  case TAG_LARGE_BIG:
    return take_big(r, 4, token);
  case TAG_NEW_FLOAT:
    return take_float(r, token);
  case TAG_ATOM:
  case TAG_SMALL_ATOM:
  case TAG_ATOM_UTF8:
  case TAG_SMALL_ATOM_UTF8:
    r->at--;
    token->kind = ETF_ATOM;
    return take_atom(r, &token->bytes);
  case TAG_BINARY:
    token->kind = ETF_BINARY;
    return take_text(r, 4, &token->bytes);
  case TAG_BIT_BINARY:
    return take_bits(r, token);
  case TAG_STRING:
    return take_string(r, token);
  case TAG_NIL:
    token->kind = ETF_NIL;
    return true;
  case TAG_LIST:
    token->kind = ETF_LIST;
    return take_count(r, 4, 1, token);
  case TAG_SMALL_TUPLE:
  case TAG_LARGE_TUPLE:
    token->kind = ETF_TUPLE;
    return take_count(r, tag == TAG_SMALL_TUPLE ? 1 : 4, 1, token);
  case TAG_MAP:
    token->kind = ETF_MAP;
    return take_count(r, 4, 2, token);
  default:
    return take_identifier(r, tag, token);
  }
}

bool etf_enter(EtfReader *r)
{
  if (r->depth == ETF_MAX_DEPTH) {
    return fail(r, "it is nested more than 64 deep");
  }
  r->depth++;
  return true;
}

void etf_leave(EtfReader *r)
{
  r->depth--;
}

bool etf_skip(EtfReader *r)
{
  EtfToken token;
  if (!etf_next(r, &token)) {
    return false;
  }
  if (token.kind < ETF_LIST || token.kind > ETF_MAP) {
    return true;
  }
  uint64_t parts = token.count;
  parts = token.kind == ETF_MAP ? parts * 2 : parts;
  parts = token.kind == ETF_LIST ? parts + 1 : parts;
  if (!etf_enter(r)) {
    return false;
  }
  for (uint64_t i = 0; i < parts; i++) {
    if (!etf_skip(r)) {
      return false;
    }
  }
  etf_leave(r);
  return true;
}

bool etf_version(EtfReader *r)
{
  uint32_t version;
  return take_number(r, 1, &version) &&
         (version == ETF_VERSION || fail(r, "it does not begin with byte 131"));
}

bool etf_expect(EtfReader *r, EtfKind kind, EtfToken *token)
{
  return etf_next(r, token) && (token->kind == kind || fail(r, "a term has an unexpected type"));
}

bool etf_expect_tuple(EtfReader *r, uint32_t size)
{
  EtfToken token;
  return etf_expect(r, ETF_TUPLE, &token) &&
         (token.count == size || fail(r, "a tuple has an unexpected size"));
}

bool etf_is_atom(const EtfToken *token, const char *name)
{
  return token->kind == ETF_ATOM && token->bytes.size == strlen(name) &&
         memcmp(token->bytes.at, name, token->bytes.size) == 0;
}

double etf_big_to_double(const EtfToken *token)
{
  const uint8_t *bytes = token->bytes.at;
  size_t size = token->bytes.size;
  while (size > 0 && bytes[size - 1] == 0) {
    size--;
  }
  // The 64 highest bits, the lowest of them set if anything below is: rounds to nearest once.
  uint64_t top = 0;
  size_t taken = size < 8 ? size : 8;
  for (size_t i = 0; i < taken; i++) {
    top = top << 8 | bytes[size - 1 - i];
  }
  for (size_t i = 0; i + taken < size; i++) {
    if (bytes[i] != 0) {
      top |= 1;
      break;
    }
  }
  double value = size > 200 ? INFINITY : ldexp((double)top, (int)(size - taken) * 8);
  value = value > DBL_MAX ? DBL_MAX : value;
  return token->negative ? -value : value;
}
