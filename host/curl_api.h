// curl_api.h: libcurl, loaded when the first request is made.
//
// Linked, it and its 30 libraries would cost every host 4.3 MB of resident memory and 3 ms at the
// start, also the host that never calls a model.

#ifndef BEAMLENS_CURL_API_H
#define BEAMLENS_CURL_API_H

#include <curl/curl.h>

#define CURL_API_FUNCTIONS(X) \
  X(global_init)              \
  X(version)                  \
  X(free)                     \
  X(url)                      \
  X(url_set)                  \
  X(url_get)                  \
  X(url_cleanup)              \
  X(slist_append)             \
  X(slist_free_all)           \
  X(easy_init)                \
  X(easy_setopt)              \
  X(easy_getinfo)             \
  X(easy_strerror)            \
  X(easy_cleanup)             \
  X(multi_init)               \
  X(multi_setopt)             \
  X(multi_assign)             \
  X(multi_add_handle)         \
  X(multi_remove_handle)      \
  X(multi_socket_action)      \
  X(multi_info_read)          \
  X(multi_strerror)           \
  X(multi_cleanup)

typedef struct CurlApi {
#define CURL_API_FIELD(name) __typeof__(curl_##name) *name;
  CURL_API_FUNCTIONS(CURL_API_FIELD)
#undef CURL_API_FIELD
} CurlApi;

// The functions of libcurl, ready for use, or NULL with a text in *err. What is loaded stays until
// the process ends.
const CurlApi *curl_api(const char **err);

#endif
