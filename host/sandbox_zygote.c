// sandbox_zygote.c: starts the worker program, watches it, and has it fork and kill children.

#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define END_MS 500
#define MEMFD_EXEC 0x10u // MFD_EXEC, which older headers lack

extern const char worker_image[], worker_image_end[];

// --- The program ------------------------------------------------------------------------------

// The worker program in a file of memory, sealed; IMAGE_NONE when it cannot be
// run from there.
static int make_image(void)
{
  int fd = memfd_create("beamlens-worker", MFD_CLOEXEC | MFD_ALLOW_SEALING | MEMFD_EXEC);
  if (fd < 0) {
    fd = memfd_create("beamlens-worker", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  }
  if (fd < 0) {
    return IMAGE_NONE;
  }
  const char *at = worker_image;
  while (at < worker_image_end) {
    ssize_t n = write(fd, at, (size_t)(worker_image_end - at));
    if (n <= 0) {
      close(fd);
      return IMAGE_NONE;
    }
    at += n;
  }
  fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  // Out of the way of the descriptors that uv_spawn() sets up in the child.
  int high = fcntl(fd, F_DUPFD_CLOEXEC, 16);
  close(fd);
  char path[32];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", high);
  if (high >= 0 && access(path, X_OK) == 0) {
    return high;
  }
  close(high);
  return IMAGE_NONE;
}

static void on_process_close(uv_handle_t *handle);

static void on_deadline_close(uv_handle_t *handle);

static void on_process_exit(uv_process_t *process, int64_t status, int signal)
{
  (void)status;
  (void)signal;
  Zygote *zygote = process->data;
  zygote->exited = true;
  zygote_lose(zygote);
  uv_close((uv_handle_t *)&zygote->deadline, on_deadline_close);
  uv_close((uv_handle_t *)process, on_process_close);
}

static int spawn_file(Zygote *zygote, const char *file, int control)
{
  uv_stdio_container_t stdio[] = {
      {.flags = UV_IGNORE},
      {.flags = UV_IGNORE},
      {.flags = UV_IGNORE},
      {.flags = UV_INHERIT_FD, .data.fd = control},
  };
  char *args[] = {(char *)"beamlens-worker", NULL};
  char *no_environment[] = {NULL};
  uv_process_options_t options = {
      .exit_cb = on_process_exit,
      .file = file,
      .args = args,
      .env = no_environment,
      .flags = UV_PROCESS_DETACHED, // a ^C in the terminal is for us alone
      .stdio = stdio,
      .stdio_count = 4,
  };
  return uv_spawn(zygote->box->loop, &zygote->process, &options);
}

// Recursion of C functions in a script ends with an error only if the C stack is big enough, and
// its size is fixed at exec(): the limit is ours for this moment.
static int spawn(Zygote *zygote, int control)
{
  struct rlimit old;
  bool raised = getrlimit(RLIMIT_STACK, &old) == 0 && old.rlim_cur < WORKER_STACK;
  if (raised) {
    struct rlimit stack = {.rlim_cur = WORKER_STACK, .rlim_max = old.rlim_max};
    if (old.rlim_max < WORKER_STACK) {
      stack.rlim_cur = old.rlim_max;
    }
    setrlimit(RLIMIT_STACK, &stack);
  }
  char path[PATH_MAX];
  int error = 0;
  if (zygote->box->image_fd >= 0) {
    snprintf(path, sizeof(path), "/proc/self/fd/%d", zygote->box->image_fd);
  } else {
    size_t size = sizeof(path) - sizeof("-worker");
    error = uv_exepath(path, &size);
    memcpy(path + size, "-worker", sizeof("-worker"));
  }
  // Called even without a file: the handle must exist to be closed.
  error = spawn_file(zygote, error ? "" : path, control);
  if (raised) {
    setrlimit(RLIMIT_STACK, &old);
  }
  return error;
}

// --- Messages ---------------------------------------------------------------------------------

static bool send_message(Zygote *zygote, uint32_t type, uint64_t id, int fd)
{
  ControlMessage message = {.type = type, .id = id};
  struct iovec part = {.iov_base = &message, .iov_len = sizeof(message)};
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } rights;
  memset(&rights, 0, sizeof(rights));
  struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd >= 0) {
    header.msg_control = rights.bytes;
    header.msg_controllen = sizeof(rights.bytes);
    struct cmsghdr *control = CMSG_FIRSTHDR(&header);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(control), &fd, sizeof(int));
  }
  return !zygote->lost && sendmsg(zygote->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

static Child *find_child(Zygote *zygote, uint64_t id)
{
  Child *child = zygote->box->children;
  while (child && !(child->id == id && child->zygote == zygote)) {
    child = child->next;
  }
  return child;
}

static void on_message(Zygote *zygote, ControlMessage *message)
{
  Child *child = find_child(zygote, message->id);
  switch (message->type) {
  case CONTROL_READY:
    zygote->ready = true;
    zygote->box->problem[0] = '\0';
    break;
  case CONTROL_BROKEN:
    message->text[sizeof(message->text) - 1] = '\0';
    snprintf(zygote->box->problem, sizeof(zygote->box->problem), "%s", message->text);
    break;
  case CONTROL_STARTED:
    if (child && message->value > 0) {
      child->pid = message->value;
    } else if (child) {
      snprintf(zygote->box->problem, sizeof(zygote->box->problem), "cannot fork: %s",
               strerror(-message->value));
      child_on_exit(child, -1);
    }
    break;
  case CONTROL_EXITED:
    if (child) {
      child_on_exit(child, message->value);
    }
    break;
  default:
    zygote_lose(zygote);
  }
}

static void on_control(uv_poll_t *poll, int status, int events)
{
  (void)events;
  Zygote *zygote = poll->data;
  ControlMessage message;
  while (!zygote->lost) {
    ssize_t n = status < 0 ? 0 : recv(zygote->fd, &message, sizeof(message), MSG_DONTWAIT);
    if (n == sizeof(message)) {
      on_message(zygote, &message);
    } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      return;
    } else {
      zygote_lose(zygote);
    }
  }
}

