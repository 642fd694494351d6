// dist_conn.c: one connection to a node, from the question to epmd to its end: steps, frames,
// ticks.
//
// After any call into Lua the connection may be closed: whoever comes back from one looks at
// conn->state, or touches nothing. The callbacks of uv hold the userdata on the Lua stack
// meanwhile.

#include "dist.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <luv/luv.h>
#include <openssl/crypto.h>

#include "host.h"

#define INBOX_SIZE (64 * 1024)
#define TICK_CHECK_MS 5000
#define TICK_AFTER_MS 15000

// Keeps the userdata, in which the Conn lies, alive until leave().
static int enter(Conn *conn)
{
  int top = lua_gettop(conn->L);
  lua_checkstack(conn->L, 8);
  host_push_ref(conn->L, conn->self_ref);
  return top;
}

static void leave(lua_State *L, int top)
{
  lua_settop(L, top);
}

// Closes and frees what the connection holds; no callback of uv finds it any more.
static void release(Conn *conn)
{
  conn->state = CONN_CLOSED;
  if (conn->epmd) {
    epmd_cancel(conn->epmd);
  }
  if (conn->dial) {
    dial_cancel(conn->dial);
  }
  dist_close_handle((uv_handle_t *)conn->tcp);
  dist_close_handle((uv_handle_t *)conn->timer);
  free(conn->inbox);
  free(conn->frame);
  if (conn->leader.buff) {
    ei_x_free(&conn->leader);
  }
  conn->epmd = NULL;
  conn->dial = NULL;
  conn->tcp = NULL;
  conn->timer = NULL;
  conn->inbox = NULL;
  conn->frame = NULL;
  conn->leader.buff = NULL;
  OPENSSL_cleanse(conn->handshake.cookie, sizeof(conn->handshake.cookie));
  host_unref(conn->L, &conn->self_ref);
}

void conn_close(Conn *conn)
{
  if (conn->state == CONN_CLOSED) {
    return;
  }
  release(conn);
  calls_drop(conn, NULL);
  host_unref(conn->L, &conn->up_ref);
  host_unref(conn->L, &conn->down_ref);
}

void conn_end(Conn *conn, const Failure *failure)
{
  lua_State *L = conn->L;
  if (conn->state == CONN_CLOSED) {
    return;
  }
  bool was_up = conn->state == CONN_UP;
  int top = enter(conn);
  release(conn);
  host_unref(L, &conn->up_ref);
  host_push_ref(L, conn->down_ref);
  host_unref(L, &conn->down_ref);
  lua_pushfstring(L, "%s: %s", failure->code, failure->text);
  lua_pushstring(L, failure->code);
  lua_pushboolean(L, was_up);
  host_call(L, 3, 0);
  calls_drop(conn, failure);
  leave(L, top);
}

__attribute__((format(printf, 3, 4))) static void end_with(Conn *conn, const char *code,
                                                           const char *fmt, ...)
{
  Failure failure = {.code = code};
  va_list args;
  va_start(args, fmt);
  vsnprintf(failure.text, sizeof(failure.text), fmt, args);
  va_end(args);
  conn_end(conn, &failure);
}

static void send_packet(Conn *conn, const HandshakePacket *packet)
{
  char *bytes = malloc(packet->size);
  if (bytes) {
    memcpy(bytes, packet->bytes, packet->size);
  }
  conn_write(conn, bytes, packet->size);
}

static void on_tick(uv_timer_t *timer)
{
  Conn *conn = timer->data;
  if (uv_now(timer->loop) - conn->wrote_at_ms >= TICK_AFTER_MS) {
    conn_tick(conn);
  }
}

// --- coming up ---

static void on_handshake_deadline(uv_timer_t *timer)
{
  Conn *conn = timer->data;
  end_with(conn, "ETIMEDOUT",
           "%s at %s:%d did not %s within %llu ms: is it stopped or overloaded, or does a firewall "
           "swallow the packets?",
           conn->handshake.node, conn->host, conn->port,
           conn->state == CONN_DIAL ? "accept the connection" : "finish the handshake",
           (unsigned long long)conn->timeout_ms);
}

