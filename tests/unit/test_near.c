/*
 * What layers with a window of their own see (kv_row_near()): of what the policy leaves, the tokens near in the text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "make_gguf.h"
#include "reading.h"

enum { TOKENS = 400, STEP = 37 };

static char tiny_path[] = "test_near.XXXXXX";

/* The places of the text's marks, in their order. */
static int64_t mark_at[TOKENS];

static void find_marks(const struct model *m, const struct policy *p, const int32_t *token)
{
	const struct tokens *t = model_marks(m, policy_marking(p));
	size_t marks = 0;

	for (int64_t i = 0; i < TOKENS; i++)
		for (size_t k = 0; k < t->count && k < MOST_MARKS; k++)
			if (t->id[k] == token[i])
				mark_at[marks++] = i;
}

static void check_row(const struct kv *kv, size_t i, int64_t t)
{
	static const int64_t windows[] = { 1, 9, 70, 1000 };
	int64_t key_at[2], query_at[RUNS];
	struct row row, near;

	kv_row(kv, i, &row, key_at, query_at);
	for (size_t w = 0; w < sizeof(windows) / sizeof(windows[0]); w++) {
		kv_row_near(kv, i, windows[w], &row, &near);
		for (int run = 0; run < RUNS; run++) {
			const int64_t from = near.sees[run].first, past = from + near.sees[run].count;

			assert_int_equal(near.sees[run].query, row.sees[run].query);
			for (int64_t n = 0; n < row.sees[run].count; n++) {
				const int64_t s = row.sees[run].first + n, place = run == RUN_KEPT ? mark_at[s] : s;

				assert_int_equal(s >= from && s<past, place> t - windows[w]);
			}
		}
	}
}

static void layers_see_what_is_near(void **state)
{
	static const char *const policies[] = { "dense",	   "window:30",	       "sink:4,20",
						"sink:70,9",	   "separator:4,8,20", "separator:0,70,3",
						"anchor:4,150,150" };
	struct model *m = open_model(tiny_path, "ref", 1);
	int32_t token[TOKENS];

	(void)state;
	draw_text(m, 3, token, TOKENS);
	for (size_t p = 0; p < sizeof(policies) / sizeof(policies[0]); p++) {
		struct kv *kv = open_cache(m, policies[p], 0);

		find_marks(m, kv_policy(kv), token);
		for (int64_t at = 0; at + STEP <= TOKENS; at += STEP) {
			assert_int_equal(kv_reserve(kv, token + at, STEP, NULL), 0);
			for (size_t i = 0; i < STEP; i++)
				check_row(kv, i, at + (int64_t)i);
			kv_commit(kv, STEP);
		}
		kv_free(kv);
	}
	model_close(m);
}

int main(void)
{
	const struct make_tiny how = { .seed = 5 };
	const struct CMUnitTest tests[] = { cmocka_unit_test(layers_see_what_is_near) };
	int fd = mkstemp(tiny_path), failed;

	if (fd < 0 || close(fd) || make_tiny_model(tiny_path, &how))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(tiny_path);
	return failed;
}
