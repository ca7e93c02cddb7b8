/* The verbs about what the engine computes: perplexity and tokenize. */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sample.h"

/* After so many tokens the resident memory is looked at for the first time. */
enum { WARM_TOKENS = 2000 };

/* What a run over a text found: one number a prediction. */
struct scores {
	double *nll;
	size_t count;
	double seconds;
	int64_t resident_first, resident_last;
	uint64_t checksum; /* over the bits of all logits, row by row */
};

/* Reads tokens 0 .. count-1 in chunks and notes how well each foretells the next one. */
static int score_text(const struct bench *o, struct model *m, struct kv *kv, const int32_t *id, struct scores *s,
		      struct err *e)
{
	const size_t vocab = (size_t)model_info(m)->vocab;
	double begin = bench_seconds();
	int r = 0;

	for (size_t at = 0, n; !r && at < s->count; at += n) {
		n = s->count - at < (size_t)o->chunk ? s->count - at : (size_t)o->chunk;
		r = bench_step(m, kv, id + at, n, LOGITS_ALL, e);
		for (size_t i = 0; !r && i < n; i++) {
			s->nll[at + i] = -logits_logprob(model_logits(m, i), vocab, id[at + i + 1]);
			s->checksum = logits_checksum(model_logits(m, i), vocab, s->checksum);
		}
		if (at < WARM_TOKENS && (at + n >= WARM_TOKENS || at + n == s->count))
			s->resident_first = bench_resident_kib();
	}
	s->resident_last = bench_resident_kib();
	s->seconds = bench_seconds() - begin;
	return r;
}

static int write_scores(const char *path, const struct scores *s, struct err *e)
{
	FILE *f = fopen(path, "w");
	bool bad = !f;

	for (size_t i = 0; f && i < s->count; i++)
		fprintf(f, "%.7f\n", s->nll[i]);
	if (f)
		bad = ferror(f) != 0;
	if ((f && fclose(f)) || bad)
		return err_set(e, SINK_EIO, "Writing \"%s\" failed: %s.", path, strerror(errno));
	return 0;
}

static double mean(const double *x, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += x[i];
	return sum / (double)n;
}

static void report_scores(const struct bench *o, const struct model *m, const struct scores *s)
{
	const size_t half = s->count / 2;
	char text[64];
	struct report r;

	report_begin(&r, o->json);
	report_text(&r, "model", model_info(m)->name);
	policy_format(&o->chosen, text, sizeof(text));
	report_text(&r, "policy", text);
	report_text(&r, "positions", o->positions);
	report_count(&r, "start", o->start);
	report_text(&r, "kernels", model_info(m)->kernels);
	report_text(&r, "precision", o->precision);
	report_count(&r, "threads", model_info(m)->threads);
	report_count(&r, "chunk", o->chunk);
	report_count(&r, "tokens", (int64_t)s->count);
	report_number(&r, "nll", 6, mean(s->nll, s->count));
	report_number(&r, "ppl", 5, exp(mean(s->nll, s->count)));
	report_number(&r, "ppl_second_half", 5, exp(mean(s->nll + half, s->count - half)));
	report_number(&r, "seconds", 3, s->seconds);
	report_number(&r, "tokens_per_s", 2, (double)s->count / s->seconds);
	report_count(&r, "resident_kib_first", s->resident_first);
	report_count(&r, "resident_kib_last", s->resident_last);
	snprintf(text, sizeof(text), "%016llx", (unsigned long long)s->checksum);
	report_text(&r, "logits_xxh3", text);
	report_end(&r);
}

int bench_perplexity(const struct bench *o, struct err *e)
{
	struct tokens t = { 0 };
	struct scores s = { 0 };
	struct model *m = NULL;
	struct kv *kv = NULL;
	int r = bench_open(o, (size_t)o->chunk, (size_t)o->chunk, false, &m, e);

	if (!r)
		r = bench_text(o, m, &t, e);
	if (!r) {
		s.count = o->tokens && (size_t)o->tokens < t.count - 1 ? (size_t)o->tokens : t.count - 1;
		r = bench_numbers(s.count, &s.nll, e);
	}
	if (!r)
		r = bench_cache(o, m, (size_t)o->chunk, (int64_t)s.count, &kv, e);
	if (!r)
		r = score_text(o, m, kv, t.id, &s, e);
	if (!r && o->nll_file)
		r = write_scores(o->nll_file, &s, e);
	if (!r)
		report_scores(o, m, &s);
	free(s.nll);
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
