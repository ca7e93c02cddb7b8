/* The verbs about how fast the engine is: latency of each token while the cache rolls, and throughput. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#include "sample.h"

/* Most rows of a step when a prompt is read, and when the resident memory is looked at for the first time. */
enum { PROMPT_ROWS = 512, WARM_TOKENS = 2000 };

struct times {
	double *ms;
	size_t count;  /* timed tokens */
	size_t filled; /* tokens before them */
	int64_t resident_first, resident_last;
};

/* Makes the text as long as asked for: it begins again where it ends. */
static int repeat_text(struct tokens *t, size_t count, struct err *e)
{
	int r = 0;

	for (size_t i = 0; !r && t->count < count; i++)
		r = tokens_add(t, t->id[i], e);
	return r;
}

/* Fills the cache, then feeds one token after the other and notes how long each takes. */
static int time_tokens(struct model *m, struct kv *kv, const struct tokens *t, struct times *times, struct err *e)
{
	int r = bench_read_to(m, kv, t->id, (int64_t)times->filled, PROMPT_ROWS, e);

	times->resident_first = bench_resident_kib();
	for (size_t i = 0; !r && i < times->count; i++) {
		double begin = bench_seconds();

		r = bench_read_to(m, kv, t->id, (int64_t)(times->filled + i + 1), PROMPT_ROWS, e);
		times->ms[i] = (bench_seconds() - begin) * 1000;
		if (times->filled + i + 1 == WARM_TOKENS)
			times->resident_first = bench_resident_kib();
	}
	times->resident_last = bench_resident_kib();
	return r;
}

/* How many tokens took longer than `times` the median. */
static int64_t count_above(const struct times *t, double times)
{
	const double limit = bench_quantile(t->ms, t->count, 0.5) * times;
	int64_t n = 0;

	for (size_t i = 0; i < t->count; i++)
		n += t->ms[i] > limit;
	return n;
}

static void report_times(const struct bench *o, const struct model *m, const struct kv *kv, const struct times *t)
{
	const size_t tenth = t->count < 10 ? 1 : t->count / 10;
	struct kv_info info;
	char text[64];
	struct report r;

	kv_info(kv, &info);
	report_begin(&r, o->json);
	bench_report(o, m, &r);
	policy_format(&o->chosen, text, sizeof(text));
	report_text(&r, "policy", text);
	report_count(&r, "tokens", info.tokens);
	report_count(&r, "timed", (int64_t)t->count);
	report_number(&r, "median_ms", 4, bench_quantile(t->ms, t->count, 0.5));
	report_number(&r, "p99_ms", 4, bench_quantile(t->ms, t->count, 0.99));
	report_number(&r, "max_ms", 4, bench_quantile(t->ms, t->count, 1));
	report_number(&r, "p99_over_median", 3,
		      bench_quantile(t->ms, t->count, 0.99) / bench_quantile(t->ms, t->count, 0.5));
	report_count(&r, "above_1_5_medians", count_above(t, 1.5));
	report_count(&r, "above_2_medians", count_above(t, 2));
	report_number(&r, "first_tenth_ms", 4, bench_quantile(t->ms, tenth, 0.5));
	report_number(&r, "last_tenth_ms", 4, bench_quantile(t->ms + t->count - tenth, tenth, 0.5));
	report_count(&r, "resident_kib_first", t->resident_first);
	report_count(&r, "resident_kib_last", t->resident_last);
	report_count(&r, "cache_bytes", (int64_t)info.bytes);
	report_end(&r);
}

