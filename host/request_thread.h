// request_thread.h: a thread that serves one request at a time, for a native module's userdata.
//
// The two sides share a job, which is plain memory: it is the loop's while no request is asked or
// runs, else the thread's. Whoever lets go of it last frees it, so that a thread that hangs is left
// behind and cleans up after itself if it ever comes back.

#ifndef BEAMLENS_REQUEST_THREAD_H
#define BEAMLENS_REQUEST_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include <lua.h>
#include <uv.h>

typedef struct RequestKind {
  size_t stack_bytes;
  long join_ms;             // what its end may take when nothing runs; after that it is left behind
  bool takes_signals;       // it starts programs, which would inherit what it blocks
  void (*begin)(void *job); // in the thread, first; NULL: nothing to do
  void (*serve)(void *job); // in the thread, for each request
  void (*end)(void *job);   // in the thread, last
  void (*free)(void *job);  // in either
} RequestKind;

// Part of a userdata. Closed as long as it is all zero.
typedef struct RequestThread {
  lua_State *L;                 // borrowed; the main state
  struct RequestShared *shared; // held; NULL once closed
  uv_async_t *async;            // owned; freed in its close callback
  pthread_t id;
  int on_done; // reference
} RequestThread;

// Takes the function on top of the stack, which is called from the loop after each request, and
// pops it. The next call, before anything that can raise, is request_thread_start().
void request_thread_set_on_done(lua_State *L, RequestThread *t);

// Starts the thread. The job is its own from now on; NULL is one for which there was no memory.
// Returns 0, or libuv's code: then all is freed, and `t` is closed.
int request_thread_start(RequestThread *t, const RequestKind *kind, void *job);

// Whether the job is the loop's, to put a request there.
bool request_thread_is_idle(RequestThread *t);

// Gives the job to the thread, which is idle.
void request_thread_ask(RequestThread *t);

// Takes the job back. False when no request is done.
bool request_thread_take(RequestThread *t);

// Ends the thread; never waits for a request that runs. May be called twice.
void request_thread_close(RequestThread *t);

#endif
