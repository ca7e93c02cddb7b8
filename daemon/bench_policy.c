/*
 * The verbs that set policies side by side: compare, all of them at the same budgets, and sinks, one with several
 * numbers of sinks. A text is read in chunks, which changes no result (DESIGN, section 4); only what is timed is read
 * token by token, as in decoding.
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "measured.h"
#include "sample.h"

/* Predictions that compare makes by recomputation, unless --every says otherwise, and longest list of policies. */
enum { SAMPLE = 64, POLICIES = 16 };

/* One policy at one budget. */
struct line {
	struct policy policy;
	int64_t budget;
	size_t count; /* predictions that the text has for it */
	double *nll;  /* [count]; NaN for those that were not made */
	double *ms;   /* [timed] */
	size_t timed;
	int64_t cache_bytes;
};

struct contest {
	const struct bench *o;
	struct model *m;
	struct tokens text;
	size_t count; /* predictions */
};

static int contest_open(struct contest *c, struct err *e)
{
	int r = bench_open(c->o, (size_t)c->o->chunk, (size_t)c->o->chunk, false, &c->m, e);

	if (!r)
		r = bench_text(c->o, c->m, &c->text, e);
	if (!r)
		c->count = (size_t)c->o->tokens < c->text.count - 1 ? (size_t)c->o->tokens : c->text.count - 1;
	return r;
}

static void contest_close(struct contest *c)
{
	tokens_release(&c->text);
	model_close(c->m);
}

static void line_release(struct line *l)
{
	free(l->nll);
	free(l->ms);
	*l = (struct line){ 0 };
}

/* Reads the text up to `end` in chunks and notes each prediction. */
static int read_chunks(const struct contest *c, struct line *l, struct kv *kv, size_t end, struct err *e)
{
	const size_t vocab = (size_t)model_info(c->m)->vocab, chunk = (size_t)c->o->chunk;
	int r = 0;

	for (size_t at = 0, n; !r && at < end; at += n) {
		n = end - at < chunk ? end - at : chunk;
		r = bench_step(c->m, kv, c->text.id + at, n, LOGITS_ALL, e);
		for (size_t i = 0; !r && i < n; i++)
			l->nll[at + i] = -logits_logprob(model_logits(c->m, i), vocab, c->text.id[at + i + 1]);
	}
	return r;
}

/* The prediction from token t, and how long it took. */
static int time_one(const struct contest *c, struct line *l, struct kv *kv, size_t t, struct err *e)
{
	double begin = bench_seconds();
	int r = bench_predict(c->m, kv, c->text.id, (int64_t)t, (size_t)c->o->chunk, &l->nll[t], e);

	l->ms[l->timed++] = (bench_seconds() - begin) * 1000;
	return r;
}

/* Recomputation, for a sample of the tokens at which the window is full; all of a text that does not fill it. */
static int read_anew(const struct contest *c, struct line *l, struct kv *kv, struct err *e)
{
	const size_t full = (size_t)l->policy.window;
	size_t every = (size_t)c->o->every, from = full <= l->count ? full - 1 : 0;
	int r = 0;

	if (every == 0 || from == 0)
		every = from == 0 || l->count - from < SAMPLE ? 1 : (l->count - from) / SAMPLE;
	for (size_t t = from; !r && t < l->count; t += every)
		r = time_one(c, l, kv, t, e);
	return r;
}

static int run_line(const struct contest *c, struct line *l, struct err *e)
{
	const size_t timed = (size_t)c->o->timed;
	size_t end = l->count > timed ? l->count - timed : 0;
	struct kv_info info;
	struct kv *kv = NULL;
	int r = bench_numbers(l->count, &l->nll, e);

	if (!r)
		r = bench_numbers(l->count, &l->ms, e);
	if (!r)
		r = bench_cache(c->o, &l->policy, c->m, (size_t)c->o->chunk, (int64_t)l->count, &kv, e);
	if (!r && policy_begins_anew(&l->policy)) {
		r = read_anew(c, l, kv, e);
	} else if (!r) {
		r = read_chunks(c, l, kv, end, e);
		for (size_t t = end; !r && t < l->count; t++)
			r = time_one(c, l, kv, t, e);
	}
	if (!r) {
		kv_info(kv, &info);
		l->cache_bytes = (int64_t)info.bytes;
	}
	kv_free(kv);
	return r;
}

