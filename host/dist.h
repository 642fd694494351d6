// dist.h: what the parts of host.dist share. Nothing here is used outside of host/dist*.c.
//
// A connection is made in steps, each a file: dist_epmd.c asks for the node's port, dist_dial.c
// resolves and connects, dist_handshake.c knows what is said first, dist_conn.c goes these steps,
// dist_wire.c moves frames, dist_control.c reads their control messages, dist_calls.c sends calls,
// dist_answers.c ends them.

#ifndef BEAMLENS_DIST_H
#define BEAMLENS_DIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ei.h>
#include <lua.h>
#include <uv.h>

#include "etf.h"
#include "term.h"

#define DIST_NAME_MAX 256

// Why something ended: a code of the documented ones, and a text for people. Never has the cookie.
typedef struct Failure {
  const char *code; // static; NULL while nothing failed
  char text[900];
} Failure;

void failure_set(Failure *f, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// Copies text of somebody else for an error text: no control characters, cut to fit.
void failure_quote(char *out, size_t capacity, const void *text, size_t size);

// Closes a handle that is an allocation of its own, and frees it when that is done.
void dist_close_handle(uv_handle_t *handle);

// --- dist_dial.c ---

typedef struct Dial Dial;

// `tcp` is connected and the callee's, or NULL and `status` says why (uv's code).
typedef void (*DialDone)(void *data, int status, uv_tcp_t *tcp);

// Resolves and connects, to all addresses of the host. `done` is called once, later, unless
// cancelled; the Dial is gone then. The caller has the deadline. NULL: not enough memory.
Dial *dial_start(uv_loop_t *loop, const char *host, int port, DialDone done, void *data);
void dial_cancel(Dial *dial);

// True while the host's addresses are not known yet.
bool dial_is_resolving(const Dial *dial);

// --- dist_epmd.c ---

typedef struct Epmd Epmd;

typedef struct EpmdAnswer {
  Failure failure;   // failure.code is NULL when it answered
  int port;          // of the node
  int version;       // highest of the distribution protocol that the node speaks
  const char *names; // borrowed: lines, for epmd_next_name(); when no node was asked for
  size_t names_size;
} EpmdAnswer;

typedef void (*EpmdDone)(void *data, const EpmdAnswer *answer);

// Asks the epmd at host:port where the node `name` listens or, when `name` is NULL, for all names.
// `done` is called once, later, unless cancelled; the Epmd is gone then. NULL: not enough memory.
Epmd *epmd_start(uv_loop_t *loop, const char *host, int port, const char *name, uint64_t timeout_ms,
                 EpmdDone done, void *data);
void epmd_cancel(Epmd *epmd);

// Reads the next line of a list of names; false at its end.
bool epmd_next_name(const char **at, const char *end, char name[DIST_NAME_MAX], int *port);

// --- dist_handshake.c ---

// Capabilities that change what we send.
#define DFLAG_EXIT_PAYLOAD 0x400000ULL

typedef enum HandshakeStep { HANDSHAKE_MORE, HANDSHAKE_UP, HANDSHAKE_FAILED } HandshakeStep;

typedef struct Handshake {
  int state;
  char node[DIST_NAME_MAX];     // the name asked for
  char own_name[DIST_NAME_MAX]; // ours
  char cookie[DIST_NAME_MAX];
  size_t cookie_size;
  uint32_t creation;  // ours
  uint32_t challenge; // ours
  uint64_t peer_flags;
  uint32_t peer_creation;
  Failure failure;
} Handshake;

#define HANDSHAKE_PACKET_MAX 2048

// A packet to send, its length's two bytes included.
typedef struct HandshakePacket {
  uint8_t bytes[DIST_NAME_MAX + 64];
  size_t size;
} HandshakePacket;

// Writes the first packet.
void handshake_begin(Handshake *h, HandshakePacket *out);

// Takes a packet's content; what is to be sent then is in `out` (size 0: nothing).
HandshakeStep handshake_take(Handshake *h, const uint8_t *bytes, size_t size, HandshakePacket *out);

// Looks at the first bytes that came. False: what is there is not a node; h->failure says what.
bool handshake_check_start(Handshake *h, const uint8_t *bytes, size_t size);

// The peer has closed the connection: sets h->failure.
void handshake_closed(Handshake *h);

// --- dist_control.c ---

typedef enum ControlKind {
  CONTROL_OTHER, // nothing that we need
  CONTROL_SEND,  // to; body: the message
  CONTROL_EXIT,  // to; body: the reason. Also of a monitor
  CONTROL_SPAWN_REPLY,
  CONTROL_UNLINK
} ControlKind;

typedef struct EtfSpan {
  const uint8_t *at; // borrowed; NULL: none
  size_t size;
} EtfSpan;

typedef struct Control {
  ControlKind kind;
  EtfToken to; // our pid
  EtfSpan to_span;
  EtfSpan from;
  EtfSpan id;     // of an unlink
  EtfSpan result; // of a spawn: a pid or an atom
  EtfSpan body;   // message or reason; NULL when the frame was cut before it
} Control;

// Reads a frame (from its byte 'p' on). `whole` is false when only its beginning is there.
// False when it is malformed.
bool control_parse(const uint8_t *bytes, size_t size, bool whole, Control *out, const char **why);

// --- dist_conn.c ---

typedef struct Call {
  struct Call *next; // in its bucket; owned
  uint32_t key;      // the number of our pid and of our reference
  int done;          // reference to a Lua function
  bool is_cancelled;
  bool is_message; // answered by a message, not by its exit
  bool has_heap_bound;
  bool is_internal; // the connection's own: asks for the group leader
  char *pid;        // owned: the remote process, encoded; NULL before it is known
  size_t pid_size;
} Call;

#define CALL_BUCKETS 256

typedef enum ConnState {
  CONN_CLOSED,
  CONN_EPMD,
  CONN_DIAL,
  CONN_HANDSHAKE,
  CONN_LEADER,
  CONN_UP
} ConnState;

// Lies in its userdata, which self_ref keeps as long as the state is not CONN_CLOSED.
typedef struct Conn {
  lua_State *L; // the main state
  ConnState state;
  int self_ref;
  int up_ref;
  int down_ref;
  Handshake handshake;
  char host[DIST_NAME_MAX];
  int port; // of the node; 0 before epmd has answered
  int epmd_port;
  uint64_t timeout_ms;
  uint32_t max_frame;
  Epmd *epmd;        // owned
  Dial *dial;        // owned
  uv_tcp_t *tcp;     // owned
  uv_timer_t *timer; // owned: deadline of a phase, then ticks
  uint64_t wrote_at_ms;

  uint8_t *inbox;      // owned: what uv reads into
  uint8_t head[4];     // the length of the frame that is coming
  size_t head_size;    // how much of it is there
  uint32_t frame_size; // what head says
  uint32_t frame_got;  // how much of the frame has come
  uint8_t *frame;      // owned: it, or its beginning if it is too big
  bool has_started;    // bytes of the handshake have come

  const char *leader_name; // static: the process that is asked for
  ei_x_buff leader;        // its pid; buff is NULL before it is known
  uint32_t ref_tail;
  uint32_t next_key;
  uint32_t in_flight;
  Call *calls[CALL_BUCKETS]; // owned
  double sent_bytes;
  double received_bytes;
} Conn;

// Begins to connect. A failure comes later, through down_ref.
void conn_start(Conn *conn);

// Ends a connection because of us: silent, immediate; may be called twice.
void conn_close(Conn *conn);

// Ends it because of the world: reports to on_down and to all calls.
void conn_end(Conn *conn, const Failure *failure);

// The answer to the connection's own call, whereis(conn->leader_name), or why there is none.
void conn_leader_known(Conn *conn, EtfSpan pid, const Failure *failure);

// --- dist_wire.c ---

// Sends bytes, an allocation of malloc() that it takes over; NULL (no memory) is dropped.
void conn_write(Conn *conn, char *bytes, size_t size);
void conn_tick(Conn *conn);

// Begin a frame that a control message is to follow; send it, taking the buffer over.
void frame_begin(ei_x_buff *frame);
void conn_send(Conn *conn, ei_x_buff *frame);

// Takes bytes of frames as they come, in any pieces.
void conn_take_frames(Conn *conn, const uint8_t *bytes, size_t size);

// --- dist_calls.c ---

// A node that takes no more than this is busy: further calls fail at once.
#define CALLS_QUEUE_MAX (8 * 1024 * 1024)

typedef struct CallSpec {
  const char *module;
  const char *function;
  double max_heap_words; // 0: no bound
  bool is_low_priority;
  bool is_message;
  bool is_internal;
} CallSpec;

// Sends a call whose arguments are the list at `args_index`. On success returns its id, having
// taken over the reference `done`. 0: nothing was sent, and error->text says why.
uint32_t calls_start(Conn *conn, lua_State *L, const CallSpec *spec, int args_index, int done,
                     TermError *error);

// No answer is wanted any more: the process is killed, its end awaited.
void calls_cancel(Conn *conn, uint32_t id);

// Forgets all calls; with a failure, tells them.
void calls_drop(Conn *conn, const Failure *failure);

// Takes a call out of the table and frees it; its `done` is the caller's.
void calls_remove(Conn *conn, Call *call);

// The call that a pid of ours belongs to, or NULL.
Call *calls_of_pid(Conn *conn, const EtfToken *pid);

// The reference by which erpc marks the call's result.
void calls_reference(const Conn *conn, const Call *call, erlang_ref *ref);

// Sends EXIT2 with the reason `kill` to the call's process, which must be known.
void calls_kill(Conn *conn, const Call *call);

// --- dist_answers.c ---

// A frame came. `whole` is false when it was too big and only its beginning is there.
void calls_take_frame(Conn *conn, const uint8_t *bytes, size_t size, bool whole);

#endif
