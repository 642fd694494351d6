// http.c: host.http, HTTP requests on the loop.
//
//   local req = assert(http.request({ url = "https://…", on_data = print }, function(answer, err,
//   code)
//     print(answer and answer.status or err)
//   end))
//   req:cancel()

#include "host.h"

#include <ctype.h>
#include <math.h>

#include <luv/luv.h>

#include "http_transfer.h"
#include "modules.h"

#define REQUEST_TYPE "host.http.request"
#define CLIENT_TYPE "host.http.client"

typedef struct Request Request;

typedef struct Client {
  HttpMulti multi; // first: after_turn() gets it
  lua_State *L;    // borrowed; the main thread
  Request *first;  // the requests under way, each held by its own reference
} Client;

struct Request {
  Transfer transfer;
  Client *client;                      // borrowed; NULL once over
  Request *next, **link;               // in the client's list
  int self, on_done, on_head, on_data; // references
  int body;                            // reference to its text, which curl sends from where it is
  char *joined;                        // owned; or that, of a body in pieces
  bool head_given;
};

static void request_unlink(Request *r)
{
  *r->link = r->next;
  if (r->next) {
    r->next->link = r->link;
  }
}

// Ends a request without a word to Lua.
static void request_close(lua_State *L, Request *r)
{
  if (r->client) {
    r->client = NULL;
    request_unlink(r);
    transfer_close(&r->transfer);
    transfer_free_buffers(&r->transfer);
    free(r->joined);
    host_unref(L, &r->on_done);
    host_unref(L, &r->on_head);
    host_unref(L, &r->on_data);
    host_unref(L, &r->body);
    host_unref(L, &r->self);
  }
}

// Sets the field of a header on the table on top of the stack; a repeated one is joined by commas.
static void set_header(lua_State *L, const char *line, size_t len)
{
  const char *colon = memchr(line, ':', len);
  if (!colon) {
    return;
  }
  luaL_Buffer name;
  luaL_buffinit(L, &name);
  for (const char *c = line; c < colon; c++) {
    luaL_addchar(&name, (char)tolower((unsigned char)*c));
  }
  luaL_pushresult(&name);

  const char *value = colon + 1, *end = line + len;
  while (value < end && isspace((unsigned char)*value)) {
    value++;
  }
  while (end > value && isspace((unsigned char)end[-1])) {
    end--;
  }
  lua_pushvalue(L, -1);
  lua_rawget(L, -3);
  bool repeated = !lua_isnil(L, -1);
  if (repeated) {
    lua_pushliteral(L, ", ");
  } else {
    lua_pop(L, 1);
  }
  lua_pushlstring(L, value, (size_t)(end - value));
  lua_concat(L, repeated ? 3 : 1);
  lua_rawset(L, -3);
}

static void push_headers(lua_State *L, const ByteBuffer *head)
{
  lua_newtable(L);
  const char *line = head->data, *end = head->data + head->len;
  while (line < end) {
    const char *line_end = memchr(line, '\n', (size_t)(end - line));
    line_end = line_end ? line_end : end;
    set_header(L, line, (size_t)(line_end - line));
    line = line_end + 1;
  }
}

static void push_answer(lua_State *L, Request *r)
{
  Transfer *t = &r->transfer;
  double connect_ms, total_ms;
  transfer_times(t, &connect_ms, &total_ms);
  lua_createtable(L, 0, 5);
  lua_pushinteger(L, (lua_Integer)t->status);
  lua_setfield(L, -2, "status");
  push_headers(L, &t->head);
  lua_setfield(L, -2, "headers");
  if (r->on_data == LUA_NOREF) {
    lua_pushlstring(L, t->body.data ? t->body.data : "", t->body.len);
    lua_setfield(L, -2, "body");
  }
  lua_pushnumber(L, connect_ms);
  lua_setfield(L, -2, "connect_ms");
  lua_pushnumber(L, total_ms);
  lua_setfield(L, -2, "total_ms");
}

// Closes the request and calls its callback.
static void request_finish(lua_State *L, Request *r)
{
  host_push_ref(L, r->self); // it must outlive its own reference
  host_push_ref(L, r->on_done);
  int nargs;
  if (r->transfer.code) {
    nargs = host_failf(L, r->transfer.code, "%s", r->transfer.error);
  } else {
    push_answer(L, r);
    nargs = 1;
  }
  request_close(L, r);
  host_call(L, nargs, 0);
}

