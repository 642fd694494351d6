// dist_calls.c: remote calls on a connection.
//
// A call is a SPAWN_REQUEST: the node starts a process for it, and each call has a pid number of
// ours as the parent, so that whatever comes for that pid belongs to that call.
//
// An ordinary call runs erpc:execute_call/4, whose result is its exit reason. It is linked and not
// monitored: link and monitor would carry the result twice. The link also ends the process when the
// connection ends. A call that answers by a message is monitored as well: should it unlink itself
// and die before it answers, we notice.

#include "dist.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "term.h"

// A pid before OTP 24 has a number of 15 bits and a serial of 13.
#define NUMBER_BITS 15
#define KEY_MAX ((1U << 28) - 1)

// --- the table
// ------------------------------------------------------------------------------------

static Call **find(Conn *conn, uint32_t key)
{
  Call **at = &conn->calls[key % CALL_BUCKETS];
  while (*at && (*at)->key != key) {
    at = &(*at)->next;
  }
  return at;
}

static void call_free(Call *call)
{
  free(call->pid);
  free(call);
}

static Call *call_new(Conn *conn)
{
  Call *call = calloc(1, sizeof(*call));
  if (!call) {
    return NULL;
  }
  do {
    conn->next_key = conn->next_key % KEY_MAX + 1;
  } while (*find(conn, conn->next_key));
  call->key = conn->next_key;
  call->done = LUA_NOREF;
  *find(conn, call->key) = call;
  return call;
}

// Takes a call out of the table and frees it.
static void call_remove(Conn *conn, Call *call)
{
  Call **at = find(conn, call->key);
  *at = call->next;
  if (!call->is_cancelled) {
    conn->in_flight--;
  }
  call_free(call);
}

// Our pid of this call.
static void make_pid(const Conn *conn, const Call *call, erlang_pid *pid)
{
  memset(pid, 0, sizeof(*pid));
  strcpy(pid->node, conn->handshake.own_name);
  pid->num = call->key & ((1U << NUMBER_BITS) - 1);
  pid->serial = call->key >> NUMBER_BITS;
  pid->creation = conn->handshake.creation;
}

static void make_reference(const Conn *conn, const Call *call, erlang_ref *ref)
{
  memset(ref, 0, sizeof(*ref));
  strcpy(ref->node, conn->handshake.own_name);
  ref->len = 3;
  ref->n[0] = call->key & 0x3FFFF;
  ref->n[1] = call->key >> 18;
  ref->n[2] = conn->ref_tail;
  ref->creation = conn->handshake.creation;
}

// The call that a pid of ours belongs to, or NULL.
static Call *call_of_pid(Conn *conn, const EtfToken *pid)
{
  if (pid->kind != ETF_PID || pid->creation != conn->handshake.creation ||
      pid->words[0] >> NUMBER_BITS != 0 || pid->words[1] >> (28 - NUMBER_BITS) != 0 ||
      pid->node.size != strlen(conn->handshake.own_name) ||
      memcmp(pid->node.at, conn->handshake.own_name, pid->node.size) != 0) {
    return NULL;
  }
  return *find(conn, pid->words[1] << NUMBER_BITS | pid->words[0]);
}

// --- sending
// --------------------------------------------------------------------------------------

static void put_atom(ei_x_buff *out, const char *name)
{
  ei_x_encode_atom_len_as(out, name, (int)strlen(name), ERLANG_UTF8, ERLANG_UTF8);
}

static void put_max_heap(ei_x_buff *out, double words)
{
  ei_x_encode_tuple_header(out, 2);
  put_atom(out, "max_heap_size");
  ei_x_encode_map_header(out, 3);
  put_atom(out, "size");
  ei_x_encode_longlong(out, (long long)words);
  put_atom(out, "kill");
  ei_x_encode_boolean(out, 1);
  put_atom(out, "error_logger"); // true would log an error on the node
  ei_x_encode_boolean(out, 0);
}

static void put_options(ei_x_buff *out, const CallSpec *spec)
{
  int count =
      1 + (spec->is_message ? 1 : 0) + (spec->is_low_priority ? 1 : 0) + (spec->max_heap_words > 0);
  ei_x_encode_list_header(out, count);
  put_atom(out, "link");
  if (spec->is_message) {
    put_atom(out, "monitor");
  }
  if (spec->is_low_priority) {
    ei_x_encode_tuple_header(out, 2);
    put_atom(out, "priority");
    put_atom(out, "low");
  }
  if (spec->max_heap_words > 0) {
    put_max_heap(out, spec->max_heap_words);
  }
  ei_x_encode_empty_list(out);
}

