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

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "term.h"

// A pid before OTP 24 has a number of 15 bits and a serial of 13.
#define NUMBER_BITS 15
#define KEY_MAX ((1U << 28) - 1)

// --- the table ---

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

void calls_remove(Conn *conn, Call *call)
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

void calls_reference(const Conn *conn, const Call *call, erlang_ref *ref)
{
  memset(ref, 0, sizeof(*ref));
  strcpy(ref->node, conn->handshake.own_name);
  ref->len = 3;
  ref->n[0] = call->key & 0x3FFFF;
  ref->n[1] = call->key >> 18;
  ref->n[2] = conn->ref_tail;
  ref->creation = conn->handshake.creation;
}

Call *calls_of_pid(Conn *conn, const EtfToken *pid)
{
  if (pid->kind != ETF_PID || pid->creation != conn->handshake.creation ||
      pid->words[0] >> NUMBER_BITS != 0 || pid->words[1] >> (28 - NUMBER_BITS) != 0 ||
      pid->node.size != strlen(conn->handshake.own_name) ||
      memcmp(pid->node.at, conn->handshake.own_name, pid->node.size) != 0) {
    return NULL;
  }
  return *find(conn, pid->words[1] << NUMBER_BITS | pid->words[0]);
}

// --- sending ---

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
  calls_reference(conn, call, &ref);
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
  calls_reference(conn, call, &ref);
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
    calls_remove(conn, call);
    return 0;
  }
  call->done = done;
  uint32_t id = call->key;
  conn_send(conn, &frame);
  return id;
}

void calls_kill(Conn *conn, const Call *call)
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
    calls_kill(conn, call);
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