static void give_head(lua_State *L, Request *r)
{
  r->head_given = true;
  if (r->on_head != LUA_NOREF) {
    host_push_ref(L, r->on_head);
    lua_pushinteger(L, (lua_Integer)r->transfer.status);
    push_headers(L, &r->transfer.head);
    host_call(L, 2, 0);
  }
}

static void give_data(lua_State *L, Request *r)
{
  ByteBuffer *body = &r->transfer.body;
  host_push_ref(L, r->on_data);
  lua_pushlstring(L, body->data, body->len);
  byte_buffer_clear(body);
  if (host_call(L, 1, 1) == 1) {
    bool enough = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
    if (enough && r->client) {
      transfer_enough(&r->transfer);
    }
  }
}

// Hands over one thing that is due. False if there is none.
static bool request_advance(lua_State *L, Request *r)
{
  Transfer *t = &r->transfer;
  if (t->head_done && !r->head_given) {
    give_head(L, r);
  } else if (r->on_data != LUA_NOREF && t->body.len > 0 && !t->code) {
    give_data(L, r);
  } else if (t->ended) {
    request_finish(L, r);
  } else {
    return false;
  }
  return true;
}

// Curl has worked: tells Lua what is new. A callback may start and cancel requests, so that the
// list is read afresh after each.
static void after_turn(HttpMulti *multi)
{
  Client *client = (Client *)multi;
  lua_State *L = client->L;
  int left;
  CURLMsg *msg;
  while ((msg = multi->curl->multi_info_read(multi->handle, &left))) {
    CURLcode result = msg->data.result;
    Transfer *t = NULL;
    multi->curl->easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &t);
    transfer_end(t, result);
  }
  int top = lua_gettop(L);
  Request *r = client->first;
  while (r) {
    bool advanced = request_advance(L, r);
    lua_settop(L, top);
    r = advanced ? client->first : r->next;
  }
}

// --- options ---------------------------------------------------------------------------------

// The texts stay on the stack (and thus valid) while the options are in use.
static const char *text_field(lua_State *L, const char *name, size_t *len)
{
  lua_getfield(L, 1, name);
  if (lua_isnil(L, -1)) {
    return NULL;
  }
  if (lua_type(L, -1) != LUA_TSTRING) {
    luaL_error(L, "%s must be a string, not a %s", name, luaL_typename(L, -1));
  }
  const char *text = lua_tolstring(L, -1, len);
  if (!len && strlen(text) != lua_objlen(L, -1)) {
    luaL_error(L, "%s contains a zero byte", name);
  }
  return text;
}

static double number_field(lua_State *L, const char *name, double fallback, double max)
{
  lua_getfield(L, 1, name);
  double value = lua_isnil(L, -1) ? fallback : lua_tonumber(L, -1);
  if (!lua_isnil(L, -1) && (lua_type(L, -1) != LUA_TNUMBER || !(value >= 1 && value <= max))) {
    luaL_error(L, "%s must be a number from 1 to %d", name, (int)max);
  }
  lua_pop(L, 1);
  return value;
}

static void check_names(lua_State *L)
{
  static const char *const known[] = {"url",
                                      "method",
                                      "headers",
                                      "body",
                                      "connect_timeout_ms",
                                      "idle_timeout_ms",
                                      "timeout_ms",
                                      "max_body_bytes",
                                      "ca_file",
                                      "on_headers",
                                      "on_data",
                                      NULL};
  for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    const char *const *k = known;
    while (*k && strcmp(*k, name) != 0) {
      k++;
    }
    if (!*k) {
      luaL_error(L, "unknown option %s", name);
    }
  }
}

// Checks `headers`, a list of "Name: value". The text of a header, which may be a key, is in no
// error. Pushes the list or nil.
static void check_headers(lua_State *L)
{
  lua_getfield(L, 1, "headers");
  if (lua_isnil(L, -1)) {
    return;
  }
  luaL_argcheck(L, lua_istable(L, -1), 1, "headers must be a list");
  for (int i = 1; i <= (int)lua_objlen(L, -1); i++) {
    lua_rawgeti(L, -1, i);
    size_t len = 0;
    const char *line = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : "";
    if (!strchr(line, ':') || line[0] == ':' || strpbrk(line, "\r\n") || strlen(line) != len) {
      luaL_error(L, "header %d is not \"Name: value\" on one line", i);
    }
    lua_pop(L, 1);
  }
}

