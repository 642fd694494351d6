// dist.c: host.dist, a hidden Erlang node that attaches to others and calls functions there.
//
//   local conn = dist.connect({ node = "shop@db1", own_name = "beamlens1@db1", cookie = cookie,
//     timeout_ms = 5000 }, function(info) … end, function(err, code, was_up) … end)
//   conn:call("erlang", "system_info", { dist.atom("process_count") }, {}, function(value, err) …
//   end) conn:close()
//
// Documented in full in host/meta.lua.

#include "dist.h"

#include <stdlib.h>
#include <string.h>

#include <luv/luv.h>

#include "host.h"
#include "modules.h"
#include "term.h"

#define CONN_TYPE "beamlens.dist.conn"
#define REQUEST_TYPE "beamlens.dist.request"
#define DEFAULT_TIMEOUT_MS 5000
#define DEFAULT_MAX_FRAME (16 * 1024 * 1024)
#define DEFAULT_EPMD_PORT 4369

// --- options ---

// Raises on a key that is not in `known` (ends with NULL).
static void check_keys(lua_State *L, int index, const char *const known[])
{
  luaL_checktype(L, index, LUA_TTABLE);
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    const char *const *name = known;
    while (*name && strcmp(*name, key) != 0) {
      name++;
    }
    if (!*name) {
      luaL_error(L, "unknown option %s", key);
    }
  }
}

// A text of 1 to 255 bytes without a zero byte, copied to `out`.
static void check_text(lua_State *L, int index, const char *key, char out[DIST_NAME_MAX])
{
  size_t size = 0;
  lua_getfield(L, index, key);
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &size) : NULL;
  if (!text || size == 0 || size >= DIST_NAME_MAX || strlen(text) != size) {
    luaL_error(L, "option %s must be a text of 1 to 255 bytes", key);
  }
  memcpy(out, text, size + 1);
  lua_pop(L, 1);
}

static double check_number(lua_State *L, int index, const char *key, double fallback, double least,
                           double most)
{
  lua_getfield(L, index, key);
  double value = lua_isnil(L, -1) ? fallback : lua_tonumber(L, -1);
  if ((!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TNUMBER) || !(value >= least && value <= most)) {
    luaL_error(L, "option %s must be a number from %f to %f", key, least, most);
  }
  lua_pop(L, 1);
  return value;
}

// True when option `key` is `yes`, false when it is `no`; nil means `fallback`.
static bool check_choice(lua_State *L, int index, const char *key, const char *yes, const char *no,
                         bool fallback)
{
  lua_getfield(L, index, key);
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  bool value = fallback;
  if (text && (strcmp(text, yes) == 0 || strcmp(text, no) == 0)) {
    value = strcmp(text, yes) == 0;
  } else if (!lua_isnil(L, -1)) {
    luaL_error(L, "option %s must be \"%s\" or \"%s\"", key, yes, no);
  }
  lua_pop(L, 1);
  return value;
}

// Splits "name@host" or "name@host:port" (an IPv6 host with a port in brackets: "n@[::1]:9000")
// into the node's name, its host and its port (0: ask epmd).
static bool parse_node(const char *text, char node[DIST_NAME_MAX], char host[DIST_NAME_MAX],
                       int *port)
{
  const char *at = strchr(text, '@');
  if (!at || at == text || !at[1] || strlen(text) >= DIST_NAME_MAX) {
    return false;
  }
  const char *start = at[1] == '[' ? at + 2 : at + 1;
  const char *end = at[1] == '[' ? strchr(start, ']') : start + strlen(start);
  const char *colon = strchr(start, ':');
  if (!end) {
    return false;
  }
  const char *rest = *end == ']' ? end + 1 : end;
  if (at[1] != '[' && colon && !strchr(colon + 1, ':')) {
    end = colon;
    rest = colon;
  }
  size_t size = (size_t)(end - start);
  *port = 0;
  if (*rest) {
    char *after;
    long number = *rest == ':' ? strtol(rest + 1, &after, 10) : 0;
    if (number < 1 || number > 65535 || *after) {
      return false;
    }
    *port = (int)number;
  }
  memcpy(host, start, size);
  host[size] = '\0';
  size_t alive_size = (size_t)(at + 1 - text); // its @ included
  memcpy(node, text, alive_size);
  memcpy(node + alive_size, host, size + 1);
  return size > 0;
}

static uint32_t random_word(lua_State *L)
{
  uint32_t word = 0;
  if (uv_random(NULL, NULL, &word, sizeof(word), 0, NULL) != 0) {
    luaL_error(L, "the system gives no random bytes");
  }
  return word;
}

// One for the life of the process: pids of an earlier run of ours must not be taken for ours.
static uint32_t own_creation(lua_State *L)
{
  static uint32_t creation;
  while (creation < 4) { // old nodes used 1 to 3
    creation = random_word(L);
  }
  return creation;
}

