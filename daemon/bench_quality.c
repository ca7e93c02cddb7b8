/* The verbs about what the engine computes: perplexity and tokenize. */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sample.h"

/* After so many tokens the resident memory is looked at for the first time. */
enum { WARM_TOKENS = 2000 };

/* What a run over a text found. */
struct scores {
	double *nll; /* of token i + 1, one number a prediction; NaN where none was asked for */
	double *ms;  /* that the token took when it was read alone, else NaN; NULL: nothing is timed */
	size_t count;
	size_t full; /* tokens after which the budget is full, at most count */
	double seconds;
	int64_t resident_first, resident_last;
	int64_t *resident; /* after each `by` tokens */
	uint64_t checksum; /* over the bits of all logits, row by row */
};

/* Whether the prediction made from token t is of the sample: each --every-th, from the one that fills the budget. */
static bool sampled(const struct bench *o, const struct scores *s, size_t t)
{
	return o->every == 1 || (t + 1 >= s->full && (t + 1 - s->full) % (size_t)o->every == 0);
}

/* Whether token t is read alone and timed: the first --timed tokens after the budget is full, and the last ones. */
static bool timed(const struct bench *o, const struct scores *s, size_t t)
{
	const size_t n = (size_t)o->timed;

	return n && t >= s->full && (t < s->full + n || t + n >= s->count);
}

/* Tokens from `at` on that are read in one step: a chunk, ended where timing begins or ends, and where a row does. */
static size_t stretch(const struct bench *o, const struct scores *s, size_t at)
{
	size_t n = s->count - at < (size_t)o->chunk ? s->count - at : (size_t)o->chunk;
	const size_t by = (size_t)o->by;

	if (timed(o, s, at))
		return 1;
	for (size_t i = 1; o->timed && i < n; i++)
		if (timed(o, s, at + i))
			n = i;
	if (by && at / by != (at + n - 1) / by)
		n = by - at % by;
	return n;
}

static void look_at_memory(const struct bench *o, struct scores *s, size_t at, size_t end)
{
	if (at < WARM_TOKENS && (end >= WARM_TOKENS || end == s->count))
		s->resident_first = bench_resident_kib();
	if (!o->by || (end % (size_t)o->by && end != s->count))
		return;
	s->resident[(end - 1) / (size_t)o->by] = bench_resident_kib();
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%zu of %zu tokens%s", end, s->count, end == s->count ? "\n" : "");
}

/* Reads tokens in chunks and notes how well each foretells the next one. */
static int score_chunks(const struct bench *o, struct model *m, struct kv *kv, const int32_t *id, struct scores *s,
			struct err *e)
{
	const size_t vocab = (size_t)model_info(m)->vocab;
	int r = 0;

	for (size_t at = 0, n; !r && at < s->count; at += n) {
		double begin = bench_seconds();

		n = stretch(o, s, at);
		r = bench_step(m, kv, id + at, n, LOGITS_ALL, e);
		if (timed(o, s, at))
			s->ms[at] = (bench_seconds() - begin) * 1000;
		for (size_t i = 0; !r && i < n; i++) {
			if (sampled(o, s, at + i))
				s->nll[at + i] = -logits_logprob(model_logits(m, i), vocab, id[at + i + 1]);
			s->checksum = logits_checksum(model_logits(m, i), vocab, s->checksum);
		}
		look_at_memory(o, s, at, at + n);
	}
	return r;
}

/* Each prediction of the sample by itself, as a policy that begins anew for each of them makes it. */
static int score_anew(const struct bench *o, struct model *m, struct kv *kv, const int32_t *id, struct scores *s,
		      struct err *e)
{
	int r = 0;

	for (size_t t = 0; !r && t < s->count; t++) {
		double begin = bench_seconds();

		if (sampled(o, s, t)) {
			r = bench_predict(m, kv, id, (int64_t)t, (size_t)o->chunk, &s->nll[t], e);
			if (timed(o, s, t))
				s->ms[t] = (bench_seconds() - begin) * 1000;
			s->checksum = logits_checksum(model_logits(m, 0), (size_t)model_info(m)->vocab, s->checksum);
		}
		look_at_memory(o, s, t, t + 1);
	}
	return r;
}

