// etf_print.c: prints a term as Erlang's shell would, within a bound. For error texts, map keys and
// tostring() of what has no Lua type.

#include "etf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Printer {
  char *out; // borrowed
  size_t size;
  size_t capacity; // without the room for "..." and the zero byte
  bool full;
  const char *home; // borrowed; may be NULL
} Printer;

static void put(Printer *p, const char *text, size_t size)
{
  if (p->full || size > p->capacity - p->size) {
    p->full = true;
    return;
  }
  memcpy(p->out + p->size, text, size);
  p->size += size;
}

static void put_text(Printer *p, const char *text)
{
  put(p, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static void put_format(Printer *p, const char *format, ...)
{
  char text[64];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  put_text(p, text);
}

// The length of the UTF-8 sequence that begins here; 0 if it is not valid.
static size_t utf8_length(const uint8_t *at, size_t left)
{
  size_t size = at[0] < 0x80 ? 1 : at[0] < 0xC2 ? 0 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : 4;
  if (size == 0 || at[0] > 0xF4 || size > left) {
    return 0;
  }
  for (size_t i = 1; i < size; i++) {
    if ((at[i] & 0xC0) != 0x80) {
      return 0;
    }
  }
  if ((at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xED && at[1] > 0x9F) ||
      (at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] > 0x8F)) {
    return 0;
  }
  return size;
}

static bool is_printable(EtfText text)
{
  for (size_t i = 0; i < text.size;) {
    size_t size = utf8_length(text.at + i, text.size - i);
    bool control = text.at[i] < 0x20 && text.at[i] != '\n' && text.at[i] != '\t';
    if (size == 0 || control || text.at[i] == 0x7F) {
      return false;
    }
    i += size;
  }
  return true;
}

static void put_char(Printer *p, const uint8_t *at, size_t size, bool latin1, char quote)
{
  if (*at == '\n') {
    put_text(p, "\\n");
  } else if (*at == '\t') {
    put_text(p, "\\t");
  } else if (*at == '\\' || *at == (uint8_t)quote) {
    put_format(p, "\\%c", *at);
  } else if (*at < 0x20 || *at == 0x7F || size == 0) {
    put_format(p, "\\x{%X}", *at);
  } else if (latin1 && *at >= 0x80) {
    char utf8[2] = {(char)(0xC0 | *at >> 6), (char)(0x80 | (*at & 0x3F))};
    put(p, utf8, 2);
  } else {
    put(p, (const char *)at, size);
  }
}

static void put_quoted(Printer *p, EtfText text, char quote)
{
  put(p, &quote, 1);
  for (size_t i = 0; i < text.size && !p->full;) {
    size_t size = text.latin1 ? 1 : utf8_length(text.at + i, text.size - i);
    put_char(p, text.at + i, size, text.latin1, quote);
    i += size > 0 ? size : 1;
  }
  put(p, &quote, 1);
}

static bool is_plain_atom(EtfText text)
{
  static const char *const reserved[] = {
      "after", "and",   "andalso", "band",   "begin",   "bnot", "bor", "bsl",  "bsr", "bxor",
      "case",  "catch", "cond",    "div",    "else",    "end",  "fun", "if",   "let", "maybe",
      "not",   "of",    "or",      "orelse", "receive", "rem",  "try", "when", "xor", NULL};
  if (text.size == 0 || text.at[0] < 'a' || text.at[0] > 'z') {
    return false;
  }
  for (size_t i = 0; i < text.size; i++) {
    uint8_t c = text.at[i];
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
          c == '@')) {
      return false;
    }
  }
  for (const char *const *word = reserved; *word; word++) {
    if (strlen(*word) == text.size && memcmp(*word, text.at, text.size) == 0) {
      return false;
    }
  }
  return true;
}

static void put_atom(Printer *p, EtfText text)
{
  if (is_plain_atom(text)) {
    put(p, (const char *)text.at, text.size);
  } else {
    put_quoted(p, text, '\'');
  }
}

// "0" for the home node, whose identifiers print as on that node; else the node's name.
static void put_node(Printer *p, const EtfToken *token)
{
  if (p->home && strlen(p->home) == token->node.size &&
      memcmp(p->home, token->node.at, token->node.size) == 0) {
    put_text(p, "0");
  } else {
    put_atom(p, token->node);
  }
}

static void put_identifier(Printer *p, const EtfToken *token)
{
  const uint32_t *words = token->words;
  switch (token->kind) {
  case ETF_PID:
    put_text(p, "<");
    put_node(p, token);
    put_format(p, ".%u.%u>", words[0], words[1]);
    break;
  case ETF_PORT:
    put_text(p, "#Port<");
    put_node(p, token);
    put_format(p, ".%llu>", (unsigned long long)words[0] << 32 | words[1]);
    break;
  case ETF_REF:
    put_text(p, "#Ref<");
    put_node(p, token);
    for (int i = token->word_count - 1; i >= 0; i--) {
      put_format(p, ".%u", words[i]);
    }
    put_text(p, ">");
    break;
  case ETF_FUN:
    put_text(p, "#Fun<");
    put_atom(p, token->bytes);
    put_format(p, ".%u.%u>", words[0], words[1]);
    break;
  default:
    put_text(p, "fun ");
    put_atom(p, token->bytes);
    put_text(p, ":");
    put_atom(p, token->node);
    put_format(p, "/%u", words[0]);
    break;
  }
}