// Copies the list at `idx`, if it is one. False when there is no memory.
static bool copy_headers(lua_State *L, int idx, const CurlApi *curl, struct curl_slist **copy)
{
  int count = lua_istable(L, idx) ? (int)lua_objlen(L, idx) : 0;
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, idx, i);
    struct curl_slist *longer = curl->slist_append(*copy, lua_tostring(L, -1));
    lua_pop(L, 1);
    if (!longer) {
      curl->slist_free_all(*copy);
      return false;
    }
    *copy = longer;
  }
  return true;
}

// Checks `body`, a text or a list of texts, and pushes it or nil.
static void check_body(lua_State *L)
{
  lua_getfield(L, 1, "body");
  int count = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, -1, i);
    if (lua_type(L, -1) != LUA_TSTRING) {
      luaL_error(L, "piece %d of body must be a string, not a %s", i, luaL_typename(L, -1));
    }
    lua_pop(L, 1);
  }
  if (!lua_isnil(L, -1) && !lua_istable(L, -1) && lua_type(L, -1) != LUA_TSTRING) {
    luaL_error(L, "body must be a string or a list of strings, not a %s", luaL_typename(L, -1));
  }
}

// Joins the list of texts at `idx`. False when there is no memory.
static bool join_body(lua_State *L, int idx, Request *r, TransferOptions *options)
{
  int count = (int)lua_objlen(L, idx);
  size_t total = 0;
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, idx, i);
    total += lua_objlen(L, -1);
    lua_pop(L, 1);
  }
  r->joined = malloc(total + 1);
  if (!r->joined) {
    return false;
  }
  options->body = r->joined;
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, idx, i);
    size_t len;
    const char *piece = lua_tolstring(L, -1, &len);
    memcpy(r->joined + options->body_len, piece, len);
    options->body_len += len;
    lua_pop(L, 1);
  }
  return true;
}

// Keeps what check_body() has left at `idx` for as long as the request lasts. False when there is
// no memory.
static bool keep_body(lua_State *L, int idx, Request *r, TransferOptions *options)
{
  if (lua_istable(L, idx)) {
    return join_body(L, idx, r, options);
  } else if (!lua_isnil(L, idx)) {
    options->body = lua_tolstring(L, idx, &options->body_len);
    lua_pushvalue(L, idx);
    r->body = host_ref(L);
  }
  return true;
}

static void check_method(lua_State *L, const char *method)
{
  for (const char *c = method; c && *c; c++) {
    if (*c < 'A' || *c > 'Z') {
      luaL_error(L, "method must be capital letters");
    }
  }
}

// A reference to a field of the options; LUA_NOREF where there is none.
static int field_ref(lua_State *L, const char *name)
{
  lua_getfield(L, 1, name);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return LUA_NOREF;
  }
  return host_ref(L);
}

// Takes the callbacks and the body, and puts the request, on top of the stack, into the client's
// list.
static void request_open(lua_State *L, Request *r, Client *client)
{
  r->client = client;
  r->next = client->first;
  r->link = &client->first;
  if (r->next) {
    r->next->link = &r->next;
  }
  client->first = r;
  lua_pushvalue(L, -1);
  r->self = host_ref(L);
  r->on_head = field_ref(L, "on_headers");
  r->on_data = field_ref(L, "on_data");
  lua_pushvalue(L, 2);
  r->on_done = host_ref(L);
}

static void check_callback(lua_State *L, const char *name)
{
  lua_getfield(L, 1, name);
  if (!lua_isnil(L, -1) && !lua_isfunction(L, -1)) {
    luaL_error(L, "%s must be a function", name);
  }
  lua_pop(L, 1);
}

static void check_options(lua_State *L, TransferOptions *options)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  check_names(L);
  check_callback(L, "on_headers");
  check_callback(L, "on_data");
  options->url = text_field(L, "url", NULL);
  luaL_argcheck(L, options->url, 1, "url is missing");
  options->method = text_field(L, "method", NULL);
  check_method(L, options->method);
  options->ca_file = text_field(L, "ca_file", NULL);
  options->connect_timeout_ms = (long)number_field(L, "connect_timeout_ms", 5000, 86400e3);
  options->idle_timeout_ms = (long)number_field(L, "idle_timeout_ms", 60000, 86400e3);
  options->timeout_ms = (long)ceil(number_field(L, "timeout_ms", 0, 86400e3));
  options->max_body_bytes = (size_t)number_field(L, "max_body_bytes", 16 << 20, 1 << 30);
  check_body(L);
  check_headers(L);
}