// {29, ReqId, From, GroupLeader, {Module, Function, Arity}, OptList}
static void put_control(Conn *conn, ei_x_buff *out, const Call *call, const CallSpec *spec,
                        size_t arity)
{
  erlang_pid self;
  erlang_ref ref;
  make_pid(conn, call, &self);
  make_reference(conn, call, &ref);
  ei_x_encode_tuple_header(out, 6);
  ei_x_encode_long(out, 29);
  ei_x_encode_ref(out, &ref);
  ei_x_encode_pid(out, &self);
  if (conn->leader.buff) {
    ei_x_append(out, &conn->leader);
  } else {
    ei_x_encode_pid(out, &self);
  }
  ei_x_encode_tuple_header(out, 3);
  put_atom(out, spec->is_message ? spec->module : "erpc");
  put_atom(out, spec->is_message ? spec->function : "execute_call");
  ei_x_encode_long(out, spec->is_message ? (long)arity : 4);
  put_options(out, spec);
}

// The arguments of the call itself, as a list.
static bool put_arguments(Conn *conn, lua_State *L, ei_x_buff *out, const Call *call,
                          const CallSpec *spec, int args_index, TermError *error)
{
  if (spec->is_internal) {
    ei_x_encode_list_header(out, 1);
    put_atom(out, conn->leader_name);
    ei_x_encode_empty_list(out);
    return true;
  }
  erlang_pid pid;
  ei_x_buff self;
  make_pid(conn, call, &pid);
  if (ei_x_new(&self) != 0) {
    snprintf(error->text, sizeof(error->text), "not enough memory");
    return false;
  }
  ei_x_encode_pid(&self, &pid);
  int start = out->index;
  bool ok = term_encode(L, args_index, out, &self, error);
  ei_x_free(&self);
  if (ok && out->buff[start] != ERL_LIST_EXT && out->buff[start] != ERL_NIL_EXT) {
    snprintf(error->text, sizeof(error->text), "the arguments are not a list");
    return false;
  }
  return ok;
}

static bool put_payload(Conn *conn, lua_State *L, ei_x_buff *out, const Call *call,
                        const CallSpec *spec, int args_index, TermError *error)
{
  ei_x_encode_version(out);
  if (spec->is_message) {
    return put_arguments(conn, L, out, call, spec, args_index, error);
  }
  erlang_ref ref;
  make_reference(conn, call, &ref);
  ei_x_encode_list_header(out, 4);
  ei_x_encode_ref(out, &ref);
  put_atom(out, spec->module);
  put_atom(out, spec->function);
  if (!put_arguments(conn, L, out, call, spec, args_index, error)) {
    return false;
  }
  ei_x_encode_empty_list(out);
  return true;
}

uint32_t calls_start(Conn *conn, lua_State *L, const CallSpec *spec, int args_index, int done,
                     TermError *error)
{
  Call *call = call_new(conn);
  if (!call) {
    snprintf(error->text, sizeof(error->text), "not enough memory");
    return 0;
  }
  conn->in_flight++;
  call->is_message = spec->is_message;
  call->is_internal = spec->is_internal;
  call->has_heap_bound = spec->max_heap_words > 0;
  ei_x_buff frame;
  frame_begin(&frame);
  put_control(conn, &frame, call, spec, spec->is_internal ? 1 : lua_objlen(L, args_index));
  if (!put_payload(conn, L, &frame, call, spec, args_index, error)) {
    ei_x_free(&frame);
    call_remove(conn, call);
    return 0;
  }
  call->done = done;
  uint32_t id = call->key;
  conn_send(conn, &frame);
  return id;
}

// Sends EXIT2 with the reason `kill` to the call's process.
static void send_kill(Conn *conn, const Call *call)
{
  bool payload = (conn->handshake.peer_flags & DFLAG_EXIT_PAYLOAD) != 0;
  erlang_pid self;
  ei_x_buff frame;
  make_pid(conn, call, &self);
  frame_begin(&frame);
  ei_x_encode_tuple_header(&frame, payload ? 3 : 4);
  ei_x_encode_long(&frame, payload ? 26 : 8);
  ei_x_encode_pid(&frame, &self);
  ei_x_append_buf(&frame, call->pid, (int)call->pid_size);
  if (payload) {
    ei_x_encode_version(&frame);
  }
  put_atom(&frame, "kill");
  conn_send(conn, &frame);
}

