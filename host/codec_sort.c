// codec_sort.c: the entries of an object in the order of their keys.

#include "codec_internal.h"

#include <stdlib.h>
#include <string.h>

static int compare_entries(const Entry *x, const Entry *y)
{
  if (x->rank != y->rank) {
    return x->rank < y->rank ? -1 : 1;
  }
  size_t n = x->key_len < y->key_len ? x->key_len : y->key_len;
  int order = memcmp(x->base + x->start, y->base + y->start, n);
  if (order != 0) {
    return order;
  }
  if (x->key_len != y->key_len) {
    return x->key_len < y->key_len ? -1 : 1;
  }
  return x->start < y->start ? -1 : 1;
}

// Merges the sorted halves a[0..mid) and a[mid..n) into `to`.
static void merge_entries(const Entry *a, size_t mid, size_t n, Entry *to)
{
  for (size_t left = 0, right = mid; left < mid || right < n;) {
    bool take_left = left < mid && (right == n || compare_entries(&a[left], &a[right]) <= 0);
    *to++ = take_left ? a[left++] : a[right++];
  }
}

// Not qsort(), which may ask the system how much memory there is: that ends a script's process.
static bool merge_sort(Entry *entry, size_t n)
{
  Entry *other = malloc(n * sizeof(*other));
  if (!other) {
    return false;
  }
  Entry *from = entry;
  Entry *to = other;
  for (size_t width = 1; width < n; width *= 2) {
    for (size_t i = 0; i < n; i += 2 * width) {
      size_t len = n - i < 2 * width ? n - i : 2 * width;
      merge_entries(from + i, len < width ? len : width, len, to + i);
    }
    Entry *swap = from;
    from = to;
    to = swap;
  }
  if (from != entry) {
    memcpy(entry, from, n * sizeof(*entry));
  }
  free(other);
  return true;
}

static bool same_key(const Entry *x, const Entry *y)
{
  return x->key_len == y->key_len &&
         memcmp(x->base + x->start, y->base + y->start, x->key_len) == 0;
}

CodecStatus codec_sort_entries(Encoding *e, size_t start, Entry *entry, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    entry[i].base = e->out->data;
  }
  if (!merge_sort(entry, n)) {
    return CODEC_TOO_BIG;
  }
  CodecBuf sorted = CODEC_BUF(e->out->max - start);
  CodecStatus status = CODEC_OK;
  for (size_t i = 0; i < n && status == CODEC_OK; i++) {
    if (i > 0 && same_key(&entry[i - 1], &entry[i])) {
      e->opts->lossy = true;
      if (!e->opts->keep_first_key) {
        status = codec_bad(e, "two keys of a table print alike");
      }
      continue;
    }
    if (i > 0) {
      codec_put(&sorted, ",", 1);
    }
    codec_put(&sorted, entry[i].base + entry[i].start, entry[i].len);
  }
  if (sorted.full) {
    status = CODEC_TOO_BIG;
  }
  if (status == CODEC_OK) {
    e->out->len = start;
    codec_put(e->out, sorted.data, sorted.len);
  }
  codec_free(&sorted);
  return status;
}
