/*
 * The arena of pages and the page tables of conversations.
 *
 * A token below the pinned count lies in the run of that name at its own number; any other lies in the window run at
 * its position in the text. The window's table is a ring of whole pages: page number p (slot / PAGE_TOKENS) lies in
 * entry p % ring, and `held` remembers which number an entry holds, so that a step knows whether it continues a page or
 * takes over one that nobody can see any more, and rewinding knows what is still there. The ring is as long as the
 * pages that the rows of one step can see together, hence a page is never taken over while a row of it is visible.
 *
 * Keys are rotated when they are written and never again: a pinned one at its rank, which is its position, a window one
 * at its position in the text. The query makes up for it, one rotation a run (DESIGN, section 4).
 */
#include "kv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct arena {
	const struct backend *b;
	struct device *d;
	size_t page_bytes, pages;
	void *host; /* the map, and what the device calls it */
	char *base;
	size_t mapped;
	uint32_t *refs; /* owners of each page */
	uint32_t *free; /* stack of pages that were used and given back */
	size_t free_count;
	size_t fresh; /* pages from here on were never used: neither they nor their records are in memory yet */
	void *bounce; /* one page of host memory, for copies */
};

struct run_pages {
	void **page;
	int64_t *held;
	int64_t ring;
};

struct kv {
	struct arena *a;
	struct kv_options o;
	int64_t tokens;
	struct run_pages runs[RUNS];
	struct page_table tables[RUNS]; /* the same, as kernels read them */
};

static const struct marks no_marks = { NULL, 0 };

int arena_new(const struct backend *b, struct device *d, const struct page_shape *shape, size_t bytes,
	      struct arena **ret, struct err *e)
{
	struct arena *a;
	void *base;
	int r;

	if (page_bytes(shape) == 0 || bytes / page_bytes(shape) == 0)
		return err_set(e, SINK_EINVAL, "A cache of %zu bytes cannot hold one page of %zu bytes.", bytes,
			       page_bytes(shape));
	a = calloc(1, sizeof(*a));
	if (!a)
		return err_set(e, SINK_ENOMEM, "Out of memory for the cache's records.");
	a->b = b;
	a->d = d;
	a->page_bytes = page_bytes(shape);
	a->pages = bytes / a->page_bytes;
	if (a->pages > UINT32_MAX)
		a->pages = UINT32_MAX;
	a->mapped = a->pages * a->page_bytes;
	a->refs = calloc(a->pages, sizeof(*a->refs));
	a->free = calloc(a->pages, sizeof(*a->free));
	a->bounce = malloc(a->page_bytes);
	a->host = mmap(NULL, a->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!a->refs || !a->free || !a->bounce || a->host == MAP_FAILED) {
		r = err_set(e, SINK_ENOMEM, "The system refused %zu MiB of address space for the cache: %s.",
			    a->mapped >> 20, strerror(errno));
		goto fail;
	}
	r = b->pages_attach(d, a->host, a->mapped, &base, e);
	if (r)
		goto fail;
	a->base = base;
	*ret = a;
	return 0;
fail:
	arena_free(a);
	return r;
}

void arena_free(struct arena *a)
{
	if (!a)
		return;
	assert(a->free_count == a->fresh);
	if (a->base)
		a->b->pages_detach(a->d, a->base, a->mapped);
	if (a->host && a->host != MAP_FAILED)
		munmap(a->host, a->mapped);
	free(a->bounce);
	free(a->free);
	free(a->refs);
	free(a);
}

size_t arena_pages(const struct arena *a)
{
	return a->pages;
}

size_t arena_pages_free(const struct arena *a)
{
	return a->free_count + a->pages - a->fresh;
}

size_t arena_page_bytes(const struct arena *a)
{
	return a->page_bytes;
}

static uint32_t *page_refs(const struct arena *a, const void *page)
{
	return &a->refs[(size_t)((const char *)page - a->base) / a->page_bytes];
}

/* A page of which the caller has made sure that there is one. Its old contents may still be in it. */
static void *page_take(struct arena *a)
{
	size_t i;

	assert(arena_pages_free(a) > 0);
	i = a->free_count ? a->free[--a->free_count] : a->fresh++;
	a->refs[i] = 1;
	return a->base + i * a->page_bytes;
}

static void page_drop(struct arena *a, void *page)
{
	uint32_t *refs = page_refs(a, page);

	if (--*refs == 0)
		a->free[a->free_count++] = (uint32_t)(refs - a->refs);
}

static void page_copy(struct arena *a, void *to, const void *from)
{
	a->b->read(a->d, a->bounce, from, a->page_bytes);
	a->b->write(a->d, to, a->bounce, a->page_bytes);
}