void calls_cancel(Conn *conn, uint32_t id)
{
  Call *call = *find(conn, id);
  if (!call || call->is_cancelled || call->is_internal) {
    return;
  }
  call->is_cancelled = true;
  conn->in_flight--;
  host_unref(conn->L, &call->done);
  if (call->pid) {
    send_kill(conn, call);
  }
}

// --- answering
// ------------------------------------------------------------------------------------

// Removes the call and pushes its `done`. False when nobody waits: nothing is pushed.
static bool take_done(Conn *conn, Call *call)
{
  lua_State *L = conn->L;
  int done = call->done;
  call_remove(conn, call);
  if (done == LUA_NOREF) {
    return false;
  }
  host_push_ref(L, done);
  host_unref(L, &done);
  return true;
}

static void call_fail_with(Conn *conn, Call *call, const Failure *failure)
{
  bool is_internal = call->is_internal;
  if (take_done(conn, call)) {
    lua_pushnil(conn->L);
    lua_pushfstring(conn->L, "%s: %s", failure->code, failure->text);
    lua_pushstring(conn->L, failure->code);
    host_call(conn->L, 3, 0);
  } else if (is_internal) {
    conn_leader_known(conn, (EtfSpan){0}, failure);
  }
}

__attribute__((format(printf, 4, 5))) static void call_fail(Conn *conn, Call *call,
                                                            const char *code, const char *fmt, ...)
{
  Failure failure = {.code = code};
  va_list args;
  va_start(args, fmt);
  vsnprintf(failure.text, sizeof(failure.text), fmt, args);
  va_end(args);
  call_fail_with(conn, call, &failure);
}

// Prints a term for an error text.
static const char *print(const Conn *conn, EtfSpan term, char *out, size_t capacity)
{
  etf_print(term.at, term.size, conn->handshake.node, out, capacity);
  return out;
}

typedef struct Decoding {
  EtfReader reader;
  const char *home;
  bool ok;
} Decoding;

// Pushes the decoded value; under pcall, for short memory raises.
static int decode_protected(lua_State *L)
{
  Decoding *decoding = lua_touserdata(L, 1);
  decoding->ok = term_decode(L, &decoding->reader, decoding->home);
  return decoding->ok ? 1 : 0;
}

static void call_return(Conn *conn, Call *call, EtfSpan term)
{
  lua_State *L = conn->L;
  if (call->is_internal) {
    call_remove(conn, call);
    conn_leader_known(conn, term, NULL);
    return;
  }
  Decoding decoding = {.home = conn->handshake.node};
  etf_init(&decoding.reader, term.at, term.size);
  if (!take_done(conn, call)) {
    return;
  }
  lua_pushcfunction(L, decode_protected);
  lua_pushlightuserdata(L, &decoding);
  int status = lua_pcall(L, 1, 1, 0);
  if (status == 0 && decoding.ok) {
    host_call(L, 1, 0);
    return;
  }
  lua_pop(L, 1);
  lua_pushnil(L);
  lua_pushfstring(L, "ETERM: the answer cannot be read: %s",
                  status != 0 ? "not enough memory" : decoding.reader.why);
  lua_pushliteral(L, "ETERM");
  host_call(L, 3, 0);
}

static bool take_span(EtfReader *r, EtfSpan *span)
{
  span->at = r->at;
  if (!etf_skip(r)) {
    return false;
  }
  span->size = (size_t)(r->at - span->at);
  return true;
}