int bench_latency(const struct bench *o, struct err *e)
{
	struct tokens t = { 0 };
	struct times times = { 0 };
	struct model *m = NULL;
	struct kv *kv = NULL;
	int r = bench_open(o, PROMPT_ROWS, 1, false, &m, e);

	if (!r)
		r = bench_text(o, m, &t, e);
	if (!r) {
		const size_t tokens = o->tokens ? (size_t)o->tokens : t.count;

		times.filled = tokens > (size_t)policy_budget(&o->chosen) ? (size_t)policy_budget(&o->chosen) : 0;
		times.count = tokens - times.filled;
		r = repeat_text(&t, tokens, e);
	}
	if (!r) {
		r = bench_numbers(times.count, &times.ms, e);
	}
	if (!r)
		r = bench_cache(o, &o->chosen, m, PROMPT_ROWS, (int64_t)(times.filled + times.count), &kv, e);
	if (!r)
		r = time_tokens(m, kv, &t, &times, e);
	if (!r)
		report_times(o, m, kv, &times);
	free(times.ms);
	kv_free(kv);
	tokens_release(&t);
	model_close(m);
	return r;
}

/* Conversations that move together; `at` counts what all of them have read. */
struct crowd {
	struct model *m;
	struct kv **kv;
	struct slice *slice;
	size_t count;
	size_t rows;	/* of a prompt, in one step */
	int32_t *token; /* [rows], the same for each of them */
};

/* Reads `each` tokens into every cache: `rows` is the most that one step takes over all of them. */
static int crowd_read(struct crowd *c, struct kv **kv, size_t each, size_t rows, bool prompt, struct err *e)
{
	size_t *left = calloc(c->count, sizeof(*left));
	size_t todo = each * c->count;
	int r = 0;

	if (!left)
		return err_set(e, SINK_ENOMEM, "Out of memory for %zu conversations.", c->count);
	for (size_t i = 0; i < c->count; i++)
		left[i] = each;
	while (!r && todo) {
		size_t room = rows, slices = 0;

		for (size_t i = 0; i < c->count && room; i++) {
			size_t n = !prompt ? (left[i] > 0) : left[i] < room ? left[i] : room;
			bool last = n == left[i];

			if (n == 0)
				continue;
			c->slice[slices++] = (struct slice){ .kv = kv[i],
							     .token = c->token + left[i] % 7,
							     .count = n,
							     .logits = !prompt || last ? LOGITS_LAST : LOGITS_NONE };
			left[i] -= n;
			room -= n;
			todo -= n;
		}
		r = model_step(c->m, c->slice, slices, e);
		r = r < 0 ? r : 0;
		for (size_t i = 0; !r && i < slices; i++)
			if (c->slice[i].status)
				r = err_set(e, c->slice[i].status, "The cache is full.");
	}
	free(left);
	return r;
}

/* Times `repeat` runs of the same work from the same depth, each on forks of the conversations. */
static int crowd_time(struct crowd *c, size_t each, bool prompt, size_t repeat, double *per_s, struct err *e)
{
	const size_t rows = prompt ? c->rows : c->count;
	struct kv **fork = calloc(c->count, sizeof(struct kv *));
	int r = fork ? 0 : err_set(e, SINK_ENOMEM, "Out of memory for %zu conversations.", c->count);

	/* The first round only warms up: it is short, and does not count. */
	for (size_t k = 0; !r && k <= repeat; k++) {
		const size_t tokens = k == 0 && each > 16 ? 16 : each;
		double begin;

		for (size_t i = 0; !r && i < c->count; i++)
			r = kv_fork(c->kv[i], &fork[i], e);
		begin = bench_seconds();
		if (!r)
			r = crowd_read(c, fork, tokens, rows, prompt, e);
		if (k > 0)
			per_s[k - 1] = (double)(each * c->count) / (bench_seconds() - begin);
		for (size_t i = 0; i < c->count; i++) {
			kv_free(fork[i]);
			fork[i] = NULL;
		}
	}
	free(fork);
	return r;
}

