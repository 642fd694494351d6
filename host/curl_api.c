// curl_api.c: finds libcurl and the functions that we use.

#include "curl_api.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>

static CurlApi api;
static bool loaded;

static bool find(void *lib, const char *name, void **function, const char **err)
{
  *function = dlsym(lib, name);
  if (!*function) {
    *err = dlerror();
  }
  return *function;
}

const CurlApi *curl_api(const char **err)
{
  if (loaded) {
    return &api;
  }
  void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
  if (!lib) {
    *err = dlerror();
    return NULL;
  }
#define CURL_API_FIND(name)                                 \
  if (!find(lib, "curl_" #name, (void **)&api.name, err)) { \
    return NULL;                                            \
  }
  CURL_API_FUNCTIONS(CURL_API_FIND)
#undef CURL_API_FIND
  if (api.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
    *err = "libcurl cannot be initialised";
    return NULL;
  }
  loaded = true;
  return &api;
}