// The handshake is done. Calls need the node's `user` as their group leader: without it, what they
// print would come to us. Asks for it by a call whose leader is our own pid. A node that runs
// without `user` has `init` in its stead.
static void ask_leader(Conn *conn, const char *name)
{
  TermError error;
  CallSpec spec = {
      .module = "erlang", .function = "whereis", .is_low_priority = false, .is_internal = true};
  conn->state = CONN_LEADER;
  conn->leader_name = name;
  if (calls_start(conn, conn->L, &spec, 0, LUA_NOREF, &error) == 0) {
    end_with(conn, "EPROTO", "%s", error.text);
  }
}

static void report_up(Conn *conn)
{
  lua_State *L = conn->L;
  conn->state = CONN_UP;
  uv_timer_start(conn->timer, on_tick, TICK_CHECK_MS, TICK_CHECK_MS);
  host_push_ref(L, conn->up_ref);
  host_unref(L, &conn->up_ref);
  lua_createtable(L, 0, 4);
  lua_pushstring(L, conn->handshake.node);
  lua_setfield(L, -2, "node");
  lua_pushstring(L, conn->handshake.own_name);
  lua_setfield(L, -2, "own_name");
  lua_pushnumber(L, conn->handshake.peer_creation);
  lua_setfield(L, -2, "creation");
  lua_pushnumber(L, (double)conn->handshake.peer_flags);
  lua_setfield(L, -2, "flags");
  host_call(L, 1, 0);
}

void conn_leader_known(Conn *conn, EtfSpan pid, const Failure *failure)
{
  EtfReader reader;
  EtfToken token;
  if (failure) {
    conn_end(conn, failure);
    return;
  }
  etf_init(&reader, pid.at, pid.size);
  if (etf_expect(&reader, ETF_PID, &token)) {
    ei_x_new(&conn->leader);
    ei_x_append_buf(&conn->leader, (const char *)pid.at, (int)(reader.at - pid.at));
    report_up(conn);
  } else if (strcmp(conn->leader_name, "user") == 0) {
    ask_leader(conn, "init");
  } else {
    end_with(conn, "EPROTO", "%s has neither user nor init", conn->handshake.node);
  }
}

// Takes packets of the handshake off the front. Returns how many bytes were used.
static size_t take_packets(Conn *conn, const uint8_t *bytes, size_t size)
{
  size_t used = 0;
  while (conn->state == CONN_HANDSHAKE && size - used >= 2) {
    size_t packet_size = (size_t)bytes[used] << 8 | bytes[used + 1];
    if (packet_size > HANDSHAKE_PACKET_MAX) {
      end_with(conn, "EPROTO",
               "what listens at %s:%d does not speak Erlang's distribution protocol", conn->host,
               conn->port);
      return used;
    }
    if (size - used - 2 < packet_size) {
      return used;
    }
    HandshakePacket reply;
    HandshakeStep step = handshake_take(&conn->handshake, bytes + used + 2, packet_size, &reply);
    used += 2 + packet_size;
    if (step == HANDSHAKE_FAILED) {
      conn_end(conn, &conn->handshake.failure);
    } else if (step == HANDSHAKE_UP) {
      ask_leader(conn, "user");
    } else if (reply.size > 0) {
      send_packet(conn, &reply);
    }
  }
  return used;
}

// --- reading ---

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
  (void)suggested;
  Conn *conn = handle->data;
  size_t have = conn ? conn->frame_got : 0;
  // During the handshake, an unfinished packet waits at the front of the inbox.
  size_t kept = conn && conn->state == CONN_HANDSHAKE ? have : 0;
  *buf = conn ? uv_buf_init((char *)conn->inbox + kept, (unsigned)(INBOX_SIZE - kept))
              : uv_buf_init(NULL, 0);
}

static void on_bytes(Conn *conn, size_t size)
{
  conn->received_bytes += (double)size;
  if (conn->state != CONN_HANDSHAKE) {
    conn_take_frames(conn, conn->inbox, size);
    return;
  }
  size += conn->frame_got;
  if (!conn->has_started && size >= 2) {
    conn->has_started = true;
    if (!handshake_check_start(&conn->handshake, conn->inbox, size)) {
      conn_end(conn, &conn->handshake.failure);
      return;
    }
  }
  size_t used = take_packets(conn, conn->inbox, size);
  if (conn->state == CONN_HANDSHAKE) {
    memmove(conn->inbox, conn->inbox + used, size - used);
    conn->frame_got = (uint32_t)(size - used);
  } else if (conn->state != CONN_CLOSED) {
    conn->frame_got = 0;
    conn_take_frames(conn, conn->inbox + used, size - used);
  }
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
  (void)buf;
  Conn *conn = stream->data;
  if (!conn || got == 0) {
    return;
  }
  lua_State *L = conn->L;
  int top = enter(conn);
  if (got > 0) {
    on_bytes(conn, (size_t)got);
  } else if (conn->state == CONN_HANDSHAKE) {
    handshake_closed(&conn->handshake);
    conn_end(conn, &conn->handshake.failure);
  } else {
    end_with(conn, "EDOWN",
             "the connection to %s was closed (%s): the node stopped, or it "
             "disconnected us",
             conn->handshake.node, got == UV_EOF ? "by the node" : uv_strerror((int)got));
  }
  leave(L, top);
}

