/*
 * Worker threads for the pieces of one operation.
 *
 * Each thread, the caller too, takes pieces of a share of its own, and then of the others', so a core that the system
 * takes away for a moment delays one piece and not a fixed share of the work; a worker that sleeps through a whole
 * operation is not waited for.
 */
#ifndef CPU_POOL_H
#define CPU_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

struct pool;

/* Most pieces of one run, and most threads. */
enum { POOL_PIECES = 1 << 30, POOL_THREADS = 512 };

/*
 * `threads` counts the caller: 1 starts none. With `pin`, each is bound to a core of its own (modulo their number), the
 * caller by its first run. SINK_EINVAL for a count out of range, SINK_ENOMEM when a thread cannot be started.
 */
int pool_new(int threads, bool pin, struct pool **ret, struct err *e);
void pool_free(struct pool *p); /* NULL is fine */

int pool_threads(const struct pool *p);

/*
 * Calls fn(arg, piece, worker) for each piece < pieces, in any order, worker < pool_threads(); returns when all are
 * done. One caller at a time, and never from inside fn.
 */
void pool_run(struct pool *p, void (*fn)(void *arg, size_t piece, int worker), void *arg, size_t pieces);

#endif