// --- connections ---

static Conn *check_conn(lua_State *L)
{
  return luaL_checkudata(L, 1, CONN_TYPE);
}

// Fills a zeroed Conn from the options at index 1. Raises on a wrong one.
static void read_options(lua_State *L, Conn *conn)
{
  static const char *const known[] = {"node",       "own_name",  "cookie",   "epmd_port",
                                      "timeout_ms", "max_frame", "creation", NULL};
  char node[DIST_NAME_MAX];
  Handshake *h = &conn->handshake;
  check_keys(L, 1, known);
  check_text(L, 1, "node", node);
  check_text(L, 1, "own_name", h->own_name);
  check_text(L, 1, "cookie", h->cookie);
  h->cookie_size = strlen(h->cookie);
  luaL_argcheck(L, parse_node(node, h->node, conn->host, &conn->port), 1,
                "node must be name@host or name@host:port");
  const char *at = strchr(h->own_name, '@');
  luaL_argcheck(L, at && at != h->own_name && at[1], 1, "own_name must be name@host");
  conn->epmd_port = (int)check_number(L, 1, "epmd_port", DEFAULT_EPMD_PORT, 1, 65535);
  conn->timeout_ms = (uint64_t)check_number(L, 1, "timeout_ms", DEFAULT_TIMEOUT_MS, 1, 1e9);
  conn->max_frame = (uint32_t)check_number(L, 1, "max_frame", DEFAULT_MAX_FRAME, 1024, 1 << 30);
  h->creation = (uint32_t)check_number(L, 1, "creation", own_creation(L), 1, UINT32_MAX);
  h->challenge = random_word(L);
  conn->ref_tail = random_word(L);
}

// connect(opts, on_up, on_down) -> conn
static int l_connect(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  Conn *conn = lua_newuserdata(L, sizeof(*conn));
  memset(conn, 0, sizeof(*conn));
  conn->L = luv_state(L);
  conn->self_ref = conn->up_ref = conn->down_ref = LUA_NOREF;
  luaL_setmetatable(L, CONN_TYPE);
  read_options(L, conn);
  conn->timer = calloc(1, sizeof(*conn->timer));
  if (!conn->timer) {
    return luaL_error(L, "not enough memory");
  }
  lua_pushvalue(L, 2);
  conn->up_ref = host_ref(L);
  lua_pushvalue(L, 3);
  conn->down_ref = host_ref(L);
  lua_pushvalue(L, -1);
  conn->self_ref = host_ref(L);
  conn_start(conn);
  return 1;
}

// Calls the function at `index` with nil, err, code.
static void refuse_call(lua_State *L, int index, const char *code, const char *text)
{
  lua_pushvalue(L, index);
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s", code, text);
  lua_pushstring(L, code);
  host_call(L, 3, 0);
}

// call(conn, module, function, args, opts, done) -> id | nil
static int l_call(lua_State *L)
{
  static const char *const known[] = {"max_heap_words", "priority", "reply", NULL};
  Conn *conn = check_conn(L);
  CallSpec spec = {.module = luaL_checkstring(L, 2), .function = luaL_checkstring(L, 3)};
  luaL_checktype(L, 4, LUA_TTABLE);
  check_keys(L, 5, known);
  luaL_checktype(L, 6, LUA_TFUNCTION);
  lua_settop(L, 6);
  luaL_argcheck(L, strlen(spec.module) <= 255, 2, "longer than an atom");
  luaL_argcheck(L, strlen(spec.function) <= 255, 3, "longer than an atom");
  spec.max_heap_words = check_number(L, 5, "max_heap_words", 0, 0, 1e15);
  spec.is_low_priority = check_choice(L, 5, "priority", "low", "normal", true);
  spec.is_message = check_choice(L, 5, "reply", "message", "exit", false);
  if (conn->state != CONN_UP) {
    refuse_call(L, 6, "EDOWN", "there is no connection to the node");
    return 0;
  }
  if (conn->tcp && uv_stream_get_write_queue_size((uv_stream_t *)conn->tcp) > CALLS_QUEUE_MAX) {
    refuse_call(L, 6, "EBUSY", "the node does not take what was sent to it");
    return 0;
  }
  TermError error = {"not enough memory"};
  lua_pushvalue(L, 6);
  int done = host_ref(L);
  uint32_t id = calls_start(conn, L, &spec, 4, done, &error);
  if (id == 0) {
    host_unref(L, &done);
    return luaL_error(L, "call of %s:%s: %s", spec.module, spec.function, error.text);
  }
  lua_pushnumber(L, id);
  return 1;
}

