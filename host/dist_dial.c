// dist_dial.c: resolves a host and connects to the first of its addresses that answers.
//
// The next address is tried when one fails, or 250 ms after the one before: an address that
// swallows everything does not cost the whole deadline.

#include "dist.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "resolver.h"

#define MAX_ADDRESSES 8
#define NEXT_AFTER_MS 250

// A request outlives the Dial when it is cancelled: `dial` is NULL then.
typedef struct Attempt {
  uv_connect_t req;
  Dial *dial; // borrowed
  uv_tcp_t *tcp;
} Attempt;

struct Dial {
  uv_loop_t *loop;
  int port;
  DialDone done;
  void *data;
  NameAsk ask;       // while the host's addresses are looked up
  uv_timer_t *timer; // owned; starts the next attempt, or reports an early failure
  struct sockaddr_storage addresses[MAX_ADDRESSES];
  int count;
  int next; // the address to try next
  Attempt *attempts[MAX_ADDRESSES];
  int pending;
  int status; // of the last failure
};

static void on_close(uv_handle_t *handle)
{
  free(handle);
}

void dist_close_handle(uv_handle_t *handle)
{
  if (handle) {
    handle->data = NULL;
    uv_close(handle, on_close);
  }
}

void dial_cancel(Dial *dial)
{
  resolver_cancel(&dial->ask);
  for (int i = 0; i < dial->next; i++) {
    if (dial->attempts[i]) {
      dial->attempts[i]->dial = NULL;
      dist_close_handle((uv_handle_t *)dial->attempts[i]->tcp);
    }
  }
  dist_close_handle((uv_handle_t *)dial->timer);
  free(dial);
}

bool dial_is_resolving(const Dial *dial)
{
  return dial->ask.lookup != NULL;
}

static void finish(Dial *dial, int status, uv_tcp_t *tcp)
{
  DialDone done = dial->done;
  void *data = dial->data;
  dial_cancel(dial);
  done(data, status, tcp);
}

static void try_next(Dial *dial);

static void on_connect(uv_connect_t *req, int status)
{
  Attempt *attempt = (Attempt *)req;
  Dial *dial = attempt->dial;
  uv_tcp_t *tcp = attempt->tcp;
  if (!dial) {
    free(attempt);
    return;
  }
  for (int i = 0; i < dial->next; i++) {
    if (dial->attempts[i] == attempt) {
      dial->attempts[i] = NULL;
    }
  }
  free(attempt);
  dial->pending--;
  if (status == 0) {
    finish(dial, 0, tcp);
    return;
  }
  dist_close_handle((uv_handle_t *)tcp);
  dial->status = status;
  try_next(dial);
}

static void on_timer(uv_timer_t *timer)
{
  try_next(timer->data);
}

// Begins a connection to one address. Returns uv's code.
static int attempt_start(Dial *dial, int index)
{
  Attempt *attempt = calloc(1, sizeof(*attempt));
  uv_tcp_t *tcp = calloc(1, sizeof(*tcp));
  if (!attempt || !tcp) {
    free(attempt);
    free(tcp);
    return UV_ENOMEM;
  }
  int status = uv_tcp_init(dial->loop, tcp);
  if (status != 0) {
    free(attempt);
    free(tcp);
    return status;
  }
  attempt->dial = dial;
  attempt->tcp = tcp;
  status =
      uv_tcp_connect(&attempt->req, tcp, (struct sockaddr *)&dial->addresses[index], on_connect);
  if (status != 0) {
    free(attempt);
    dist_close_handle((uv_handle_t *)tcp);
    return status;
  }
  dial->attempts[index] = attempt;
  dial->pending++;
  return 0;
}

// Tries the next address that can be tried. Ends the dial when none is left and none is under way.
static void try_next(Dial *dial)
{
  while (dial->next < dial->count) {
    int index = dial->next++;
    dial->attempts[index] = NULL;
    int status = attempt_start(dial, index);
    if (status == 0) {
      uv_timer_start(dial->timer, on_timer, NEXT_AFTER_MS, 0);
      return;
    }
    dial->status = status;
  }
  if (dial->pending == 0) {
    finish(dial, dial->status, NULL);
  }
}

static void on_name(NameAsk *ask, const struct addrinfo *found, int status)
{
  Dial *dial = (Dial *)((char *)ask - offsetof(Dial, ask));
  dial->status = status != 0 ? status : UV_EAI_NONAME;
  for (const struct addrinfo *a = found; a && dial->count < MAX_ADDRESSES; a = a->ai_next) {
    if (a->ai_family != AF_INET && a->ai_family != AF_INET6) {
      continue;
    }
    struct sockaddr_storage *address = &dial->addresses[dial->count++];
    memcpy(address, a->ai_addr, a->ai_addrlen);
    if (a->ai_family == AF_INET) {
      ((struct sockaddr_in *)address)->sin_port = htons((uint16_t)dial->port);
    } else {
      ((struct sockaddr_in6 *)address)->sin6_port = htons((uint16_t)dial->port);
    }
  }
  try_next(dial);
}

// Numeric addresses need no lookup. Returns uv's code.
static int resolve_start(Dial *dial, const char *host)
{
  if (uv_ip4_addr(host, dial->port, (struct sockaddr_in *)&dial->addresses[0]) == 0 ||
      uv_ip6_addr(host, dial->port, (struct sockaddr_in6 *)&dial->addresses[0]) == 0) {
    dial->count = 1;
    return uv_timer_start(dial->timer, on_timer, 0, 0);
  }
  dial->ask.done = on_name;
  return resolver_ask(dial->loop, &dial->ask, host) ? 0 : UV_ENOMEM;
}

Dial *dial_start(uv_loop_t *loop, const char *host, int port, DialDone done, void *data)
{
  Dial *dial = calloc(1, sizeof(*dial));
  uv_timer_t *timer = calloc(1, sizeof(*timer));
  if (!dial || !timer) {
    free(dial);
    free(timer);
    return NULL;
  }
  uv_timer_init(loop, timer);
  timer->data = dial;
  *dial = (Dial){.loop = loop, .port = port, .done = done, .data = data, .timer = timer};
  int status = resolve_start(dial, host);
  if (status != 0) {
    dial->status = status; // reported by the timer: never from within dial_start()
    uv_timer_start(timer, on_timer, 0, 0);
  }
  return dial;
}
