// http_route.h: where a request goes: through which proxy, and whose address that takes.

#ifndef BEAMLENS_HTTP_ROUTE_H
#define BEAMLENS_HTTP_ROUTE_H

#include <stdbool.h>

#include <netdb.h>

#include "curl_api.h"

typedef struct HttpRoute {
  char *proxy;    // owned; NULL: none
  char host[256]; // of the proxy or the server; "" when its address stands in the URL
  long port;
} HttpRoute;

// Finds the route of a URL. The proxy is the environment's: http_proxy, https_proxy, HTTPS_PROXY,
// all_proxy or ALL_PROXY, unless no_proxy or NO_PROXY names the host or it is one that no proxy can
// reach for us. A URL that curl cannot read has no host: curl says why. False: no memory.
bool http_route_find(const CurlApi *curl, const char *url, HttpRoute *route);

// What curl has to be told of the host's addresses, for CURLOPT_RESOLVE: the one of each family at
// this index. False when there is none.
bool http_route_entry(const HttpRoute *route, const struct addrinfo *found, int index, char *text,
                      size_t size);

// Whether a list of hosts, domains, addresses and networks, as no_proxy has them, covers a host.
bool http_route_is_listed(const char *list, const char *host);

void http_route_free(HttpRoute *route);

#endif