// cancel(conn, id | nil)
static int l_cancel(lua_State *L)
{
  Conn *conn = check_conn(L);
  double id = luaL_optnumber(L, 2, 0);
  if (id >= 1 && id <= UINT32_MAX) {
    calls_cancel(conn, (uint32_t)id);
  }
  return 0;
}

// close(conn), any number of times
static int l_close(lua_State *L)
{
  conn_close(check_conn(L));
  return 0;
}

// stats(conn) -> { sent_bytes, received_bytes, calls_in_flight }
static int l_stats(lua_State *L)
{
  Conn *conn = check_conn(L);
  lua_createtable(L, 0, 3);
  lua_pushnumber(L, conn->sent_bytes);
  lua_setfield(L, -2, "sent_bytes");
  lua_pushnumber(L, conn->received_bytes);
  lua_setfield(L, -2, "received_bytes");
  lua_pushnumber(L, conn->in_flight);
  lua_setfield(L, -2, "calls_in_flight");
  return 1;
}

// --- epmd ---

// Lies in its userdata, which self_ref keeps while epmd is not NULL.
typedef struct Request {
  lua_State *L;
  Epmd *epmd; // owned
  int done_ref;
  int self_ref;
} Request;

static void request_release(Request *request)
{
  request->epmd = NULL;
  host_unref(request->L, &request->done_ref);
  host_unref(request->L, &request->self_ref);
}

// Pushes a list of { name, port }.
static void push_names(lua_State *L, const EpmdAnswer *answer)
{
  char name[DIST_NAME_MAX];
  int port;
  const char *at = answer->names;
  const char *end = at + answer->names_size;
  lua_newtable(L);
  for (int i = 1; epmd_next_name(&at, end, name, &port); i++) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "name");
    lua_pushinteger(L, port);
    lua_setfield(L, -2, "port");
    lua_rawseti(L, -2, i);
  }
}

static void on_names(void *data, const EpmdAnswer *answer)
{
  Request *request = data;
  lua_State *L = request->L;
  host_push_ref(L, request->done_ref);
  request_release(request);
  if (answer->failure.code) {
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", answer->failure.code, answer->failure.text);
    lua_pushstring(L, answer->failure.code);
    host_call(L, 3, 0);
  } else {
    push_names(L, answer);
    host_call(L, 1, 0);
  }
}

// epmd_names(host, epmd_port | nil, done) -> request
static int l_epmd_names(lua_State *L)
{
  size_t size;
  const char *host = luaL_checklstring(L, 1, &size);
  lua_Integer port = luaL_optinteger(L, 2, DEFAULT_EPMD_PORT);
  luaL_argcheck(L, size > 0 && size < DIST_NAME_MAX, 1, "1 to 255 bytes");
  luaL_argcheck(L, port > 0 && port < 65536, 2, "a port is 1 to 65535");
  luaL_checktype(L, 3, LUA_TFUNCTION);
  Request *request = lua_newuserdata(L, sizeof(*request));
  *request = (Request){.L = luv_state(L), .done_ref = LUA_NOREF, .self_ref = LUA_NOREF};
  luaL_setmetatable(L, REQUEST_TYPE);
  request->epmd =
      epmd_start(luv_loop(L), host, (int)port, NULL, DEFAULT_TIMEOUT_MS, on_names, request);
  if (!request->epmd) {
    return luaL_error(L, "not enough memory");
  }
  lua_pushvalue(L, 3);
  request->done_ref = host_ref(L);
  lua_pushvalue(L, -1);
  request->self_ref = host_ref(L);
  return 1;
}

// cancel(request): `done` is not called any more. May be called twice.
static int l_request_cancel(lua_State *L)
{
  Request *request = luaL_checkudata(L, 1, REQUEST_TYPE);
  if (request->epmd) {
    epmd_cancel(request->epmd);
    request_release(request);
  }
  return 0;
}

// --- tables ---

static const luaL_Reg functions[] = {
    {"connect", l_connect},
    {"epmd_names", l_epmd_names},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"call", l_call}, {"cancel", l_cancel}, {"close", l_close}, {"stats", l_stats}, {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", l_close},
    {NULL, NULL},
};

static const luaL_Reg request_methods[] = {
    {"cancel", l_request_cancel},
    {NULL, NULL},
};

static const luaL_Reg request_metamethods[] = {
    {"__gc", l_request_cancel},
    {NULL, NULL},
};

static void new_type(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *own)
{
  luaL_newmetatable(L, name);
  luaL_setfuncs(L, meta, 0);
  lua_newtable(L);
  luaL_setfuncs(L, own, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

int luaopen_host_dist(lua_State *L)
{
  new_type(L, CONN_TYPE, metamethods, methods);
  new_type(L, REQUEST_TYPE, request_metamethods, request_methods);
  luaL_newlib(L, functions);
  term_open(L);
  return 1;
}