static int crowd_new(struct crowd *c, const struct bench *o, int64_t longest, struct err *e)
{
	const uint64_t vocab = (uint64_t)model_info(c->m)->vocab;
	int r = 0;

	c->count = (size_t)o->batch;
	c->kv = calloc(c->count, sizeof(struct kv *));
	c->slice = calloc(c->count, sizeof(*c->slice));
	c->token = calloc(c->rows + 7, sizeof(*c->token));
	if (!c->kv || !c->slice || !c->token)
		return err_set(e, SINK_ENOMEM, "Out of memory for %zu conversations.", c->count);
	for (uint32_t i = 0; i < c->rows + 7; i++) {
		const uint32_t key[2] = { 0, 0 }, counter[4] = { i, 0, 0, 0 };
		uint32_t random[4];

		philox(key, counter, random);
		c->token[i] = (int32_t)(random[0] % vocab);
	}
	for (size_t i = 0; !r && i < c->count; i++)
		r = bench_cache(o, &o->chosen, c->m, c->rows, longest, &c->kv[i], e);
	return r ? r : crowd_read(c, c->kv, (size_t)o->depth, c->rows, true, e);
}

static void crowd_free(struct crowd *c)
{
	for (size_t i = 0; c->kv && i < c->count; i++)
		kv_free(c->kv[i]);
	free(c->kv);
	free(c->slice);
	free(c->token);
}

/* The two kinds of work; one that is given 0 tokens is left out. */
struct work {
	const char *name;
	int64_t tokens;
	bool prompt;
	double *per_s;
	struct demand demand;
};

static void report_work(const struct bench *o, const struct model *m, const struct work work[2],
			const struct limits *limits)
{
	const size_t repeat = (size_t)o->repeat;
	const struct work *last = work[1].tokens ? &work[1] : &work[0];
	struct report r;

	report_begin(&r, o->json);
	bench_report(o, m, &r);
	report_count(&r, "depth", o->depth);
	report_count(&r, "batch", o->batch);
	report_number(&r, "tokens_per_s", 3, bench_quantile(last->per_s, repeat, 0.5));
	report_limits(&r, limits);
	for (int i = 0; i < 2; i++) {
		if (!work[i].tokens)
			continue;
		report_row(&r);
		report_text(&r, "work", work[i].name);
		report_count(&r, "tokens", work[i].tokens);
		report_number(&r, "tokens_per_s", 3, bench_quantile(work[i].per_s, repeat, 0.5));
		report_bound(&r, limits, &work[i].demand, bench_quantile(work[i].per_s, repeat, 0.5));
		report_list(&r, "repeats", 3, work[i].per_s, repeat);
	}
	report_end(&r);
}

/* Both kinds of work, between two looks at what the machine gives at that time. */
static int time_work(struct crowd *c, const struct bench *o, struct work work[2], struct limits *limits, struct err *e)
{
	int r = bench_limits(o, c->m, limits, e);

	for (int i = 0; !r && i < 2; i++) {
		struct work *w = &work[i];

		r = bench_numbers((size_t)o->repeat, &w->per_s, e);
		if (r || !w->tokens)
			continue;
		w->demand = bench_demand(o, c->m, c->kv[0], w->tokens, w->prompt ? c->rows : 1);
		r = crowd_time(c, (size_t)w->tokens, w->prompt, (size_t)o->repeat, w->per_s, e);
	}
	return r ? r : bench_limits(o, c->m, limits, e);
}

int bench_throughput(const struct bench *o, struct err *e)
{
	const bool neither = !o->prompt && !o->decode;
	struct work work[2] = { { .name = "prompt", .tokens = neither ? 512 : o->prompt, .prompt = true },
				{ .name = "decode", .tokens = neither ? 128 : o->decode } };
	const size_t batch = (size_t)o->batch;
	const int64_t longest = o->depth + (work[0].tokens > work[1].tokens ? work[0].tokens : work[1].tokens);
	struct limits limits = { 0 };
	struct crowd c = { .rows = (size_t)o->chunk };
	int r = bench_open(o, batch > c.rows ? batch : c.rows, batch, false, &c.m, e);

	if (!r)
		r = crowd_new(&c, o, longest, e);
	if (!r)
		r = time_work(&c, o, work, &limits, e);
	if (!r)
		report_work(o, c.m, work, &limits);
	free(work[0].per_s);
	free(work[1].per_s);
	crowd_free(&c);
	model_close(c.m);
	return r;
}
