// http_multi.c: curl says which sockets and which time it waits for, libuv waits, curl works.
//
// Requests often follow one another over one connection, each from the end of the one before. So
// what the loop holds for them (the watch of the socket, the timer) outlasts the last of them by a
// turn of the loop.

#include "http_multi.h"

#include <stdlib.h>
#include <unistd.h>

typedef struct HttpSocket {
  uv_poll_t poll;
  curl_socket_t fd;
  int events;              // what is polled for
  bool is_ours;            // we hear of it when curl closes it
  HttpMulti *multi;        // borrowed
  struct HttpSocket *next; // in the list of idle ones
} Socket;

static void on_handle_closed(uv_handle_t *handle)
{
  free(handle->data);
}

static void socket_close(Socket *s)
{
  uv_poll_stop(&s->poll);
  uv_close((uv_handle_t *)&s->poll, on_handle_closed);
}

// Takes the idle socket of this descriptor out of the list; NULL if there is none.
static Socket *take_idle(HttpMulti *m, curl_socket_t fd)
{
  for (Socket **link = &m->idle; *link; link = &(*link)->next) {
    Socket *s = *link;
    if (s->fd == fd) {
      *link = s->next;
      return s;
    }
  }
  return NULL;
}

static void add_idle(Socket *s)
{
  s->next = s->multi->idle;
  s->multi->idle = s;
}

// No transfer uses the socket any more.
static void rest(Socket *s)
{
  if (s->is_ours) {
    add_idle(s);
  } else {
    socket_close(s);
  }
}

static void close_idle(HttpMulti *m)
{
  while (m->idle) {
    Socket *s = m->idle;
    m->idle = s->next;
    socket_close(s);
  }
}

// A socket must be off the loop before its descriptor can be another's.
int http_multi_close_socket(void *m, curl_socket_t fd)
{
  Socket *s = take_idle(m, fd);
  if (s) {
    socket_close(s);
  }
  return close(fd);
}

static void turn(HttpMulti *m, curl_socket_t fd, int events)
{
  int running;
  m->curl->multi_socket_action(m->handle, fd, events, &running);
  m->has_news = false;
  m->after_turn(m);
}

// libuv stops at a socket's error and tells of nothing else. So curl is to look for itself: it
// still reads what came before a reset, as servers send one that refuse a request without reading
// it.
static void on_poll(uv_poll_t *poll, int status, int events)
{
  Socket *s = poll->data;
  if (take_idle(s->multi, s->fd)) {
    socket_close(s); // its server has closed it: curl finds out when it would use it
    return;
  }
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
  if (m->active == 0) {
    return 0;
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
  *s = (Socket){.fd = fd, .multi = m};
  if (uv_poll_init_socket(m->loop, &s->poll, fd) != 0) {
    free(s);
    return NULL;
  }
  s->poll.data = s;
  return s;
}

void http_multi_socket_made(HttpMulti *m, curl_socket_t fd)
{
  Socket *s = socket_new(m, fd);
  if (s) {
    s->is_ours = true;
    add_idle(s);
  }
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
      rest(s);
    }
    return 0;
  }
  if (!s) {
    s = take_idle(m, fd);
    s = s ? s : socket_new(m, fd);
    if (!s) {
      return -1;
    }
    m->curl->multi_assign(m->handle, fd, s);
  }
  int events = (what & CURL_POLL_IN) ? UV_READABLE : 0;
  events |= (what & CURL_POLL_OUT) ? UV_WRITABLE : 0;
  if (events == s->events) {
    return 0;
  }
  s->events = events;
  return uv_poll_start(&s->poll, events, on_poll) == 0 ? 0 : -1;
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

// The last transfer has ended, and no other has begun since.
static void on_rest(uv_timer_t *timer)
{
  HttpMulti *m = uv_handle_get_data((uv_handle_t *)timer);
  if (m->active == 0) {
    close_idle(m);
    close_timer(m);
  }
}

static void rest_if_idle(HttpMulti *m)
{
  if (m->active == 0) {
    uv_timer_start(m->timer, on_rest, 0, 0);
  }
}

// Has curl work on what is due, above all on what was just added. What that tells is for the next
// turn: whoever added something is not to be called back before he returns.
static void work(HttpMulti *m)
{
  int running;
  m->curl->multi_socket_action(m->handle, CURL_SOCKET_TIMEOUT, 0, &running);
  if (m->has_news || running < m->active) {
    uv_timer_start(m->timer, on_timer, 0, 0);
  }
}

bool http_multi_add(HttpMulti *m, CURL *easy, const char **err)
{
  if (!open_timer(m)) {
    *err = "not enough memory";
    return false;
  }
  m->active++;
  CURLMcode code = m->curl->multi_add_handle(m->handle, easy);
  if (code != CURLM_OK) {
    *err = m->curl->multi_strerror(code);
    m->active--;
    rest_if_idle(m);
    return false;
  }
  work(m);
  return true;
}

void http_multi_remove(HttpMulti *m, CURL *easy)
{
  m->active--;
  m->curl->multi_remove_handle(m->handle, easy);
  rest_if_idle(m);
}

CURL *http_multi_take_spare(HttpMulti *m)
{
  return m->spares > 0 ? m->spare[--m->spares] : NULL;
}

void http_multi_give_spare(HttpMulti *m, CURL *easy)
{
  if (m->handle && m->spares < HTTP_MAX_SPARE) {
    m->spare[m->spares++] = easy;
  } else {
    m->curl->easy_cleanup(easy);
  }
}

void http_multi_close(HttpMulti *m)
{
  if (m->handle) {
    while (m->spares > 0) {
      m->curl->easy_cleanup(m->spare[--m->spares]);
    }
    m->curl->multi_cleanup(m->handle);
    m->handle = NULL;
  }
  close_idle(m);
  close_timer(m);
}
