// dist_epmd.c: asks an Erlang port mapper daemon where a node listens, or which nodes it knows.

#include "dist.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX (64 * 1024)

enum { PORT_PLEASE2 = 122, PORT2_RESP = 119, NAMES_REQ = 110 };

struct Epmd {
  uv_loop_t *loop;
  char host[DIST_NAME_MAX];
  int port;
  char name[DIST_NAME_MAX]; // empty: all names are asked for
  bool wants_names;         // this exchange asks for names (because the node is not known, maybe)
  EpmdDone done;
  void *data;
  Dial *dial;        // owned
  uv_tcp_t *tcp;     // owned
  uv_timer_t *timer; // owned: the deadline
  uint64_t timeout_ms;
  char *buffer; // owned, of ANSWER_MAX
  size_t size;
};

static void stop_exchange(Epmd *epmd)
{
  if (epmd->dial) {
    dial_cancel(epmd->dial);
    epmd->dial = NULL;
  }
  dist_close_handle((uv_handle_t *)epmd->tcp);
  epmd->tcp = NULL;
}

void epmd_cancel(Epmd *epmd)
{
  stop_exchange(epmd);
  dist_close_handle((uv_handle_t *)epmd->timer);
  free(epmd->buffer);
  free(epmd);
}

// Reports and frees.
static void finish(Epmd *epmd, EpmdAnswer *answer)
{
  EpmdDone done = epmd->done;
  void *data = epmd->data;
  char *buffer = epmd->buffer;
  epmd->buffer = NULL; // answer->names lies in it
  epmd_cancel(epmd);
  done(data, answer);
  free(buffer);
}

__attribute__((format(printf, 3, 4))) static void finish_failed(Epmd *epmd, const char *code,
                                                                const char *fmt, ...)
{
  EpmdAnswer answer = {0};
  char text[sizeof(answer.failure.text)];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof(text), fmt, args);
  va_end(args);
  failure_set(&answer.failure, code, "%s", text);
  finish(epmd, &answer);
}

bool epmd_next_name(const char **at, const char *end, char name[DIST_NAME_MAX], int *port)
{
  while (*at < end) {
    const char *line = *at;
    const char *newline = memchr(line, '\n', (size_t)(end - line));
    const char *line_end = newline ? newline : end;
    *at = newline ? newline + 1 : end;
    char text[DIST_NAME_MAX + 32];
    size_t size = (size_t)(line_end - line);
    if (size >= sizeof(text) || memchr(line, '\0', size)) {
      continue;
    }
    memcpy(text, line, size);
    text[size] = '\0';
    int number = 0;
    if (sscanf(text, "name %255s at port %d", name, &number) == 2 && number > 0 && number < 65536) {
      failure_quote(name, DIST_NAME_MAX, name, strlen(name));
      *port = number;
      return true;
    }
  }
  return false;
}

// The node that was asked for is not there: says which are.
static void finish_absent(Epmd *epmd, const EpmdAnswer *answer)
{
  char list[500] = "";
  size_t used = 0;
  char first[DIST_NAME_MAX] = "";
  char name[DIST_NAME_MAX];
  int port;
  const char *at = answer->names;
  const char *end = at + answer->names_size;
  while (epmd_next_name(&at, end, name, &port)) {
    if (used + strlen(name) + 8 > sizeof(list)) {
      used += (size_t)snprintf(list + used, sizeof(list) - used, ", ...");
      break;
    }
    used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", name);
    if (!first[0]) {
      memcpy(first, name, sizeof(first));
    }
  }
  if (used == 0) {
    finish_failed(epmd, "ENODE",
                  "epmd at %s:%d knows no node %s, and no other: start the node with a name "
                  "(erl -sname %s); then try again",
                  epmd->host, epmd->port, epmd->name, epmd->name);
  } else {
    finish_failed(epmd, "ENODE", "epmd at %s:%d knows no node %s; it knows: %s; try: --node %s@%s",
                  epmd->host, epmd->port, epmd->name, list, first, epmd->host);
  }
}

static void start_exchange(Epmd *epmd);

static void take_names(Epmd *epmd)
{
  if (epmd->size < 4) {
    finish_failed(epmd, "EEPMD", "what listens at %s:%d closed without an answer: is it epmd?",
                  epmd->host, epmd->port);
    return;
  }
  EpmdAnswer answer = {.names = epmd->buffer + 4, .names_size = epmd->size - 4};
  if (epmd->name[0]) {
    finish_absent(epmd, &answer);
  } else {
    finish(epmd, &answer);
  }
}

// Looks at the answer so far; `closed` when no more will come.
static void take_port(Epmd *epmd, bool closed)
{
  const uint8_t *bytes = (const uint8_t *)epmd->buffer;
  bool is_answer = epmd->size > 0 && bytes[0] == PORT2_RESP;
  if (is_answer && epmd->size >= 2 && bytes[1] != 0) {
    epmd->wants_names = true;
    stop_exchange(epmd);
    start_exchange(epmd);
  } else if (is_answer && epmd->size >= 10) {
    EpmdAnswer answer = {.port = bytes[2] << 8 | bytes[3], .version = bytes[6] << 8 | bytes[7]};
    finish(epmd, &answer);
  } else if (closed || (epmd->size > 0 && !is_answer)) {
    finish_failed(epmd, "EEPMD", "what listens at %s:%d does not answer as epmd does", epmd->host,
                  epmd->port);
  }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
  (void)suggested;
  Epmd *epmd = handle->data;
  size_t room = epmd ? ANSWER_MAX - epmd->size : 0;
  *buf = uv_buf_init(room ? epmd->buffer + epmd->size : NULL, (unsigned)room);
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
  (void)buf;
  Epmd *epmd = stream->data;
  if (!epmd || got == 0) {
    return;
  }
  if (got > 0) {
    epmd->size += (size_t)got;
  }
  if (!epmd->wants_names) {
    take_port(epmd, got < 0);
  } else if (got < 0) {
    // Its end, or more than fits (UV_ENOBUFS): then the first names are enough.
    take_names(epmd);
  }
}

