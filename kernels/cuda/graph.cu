/*
 * Owns the graphs of decoding: the operations of a step of few rows, captured once for each size and launched as one
 * from then on. All that changes from step to step lies in memory that the host describes (stage.cu), so nothing is
 * captured anew when a window rolls; sizes are rounded up, so that there are few of them.
 *
 * A size is run plainly the first time (libraries and scratch memory come up then), captured the second time, and
 * launched from its graph ever after.
 */
#include <stdlib.h>

#include "parts.h"

enum { GRAPHS_MOST = 64 };

struct key {
	size_t n, wanted;
	int32_t pages;
};

struct graph {
	struct key key;
	cudaGraphExec_t exec; /* NULL: seen, not captured */
	uint64_t used;
};

enum doing { PLAIN, CAPTURES, LAUNCHES };

struct graphs {
	struct graph graph[GRAPHS_MOST];
	size_t count;
	uint64_t steps, moved;
	struct graph *now;
	enum doing doing;
};

namespace CUDA_SPACE
{

int graphs_new(struct device *d, struct graphs **ret, struct err *e)
{
	(void)d;
	*ret = static_cast<struct graphs *>(calloc(1, sizeof(**ret)));
	return *ret ? 0 : err_set(e, SINK_ENOMEM, "There is no memory for graphs.");
}

static void drop(struct graph *g)
{
	if (g->exec)
		cudaGraphExecDestroy(g->exec);
	*g = {};
}

void graphs_free(struct graphs *g)
{
	for (size_t i = 0; g && i < g->count; i++)
		drop(&g->graph[i]);
	free(g);
}

/* Rows that go together: few sizes, and at most a third more than there are. */
static size_t bucket(size_t n)
{
	static const uint8_t sizes[] = { 0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64 };
	size_t i = 0;

	while (sizes[i] < n)
		i++;
	return sizes[i];
}

static bool same(const struct key *a, const struct key *b)
{
	return a->n == b->n && a->wanted == b->wanted && a->pages == b->pages;
}

/* The graph of this size; a new one takes the place of the one that was not used for longest. */
static struct graph *find(struct graphs *g, const struct key *k)
{
	struct graph *oldest = &g->graph[0];

	for (size_t i = 0; i < g->count; i++) {
		if (same(&g->graph[i].key, k))
			return &g->graph[i];
		oldest = g->graph[i].used < oldest->used ? &g->graph[i] : oldest;
	}
	if (g->count < GRAPHS_MOST)
		oldest = &g->graph[g->count++];
	else
		drop(oldest);
	oldest->key = *k;
	return oldest;
}

static void forget_all(struct graphs *g)
{
	for (size_t i = 0; i < g->count; i++)
		drop(&g->graph[i]);
	g->count = 0;
}

void graphs_begin(struct device *d, const struct step *s, size_t *n, size_t *wanted)
{
	struct graphs *g = d->graphs;
	bool known;

	g->now = NULL;
	g->doing = PLAIN;
	*n = s->n;
	*wanted = s->wanted;
	if (s->n > STAGE_FEW || bucket(s->n) > d->o.max_rows || bucket(s->wanted) > d->o.max_logits) {
		staging_begin(d, s, *n, *wanted);
		return;
	}
	*n = bucket(s->n);
	*wanted = bucket(s->wanted);
	staging_begin(d, s, *n, *wanted);
	if (g->moved != staging_moved(d))
		forget_all(g);
	g->moved = staging_moved(d);

	const struct key k = { *n, *wanted, staging_pages_most(d) };

	g->now = find(g, &k);
	known = g->now->used > 0;
	g->now->used = ++g->steps;
	if (d->failed.code || !known)
		return;
	g->doing = g->now->exec ? LAUNCHES : CAPTURES;
	if (g->doing == LAUNCHES)
		*n = 0;
	else if (ok(d, cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeRelaxed), "capturing a step"))
		staging_keep(d, true);
}

static void capture_ends(struct device *d, struct graph *g)
{
	cudaGraph_t captured = NULL;

	staging_keep(d, false);
	if (!ok(d, cudaStreamEndCapture(d->stream, &captured), "capturing a step"))
		return;
	ok(d, cudaGraphInstantiate(&g->exec, captured, 0), "making a graph of a step");
	cudaGraphDestroy(captured);
}

void graphs_end(struct device *d)
{
	struct graphs *g = d->graphs;

	if (g->doing == CAPTURES)
		capture_ends(d, g->now);
	if (g->doing != PLAIN && !d->failed.code)
		ok(d, cudaGraphLaunch(g->now->exec, d->stream), "launching a step");
}

} // namespace CUDA_SPACE
