/*
 * Measures what the machine does at best, by the loops of peak.h on the threads of a pool. Work is cut smaller than a
 * share a thread, as everywhere: when the system holds one up, others do its pieces, and what was reached is told.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cpu.h"

enum {
	PASSES = 15,
	PASSES_MOST = 64,
	PIECES = 8,	   /* a thread, of work in caches and registers */
	STRETCH = 1 << 20, /* a piece of memory */
	CACHES_TIMES = 2,  /* the memory that is read is so much larger than the last cache */
	HANDOVERS = 100,   /* a pass */
	LOOKS = 1000,	   /* before a thread makes room for one that is awaited */
	MEMORY_LEAST = 256 << 20,
	MEMORY_MOST = 1 << 30,
};

/* Pieces are this long at least, so that taking one costs nothing. */
static const double piece_seconds = 1e-4;
static const double memory_seconds = 0.25;

struct measuring {
	const struct isa *isa;
	struct pool *pool;
	const uint8_t *memory;
	size_t bytes; /* of a stretch */
	double (*products)(size_t rounds);
	size_t times; /* of a piece */
	double done;  /* of a piece, bytes or operations */
};

/* Pieces that began, over all runs, and those that there are when the present run is at its end. */
struct meeting {
	_Atomic uint64_t came;
	uint64_t awaited;
};

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void products_piece(void *arg, size_t piece, int worker)
{
	const struct measuring *r = arg;

	(void)piece;
	(void)worker;
	r->products(r->times);
}

/* Each worker has a stretch of its own, which stays in its cache. */
static void cache_piece(void *arg, size_t piece, int worker)
{
	const struct measuring *r = arg;

	(void)piece;
	for (size_t i = 0; i < r->times; i++)
		r->isa->read_peak(r->memory + (size_t)worker * r->bytes, r->bytes);
}

static void memory_piece(void *arg, size_t piece, int worker)
{
	const struct measuring *r = arg;

	(void)worker;
	r->isa->read_peak(r->memory + piece * STRETCH, STRETCH);
}

static void touch_piece(void *arg, size_t piece, int worker)
{
	const struct measuring *r = arg;

	(void)worker;
	memset((uint8_t *)(uintptr_t)r->memory + piece * STRETCH, 1, STRETCH);
}

/* Is done when all threads have come: alone, the caller would have done the others' pieces before they woke. */
static void meeting_piece(void *arg, size_t piece, int worker)
{
	struct meeting *m = arg;

	(void)piece;
	(void)worker;
	atomic_fetch_add(&m->came, 1);
	for (unsigned looks = 1; atomic_load(&m->came) < m->awaited; looks++)
		if (looks % LOOKS == 0)
			sched_yield();
}

