// http_transfer.c: libcurl's easy handle, set up for servers that may be hostile, slow or cut off.
//
// Nothing that the caller sends (headers carry keys) gets into an error text.

#include "http_transfer.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <strings.h>

#define MAX_HEAD_BYTES ((size_t)256 * 1024)
#define ENOUGH_GRACE_MS 1000

#ifndef BEAMLENS_VERSION
#define BEAMLENS_VERSION "dev"
#endif

// The loop's own time is that of the beginning of its turn. To set it in the middle would make
// timers due that then keep the turn going in which many requests start.
static uint64_t now_ms(void)
{
  return uv_hrtime() / 1000000;
}

static void fail(Transfer *t, const char *code, const char *text)
{
  t->ended = true;
  if (t->enough) {
    return; // it has all that it wanted
  }
  t->code = code;
  snprintf(t->error, sizeof(t->error), "%s", text);
}

static size_t on_head(char *line, size_t size, size_t count, void *arg)
{
  Transfer *t = arg;
  size_t len = size * count;
  t->last_at_ms = now_ms();
  t->multi->has_news = true;
  if (t->head_done) {
    return len; // trailers
  }
  if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
    byte_buffer_clear(&t->head);
    return len;
  }
  if (len <= 2) {
    t->multi->curl->easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->status);
    t->head_done = t->status >= 200;
    return len;
  }
  if (t->head.len + len > MAX_HEAD_BYTES || !byte_buffer_add(&t->head, line, len)) {
    fail(t, "ETOOBIG", "the headers of the answer are too big");
    return 0;
  }
  return len;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
  Transfer *t = arg;
  size_t len = size * count;
  t->last_at_ms = now_ms();
  t->multi->has_news = true;
  if (len > t->max_body_bytes - t->received) {
    char text[80];
    snprintf(text, sizeof(text), "the answer has more than %zu bytes", t->max_body_bytes);
    fail(t, "ETOOBIG", text);
    return 0;
  }
  t->received += len;
  if (!t->enough && !byte_buffer_add(&t->body, bytes, len)) {
    fail(t, "ENOMEM", "not enough memory");
    return 0;
  }
  return len;
}

// Children of ours must not inherit a connection to a model.
static int on_socket_made(void *arg, curl_socket_t fd, curlsocktype purpose)
{
  (void)purpose;
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  http_multi_socket_made(arg, fd);
  return CURL_SOCKOPT_OK;
}

static curl_off_t uploaded(const Transfer *t)
{
  curl_off_t bytes = 0;
  t->multi->curl->easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &bytes);
  return bytes;
}

static void on_deadline(uv_timer_t *timer);

// Sets the timer to the nearest deadline.
static void arm(Transfer *t)
{
  uint64_t now = now_ms();
  uint64_t at = t->last_at_ms + t->idle_ms;
  if (t->total_at_ms && t->total_at_ms < at) {
    at = t->total_at_ms;
  }
  if (t->ask.lookup && t->started_at_ms + t->name_ms < at) {
    at = t->started_at_ms + t->name_ms;
  }
  // Nothing tells when a piece of the body goes out: it has to be looked after.
  if (t->uploaded < t->upload_size && now + t->idle_ms / 4 + 1 < at) {
    at = now + t->idle_ms / 4 + 1;
  }
  uint64_t turn = uv_now(t->multi->loop);
  uv_timer_start(t->timer, on_deadline, at > turn ? at - turn : 0, 0);
}

// Tells curl the addresses of this attempt.
static bool set_addresses(Transfer *t, const struct addrinfo *found)
{
  const CurlApi *curl = t->multi->curl;
  char entry[512], next[512];
  if (!http_route_entry(&t->route, found, t->attempt, entry, sizeof(entry))) {
    char text[sizeof(t->error)];
    snprintf(text, sizeof(text), "the host %.200s has no address that can be used", t->route.host);
    fail(t, "EHOST", text);
    return false;
  }
  t->has_more = http_route_entry(&t->route, found, t->attempt + 1, next, sizeof(next));
  struct curl_slist *addresses = curl->slist_append(NULL, entry);
  bool ok = addresses && curl->easy_setopt(t->easy, CURLOPT_RESOLVE, addresses) == CURLE_OK;
  curl->slist_free_all(t->addresses);
  t->addresses = addresses;
  if (!ok) {
    fail(t, "ENOMEM", "not enough memory");
  }
  return ok;
}