/* Mean over a stretch of the predictions that were made; NaN when there is none. */
static double mean_nll(const struct line *l, size_t from, size_t to)
{
	double sum = 0;
	size_t n = 0;

	for (size_t i = from; i < to; i++)
		if (!isnan(l->nll[i])) {
			sum += l->nll[i];
			n++;
		}
	return n ? sum / (double)n : NAN;
}

/* The middle of the predictions that were made, as a place in the text. */
static size_t middle(const struct line *l, size_t *made)
{
	size_t n = 0, half = 0;

	for (size_t i = 0; i < l->count; i++)
		n += !isnan(l->nll[i]);
	*made = n;
	for (size_t seen = 0; half < l->count && seen < n / 2; half++)
		seen += !isnan(l->nll[half]);
	return half;
}

/* How much worse `l` predicts than `base` where both did, in nats a token, and the standard error of that mean. */
static void paired(const struct line *l, const struct line *base, double *mean, double *error)
{
	double sum = 0, squares = 0;
	size_t n = 0;

	for (size_t i = 0; i < l->count && i < base->count; i++) {
		double d = l->nll[i] - base->nll[i];

		if (isnan(d))
			continue;
		sum += d;
		squares += d * d;
		n++;
	}
	*mean = n > 1 ? sum / (double)n : NAN;
	*error = n > 1 ? sqrt((squares - sum * sum / (double)n) / (double)(n - 1) / (double)n) : NAN;
}

static void report_line(struct report *r, const struct line *l, const struct line *base)
{
	double median = bench_quantile(l->ms, l->timed, 0.5), difference = NAN, error = NAN;
	char setting[POLICY_TEXT];
	size_t made, half = middle(l, &made);

	policy_format(&l->policy, setting, sizeof(setting));
	if (base && base != l)
		paired(l, base, &difference, &error);
	report_row(r);
	report_text(r, "policy", policy_name(&l->policy));
	report_text(r, "setting", setting);
	report_count(r, "budget", l->budget);
	report_count(r, "tokens", (int64_t)made);
	report_number(r, "ppl", 4, exp(mean_nll(l, 0, l->count)));
	report_number(r, "ppl_second_half", 4, exp(mean_nll(l, half, l->count)));
	report_number(r, "vs_recompute", 4, difference);
	report_number(r, "vs_recompute_se", 4, error);
	report_count(r, "timed", (int64_t)l->timed);
	report_number(r, "mean_ms", 3, bench_mean(l->ms, l->timed));
	report_number(r, "median_ms", 3, median);
	report_number(r, "p99_ms", 3, bench_quantile(l->ms, l->timed, 0.99));
	report_number(r, "max_ms", 3, bench_quantile(l->ms, l->timed, 1));
	report_count(r, "cache_bytes", l->cache_bytes);
	report_number(r, "speedup", 2, base ? bench_quantile(base->ms, base->timed, 0.5) / median : NAN);
}

/* The policies of --policies at one budget, in their order. */
static int choose_lines(const struct bench *o, int64_t budget, size_t count, struct line *line, size_t *n,
			struct err *e)
{
	size_t len;
	int r = 0;

	*n = 0;
	for (const char *at = o->policies + strspn(o->policies, ","); !r && *at; at += len + strspn(at + len, ",")) {
		struct line *l = &line[*n];
		char name[32];

		len = strcspn(at, ",");
		snprintf(name, sizeof(name), "%.*s", len < sizeof(name) ? (int)len : (int)sizeof(name), at);
		if (*n == POLICIES)
			return err_set(e, SINK_EINVAL, "--policies takes at most %d names.", POLICIES);
		r = policy_at_budget(name, budget, o->sinks, o->separators, &l->policy, e);
		l->budget = budget;
		l->count = count;
		if (!r && l->policy.window == INT32_MAX && budget < (int64_t)count)
			l->count = (size_t)budget; /* dense: its budget's end is the text's */
		++*n;
	}
	if (!r && *n == 0)
		r = err_set(e, SINK_EINVAL, "--policies names none.");
	return r;
}

