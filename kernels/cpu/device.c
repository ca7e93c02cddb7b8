/*
 * What every CPU backend does alike: the device and its memory, and the operations that are copies or are taken once a
 * step in double, where an instruction set has nothing to win.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu.h"

enum {
	HUGE_PAGE = 2 << 20,
	HUGE_BYTES = 4 << 20, /* from this size on the system is asked for huge pages */
	SLAB_BYTES = 32 << 20,
	WEIGHT_ALIGN = 4096,
};

/*
 * Matrices lie side by side in slabs of huge pages: most of a small model's are smaller than one such page, and to
 * touch them for the first time in pages of 4 KiB takes longer than to pack them.
 */
struct slab {
	uint8_t *map; /* `mapped` bytes, somewhat more than can be used, so that the beginning can be chosen */
	size_t mapped;
	uint8_t *begin;
	size_t bytes, used;
	size_t weights; /* that lie here; with the last one the slab goes */
};

void *cpu_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (bytes >= HUGE_BYTES)
		madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

void cpu_unmap(void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}

static int allocate(struct device *d, struct err *e)
{
	size_t scratch = (size_t)pool_threads(d->pool) * sizeof(*d->attend);

	if (!d->isa)
		return 0;
	d->attend = aligned_alloc(64, scratch);
	d->partials = mmap(NULL, PARTIAL_FLOATS * sizeof(float), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (d->partials == MAP_FAILED)
		d->partials = NULL;
	d->tiles = calloc(d->max_rows, sizeof(*d->tiles));
	if (!d->attend || !d->partials || !d->tiles)
		return err_set(e, SINK_ENOMEM, "There is no memory for the kernels' %zu bytes of scratch.",
			       scratch + PARTIAL_FLOATS * sizeof(float));
	return 0;
}

int cpu_open(const struct isa *isa, const struct device_options *o, struct device **ret, struct err *e)
{
	struct device *d;
	int rc;

	if (o->max_rows < 1 || o->max_rows > 1 << 20)
		return err_set(e, SINK_EINVAL, "The most rows of a step must be 1 to %d, not %zu.", 1 << 20,
			       o->max_rows);
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(e, SINK_ENOMEM, "There is no memory for a device.");
	d->isa = isa;
	d->max_rows = o->max_rows;
	d->fast = o->precision == PRECISION_FAST;
	rc = pool_new(o->threads, o->pin, &d->pool, e);
	if (rc == 0)
		rc = allocate(d, e);
	if (rc != 0) {
		cpu_close(d);
		return rc;
	}
	*ret = d;
	return 0;
}

void cpu_close(struct device *d)
{
	if (!d)
		return;
	pool_free(d->pool);
	free(d->xb);
	free(d->xw);
	free(d->xf);
	free(d->row);
	free(d->xt);
	free(d->attend);
	free(d->tiles);
	cpu_unmap(d->partials, PARTIAL_FLOATS * sizeof(float));
	free(d);
}

static struct slab *slab_new(size_t bytes)
{
	struct slab *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->bytes = bytes;
	s->mapped = bytes + HUGE_PAGE;
	s->map = cpu_map(s->mapped);
	if (!s->map) {
		free(s);
		return NULL;
	}
	s->begin = s->map + (HUGE_PAGE - (uintptr_t)s->map % HUGE_PAGE) % HUGE_PAGE;
	return s;
}

int cpu_weight_room(struct device *d, struct weight *w, struct err *e)
{
	const size_t bytes = (w->bytes + WEIGHT_ALIGN - 1) / WEIGHT_ALIGN * WEIGHT_ALIGN;
	struct slab *s = d->slab;

	if (!s || s->bytes - s->used < bytes)
		s = slab_new(bytes > SLAB_BYTES / 4 ? bytes : SLAB_BYTES);
	if (!s)
		return err_set(e, SINK_ENOMEM, "There is no memory for a weight of %zu bytes.", w->bytes);
	if (s->bytes == SLAB_BYTES)
		d->slab = s;
	w->slab = s;
	w->data = s->begin + s->used;
	s->used += bytes;
	s->weights++;
	return 0;
}

void cpu_weight_free(struct device *d, struct weight *w)
{
	if (!w)
		return;
	if (--w->slab->weights == 0) {
		if (d->slab == w->slab)
			d->slab = NULL;
		cpu_unmap(w->slab->map, w->slab->mapped);
		free(w->slab);
	}
	free(w);
}

int cpu_buffer_new(struct device *d, size_t floats, float **ret, struct err *e)
{
	size_t bytes = (floats * sizeof(float) + 63) / 64 * 64;
	float *b;

	(void)d;
	if (floats > SIZE_MAX / 8)
		return err_set(e, SINK_EINVAL, "A buffer of %zu numbers is too large.", floats);
	b = aligned_alloc(64, bytes ? bytes : 64);
	if (!b)
		return err_set(e, SINK_ENOMEM, "There is no memory for a buffer of %zu bytes.", bytes);
	memset(b, 0, bytes ? bytes : 64);
	*ret = b;
	return 0;
}

void cpu_buffer_free(struct device *d, float *b)
{
	(void)d;
	free(b);
}

void cpu_read(struct device *d, void *host, const void *from, size_t bytes)
{
	(void)d;
	memcpy(host, from, bytes);
}

void cpu_write(struct device *d, void *to, const void *host, size_t bytes)
{
	(void)d;
	memcpy(to, host, bytes);
}

/* Pages are read where the host has them. */
int cpu_pages_attach(struct device *d, void *host, size_t bytes, struct err *e)
{
	(void)d;
	(void)host;
	(void)bytes;
	(void)e;
	return 0;
}

void cpu_pages_detach(struct device *d)
{
	(void)d;
}

size_t cpu_pages_room(struct device *d, size_t other)
{
	(void)d;
	(void)other;
	return SIZE_MAX;
}

void cpu_page_copy(struct device *d, void *to, const void *from, size_t bytes)
{
	(void)d;
	memcpy(to, from, bytes);
}

void cpu_page_load(struct device *d, void *page, size_t bytes)
{
	(void)d;
	(void)page;
	(void)bytes;
}

uint64_t cpu_page_save(struct device *d, void *page, size_t bytes)
{
	(void)d;
	(void)page;
	(void)bytes;
	return 0;
}

bool cpu_page_saved(struct device *d, uint64_t save, bool wait)
{
	(void)d;
	(void)save;
	(void)wait;
	return true;
}

/* Operations read what they are given when they are called, and have done it when they return. */
void cpu_begin(struct device *d, const struct step *s, size_t *n, size_t *wanted)
{
	(void)d;
	*n = s->n;
	*wanted = s->wanted;
}

int cpu_end(struct device *d, struct err *e)
{
	(void)d;
	(void)e;
	return 0;
}

struct angles_run {
	const int64_t *position;
	const double *inv_freq;
	size_t n, rotated, second; /* where the set of positions below 0 begins */
	double scale;
	float *angle;
};

/* Positions a piece: a sine takes some 20 ns. */
enum { ANGLE_ROWS = 16 };

static void turn(const struct angles_run *r, size_t i)
{
	const int64_t position = r->position[i] < 0 ? ~r->position[i] : r->position[i];
	const double *const inv_freq = r->inv_freq + (r->position[i] < 0 ? r->second : 0);

	for (size_t k = 0; k < r->rotated / 2; k++) {
		double at = (double)position * inv_freq[k];

		r->angle[i * r->rotated + 2 * k] = (float)(cos(at) * r->scale);
		r->angle[i * r->rotated + 2 * k + 1] = (float)(sin(at) * r->scale);
	}
}

static void angles_piece(void *arg, size_t piece, int worker)
{
	const struct angles_run *r = arg;
	size_t end = (piece + 1) * ANGLE_ROWS;

	(void)worker;
	for (size_t i = piece * ANGLE_ROWS; i < end && i < r->n; i++)
		turn(r, i);
}

void cpu_angles(struct device *d, const int64_t *position, size_t n, const double *inv_freq, size_t sets,
		size_t rotated, double scale, float *angle)
{
	struct angles_run r = { position, inv_freq, n, rotated, sets > 1 ? rotated / 2 : 0, scale, angle };

	pool_run(d->pool, angles_piece, &r, (n + ANGLE_ROWS - 1) / ANGLE_ROWS);
}

void cpu_gather(struct device *d, const float *x, size_t width, const int32_t *index, size_t count, float *y)
{
	(void)d;
	for (size_t i = 0; i < count; i++)
		memmove(y + i * width, x + (size_t)index[i] * width, width * sizeof(float));
}

/* Keeps the largest in order: most numbers are less than the least of them. */
static void top_of(const float *x, size_t vocab, struct top *top)
{
	top->count = 0;
	top->sum = 0;
	for (size_t i = 0; i < vocab; i++) {
		const float logit = isnan(x[i]) ? -INFINITY : x[i];
		int32_t at = top->count;

		if (at == TOP_MOST && !(logit > top->logit[at - 1]))
			continue;
		top->count += at < TOP_MOST;
		for (at = top->count - 1; at > 0 && logit > top->logit[at - 1]; at--) {
			top->logit[at] = top->logit[at - 1];
			top->id[at] = top->id[at - 1];
		}
		top->logit[at] = logit;
		top->id[at] = (int32_t)i;
	}
	top->max = vocab ? top->logit[0] : 0;
	for (size_t i = 0; i < vocab; i++)
		if (x[i] > -INFINITY)
			top->sum += exp((double)x[i] - (double)top->max);
}

void cpu_top(struct device *d, const float *logits, size_t n, size_t vocab, struct top *top)
{
	(void)d;
	for (size_t i = 0; i < n; i++)
		top_of(logits + i * vocab, vocab, &top[i]);
}
