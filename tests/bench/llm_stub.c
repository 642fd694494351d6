// llm_stub.c: a model for benchmarks, on a free port of loopback: it answers every POST at once,
// with the next of its FILEs (whole HTTP answers) in turns, or never.
//
//   stub FILE... | stub --hang
//
// Prints its port. A GET is answered with how many POSTs have come. Ends with its stdin.

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MAX_REPLIES 64
#define MAX_CONNECTIONS 65536

typedef struct Reply {
  char *bytes;
  size_t len;
} Reply;

typedef struct Connection {
  char *head; // what has come of the request's head; its body is not kept
  size_t len, cap;
  size_t body_left;
  bool in_body, is_get;
} Connection;

static Reply replies[MAX_REPLIES];
static int reply_count;
static long requests;
static Connection connections[MAX_CONNECTIONS];

static Reply read_reply(const char *path)
{
  Reply reply = {0};
  FILE *file = fopen(path, "rb");
  if (!file) {
    perror(path);
    exit(1);
  }
  fseek(file, 0, SEEK_END);
  reply.len = (size_t)ftell(file);
  rewind(file);
  reply.bytes = malloc(reply.len + 1);
  if (!reply.bytes || fread(reply.bytes, 1, reply.len, file) != reply.len) {
    exit(1);
  }
  fclose(file);
  return reply;
}

static void end_request(int fd, Connection *c)
{
  c->in_body = false;
  c->len = 0;
  if (c->is_get) {
    char count[32];
    int len = snprintf(count, sizeof(count), "%ld", requests);
    dprintf(fd, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len, count);
    return;
  }
  requests++;
  if (reply_count > 0) {
    const Reply *reply = &replies[(requests - 1) % reply_count];
    if (write(fd, reply->bytes, reply->len) != (ssize_t)reply->len) {
      fputs("stub: a short write\n", stderr);
      exit(1);
    }
  }
}

// Takes bytes of the head. Returns how many; the head ends with an empty line.
static size_t take_head(Connection *c, const char *bytes, size_t len)
{
  if (c->len + len + 1 > c->cap) {
    c->cap = c->len + len + 1;
    c->head = realloc(c->head, c->cap);
  }
  memcpy(c->head + c->len, bytes, len);
  c->head[c->len + len] = '\0';
  char *end = strstr(c->head, "\r\n\r\n");
  if (!end) {
    c->len += len;
    return len;
  }
  size_t used = (size_t)(end + 4 - c->head) - c->len;
  *end = '\0';
  char *length = strcasestr(c->head, "\r\ncontent-length:");
  c->body_left = length ? strtoul(length + strlen("\r\ncontent-length:"), NULL, 10) : 0;
  c->in_body = true;
  c->is_get = strncmp(c->head, "GET ", 4) == 0;
  return used;
}

static void take(int fd, Connection *c, const char *bytes, size_t len)
{
  while (len > 0) {
    size_t used;
    if (c->in_body) {
      used = len < c->body_left ? len : c->body_left;
      c->body_left -= used;
    } else {
      used = take_head(c, bytes, len);
    }
    if (c->in_body && c->body_left == 0) {
      end_request(fd, c);
    }
    bytes += used;
    len -= used;
  }
}

static void on_readable(int epoll, int fd)
{
  static char bytes[256 * 1024];
  if (fd == STDIN_FILENO) {
    if (read(fd, bytes, sizeof(bytes)) <= 0) {
      exit(0);
    }
    return;
  }
  ssize_t len = read(fd, bytes, sizeof(bytes));
  if (len > 0) {
    take(fd, &connections[fd], bytes, (size_t)len);
  } else {
    epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
    close(fd);
  }
}

static void watch(int epoll, int fd)
{
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void on_connection(int epoll, int listener)
{
  int fd = accept(listener, NULL, NULL);
  if (fd < 0 || fd >= MAX_CONNECTIONS) {
    fputs("stub: too many connections\n", stderr);
    exit(1);
  }
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  free(connections[fd].head);
  connections[fd] = (Connection){.len = 0};
  watch(epoll, fd);
}

static int listen_on_loopback(void)
{
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof(address);
  if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 4096) != 0) {
    perror("stub");
    exit(1);
  }
  getsockname(fd, (struct sockaddr *)&address, &size);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  return fd;
}

int main(int argc, char **argv)
{
  bool hangs = argc > 1 && strcmp(argv[1], "--hang") == 0;
  for (int i = 1; i < argc && !hangs && i <= MAX_REPLIES; i++) {
    replies[reply_count++] = read_reply(argv[i]);
  }
  int listener = listen_on_loopback();
  int epoll = epoll_create1(0);
  watch(epoll, listener);
  watch(epoll, STDIN_FILENO);
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd == listener) {
        on_connection(epoll, listener);
      } else {
        on_readable(epoll, events[i].data.fd);
      }
    }
  }
}
