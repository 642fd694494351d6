// sandbox_queue.c: which run has its turn, and how a run ends: once, with its callback called from
// the loop.

#include "sandbox.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host.h"

#define MAX_RUNNING 16
#define MAX_OF_OWNER 8 // so that nobody holds all places

static void list_remove(Run **list, Run *run)
{
  while (*list && *list != run) {
    list = &(*list)->next;
  }
  if (*list) {
    *list = run->next;
    run->next = NULL;
  }
}

static void list_append(Run **list, Run *run)
{
  while (*list) {
    list = &(*list)->next;
  }
  *list = run;
  run->next = NULL;
}

void run_end(Run *run)
{
  run->over = true;
  list_remove(&run->box->queue, run);
  list_remove(&run->box->failed, run);
  if (run->child) {
    child_close(run->child);
  }
  codec_free(&run->request);
  codec_free(&run->names);
}

void run_finish(Run *run)
{
  lua_State *L = run->box->L;
  Box *box = run->box;
  box->holders++; // the callback may be the last to hold it
  run_end(run);
  host_push_ref(L, run->callback);
  lua_insert(L, -2);
  lua_pushliteral(L, "done");
  lua_insert(L, -2);
  host_unref(L, &run->callback);
  host_unref(L, &run->self); // `run` may be collected from here on
  host_call(L, 2, 0);
  box_pump(box);
  box_release(box);
}

void run_enqueue(Run *run)
{
  list_append(&run->box->queue, run);
  box_pump(run->box);
}

void run_fail(Run *run, const char *kind, const char *fmt, ...)
{
  if (run->over) {
    return;
  }
  va_list args;
  va_start(args, fmt);
  vsnprintf(run->message, sizeof(run->message), fmt, args);
  va_end(args);
  run->kind = kind;
  run_end(run);
  list_append(&run->box->failed, run);
  box_kick(run->box);
}

static void push_failure(lua_State *L, const Run *run)
{
  lua_newtable(L);
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "ok");
  lua_newtable(L);
  lua_pushstring(L, run->kind);
  lua_setfield(L, -2, "kind");
  lua_pushstring(L, run->message);
  lua_setfield(L, -2, "message");
  lua_setfield(L, -2, "error");
  lua_newtable(L);
  lua_pushinteger(L, (lua_Integer)run->calls);
  lua_setfield(L, -2, "calls");
  uint64_t ran_ms = run->started_ms ? uv_now(run->box->loop) - run->started_ms : 0;
  lua_pushnumber(L, (lua_Number)ran_ms);
  lua_setfield(L, -2, "wall_ms");
  lua_setfield(L, -2, "stats");
}

static void on_kick_closed(uv_handle_t *handle)
{
  box_release(handle->data);
}

static void on_kick(uv_timer_t *timer)
{
  Box *box = timer->data;
  box->holders++;
  while (box->L && box->failed) {
    Run *run = box->failed;
    list_remove(&box->failed, run);
    push_failure(box->L, run);
    run_finish(run);
  }
  if (box->closed && !uv_is_closing((uv_handle_t *)timer)) {
    uv_close((uv_handle_t *)timer, on_kick_closed);
  }
  box_release(box);
}

void box_kick(Box *box)
{
  uv_timer_start(&box->kick, on_kick, 0, 0);
}

void run_on_call(Run *run, const char *name)
{
  lua_State *L = run->box->L;
  host_push_ref(L, run->callback);
  lua_insert(L, -2);
  lua_pushliteral(L, "call");
  lua_insert(L, -2);
  lua_pushinteger(L, run->calls);
  lua_insert(L, -2);
  lua_pushstring(L, name);
  lua_insert(L, -2);
  host_call(L, 4, 0);
}

static unsigned running_of(const Box *box, const char *owner)
{
  unsigned n = 0;
  for (const Child *child = box->children; child; child = child->next) {
    n += child->run && strcmp(child->run->owner, owner) == 0;
  }
  return n;
}

// The queued run whose turn it is: the oldest one of the owner with the fewest that run. NULL when
// there is no room. One that needs much memory is not overtaken, or it might never run.
static Run *next_run(const Box *box)
{
  Run *next = NULL;
  unsigned least = box->running < MAX_RUNNING ? MAX_RUNNING : 0;
  for (Run *run = box->queue; run && least > 0; run = run->next) {
    unsigned n = running_of(box, run->owner);
    unsigned most = *run->owner ? MAX_OF_OWNER : MAX_RUNNING;
    if (n < most && n < least) {
      least = n;
      next = run;
    }
  }
  bool fits = next && (box->running == 0 || box->memory + next->memory_bytes <= box->max_memory);
  return fits ? next : NULL;
}

void box_pump(Box *box)
{
  for (Run *run; !box->closed && (run = next_run(box)) != NULL;) {
    Child *child = zygote_take_child(box);
    list_remove(&box->queue, run);
    if (child) {
      child_start(child, run);
    } else {
      run_fail(run, "sandbox", "sandbox unavailable: %s", box->problem);
    }
  }
  zygote_fill_pool(box);
}
