/* policy.c against the definitions, written out: count the visible tokens one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy.h"

enum { TOKENS = 300, PLACES = 512, ALL = INT32_MAX };

enum kind { SINK, SEPARATOR, ANCHOR };

static const struct {
	const char *text;
	enum kind kind;
	int64_t s, k, w;
} good[] = {
	{ "sink:4,20", SINK, 4, 0, 20 },
	{ "sink:0,1", SINK, 0, 0, 1 },
	{ "sink:50,3", SINK, 50, 0, 3 },
	{ "window:17", SINK, 0, 0, 17 },
	{ "window:1", SINK, 0, 0, 1 },
	{ "recompute:17", SINK, 0, 0, 17 },
	{ "dense", SINK, 0, 0, ALL },
	{ "sink:1,64", SINK, 1, 0, 64 },
	{ "sink:300,300", SINK, 300, 0, 300 },
	{ "window:2147483646", SINK, 0, 0, 2147483646 },
	{ "sink:1,20,token=7", SINK, 1, 0, 20 },
	{ "separator:4,6,20", SEPARATOR, 4, 6, 20 },
	{ "separator:0,1,1", SEPARATOR, 0, 1, 1 },
	{ "separator:30,3,9", SEPARATOR, 30, 3, 9 },
	{ "separator:4,0,20", SEPARATOR, 4, 0, 20 },
	{ "separator:4,all,20", SEPARATOR, 4, ALL, 20 },
	{ "anchor:0,all,300", ANCHOR, 0, ALL, 300 },
	{ "anchor:4,5,300", ANCHOR, 4, 5, 300 },
	{ "anchor:20,5,12", ANCHOR, 20, 5, 12 },
	{ "anchor:0,0,12", ANCHOR, 0, 0, 12 },
};

enum { GOOD = sizeof(good) / sizeof(good[0]) };

/* Marks now rare, now one after the other, and one of them the very first token. */
static bool marked(int64_t i)
{
	return i % 17 == 0 || i % 41 == 3 || (i > 150 && i < 162);
}

static struct past make_past(int64_t *at)
{
	struct past past = { .at = at, .mask = PLACES - 1 };

	for (int64_t i = 0; i < TOKENS; i++)
		if (marked(i))
			at[past.end++] = i;
	return past;
}

/* How many marks lie within [from, to). */
static int64_t marks_within(int64_t from, int64_t to)
{
	int64_t n = 0;

	for (int64_t i = from; i < to; i++)
		n += marked(i);
	return n;
}

/* Whether token t sees token i, by the words of the definition. */
static bool sees_by_hand(size_t c, int64_t t, int64_t i)
{
	const int64_t s = good[c].s, k = good[c].k, w = good[c].w;
	int64_t begin = t;

	if (i > t)
		return false;
	if (good[c].kind == SINK)
		return i < s || i > t - w;
	if (good[c].kind == SEPARATOR)
		return i < s || i > t - w || (marked(i) && marks_within(i + 1, t - w + 1) < k);
	while (begin > 0 && !marked(begin - 1))
		begin--;
	if (marked(t))
		return i >= begin && (i > t - w || i < s);
	return i < s || (i >= begin && i > t - w) || (marked(i) && i < begin && marks_within(i + 1, begin) < k);
}

static bool sees(const struct view *v, const int64_t *at, int64_t i)
{
	bool kept = false;

	for (int64_t m = v->kept_first; m < v->kept_first + v->kept_count; m++)
		kept |= at[m] == i;
	return kept || (i >= v->pinned_first && i < v->pinned_first + v->pinned) ||
	       (i >= v->window && i < v->window + v->window_count);
}

static void a_token_sees_what_the_definition_says(void **state)
{
	int64_t at[PLACES];
	const struct past past = make_past(at);

	(void)state;
	for (size_t c = 0; c < GOOD; c++) {
		struct policy p;
		struct view v;

		assert_int_equal(policy_parse(good[c].text, &p, NULL), 0);
		for (int64_t t = 0; t < TOKENS; t++) {
			int64_t rows = 0;

			policy_view(&p, &past, t, &v);
			for (int64_t i = 0; i < TOKENS; i++) {
				if (sees(&v, at, i) != sees_by_hand(c, t, i))
					fail_msg("%s: token %d and token %d", good[c].text, (int)t, (int)i);
				rows += sees_by_hand(c, t, i);
			}
			assert_int_equal(view_size(&v), rows); /* none twice */
			assert_true(view_size(&v) >= 1);
			assert_true(view_size(&v) <= policy_budget(&p));
			assert_true(v.pinned_first + v.pinned <= v.window);
		}
	}
}

