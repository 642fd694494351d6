// source.c: what the text of a script tells, where the interpreter cannot.

#include "worker.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#define TRIES 40

static bool compiles(lua_State *L, const char *before, const char *code, size_t len)
{
  size_t before_len = strlen(before);
  char *text = malloc(before_len + len + 1);
  if (!text) {
    return false;
  }
  memcpy(text, before, before_len);
  memcpy(text + before_len, code, len);
  bool ok = load_text(L, text, before_len + len) == 0;
  free(text);
  lua_pop(L, 1);
  return ok;
}

static bool is_space(char c)
{
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ';';
}

// The length of the long bracket `[==[ … ]==]` at `at`, all of the rest if it does not end; 0 when
// there is none.
static size_t long_bracket(const char *at, const char *end)
{
  const char *p = at + 1;
  while (p < end && *p == '=') {
    p++;
  }
  if (at == end || *at != '[' || p == end || *p != '[') {
    return 0;
  }
  size_t level = (size_t)(p - at) - 1;
  for (p++; p < end; p++) {
    size_t n = 0;
    while (*p == ']' && n < level && p + 1 + n < end && p[1 + n] == '=') {
      n++;
    }
    if (*p == ']' && n == level && p + 1 + n < end && p[1 + n] == ']') {
      return (size_t)(p + n + 2 - at);
    }
  }
  return (size_t)(end - at);
}

// The length of the quoted string at `at`.
static size_t quoted(const char *at, const char *end)
{
  const char *p = at + 1;
  while (p < end && *p != *at && *p != '\n') {
    p += *p == '\\' && p + 1 < end ? 2 : 1;
  }
  return (size_t)(p < end ? p + 1 - at : end - at);
}

// Puts spaces in place of the comments.
static void blank_comments(char *text, size_t len)
{
  const char *end = text + len;
  for (char *p = text; p < end;) {
    size_t n = 1;
    if (*p == '"' || *p == '\'') {
      n = quoted(p, end);
    } else if (*p == '[' && long_bracket(p, end)) {
      n = long_bracket(p, end);
    } else if (*p == '-' && p + 1 < end && p[1] == '-') {
      n = p + 2 < end ? long_bracket(p + 2, end) : 0;
      n = n ? n + 2 : strcspn(p, "\n"); // the text ends with a NUL
      n = n < (size_t)(end - p) ? n : (size_t)(end - p);
      memset(p, ' ', n);
    }
    p += n;
  }
}

static bool ends_with_return(const char *code, size_t len)
{
  while (len > 0 && is_space(code[len - 1])) {
    len--;
  }
  return len >= 6 && memcmp(code + len - 6, "return", 6) == 0;
}

// As missing_return, in a text without comments.
static void find_last(lua_State *L, const char *code, size_t len, char *hint, size_t size)
{
  size_t end = len;
  while (end > 0 && is_space(code[end - 1])) {
    end--;
  }
  int tries = 0;
  for (size_t i = end; i-- > 0 && tries < TRIES;) {
    if (is_space(code[i]) || (i > 0 && !is_space(code[i - 1]))) {
      continue; // not the first letter of a word
    }
    if (ends_with_return(code, i)) {
      return;
    }
    tries++;
    // What is before it must be a chunk, and what follows one after `return`.
    if (!compiles(L, "return ", code + i, end - i) || !compiles(L, "", code, i)) {
      continue;
    }
    size_t line = strcspn(code + i, "\n");
    line = line < end - i ? line : end - i;
    while (is_space(code[i + line - 1])) {
      line--;
    }
    if (strncmp(code + i, "print", 5) != 0) {
      snprintf(hint, size,
               "the last statement is an expression; to get its value write: return %.*s%s",
               line < 80 ? (int)line : 80, code + i, line < 80 ? "" : "...");
    }
    return;
  }
}

void missing_return(lua_State *L, const char *code, size_t len, char *hint, size_t size)
{
  char *text = malloc(len + 1);
  if (text) {
    memcpy(text, code, len);
    text[len] = '\0';
    blank_comments(text, len);
    find_last(L, text, len, hint, size);
    free(text);
  }
}

// The length of `return FN(` at `at`, or 0.
static size_t tail_call_length(const char *at, const char *end, const char *fn)
{
  const char *from = at;
  size_t fn_len = strlen(fn);
  if ((size_t)(end - at) < 6 + fn_len || memcmp(at, "return", 6) != 0 ||
      !isspace((unsigned char)at[6])) {
    return 0;
  }
  for (at += 6; at < end && isspace((unsigned char)*at); at++) {
  }
  if ((size_t)(end - at) < fn_len || memcmp(at, fn, fn_len) != 0) {
    return 0;
  }
  for (at += fn_len; at < end && isspace((unsigned char)*at); at++) {
  }
  return at < end && strchr("({'\"[", *at) ? (size_t)(at - from) : 0;
}

int tail_call_line(const char *code, size_t len, const char *fn)
{
  int line = 1;
  int found = 0;
  for (size_t i = 0; i < len; i++) {
    line += code[i] == '\n';
    if (code[i] == 'r' && tail_call_length(code + i, code + len, fn)) {
      if (found) {
        return 0;
      }
      found = line;
    }
  }
  return found;
}