static int run_budget(const struct contest *c, int64_t budget, struct report *report, struct err *e)
{
	struct line line[POLICIES] = { 0 };
	const struct line *base = NULL;
	size_t n;
	int r = choose_lines(c->o, budget, c->count, line, &n, e);

	for (size_t i = 0; !r && i < n; i++) {
		r = run_line(c, &line[i], e);
		if (policy_begins_anew(&line[i].policy))
			base = &line[i];
	}
	for (size_t i = 0; !r && i < n; i++)
		report_line(report, &line[i], base);
	fflush(stdout);
	for (size_t i = 0; i < n; i++)
		line_release(&line[i]);
	return r;
}

/* Dense attention over the whole text, whatever that takes: what the others save. */
static int run_dense(const struct contest *c, struct report *report, struct err *e)
{
	struct line l = { .budget = (int64_t)c->count, .count = c->count };
	int r = policy_at_budget("dense", 1, 0, 0, &l.policy, e);

	if (!r)
		r = run_line(c, &l, e);
	if (!r)
		report_line(report, &l, NULL);
	line_release(&l);
	return r;
}

/* Wrong lists are told of before anything is loaded, and notes before anything is run. */
static int check_lines(const struct bench *o, bool *anchors, struct err *e)
{
	struct line line[POLICIES] = { 0 };
	size_t n = 0;
	int r = 0;

	*anchors = false;
	for (size_t b = 0; !r && b < o->budget.count; b++)
		r = choose_lines(o, o->budget.at[b], SIZE_MAX, line, &n, e);
	for (size_t i = 0; i < n; i++)
		*anchors |= line[i].policy.row && policy_marking(&line[i].policy) == MARKING_ANCHORS;
	return r;
}

static void report_head(struct report *r, const struct contest *c, const char *note)
{
	report_begin(r, c->o->json);
	bench_report(c->o, c->m, r);
	report_count(r, "tokens", (int64_t)c->count);
	if (note)
		report_text(r, "note", note);
}

static int open_tsv(const char *path, FILE **ret, struct err *e)
{
	*ret = path ? fopen(path, "w") : NULL;
	if (path && !*ret)
		return err_set(e, SINK_EIO, "Writing \"%s\" failed: %s.", path, strerror(errno));
	return 0;
}

static int close_tsv(const char *path, FILE *f, struct err *e)
{
	bool bad = f && ferror(f);

	if ((f && fclose(f)) || bad)
		return err_set(e, SINK_EIO, "Writing \"%s\" failed: %s.", path, strerror(errno));
	return 0;
}

int bench_compare(const struct bench *o, struct err *e)
{
	struct contest c = { .o = o };
	struct report report;
	struct policy anchor;
	bool anchors;
	FILE *tsv = NULL;
	int r = check_lines(o, &anchors, e);

	if (!r)
		r = contest_open(&c, e);
	if (!r)
		r = open_tsv(o->tsv, &tsv, e);
	if (!r) {
		policy_parse("anchor:0,1,1", &anchor, NULL);
		report_head(&report, &c, anchors ? bench_note(c.m, &anchor) : NULL);
		report.tsv = tsv;
		for (size_t b = 0; !r && b < o->budget.count; b++)
			r = run_budget(&c, o->budget.at[b], &report, e);
		if (!r && strstr(o->policies, "dense"))
			r = run_dense(&c, &report, e);
		report_end(&report);
		if (close_tsv(o->tsv, tsv, r ? NULL : e))
			r = r ? r : SINK_EIO;
	}
	contest_close(&c);
	return r;
}

/* What is tried, and how much worse than the best the fewest may be. */
static const int32_t sinks_tried[] = { 0, 1, 2, 4, 8, 16 };

enum { TRIED = sizeof(sinks_tried) / sizeof(sinks_tried[0]) };

static const double as_good = 1.005;

/* Perplexities of all that were tried, over the whole text and over its second half. */
struct trial {
	double ppl[TRIED][2];
	double best;
	size_t fewest; /* the number in the table that is recommended */
};

static void judge(struct trial *t)
{
	t->best = INFINITY;
	t->fewest = 0;
	for (size_t i = 0; i < TRIED; i++)
		t->best = t->ppl[i][0] < t->best ? t->ppl[i][0] : t->best;
	while (t->fewest < TRIED - 1 && !(t->ppl[t->fewest][0] <= t->best * as_good))
		t->fewest++;
}

