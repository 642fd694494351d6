// quiet_thread.h: threads that no signal reaches.

#ifndef BEAMLENS_QUIET_THREAD_H
#define BEAMLENS_QUIET_THREAD_H

#include <pthread.h>

// As pthread_create(), but the thread blocks every signal save those of its own faults, so that the
// handlers run in the main thread. Not for a thread that starts programs: they inherit what it
// blocks. The threads of libuv's pool, which a recording is written with, are not made here and
// block nothing.
int quiet_thread_create(pthread_t *id, const pthread_attr_t *attr, void *(*run)(void *), void *arg);

#endif