/* After an anchor its sequence is gone, and the anchor is among the kept; else what is held is what was seen. */
static void what_is_held_is_what_the_next_token_sees(void **state)
{
	int64_t at[PLACES];
	const struct past past = make_past(at);

	(void)state;
	for (size_t c = 0; c < GOOD; c++) {
		struct policy p;
		struct view held, seen;

		assert_int_equal(policy_parse(good[c].text, &p, NULL), 0);
		for (int64_t t = 0; t + 1 < TOKENS; t++) {
			bool anchor = good[c].kind == ANCHOR && marked(t);

			policy_held(&p, &past, t, &held);
			policy_view(&p, &past, anchor ? t + 1 : t, &seen);
			if (!anchor) {
				assert_memory_equal(&held, &seen, sizeof(held));
			} else if (!marked(t + 1) && t + 1 >= p.sinks) {
				assert_int_equal(held.pinned, seen.pinned);
				assert_int_equal(held.kept_first, seen.kept_first);
				assert_int_equal(held.kept_count, seen.kept_count);
				assert_int_equal(held.window, t + 1);
				assert_int_equal(held.window_count, 0);
			}
		}
	}
}

/* With some of the first marks forgotten, a view is said to be known only when it is what it was. */
static void a_view_that_is_known_is_whole(void **state)
{
	int64_t at[PLACES];
	const struct past past = make_past(at);
	int known = 0, unknown = 0;

	(void)state;
	for (size_t c = 0; c < GOOD; c++) {
		struct policy p;

		assert_int_equal(policy_parse(good[c].text, &p, NULL), 0);
		for (int64_t first = 0; first < past.end; first += 4)
			for (int64_t t = 0; t < TOKENS; t++) {
				struct past part = past;
				struct view whole, v;

				part.first = first;
				if (!policy_knows(&p, &part, t)) {
					assert_true(first > 0 && good[c].kind != SINK);
					unknown++;
					continue;
				}
				known++;
				policy_view(&p, &past, t, &whole);
				policy_view(&p, &part, t, &v);
				for (int64_t i = 0; i <= t; i++)
					assert_int_equal(sees(&v, at, i), sees(&whole, at, i));
			}
	}
	assert_true(known > 1000 && unknown > 100);
}

static void a_text_of_any_length_is_served(void **state)
{
	const struct past none = { 0 };
	struct policy p;
	struct view v;

	(void)state;
	assert_int_equal(policy_parse("sink:4,1020", &p, NULL), 0);
	policy_view(&p, &none, INT64_C(1) << 60, &v);
	assert_int_equal(view_size(&v), 1024);
	assert_int_equal(v.window, (INT64_C(1) << 60) - 1019);
}

static void a_cache_that_begins_anew_sees_nothing_before(void **state)
{
	const struct past past = { .begin = 90 };
	struct policy p;
	struct view v;

	(void)state;
	assert_int_equal(policy_parse("recompute:20", &p, NULL), 0);
	assert_true(policy_begins_anew(&p));
	policy_view(&p, &past, 95, &v);
	assert_int_equal(v.window, 90);
	assert_int_equal(view_size(&v), 6);
	policy_view(&p, &past, 109, &v);
	assert_int_equal(view_size(&v), 20);
}

