// environment.c: the Lua state that a script sees: a chosen few of LuaJIT's functions, in tables of
// their own, without JIT, bytecode, files or anything that reaches the original globals.

#include "worker.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#define SLACK 16 // bytes after a block, while text is compiled

Heap heap;

int load_text(lua_State *L, const char *text, size_t len)
{
  heap.loading = true;
  int status = luaL_loadbufferx(L, text, len, "=script", "t");
  heap.loading = false;
  return status;
}

static void *resize(void *block, size_t old_size, size_t size)
{
  if (!heap.loading) {
    return realloc(block, size);
  }
  char *moved = realloc(block, size + SLACK);
  if (moved) {
    size_t from = old_size < size ? old_size : size;
    memset(moved + from, 0, size + SLACK - from);
  }
  return moved;
}

static void *allocate(void *ud, void *block, size_t old_size, size_t size)
{
  (void)ud;
  if (size == 0) {
    heap.used -= old_size;
    free(block);
    return NULL;
  }
  if (!block) {
    old_size = 0;
  }
  bool over = heap.cap > 0 && size > old_size && heap.used + (size - old_size) > heap.cap;
  void *moved = over ? NULL : resize(block, old_size, size);
  if (!moved) {
    if (heap.cap > 0 && !heap.hit) {
      heap.hit = true;
      write_frame(FRAME_MEMORY, "{}", 2);
    }
    return NULL;
  }
  heap.used += size - old_size;
  if (heap.used > heap.peak) {
    heap.peak = heap.used;
  }
  return moved;
}

// --- Positions --------------------------------------------------------------------------------

int script_line(lua_State *L)
{
  lua_Debug at;
  for (int level = 0; lua_getstack(L, level, &at); level++) {
    if (lua_getinfo(L, "Sl", &at) && strcmp(at.source, "=script") == 0 && at.currentline > 0) {
      return at.currentline;
    }
  }
  return 0;
}

int script_error(lua_State *L, const char *fmt, ...)
{
  char text[1024];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof(text), fmt, args);
  va_end(args);
  int line = script_line(L);
  if (line > 0) {
    lua_pushfstring(L, "script:%d: %s", line, text);
  } else {
    lua_pushstring(L, text);
  }
  return lua_error(L);
}

// --- Functions of ours ------------------------------------------------------------------------

// __index of _G, string and os: names that are missing on purpose say so. Upvalues: the set of
// these names, and what to print before them.
static int l_missing(lua_State *L)
{
  if (lua_type(L, 2) != LUA_TSTRING) {
    return 0;
  }
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  if (!lua_toboolean(L, -1)) {
    return 0;
  }
  return script_error(L, "denied: '%s%s' is not available in this sandbox",
                      lua_tostring(L, lua_upvalueindex(2)), lua_tostring(L, 2));
}

// print(...): the upvalue is the original tostring.
static int l_print(lua_State *L)
{
  int n = lua_gettop(L);
  for (int i = 1; i <= n; i++) {
    if (i > 1) {
      output_add("\t", 1);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, i);
    lua_call(L, 1, 1);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    if (!text) {
      return script_error(L, "'tostring' must return a string to 'print'");
    }
    output_add(text, len);
    lua_pop(L, 1);
  }
  output_add("\n", 1);
  return 0;
}

// pcall and xpcall as Lua functions: in this LuaJIT the originals do not check the stack when they
// are metamethods or call each other, and write past its end.
#ifdef WORKER_RAW_PCALL // so that the specs can show that it matters; never installed
#define WRAPPERS "return pcall, xpcall,\n"
#else
#define WRAPPERS                                        \
  "return function(f, ...) return pcall(f, ...) end,\n" \
  "  function(f, handler, ...) return xpcall(f, handler, ...) end,\n"
#endif
static const char prelude[] = "local pcall, xpcall, select = ...\n" WRAPPERS
                              "  function(...) return { n = select('#', ...), ... } end\n";

// --- What is let through ----------------------------------------------------------------------