// request(opts, done) -> req | nil, err, code
// opts: url, method (GET, or POST with a body), headers = list of "Name: value", body (a text, or a
// list of its pieces),
// connect_timeout_ms = 5000, idle_timeout_ms = 60000 (no byte in either direction), timeout_ms (in
// all; default none), max_body_bytes = 16 MiB, ca_file, on_headers(status, headers),
// on_data(bytes): it gets the body as it comes; when it returns false it wants no more, and the
// request ends well within a second. Redirects are not followed; any status is an answer.
// done({status, headers, body, connect_ms, total_ms}), headers by lower-case name and body only
// without on_data, or done(nil, err, code): EHOST, ECONNECT, ETLS, ETIMEDOUT, ECUT (the connection
// ended before the answer did), ETOOBIG, EHTTP. It is called once, never after cancel(), and never
// from inside request(): what cannot even start is returned.
static int l_request(lua_State *L)
{
  Client *client = lua_touserdata(L, lua_upvalueindex(1));
  TransferOptions options = {0};
  check_options(L, &options);
  const char *err = "?";
  if (!http_multi_open(&client->multi, &err)) {
    return host_failf(L, "EHTTP", "libcurl.so.4 cannot be used: %s", err);
  }

  int body = lua_gettop(L) - 1, headers = lua_gettop(L);
  Request *r = lua_newuserdata(L, sizeof(*r));
  *r = (Request){.transfer = {.multi = &client->multi},
                 .self = LUA_NOREF,
                 .on_done = LUA_NOREF,
                 .on_head = LUA_NOREF,
                 .on_data = LUA_NOREF,
                 .body = LUA_NOREF};
  luaL_setmetatable(L, REQUEST_TYPE);
  request_open(L, r, client);
  if (!keep_body(L, body, r, &options) ||
      !copy_headers(L, headers, client->multi.curl, &options.headers)) {
    request_close(L, r);
    return host_failf(L, "ENOMEM", "not enough memory");
  }
  if (!transfer_start(&r->transfer, &client->multi, &options)) {
    int results = host_failf(L, r->transfer.code, "%s", r->transfer.error);
    request_close(L, r);
    return results;
  }
  return 1;
}

// req:cancel()
// Ends the request; its callbacks are not called any more. May be called at any time.
static int l_cancel(lua_State *L)
{
  Request *r = luaL_checkudata(L, 1, REQUEST_TYPE);
  request_close(L, r);
  return 0;
}

// loaded() -> the version text of libcurl | nil while no request was made
static int l_loaded(lua_State *L)
{
  Client *client = lua_touserdata(L, lua_upvalueindex(1));
  lua_pushstring(L, client->multi.curl ? client->multi.curl->version() : NULL);
  return 1;
}

static int l_client_gc(lua_State *L)
{
  Client *client = luaL_checkudata(L, 1, CLIENT_TYPE);
  while (client->first) {
    request_close(L, client->first);
  }
  http_multi_close(&client->multi);
  return 0;
}

static const luaL_Reg functions[] = {
    {"request", l_request},
    {"loaded", l_loaded},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"cancel", l_cancel},
    {NULL, NULL},
};

static const luaL_Reg client_metamethods[] = {
    {"__gc", l_client_gc},
    {NULL, NULL},
};

int luaopen_host_http(lua_State *L)
{
  // Requests need no __gc: a running one is held by its reference and ends with the client.
  luaL_newmetatable(L, REQUEST_TYPE);
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  luaL_newmetatable(L, CLIENT_TYPE);
  luaL_setfuncs(L, client_metamethods, 0);
  lua_pop(L, 2);

  lua_newtable(L);
  Client *client = lua_newuserdata(L, sizeof(*client));
  *client = (Client){.multi = {.loop = luv_loop(L), .after_turn = after_turn}, .L = luv_state(L)};
  luaL_setmetatable(L, CLIENT_TYPE);
  luaL_setfuncs(L, functions, 1);
  return 1;
}
