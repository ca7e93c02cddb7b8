/* See reading.h. */
#include "reading.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sample.h"

struct model *open_model(const char *path, const char *kernels, int threads)
{
	return open_model_of(path, kernels, threads, "auto");
}

struct model *open_model_of(const char *path, const char *kernels, int threads, const char *cache_type)
{
	const struct model_options o = { .path = path,
					 .kernels = kernels,
					 .threads = threads,
					 .max_rows = ROWS,
					 .max_logits = ROWS,
					 .cache_bytes = (size_t)1 << 30,
					 .cache_type = cache_type };
	struct model *m = NULL;
	struct err e = { 0 };

	if (model_open(&o, &m, &e))
		fail_msg("%s", e.text);
	return m;
}

struct kv *open_cache(struct model *m, const char *policy, int64_t origin)
{
	return open_cache_of(m, policy, origin, 0);
}

struct kv *open_cache_of(struct model *m, const char *policy, int64_t origin, int64_t limit)
{
	struct kv_options o = { .step = ROWS,
				.limit = limit,
				.origin = origin > 0 ? origin : 0,
				.positions = origin < 0 ? POSITIONS_TEXT : POSITIONS_CACHE };
	const struct tokens *marks;
	struct kv *kv = NULL;

	assert_int_equal(policy_parse(policy, &o.policy, NULL), 0);
	marks = model_marks(m, policy_marking(&o.policy));
	o.mark = marks->id;
	o.marks = marks->count < MOST_MARKS ? marks->count : MOST_MARKS;
	assert_int_equal(kv_new(model_arena(m), &o, &kv, NULL), 0);
	return kv;
}

void draw_tokens(uint32_t seed, size_t vocab, int32_t *token, size_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t key[2] = { seed, 1 }, counter[4] = { i, 0, 0, 0 };
		uint32_t r[4];

		philox(key, counter, r);
		token[i] = (int32_t)(r[0] % vocab);
	}
}

uint64_t read_text(struct model *m, struct kv *kv, const int32_t *token, size_t n, size_t chunk, float *logits)
{
	const size_t vocab = (size_t)model_info(m)->vocab;
	uint64_t sum = 0;

	for (size_t at = 0; at < n; at += chunk) {
		struct slice s = {
			.kv = kv, .token = token + at, .count = n - at < chunk ? n - at : chunk, .logits = LOGITS_ALL
		};

		assert_int_equal(model_step(m, &s, 1, NULL), s.count);
		assert_int_equal(s.status, 0);
		for (size_t i = 0; i < s.count; i++) {
			sum = logits_checksum(model_logits(m, i), vocab, sum);
			if (logits)
				memcpy(logits + (at + i) * vocab, model_logits(m, i), vocab * sizeof(float));
		}
	}
	return sum;
}

void draw_text(const struct model *m, uint32_t seed, int32_t *token, size_t n)
{
	draw_tokens(seed, (size_t)model_info(m)->vocab, token, n);
	for (size_t i = 0; i < n; i++) {
		const struct tokens *t = model_marks(m, i % 2 ? MARKING_SEPARATORS : MARKING_ANCHORS);

		if (t->count && (uint32_t)token[i] % (i % 60 < 20 ? 3 : 12) == 0)
			token[i] = t->id[(size_t)token[i] / 12 % (t->count < MOST_MARKS ? t->count : MOST_MARKS)];
	}
}

double largest_difference(const float *a, const float *b, size_t n)
{
	double most = 0;

	for (size_t i = 0; i < n; i++)
		most = fabs((double)a[i] - (double)b[i]) > most ? fabs((double)a[i] - (double)b[i]) : most;
	return most;
}
