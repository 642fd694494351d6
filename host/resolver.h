// resolver.h: the addresses of host names, asked for in threads of our own. Plain C.
//
// getaddrinfo() cannot be stopped, and with silent name servers it takes minutes. So whoever asks
// may leave at any time, a name is looked up once at a time however many ask, and at most
// RESOLVER_THREADS lookups run at once: a name beyond that waits for its turn. Nobody waits for the
// threads, not even the end of the process; libuv's own, which files need too, are left alone.

#ifndef BEAMLENS_RESOLVER_H
#define BEAMLENS_RESOLVER_H

#include <netdb.h>

#include <stdbool.h>

#include <uv.h>

#define RESOLVER_THREADS 16
// How long an answer is good.
#define RESOLVER_GOOD_MS 60000

typedef struct NameAsk NameAsk;
typedef struct Lookup Lookup;

struct NameAsk {
  // Called once, from the loop: `found` is the answer, borrowed until it returns, or NULL and
  // `status` libuv's code that says why there is none.
  void (*done)(NameAsk *ask, const struct addrinfo *found, int status);
  Lookup *lookup;        // the resolver's; NULL when nothing is asked
  NameAsk *next, **link; // the resolver's
};

// The answer that is known, borrowed until the next call of a function of this file; NULL when it
// has to be asked for. With `stale`, one that is not good any more will do.
const struct addrinfo *resolver_known(const char *name, bool stale);

// Asks for a name. `done` must be set, and `ask` stay where it is until it is called, which is
// never from here, or until resolver_cancel(). There is one loop for all. False: no memory.
bool resolver_ask(uv_loop_t *loop, NameAsk *ask, const char *name);

// Takes an ask back. May be called at any time, also when nothing is asked.
void resolver_cancel(NameAsk *ask);

#endif
