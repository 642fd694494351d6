// http_multi.h: libcurl's transfers driven by a libuv loop. Plain C, without Lua.

#ifndef BEAMLENS_HTTP_MULTI_H
#define BEAMLENS_HTTP_MULTI_H

#include <stdbool.h>

#include <uv.h>

#include "curl_api.h"

#define HTTP_MAX_SPARE 4

typedef struct HttpMulti HttpMulti;

struct HttpMulti {
  const CurlApi *curl;         // borrowed, static; NULL before the first request
  CURLM *handle;               // owned; NULL before the first request
  uv_loop_t *loop;             // borrowed
  uv_timer_t *timer;           // owned until closed; NULL while nothing is active
  int active;                  // transfers added and not removed
  bool has_news;               // a transfer got something since after_turn() was called
  struct HttpSocket *idle;     // owned; of open connections that no transfer uses
  CURL *spare[HTTP_MAX_SPARE]; // owned; easy handles for the next transfers
  int spares;
  // Called when curl has worked, outside its callbacks: transfers may be added and removed there.
  void (*after_turn)(HttpMulti *multi);
};

// Makes it ready; needs to be called before anything else. False, with a text in *err, when libcurl
// cannot be used. May be called again.
bool http_multi_open(HttpMulti *m, const char **err);

// Starts a transfer: on an open connection its request goes out at once. Not to be called from a
// callback of curl, as remove().
bool http_multi_add(HttpMulti *m, CURL *easy, const char **err);

// Ends a transfer, whether it is over or not. When the last one has ended and the loop's next turn
// finds no other, all handles on the loop close.
void http_multi_remove(HttpMulti *m, CURL *easy);

// An easy handle that an earlier transfer gave back, with its options; NULL when there is none.
CURL *http_multi_take_spare(HttpMulti *m);

// Keeps an easy handle, which must not refer to its transfer any more, or frees it.
void http_multi_give_spare(HttpMulti *m, CURL *easy);

// Tells of a socket that curl has made for a connection, and closes by the function below. Others,
// of its own, it closes by itself.
void http_multi_socket_made(HttpMulti *m, curl_socket_t fd);

// curl's callback that closes a socket, for CURLOPT_CLOSESOCKETFUNCTION with `m` as its data.
int http_multi_close_socket(void *m, curl_socket_t fd);

void http_multi_close(HttpMulti *m);

#endif
