// sandbox.h: the host's side of the sandbox, between its files.
//
// sandbox.c is the Lua module; sandbox_queue.c gives runs their turn; sandbox_zygote.c starts and
// watches the worker program; sandbox_child.c speaks with one child, which runs one script.

#ifndef BEAMLENS_SANDBOX_H
#define BEAMLENS_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>
#include <uv.h>

#include "codec.h"
#include "worker/protocol.h"

typedef struct Box Box;
typedef struct Child Child;
typedef struct Run Run;
typedef struct Zygote Zygote;

#define IMAGE_UNMADE (-1)
#define IMAGE_NONE (-2)

// One `sandbox.open()`. Lives until its userdata is collected and its last handle is closed.
struct Box {
  lua_State *L; // borrowed: the main thread; NULL after lua_close() began
  uv_loop_t *loop;
  int holders; // the userdata, `kick`, each zygote, each child, each run
  bool closed;
  unsigned pool;      // idle children kept ready
  unsigned running;   // children with a run
  double memory;      // limits of what runs, together
  double max_memory;  // more of it waits
  unsigned max_forks; // of one zygote, before another takes over
  uint64_t max_age_ms;
  int image_fd;    // owned: the worker program in memory, or IMAGE_…
  Zygote *current; // borrowed from `zygotes`: takes new forks
  Zygote *zygotes; // owned list
  Child *children; // owned list, newest first
  Run *queue;      // runs that wait for a place, oldest first
  Run *failed;     // runs whose failure is still to be told, oldest first
  uv_timer_t kick; // tells them from the loop
  int self;        // reference to the userdata, while open
  uint64_t next_id;
  unsigned starts;   // of zygotes
  char problem[160]; // why the last worker could not start
};

struct Zygote {
  Box *box;
  Zygote *next;
  uv_process_t process;
  uv_poll_t control;
  uv_timer_t deadline; // for its end, once it is lost
  int fd;              // owned: control socket
  bool ready;
  bool lost;   // gave up on it: it gets no more messages
  bool exited; // the process is reaped
  int handles; // not yet closed
  unsigned forks;
  uint64_t born_ms;
  unsigned children; // that live
};

struct Child {
  Zygote *zygote; // borrowed; NULL before it knows of the child and once it is lost
  Box *box;
  Child *next;
  uint64_t id;
  int pid; // 0 until the zygote has said
  uv_pipe_t channel;
  uv_timer_t deadline;
  int handles; // not yet closed
  Run *run;    // borrowed; NULL while idle and after the outcome
  bool used;
  bool eof;
  bool exited;
  int status; // of wait(), once exited
  bool closing;
  CodecBuf frame; // the frame that is being read, with its header
};

// A Lua userdata, which it holds itself (by `self`) until its outcome.
struct Run {
  Box *box;     // held
  Child *child; // borrowed; NULL while queued and after the outcome
  Run *next;    // in the box's `queue` or `failed`
  int self;
  int callback;
  bool over;
  CodecBuf request;    // the X frame
  CodecBuf names;      // "\0name\0name\0": the functions that the script may call
  char owner[128];     // in whose turn it runs
  uint64_t started_ms; // 0: not yet
  double wall_ms;
  double cpu_ms;
  double memory_bytes;
  size_t result_bytes;
  size_t output_bytes;
  size_t args_bytes;
  size_t reply_bytes;
  unsigned max_calls;
  unsigned calls;
  bool awaiting; // the script waits for the answer to call number `calls`
  bool memory_hit;
  const char *kind; // of its failure, with `message`
  char message[256];
};

// --- sandbox.c

void box_release(Box *box);

// --- sandbox_queue.c

// Puts a run in the queue, and starts what has its turn.
void run_enqueue(Run *run);

// Gives queued runs to children while there is room, each owner in its turn.
void box_pump(Box *box);

// Has the failures told from the loop, and a closed box's last handle closed.
void box_kick(Box *box);

// Lets go of all that a run holds but its callback; the userdata stays for whoever has it.
void run_end(Run *run);

// Ends a run with an error of the sandbox. Its process dies now, its callback is called from the
// loop: Lua must not be entered from a function that a coroutine has called.
void run_fail(Run *run, const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// Ends a run with the outcome table on top of the Lua stack, which is popped. From the loop only.
void run_finish(Run *run);

// Calls the run's callback: call(id, name, args), the last being on top of the stack (popped).
// From the loop only.
void run_on_call(Run *run, const char *name);

// --- sandbox_zygote.c

// An idle child of the current zygote, started if need be. NULL: box->problem says why.
Child *zygote_take_child(Box *box);

// Starts idle children until the pool is full.
void zygote_fill_pool(Box *box);

// Tells the zygote to kill the child.
void zygote_kill_child(Child *child);

// Takes a child out of the lists; a retired zygote without children ends.
void zygote_forget_child(Child *child);

// Gives a zygote up: at the end of its control socket it kills and reaps its children, and exits.
void zygote_lose(Zygote *zygote);

// --- sandbox_child.c

// Takes over `fd`, the host's end of the child's channel. NULL when libuv refuses it.
Child *child_new(Box *box, uint64_t id, int fd);

void child_start(Child *child, Run *run);

// Sends a frame. False when the channel is gone.
bool child_send(Child *child, char type, CodecBuf *json);

// The zygote says that the process has ended.
void child_on_exit(Child *child, int status);

// Kills the process, if it lives, and lets go of it.
void child_close(Child *child);

#endif
