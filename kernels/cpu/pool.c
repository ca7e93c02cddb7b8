/*
 * The workers. Each begins with a share of the pieces, which follow each other, as what they read does in memory: then
 * the hardware fetches ahead from one to the next. It takes them from the front; who has none left takes from the back
 * of another's. A share is one 64-bit word: its first piece (lower half) and the one behind its last (upper half). A
 * piece is taken by compare-and-swap on the whole word, so a worker that comes late from a run that is over can neither
 * take a piece twice nor read a run's arguments while they change: they change only when all pieces are done, and a
 * piece that was taken is not done. Words of different workers lie in different cache lines, and what is done is told
 * once by each: threads that are busy do not disturb one another.
 *
 * Between the operations of a step there are microseconds, so whoever waits spins for a moment; between steps there may
 * be hours, so then it sleeps on a futex.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* How long a wait spins before it sleeps, and how many pauses lie between looks at the clock. */
enum { SPIN_NS = 60000, SPIN_LOOKS = 32 };

struct worker {
	_Alignas(64) _Atomic uint64_t share;
	struct pool *pool;
	pthread_t thread;
	int index;
};

struct pool {
	int threads;
	bool pin, caller_bound;
	void (*fn)(void *arg, size_t piece, int worker);
	void *arg;
	uint32_t pieces;
	_Alignas(64) _Atomic uint32_t done; /* pieces of this run that are finished */
	_Atomic uint32_t caller_asleep;
	_Alignas(64) _Atomic uint32_t epoch; /* runs started; the workers' futex */
	_Atomic uint32_t asleep;
	_Atomic bool stop;
	struct worker worker[];
};

static void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* A wait's clock: false once it has spun long enough. Starts at zero. */
struct spin {
	int64_t until;
	unsigned looks;
};

static bool spin_more(struct spin *s)
{
	cpu_relax();
	if (++s->looks % SPIN_LOOKS)
		return true;
	if (!s->until)
		s->until = now_ns() + SPIN_NS;
	return now_ns() < s->until;
}

static uint64_t share_of(uint32_t first, uint32_t end)
{
	return (uint64_t)end << 32 | first;
}

/* Takes a piece of a share, from the front or the back; false when there is none. */
static bool take(_Atomic uint64_t *share, bool front, uint32_t *piece)
{
	uint64_t t = atomic_load_explicit(share, memory_order_acquire), left;

	for (;;) {
		uint32_t first = (uint32_t)t, end = (uint32_t)(t >> 32);

		if (first >= end)
			return false;
		*piece = front ? first : end - 1;
		left = front ? share_of(first + 1, end) : share_of(first, end - 1);
		if (atomic_compare_exchange_weak_explicit(share, &t, left, memory_order_acq_rel, memory_order_acquire))
			return true;
	}
}

/* Takes pieces until none is left: the worker's own, then the others'. */
static void take_pieces(struct pool *p, int worker)
{
	uint32_t count = 0, piece;

	for (int i = 0; i < p->threads; i++) {
		struct worker *from = &p->worker[(worker + i) % p->threads];

		for (; take(&from->share, i == 0, &piece); count++)
			p->fn(p->arg, piece, worker);
	}
	/* A run whose piece was taken is not over before this: p->pieces is still its. */
	if (count > 0 && atomic_fetch_add(&p->done, count) + count == p->pieces && atomic_load(&p->caller_asleep))
		futex_wake(&p->done);
}

/* Waits for a run after the one that was seen last, or the end. */
static void wait_for_work(struct pool *p, uint32_t *seen)
{
	struct spin s = { 0, 0 };
	uint32_t now;

	while ((now = atomic_load_explicit(&p->epoch, memory_order_acquire)) == *seen) {
		if (spin_more(&s))
			continue;
		atomic_fetch_add(&p->asleep, 1);
		if (atomic_load(&p->epoch) == *seen)
			futex_wait(&p->epoch, *seen);
		atomic_fetch_sub(&p->asleep, 1);
		s = (struct spin){ 0, 0 };
	}
	*seen = now;
}

