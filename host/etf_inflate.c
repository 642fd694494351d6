// etf_inflate.c: compressed terms, as term_to_binary(Term, [compressed]) makes them: behind the
// version byte a tag, the size of the term in four bytes, and a zlib stream of just that size.

#include "etf.h"

#include <zlib.h>

enum { TAG_COMPRESSED = 80, HEAD_SIZE = 5 };

static bool fail(EtfReader *r, const char *why)
{
  r->why = why;
  return false;
}

bool etf_is_compressed(const EtfReader *r)
{
  return r->at < r->end && *r->at == TAG_COMPRESSED;
}

bool etf_inflated_size(EtfReader *r, size_t limit, size_t *size)
{
  if (r->end - r->at < HEAD_SIZE) {
    return fail(r, "it ends in the middle of a term");
  }
  *size = (size_t)r->at[1] << 24 | (size_t)r->at[2] << 16 | (size_t)r->at[3] << 8 | r->at[4];
  if (*size == 0) {
    return fail(r, "a compressed term is empty");
  }
  if (*size > limit) {
    return fail(r, "a compressed term is too long");
  }
  r->at += HEAD_SIZE;
  return true;
}

bool etf_inflate(EtfReader *r, uint8_t *out, size_t size)
{
  uLongf made = size;
  uLong used = (uLong)(r->end - r->at);
  uLong there = used;
  int status = uncompress2(out, &made, r->at, &used);
  if (status == Z_MEM_ERROR) {
    return fail(r, "not enough memory");
  }
  if (status != Z_OK || made != size) {
    return fail(r, "a compressed term does not inflate to what it says");
  }
  if (used != there) {
    return fail(r, "bytes follow it");
  }
  r->at = r->end;
  return true;
}