static void report_sinks(const struct contest *c, const struct trial *t, const char *saved)
{
	const double(*ppl)[2] = t->ppl;
	struct report r;

	report_head(&r, c, NULL);
	report_count(&r, "budget", c->o->budget.at[0]);
	report_number(&r, "margin", 3, as_good - 1);
	report_count(&r, "recommended", sinks_tried[t->fewest]);
	if (saved)
		report_text(&r, "saved", saved);
	for (size_t i = 0; i < TRIED; i++) {
		report_row(&r);
		report_count(&r, "sinks", sinks_tried[i]);
		report_number(&r, "ppl", 4, ppl[i][0]);
		report_number(&r, "ppl_second_half", 4, ppl[i][1]);
		report_number(&r, "over_best", 4, ppl[i][0] / t->best);
	}
	report_end(&r);
}

/* Found out before minutes are spent: whether there is a place for the file, and whether the text can say anything. */
static int check_saving(const struct contest *c, char *path, struct err *e)
{
	const long long budget = c->o->budget.at[0];
	char folder[MEASURED_PATH];
	int r = measured_path(c->o->model, path, e);

	if (r)
		return r;
	snprintf(folder, sizeof(folder), "%s", path);
	*strrchr(folder, '/') = '\0';
	if (access(*folder ? folder : "/", W_OK))
		return err_set(e, SINK_EIO,
			       "%s/ cannot be written (%s): measure without --save, and put what is recommended into "
			       "sinkd.conf, as policy = sink:S,W.",
			       folder, strerror(errno));
	if ((long long)c->count < 2 * budget)
		return err_set(e, SINK_EINVAL,
			       "%zu tokens hardly leave a budget of %lld, so they do not tell what sinks are worth: at "
			       "least %lld are needed.",
			       c->count, budget, 2 * budget);
	return 0;
}

static int save(const struct contest *c, const struct trial *t, const char *path, struct err *e)
{
	const struct measured m = { .fingerprint = model_fingerprint(c->m),
				    .sinks = sinks_tried[t->fewest],
				    .token = (int32_t)c->o->sink_token };
	char how[256];

	if (!isfinite(t->best))
		return err_set(e, SINK_EIO, "Nothing is saved: this model foretells nothing that can be compared.");
	snprintf(
		how, sizeof(how),
		"Perplexity %.4f with %d; %.4f at best, and within %.1f %% of that is as good: %zu tokens, budget %lld",
		t->ppl[t->fewest][0], sinks_tried[t->fewest], t->best, (as_good - 1) * 100, c->count,
		(long long)c->o->budget.at[0]);
	return measured_write(path, &m, how, e);
}

int bench_sinks(const struct bench *o, struct err *e)
{
	struct contest c = { .o = o };
	char path[MEASURED_PATH];
	struct trial t;
	struct line l = { 0 };
	struct kv *kv = NULL;
	int r = policy_at_budget("sink", o->budget.at[0], sinks_tried[TRIED - 1], 0, &l.policy, e);

	if (!r)
		r = contest_open(&c, e);
	if (!r)
		r = bench_numbers(c.count, &l.nll, e);
	if (!r && o->save)
		r = check_saving(&c, path, e);
	for (size_t i = 0; !r && i < TRIED; i++) {
		r = policy_at_budget("sink", o->budget.at[0], sinks_tried[i], 0, &l.policy, e);
		if (!r)
			r = bench_cache(o, &l.policy, c.m, (size_t)o->chunk, 0, &kv, e);
		if (!r)
			r = read_chunks(&c, &l, kv, c.count, e);
		t.ppl[i][0] = exp(r ? 0 : mean_nll(&l, 0, c.count));
		t.ppl[i][1] = exp(r ? 0 : mean_nll(&l, c.count / 2, c.count));
		kv_free(kv);
		kv = NULL;
	}
	if (!r) {
		judge(&t);
		r = o->save ? save(&c, &t, path, e) : 0;
		report_sinks(&c, &t, o->save && !r ? path : NULL);
	}
	line_release(&l);
	contest_close(&c);
	return r;
}