static int score_text(const struct bench *o, struct model *m, struct kv *kv, const int32_t *id, struct scores *s,
		      struct err *e)
{
	double begin = bench_seconds();
	int r = (policy_begins_anew(&o->chosen) ? score_anew : score_chunks)(o, m, kv, id, s, e);

	s->resident_last = bench_resident_kib();
	s->seconds = bench_seconds() - begin;
	return r;
}

/* One number a line; of a sample, the token's number before it. */
static int write_scores(const struct bench *o, const struct scores *s, struct err *e)
{
	FILE *f = fopen(o->nll_file, "w");
	bool bad = !f;

	for (size_t i = 0; f && i < s->count; i++) {
		if (isnan(s->nll[i]))
			continue;
		if (o->every > 1)
			fprintf(f, "%zu ", i);
		fprintf(f, "%.7f\n", s->nll[i]);
	}
	if (f)
		bad = ferror(f) != 0;
	if ((f && fclose(f)) || bad)
		return err_set(e, SINK_EIO, "Writing \"%s\" failed: %s.", o->nll_file, strerror(errno));
	return 0;
}

/* Copies the numbers of x[from .. to) that are some to `ret`; returns how many. */
static size_t numbers_of(const double *x, size_t from, size_t to, double *ret)
{
	size_t n = 0;

	for (size_t i = from; i < to; i++)
		if (!isnan(x[i]))
			ret[n++] = x[i];
	return n;
}

static void report_median(struct report *r, const char *name, const struct scores *s, size_t from, size_t to, double *x)
{
	size_t n = numbers_of(s->ms, from, to, x);

	report_number(r, name, 4, n ? bench_quantile(x, n, 0.5) : NAN);
}

/* The rows of --by. `x` has room for all numbers. */
static void report_parts(const struct bench *o, const struct scores *s, struct report *r, double *x)
{
	const size_t by = (size_t)o->by;

	for (size_t from = 0; by && from < s->count; from += by) {
		size_t to = s->count - from < by ? s->count : from + by, n = numbers_of(s->nll, from, to, x);

		report_row(r);
		report_count(r, "end", (int64_t)to);
		report_number(r, "ppl", 4, n ? exp(bench_mean(x, n)) : NAN);
		report_count(r, "resident_kib", s->resident[from / by]);
	}
}

static void report_scores(const struct bench *o, const struct model *m, const struct kv *kv, const struct scores *s,
			  double *x)
{
	size_t n = numbers_of(s->nll, 0, s->count, x);
	const char *note = bench_note(m, &o->chosen);
	struct kv_info info;
	char text[POLICY_TEXT];
	struct report r;

	kv_info(kv, &info);
	report_begin(&r, o->json);
	bench_report(o, m, &r);
	policy_format(&o->chosen, text, sizeof(text));
	report_text(&r, "policy", text);
	if (note)
		report_text(&r, "note", note);
	report_count(&r, "start", o->start);
	report_count(&r, "chunk", o->chunk);
	report_count(&r, "tokens", (int64_t)n);
	report_number(&r, "nll", 6, bench_mean(x, n));
	report_number(&r, "ppl", 5, exp(bench_mean(x, n)));
	report_number(&r, "ppl_second_half", 5, exp(bench_mean(x + n / 2, n - n / 2)));
	report_number(&r, "seconds", 3, s->seconds);
	report_number(&r, "tokens_per_s", 2, (double)(policy_begins_anew(&o->chosen) ? n : s->count) / s->seconds);
	report_count(&r, "cache_bytes", (int64_t)info.bytes);
	report_count(&r, "resident_kib_first", s->resident_first);
	report_count(&r, "resident_kib_last", s->resident_last);
	snprintf(text, sizeof(text), "%016llx", (unsigned long long)s->checksum);
	report_text(&r, "logits_xxh3", text);
	if (o->timed) {
		report_median(&r, "first_timed_ms", s, s->full, s->full + (size_t)o->timed, x);
		report_median(&r, "last_timed_ms", s, s->count - (size_t)o->timed, s->count, x);
	}
	report_parts(o, s, &r, x);
	report_end(&r);
}

