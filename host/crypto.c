// crypto.c: host.crypto, what authorising a request to a cloud needs. Over OpenSSL's libcrypto.
//
//   local digest = crypto.sha256(body)
//   local signature = crypto.sigv4(secret, "20150830", "us-east-1", "bedrock", text)
//   local jwt = text .. "." .. crypto.base64url(assert(crypto.rs256(pem, text)))
//
// What is derived from a secret never becomes a Lua value, and is wiped before the return.

#include "host.h"

#include <stdbool.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/sha.h>

#include "modules.h"

#define RSA_MAX_BYTES 2048 // of a signature: keys of up to 16384 bits

typedef struct Digest {
  unsigned char bytes[SHA256_DIGEST_LENGTH];
} Digest;

// The MAC of a text. Fails only without memory.
static bool hmac(const void *key, size_t key_len, const char *text, size_t len, Digest *out)
{
  unsigned int size = 0;
  return HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text, len, out->bytes,
              &size) &&
         size == sizeof(out->bytes);
}

static void push_hex(lua_State *L, const Digest *d)
{
  char text[2 * sizeof(d->bytes)];
  for (size_t i = 0; i < sizeof(d->bytes); i++) {
    text[2 * i] = "0123456789abcdef"[d->bytes[i] >> 4];
    text[2 * i + 1] = "0123456789abcdef"[d->bytes[i] & 15];
  }
  lua_pushlstring(L, text, sizeof(text));
}

// sha256(text) -> 64 hexadecimal digits
static int l_sha256(lua_State *L)
{
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  Digest d;
  if (!EVP_Digest(text, len, d.bytes, NULL, EVP_sha256(), NULL)) {
    return luaL_error(L, "SHA-256 failed");
  }
  push_hex(L, &d);
  return 1;
}

// hmac_sha256(key, text) -> 64 hexadecimal digits
static int l_hmac_sha256(lua_State *L)
{
  size_t key_len, len;
  const char *key = luaL_checklstring(L, 1, &key_len);
  const char *text = luaL_checklstring(L, 2, &len);
  Digest d;
  if (!hmac(key, key_len, text, len, &d)) {
    return luaL_error(L, "HMAC-SHA-256 failed");
  }
  push_hex(L, &d);
  return 1;
}

// sigv4(secret, date, region, service, text) -> 64 hexadecimal digits
// The signature of AWS's version 4: a key derived from the secret for one day ("20150830"), region
// and service signs the text.
static int l_sigv4(lua_State *L)
{
  size_t secret_len;
  const char *secret = luaL_checklstring(L, 1, &secret_len);
  for (int i = 2; i <= 5; i++) {
    luaL_checktype(L, i, LUA_TSTRING);
  }
  // The first key is "AWS4" and the secret.
  char first[256] = "AWS4";
  luaL_argcheck(L, secret_len <= sizeof(first) - 4, 1, "the secret is too long");
  memcpy(first + 4, secret, secret_len);

  Digest key, next = {0};
  size_t len;
  const char *text = lua_tolstring(L, 2, &len);
  bool ok = hmac(first, secret_len + 4, text, len, &key);
  const char *const last[] = {lua_tostring(L, 3), lua_tostring(L, 4), "aws4_request"};
  for (size_t i = 0; ok && i < sizeof(last) / sizeof(*last); i++) {
    ok = hmac(key.bytes, sizeof(key.bytes), last[i], strlen(last[i]), &next);
    key = next;
  }
  text = lua_tolstring(L, 5, &len);
  ok = ok && hmac(key.bytes, sizeof(key.bytes), text, len, &next);
  OPENSSL_cleanse(first, sizeof(first));
  OPENSSL_cleanse(&key, sizeof(key));
  if (!ok) {
    return luaL_error(L, "HMAC-SHA-256 failed");
  }
  push_hex(L, &next);
  return 1;
}

// A key with a passphrase is refused: without this, OpenSSL would ask on the terminal.
static int no_passphrase(char *buffer, int size, int writing, void *arg)
{
  (void)buffer;
  (void)size;
  (void)writing;
  (void)arg;
  return -1;
}

// Returns the RSA key of a PEM text, to be freed (which wipes it), or NULL.
static EVP_PKEY *read_key(const char *pem, size_t len)
{
  BIO *bio = BIO_new_mem_buf(pem, (int)len);
  EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
  BIO_free(bio);
  if (key && (EVP_PKEY_base_id(key) != EVP_PKEY_RSA || EVP_PKEY_size(key) > RSA_MAX_BYTES)) {
    EVP_PKEY_free(key);
    key = NULL;
  }
  return key;
}

static bool sign(EVP_PKEY *key, const char *text, size_t len, unsigned char *signature,
                 size_t *size)
{
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  bool ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
            EVP_DigestSign(ctx, signature, size, (const unsigned char *)text, len) == 1;
  EVP_MD_CTX_free(ctx);
  return ok;
}

// rs256(pem, text) -> signature | nil, err, code
// RSASSA-PKCS1-v1_5 with SHA-256. EKEY: the text is no private RSA key in PEM without a passphrase.
static int l_rs256(lua_State *L)
{
  size_t pem_len, len;
  const char *pem = luaL_checklstring(L, 1, &pem_len);
  const char *text = luaL_checklstring(L, 2, &len);
  luaL_argcheck(L, pem_len <= 1024 * 1024, 1, "the key is too long");
  EVP_PKEY *key = read_key(pem, pem_len);
  if (!key) {
    ERR_clear_error();
    return host_failf(L, "EKEY", "the private key is no RSA key in PEM");
  }
  unsigned char signature[RSA_MAX_BYTES];
  size_t size = sizeof(signature);
  bool ok = sign(key, text, len, signature, &size);
  EVP_PKEY_free(key);
  ERR_clear_error();
  if (!ok) {
    return host_failf(L, "EKEY", "the private key cannot sign");
  }
  lua_pushlstring(L, (const char *)signature, size);
  return 1;
}

// base64url(bytes) -> text
// RFC 4648, section 5, without padding.
static int l_base64url(lua_State *L)
{
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  size_t len;
  const unsigned char *bytes = (const unsigned char *)luaL_checklstring(L, 1, &len);
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  for (size_t i = 0; i < len; i += 3) {
    size_t n = len - i < 3 ? len - i : 3;
    unsigned int group = (unsigned int)bytes[i] << 16;
    group |= n > 1 ? (unsigned int)bytes[i + 1] << 8 : 0;
    group |= n > 2 ? bytes[i + 2] : 0;
    for (size_t j = 0; j <= n; j++) {
      luaL_addchar(&text, digits[group >> (18 - 6 * j) & 63]);
    }
  }
  luaL_pushresult(&text);
  return 1;
}

static const luaL_Reg functions[] = {
    {"sha256", l_sha256}, {"hmac_sha256", l_hmac_sha256}, {"sigv4", l_sigv4},
    {"rs256", l_rs256},   {"base64url", l_base64url},     {NULL, NULL},
};

int luaopen_host_crypto(lua_State *L)
{
  luaL_newlib(L, functions);
  return 1;
}