static int64_t pages_for(int64_t tokens)
{
	return (tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

/* Checks the options and finds the length of each run's table. */
static int plan(const struct arena *a, struct kv_options *o, int64_t ring[RUNS], struct err *e)
{
	const int64_t pages = (int64_t)a->pages;
	int64_t need;

	if (!o->policy.row || o->policy.sinks < 0 || o->policy.window < 1)
		return err_set(e, SINK_EINVAL,
			       "The cache needs a policy with 0 sinks or more and a window of 1 or more.");
	if (o->step < 1 || o->step > KV_STEP_MOST)
		return err_set(e, SINK_EINVAL, "A step of %zu tokens is not within 1 and %d.", o->step, KV_STEP_MOST);
	if (o->origin < 0 || o->origin > (INT64_C(1) << 52))
		return err_set(e, SINK_EINVAL, "A text cannot begin at position %lld.", (long long)o->origin);
	if (o->limit < 0)
		return err_set(e, SINK_EINVAL, "A limit of %lld tokens is below 0.", (long long)o->limit);
	memset(ring, 0, RUNS * sizeof(*ring));
	ring[RUN_PINNED] = pages_for(o->policy.sinks);
	if (policy_is_dense(&o->policy)) {
		o->limit = o->limit ? o->limit : pages * PAGE_TOKENS;
		ring[RUN_WINDOW] = o->limit > pages * PAGE_TOKENS ? pages + 1 : pages_for(o->limit);
	} else {
		/* The rows of a step see W - 1 + step tokens together, which begin and end inside a page. */
		ring[RUN_WINDOW] = pages_for(o->policy.window + (int64_t)o->step - 2) + 1;
	}
	need = ring[RUN_PINNED] + ring[RUN_WINDOW];
	if (need > pages)
		return err_set(e, SINK_EBUSY, "The cache of %lld tokens needs %lld pages; the budget holds %lld.",
			       (long long)(policy_is_dense(&o->policy) ? o->limit : policy_budget(&o->policy)),
			       (long long)need, (long long)pages);
	return 0;
}

static struct kv *kv_alloc(struct arena *a, const struct kv_options *o, const int64_t ring[RUNS], struct err *e)
{
	struct kv *kv = calloc(1, sizeof(*kv));
	bool whole = kv != NULL;

	for (int r = 0; whole && r < RUNS; r++) {
		size_t n = (size_t)ring[r];

		kv->runs[r].ring = ring[r];
		if (n == 0)
			continue;
		kv->runs[r].page = calloc(n, sizeof(*kv->runs[r].page));
		kv->runs[r].held = calloc(n, sizeof(*kv->runs[r].held));
		whole = kv->runs[r].page && kv->runs[r].held;
		kv->tables[r] = (struct page_table){ kv->runs[r].page, ring[r] };
	}
	if (whole) {
		kv->a = a;
		kv->o = *o;
		return kv;
	}
	err_set(e, SINK_ENOMEM, "Out of memory for the page tables of a cache.");
	for (int r = 0; kv && r < RUNS; r++) {
		free(kv->runs[r].page);
		free(kv->runs[r].held);
	}
	free(kv);
	return NULL;
}

int kv_new(struct arena *a, const struct kv_options *o, struct kv **ret, struct err *e)
{
	struct kv_options checked = *o;
	int64_t ring[RUNS];
	struct kv *kv;
	int r = plan(a, &checked, ring, e);

	if (r)
		return r;
	kv = kv_alloc(a, &checked, ring, e);
	if (!kv)
		return SINK_ENOMEM;
	*ret = kv;
	return 0;
}

/* Gives back the pages whose number is `from` or more. */
static void drop_from(struct kv *kv, int run, int64_t from)
{
	struct run_pages *p = &kv->runs[run];

	for (int64_t i = 0; i < p->ring; i++) {
		if (!p->page[i] || p->held[i] < from)
			continue;
		page_drop(kv->a, p->page[i]);
		p->page[i] = NULL;
	}
}

void kv_free(struct kv *kv)
{
	if (!kv)
		return;
	for (int r = 0; r < RUNS; r++) {
		drop_from(kv, r, 0);
		free(kv->runs[r].page);
		free(kv->runs[r].held);
	}
	free(kv);
}

int kv_fork(struct kv *kv, struct kv **ret, struct err *e)
{
	int64_t ring[RUNS];
	struct kv *fork;

	for (int r = 0; r < RUNS; r++)
		ring[r] = kv->runs[r].ring;
	fork = kv_alloc(kv->a, &kv->o, ring, e);
	if (!fork)
		return SINK_ENOMEM;
	fork->tokens = kv->tokens;
	for (int r = 0; r < RUNS; r++)
		for (int64_t i = 0; i < ring[r]; i++) {
			fork->runs[r].page[i] = kv->runs[r].page[i];
			fork->runs[r].held[i] = kv->runs[r].held[i];
			if (kv->runs[r].page[i])
				++*page_refs(kv->a, kv->runs[r].page[i]);
		}
	*ret = fork;
	return 0;
}

static bool holds(const struct run_pages *p, int64_t number)
{
	return p->page[number % p->ring] && p->held[number % p->ring] == number;
}

int kv_rewind(struct kv *kv, int64_t count, struct err *e)
{
	struct view v;

	if (count < 0 || count > kv->tokens)
		return err_set(e, SINK_EINVAL, "The cache has read %lld tokens; it cannot go back to %lld.",
			       (long long)kv->tokens, (long long)count);
	if (count > 0) {
		policy_view(&kv->o.policy, &no_marks, count - 1, &v);
		for (int64_t p = v.window / PAGE_TOKENS; v.window_count && p <= (count - 1) / PAGE_TOKENS; p++)
			if (!holds(&kv->runs[RUN_WINDOW], p))
				return err_set(e, SINK_EGONE, "What token %lld saw has left the cache.",
					       (long long)count - 1);
	}
	for (int r = 0; r < RUNS; r++)
		drop_from(kv, r, pages_for(count));
	kv->tokens = count;
	return 0;
}

void kv_info(const struct kv *kv, struct kv_info *ret)
{
	struct view v = { 0 };

	if (kv->tokens)
		policy_view(&kv->o.policy, &no_marks, kv->tokens - 1, &v);
	*ret = (struct kv_info){ .tokens = kv->tokens,
				 .pinned = v.pinned,
				 .kept = v.kept_count,
				 .window = v.window_count,
				 .evicted = v.window - v.pinned - v.kept_count,
				 .evicted_end = v.window };
	for (int r = 0; r < RUNS; r++)
		for (int64_t i = 0; i < kv->runs[r].ring; i++)
			ret->pages += kv->runs[r].page[i] != NULL;
	ret->bytes = ret->pages * kv->a->page_bytes;
}

const struct policy *kv_policy(const struct kv *kv)
{
	return &kv->o.policy;
}

size_t kv_room(const struct kv *kv)
{
	int64_t left = policy_is_dense(&kv->o.policy) ? kv->o.limit - kv->tokens : INT64_MAX - kv->tokens;

	return left < (int64_t)kv->o.step ? (size_t)left : kv->o.step;
}

/* The run that token t is written to; its slot there is t in both. */
static int run_of(const struct view *v, int64_t t)
{
	return t < v->pinned ? RUN_PINNED : RUN_WINDOW;
}

/* Whether page `number` of a run must be taken from the arena before it can be written. */
static bool wants_page(const struct kv *kv, int run, int64_t number)
{
	const struct run_pages *p = &kv->runs[run];
	const void *page = p->page[number % p->ring];

	return !page || *page_refs(kv->a, page) > 1;
}

/* Makes page `number` of a run this cache's own, with the rows that it holds already. */
static void own_page(struct kv *kv, int run, int64_t number)
{
	struct run_pages *p = &kv->runs[run];
	int64_t i = number % p->ring;
	void *shared;

	if (wants_page(kv, run, number)) {
		shared = p->page[i];
		p->page[i] = page_take(kv->a);
		if (shared && p->held[i] == number)
			page_copy(kv->a, p->page[i], shared);
		if (shared)
			page_drop(kv->a, shared);
	}
	p->held[i] = number;
}

/* The first token after t whose row lies in another page. */
static int64_t next_page(const struct kv *kv, int64_t t, int *run)
{
	int64_t next = (t / PAGE_TOKENS + 1) * PAGE_TOKENS;
	struct view v;

	policy_view(&kv->o.policy, &no_marks, t, &v);
	*run = run_of(&v, t);
	return *run == RUN_PINNED && kv->o.policy.sinks < next ? kv->o.policy.sinks : next;
}

int kv_reserve(struct kv *kv, size_t count, struct err *e)
{
	const int64_t end = kv->tokens + (int64_t)count;
	size_t need = 0;
	int run;

	assert(count <= kv_room(kv));
	for (int64_t t = kv->tokens, next; t < end; t = next) {
		next = next_page(kv, t, &run);
		need += wants_page(kv, run, t / PAGE_TOKENS);
	}
	if (need > arena_pages_free(kv->a))
		return err_set(e, SINK_EBUSY, "The cache has no page left: all %zu are in use.", kv->a->pages);
	for (int64_t t = kv->tokens, next; t < end; t = next) {
		next = next_page(kv, t, &run);
		own_page(kv, run, t / PAGE_TOKENS);
	}
	return 0;
}

void kv_row(const struct kv *kv, size_t i, struct row *row, int64_t key_at[2], int64_t query_at[RUNS])
{
	const int64_t t = kv->tokens + (int64_t)i;
	struct view v;
	int run;

	policy_view(&kv->o.policy, &no_marks, t, &v);
	run = run_of(&v, t);
	memset(row, 0, sizeof(*row));
	row->tables = kv->tables;
	row->sees[RUN_PINNED].count = v.pinned;
	row->sees[RUN_WINDOW].first = v.window;
	row->sees[RUN_WINDOW].count = v.window_count;
	row->goes[0].run = run;
	row->goes[0].slot = t;
	row->goes[1].run = -1;
	key_at[0] = run == RUN_PINNED ? t : t + kv->o.origin;
	key_at[1] = 0;
	query_at[RUN_PINNED] = kv->o.positions == POSITIONS_CACHE ? view_size(&v) - 1 : t;
	query_at[RUN_KEPT] = 0;
	query_at[RUN_WINDOW] = t + kv->o.origin;
}

void kv_commit(struct kv *kv, size_t count)
{
	kv->tokens += (int64_t)count;
}
