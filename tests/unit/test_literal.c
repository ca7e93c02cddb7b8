/*
 * Every policy against the literal evaluation of its mask (literal.c), read in chunks of several sizes through the
 * cache: on a random model, one with learned sinks, and the real one when SINKD_MODEL names it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "literal.h"
#include "make_gguf.h"
#include "model.h"
#include "reading.h"

enum { TOKENS = 150 };

static char tiny_path[] = "test_literal.XXXXXX";

enum definition { FIRST_AND_LAST, SEPARATORS, ANCHORS };

static const struct {
	const char *policy;
	enum definition definition;
	int64_t s, k, w;
	bool text;
} policies[] = {
	{ "dense", FIRST_AND_LAST, 0, 0, TOKENS, false },    { "window:20", FIRST_AND_LAST, 0, 0, 20, false },
	{ "sink:4,20", FIRST_AND_LAST, 4, 0, 20, false },    { "sink:1,64", FIRST_AND_LAST, 1, 0, 64, false },
	{ "sink:70,9", FIRST_AND_LAST, 70, 0, 9, false },    { "sink:3,1", FIRST_AND_LAST, 3, 0, 1, false },
	{ "sink:4,20", FIRST_AND_LAST, 4, 0, 20, true },     { "dense", FIRST_AND_LAST, 0, 0, TOKENS, true },
	{ "separator:4,5,20", SEPARATORS, 4, 5, 20, false }, { "separator:0,70,3", SEPARATORS, 0, 70, 3, false },
	{ "separator:2,3,9", SEPARATORS, 2, 3, 9, true },    { "anchor:0,150,150", ANCHORS, 0, 150, 150, false },
	{ "anchor:4,150,150", ANCHORS, 4, 150, 150, false }, { "anchor:9,3,6", ANCHORS, 9, 3, 6, false },
	{ "anchor:4,3,20", ANCHORS, 4, 3, 20, true },
};

enum { CASES = sizeof(policies) / sizeof(policies[0]) };

/* The marks of the tests, on any model: few ids, so that plain tokens stand between them. */
static bool marked(const struct model *m, size_t c, int32_t id)
{
	const struct tokens *t =
		model_marks(m, policies[c].definition == ANCHORS ? MARKING_ANCHORS : MARKING_SEPARATORS);

	for (size_t i = 0; i < t->count && i < MOST_MARKS; i++)
		if (t->id[i] == id)
			return true;
	return false;
}

/* The mask of policy `c`, by the words of its definition. */
static bool *literal_mask(const struct model *m, size_t c, const int32_t *token, int64_t n)
{
	const int64_t s = policies[c].s, k = policies[c].k, w = policies[c].w;
	bool *mask = test_calloc((size_t)(n * n), sizeof(bool));
	int64_t begin = 0; /* of the sequence at hand */

	for (int64_t t = 0; t < n; t++) {
		const bool anchor = policies[c].definition == ANCHORS && marked(m, c, token[t]);
		int64_t kept = 0;

		for (int64_t i = t; i >= 0; i--) {
			const bool own = policies[c].definition != ANCHORS || i >= begin;
			const bool near = own && i > t - w, pinned = i < s && (own || !anchor);
			const bool mark = policies[c].definition != FIRST_AND_LAST && !near && !anchor && !pinned &&
					  (policies[c].definition == SEPARATORS || !own) && marked(m, c, token[i]);

			mask[t * n + i] = near || pinned || (mark && kept < k);
			kept += mark;
		}
		if (anchor)
			begin = t + 1;
	}
	return mask;
}

/* One policy, in chunks of several sizes, against its literal mask. */
static void check_literal(const struct literal *l, struct model *m, size_t c, const int32_t *token, size_t n)
{
	static const size_t chunks[] = { 1, 7, 64, 512 };
	const size_t floats = n * literal_vocab(l);
	float *want = test_malloc(floats * sizeof(float)), *got = test_malloc(floats * sizeof(float));
	bool *mask = literal_mask(m, c, token, (int64_t)n);

	literal_logits(l, token, n, mask, policies[c].text, want);
	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		struct kv *kv = open_cache(m, policies[c].policy, policies[c].text ? -1 : 0);

		read_text(m, kv, token, n, chunks[i], got);
		if (!(largest_difference(want, got, floats) < 1e-4))
			fail_msg("%s, chunks of %zu: off by %g", policies[c].policy, chunks[i],
				 largest_difference(want, got, floats));
		kv_free(kv);
	}
	test_free(mask);
	test_free(want);
	test_free(got);
}