// Gives the request to curl. The time for name, connection and TLS is one, and an address gets half
// of what is left while there are others.
static bool begin(Transfer *t, const struct addrinfo *found)
{
  const char *err = NULL;
  if (found && !set_addresses(t, found)) {
    return false;
  }
  t->waited_ms = now_ms() - t->started_at_ms;
  uint64_t left = t->connect_ms > t->waited_ms ? t->connect_ms - t->waited_ms : 1;
  left = t->has_more && left > 1 ? left / 2 : left;
  t->multi->curl->easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)left);
  t->added = http_multi_add(t->multi, t->easy, &err);
  if (!t->added) {
    fail(t, "EHTTP", err);
  }
  return t->added;
}

// Begins anew with the host's next addresses, if it was these that failed. curl has a list of them
// as well, but once one has swallowed everything it comes to the next when the time is over.
static bool try_next(Transfer *t, CURLcode result)
{
  curl_off_t tcp_us = 0;
  t->multi->curl->easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &tcp_us);
  bool unconnected =
      result == CURLE_COULDNT_CONNECT || (result == CURLE_OPERATION_TIMEDOUT && tcp_us == 0);
  const struct addrinfo *found =
      t->has_more && unconnected ? resolver_known(t->route.host, true) : NULL;
  if (!found) {
    return false;
  }
  http_multi_remove(t->multi, t->easy);
  t->added = false;
  t->attempt++;
  begin(t, found);
  return true;
}

static void on_name(NameAsk *ask, const struct addrinfo *found, int status)
{
  Transfer *t = (Transfer *)((char *)ask - offsetof(Transfer, ask));
  if (!found) {
    char text[sizeof(t->error)];
    snprintf(text, sizeof(text), "no address of the host %.160s: %s", t->route.host,
             uv_strerror(status));
    fail(t, "EHOST", text);
  }
  if (!found || !begin(t, found)) {
    t->multi->after_turn(t->multi);
  }
}

// The addresses have not come in time. Where the host had others, they may still be good.
static void on_name_late(Transfer *t)
{
  const struct addrinfo *found = resolver_known(t->route.host, true);
  if (found) {
    resolver_cancel(&t->ask);
    begin(t, found);
  } else if (t->name_ms < t->connect_ms) {
    t->name_ms = t->connect_ms;
  } else {
    char text[80];
    snprintf(text, sizeof(text), "no name server gave the host's address within %llu ms",
             (unsigned long long)t->connect_ms);
    fail(t, "ETIMEDOUT", text);
  }
}

static void on_deadline(uv_timer_t *timer)
{
  Transfer *t = uv_handle_get_data((uv_handle_t *)timer);
  uint64_t now = now_ms();
  curl_off_t sent = uploaded(t);
  if (sent > t->uploaded) {
    t->uploaded = sent;
    t->last_at_ms = now;
  }
  char text[80];
  if (t->total_at_ms && now >= t->total_at_ms) {
    snprintf(text, sizeof(text), "the request took longer than %ld ms", t->timeout_ms);
    fail(t, "ETIMEDOUT", text);
  } else if (now >= t->last_at_ms + t->idle_ms) {
    snprintf(text, sizeof(text), "the server sent nothing for %llu ms",
             (unsigned long long)t->idle_ms);
    fail(t, "ETIMEDOUT", text);
  } else if (t->ask.lookup && now >= t->started_at_ms + t->name_ms) {
    on_name_late(t);
  }
  if (t->ended) {
    t->multi->after_turn(t->multi);
  } else {
    arm(t);
  }
}

static void set_method(Transfer *t, const TransferOptions *options)
{
  const CurlApi *curl = t->multi->curl;
  const char *method = options->method ? options->method : (options->body ? "POST" : "GET");
  bool is_post = strcmp(method, "POST") == 0;
  curl->easy_setopt(t->easy, CURLOPT_HTTPGET, 1L); // whatever the handle did before
  if (options->body || is_post) {
    curl->easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)options->body_len);
    curl->easy_setopt(t->easy, CURLOPT_POSTFIELDS, options->body ? options->body : "");
  } else if (strcmp(method, "HEAD") == 0) {
    curl->easy_setopt(t->easy, CURLOPT_NOBODY, 1L);
  }
  curl->easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, method);
}

static bool has_header(const struct curl_slist *headers, const char *name)
{
  for (; headers; headers = headers->next) {
    size_t len = strlen(name);
    if (strncasecmp(headers->data, name, len) == 0 && headers->data[len] == ':') {
      return true;
    }
  }
  return false;
}

// curl's own headers that we do not want: an empty value removes them.
static bool set_headers(Transfer *t, struct curl_slist *headers)
{
  static const char *const unwanted[] = {"Expect", "Content-Type"};
  const CurlApi *curl = t->multi->curl;
  t->headers = headers;
  for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++) {
    char line[32];
    snprintf(line, sizeof(line), "%s:", unwanted[i]);
    if (!has_header(t->headers, unwanted[i])) {
      struct curl_slist *longer = curl->slist_append(t->headers, line);
      if (!longer) {
        return false;
      }
      t->headers = longer;
    }
  }
  return curl->easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers) == CURLE_OK;
}