static const char *const base_names[] = {
    "_VERSION", "assert",   "error",  "getmetatable", "ipairs", "next",
    "pairs",    "rawequal", "rawget", "rawset",       "select", "setmetatable",
    "tonumber", "tostring", "type",   "unpack",       NULL};
static const char *const string_names[] = {"byte",    "char", "find",  "format", "gmatch",
                                           "gsub",    "len",  "lower", "match",  "rep",
                                           "reverse", "sub",  "upper", NULL};
static const char *const table_names[] = {"concat", "insert", "maxn", "remove", "sort", NULL};
static const char *const math_names[] = {
    "abs",        "acos", "asin",  "atan", "atan2", "ceil", "cos",   "cosh",
    "deg",        "exp",  "floor", "fmod", "frexp", "huge", "ldexp", "log",
    "log10",      "max",  "min",   "modf", "pi",    "pow",  "rad",   "random",
    "randomseed", "sin",  "sinh",  "sqrt", "tan",   "tanh", NULL};
static const char *const bit_names[] = {"arshift", "band",   "bnot", "bor", "bswap",
                                        "bxor",    "lshift", "rol",  "ror", "rshift",
                                        "tobit",   "tohex",  NULL};
static const char *const coroutine_names[] = {"create", "resume", "running",     "status",
                                              "wrap",   "yield",  "isyieldable", NULL};
static const char *const os_names[] = {"clock", "date", "difftime", "time", NULL};

static const char *const missing_globals[] = {
    "io",    "package",    "require", "module",  "dofile",   "loadfile",
    "load",  "loadstring", "getfenv", "setfenv", "newproxy", "collectgarbage",
    "debug", "jit",        "ffi",     "gcinfo",  NULL};
static const char *const missing_string[] = {"dump", NULL};
static const char *const missing_os[] = {"execute", "exit",      "getenv",  "remove",
                                         "rename",  "setlocale", "tmpname", NULL};

static const luaL_Reg libraries[] = {
    {"", luaopen_base},     {"string", luaopen_string}, {"table", luaopen_table},
    {"math", luaopen_math}, {"bit", luaopen_bit},       {"os", luaopen_os},
    {NULL, NULL},
};

// Copies the fields `names` of the table at `from` to the one at `to`.
static void copy_names(lua_State *L, int from, int to, const char *const *names)
{
  for (int i = 0; names[i]; i++) {
    lua_getfield(L, from, names[i]);
    lua_setfield(L, to, names[i]);
  }
}

// env[name] = the fields `names` of the original library, which is left on the stack above it.
static void copy_library(lua_State *L, int env, const char *name, const char *const *names)
{
  lua_getglobal(L, name);
  lua_newtable(L);
  copy_names(L, lua_gettop(L) - 1, lua_gettop(L), names);
  lua_pushvalue(L, -1);
  lua_setfield(L, env, name);
  lua_remove(L, -2);
}

// Gives the table on top of the stack a locked metatable whose __index complains about `names`.
static void lock(lua_State *L, const char *prefix, const char *const *names)
{
  lua_newtable(L);
  if (names) {
    lua_newtable(L);
    for (int i = 0; names[i]; i++) {
      lua_pushboolean(L, 1);
      lua_setfield(L, -2, names[i]);
    }
    lua_pushstring(L, prefix);
    lua_pushcclosure(L, l_missing, 2);
    lua_setfield(L, -2, "__index");
  }
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
}

static void add_wrappers(lua_State *L, int env)
{
  if (luaL_loadbufferx(L, prelude, sizeof(prelude) - 1, "=sandbox", "t") != 0) {
    lua_error(L);
  }
  lua_getglobal(L, "pcall");
  lua_getglobal(L, "xpcall");
  lua_getglobal(L, "select");
  lua_call(L, 3, 3);
  lua_getfield(L, env, "table");
  lua_insert(L, -2);
  lua_setfield(L, -2, "pack");
  lua_getglobal(L, "unpack");
  lua_setfield(L, -2, "unpack");
  lua_pop(L, 1);
  lua_setfield(L, env, "xpcall");
  lua_setfield(L, env, "pcall");
  lua_getglobal(L, "tostring");
  lua_pushcclosure(L, l_print, 1);
  lua_setfield(L, env, "print");
}

