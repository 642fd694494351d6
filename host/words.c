// words.c: host.words, whether a text holds one of many words anywhere, whatever their case.
//
//   local finder = words.new({ "password", "token", "://" })
//   print(finder:find('{"Token":1}'))    -- 3
//
// Of the text's pairs of bytes about every second is looked at (the algorithm of Wu and Manber), so
// that a text without any of the words costs about a nanosecond a byte.

#include "host.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <lauxlib.h>

#include "modules.h"

#define FINDER_TYPE "host.words.finder"
#define WINDOW 3 // the first bytes of each word
#define MAX_WORDS 255
#define MAX_WORD 64

typedef struct Word {
  unsigned char text[MAX_WORD]; // lower case
  unsigned char len;
  unsigned char next; // of those that begin alike, plus one; 0: none
} Word;

typedef struct Finder {
  unsigned char skip[1024]; // by the last pair of a window: how far to the next one
  unsigned char first[32];  // by the first byte: the first word, plus one; 0: none
  int count;
  Word words[];
} Finder;

static unsigned char lower(unsigned char c)
{
  return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

// Pairs that differ in case alone, and some others, share a place.
static unsigned pair(unsigned char a, unsigned char b)
{
  return (a & 31u) << 5 | (b & 31u);
}

static void shorten_skip(Finder *f, const Word *word, int at, unsigned char skip)
{
  unsigned char *known = &f->skip[pair(word->text[at], word->text[at + 1])];
  *known = skip < *known ? skip : *known;
}

static void add_word(Finder *f, const char *text, size_t len)
{
  Word *word = &f->words[f->count++];
  for (size_t i = 0; i < len; i++) {
    word->text[i] = lower((unsigned char)text[i]);
  }
  word->len = (unsigned char)len;
  unsigned char *first = &f->first[word->text[0] & 31];
  word->next = *first;
  *first = (unsigned char)f->count;
  shorten_skip(f, word, 0, 1);
  shorten_skip(f, word, 1, 0);
}

static bool begins_with(const unsigned char *s, size_t left, const Word *word)
{
  size_t i = 0;
  while (i < word->len && i < left && lower(s[i]) == word->text[i]) {
    i++;
  }
  return i == word->len;
}

static bool has_word_at(const Finder *f, const unsigned char *s, size_t left)
{
  for (unsigned char n = f->first[s[0] & 31]; n > 0; n = f->words[n - 1].next) {
    if (begins_with(s, left, &f->words[n - 1])) {
      return true;
    }
  }
  return false;
}

// finder:find(text) -> position of the first word | nil
static int l_find(lua_State *L)
{
  const Finder *f = luaL_checkudata(L, 1, FINDER_TYPE);
  size_t len;
  const unsigned char *s = (const unsigned char *)luaL_checklstring(L, 2, &len);
  for (size_t i = WINDOW - 1; i < len;) {
    unsigned char skip = f->skip[pair(s[i - 1], s[i])];
    size_t start = i - (WINDOW - 1);
    if (skip == 0 && has_word_at(f, s + start, len - start)) {
      lua_pushinteger(L, (lua_Integer)start + 1);
      return 1;
    }
    i += skip > 0 ? skip : 1;
  }
  lua_pushnil(L);
  return 1;
}

// new(words) -> finder
// At most 255 words of 3 to 64 bytes. Case counts for letters of ASCII in neither words nor texts.
static int l_new(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  int count = (int)lua_objlen(L, 1);
  luaL_argcheck(L, count >= 1 && count <= MAX_WORDS, 1, "there must be 1 to 255 words");
  Finder *f = lua_newuserdata(L, sizeof(*f) + (size_t)count * sizeof(Word));
  memset(f, 0, sizeof(*f));
  memset(f->skip, WINDOW - 1, sizeof(f->skip));
  luaL_setmetatable(L, FINDER_TYPE);
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, 1, i);
    size_t len = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : "";
    if (len < WINDOW || len > MAX_WORD) {
      return luaL_error(L, "word %d is not text of 3 to 64 bytes", i);
    }
    add_word(f, text, len);
    lua_pop(L, 1);
  }
  return 1;
}

static const luaL_Reg functions[] = {
    {"new", l_new},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"find", l_find},
    {NULL, NULL},
};

int luaopen_host_words(lua_State *L)
{
  luaL_newmetatable(L, FINDER_TYPE);
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);

  luaL_newlib(L, functions);
  return 1;
}