// --- Life -------------------------------------------------------------------------------------

static void zygote_free(Zygote *zygote)
{
  Box *box = zygote->box;
  Zygote **link = &box->zygotes;
  while (*link != zygote) {
    link = &(*link)->next;
  }
  *link = zygote->next;
  free(zygote);
  box_release(box);
}

static void handle_closed(Zygote *zygote)
{
  if (--zygote->handles == 0) {
    zygote_free(zygote);
  }
}

static void on_process_close(uv_handle_t *handle)
{
  handle_closed(handle->data);
}

static void on_deadline_close(uv_handle_t *handle)
{
  handle_closed(handle->data);
}

static void on_deadline(uv_timer_t *timer)
{
  Zygote *zygote = timer->data;
  uv_process_kill(&zygote->process, SIGKILL);
}

static void on_control_close(uv_handle_t *handle)
{
  Zygote *zygote = handle->data;
  close(zygote->fd);
  handle_closed(zygote);
}

void zygote_lose(Zygote *zygote)
{
  if (zygote->lost) {
    return;
  }
  Box *box = zygote->box;
  zygote->lost = true;
  if (box->current == zygote) {
    box->current = NULL;
  }
  // It may have said why, or how its children ended. That it left something unread comes first.
  ControlMessage message;
  ssize_t n;
  do {
    n = recv(zygote->fd, &message, sizeof(message), MSG_DONTWAIT);
    if (n == sizeof(message)) {
      on_message(zygote, &message);
    }
  } while (n == sizeof(message) || (n < 0 && (errno == ECONNRESET || errno == EINTR)));
  uv_close((uv_handle_t *)&zygote->control, on_control_close);
  if (!zygote->exited) {
    uv_timer_start(&zygote->deadline, on_deadline, END_MS, 0);
  }
  // The children end with their parent. What they have sent before is still read.
  for (Child *next, *child = box->children; child; child = next) {
    next = child->next;
    if (child->zygote == zygote) {
      child->zygote = NULL;
      child_on_exit(child, -1);
    }
  }
}