// What is the same for all transfers.
static bool set_constants(HttpMulti *m, CURL *easy)
{
  const CurlApi *curl = m->curl;
  curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  // A name that is not looked up by us (a socks proxy's target) is by a thread of curl's, which a
  // cancel would join.
  curl->easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
  curl->easy_setopt(easy, CURLOPT_NOPROXY, ""); // the route has seen to that
  curl->easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  // One request a minute gains nothing from streams over one connection.
  curl->easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  curl->easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L); // a redirect would carry the key away
  curl->easy_setopt(easy, CURLOPT_USERAGENT, "beamlens/" BEAMLENS_VERSION);
  curl->easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head);
  curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl->easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_socket_made);
  curl->easy_setopt(easy, CURLOPT_SOCKOPTDATA, m);
  curl->easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, http_multi_close_socket);
  curl->easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, m);
  return curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
}

static void set_options(Transfer *t, const TransferOptions *options)
{
  const CurlApi *curl = t->multi->curl;
  CURL *easy = t->easy;
  curl->easy_setopt(easy, CURLOPT_PRIVATE, t);
  curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, t->curl_error);
  curl->easy_setopt(easy, CURLOPT_HEADERDATA, t);
  curl->easy_setopt(easy, CURLOPT_WRITEDATA, t);
  curl->easy_setopt(easy, CURLOPT_URL, options->url);
  curl->easy_setopt(easy, CURLOPT_PROXY, t->route.proxy ? t->route.proxy : "");
  if (options->ca_file) {
    t->is_special = true; // there is no way back to the system's certificates
    curl->easy_setopt(easy, CURLOPT_CAINFO, options->ca_file);
  }
  set_method(t, options);
}

// Gives the handle back, unless it may be in an odd state.
static void release_easy(Transfer *t)
{
  const CurlApi *curl = t->multi->curl;
  CURL *easy = t->easy;
  t->easy = NULL;
  if (!t->ended || t->code || t->is_special) {
    curl->easy_cleanup(easy);
    return;
  }
  curl->easy_setopt(easy, CURLOPT_PRIVATE, NULL);
  curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
  curl->easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
  curl->easy_setopt(easy, CURLOPT_RESOLVE, NULL);
  curl->easy_setopt(easy, CURLOPT_POSTFIELDS, NULL);
  http_multi_give_spare(t->multi, easy);
}

// A handle with the options that all have. False when there is none: t->error says why.
static bool acquire_easy(Transfer *t)
{
  t->easy = http_multi_take_spare(t->multi);
  if (t->easy) {
    return true;
  }
  t->easy = t->multi->curl->easy_init();
  if (!t->easy) {
    fail(t, "ENOMEM", "not enough memory");
    return false;
  }
  if (!set_constants(t->multi, t->easy)) {
    fail(t, "EHTTP", "this libcurl is too old");
    return false;
  }
  return true;
}

// Everything but the request itself.
static bool prepare(Transfer *t, const TransferOptions *options)
{
  t->timer = malloc(sizeof(*t->timer));
  if (t->timer) {
    uv_timer_init(t->multi->loop, t->timer);
    uv_handle_set_data((uv_handle_t *)t->timer, t);
  }
  if (!t->timer || !http_route_find(t->multi->curl, options->url, &t->route)) {
    fail(t, "ENOMEM", "not enough memory");
    return false;
  }
  if (!acquire_easy(t)) {
    return false;
  }
  if (!set_headers(t, t->headers)) {
    fail(t, "ENOMEM", "not enough memory");
    return false;
  }
  set_options(t, options);
  return true;
}

// With the addresses of the host, if it has a name, or as soon as they are known.
static bool start(Transfer *t)
{
  const char *host = t->route.host;
  const struct addrinfo *found = *host ? resolver_known(host, false) : NULL;
  if (!*host || found) {
    return begin(t, found);
  }
  t->ask.done = on_name;
  if (!resolver_ask(t->multi->loop, &t->ask, host)) {
    fail(t, "ENOMEM", "not enough memory");
    return false;
  }
  return true;
}

bool transfer_start(Transfer *t, HttpMulti *m, const TransferOptions *options)
{
  *t = (Transfer){.multi = m, .headers = options->headers};
  t->max_body_bytes = options->max_body_bytes;
  t->idle_ms = (uint64_t)options->idle_timeout_ms;
  t->upload_size = options->body ? (curl_off_t)options->body_len : 0;
  t->connect_ms = (uint64_t)options->connect_timeout_ms;
  t->name_ms = t->connect_ms / 2;
  t->started_at_ms = t->last_at_ms = now_ms();
  t->timeout_ms = options->timeout_ms;
  t->total_at_ms = options->timeout_ms ? t->last_at_ms + (uint64_t)options->timeout_ms : 0;
  if (prepare(t, options) && start(t)) {
    arm(t);
    return true;
  }
  transfer_close(t);
  return false;
}

