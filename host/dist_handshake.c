// dist_handshake.c: what two nodes say before they trust each other, version 6 of the protocol
// (OTP 23 and later). Bytes in, bytes out: no socket, no Lua.

#include "dist.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

// What a node may say of itself. PUBLISHED is left out: we are hidden. DIST_HDR_ATOM_CACHE and
// FRAGMENTS are left out, so that each message is whole and plain.
#define DFLAG_EXTENDED_REFERENCES 0x4ULL
#define DFLAG_DIST_MONITOR 0x8ULL
#define DFLAG_FUN_TAGS 0x10ULL
#define DFLAG_DIST_MONITOR_NAME 0x20ULL
#define DFLAG_NEW_FUN_TAGS 0x80ULL
#define DFLAG_EXTENDED_PIDS_PORTS 0x100ULL
#define DFLAG_EXPORT_PTR_TAG 0x200ULL
#define DFLAG_BIT_BINARIES 0x400ULL
#define DFLAG_NEW_FLOATS 0x800ULL
#define DFLAG_UNICODE_IO 0x1000ULL
#define DFLAG_SMALL_ATOM_TAGS 0x4000ULL
#define DFLAG_UTF8_ATOMS 0x10000ULL
#define DFLAG_MAP_TAG 0x20000ULL
#define DFLAG_BIG_CREATION 0x40000ULL
#define DFLAG_SEND_SENDER 0x80000ULL
#define DFLAG_BIG_SEQTRACE_LABELS 0x100000ULL
#define DFLAG_HANDSHAKE_23 0x1000000ULL
#define DFLAG_UNLINK_ID 0x2000000ULL
#define DFLAG_MANDATORY_25_DIGEST 0x4000000ULL
#define DFLAG_SPAWN (1ULL << 32)
#define DFLAG_V4_NC (1ULL << 34)

// OTP 25 demands the first two lines, OTP 26 the third, OTP 27 the fourth.
#define OUR_FLAGS                                                                                \
  (DFLAG_EXTENDED_REFERENCES | DFLAG_FUN_TAGS | DFLAG_NEW_FUN_TAGS | DFLAG_EXTENDED_PIDS_PORTS | \
   DFLAG_EXPORT_PTR_TAG | DFLAG_BIT_BINARIES | DFLAG_NEW_FLOATS | DFLAG_UTF8_ATOMS |             \
   DFLAG_MAP_TAG | DFLAG_BIG_CREATION | DFLAG_HANDSHAKE_23 | DFLAG_V4_NC | DFLAG_UNLINK_ID |     \
   DFLAG_MANDATORY_25_DIGEST | DFLAG_DIST_MONITOR | DFLAG_DIST_MONITOR_NAME | DFLAG_UNICODE_IO | \
   DFLAG_SMALL_ATOM_TAGS | DFLAG_SEND_SENDER | DFLAG_BIG_SEQTRACE_LABELS | DFLAG_EXIT_PAYLOAD |  \
   DFLAG_SPAWN)

// Without these we could not talk; every node since OTP 23 has them.
#define NEEDED_FLAGS \
  (DFLAG_BIG_CREATION | DFLAG_HANDSHAKE_23 | DFLAG_SPAWN | DFLAG_UTF8_ATOMS | DFLAG_NEW_FLOATS)

enum { AT_STATUS, AT_CHALLENGE, AT_ACK, AT_END };

void failure_set(Failure *f, const char *code, const char *fmt, ...)
{
  va_list args;
  va_start(args, fmt);
  vsnprintf(f->text, sizeof(f->text), fmt, args);
  va_end(args);
  f->code = code;
}

void failure_quote(char *out, size_t capacity, const void *text, size_t size)
{
  const unsigned char *bytes = text;
  size_t kept = size < capacity - 1 ? size : capacity - 1;
  for (size_t i = 0; i < kept; i++) {
    out[i] = bytes[i] > 0x20 && bytes[i] < 0x7F ? (char)bytes[i] : '?';
  }
  out[kept] = '\0';
}