static void on_write(uv_write_t *req, int status)
{
  (void)status; // a failed write shows when reading
  free(req);
}

// Sends the request; false when memory is short.
static bool send_request(Epmd *epmd)
{
  typedef struct Request {
    uv_write_t req;
    char bytes[3 + DIST_NAME_MAX];
  } Request;
  Request *request = calloc(1, sizeof(*request));
  if (!request) {
    return false;
  }
  size_t name_size = epmd->wants_names ? 0 : strlen(epmd->name);
  request->bytes[0] = (char)((1 + name_size) >> 8);
  request->bytes[1] = (char)(1 + name_size);
  request->bytes[2] = epmd->wants_names ? NAMES_REQ : PORT_PLEASE2;
  memcpy(request->bytes + 3, epmd->name, name_size);
  uv_buf_t buf = uv_buf_init(request->bytes, (unsigned)(3 + name_size));
  if (uv_write(&request->req, (uv_stream_t *)epmd->tcp, &buf, 1, on_write) != 0) {
    free(request);
    return false;
  }
  return true;
}

static void report_no_connection(Epmd *epmd, int status)
{
  if (status == UV_ECONNREFUSED) {
    finish_failed(epmd, "EEPMD",
                  "no epmd at %s:%d: is a node running there? see: epmd -port %d -names (on %s); "
                  "without epmd, give the node's own port: --node NAME@%s:PORT",
                  epmd->host, epmd->port, epmd->port, epmd->host, epmd->host);
  } else if (status == UV_EHOSTUNREACH || status == UV_ENETUNREACH) {
    finish_failed(epmd, "EHOST", "no route to host %s (%s); see: ping %s", epmd->host,
                  uv_strerror(status), epmd->host);
  } else if (status <= UV_EAI_ADDRFAMILY && status >= UV_EAI_PROTOCOL) {
    finish_failed(epmd, "EHOST",
                  "host %s cannot be resolved (%s): it is what follows @ in the node's name; "
                  "see: getent hosts %s",
                  epmd->host, uv_strerror(status), epmd->host);
  } else {
    finish_failed(epmd, "EEPMD", "cannot connect to epmd at %s:%d: %s", epmd->host, epmd->port,
                  uv_strerror(status));
  }
}

static void on_dialed(void *data, int status, uv_tcp_t *tcp)
{
  Epmd *epmd = data;
  epmd->dial = NULL;
  if (!tcp) {
    report_no_connection(epmd, status);
    return;
  }
  epmd->tcp = tcp;
  tcp->data = epmd;
  if (!send_request(epmd) || uv_read_start((uv_stream_t *)tcp, on_alloc, on_read) != 0) {
    finish_failed(epmd, "EEPMD", "cannot talk to epmd at %s:%d", epmd->host, epmd->port);
  }
}

static void on_deadline(uv_timer_t *timer)
{
  Epmd *epmd = timer->data;
  if (epmd->dial && dial_is_resolving(epmd->dial)) {
    finish_failed(epmd, "ETIMEDOUT",
                  "host %s was not resolved within %llu ms; see: getent hosts %s", epmd->host,
                  (unsigned long long)epmd->timeout_ms, epmd->host);
    return;
  }
  finish_failed(epmd, "ETIMEDOUT",
                "no answer from epmd at %s:%d within %llu ms: is the host up, and does a firewall "
                "let port %d through?",
                epmd->host, epmd->port, (unsigned long long)epmd->timeout_ms, epmd->port);
}

static void on_no_memory(uv_timer_t *timer)
{
  finish_failed(timer->data, "EEPMD", "not enough memory");
}

static void start_exchange(Epmd *epmd)
{
  epmd->size = 0;
  epmd->dial = dial_start(epmd->loop, epmd->host, epmd->port, on_dialed, epmd);
  if (!epmd->dial) {
    uv_timer_start(epmd->timer, on_no_memory, 0, 0);
  }
}

Epmd *epmd_start(uv_loop_t *loop, const char *host, int port, const char *name, uint64_t timeout_ms,
                 EpmdDone done, void *data)
{
  Epmd *epmd = calloc(1, sizeof(*epmd));
  uv_timer_t *timer = calloc(1, sizeof(*timer));
  char *buffer = malloc(ANSWER_MAX);
  if (!epmd || !timer || !buffer) {
    free(epmd);
    free(timer);
    free(buffer);
    return NULL;
  }
  *epmd = (Epmd){.loop = loop,
                 .port = port,
                 .wants_names = !name,
                 .done = done,
                 .data = data,
                 .timer = timer,
                 .timeout_ms = timeout_ms,
                 .buffer = buffer};
  snprintf(epmd->host, sizeof(epmd->host), "%s", host);
  snprintf(epmd->name, sizeof(epmd->name), "%s", name ? name : "");
  uv_timer_init(loop, timer);
  timer->data = epmd;
  uv_timer_start(timer, on_deadline, timeout_ms, 0);
  start_exchange(epmd);
  return epmd;
}
