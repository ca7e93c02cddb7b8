/*
 * regex.c and grammar.c: expressions are compared with a matcher that goes back and forth over the pattern, for every
 * text over a small alphabet; what is not known is refused, and what is hostile ends soon.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "guiding.h"
#include "regex.h"

/* ---- expressions ---- */

static void expressions_match_what_they_say(void **state)
{
	static const char alphabet[] = "abc.";

	(void)state;
	for (size_t i = 0; i < PATTERNS; i++) {
		struct grammar *g = grammar_of(patterns[i]);
		char text[8];

		for (size_t len = 0; len <= 5; len++) {
			const size_t all = (size_t)1 << 2 * len;

			for (size_t n = 0; n < all; n++) {
				for (size_t k = 0; k < len; k++)
					text[k] = alphabet[n >> 2 * k & 3];
				text[len] = '\0';
				if (accepts(g, text) != matches(patterns[i], text))
					fail_msg("%s: \"%s\" %s", patterns[i], text,
						 matches(patterns[i], text) ? "is refused" : "is taken");
			}
		}
		grammar_free(g);
	}
}

static void characters_are_utf8(void **state)
{
	static const struct {
		const char *pattern, *text;
		bool good;
	} cases[] = {
		{ "[\xc3\xa0-\xc3\xbc]+", "\xc3\xa9\xc3\xa0", true },
		{ "[\xc3\xa0-\xc3\xbc]", "\xc3\xbd", false },
		{ ".", "\xe2\x82\xac", true },
		{ ".", "\xf0\x9f\x99\x82", true },
		{ ".", "\xed\xa0\x80", false },
		{ ".", "\xc0\x80", false },
		{ ".", "\xe2\x80\xa8", false },
		{ "[^a]{2}", "\xf4\x8f\xbf\xbfz", true },
		{ "[^a]", "\xf4\x90\x80\x80", false },
		{ "\\u{1f642}\\u20ac\\xe9", "\xf0\x9f\x99\x82\xe2\x82\xac\xc3\xa9", true },
		{ "\\w\\d\\s\\W\\D\\S", "_7 -xy", true },
		{ "^(a|b$)", "b", true },
		{ "^a$|^b$", "b", true },
		{ "(?<year>\\d{2})-(?P<m>\\d)", "12-3", true },
		{ "a*?b+?c??", "aabb", true },
		{ "[]a]", "a", false },
		{ "[\\]\\-a-]+", "]-a-", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct grammar *g;
		struct regex r;
		struct err e;

		assert_int_equal(grammar_new(&g, &e), 0);
		if (regex_parse(g, cases[i].pattern, strlen(cases[i].pattern), FORM_PLAIN, &r, &e) == 0 &&
		    grammar_finish(g, r.expr, &e) == 0) {
			if (accepts(g, cases[i].text) != cases[i].good)
				fail_msg("case %zu: %s", i, cases[i].pattern);
		} else if (cases[i].good) {
			fail_msg("%s: %s", cases[i].pattern, e.text);
		}
		grammar_free(g);
	}
}

static void strings_of_json_are_escaped(void **state)
{
	struct grammar *g;
	struct regex r;
	struct err e;

	(void)state;
	assert_int_equal(grammar_new(&g, &e), 0);
	assert_int_equal(regex_parse(g, "a[\"\\n\\\\]{3}\\x01", 15, FORM_JSON, &r, &e), 0);
	assert_int_equal(r.least, 5);
	assert_int_equal(r.most, 5);
	assert_int_equal(grammar_finish(g, r.expr, &e), 0);
	assert_true(accepts(g, "a\\\"\\n\\\\\\u0001"));
	assert_false(accepts(g, "a\"\\n\\\\\\u0001"));
	grammar_free(g);
}

static void what_is_not_known_is_refused(void **state)
{
	static const char *const bad[] = {
		"(a",	       "a)",	      "[a",    "a{2",	"a{3,2}",  "a{99999}", "*a",	  "a**b",
		"\\1",	       "(a)\\1",      "(?=a)", "(?!a)", "(?<=a)",  "(?i)a",    "\\ba",	  "a^b",
		"a$b",	       "(^a)*",	      "\\",    "[z-a]", "[a-\\d]", "\\q",      "\\ud800", "\\x4",
		"\\u{110000}", "[[:alpha:]]", "{a}",   "\xff",	"a++",	   "\\p{L}",   "(?<n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct grammar *g;
		struct err e = { 0 };
		struct regex r;

		assert_int_equal(grammar_new(&g, NULL), 0);
		if (regex_parse(g, bad[i], strlen(bad[i]), FORM_PLAIN, &r, &e) == 0)
			fail_msg("%s is taken", bad[i]);
		assert_int_equal(e.code, SINK_EINVAL);
		assert_true(strlen(e.text) > 10);
		grammar_free(g);
	}
}

/* ---- limits ---- */

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Looks at what may come next, some tokens far. */
static double slowest_mask(struct guide *q, int tokens)
{
	double most = 0;

	for (int i = 0; i < tokens && !guide_is_closed(q); i++) {
		const double began = seconds();
		struct mask m;

		guide_look(q);
		assert_int_equal(guide_mask(q, 1 << 20, &m, NULL), 0);
		most = seconds() - began > most ? seconds() - began : most;
		assert_true(m.count > 0);
		if (vocab_is_end(vocab, m.first) || guide_take(q, m.first, NULL) < 0)
			break;
	}
	return most;
}

static char *repeated(const char *text, size_t count, const char *tail)
{
	const size_t len = strlen(text);
	char *r = malloc(len * count + strlen(tail) + 1);

	for (size_t i = 0; i < count; i++)
		memcpy(r + i * len, text, len);
	memcpy(r + len * count, tail, strlen(tail) + 1);
	return r;
}

static void hostile_patterns_end_soon(void **state)
{
	char *const bad[] = {
		repeated("(", 5000, ""),
		repeated("(a?", 60, "") /* not closed */,
		repeated("a?", 8000, ""),
		repeated("(a*)*", 3000, ""),
		repeated("[a-z]", 3000, ""),
		repeated("(.*a|.*b)", 1500, ""),
		repeated("x|", 8000, "y"),
		repeated("((a|b){1,60000}c){1,60000}", 500, ""),
		repeated("", 0, "(((a{1,60000}){1,60000}){1,60000}){1,60000}"),
		repeated("", 0, "(.*x){3000}"),
		repeated("", 0, ".*a.{2000}"),
		repeated("", 0, "((a?){60000}){60000}"),
		repeated("", 0, "(a|aa|aaa|aaaa|aaaaa)*b"),
		repeated("\\w", 8000, ""),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const double began = seconds();
		struct guide *q = NULL;
		struct grammar *g;
		struct regex r;
		struct err e;
		int rc;

		assert_int_equal(grammar_new(&g, &e), 0);
		rc = regex_parse(g, bad[i], strlen(bad[i]), FORM_PLAIN, &r, &e);
		if (rc == 0)
			rc = grammar_finish(g, r.expr, &e);
		if (rc == 0)
			rc = guide_new(g, trie, &q, &e);
		if (seconds() - began > 0.5) /* 0.1 where nothing else runs */
			fail_msg("%.20s took %.0f ms", bad[i], (seconds() - began) * 1e3);
		if (rc == 0 && slowest_mask(q, 40) > 1)
			fail_msg("%.20s: a mask took too long", bad[i]);
		guide_free(q);
		grammar_free(g);
		free(bad[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(expressions_match_what_they_say), cmocka_unit_test(characters_are_utf8),
		cmocka_unit_test(strings_of_json_are_escaped),	   cmocka_unit_test(what_is_not_known_is_refused),
		cmocka_unit_test(hostile_patterns_end_soon),
	};

	return cmocka_run_group_tests(tests, make_vocabulary, free_vocabulary);
}