__attribute__((format(printf, 3, 4))) static HandshakeStep fail(Handshake *h, const char *code,
                                                                const char *fmt, ...)
{
  va_list args;
  va_start(args, fmt);
  vsnprintf(h->failure.text, sizeof(h->failure.text), fmt, args);
  va_end(args);
  h->failure.code = code;
  h->state = AT_END;
  return HANDSHAKE_FAILED;
}

static void put(HandshakePacket *out, const void *bytes, size_t size)
{
  memcpy(out->bytes + out->size, bytes, size);
  out->size += size;
}

static void put_number(HandshakePacket *out, size_t size, uint64_t value)
{
  for (size_t i = size; i > 0; i--) {
    out->bytes[out->size++] = (uint8_t)(value >> (i - 1) * 8);
  }
}

static uint64_t get_number(const uint8_t *bytes, size_t size)
{
  uint64_t value = 0;
  for (size_t i = 0; i < size; i++) {
    value = value << 8 | bytes[i];
  }
  return value;
}

// Puts the packet's length before it.
static void close_packet(HandshakePacket *out)
{
  out->bytes[0] = (uint8_t)((out->size - 2) >> 8);
  out->bytes[1] = (uint8_t)(out->size - 2);
}

// MD5 of the cookie and the challenge in decimal, as the protocol has it. False without MD5 (FIPS).
static bool make_digest(const Handshake *h, uint32_t challenge, uint8_t digest[16])
{
  char text[DIST_NAME_MAX + 16];
  memcpy(text, h->cookie, h->cookie_size);
  int digits = snprintf(text + h->cookie_size, 16, "%u", challenge);
  size_t size = h->cookie_size + (size_t)digits;
  bool ok = EVP_Digest(text, size, digest, NULL, EVP_md5(), NULL) == 1;
  OPENSSL_cleanse(text, sizeof(text));
  return ok;
}

void handshake_begin(Handshake *h, HandshakePacket *out)
{
  size_t name_size = strlen(h->own_name);
  h->state = AT_STATUS;
  out->size = 2;
  put(out, "N", 1);
  put_number(out, 8, OUR_FLAGS);
  put_number(out, 4, h->creation);
  put_number(out, 2, name_size);
  put(out, h->own_name, name_size);
  close_packet(out);
}

static bool is_text(const uint8_t *bytes, size_t size, const char *text)
{
  return size == strlen(text) && memcmp(bytes, text, size) == 0;
}

static HandshakeStep take_status(Handshake *h, const uint8_t *bytes, size_t size)
{
  if (size < 1 || bytes[0] != 's') {
    return fail(h, "EPROTO", "what listens for %s does not speak Erlang's distribution protocol",
                h->node);
  }
  bytes++;
  size--;
  if (is_text(bytes, size, "ok") || is_text(bytes, size, "ok_simultaneous")) {
    h->state = AT_CHALLENGE;
    return HANDSHAKE_MORE;
  }
  if (is_text(bytes, size, "alive")) {
    // Answering "true" would throw out the connection that has this name.
    return fail(h, "EALIVE",
                "%s already has a connection from a node named %s: another beamlens, perhaps; "
                "choose another name with --name NAME@HOST",
                h->node, h->own_name);
  }
  if (is_text(bytes, size, "not_allowed")) {
    return fail(h, "EREFUSED",
                "%s allows only certain nodes to connect (net_kernel:allow/1); on it, run: "
                "net_kernel:allow(['%s']).",
                h->node, h->own_name);
  }
  if (is_text(bytes, size, "nok")) {
    return fail(h, "EREFUSED", "%s is itself connecting to a node named %s; choose another --name",
                h->node, h->own_name);
  }
  char status[40];
  failure_quote(status, sizeof(status), bytes, size);
  return fail(h, "EPROTO", "%s answered with an unknown status: %s", h->node, status);
}