static void what_is_parsed_can_be_written(void **state)
{
	(void)state;
	for (size_t c = 0; c < GOOD; c++) {
		const bool endless = good[c].w != ALL && good[c].k != ALL;
		struct policy p;
		char text[POLICY_TEXT];

		assert_int_equal(policy_parse(good[c].text, &p, NULL), 0);
		policy_format(&p, text, sizeof(text));
		assert_string_equal(text, good[c].text);
		assert_int_equal(policy_is_endless(&p), endless);
		assert_memory_equal(policy_name(&p), text, strlen(policy_name(&p)));
		assert_int_equal(policy_budget(&p), endless ? good[c].s + good[c].k + good[c].w : INT32_MAX);
		assert_int_equal(policy_marking(&p), good[c].kind == SEPARATOR ? MARKING_SEPARATORS
						     : good[c].kind == ANCHOR  ? MARKING_ANCHORS
									       : MARKING_NONE);
		assert_int_equal(p.token, strstr(text, "token") ? 7 : -1);
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
		{ "sink:4,20,token=", "sink token" },
		{ "sink:4,20,token=-3", "sink token" },
		{ "sink:4,20,token=7,", "left over" },
		{ "sink:0,20,token=7", "needs a sink" },
		{ "window:20,token=7", "left over" },
		{ "window:", "window" },
		{ "window:4;", "window" },
		{ "recompute", "window" },
		{ "recompute:0", "window" },
		{ "dense:4", "left over" },
		{ "dense:", "left over" },
		{ "separator:4", "separators" },
		{ "separator:4,-1,20", "separators" },
		{ "separator:4,al,20", "separators" },
		{ "separator:4,allx,20", "separators" },
		{ "separator:4,99999999999,20", "separators" },
		{ "separator:4,7", "window" },
		{ "separator:4,7,0", "window" },
		{ "anchor:4,x,20", "anchors" },
		{ "anchor:4,7,20,1", "left over" },
	};

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct policy p = { 0 };
		struct err e = { 0 };

		assert_int_equal(policy_parse(cases[c].text, &p, &e), SINK_EINVAL);
		if (!strstr(e.text, cases[c].says))
			fail_msg("\"%s\": \"%s\" does not say %s", cases[c].text, e.text, cases[c].says);
		assert_null(p.row);
	}
}

static void every_policy_has_one_at_a_budget(void **state)
{
	struct policy p;
	struct err e = { 0 };
	size_t n = 0;

	(void)state;
	for (const char *name; (name = policy_listed(n)); n++) {
		assert_int_equal(policy_at_budget(name, 512, 4, -1, &p, NULL), 0);
		assert_string_equal(policy_name(&p), name);
		assert_int_equal(policy_budget(&p), policy_is_endless(&p) ? 512 : ALL);
		assert_int_equal(p.sinks, policy_has_sinks(&p) ? 4 : 0);
	}
	assert_int_equal(n, 6);
	assert_int_equal(policy_at_budget("separator", 512, 4, 64, &p, NULL), 0);
	assert_int_equal(p.kept, 64);
	assert_int_equal(p.window, 444);
	assert_int_equal(policy_at_budget("sink", 4, 4, -1, &p, &e), SINK_EINVAL);
	assert_non_null(strstr(e.text, "no window"));
	assert_int_equal(policy_at_budget("separator", 64, 4, 60, &p, &e), SINK_EINVAL);
	assert_int_equal(policy_at_budget("sink", 0, 0, -1, &p, &e), SINK_EINVAL);
	assert_int_equal(policy_at_budget("sink", 10, -4, -1, &p, &e), SINK_EINVAL);
	assert_int_equal(policy_at_budget("sink", INT64_MAX, INT64_MAX, -1, &p, &e), SINK_EINVAL);
	assert_int_equal(policy_at_budget("snik", 512, 4, -1, &p, &e), SINK_EINVAL);
}

static void pinning_keeps_the_budget(void **state)
{
	struct policy p, pinned;

	(void)state;
	assert_int_equal(policy_parse("separator:4,8,100", &p, NULL), 0);
	pinned = policy_pinned(&p, 40);
	assert_int_equal(pinned.sinks, 40);
	assert_int_equal(policy_budget(&pinned), policy_budget(&p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_token_sees_what_the_definition_says),
		cmocka_unit_test(what_is_held_is_what_the_next_token_sees),
		cmocka_unit_test(a_view_that_is_known_is_whole),
		cmocka_unit_test(a_text_of_any_length_is_served),
		cmocka_unit_test(a_cache_that_begins_anew_sees_nothing_before),
		cmocka_unit_test(what_is_parsed_can_be_written),
		cmocka_unit_test(bad_text_names_what_is_wrong),
		cmocka_unit_test(every_policy_has_one_at_a_budget),
		cmocka_unit_test(pinning_keeps_the_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