static void fill(lua_State *L, int env)
{
  lua_pushvalue(L, LUA_GLOBALSINDEX);
  copy_names(L, lua_gettop(L), env, base_names);
  copy_library(L, env, "table", table_names);
  copy_library(L, env, "math", math_names);
  copy_library(L, env, "bit", bit_names);
  copy_library(L, env, "coroutine", coroutine_names);
  copy_library(L, env, "os", os_names);
  lock(L, "os.", missing_os);
  copy_library(L, env, "string", string_names);
  lock(L, "string.", missing_string);

  // The methods of strings are the copy's, and getmetatable("") is false.
  lua_pushliteral(L, "");
  lua_getmetatable(L, -1);
  lua_pushvalue(L, -3);
  lua_setfield(L, -2, "__index");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");

  add_wrappers(L, env);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, env, "null");
  lua_pushvalue(L, env);
  lua_setfield(L, env, "_G");
  lua_pushvalue(L, env);
  lock(L, "", missing_globals);
}

static void open_libraries(lua_State *L)
{
  for (const luaL_Reg *library = libraries; library->name; library++) {
    lua_pushcfunction(L, library->func);
    lua_pushstring(L, library->name);
    lua_call(L, 1, 0);
  }
  // A literal like 1LL would open ffi by itself, at a time when memory may be out, and leave it
  // where the collector takes it away. Open it now and anchor it where no script can look.
  lua_pushlightuserdata(L, &heap);
  lua_pushcfunction(L, luaopen_ffi);
  lua_pushliteral(L, "ffi");
  lua_call(L, 1, 1);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

static int build(lua_State *L)
{
  open_libraries(L);
  lua_settop(L, 0);
  lua_newtable(L);
  fill(L, 1);
  lua_settop(L, 1);
  lua_replace(L, LUA_GLOBALSINDEX);
  lua_pushnil(L);
  lua_setfield(L, LUA_REGISTRYINDEX, "_LOADED");
  return 0;
}

lua_State *environment_new(void)
{
  lua_State *L = lua_newstate(allocate, NULL);
  if (!L || lua_cpcall(L, build, NULL) != 0) {
    return NULL;
  }
  // The first run comes when a script has used ten times what there is (0.5 MiB): it would touch,
  // and so copy, all memory of the zygote's. From then on: the collector does no emergency run when
  // the cap is hit, so keep little garbage around.
  lua_gc(L, LUA_GCSETPAUSE, 1000);
  lua_gc(L, LUA_GCCOLLECT, 0);
  lua_gc(L, LUA_GCSETPAUSE, 120);
  lua_gc(L, LUA_GCSETSTEPMUL, 400);
  return L;
}

void environment_add(lua_State *L, const char *name, lua_CFunction fn)
{
  int top = lua_gettop(L);
  lua_pushvalue(L, LUA_GLOBALSINDEX);
  const char *part = name;
  for (const char *dot; (dot = strchr(part, '.')) != NULL; part = dot + 1) {
    lua_pushlstring(L, part, (size_t)(dot - part));
    lua_rawget(L, -2);
    if (!lua_istable(L, -1)) {
      lua_pop(L, 1);
      lua_newtable(L);
      lua_pushlstring(L, part, (size_t)(dot - part));
      lua_pushvalue(L, -2);
      lua_rawset(L, -4);
    }
  }
  lua_pushstring(L, part);
  lua_pushstring(L, name);
  lua_pushcclosure(L, fn, 1);
  lua_rawset(L, -3);
  lua_settop(L, top);
}

void environment_seed(lua_State *L, double seed)
{
  lua_getglobal(L, "math");
  lua_getfield(L, -1, "randomseed");
  lua_pushnumber(L, seed);
  lua_call(L, 1, 0);
  lua_pop(L, 1);
}
