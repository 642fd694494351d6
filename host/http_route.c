// http_route.c: reads URLs as curl does, and the environment as curl would.

#include "http_route.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// This machine, and the cloud's servers beside it.
static const char OWN_LIST[] = "localhost,127.0.0.0/8,::1,169.254.0.0/16,metadata.google.internal";

// --- no_proxy --------------------------------------------------------------------------------

typedef struct Address {
  unsigned char bytes[16];
  int bits; // 32 or 128; 0: not an address
} Address;

static Address read_address(const char *text)
{
  Address a = {.bits = 0};
  if (inet_pton(AF_INET, text, a.bytes) == 1) {
    a.bits = 32;
  } else if (inet_pton(AF_INET6, text, a.bytes) == 1) {
    a.bits = 128;
  }
  return a;
}

static bool same_bits(const unsigned char *a, const unsigned char *b, int bits)
{
  int rest = bits % 8;
  size_t whole = (size_t)bits / 8;
  return memcmp(a, b, whole) == 0 && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

// `entry` is an address, or a network as 10.0.0.0/8; it is changed.
static bool covers_address(char *entry, const Address *host)
{
  char *slash = strchr(entry, '/');
  if (slash) {
    *slash = '\0';
  }
  Address own = read_address(entry);
  int bits = slash ? atoi(slash + 1) : own.bits;
  return own.bits == host->bits && bits > 0 && bits <= own.bits &&
         same_bits(own.bytes, host->bytes, bits);
}

static size_t length_without_dot(const char *name)
{
  size_t len = strlen(name);
  return len > 0 && name[len - 1] == '.' ? len - 1 : len;
}

// `entry` is a host, or a domain with or without a dot before it.
static bool covers_name(const char *entry, const char *host)
{
  entry += *entry == '.';
  size_t len = length_without_dot(entry), host_len = length_without_dot(host);
  if (len == 0 || len > host_len || strncasecmp(entry, host + host_len - len, len) != 0) {
    return false;
  }
  return len == host_len || host[host_len - len - 1] == '.';
}

bool http_route_is_listed(const char *list, const char *host)
{
  Address address = read_address(host);
  const char *at = list + strspn(list, ", ");
  while (*at) {
    char entry[256];
    size_t len = strcspn(at, ", ");
    if (len < sizeof(entry)) {
      memcpy(entry, at, len);
      entry[len] = '\0';
      if (strcmp(entry, "*") == 0 ||
          (address.bits ? covers_address(entry, &address) : covers_name(entry, host))) {
        return true;
      }
    }
    at += len;
    at += strspn(at, ", ");
  }
  return false;
}

// --- The environment --------------------------------------------------------------------------

static const char *either(const char *name, const char *other)
{
  const char *value = getenv(name);
  return value ? value : getenv(other);
}

// HTTP_PROXY is not asked: where we run below a web server, a header would set it.
static const char *proxy_for(const char *scheme, const char *host)
{
  const char *own = either("no_proxy", "NO_PROXY");
  if (http_route_is_listed(OWN_LIST, host) || (own && http_route_is_listed(own, host))) {
    return NULL;
  }
  const char *proxy =
      strcmp(scheme, "https") == 0 ? either("https_proxy", "HTTPS_PROXY") : getenv("http_proxy");
  proxy = proxy ? proxy : either("all_proxy", "ALL_PROXY");
  return proxy && *proxy ? proxy : NULL;
}

// --- URLs ------------------------------------------------------------------------------------

// Copies a part of a URL. False when there is none, or it is too long.
static bool copy_part(const CurlApi *curl, CURLU *url, CURLUPart part, unsigned flags, char *out,
                      size_t size)
{
  char *text = NULL;
  if (curl->url_get(url, part, &text, flags) != CURLUE_OK) {
    return false;
  }
  bool fits = strlen(text) < size;
  if (fits) {
    snprintf(out, size, "%s", text);
  }
  curl->free(text);
  return fits;
}

// The host of the URL without the brackets of an address.
static bool copy_host(const CurlApi *curl, CURLU *url, char *host, size_t size)
{
  if (!copy_part(curl, url, CURLUPART_HOST, CURLU_PUNYCODE, host, size)) {
    return false;
  }
  size_t len = strlen(host);
  if (host[0] == '[' && len > 2) {
    memmove(host, host + 1, len - 2);
    host[len - 2] = '\0';
    host[strcspn(host, "%")] = '\0'; // a zone
  }
  return true;
}

// curl knows the addresses of localhost by itself.
static bool needs_lookup(const char *host)
{
  return read_address(host).bits == 0 && !covers_name("localhost", host);
}

static void take_host(HttpRoute *route, const char *host, const char *port)
{
  route->port = atol(port);
  if (needs_lookup(host)) {
    snprintf(route->host, sizeof(route->host), "%s", host);
  }
}

// The proxy's own host and port. Its default port is curl's.
static void take_proxy(const CurlApi *curl, CURLU *url, HttpRoute *route)
{
  char host[256], scheme[16], port[16];
  unsigned flags = CURLU_GUESS_SCHEME | CURLU_NON_SUPPORT_SCHEME;
  if (curl->url_set(url, CURLUPART_URL, route->proxy, flags) != CURLUE_OK ||
      !copy_host(curl, url, host, sizeof(host)) ||
      !copy_part(curl, url, CURLUPART_SCHEME, 0, scheme, sizeof(scheme))) {
    return;
  }
  if (!copy_part(curl, url, CURLUPART_PORT, 0, port, sizeof(port))) {
    snprintf(port, sizeof(port), "%s", strcmp(scheme, "https") == 0 ? "443" : "1080");
  }
  take_host(route, host, port);
}

bool http_route_find(const CurlApi *curl, const char *url, HttpRoute *route)
{
  *route = (HttpRoute){.port = 0};
  CURLU *parts = curl->url();
  if (!parts) {
    return false;
  }
  bool ok = true;
  char host[256], scheme[16], port[16];
  if (curl->url_set(parts, CURLUPART_URL, url, CURLU_GUESS_SCHEME) == CURLUE_OK &&
      copy_host(curl, parts, host, sizeof(host)) &&
      copy_part(curl, parts, CURLUPART_SCHEME, 0, scheme, sizeof(scheme)) &&
      copy_part(curl, parts, CURLUPART_PORT, CURLU_DEFAULT_PORT, port, sizeof(port))) {
    const char *proxy = proxy_for(scheme, host);
    if (!proxy) {
      take_host(route, host, port);
    } else {
      route->proxy = strdup(proxy);
      ok = route->proxy;
    }
  }
  if (route->proxy) {
    take_proxy(curl, parts, route);
  }
  curl->url_cleanup(parts);
  return ok;
}

// Adds the address at this index among those of a family. False when there is none, or no room.
static bool add_address(const struct addrinfo *found, int family, int index, char *text,
                        size_t size)
{
  size_t len = strlen(text);
  const char *lead = len > 0 && text[len - 1] != ':' ? "," : "";
  for (const struct addrinfo *a = found; a; a = a->ai_next) {
    if (a->ai_family == family && index-- == 0) {
      char address[64];
      bool is_v6 = family == AF_INET6;
      return getnameinfo(a->ai_addr, a->ai_addrlen, address, sizeof(address), NULL, 0,
                         NI_NUMERICHOST) == 0 &&
             (size_t)snprintf(text + len, size - len, "%s%s%s%s", lead, is_v6 ? "[" : "", address,
                              is_v6 ? "]" : "") < size - len;
    }
  }
  return false;
}

bool http_route_entry(const HttpRoute *route, const struct addrinfo *found, int index, char *text,
                      size_t size)
{
  // The resolver's order says which family is to be tried first.
  int first = found->ai_family == AF_INET ? AF_INET : AF_INET6;
  // The plus has curl forget it: the next request brings its own.
  snprintf(text, size, "+%s:%ld:", route->host, route->port);
  bool any = add_address(found, first, index, text, size);
  return add_address(found, first == AF_INET ? AF_INET6 : AF_INET, index, text, size) || any;
}

void http_route_free(HttpRoute *route)
{
  free(route->proxy);
  route->proxy = NULL;
}
