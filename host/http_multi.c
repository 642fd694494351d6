// http_multi.c: curl says which sockets and which time it waits for, libuv waits, curl works.

#include "http_multi.h"

#include <stdlib.h>

typedef struct Socket {
  uv_poll_t poll;
  curl_socket_t fd;
  int events;       // what curl waits for
  HttpMulti *multi; // borrowed
} Socket;

static void on_handle_closed(uv_handle_t *handle)
{
  free(handle->data);
}

static void turn(HttpMulti *m, curl_socket_t fd, int events)
{
  int running;
  m->curl->multi_socket_action(m->handle, fd, events, &running);
  m->after_turn(m);
}

// libuv stops at a socket's error and tells of nothing else. So curl is to look for itself: it
// still reads what came before a reset, as servers send one that refuse a request without reading
// it.
static void on_poll(uv_poll_t *poll, int status, int events)
{
  Socket *s = poll->data;
  int flags = status < 0 ? CURL_CSELECT_IN | CURL_CSELECT_OUT : 0;
  flags |= (events & UV_READABLE) ? CURL_CSELECT_IN : 0;
  flags |= (events & UV_WRITABLE) ? CURL_CSELECT_OUT : 0;
  turn(s->multi, s->fd, flags);
  if (status < 0 && !uv_is_closing((uv_handle_t *)poll)) {
    uv_poll_start(poll, s->events, on_poll);
  }
}

static void on_timer(uv_timer_t *timer)
{
  HttpMulti *m = uv_handle_get_data((uv_handle_t *)timer);
  turn(m, CURL_SOCKET_TIMEOUT, 0);
}

static void on_timer_closed(uv_handle_t *handle)
{
  free(handle);
}

// Curl's timer callback: it must not be entered again from here, so 0 ms is a timer too.
static int on_curl_timer(CURLM *handle, long timeout_ms, void *arg)
{
  (void)handle;
  HttpMulti *m = arg;
  if (!m->timer) {
    return 0; // nothing is active
  }
  if (timeout_ms < 0) {
    uv_timer_stop(m->timer);
  } else {
    uv_timer_start(m->timer, on_timer, (uint64_t)timeout_ms, 0);
  }
  return 0;
}

static Socket *socket_new(HttpMulti *m, curl_socket_t fd)
{
  Socket *s = malloc(sizeof(*s));
  if (!s) {
    return NULL;
  }
  s->fd = fd;
  s->multi = m;
  if (uv_poll_init_socket(m->loop, &s->poll, fd) != 0) {
    free(s);
    return NULL;
  }
  s->poll.data = s;
  m->curl->multi_assign(m->handle, fd, s);
  return s;
}

// Curl's socket callback: what it waits for on a socket has changed.
static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket)
{
  (void)easy;
  HttpMulti *m = arg;
  Socket *s = socket;
  if (what == CURL_POLL_REMOVE) {
    if (s) {
      m->curl->multi_assign(m->handle, fd, NULL);
      uv_poll_stop(&s->poll);
      uv_close((uv_handle_t *)&s->poll, on_handle_closed);
    }
    return 0;
  }
  if (!s) {
    s = socket_new(m, fd);
    if (!s) {
      return -1;
    }
  }
  s->events = (what & CURL_POLL_IN) ? UV_READABLE : 0;
  s->events |= (what & CURL_POLL_OUT) ? UV_WRITABLE : 0;
  return uv_poll_start(&s->poll, s->events, on_poll) == 0 ? 0 : -1;
}

bool http_multi_open(HttpMulti *m, const char **err)
{
  if (m->handle) {
    return true;
  }
  m->curl = curl_api(err);
  if (!m->curl) {
    return false;
  }
  m->handle = m->curl->multi_init();
  if (!m->handle) {
    *err = "not enough memory";
    return false;
  }
  m->curl->multi_setopt(m->handle, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
  m->curl->multi_setopt(m->handle, CURLMOPT_SOCKETDATA, m);
  m->curl->multi_setopt(m->handle, CURLMOPT_TIMERFUNCTION, on_curl_timer);
  m->curl->multi_setopt(m->handle, CURLMOPT_TIMERDATA, m);
  m->curl->multi_setopt(m->handle, CURLMOPT_MAXCONNECTS, 8L);
  return true;
}

static bool open_timer(HttpMulti *m)
{
  if (m->timer) {
    return true;
  }
  m->timer = malloc(sizeof(*m->timer));
  if (!m->timer) {
    return false;
  }
  uv_timer_init(m->loop, m->timer);
  uv_handle_set_data((uv_handle_t *)m->timer, m);
  return true;
}

static void close_timer(HttpMulti *m)
{
  if (m->timer) {
    uv_close((uv_handle_t *)m->timer, on_timer_closed);
    m->timer = NULL;
  }
}

bool http_multi_add(HttpMulti *m, CURL *easy, const char **err)
{
  if (!open_timer(m)) {
    *err = "not enough memory";
    return false;
  }
  CURLMcode code = m->curl->multi_add_handle(m->handle, easy);
  if (code != CURLM_OK) {
    *err = m->curl->multi_strerror(code);
    if (m->active == 0) {
      close_timer(m);
    }
    return false;
  }
  m->active++;
  return true;
}

void http_multi_remove(HttpMulti *m, CURL *easy)
{
  m->curl->multi_remove_handle(m->handle, easy);
  m->active--;
  if (m->active == 0) {
    close_timer(m);
  }
}

void http_multi_close(HttpMulti *m)
{
  if (m->handle) {
    m->curl->multi_cleanup(m->handle);
    m->handle = NULL;
  }
  close_timer(m);
}