static void wait_for_done(struct pool *p, uint32_t pieces)
{
	struct spin s = { 0, 0 };
	uint32_t done;

	while ((done = atomic_load(&p->done)) != pieces) {
		if (spin_more(&s))
			continue;
		atomic_store(&p->caller_asleep, 1);
		done = atomic_load(&p->done);
		if (done != pieces)
			futex_wait(&p->done, done);
		atomic_store(&p->caller_asleep, 0);
	}
}

/* Binds the calling thread to the n-th of its cores, modulo their number. A refusal costs speed only. */
static void bind_to_core(int n)
{
	cpu_set_t all, one;
	int cores;

	if (sched_getaffinity(0, sizeof(all), &all) != 0 || (cores = CPU_COUNT(&all)) < 1)
		return;
	n %= cores;
	for (int c = 0; c < CPU_SETSIZE; c++) {
		if (!CPU_ISSET(c, &all) || n-- > 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(c, &one);
		sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct pool *p = w->pool;
	uint32_t seen = 0;

	if (p->pin)
		bind_to_core(w->index);
	for (;;) {
		wait_for_work(p, &seen);
		if (atomic_load(&p->stop))
			return NULL;
		take_pieces(p, w->index);
	}
}

/* Workers take no signals: those are the main thread's. */
static int start_workers(struct pool *p, int threads, struct err *e)
{
	sigset_t all, before;
	int rc = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (int i = 1; i < threads && rc == 0; i++) {
		p->worker[i].pool = p;
		p->worker[i].index = i;
		rc = pthread_create(&p->worker[i].thread, NULL, work, &p->worker[i]);
		if (rc == 0)
			p->threads = i + 1;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		return err_set(e, SINK_ENOMEM, "The system starts no more than %d of %d kernel threads: %s.",
			       p->threads, threads, strerror(rc));
	return 0;
}

int pool_new(int threads, bool pin, struct pool **ret, struct err *e)
{
	size_t bytes;
	struct pool *p;
	int rc;

	if (threads < 1 || threads > POOL_THREADS)
		return err_set(e, SINK_EINVAL, "The number of threads must be 1 to %d, not %d.", POOL_THREADS, threads);
	bytes = (sizeof(*p) + (size_t)threads * sizeof(struct worker) + 63) / 64 * 64;
	p = aligned_alloc(64, bytes);
	if (!p)
		return err_set(e, SINK_ENOMEM, "There is no memory for %d threads.", threads);
	memset(p, 0, bytes);
	p->threads = 1;
	p->pin = pin && threads > 1;
	rc = start_workers(p, threads, e);
	if (rc != 0) {
		pool_free(p);
		return rc;
	}
	*ret = p;
	return 0;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	atomic_store(&p->stop, true);
	atomic_fetch_add(&p->epoch, 1);
	futex_wake(&p->epoch);
	for (int i = 1; i < p->threads; i++)
		pthread_join(p->worker[i].thread, NULL);
	free(p);
}

int pool_threads(const struct pool *p)
{
	return p->threads;
}

void pool_run(struct pool *p, void (*fn)(void *arg, size_t piece, int worker), void *arg, size_t pieces)
{
	if (p->threads == 1 || pieces < 2) {
		for (size_t i = 0; i < pieces; i++)
			fn(arg, i, 0);
		return;
	}
	if (p->pin && !p->caller_bound) {
		p->caller_bound = true;
		bind_to_core(0);
	}
	p->fn = fn;
	p->arg = arg;
	p->pieces = (uint32_t)pieces;
	atomic_store(&p->done, 0);
	for (size_t i = 0, n = (size_t)p->threads; i < n; i++)
		atomic_store_explicit(&p->worker[i].share,
				      share_of((uint32_t)(pieces * i / n), (uint32_t)(pieces * (i + 1) / n)),
				      memory_order_release);
	atomic_fetch_add(&p->epoch, 1);
	if (atomic_load(&p->asleep))
		futex_wake(&p->epoch);
	take_pieces(p, 0);
	wait_for_done(p, (uint32_t)pieces);
}