// Writes " in module:function/arity" for the first entry of a stack trace; nothing if it is not
// one.
static void print_place(const Conn *conn, EtfSpan stack, char *out, size_t capacity)
{
  EtfReader r;
  EtfToken list;
  EtfToken tuple;
  EtfToken arity;
  EtfSpan module;
  EtfSpan function;
  out[0] = '\0';
  etf_init(&r, stack.at, stack.size);
  if (!etf_expect(&r, ETF_LIST, &list) || list.count == 0 || !etf_expect(&r, ETF_TUPLE, &tuple) ||
      tuple.count < 3 || !take_span(&r, &module) || !take_span(&r, &function) ||
      !etf_next(&r, &arity)) {
    return;
  }
  int count = arity.kind == ETF_INTEGER  ? arity.integer
              : arity.kind == ETF_STRING ? (int)arity.bytes.size
              : arity.kind == ETF_LIST   ? (int)arity.count
                                         : 0;
  char module_text[120];
  char function_text[120];
  snprintf(out, capacity, " in %s:%s/%d", print(conn, module, module_text, sizeof(module_text)),
           print(conn, function, function_text, sizeof(function_text)), count);
}

// {Ref, throw | exit | error, Reason} or {Ref, error, Reason, Stack}: what the call raised.
static void call_raised(Conn *conn, Call *call, const char *class, EtfReader *r, uint32_t count)
{
  EtfSpan reason;
  EtfSpan stack;
  char text[500];
  char place[260] = "";
  if (!take_span(r, &reason)) {
    call_fail(conn, call, "ETERM", "the exception there cannot be read: %s", r->why);
    return;
  }
  if (count == 4 && take_span(r, &stack)) {
    print_place(conn, stack, place, sizeof(place));
  }
  call_fail(conn, call, "EREMOTE", "%s:%s%s", class, print(conn, reason, text, sizeof(text)),
            place);
}

static bool is_own_reference(const Conn *conn, const Call *call, const EtfToken *ref)
{
  erlang_ref own;
  make_reference(conn, call, &own);
  return ref->kind == ETF_REF && ref->word_count == 3 && ref->words[0] == own.n[0] &&
         ref->words[1] == own.n[1] && ref->words[2] == own.n[2] && ref->creation == own.creation;
}

// Looks whether an exit reason is the result of erpc:execute_call/4, and answers the call if so.
static bool take_result(Conn *conn, Call *call, EtfSpan reason)
{
  static const char *const classes[] = {"throw", "exit", "error"};
  EtfReader r;
  EtfToken tuple;
  EtfToken ref;
  EtfToken tag;
  etf_init(&r, reason.at, reason.size);
  if (!etf_expect(&r, ETF_TUPLE, &tuple) || tuple.count < 3 || tuple.count > 4 ||
      !etf_next(&r, &ref) || !is_own_reference(conn, call, &ref) ||
      !etf_expect(&r, ETF_ATOM, &tag)) {
    return false;
  }
  if (etf_is_atom(&tag, "return")) {
    call_return(conn, call, (EtfSpan){r.at, (size_t)(r.end - r.at)});
    return true;
  }
  for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
    if (etf_is_atom(&tag, classes[i])) {
      call_raised(conn, call, classes[i], &r, tuple.count);
      return true;
    }
  }
  return false;
}

// The process of a call has ended.
static void take_exit(Conn *conn, Call *call, EtfSpan reason)
{
  if (call->is_cancelled) {
    call_remove(conn, call);
    return;
  }
  if (!call->is_message && take_result(conn, call, reason)) {
    return;
  }
  char text[500];
  print(conn, reason, text, sizeof(text));
  if (strcmp(text, "killed") == 0 && call->has_heap_bound) {
    call_fail(conn, call, "EHEAP",
              "it needed more memory on the node than it was allowed, and was "
              "ended there");
  } else if (strncmp(text, "{undef,[{erpc,", strlen("{undef,[{erpc,")) == 0) {
    call_fail(conn, call, "EOLD", "%s has no erpc, which OTP 23 and later have",
              conn->handshake.node);
  } else {
    call_fail(conn, call, "EREMOTE", "its process ended without an answer: %s", text);
  }
}