static Zygote *zygote_new(Box *box)
{
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
    snprintf(box->problem, sizeof(box->problem), "no socket: %s", strerror(errno));
    return NULL;
  }
  Zygote *zygote = calloc(1, sizeof(*zygote));
  zygote->box = box;
  zygote->fd = fds[0];
  zygote->born_ms = uv_now(box->loop);
  zygote->process.data = zygote;
  zygote->control.data = zygote;
  zygote->next = box->zygotes;
  box->zygotes = zygote;
  box->holders++;
  zygote->deadline.data = zygote;
  zygote->handles = 3;
  int error = spawn(zygote, fds[1]);
  close(fds[1]);
  uv_poll_init(box->loop, &zygote->control, zygote->fd);
  uv_timer_init(box->loop, &zygote->deadline);
  if (error) {
    snprintf(box->problem, sizeof(box->problem), "cannot start the worker: %s", uv_strerror(error));
    zygote->exited = true;
    zygote_lose(zygote);
    uv_close((uv_handle_t *)&zygote->deadline, on_deadline_close);
    uv_close((uv_handle_t *)&zygote->process, on_process_close);
    return NULL;
  }
  uv_poll_start(&zygote->control, UV_READABLE, on_control);
  return zygote;
}

// A new zygote takes over now and then: all children of one have the same addresses in memory.
static void retire_old(Box *box)
{
  Zygote *zygote = box->current;
  if (!zygote ||
      (zygote->forks < box->max_forks && uv_now(box->loop) - zygote->born_ms < box->max_age_ms)) {
    return;
  }
  box->current = NULL;
  for (Child *next, *child = box->children; child; child = next) {
    next = child->next;
    if (child->zygote == zygote && !child->used) {
      child_close(child);
    }
  }
  if (zygote->children == 0) {
    zygote_lose(zygote);
  }
}

// The program comes from memory, or where that cannot be run from the file beside the host's.
static bool ensure_zygote(Box *box)
{
  retire_old(box);
  if (box->current) {
    return true;
  }
  if (box->image_fd == IMAGE_UNMADE) {
    box->image_fd = make_image();
  }
  box->current = zygote_new(box);
  if (!box->current && box->image_fd >= 0) {
    close(box->image_fd);
    box->image_fd = IMAGE_NONE;
    box->current = zygote_new(box);
  }
  box->starts++;
  return box->current != NULL;
}

static Child *fork_child(Box *box)
{
  int fds[2];
  if (!ensure_zygote(box)) {
    return NULL;
  }
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    snprintf(box->problem, sizeof(box->problem), "no socket: %s", strerror(errno));
    return NULL;
  }
  Zygote *zygote = box->current;
  Child *child = child_new(box, ++box->next_id, fds[0]);
  bool told = child && send_message(zygote, CONTROL_FORK, child->id, fds[1]);
  close(fds[1]);
  if (told) {
    zygote->forks++;
    zygote->children++;
    child->zygote = zygote;
    return child;
  }
  int error = errno;
  if (child) {
    child_close(child);
    zygote_lose(zygote);
  }
  if (!*box->problem) {
    snprintf(box->problem, sizeof(box->problem), "the worker does not listen: %s", strerror(error));
  }
  return NULL;
}

static Child *idle_child(Box *box, unsigned *count)
{
  Child *found = NULL;
  *count = 0;
  for (Child *child = box->children; child; child = child->next) {
    if (box->current && child->zygote == box->current && !child->used && !child->eof) {
      found = child; // the last in the list is the oldest
      ++*count;
    }
  }
  return found;
}

Child *zygote_take_child(Box *box)
{
  unsigned idle;
  retire_old(box);
  Child *child = idle_child(box, &idle);
  return child ? child : fork_child(box);
}

void zygote_fill_pool(Box *box)
{
  unsigned idle;
  if (box->closed) {
    return;
  }
  for (idle_child(box, &idle); idle < box->pool && fork_child(box);) {
    idle_child(box, &idle);
  }
}

void zygote_kill_child(Child *child)
{
  if (child->zygote && !send_message(child->zygote, CONTROL_KILL, child->id, -1)) {
    zygote_lose(child->zygote);
  }
}

void zygote_forget_child(Child *child)
{
  Zygote *zygote = child->zygote;
  Child **link = &child->box->children;
  while (*link != child) {
    link = &(*link)->next;
  }
  *link = child->next;
  child->zygote = NULL;
  if (zygote && --zygote->children == 0 && zygote != zygote->box->current) {
    zygote_lose(zygote);
  }
}
