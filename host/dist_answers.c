// dist_answers.c: what the node says of the calls in flight, and how they end.

#include "dist.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "host.h"
#include "term.h"

// Removes the call and pushes its `done`. False when nobody waits: nothing is pushed.
static bool take_done(Conn *conn, Call *call)
{
  lua_State *L = conn->L;
  int done = call->done;
  calls_remove(conn, call);
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
  size_t limit; // of a whole term, with its version byte; 0: only what follows that byte
  bool ok;
} Decoding;

// Pushes the decoded value; under pcall, for short memory raises.
static int decode_protected(lua_State *L)
{
  Decoding *decoding = lua_touserdata(L, 1);
  decoding->ok = decoding->limit
                     ? term_decode_whole(L, &decoding->reader, decoding->home, decoding->limit)
                     : term_decode(L, &decoding->reader, decoding->home);
  return decoding->ok ? 1 : 0;
}

// The call has this result; with a limit, one that was sent as a binary (see Decoding).
static void call_return(Conn *conn, Call *call, EtfSpan term, size_t limit)
{
  lua_State *L = conn->L;
  if (call->is_internal) {
    calls_remove(conn, call);
    conn_leader_known(conn, term, NULL);
    return;
  }
  Decoding decoding = {.home = conn->handshake.node, .limit = limit};
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
  calls_reference(conn, call, &own);
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
    call_return(conn, call, (EtfSpan){r.at, (size_t)(r.end - r.at)}, 0);
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
    calls_remove(conn, call);
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

// Passes over a binary; what it holds is a whole term.
static bool take_packed(EtfReader *r, EtfSpan *span)
{
  EtfToken token;
  if (!etf_expect(r, ETF_BINARY, &token)) {
    return false;
  }
  *span = (EtfSpan){token.bytes.at, token.bytes.size};
  return true;
}

static void call_too_big(Conn *conn, Call *call)
{
  call_fail(conn, call, "ETOOBIG",
            "the answer is longer than %u bytes: ask for less, or for a summary", conn->max_frame);
}

// {Tag, ok, Value}, {Tag, compressed, term_to_binary(Value, [compressed])}, {Tag, system_limit, _}
// for a value that is too big, or {Tag, error, Text}: the answer of a call that answers by a
// message.
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
    call_return(conn, call, value, 0);
    return;
  }
  if (etf_is_atom(&status, "compressed") && take_packed(&r, &value)) {
    call_return(conn, call, value, conn->max_frame);
    return;
  }
  if (etf_is_atom(&status, "system_limit")) {
    call_too_big(conn, call);
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
        calls_kill(conn, call);
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
  if (conn->tcp && uv_stream_get_write_queue_size((uv_stream_t *)conn->tcp) > 2 * CALLS_QUEUE_MAX) {
    Failure failure;
    failure_set(&failure, "EPROTO", "%s asks without end and takes no answer",
                conn->handshake.node);
    conn_end(conn, &failure);
    return;
  }
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
  Call *call = control.kind != CONTROL_OTHER ? calls_of_pid(conn, &control.to) : NULL;
  if (!call) {
    return;
  }
  if (control.kind == CONTROL_SPAWN_REPLY) {
    take_spawned(conn, call, control.result);
  } else if (!whole && call->is_cancelled) {
    if (control.kind == CONTROL_EXIT) {
      calls_remove(conn, call);
    }
  } else if (!whole) {
    call_too_big(conn, call);
  } else if (control.kind == CONTROL_EXIT) {
    take_exit(conn, call, control.body);
  } else {
    take_message(conn, call, control.body);
  }
}