static HandshakeStep take_challenge(Handshake *h, const uint8_t *bytes, size_t size,
                                    HandshakePacket *out)
{
  enum { FIXED = 1 + 8 + 4 + 4 + 2 };
  size_t name_size = size >= FIXED ? (size_t)get_number(bytes + 17, 2) : 0;
  if (size < FIXED || bytes[0] != 'N' || name_size > size - FIXED) {
    return fail(h, size > 0 && bytes[0] == 'n' ? "EOLD" : "EPROTO",
                "%s does not speak version 6 of the distribution protocol (OTP 23 and later do)",
                h->node);
  }
  h->peer_flags = get_number(bytes + 1, 8);
  h->peer_creation = (uint32_t)get_number(bytes + 13, 4);
  if (name_size != strlen(h->node) || memcmp(bytes + FIXED, h->node, name_size) != 0) {
    char name[DIST_NAME_MAX];
    failure_quote(name, sizeof(name), bytes + FIXED, name_size);
    return fail(h, "ENAME", "the node there is named %s, not %s; try: --node %s", name, h->node,
                name);
  }
  if ((h->peer_flags & NEEDED_FLAGS) != NEEDED_FLAGS) {
    return fail(h, "EOLD", "%s lacks capabilities that every node since OTP 23 has", h->node);
  }
  uint8_t digest[16];
  if (!make_digest(h, (uint32_t)get_number(bytes + 9, 4), digest)) {
    return fail(h, "EPROTO",
                "no MD5 in this machine's libcrypto (FIPS mode?), which Erlang's "
                "handshake needs");
  }
  out->size = 2;
  put(out, "r", 1);
  put_number(out, 4, h->challenge);
  put(out, digest, sizeof(digest));
  close_packet(out);
  h->state = AT_ACK;
  return HANDSHAKE_MORE;
}

static HandshakeStep fail_cookie(Handshake *h)
{
  return fail(
      h, "ECOOKIE",
      "%s has another cookie than we; its cookie is usually in ~/.erlang.cookie of the user "
      "who runs it; give it with --cookie-file FILE or BEAMLENS_COOKIE",
      h->node);
}

static HandshakeStep take_ack(Handshake *h, const uint8_t *bytes, size_t size)
{
  uint8_t digest[16];
  if (size != 1 + sizeof(digest) || bytes[0] != 'a') {
    return fail(h, "EPROTO", "%s broke off the handshake with a wrong message", h->node);
  }
  bool ok = make_digest(h, h->challenge, digest);
  OPENSSL_cleanse(h->cookie, sizeof(h->cookie));
  if (!ok || CRYPTO_memcmp(digest, bytes + 1, sizeof(digest)) != 0) {
    return fail_cookie(h);
  }
  h->state = AT_END;
  return HANDSHAKE_UP;
}

HandshakeStep handshake_take(Handshake *h, const uint8_t *bytes, size_t size, HandshakePacket *out)
{
  out->size = 0;
  switch (h->state) {
  case AT_STATUS:
    return take_status(h, bytes, size);
  case AT_CHALLENGE:
    return take_challenge(h, bytes, size, out);
  case AT_ACK:
    return take_ack(h, bytes, size);
  default:
    return HANDSHAKE_FAILED;
  }
}

static void fail_tls(Handshake *h)
{
  fail(h, "ETLS",
       "%s speaks TLS (-proto_dist inet_tls), which beamlens does not; start the node with plain "
       "distribution, on loopback or a private network",
       h->node);
}

bool handshake_check_start(Handshake *h, const uint8_t *bytes, size_t size)
{
  // A TLS record: an alert (0x15) or handshake (0x16), version 3.x.
  if (size >= 2 && (bytes[0] == 0x15 || bytes[0] == 0x16) && bytes[1] == 0x03) {
    fail_tls(h);
    return false;
  }
  return true;
}

void handshake_closed(Handshake *h)
{
  switch (h->state) {
  case AT_STATUS:
    fail(h, "EPROTO",
         "%s closed the connection at our first words: it is older than OTP 23, it speaks TLS, or "
         "something else listens there",
         h->node);
    break;
  case AT_ACK:
    fail_cookie(h);
    break;
  default:
    fail(h, "EPROTO", "%s broke off the handshake", h->node);
    break;
  }
}
