/* sample.c against literal definitions: sort everything, cut, add up. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sample.h"

enum { VOCAB = 1000, DRAWS = 200 };

/* The known answers of Random123 (Salmon et al. 2011) for philox4x32-10. */
static void philox_gives_the_known_answers(void **state)
{
	static const struct {
		uint32_t counter[4], key[2], out[4];
	} known[] = {
		{ { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
		{ { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff },
		  { 0xffffffff, 0xffffffff },
		  { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
		{ { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
		  { 0xa4093822, 0x299f31d0 },
		  { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		uint32_t out[4];

		philox(known[i].key, known[i].counter, out);
		assert_memory_equal(out, known[i].out, sizeof(out));
	}
}

static void random_logits(uint32_t seed, float *logits)
{
	for (uint32_t i = 0; i < VOCAB; i++) {
		const uint32_t key[2] = { seed, 77 }, counter[4] = { i, 0, 0, 0 };
		uint32_t r[4];

		philox(key, counter, r);
		/* a few hundred different values: equals must be told apart by their ids */
		logits[i] = (float)(r[0] % 400) / 40 - 5;
	}
}

struct token {
	int32_t id;
	double logit, p;
};

static int by_rank(const void *a, const void *b)
{
	const struct token *x = a, *y = b;

	if (x->logit != y->logit)
		return x->logit > y->logit ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

static int by_id(const void *a, const void *b)
{
	return ((const struct token *)a)->id < ((const struct token *)b)->id ? -1 : 1;
}

static void softmax(struct token *t, size_t n, double temperature)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += t[i].p = exp((t[i].logit - t[0].logit) / temperature);
	for (size_t i = 0; i < n; i++)
		t[i].p /= sum;
}

/* The set that may be drawn from, in the order of ids, with its probabilities. */
static size_t set_by_hand(const struct sampling *how, const float *logits, struct token *t)
{
	size_t n = VOCAB, kept = 0;
	double sum = 0, top;

	for (int32_t i = 0; i < VOCAB; i++)
		t[i] = (struct token){ i, (double)logits[i], 0 };
	qsort(t, n, sizeof(*t), by_rank);
	if (how->top_k > 0 && how->top_k < (int64_t)n)
		n = (size_t)how->top_k;
	softmax(t, n, how->temperature);
	if (how->top_p < 1) {
		while (kept < n && sum < how->top_p)
			sum += t[kept++].p;
		n = kept;
	}
	top = t[0].p;
	for (kept = 0; kept < n && t[kept].p >= how->min_p * top;)
		kept++;
	softmax(t, kept, how->temperature);
	qsort(t, kept, sizeof(*t), by_id);
	return kept;
}

static double uniform_by_hand(uint64_t seed, int64_t position)
{
	const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
	const uint32_t counter[4] = { (uint32_t)position, (uint32_t)((uint64_t)position >> 32), 0, 0 };
	uint32_t r[4];

	philox(key, counter, r);
	return (double)(((uint64_t)(r[0] >> 5) << 26) + (r[1] >> 6)) / 9007199254740992.0;
}

static void a_pick_is_the_one_of_the_sorted_definition(void **state)
{
	static const struct {
		double temperature;
		int64_t top_k;
		double top_p, min_p;
	} cases[] = {
		{ 1, 0, 1, 0 },	   { 0.7, 40, 0.95, 0.05 }, { 1.5, 0, 0.9, 0 },	   { 0.3, 1, 1, 0 },
		{ 1, 0, 1e-9, 0 }, { 2, 999, 0.5, 0.2 },    { 1, 0, 0.999999, 0 }, { 100, 5000, 1, 0 },
		{ 1e-6, 0, 1, 0 }, { 1, 0, 1, 0.999 },
	};
	float logits[VOCAB];
	struct token t[VOCAB];
	struct sampler *s;

	(void)state;
	assert_int_equal(sampler_new(VOCAB, &s, NULL), 0);
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct sampling how;
		size_t n;

		sampling_defaults(&how);
		how.temperature = cases[c].temperature;
		how.top_k = cases[c].top_k;
		how.top_p = cases[c].top_p;
		how.min_p = cases[c].min_p;
		how.seed = 0x123456789abcdef0 + c;
		random_logits((uint32_t)c, logits);
		n = set_by_hand(&how, logits, t);
		for (int64_t at = 0; at < DRAWS; at++) {
			double u = uniform_by_hand(how.seed, at << 31), sum = 0, logprob;
			size_t i = 0;
			int32_t id = sampler_pick(s, &how, logits, at << 31, NULL, 0, &logprob);

			while (i + 1 < n && !(u < (sum += t[i].p)))
				i++;
			assert_int_equal(id, t[i].id);
			assert_true(fabs(logprob - logits_logprob(logits, VOCAB, id)) < 1e-12);
		}
	}
	sampler_free(s);
}

static void the_same_seed_and_position_draw_the_same(void **state)
{
	float logits[VOCAB];
	struct sampling how;
	struct sampler *s;
	int different = 0;

	(void)state;
	assert_int_equal(sampler_new(VOCAB, &s, NULL), 0);
	sampling_defaults(&how);
	how.temperature = 2;
	random_logits(1, logits);
	for (int64_t at = 0; at < 50; at++) {
		int32_t id = sampler_pick(s, &how, logits, at, NULL, 0, NULL);

		assert_int_equal(sampler_pick(s, &how, logits, at, NULL, 0, NULL), id);
		different += sampler_pick(s, &how, logits, at + 1, NULL, 0, NULL) != id;
	}
	assert_true(different > 20);
	sampler_free(s);
}

static void zero_temperature_is_greedy(void **state)
{
	struct sampling how;
	struct sampler *s;
	float logits[6] = { -1, 3, 2, 3, -2, NAN };
	const int32_t recent[] = { 1, 1, 3, 1 };

	(void)state;
	assert_int_equal(sampler_new(6, &s, NULL), 0);
	sampling_defaults(&how);
	how.temperature = 0;
	assert_int_equal(sampler_pick(s, &how, logits, 0, NULL, 0, NULL), 1);
	how.frequency_penalty = 0.3; /* 1 stands at 3 - 0.9, 3 at 3 - 0.3 */
	assert_int_equal(sampler_pick(s, &how, logits, 0, recent, 4, NULL), 3);
	how.penalty_last = 1; /* 1 alone, once */
	assert_int_equal(sampler_pick(s, &how, logits, 0, recent, 4, NULL), 3);
	how.penalty_last = 0;
	assert_int_equal(sampler_pick(s, &how, logits, 0, recent, 4, NULL), 1);
	how.penalty_last = 64;
	how.frequency_penalty = 0;
	how.presence_penalty = 1.5;
	assert_int_equal(sampler_pick(s, &how, logits, 0, recent, 4, NULL), 2);
	how.presence_penalty = 0;
	how.repetition_penalty = 2; /* 3 / 2 < 2 */
	assert_int_equal(sampler_pick(s, &how, logits, 0, recent, 4, NULL), 2);
	sampler_free(s);
}

static void negative_logits_are_penalized_downwards(void **state)
{
	struct sampling how;
	struct sampler *s;
	const float logits[3] = { -1, -1.5F, -3 };
	const int32_t recent[] = { 0, 7, -1 }; /* ids out of the vocabulary count for nothing */

	(void)state;
	assert_int_equal(sampler_new(3, &s, NULL), 0);
	sampling_defaults(&how);
	how.temperature = 0;
	how.repetition_penalty = 2;
	assert_int_equal(sampler_pick(s, &how, logits, 0, recent, 3, NULL), 1);
	sampler_free(s);
}

static void numbers_that_are_none_do_no_harm(void **state)
{
	const float cases[][4] = { { NAN, NAN, NAN, NAN },
				   { INFINITY, 1, 2, NAN },
				   { -INFINITY, -INFINITY, -INFINITY, -INFINITY },
				   { FLT_MAX, -FLT_MAX, 0, 1 },
				   { 0, 0, 0, 0 } };
	struct sampling how;
	struct sampler *s;

	(void)state;
	assert_int_equal(sampler_new(4, &s, NULL), 0);
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
		for (int t = 0; t < 3; t++) {
			int32_t id;

			sampling_defaults(&how);
			how.temperature = t == 0 ? 0 : t == 1 ? 1 : 1e-300;
			how.top_p = 0.5;
			how.presence_penalty = 10;
			id = sampler_pick(s, &how, cases[c], 3, (const int32_t[]){ 1, 2 }, 2, NULL);
			assert_in_range(id, 0, 3);
			if (c == 1 || c == 3)
				assert_int_equal(id, 0);
		}
	sampler_free(s);
}

/* As a device tells the largest: sorted by hand. */
static void top_by_hand(const float *logits, struct top *top)
{
	struct token t[VOCAB];

	for (int32_t i = 0; i < VOCAB; i++)
		t[i] = (struct token){ i, (double)logits[i], 0 };
	qsort(t, VOCAB, sizeof(*t), by_rank);
	*top = (struct top){ .max = (float)t[0].logit, .count = TOP_MOST };
	for (int i = 0; i < VOCAB; i++)
		top->sum += exp(t[i].logit - t[0].logit);
	for (int i = 0; i < TOP_MOST; i++) {
		top->logit[i] = (float)t[i].logit;
		top->id[i] = t[i].id;
	}
}

/* Some of the recent tokens are likely ones, some are any, and some are none. */
static void recent_by_hand(uint32_t seed, const struct top *top, int32_t *recent, size_t recents)
{
	for (uint32_t i = 0; i < recents; i++) {
		const uint32_t key[2] = { seed, 78 }, counter[4] = { i, 0, 0, 0 };
		uint32_t r[4];

		philox(key, counter, r);
		recent[i] = r[0] % 3 == 0 ? top->id[r[1] % TOP_MOST] : (int32_t)(r[1] % (VOCAB + 3)) - 1;
	}
}

enum { RECENTS = 20, ROUNDS = 4000 };

struct settings {
	double temperature;
	int64_t top_k;
	double top_p, min_p, repetition, presence, frequency;
	int least, most; /* how many of ROUNDS picks the largest logits have to decide */
};

/* Returns how many were decided; each of them must be what all logits decide. */
static int decided(const struct settings *c, uint32_t seed)
{
	struct sampling how;
	struct sampler *s;
	int n = 0;

	assert_int_equal(sampler_new(VOCAB, &s, NULL), 0);
	sampling_defaults(&how);
	how.temperature = c->temperature;
	how.top_k = c->top_k;
	how.top_p = c->top_p;
	how.min_p = c->min_p;
	how.repetition_penalty = c->repetition;
	how.presence_penalty = c->presence;
	how.frequency_penalty = c->frequency;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		int32_t recent[RECENTS], want, got;
		double logprob, exact;
		float logits[VOCAB];
		struct top top;

		if (round % 40 == 0) {
			random_logits(seed + round, logits);
			top_by_hand(logits, &top);
		}
		recent_by_hand(seed + round, &top, recent, RECENTS);
		want = sampler_pick(s, &how, logits, round, recent, RECENTS, &exact);
		got = sampler_pick_top(s, &how, &top, round, recent, RECENTS, &logprob);
		if (got == SAMPLER_UNDECIDED)
			continue;
		assert_int_equal(got, want);
		assert_true(fabs(logprob - exact) < 1e-12);
		n++;
	}
	sampler_free(s);
	return n;
}

static void the_largest_decide_what_all_decide(void **state)
{
	static const struct settings cases[] = {
		{ 0.7, 40, 0.95, 0.05, 1, 0, 0, ROUNDS, ROUNDS }, /* the defaults */
		{ 0, 0, 1, 0, 1, 0, 0, ROUNDS, ROUNDS },
		{ 0, 40, 1, 0, 1.3, 0.5, 0.2, ROUNDS, ROUNDS },
		{ 1, 64, 1, 0, 1, 0, 0, ROUNDS, ROUNDS },
		{ 1.5, 64, 0.9, 0.01, 1, 0, 0, ROUNDS, ROUNDS },
		{ 1e-300, 20, 0.5, 0, 1, 0, 0, ROUNDS, ROUNDS },
		{ 100, 7, 0.999999, 0, 1, 0, 0, ROUNDS, ROUNDS },
		{ 1, 1, 1, 0, 1, 0, 0, ROUNDS, ROUNDS },
		{ 0.8, 40, 0.95, 0.05, 1.2, 0, 0, ROUNDS, ROUNDS }, /* at most 20 of 64 move down */
		{ 0.8, 44, 1, 0, 1, 2, 2, ROUNDS, ROUNDS },
		{ 0.8, 60, 1, 0, 1.2, 0, 0, 1, ROUNDS / 2 },
		{ 0.8, 64, 1, 0, 10, 10, 10, 1, ROUNDS / 10 }, /* decided where none of them is recent */
		{ 0.7, 40, 0.95, 0.05, 0.9, 0, 0, 0, ROUNDS / 10 },
		{ 0, 40, 0.95, 0.05, 1, -1, 0, 0, ROUNDS / 10 },
		{ 0.7, 40, 0.95, 0.05, 1, 0, -0.1, 0, ROUNDS / 10 },
		{ 1, 65, 0.95, 0.05, 1, 0, 0, 0, 0 },
		{ 1, 0, 0.95, 0.05, 1, 0, 0, 0, 0 },
	};

	(void)state;
	for (uint32_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
		assert_in_range(decided(&cases[c], c << 16), cases[c].least, cases[c].most);
}

/* A vocabulary that is all told needs no other logits, whatever the settings. */
static void a_small_vocabulary_is_decided(void **state)
{
	const float logits[5] = { 1, 2, 2, -1, 0.5F };
	const struct top top = {
		.sum = 3, .max = 2, .count = 5, .logit = { 2, 2, 1, 0.5F, -1 }, .id = { 1, 2, 0, 4, 3 }
	};
	const int32_t recent[] = { 3, 1, 3 };
	struct sampling how;
	struct sampler *s;

	(void)state;
	assert_int_equal(sampler_new(5, &s, NULL), 0);
	sampling_defaults(&how);
	how.top_k = 0;
	how.temperature = 1.3;
	how.presence_penalty = -2;
	for (int64_t at = 0; at < DRAWS; at++)
		assert_int_equal(sampler_pick_top(s, &how, &top, at, recent, 3, NULL),
				 sampler_pick(s, &how, logits, at, recent, 3, NULL));
	sampler_free(s);
}

static void candidates_that_are_no_numbers_decide_nothing(void **state)
{
	const float odd[] = { NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX };
	struct top top = { .sum = 1, .count = 2 };
	struct sampling how;
	struct sampler *s;

	(void)state;
	assert_int_equal(sampler_new(100, &s, NULL), 0);
	sampling_defaults(&how);
	how.temperature = 0;
	assert_int_equal(sampler_pick_top(s, &how, &(struct top){ 0 }, 0, NULL, 0, NULL), SAMPLER_UNDECIDED);
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		top.logit[i % 2] = odd[i];
		assert_int_equal(sampler_pick_top(s, &how, &top, 0, NULL, 0, NULL), SAMPLER_UNDECIDED);
	}
	sampler_free(s);
}

static void log_probabilities_add_up_to_one(void **state)
{
	float logits[VOCAB];
	double sum = 0;

	(void)state;
	random_logits(9, logits);
	for (int32_t i = 0; i < VOCAB; i++)
		sum += exp(logits_logprob(logits, VOCAB, i));
	assert_true(fabs(sum - 1) < 1e-12);
	assert_true(fabs(logits_logprob((const float[]){ 5, 5 }, 2, 1) - log(0.5)) < 1e-15);
}

/* What is told of the likeliest, sorted by hand; whether of all logits or of the largest. */
static void likeliest_by_hand(const float *logits, size_t most, int32_t token, bool of_top)
{
	struct likeliest l = { .count = 99 };
	struct token t[VOCAB];
	struct top top;
	double logprob;
	bool among = false;

	for (int32_t i = 0; i < VOCAB; i++)
		t[i] = (struct token){ i, (double)logits[i], 0 };
	qsort(t, VOCAB, sizeof(*t), by_rank);
	top_by_hand(logits, &top);
	logprob =
		of_top ? logits_likeliest_top(&top, most, token, &l) : logits_likeliest(logits, VOCAB, most, token, &l);
	assert_true(fabs(logprob - logits_logprob(logits, VOCAB, token)) < (of_top ? 1e-12 : 1e-300));
	for (size_t i = 0; i < most; i++) {
		assert_int_equal(l.at[i].id, t[i].id);
		assert_true(fabs(l.at[i].logprob - logits_logprob(logits, VOCAB, t[i].id)) < 1e-12);
		among = among || t[i].id == token;
	}
	assert_int_equal(l.count, most + !among);
	if (!among)
		assert_int_equal(l.at[most].id, token);
}

static void the_likeliest_are_those_of_the_sorted_definition(void **state)
{
	float logits[VOCAB];
	struct likeliest l;
	struct top top;

	(void)state;
	for (uint32_t seed = 0; seed < 50; seed++) {
		random_logits(seed, logits);
		top_by_hand(logits, &top);
		for (size_t most = 0; most <= LIKELIEST_MOST; most += 5) {
			likeliest_by_hand(logits, most, (int32_t)(seed * 7 % VOCAB), false);
			likeliest_by_hand(logits, most, top.id[seed % TOP_MOST], false);
			likeliest_by_hand(logits, most, top.id[seed % TOP_MOST], true);
		}
	}
	logits_likeliest((const float[]){ NAN, -INFINITY, 1 }, 3, LIKELIEST_MOST, 0, &l);
	assert_int_equal(l.count, 3);
	assert_int_equal(l.at[0].id, 2);
	assert_true(isfinite(l.at[1].logprob) && isfinite(l.at[2].logprob));
}

static void settings_out_of_range_are_named(void **state)
{
	static const struct {
		size_t at;
		double value;
		const char *says;
	} cases[] = {
		{ offsetof(struct sampling, temperature), -0.1, "temperature" },
		{ offsetof(struct sampling, temperature), NAN, "temperature" },
		{ offsetof(struct sampling, temperature), INFINITY, "temperature" },
		{ offsetof(struct sampling, top_p), 0, "top_p" },
		{ offsetof(struct sampling, top_p), 1.1, "top_p" },
		{ offsetof(struct sampling, min_p), 1, "min_p" },
		{ offsetof(struct sampling, min_p), NAN, "min_p" },
		{ offsetof(struct sampling, repetition_penalty), 0, "repetition_penalty" },
		{ offsetof(struct sampling, presence_penalty), -11, "presence_penalty" },
		{ offsetof(struct sampling, frequency_penalty), NAN, "frequency_penalty" },
	};
	struct sampling how;
	struct err e = { 0 };

	(void)state;
	sampling_defaults(&how);
	assert_int_equal(sampling_check(&how, &e), 0);
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		sampling_defaults(&how);
		memcpy((char *)&how + cases[c].at, &cases[c].value, sizeof(double));
		assert_int_equal(sampling_check(&how, &e), SINK_EINVAL);
		assert_non_null(strstr(e.text, cases[c].says));
	}
	sampling_defaults(&how);
	how.top_k = -1;
	assert_int_equal(sampling_check(&how, &e), SINK_EINVAL);
	sampling_defaults(&how);
	how.penalty_last = 8193;
	assert_int_equal(sampling_check(&how, &e), SINK_EINVAL);
	assert_non_null(strstr(e.text, "penalty_last"));
}

/* As if all others had a logit of minus infinity, and also where nothing but no numbers is allowed. */
static void a_mask_leaves_the_others_out(void **state)
{
	static const struct {
		double temperature, top_p, min_p;
		int64_t top_k;
	} cases[] = {
		{ 0, 1, 0, 0 }, { 1, 1, 0, 0 }, { 0.8, 0.9, 0.05, 40 }, { 2, 0.5, 0, 3 }, { 1, 0.99, 0.01, 200 }
	};
	const int32_t recent[] = { 1, 5, 5, 900 };
	struct sampler *s;

	(void)state;
	assert_int_equal(sampler_new(VOCAB, &s, NULL), 0);
	for (uint32_t round = 0; round < 400; round++) {
		const size_t of = sizeof(cases) / sizeof(cases[0]);
		uint64_t bits[VOCAB / 64 + 1] = { 0 };
		const struct mask mask = { .bits = bits };
		float logits[VOCAB], other[VOCAB];
		struct sampling how;
		int32_t id;

		sampling_defaults(&how);
		how.temperature = cases[round % of].temperature;
		how.top_p = cases[round % of].top_p;
		how.min_p = cases[round % of].min_p;
		how.top_k = cases[round % of].top_k;
		how.repetition_penalty = round % 2 ? 1.2 : 1;
		how.seed = round;
		random_logits(round, logits);
		for (size_t i = 0; i < VOCAB; i++) {
			const bool allowed =
				(i * 2654435761u + round * 97) >> 7 & 3 ? i % (1 + round % 50) == 0 : i == 7;

			bits[i / 64] |= (uint64_t)allowed << i % 64;
			other[i] = allowed ? logits[i] : -INFINITY;
		}
		bits[0] |= 1 << 7;
		other[7] = logits[7];
		id = sampler_pick_masked(s, &how, &mask, logits, round, recent, 4, NULL);
		assert_int_equal(id, sampler_pick(s, &how, other, round, recent, 4, NULL));
		assert_true(bits[id / 64] >> id % 64 & 1);
	}
	sampler_free(s);
}

static void a_mask_holds_where_logits_are_no_numbers(void **state)
{
	float logits[VOCAB];
	uint64_t bits[VOCAB / 64 + 1] = { [2] = 6 };
	const struct mask mask = { .bits = bits };
	struct sampling how;
	struct sampler *s;

	(void)state;
	sampling_defaults(&how);
	for (size_t i = 0; i < VOCAB; i++)
		logits[i] = i == 129 || i == 130 ? NAN : 1;
	assert_int_equal(sampler_new(VOCAB, &s, NULL), 0);
	for (how.temperature = 0; how.temperature < 3; how.temperature += 1) {
		const int32_t id = sampler_pick_masked(s, &how, &mask, logits, 1, NULL, 0, NULL);

		assert_true(id == 129 || id == 130);
	}
	sampler_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(philox_gives_the_known_answers),
		cmocka_unit_test(a_pick_is_the_one_of_the_sorted_definition),
		cmocka_unit_test(the_same_seed_and_position_draw_the_same),
		cmocka_unit_test(zero_temperature_is_greedy),
		cmocka_unit_test(negative_logits_are_penalized_downwards),
		cmocka_unit_test(numbers_that_are_none_do_no_harm),
		cmocka_unit_test(the_largest_decide_what_all_decide),
		cmocka_unit_test(a_small_vocabulary_is_decided),
		cmocka_unit_test(candidates_that_are_no_numbers_decide_nothing),
		cmocka_unit_test(a_mask_leaves_the_others_out),
		cmocka_unit_test(a_mask_holds_where_logits_are_no_numbers),
		cmocka_unit_test(log_probabilities_add_up_to_one),
		cmocka_unit_test(the_likeliest_are_those_of_the_sorted_definition),
		cmocka_unit_test(settings_out_of_range_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