// {Tag, ok, Value} or {Tag, error, Text}: the answer of a call that answers by a message.
static void take_message(Conn *conn, Call *call, EtfSpan message)
{
  EtfReader r;
  EtfToken status;
  EtfToken text;
  if (!call->is_message || call->is_cancelled) {
    return;
  }
  etf_init(&r, message.at, message.size);
  if (!etf_expect_tuple(&r, 3) || !etf_skip(&r) || !etf_expect(&r, ETF_ATOM, &status)) {
    call_fail(conn, call, "ETERM", "the answer is not {Tag, Status, Value}");
    return;
  }
  EtfSpan value = {r.at, (size_t)(r.end - r.at)};
  if (etf_is_atom(&status, "ok")) {
    call_return(conn, call, value);
    return;
  }
  char shown[700];
  if (etf_next(&r, &text) && text.kind == ETF_BINARY) {
    size_t size = text.bytes.size < sizeof(shown) - 1 ? text.bytes.size : sizeof(shown) - 1;
    while (size < text.bytes.size && size > 0 && (text.bytes.at[size] & 0xC0) == 0x80) {
      size--; // not in the middle of a character
    }
    memcpy(shown, text.bytes.at, size);
    shown[size] = '\0';
  } else {
    print(conn, value, shown, sizeof(shown));
  }
  call_fail(conn, call, "EREMOTE", "%s", shown);
}

static void take_spawned(Conn *conn, Call *call, EtfSpan result)
{
  EtfReader r;
  EtfToken token;
  char text[100];
  etf_init(&r, result.at, result.size);
  if (etf_next(&r, &token) && token.kind == ETF_PID) {
    free(call->pid);
    call->pid = malloc(result.size);
    if (call->pid) {
      memcpy(call->pid, result.at, result.size);
      call->pid_size = result.size;
      if (call->is_cancelled) {
        send_kill(conn, call);
      }
    }
    return;
  }
  print(conn, result, text, sizeof(text));
  if (strcmp(text, "notsup") == 0) {
    call_fail(conn, call, "EOLD", "%s cannot start processes for others (OTP 23 and later can)",
              conn->handshake.node);
  } else {
    call_fail(conn, call, "EREMOTE", "the node cannot start a process for the call: %s", text);
  }
}

// {36, Id, FromPid, ToPid}
static void acknowledge_unlink(Conn *conn, const Control *control)
{
  ei_x_buff frame;
  frame_begin(&frame);
  ei_x_encode_tuple_header(&frame, 4);
  ei_x_encode_long(&frame, 36);
  ei_x_append_buf(&frame, (const char *)control->id.at, (int)control->id.size);
  ei_x_append_buf(&frame, (const char *)control->to_span.at, (int)control->to_span.size);
  ei_x_append_buf(&frame, (const char *)control->from.at, (int)control->from.size);
  conn_send(conn, &frame);
}

void calls_take_frame(Conn *conn, const uint8_t *bytes, size_t size, bool whole)
{
  Control control;
  const char *why = "";
  if (!control_parse(bytes, size, whole, &control, &why)) {
    if (whole) {
      Failure failure;
      failure_set(&failure, "EPROTO", "%s sent a message that cannot be read: %s",
                  conn->handshake.node, why);
      conn_end(conn, &failure);
    }
    return;
  }
  if (control.kind == CONTROL_UNLINK) {
    acknowledge_unlink(conn, &control);
    return;
  }
  Call *call = control.kind != CONTROL_OTHER ? call_of_pid(conn, &control.to) : NULL;
  if (!call) {
    return;
  }
  if (control.kind == CONTROL_SPAWN_REPLY) {
    take_spawned(conn, call, control.result);
  } else if (!whole && call->is_cancelled) {
    if (control.kind == CONTROL_EXIT) {
      call_remove(conn, call);
    }
  } else if (!whole) {
    call_fail(conn, call, "ETOOBIG",
              "the answer is longer than %u bytes: ask for less, or for a summary",
              conn->max_frame);
  } else if (control.kind == CONTROL_EXIT) {
    take_exit(conn, call, control.body);
  } else {
    take_message(conn, call, control.body);
  }
}

void calls_drop(Conn *conn, const Failure *failure)
{
  lua_State *L = conn->L;
  Call *all[CALL_BUCKETS];
  memcpy(all, conn->calls, sizeof(all));
  memset(conn->calls, 0, sizeof(conn->calls));
  conn->in_flight = 0;
  for (int i = 0; i < CALL_BUCKETS; i++) {
    while (all[i]) {
      Call *call = all[i];
      int done = call->done;
      all[i] = call->next;
      call_free(call);
      if (done != LUA_NOREF && failure) {
        host_push_ref(L, done);
        lua_pushnil(L);
        lua_pushfstring(L, "EDOWN: the connection ended: %s", failure->text);
        lua_pushliteral(L, "EDOWN");
        host_unref(L, &done);
        host_call(L, 3, 0);
      }
      host_unref(L, &done);
    }
  }
}
