// llm_bare.c: the least that a client of libcurl does: POSTs a FILE to a URL, COUNT times over one
// connection, one after another, and reads the answers.
//
//   bare URL FILE COUNT HEADER...
//
// Prints the seconds that it took.

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <curl/curl.h>

static size_t on_body(char *bytes, size_t size, size_t count, void *total)
{
  (void)bytes;
  *(size_t *)total += size * count;
  return size * count;
}

static double now_s(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static char *read_file(const char *path, long *len)
{
  FILE *file = fopen(path, "rb");
  if (!file) {
    perror(path);
    exit(1);
  }
  fseek(file, 0, SEEK_END);
  *len = ftell(file);
  rewind(file);
  char *bytes = malloc((size_t)*len + 1);
  if (!bytes || fread(bytes, 1, (size_t)*len, file) != (size_t)*len) {
    exit(1);
  }
  fclose(file);
  return bytes;
}

int main(int argc, char **argv)
{
  if (argc < 4) {
    return 2;
  }
  long len;
  char *body = read_file(argv[2], &len);
  struct curl_slist *headers = NULL;
  for (int i = 4; i < argc; i++) {
    headers = curl_slist_append(headers, argv[i]);
  }
  size_t total = 0;
  CURL *easy = curl_easy_init();
  curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
  curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
  curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, len);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &total);
  double started = now_s();
  for (long i = atol(argv[3]); i > 0; i--) {
    CURLcode code = curl_easy_perform(easy);
    if (code != CURLE_OK) {
      fprintf(stderr, "bare: %s\n", curl_easy_strerror(code));
      return 1;
    }
  }
  printf("%.6f\n", now_s() - started);
  return total > 0 ? 0 : 1;
}