// --- connecting ---

static void report_no_connection(Conn *conn, int status)
{
  const char *node = conn->handshake.node;
  if (status == UV_ECONNREFUSED) {
    end_with(conn, "ECONNREFUSED",
             "nothing listens at %s:%d, where %s should: it has just ended, or a firewall refuses",
             conn->host, conn->port, node);
  } else if (status <= UV_EAI_ADDRFAMILY && status >= UV_EAI_PROTOCOL) {
    end_with(conn, "EHOST",
             "host %s cannot be resolved (%s): it is what follows @ in the node's name; see: "
             "getent hosts %s",
             conn->host, uv_strerror(status), conn->host);
  } else {
    end_with(conn, "EHOST", "cannot connect to %s at %s:%d: %s", node, conn->host, conn->port,
             uv_strerror(status));
  }
}

static void on_dialed(void *data, int status, uv_tcp_t *tcp)
{
  Conn *conn = data;
  conn->dial = NULL;
  if (!tcp) {
    report_no_connection(conn, status);
    return;
  }
  conn->tcp = tcp;
  conn->state = CONN_HANDSHAKE;
  tcp->data = conn;
  uv_tcp_nodelay(tcp, 1);
  uv_tcp_keepalive(tcp, 1, 60);
  conn->inbox = malloc(INBOX_SIZE);
  int read_status =
      conn->inbox ? uv_read_start((uv_stream_t *)tcp, on_alloc, on_read) : (int)UV_ENOMEM;
  if (read_status != 0) {
    report_no_connection(conn, read_status);
    return;
  }
  HandshakePacket packet;
  handshake_begin(&conn->handshake, &packet);
  send_packet(conn, &packet);
}

static void start_dial(Conn *conn)
{
  conn->state = CONN_DIAL;
  conn->dial = dial_start(luv_loop(conn->L), conn->host, conn->port, on_dialed, conn);
  uv_timer_start(conn->timer, on_handshake_deadline, conn->timeout_ms, 0);
  if (!conn->dial) {
    report_no_connection(conn, UV_ENOMEM);
  }
}

static void on_epmd(void *data, const EpmdAnswer *answer)
{
  Conn *conn = data;
  conn->epmd = NULL;
  if (answer->failure.code) {
    conn_end(conn, &answer->failure);
  } else if (answer->version < 6) {
    end_with(conn, "EOLD",
             "%s speaks version %d of the distribution protocol; beamlens needs version 6, which "
             "OTP 23 and later speak",
             conn->handshake.node, answer->version);
  } else {
    conn->port = answer->port;
    start_dial(conn);
  }
}

static void on_start(uv_timer_t *timer)
{
  start_dial(timer->data);
}

static void on_no_memory(uv_timer_t *timer)
{
  end_with(timer->data, "EDOWN", "not enough memory");
}

void conn_start(Conn *conn)
{
  uv_loop_t *loop = luv_loop(conn->L);
  uv_timer_init(loop, conn->timer);
  conn->timer->data = conn;
  conn->state = CONN_EPMD;
  if (conn->port) {
    uv_timer_start(conn->timer, on_start, 0, 0);
    return;
  }
  char alive[DIST_NAME_MAX];
  size_t size = strcspn(conn->handshake.node, "@");
  memcpy(alive, conn->handshake.node, size);
  alive[size] = '\0';
  conn->epmd =
      epmd_start(loop, conn->host, conn->epmd_port, alive, conn->timeout_ms, on_epmd, conn);
  if (!conn->epmd) {
    uv_timer_start(conn->timer, on_no_memory, 0, 0);
  }
}
