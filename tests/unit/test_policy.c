/* policy.c against the definition, written out: count the visible tokens one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy.h"

enum { TOKENS = 300 };

static const struct marks none = { NULL, 0 };

static const struct {
	const char *text;
	int64_t s, w;
} good[] = {
	{ "sink:4,20", 4, 20 }, { "sink:0,1", 0, 1 },	      { "sink:50,3", 50, 3 },
	{ "window:17", 0, 17 }, { "window:1", 0, 1 },	      { "dense", 0, INT32_MAX },
	{ "sink:1,64", 1, 64 }, { "sink:300,300", 300, 300 }, { "window:2147483646", 0, 2147483646 },
};

enum { GOOD = sizeof(good) / sizeof(good[0]) };

/* Whether token t sees token i, by the words of the definition. */
static bool sees_by_hand(int64_t sinks, int64_t window, int64_t t, int64_t i)
{
	return i <= t && (i < sinks || i > t - window);
}

static bool sees(const struct view *v, int64_t i)
{
	return i < v->pinned || (i >= v->window && i < v->window + v->window_count);
}

static void a_token_sees_what_the_definition_says(void **state)
{
	(void)state;
	for (size_t c = 0; c < GOOD; c++) {
		struct policy p;
		struct view v;

		assert_int_equal(policy_parse(good[c].text, &p, NULL), 0);
		for (int64_t t = 0; t < TOKENS; t++) {
			int64_t rows = 0;

			policy_view(&p, &none, t, &v);
			for (int64_t i = 0; i < TOKENS + 10; i++) {
				assert_int_equal(sees(&v, i), sees_by_hand(good[c].s, good[c].w, t, i));
				rows += sees_by_hand(good[c].s, good[c].w, t, i);
			}
			assert_int_equal(view_size(&v), rows);
			assert_true(view_size(&v) >= 1);
			assert_true(view_size(&v) <= policy_budget(&p));
			assert_true(v.pinned <= v.window);
			assert_int_equal(v.kept_count, 0);
		}
	}
}

static void a_text_of_any_length_is_served(void **state)
{
	struct policy p;
	struct view v;

	(void)state;
	assert_int_equal(policy_parse("sink:4,1020", &p, NULL), 0);
	policy_view(&p, &none, INT64_C(1) << 60, &v);
	assert_int_equal(view_size(&v), 1024);
	assert_int_equal(v.window, (INT64_C(1) << 60) - 1019);
}

static void what_is_parsed_can_be_written(void **state)
{
	(void)state;
	for (size_t c = 0; c < GOOD; c++) {
		struct policy p;
		char text[64];

		assert_int_equal(policy_parse(good[c].text, &p, NULL), 0);
		policy_format(&p, text, sizeof(text));
		assert_string_equal(text, good[c].text);
		assert_int_equal(policy_is_dense(&p), strcmp(good[c].text, "dense") == 0);
		assert_memory_equal(policy_name(&p), text, strlen(policy_name(&p)));
		assert_int_equal(policy_budget(&p), policy_is_dense(&p) ? INT32_MAX : good[c].s + good[c].w);
	}
}

static void bad_text_names_what_is_wrong(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "no policy" },
		{ "snik:4,20", "no policy" },
		{ ":4,20", "no policy" },
		{ "sink", "sinks" },
		{ "sink:-1,20", "sinks" },
		{ "sink: 1,20", "sinks" },
		{ "sink:+1,20", "sinks" },
		{ "sink:x", "sinks" },
		{ "sink:4", "window" },
		{ "sink:4,", "window" },
		{ "sink:4,0", "window" },
		{ "sink:4,99999999999999999999", "window" },
		{ "sink:4,-7", "window" },
		{ "sink:4,2147483647", "window" },
		{ "sink:4,20,7", "left over" },
		{ "sink:4,20,", "left over" },
		{ "window:", "window" },
		{ "window:4;", "window" },
		{ "dense:4", "left over" },
		{ "dense:", "left over" },
	};

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct policy p = { 0 };
		struct err e = { 0 };

		assert_int_equal(policy_parse(cases[c].text, &p, &e), SINK_EINVAL);
		assert_non_null(strstr(e.text, cases[c].says));
		assert_null(p.row);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_token_sees_what_the_definition_says),
		cmocka_unit_test(a_text_of_any_length_is_served),
		cmocka_unit_test(what_is_parsed_can_be_written),
		cmocka_unit_test(bad_text_names_what_is_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