static int ascending(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of n numbers, which are put in order. */
static struct rate rate_of(double *x, size_t n, bool least)
{
	qsort(x, n, sizeof(*x), ascending);
	return (struct rate){ x[least ? 0 : n - 1], x[n / 2] };
}

/* The rate of PASSES runs of pieces that each do `done`. */
static struct rate measure(const struct measuring *r, void (*piece)(void *arg, size_t piece, int worker), size_t pieces)
{
	double rate[PASSES];

	for (int i = 0; i < PASSES; i++) {
		double begin = seconds();

		pool_run(r->pool, piece, (void *)(uintptr_t)r, pieces);
		rate[i] = r->done * (double)pieces / (seconds() - begin);
	}
	return rate_of(rate, PASSES, false);
}

static struct rate measure_products(struct measuring *r, double (*products)(size_t rounds))
{
	double begin;

	r->products = products;
	r->times = 64;
	do {
		r->times *= 2;
		begin = seconds();
		r->done = products(r->times);
	} while (seconds() - begin < piece_seconds);
	return measure(r, products_piece, (size_t)pool_threads(r->pool) * PIECES);
}

static struct rate measure_cache(struct measuring *r, size_t bytes)
{
	double begin;

	r->bytes = bytes;
	r->times = 1;
	do {
		r->times *= 2;
		begin = seconds();
		cache_piece(r, 0, 0);
	} while (seconds() - begin < piece_seconds);
	r->done = (double)(r->times * bytes);
	return measure(r, cache_piece, (size_t)pool_threads(r->pool) * PIECES);
}

/* Reads all of it in each pass, until some time is over. */
static struct rate measure_memory(struct measuring *r, size_t bytes)
{
	double rate[PASSES_MOST], begin, now = seconds(), end = now + memory_seconds;
	size_t n = 0;

	do {
		begin = now;
		pool_run(r->pool, memory_piece, r, bytes / STRETCH);
		now = seconds();
		rate[n++] = (double)bytes / (now - begin);
	} while (n < PASSES_MOST && (n < 3 || now < end));
	return rate_of(rate, n, false);
}

static struct rate measure_handover(struct pool *pool)
{
	const size_t threads = (size_t)pool_threads(pool);
	struct meeting m = { 0 };
	double took[PASSES];

	for (int i = 0; i < PASSES; i++) {
		double begin = seconds();

		for (int k = 0; k < HANDOVERS; k++) {
			m.awaited += threads;
			pool_run(pool, meeting_piece, &m, threads);
		}
		took[i] = (seconds() - begin) / HANDOVERS;
	}
	return rate_of(took, PASSES, true);
}

/*
 * Memory is what is read beyond all caches. The system counts the last one for the whole socket, while a thread may
 * have a part of it alone, so for caches there is a sweep of sizes.
 */
static void choose_sizes(struct roofline *ret)
{
	static const size_t sizes[] = { 16 << 10, 256 << 10, 2 << 20, 8 << 20, 24 << 20 };
	const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
	size_t memory = cache > 0 ? (size_t)cache * CACHES_TIMES : 0;

	memcpy(ret->bytes, sizes, sizeof(sizes));
	memory = memory < MEMORY_LEAST ? MEMORY_LEAST : memory > MEMORY_MOST ? MEMORY_MOST : memory;
	ret->bytes[ROOFLINE_MEMORY] = memory / STRETCH * STRETCH;
}

/* All that is measured with this pool, [of]: one thread or all. */
static void measure_all(struct measuring *r, int of, bool brief, struct roofline *ret)
{
	const size_t memory = ret->bytes[ROOFLINE_MEMORY];

	for (size_t i = 0; !brief && i < ROOFLINE_MEMORY; i++)
		if (ret->bytes[i] * (size_t)pool_threads(r->pool) <= memory)
			ret->read[i][of] = measure_cache(r, ret->bytes[i]);
	ret->read[ROOFLINE_MEMORY][of] = measure_memory(r, memory);
	ret->f32[of] = measure_products(r, r->isa->f32_peak);
	ret->products8[of] = measure_products(r, r->isa->bytes_peak);
	ret->products16[of] = measure_products(r, r->isa->words_peak);
}

static int measure_device(struct device *d, bool brief, struct roofline *ret, struct err *e)
{
	struct measuring r = { .isa = d->isa ? d->isa : &isa_scalar, .pool = d->pool };
	struct pool *one = NULL;
	uint8_t *memory;
	int rc = 0;

	choose_sizes(ret);
	memory = cpu_map(ret->bytes[ROOFLINE_MEMORY]);
	if (!memory)
		return err_set(e, SINK_ENOMEM, "There is no memory for %zu bytes to read.",
			       ret->bytes[ROOFLINE_MEMORY]);
	r.memory = memory;
	pool_run(r.pool, touch_piece, &r, ret->bytes[ROOFLINE_MEMORY] / STRETCH);
	measure_all(&r, 1, brief, ret);
	if (!brief)
		rc = pool_new(1, false, &one, e);
	if (!brief && !rc) {
		ret->handover = measure_handover(r.pool);
		r.pool = one;
		measure_all(&r, 0, brief, ret);
		pool_free(one);
	}
	cpu_unmap(memory, ret->bytes[ROOFLINE_MEMORY]);
	return rc;
}

int kernels_roofline(const char *name, const struct device_options *o, bool brief, struct roofline *ret, struct err *e)
{
	struct roofline found = { 0 };
	struct device *d = NULL;
	struct err why = { 0 };
	const struct backend *b = kernels_find(name, &why);
	int rc;

	if (!b)
		return err_set(e, why.code, "%s", why.text);
	if (b->close != cpu_close)
		return err_set(e, SINK_EDEVICE, "The kernels \"%s\" do not run on this processor.", name);
	rc = b->open(o, &d, e);
	if (rc == 0)
		rc = measure_device(d, brief, &found, e);
	cpu_close(d);
	if (rc == 0)
		*ret = found;
	return rc;
}