static void check_all_literally(const char *path)
{
	struct literal *l = literal_open(path);
	struct model *m = open_model(path, "ref", 2);
	int32_t token[TOKENS];

	draw_text(m, 1, token, TOKENS);
	for (size_t c = 0; c < CASES; c++)
		check_literal(l, m, c, token, TOKENS);
	model_close(m);
	literal_close(l);
}

static void every_policy_is_its_literal_mask(void **state)
{
	(void)state;
	check_all_literally(tiny_path);
}

static void learned_sinks_join_the_softmax(void **state)
{
	const struct make_tiny how = { .seed = 8, .sinks = true };
	char path[] = "test_model_sinks.XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(make_tiny_model(path, &how), 0);
	check_all_literally(path);
	unlink(path);
}

/* A random model has no sinks and proves little: the real one, on a text short enough for the literal evaluation. */
static void the_real_model_is_its_literal_mask(void **state)
{
	static const char *const chosen[] = { "sink:4,20", "separator:4,5,20", "anchor:9,3,6" };
	const char *path = getenv("SINKD_MODEL");
	struct literal *l;
	struct model *m;
	int32_t token[44];

	(void)state;
	if (!path || !*path)
		skip();
	l = literal_open(path);
	m = open_model(path, "ref", 2);
	draw_text(m, 4, token, 44);
	for (size_t c = 0; c < CASES; c++)
		for (size_t i = 0; i < sizeof(chosen) / sizeof(chosen[0]); i++)
			if (!policies[c].text && strcmp(chosen[i], policies[c].policy) == 0)
				check_literal(l, m, c, token, 44);
	model_close(m);
	literal_close(l);
}

/* Recomputation is dense attention over the last W tokens alone, for each of them. */
static void recomputation_is_a_text_of_its_own(void **state)
{
	enum { W = 20 };
	struct literal *l = literal_open(tiny_path);
	const size_t vocab = literal_vocab(l);
	float *want = test_malloc(W * vocab * sizeof(float));
	struct model *m = open_model(tiny_path, "ref", 2);
	struct kv *kv = open_cache(m, "recompute:20", 0);
	int32_t token[TOKENS];
	bool all[W * W];

	(void)state;
	memset(all, 1, sizeof(all));
	draw_text(m, 1, token, TOKENS);
	for (int64_t end = 1; end <= 70; end++) {
		const int64_t begin = end > W ? end - W : 0;
		int64_t at = kv_aim(kv, end);

		for (size_t n; at < end; at += (int64_t)n) {
			n = end - at < 7 ? (size_t)(end - at) : 7;
			struct slice s = { .kv = kv, .token = token + at, .count = n, .logits = LOGITS_LAST };

			assert_int_equal(model_step(m, &s, 1, NULL), 1);
		}
		literal_logits(l, token + begin, (size_t)(end - begin), all, false, want);
		assert_true(largest_difference(want + (size_t)(end - begin - 1) * vocab, model_logits(m, 0), vocab) <
			    1e-4);
	}
	kv_free(kv);
	model_close(m);
	literal_close(l);
	test_free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_policy_is_its_literal_mask),
		cmocka_unit_test(learned_sinks_join_the_softmax),
		cmocka_unit_test(the_real_model_is_its_literal_mask),
		cmocka_unit_test(recomputation_is_a_text_of_its_own),
	};
	const struct make_tiny tiny = { .seed = 7 };
	int fd = mkstemp(tiny_path), failed;

	if (fd < 0 || make_tiny_model(tiny_path, &tiny))
		return 99;
	close(fd);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(tiny_path);
	return failed;
}