static void put_bytes(Printer *p, EtfText bytes, const char *open, const char *close)
{
  put_text(p, open);
  for (size_t i = 0; i < bytes.size && !p->full; i++) {
    put_format(p, i == 0 ? "%u" : ",%u", bytes.at[i]);
  }
  put_text(p, close);
}

static void put_bits(Printer *p, const EtfToken *token)
{
  EtfText whole = token->bytes;
  whole.size--;
  put_bytes(p, whole, "<<", "");
  unsigned last = token->bytes.at[whole.size] >> (8 - token->bits);
  put_format(p, whole.size == 0 ? "%u:%u>>" : ",%u:%u>>", last, token->bits);
}

static void put_float(Printer *p, double value)
{
  char text[40];
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, sizeof(text), "%.*g", digits, value);
    if (strtod(text, NULL) == value) {
      break;
    }
  }
  put_text(p, text);
  if (!strpbrk(text, ".e")) {
    put_text(p, ".0");
  }
}

static void put_big(Printer *p, const EtfToken *token)
{
  if (token->bytes.size <= 8) {
    unsigned long long value = 0;
    for (size_t i = token->bytes.size; i > 0; i--) {
      value = value << 8 | token->bytes.at[i - 1];
    }
    put_format(p, "%s%llu", token->negative ? "-" : "", value);
  } else {
    put_format(p, "%.17g", etf_big_to_double(token));
  }
}

static void put_leaf(Printer *p, const EtfToken *token)
{
  switch (token->kind) {
  case ETF_INTEGER:
    put_format(p, "%d", token->integer);
    break;
  case ETF_BIG:
    put_big(p, token);
    break;
  case ETF_FLOAT:
    put_float(p, token->real);
    break;
  case ETF_ATOM:
    put_atom(p, token->bytes);
    break;
  case ETF_BINARY:
    if (is_printable(token->bytes)) {
      put_text(p, "<<");
      put_quoted(p, token->bytes, '"');
      put_text(p, ">>");
    } else {
      put_bytes(p, token->bytes, "<<", ">>");
    }
    break;
  case ETF_BITS:
    put_bits(p, token);
    break;
  case ETF_STRING:
    if (is_printable(token->bytes)) {
      put_quoted(p, token->bytes, '"');
    } else {
      put_bytes(p, token->bytes, "[", "]");
    }
    break;
  case ETF_NIL:
    put_text(p, "[]");
    break;
  default:
    put_identifier(p, token);
    break;
  }
}

static bool put_term(Printer *p, EtfReader *r);

static bool put_elements(Printer *p, EtfReader *r, const EtfToken *token)
{
  for (uint32_t i = 0; i < token->count && !p->full; i++) {
    if (i > 0) {
      put_text(p, ",");
    }
    if (!put_term(p, r)) {
      return false;
    }
    if (token->kind == ETF_MAP) {
      put_text(p, " => ");
      if (!put_term(p, r)) {
        return false;
      }
    }
  }
  return true;
}

static bool put_tail(Printer *p, EtfReader *r)
{
  if (p->full || (r->at < r->end && *r->at == 'j')) {
    return p->full || etf_skip(r);
  }
  put_text(p, "|");
  return put_term(p, r);
}

// False when the term cannot be read. What does not fit any more is not read.
static bool put_term(Printer *p, EtfReader *r)
{
  EtfToken token;
  if (p->full) {
    return true;
  }
  if (!etf_next(r, &token)) {
    return false;
  }
  if (token.kind < ETF_LIST || token.kind > ETF_MAP) {
    put_leaf(p, &token);
    return true;
  }
  const char *open = token.kind == ETF_LIST ? "[" : token.kind == ETF_TUPLE ? "{" : "#{";
  put_text(p, open);
  if (!etf_enter(r) || !put_elements(p, r, &token) || (token.kind == ETF_LIST && !put_tail(p, r))) {
    return false;
  }
  etf_leave(r);
  put_text(p, token.kind == ETF_LIST ? "]" : "}");
  return true;
}

size_t etf_print(const uint8_t *bytes, size_t size, const char *home, char *out, size_t capacity)
{
  EtfReader reader;
  Printer printer = {.out = out, .capacity = capacity - sizeof("..."), .home = home};
  etf_init(&reader, bytes, size);
  if (!put_term(&printer, &reader) || printer.full) {
    memcpy(out + printer.size, "...", 3);
    printer.size += 3;
  }
  out[printer.size] = '\0';
  return printer.size;
}
