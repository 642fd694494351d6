// http_multi.h: libcurl's transfers driven by a libuv loop. Plain C, without Lua.

#ifndef BEAMLENS_HTTP_MULTI_H
#define BEAMLENS_HTTP_MULTI_H

#include <stdbool.h>

#include <uv.h>

#include "curl_api.h"

typedef struct HttpMulti HttpMulti;

struct HttpMulti {
  const CurlApi *curl; // borrowed, static; NULL before the first request
  CURLM *handle;       // owned; NULL before the first request
  uv_loop_t *loop;     // borrowed
  uv_timer_t *timer;   // owned until closed; NULL while nothing is active
  int active;          // transfers added and not removed
  // Called when curl has worked, outside its callbacks: transfers may be added and removed there.
  void (*after_turn)(HttpMulti *multi);
};

// Makes it ready; needs to be called before anything else. False, with a text in *err, when libcurl
// cannot be used. May be called again.
bool http_multi_open(HttpMulti *m, const char **err);

// Starts a transfer. Not to be called from a callback of curl, as remove().
bool http_multi_add(HttpMulti *m, CURL *easy, const char **err);

// Ends a transfer, whether it is over or not. With the last one all handles on the loop close.
void http_multi_remove(HttpMulti *m, CURL *easy);

void http_multi_close(HttpMulti *m);

#endif