/* Memory for all that a run finds, resident before it begins. */
static int scores_init(const struct bench *o, const struct tokens *t, struct scores *s, double **scratch, struct err *e)
{
	const int64_t budget = policy_budget(&o->chosen);
	int r;

	s->count = o->tokens && (size_t)o->tokens < t->count - 1 ? (size_t)o->tokens : t->count - 1;
	s->full = budget == INT32_MAX ? 1 : budget < (int64_t)s->count ? (size_t)budget : s->count;
	if (o->timed && s->full + 2 * (size_t)o->timed > s->count)
		return err_set(e, SINK_EINVAL, "--timed %lld needs a text of %zu tokens here; it has %zu.",
			       (long long)o->timed, s->full + 2 * (size_t)o->timed, s->count);
	if ((r = bench_numbers(s->count, &s->nll, e)) || (r = bench_numbers(s->count, scratch, e)) ||
	    (o->timed && (r = bench_numbers(s->count, &s->ms, e))))
		return r;
	s->resident = calloc(s->count / (size_t)(o->by ? o->by : 1) + 1, sizeof(*s->resident));
	return s->resident ? 0 : err_set(e, SINK_ENOMEM, "Out of memory for the rows of --by.");
}

int bench_perplexity(const struct bench *o, struct err *e)
{
	struct tokens t = { 0 };
	struct scores s = { 0 };
	struct model *m = NULL;
	double *scratch = NULL;
	struct kv *kv = NULL;
	int r = bench_open(o, (size_t)o->chunk, (size_t)o->chunk, false, &m, e);

	if (!r)
		r = bench_text(o, m, &t, e);
	if (!r)
		r = scores_init(o, &t, &s, &scratch, e);
	if (!r)
		r = bench_cache(o, &o->chosen, m, (size_t)o->chunk, (int64_t)s.count, &kv, e);
	if (!r)
		r = score_text(o, m, kv, t.id, &s, e);
	if (!r && o->nll_file)
		r = write_scores(o, &s, e);
	if (!r)
		report_scores(o, m, kv, &s, scratch);
	free(s.nll);
	free(s.ms);
	free(s.resident);
	free(scratch);
	kv_free(kv);
	tokens_release(&t);
	model_close(m);
	return r;
}

/* One text's ids: a line, or a row of the JSON object. */
static void print_ids(const struct bench *o, const struct tokens *t, bool first)
{
	if (o->json)
		printf("%s{\"ids\": [", first ? "" : ", ");
	for (size_t i = 0; i < t->count; i++)
		printf("%s%d", i == 0 ? "" : o->json ? ", " : " ", t->id[i]);
	printf(o->json ? "]}" : "\n");
}

int bench_tokenize(const struct bench *o, struct err *e)
{
	struct tokens t = { 0 };
	struct model *m = NULL;
	char *text = NULL;
	size_t size = 0, len;
	int r = bench_open(o, 1, 1, true, &m, e);

	if (!r)
		r = bench_read(stdin, "standard input", &text, &size, e);
	if (!r && o->json)
		printf("{\"rows\": [");
	for (size_t at = 0; !r && at < size; at += len + 1) {
		const char *nul = memchr(text + at, '\0', size - at);

		len = nul ? (size_t)(nul - (text + at)) : size - at;
		t.count = 0;
		r = vocab_encode(model_vocab(m), text + at, len, false, &t, e);
		if (!r)
			print_ids(o, &t, at == 0);
	}
	if (!r && o->json)
		printf("]}\n");
	free(text);
	tokens_release(&t);
	model_close(m);
	return r;
}
