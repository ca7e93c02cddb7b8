/*
 * Owns the order of the runners and the size of the chunks. Round-robin: whoever was served goes to the end. A chunk is
 * shared evenly among the readers, but in pieces of at least PIECE rows: many thin pieces would cost each of them more
 * than waiting for a turn.
 */
#include "sched.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE = 16, CHUNK_FIRST = 64 };

static const double gain_least = 1.03; /* what drafts must promise to be used: estimates are no better than that */

void sched_init(struct sched *s, size_t max_rows, size_t max_logits, double gap)
{
	memset(s, 0, sizeof(*s));
	TAILQ_INIT(&s->runners);
	s->max_rows = max_rows;
	s->max_logits = max_logits;
	s->gap = gap;
	s->chunk = CHUNK_FIRST;
	s->drafts = DRAFTS_AUTO;
}

void sched_add(struct sched *s, struct runner *r)
{
	if (r->listed)
		return;
	TAILQ_INSERT_TAIL(&s->runners, r, link);
	r->listed = true;
	s->count++;
}

void sched_remove(struct sched *s, struct runner *r)
{
	if (!r->listed)
		return;
	TAILQ_REMOVE(&s->runners, r, link);
	r->listed = false;
	s->count--;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* What is left of a step while it is being planned. */
struct plan {
	struct runner **chosen;
	size_t count, most;
	size_t rows, logits;
};

static bool plan_is_full(const struct plan *p)
{
	return p->count == p->most || !p->rows;
}

static void plan_take(struct plan *p, struct runner *r, size_t take, size_t logits)
{
	r->take = take;
	p->chosen[p->count++] = r;
	p->rows -= take;
	p->logits -= logits;
}

static size_t plan_streams(struct sched *s, struct plan *p)
{
	struct runner *r;

	TAILQ_FOREACH(r, &s->runners, link)
	if (r->streams && r->waiting == 1 && r->room > 0 && !plan_is_full(p) && p->logits)
		plan_take(p, r, 1, 1);
	return p->count;
}

static bool reads(const struct runner *r)
{
	return r->waiting > 0 && r->room > 0 && !(r->streams && r->waiting == 1);
}

static size_t count_readers(const struct sched *s)
{
	const struct runner *r;
	size_t readers = 0;

	TAILQ_FOREACH(r, &s->runners, link)
	readers += reads(r);
	return readers;
}

/*
 * The time of a step in which the streams have `drafts` rows more; 0: not known. With prompts it takes as long as it
 * may in any case, and each draft takes a row from them, which has to be made up for.
 */
static double time_with(const struct sched *s, size_t streams, size_t drafts, bool prompts)
{
	if (prompts)
		return s->row_ms > 0 ? s->gap + (double)drafts * s->row_ms : 0;
	return pace_of(&s->pace, streams + drafts);
}

/* How long it may take by that: a stream that is alone delays nobody else, and prompts give rows away. */
static double time_most(const struct sched *s, size_t streams, bool prompts)
{
	double alone = time_with(s, streams, 0, prompts);

	if (prompts || streams > 1)
		return prompts ? 2 * s->gap : s->gap;
	return READ_GAPS * s->gap > 2 * alone ? READ_GAPS * s->gap : 2 * alone;
}

/* The stream whose next draft is the likeliest to count; NULL: there is no draft left. */
static struct runner *likeliest(const struct plan *p, size_t streams, double *chance)
{
	struct runner *best = NULL;

	*chance = 0;
	for (size_t i = 0; i < streams; i++) {
		struct runner *r = p->chosen[i];
		double c = 1;

		for (size_t k = 0; k < r->take && k < r->drafts; k++)
			c *= r->chance[k];
		if (r->take <= r->drafts && c > *chance) {
			*chance = c;
			best = r;
		}
	}
	return best;
}

/* Gives the streams chosen so far the drafts that pay; returns how many rows that is. */
static size_t plan_drafts(const struct sched *s, struct plan *p, size_t streams, bool prompts)
{
	const double alone = time_with(s, streams, 0, prompts), most_ms = time_most(s, streams, prompts);
	const size_t spare = s->max_logits / 4; /* of logits, for those who read; and half of the rows */
	const size_t rows = prompts ? p->rows / 2 : p->rows;
	size_t most = p->logits > spare ? smaller(rows, p->logits - spare) : 0, drafts = 0, count = 0;
	double tokens = (double)streams, best = alone > 0 ? gain_least * tokens / alone : 0, chance;
	struct runner *order[SCHED_DRAFTS], *r;

	if (s->drafts == 0)
		return 0;
	for (most = smaller(most, SCHED_DRAFTS); count < most && (r = likeliest(p, streams, &chance)); count++) {
		double ms = time_with(s, streams, count + 1, prompts);

		if (s->drafts == DRAFTS_AUTO && (ms <= 0 || ms > most_ms))
			break;
		order[count] = r;
		r->take++;
		tokens += chance;
		if (s->drafts != DRAFTS_AUTO || tokens / ms > best) {
			best = s->drafts == DRAFTS_AUTO ? tokens / ms : best;
			drafts = count + 1;
		}
	}
	while (count > drafts)
		order[--count]->take--;
	p->rows -= drafts;
	p->logits -= drafts;
	return drafts;
}

/* Rows that prompts may have in this step. */
static size_t chunk_rows(const struct sched *s, size_t streams, size_t taken)
{
	double ms = streams ? s->gap : READ_GAPS * s->gap;
	double rows = s->row_ms > 0 ? ms / s->row_ms - (double)taken : streams ? PIECE : CHUNK_FIRST;

	if (rows > (double)(2 * s->chunk))
		rows = (double)(2 * s->chunk); /* the estimate may be of a small step: grow with caution */
	return rows < 1 ? 1 : smaller((size_t)rows, s->max_rows);
}

static void plan_prompts(struct sched *s, struct plan *p, size_t chunk)
{
	size_t readers = count_readers(s), share;
	struct runner *r;

	if (!readers)
		return;
	share = chunk / readers > PIECE ? chunk / readers : PIECE;
	TAILQ_FOREACH(r, &s->runners, link)
	{
		size_t take = smaller(smaller(share, chunk), p->rows), logits = 0;

		if (!reads(r) || !take || plan_is_full(p))
			continue;
		take = smaller(take, smaller((size_t)r->waiting, (size_t)r->room));
		if (r->wants == ROWS_ALL)
			logits = take = smaller(take, p->logits);
		else if (r->wants == ROWS_LAST && take == (size_t)r->waiting)
			logits = 1;
		if (!take || logits > p->logits)
			continue;
		plan_take(p, r, take, logits);
		chunk -= take;
		readers--;
		if (readers && chunk / readers > share)
			share = chunk / readers; /* what a short prompt leaves goes to the others */
	}
}

size_t sched_plan(struct sched *s, struct runner **chosen, size_t most)
{
	struct plan p = { chosen, 0, most, s->max_rows, s->max_logits };
	size_t streams = plan_streams(s, &p), drafts = plan_drafts(s, &p, streams, count_readers(s) > 0);

	s->granted = chunk_rows(s, streams, streams + drafts);
	plan_prompts(s, &p, s->granted);
	for (size_t i = 0; i < p.count; i++) {
		TAILQ_REMOVE(&s->runners, chosen[i], link);
		TAILQ_INSERT_TAIL(&s->runners, chosen[i], link);
	}
	return p.count;
}

static size_t bucket_of(double ms)
{
	double below = 0x1p-4;
	size_t i = 0;

	for (; ms >= below && i + 1 < SCHED_BUCKETS; i++)
		below *= 2;
	return i;
}

/*
 * The time of a row is that of the whole step divided by its rows, so that what a step costs in any case is in it: the
 * chunk settles where the step takes as long as it may. One slow step (another program's) must not shrink it for long.
 */
void sched_learn(struct sched *s, size_t rows, size_t prompts, double ms)
{
	double row_ms = ms / (double)rows;

	s->step_ms[s->steps++ % SCHED_STEPS] = (float)ms;
	s->sum_ms += ms;
	s->bucket[bucket_of(ms)]++;
	if (!prompts) {
		pace_learn(&s->pace, rows, ms);
		return;
	}
	if (s->row_ms <= 0) {
		s->row_ms = row_ms;
	} else {
		if (row_ms > 2 * s->row_ms)
			row_ms = 2 * s->row_ms;
		/* A last chunk of a few rows says little about the next one. */
		s->row_ms += (row_ms - s->row_ms) * (2 * prompts >= s->granted ? 0.3 : 0.05);
	}
	if (prompts > s->chunk)
		s->chunk = prompts;
}

static int by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

void sched_times(const struct sched *s, struct sched_times *ret)
{
	size_t n = smaller((size_t)s->steps, SCHED_STEPS);
	float sorted[SCHED_STEPS];

	memset(ret, 0, sizeof(*ret));
	if (!n)
		return;
	memcpy(sorted, s->step_ms, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), by_size);
	ret->median = (double)sorted[n / 2];
	ret->p99 = (double)sorted[(n * 99 - 1) / 100];
	ret->max = (double)sorted[n - 1];
}
