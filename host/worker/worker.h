// worker.h: the sandbox's worker, a program of its own.
//
// main.c is the zygote: a warm Lua state, forked once per script. child.c runs one script and
// exits. jail.c takes rights away. environment.c is what a script can see, source.c reads
// its text. report.c speaks with the host and keeps the time.

#ifndef BEAMLENS_WORKER_H
#define BEAMLENS_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "codec.h"
#include "worker/protocol.h"

// --- environment.c

typedef struct Heap {
  size_t used;
  size_t cap; // 0: none
  size_t peak;
  size_t floor; // used before the script began
  bool hit;
  bool loading; // text is being compiled
} Heap;

extern Heap heap;

// luaL_loadbufferx() of a script's text. The parser of this LuaJIT may read an instruction past the
// end of its array, or one that was never written: while it works, blocks are followed by zeros and
// new memory is zero, which is an instruction that means nothing to it.
int load_text(lua_State *L, const char *text, size_t len);

// Builds the restricted state; NULL when memory is out.
lua_State *environment_new(void);

// Adds the global function `name` ("proc.info" is a field of the global table `proc`).
void environment_add(lua_State *L, const char *name, lua_CFunction fn);

// Seeds math.random.
void environment_seed(lua_State *L, double seed);

// The line of the script that is running, or 0.
int script_line(lua_State *L);

// Raises an error with the position of the script's line.
int script_error(lua_State *L, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// --- jail.c

// Prepares the filter; returns NULL or why it cannot be had.
const char *jail_prepare(void);

// For the zygote: an own network, empty root, powerless user, as far as the system allows.
void jail_isolate(void);

// For the child, before it reads its request, and with the request's CPU limit after that.
void jail_limit(void);
void jail_limit_cpu(double cpu_ms);

// Takes away all system calls but a few. False (and errno) when the kernel refuses.
bool jail_close(void);

// --- report.c

typedef struct Limits {
  double wall_ms;
  double cpu_ms;
  size_t memory_bytes;
  size_t result_bytes;
  size_t output_bytes;
  size_t args_bytes;
  unsigned calls;
} Limits;

extern Limits limits;

// Starts the three clocks: wall and CPU report and exit, the kernel's SIGKILL comes 1 s later.
void clocks_start(lua_State *L);

// Reads a frame into a buffer of malloc(), at most `max` bytes. Ends the process at EOF.
char *read_frame(char *type, size_t *len, size_t max);

void write_frame(char type, const char *json, size_t len);

// As read_frame, while the script waits for the host.
char *wait_for_reply(size_t *len);

// Counts host calls for the stats.
extern unsigned calls_made;

// Appends printed text; what does not fit is dropped and flagged.
void output_add(const char *text, size_t len);

// Appends `,"output":…,"stats":…}`: the end of a D or E frame.
void put_output_and_stats(CodecBuf *buf);

typedef struct Failure {
  const char *kind;
  const char *message;
  size_t message_len; // 0: up to the NUL
  int line;           // 0: unknown
  const char *traceback;
  const char *hint;
} Failure;

// Sends the E frame and ends the process. Safe in a signal handler.
_Noreturn void report_failure(const Failure *failure);

// The memory limit's E frame.
_Noreturn void report_memory(void);

// --- source.c

// If the last statement of the script is an expression, says so in `hint`.
void missing_return(lua_State *L, const char *code, size_t len, char *hint, size_t size);

// A call as in `return f(x)` leaves no trace of its caller. The line of the only `return FN(`, or 0
// when there is none or more than one.
int tail_call_line(const char *code, size_t len, const char *fn);

// --- child.c

// Runs one script on the channel and exits.
_Noreturn void child_main(lua_State *L);

// --- tests/support/probe.c

#ifdef WORKER_PROBE
// Adds what the specs try the jail with. Never in a program that is installed.
void probe_add(lua_State *L);
#endif

#endif