// A handshake that the network cut is no fault of the certificates: it may be tried again.
static const char *tls_code(const Transfer *t)
{
  return strstr(t->curl_error, "SYSCALL") || strstr(t->curl_error, "reset") ? "ECONNECT" : "ETLS";
}

// Whether a proxy would not connect us: the server has seen nothing.
static bool is_refused_by_proxy(const Transfer *t)
{
  long status = 0;
  t->multi->curl->easy_getinfo(t->easy, CURLINFO_HTTP_CONNECTCODE, &status);
  return status >= 300;
}

static const char *code_of(const Transfer *t, CURLcode result)
{
  switch (result) {
  case CURLE_COULDNT_RESOLVE_HOST:
  case CURLE_COULDNT_RESOLVE_PROXY:
    return "EHOST";
  case CURLE_COULDNT_CONNECT:
  case CURLE_PROXY:
  case CURLE_INTERFACE_FAILED:
    return "ECONNECT";
  case CURLE_OPERATION_TIMEDOUT:
    return "ETIMEDOUT";
  case CURLE_SSL_CONNECT_ERROR:
    return tls_code(t);
  case CURLE_SSL_ENGINE_NOTFOUND:
  case CURLE_SSL_ENGINE_SETFAILED:
  case CURLE_SSL_ENGINE_INITFAILED:
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_CIPHER:
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_USE_SSL_FAILED:
  case CURLE_SSL_SHUTDOWN_FAILED:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_CRL_BADFILE:
  case CURLE_SSL_ISSUER_ERROR:
  case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
  case CURLE_SSL_INVALIDCERTSTATUS:
  case CURLE_SSL_CLIENTCERT:
    return "ETLS";
  case CURLE_GOT_NOTHING:
  case CURLE_RECV_ERROR:
    return is_refused_by_proxy(t) ? "ECONNECT" : "ECUT";
  case CURLE_PARTIAL_FILE:
  case CURLE_SEND_ERROR:
  case CURLE_HTTP2:
  case CURLE_HTTP2_STREAM:
    return "ECUT";
  case CURLE_OUT_OF_MEMORY:
    return "ENOMEM";
  default:
    return "EHTTP";
  }
}

void transfer_end(Transfer *t, CURLcode result)
{
  if (t->ended) {
    return; // one of our callbacks has said why
  }
  if (result != CURLE_OK && try_next(t, result)) {
    return;
  }
  t->ended = true;
  if (result != CURLE_OK) {
    const char *text = t->curl_error[0] ? t->curl_error : t->multi->curl->easy_strerror(result);
    fail(t, code_of(t, result), text);
  }
}

void transfer_enough(Transfer *t)
{
  if (!t->enough && !t->ended) {
    t->enough = true;
    t->total_at_ms = now_ms() + ENOUGH_GRACE_MS;
    arm(t);
  }
}

void transfer_times(const Transfer *t, double *connect_ms, double *total_ms)
{
  const CurlApi *curl = t->multi->curl;
  curl_off_t tcp_us = 0, tls_us = 0, total_us = 0;
  curl->easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &tcp_us);
  curl->easy_getinfo(t->easy, CURLINFO_APPCONNECT_TIME_T, &tls_us);
  curl->easy_getinfo(t->easy, CURLINFO_TOTAL_TIME_T, &total_us);
  double waited_ms = (double)t->waited_ms;
  *connect_ms = tcp_us > 0 ? waited_ms + (double)(tls_us > 0 ? tls_us : tcp_us) / 1e3 : 0;
  *total_ms = waited_ms + (double)total_us / 1e3;
}

static void on_timer_closed(uv_handle_t *handle)
{
  free(handle);
}

void transfer_close(Transfer *t)
{
  resolver_cancel(&t->ask);
  if (t->added) {
    http_multi_remove(t->multi, t->easy);
    t->added = false;
  }
  if (t->easy) {
    release_easy(t);
  }
  if (t->timer) {
    uv_close((uv_handle_t *)t->timer, on_timer_closed);
    t->timer = NULL;
  }
  t->multi->curl->slist_free_all(t->headers);
  t->multi->curl->slist_free_all(t->addresses);
  t->headers = t->addresses = NULL;
  http_route_free(&t->route);
}

void transfer_free_buffers(Transfer *t)
{
  byte_buffer_free(&t->head);
  byte_buffer_free(&t->body);
}
