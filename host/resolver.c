// resolver.c: lookups, the threads in which they run, and who waits for them.
//
// The list of lookups and who asks belong to the loop's thread. A lookup that runs is also its
// thread's, which writes what it found there under the lock; it is not freed before. All of this
// is static: a thread may come back while the process ends.

#include "resolver.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "quiet_thread.h"

#define STACK_BYTES ((size_t)1024 * 1024)
#define MAX_KEPT 64 // beyond that, answers that are not good any more are forgotten

typedef enum LookupState { LOOKUP_WAITING, LOOKUP_RUNNING, LOOKUP_DONE } LookupState;

struct Lookup {
  Lookup *next;
  NameAsk *first;
  LookupState state;      // under the lock
  int status;             // libuv's code
  struct addrinfo *fresh; // owned; what the thread has just found
  uint64_t fresh_at_ms;
  struct addrinfo *found; // owned; the last answer there was
  uint64_t found_at_ms;
  char name[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Lookup *lookups;
static int running;       // under the lock
static int asking;        // how many asks wait
static uv_async_t *async; // owned until closed; set under the lock, NULL while nobody asks

static uint64_t now_ms(void)
{
  return uv_hrtime() / 1000000;
}

// --- The thread's side ------------------------------------------------------------------------

static int code_of(int status)
{
  switch (status) {
  case 0:
    return 0;
  case EAI_AGAIN:
    return UV_EAI_AGAIN;
  case EAI_FAIL:
    return UV_EAI_FAIL;
  case EAI_MEMORY:
    return UV_EAI_MEMORY;
  default:
    return UV_EAI_NONAME;
  }
}

static void *look_up(void *arg)
{
  Lookup *lookup = arg;
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
  struct addrinfo *found = NULL;
  int status = getaddrinfo(lookup->name, NULL, &hints, &found);
  pthread_mutex_lock(&lock);
  lookup->status = code_of(status);
  lookup->fresh = status == 0 ? found : NULL;
  lookup->fresh_at_ms = now_ms();
  lookup->state = LOOKUP_DONE;
  running--;
  if (async) {
    uv_async_send(async);
  }
  pthread_mutex_unlock(&lock);
  return NULL;
}

static int start_thread(Lookup *lookup)
{
  pthread_attr_t attributes;
  pthread_t id;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  int status = quiet_thread_create(&id, &attributes, look_up, lookup);
  pthread_attr_destroy(&attributes);
  return status;
}

// --- The loop's side --------------------------------------------------------------------------

static LookupState state_of(Lookup *lookup)
{
  pthread_mutex_lock(&lock);
  LookupState state = lookup->state;
  pthread_mutex_unlock(&lock);
  return state;
}

static bool take_turn(Lookup *lookup)
{
  pthread_mutex_lock(&lock);
  bool free_thread = running < RESOLVER_THREADS;
  if (free_thread) {
    running++;
    lookup->state = LOOKUP_RUNNING;
  }
  pthread_mutex_unlock(&lock);
  return free_thread;
}

// Starts those whose turn it is, in the order in which they were asked for.
static void start_waiting(void)
{
  for (Lookup *l = lookups; l; l = l->next) {
    if (l->first && state_of(l) == LOOKUP_WAITING) {
      if (!take_turn(l)) {
        return;
      }
      if (start_thread(l) != 0) {
        pthread_mutex_lock(&lock);
        l->status = UV_EAI_MEMORY;
        l->state = LOOKUP_DONE;
        running--;
        uv_async_send(async);
        pthread_mutex_unlock(&lock);
      }
    }
  }
}

static void replace_found(Lookup *lookup, struct addrinfo *found)
{
  if (lookup->found) {
    freeaddrinfo(lookup->found);
  }
  lookup->found = found;
}

// Takes over what the thread has found. An old answer is better than a failure, unless the name is
// no more.
static void take_fresh(Lookup *lookup)
{
  if (lookup->fresh) {
    replace_found(lookup, lookup->fresh);
    lookup->fresh = NULL;
    lookup->found_at_ms = lookup->fresh_at_ms;
  } else if (lookup->status == UV_EAI_NONAME) {
    replace_found(lookup, NULL);
  }
}

static void on_async_closed(uv_handle_t *handle)
{
  free(handle);
}

static void leave(NameAsk *ask)
{
  *ask->link = ask->next;
  if (ask->next) {
    ask->next->link = ask->link;
  }
  ask->lookup = NULL;
  if (--asking == 0) {
    uv_async_t *handle = async;
    pthread_mutex_lock(&lock);
    async = NULL;
    pthread_mutex_unlock(&lock);
    uv_close((uv_handle_t *)handle, on_async_closed);
  }
}

// Answers one ask that can be answered. False if there is none.
static bool answer_one(void)
{
  for (Lookup *l = lookups; l; l = l->next) {
    if (l->first && state_of(l) == LOOKUP_DONE) {
      NameAsk *ask = l->first;
      take_fresh(l);
      leave(ask);
      ask->done(ask, l->found, l->found ? 0 : l->status);
      return true;
    }
  }
  return false;
}

static void on_async(uv_async_t *handle)
{
  (void)handle;
  while (answer_one()) {
  }
  if (asking > 0) {
    start_waiting();
  }
}

static bool open_async(uv_loop_t *loop)
{
  if (async) {
    return true;
  }
  uv_async_t *handle = malloc(sizeof(*handle));
  if (!handle) {
    return false;
  }
  if (uv_async_init(loop, handle, on_async) != 0) {
    free(handle);
    return false;
  }
  pthread_mutex_lock(&lock);
  async = handle;
  pthread_mutex_unlock(&lock);
  return true;
}

static bool is_good(const Lookup *lookup)
{
  return lookup->found && now_ms() - lookup->found_at_ms < RESOLVER_GOOD_MS;
}

static Lookup *find(const char *name)
{
  for (Lookup *l = lookups; l; l = l->next) {
    if (strcmp(l->name, name) == 0) {
      return l;
    }
  }
  return NULL;
}

const struct addrinfo *resolver_known(const char *name, bool stale)
{
  Lookup *lookup = find(name);
  if (!lookup) {
    return NULL;
  }
  if (state_of(lookup) == LOOKUP_DONE) {
    take_fresh(lookup);
  }
  return stale || is_good(lookup) ? lookup->found : NULL;
}

static bool is_needed(Lookup *lookup)
{
  return lookup->first || state_of(lookup) == LOOKUP_RUNNING || is_good(lookup);
}

static void forget_old(void)
{
  int kept = 0;
  for (Lookup **link = &lookups; *link;) {
    Lookup *l = *link;
    if (++kept > MAX_KEPT && !is_needed(l)) {
      *link = l->next;
      take_fresh(l);
      replace_found(l, NULL);
      free(l);
    } else {
      link = &l->next;
    }
  }
}

static void append(Lookup *lookup)
{
  Lookup **link = &lookups;
  while (*link) {
    link = &(*link)->next;
  }
  lookup->next = NULL;
  *link = lookup;
}

static Lookup *lookup_new(const char *name)
{
  size_t size = strlen(name) + 1;
  Lookup *lookup = calloc(1, sizeof(*lookup) + size);
  if (lookup) {
    memcpy(lookup->name, name, size);
    append(lookup);
  }
  return lookup;
}

// One that is over is to be done again, after those that wait already.
static void renew(Lookup *lookup)
{
  Lookup **link = &lookups;
  while (*link != lookup) {
    link = &(*link)->next;
  }
  *link = lookup->next;
  append(lookup);
  take_fresh(lookup);
  lookup->state = LOOKUP_WAITING;
}

bool resolver_ask(uv_loop_t *loop, NameAsk *ask, const char *name)
{
  forget_old();
  Lookup *lookup = find(name);
  lookup = lookup ? lookup : lookup_new(name);
  if (!lookup || !open_async(loop)) {
    return false;
  }
  if (!lookup->first && state_of(lookup) == LOOKUP_DONE) {
    renew(lookup);
  }
  ask->lookup = lookup;
  ask->next = lookup->first;
  ask->link = &lookup->first;
  if (ask->next) {
    ask->next->link = &ask->next;
  }
  lookup->first = ask;
  asking++;
  start_waiting();
  return true;
}

void resolver_cancel(NameAsk *ask)
{
  if (ask->lookup) {
    leave(ask);
  }
}
