// request_thread.c: a thread that serves one request at a time; see request_thread.h.

#include "request_thread.h"

#include <stdlib.h>
#include <time.h>

#include <luv/luv.h>

#include "host.h"
#include "quiet_thread.h"

typedef enum RequestState {
  REQUEST_NONE,
  REQUEST_ASKED,
  REQUEST_RUNNING,
  REQUEST_DONE
} RequestState;

typedef struct RequestShared {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int holders;             // the loop's side and the thread
  bool closed;             // the loop's side is gone
  RequestState state;      // one request at a time
  uv_async_t *async;       // borrowed from RequestThread; NULL once closed
  const RequestKind *kind; // borrowed; static
  void *job;               // owned
} RequestShared;

static void shared_release(RequestShared *shared)
{
  pthread_mutex_lock(&shared->lock);
  int left = --shared->holders;
  pthread_mutex_unlock(&shared->lock);
  if (left > 0) {
    return;
  }
  shared->kind->free(shared->job);
  pthread_cond_destroy(&shared->changed);
  pthread_mutex_destroy(&shared->lock);
  free(shared);
}

// --- The thread's side ------------------------------------------------------------------------

// Waits for a request. False when there will be none.
static bool next_request(RequestShared *shared)
{
  pthread_mutex_lock(&shared->lock);
  while (shared->state != REQUEST_ASKED && !shared->closed) {
    pthread_cond_wait(&shared->changed, &shared->lock);
  }
  bool more = !shared->closed;
  if (more) {
    shared->state = REQUEST_RUNNING;
  }
  pthread_mutex_unlock(&shared->lock);
  return more;
}

static void *thread_main(void *arg)
{
  RequestShared *shared = arg;
  const RequestKind *kind = shared->kind;
  if (kind->begin) {
    kind->begin(shared->job);
  }
  while (next_request(shared)) {
    kind->serve(shared->job);
    pthread_mutex_lock(&shared->lock);
    shared->state = REQUEST_DONE;
    if (shared->async) {
      uv_async_send(shared->async);
    }
    pthread_mutex_unlock(&shared->lock);
  }
  kind->end(shared->job);
  shared_release(shared);
  return NULL;
}

// --- The loop's side --------------------------------------------------------------------------

static RequestState state_of(RequestThread *t)
{
  pthread_mutex_lock(&t->shared->lock);
  RequestState state = t->shared->state;
  pthread_mutex_unlock(&t->shared->lock);
  return state;
}

static void on_closed(uv_handle_t *handle)
{
  free(handle);
}

static void on_done(uv_async_t *async)
{
  RequestThread *t = async->data;
  if (state_of(t) == REQUEST_DONE) {
    host_push_ref(t->L, t->on_done);
    host_call(t->L, 0, 0);
  }
}

void request_thread_set_on_done(lua_State *L, RequestThread *t)
{
  t->L = luv_state(L);
  t->on_done = host_ref(L);
}

static RequestShared *shared_new(const RequestKind *kind, void *job, uv_async_t *async)
{
  RequestShared *shared = job && async ? calloc(1, sizeof(*shared)) : NULL;
  if (!shared) {
    if (job) {
      kind->free(job);
    }
    return NULL;
  }
  pthread_mutex_init(&shared->lock, NULL);
  pthread_cond_init(&shared->changed, NULL);
  shared->holders = 2;
  shared->async = async;
  shared->kind = kind;
  shared->job = job;
  return shared;
}

static int thread_create(RequestThread *t)
{
  const RequestKind *kind = t->shared->kind;
  int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
      kind->takes_signals ? pthread_create : quiet_thread_create;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, kind->stack_bytes);
  int err = create(&t->id, &attr, thread_main, t->shared);
  pthread_attr_destroy(&attr);
  return -err;
}

int request_thread_start(RequestThread *t, const RequestKind *kind, void *job)
{
  t->async = malloc(sizeof(*t->async));
  t->shared = shared_new(kind, job, t->async);
  int err = t->shared ? uv_async_init(luv_loop(t->L), t->async, on_done) : UV_ENOMEM;
  if (err == 0) {
    uv_unref((uv_handle_t *)t->async);
    t->async->data = t;
    err = thread_create(t);
    if (err == 0) {
      return 0;
    }
    uv_close((uv_handle_t *)t->async, on_closed);
  } else {
    free(t->async);
  }
  if (t->shared) {
    t->shared->holders = 1;
    shared_release(t->shared);
    t->shared = NULL;
  }
  host_unref(t->L, &t->on_done);
  return err;
}

bool request_thread_is_idle(RequestThread *t)
{
  return state_of(t) == REQUEST_NONE;
}

void request_thread_ask(RequestThread *t)
{
  pthread_mutex_lock(&t->shared->lock);
  t->shared->state = REQUEST_ASKED;
  pthread_cond_signal(&t->shared->changed);
  pthread_mutex_unlock(&t->shared->lock);
}

bool request_thread_take(RequestThread *t)
{
  pthread_mutex_lock(&t->shared->lock);
  bool done = t->shared->state == REQUEST_DONE;
  if (done) {
    t->shared->state = REQUEST_NONE;
  }
  pthread_mutex_unlock(&t->shared->lock);
  return done;
}

// Joins a thread that has nothing to do; one that does not end in time is left to itself.
static void thread_end(pthread_t id, long join_ms)
{
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += join_ms * 1000000L;
  until.tv_sec += until.tv_nsec / 1000000000L;
  until.tv_nsec %= 1000000000L;
  if (pthread_clockjoin_np(id, NULL, CLOCK_MONOTONIC, &until) != 0) {
    pthread_detach(id);
  }
}

void request_thread_close(RequestThread *t)
{
  RequestShared *shared = t->shared;
  if (!shared) {
    return;
  }
  t->shared = NULL;
  pthread_mutex_lock(&shared->lock);
  shared->closed = true;
  shared->async = NULL;
  bool runs = shared->state == REQUEST_RUNNING;
  pthread_cond_signal(&shared->changed);
  pthread_mutex_unlock(&shared->lock);
  if (runs) {
    pthread_detach(t->id);
  } else {
    thread_end(t->id, shared->kind->join_ms);
  }
  shared_release(shared);
  uv_close((uv_handle_t *)t->async, on_closed);
  host_unref(t->L, &t->on_done);
}
