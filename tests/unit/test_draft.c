/* draft.c: what it proposes against a search of the whole text, and what it learns of its proposals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "draft.h"

enum { LONG = 3 * DRAFT_SPAN };

static uint32_t lot(uint32_t *state, uint32_t below)
{
	*state = *state * 1664525 + 1013904223;
	return (*state >> 8) % below;
}

static struct draft *draft(void)
{
	struct draft *d = NULL;

	assert_int_equal(draft_new(&d, NULL), 0);
	return d;
}

/* Tokens that look like a text: words of a few ids each that come again and again. */
static void write_text(int32_t *log, size_t count, uint32_t state)
{
	for (size_t i = 0; i < count; i++)
		log[i] = i % 3 && lot(&state, 10) ? log[i - 1] * 7 % 1000 + 1 : (int32_t)lot(&state, 1000);
}

static void what_stood_before_is_proposed(void **state)
{
	const int32_t log[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3 };
	struct draft *d = draft();
	struct draft_match m;
	int32_t out[DRAFT_MOST];

	(void)state;
	assert_int_equal(draft_propose(d, log, 2, 4, out, &m), 0);
	assert_int_equal(draft_propose(d, log, 9, 4, out, &m), 0);
	assert_int_equal(draft_propose(d, log, 11, 4, out, &m), 0); /* two tokens are not enough */
	assert_int_equal(draft_propose(d, log, 12, 4, out, &m), 4);
	assert_memory_equal(out, log + 3, 4 * sizeof(*out));
	assert_int_equal(m.suffix, 3);
	assert_int_equal(m.agrees, 3);
	assert_int_equal(draft_propose(d, log, 12, 0, out, &m), 0);
	draft_free(d);
	draft_free(NULL);
}

static void the_longest_match_is_taken_then_the_latest(void **state)
{
	const int32_t log[] = { 50, 1, 2, 3, 4, 60, 1, 2, 3, 5, 70, 1, 2, 3, 6, 50, 1, 2, 3 };
	const int32_t even[] = { 1, 2, 3, 4, 60, 1, 2, 3, 5, 70, 1, 2, 3 };
	struct draft *d = draft();
	struct draft_match m;
	int32_t out[DRAFT_MOST];

	(void)state;
	assert_int_equal(draft_propose(d, log, 19, 1, out, &m), 1);
	assert_int_equal(out[0], 4);
	assert_int_equal(m.suffix, 4);
	draft_free(d);
	d = draft();
	assert_int_equal(draft_propose(d, even, 13, 1, out, &m), 1);
	assert_int_equal(out[0], 5);
	draft_free(d);
}

static void what_repeats_itself_goes_on(void **state)
{
	const int32_t log[] = { 7, 8, 7, 8, 7, 8 };
	struct draft *d = draft();
	struct draft_match m;
	int32_t out[DRAFT_MOST];

	(void)state;
	assert_int_equal(draft_propose(d, log, 6, 100, out, &m), DRAFT_MOST);
	for (size_t i = 0; i < DRAFT_MOST; i++)
		assert_int_equal(out[i], i % 2 ? 8 : 7);
	draft_free(d);
}

/* A text that is copied with one token changed: behind the change the draft goes on where it would have. */
static void a_changed_copy_is_followed(void **state)
{
	struct draft *d = draft();
	struct draft_match m;
	int32_t log[100], out[DRAFT_MOST];

	(void)state;
	for (int32_t i = 0; i < 50; i++)
		log[i] = log[50 + i] = 100 + i;
	assert_int_equal(draft_propose(d, log, 80, 2, out, &m), 2);
	log[80] = 3;
	assert_int_equal(draft_propose(d, log, 81, 2, out, &m), 2);
	assert_int_equal(out[0], 131);
	assert_int_equal(m.suffix, 0);
	assert_int_equal(m.agrees, 31 - 1); /* 30 of the copy agree; the token before it does not */
	for (size_t n = 81; n < 100; n++)   /* and when nothing agrees any more, it is given up */
		log[n] = (int32_t)n;
	for (size_t n = 82; n < 100; n++)
		draft_propose(d, log, n, 2, out, &m);
	assert_int_equal(draft_propose(d, log, 100, 2, out, &m), 0);
	draft_free(d);
}

static size_t suffix_at(const int32_t *log, size_t place, size_t count)
{
	size_t n = 0;

	while (n < 32 && n < place && log[place - 1 - n] == log[count - 1 - n])
		n++;
	return n;
}

/* Whatever is proposed stood somewhere behind as many equal tokens as it says. */
static void proposals_are_of_the_text(void **state)
{
	int32_t *log = test_malloc(4000 * sizeof(*log)), out[DRAFT_MOST];
	struct draft *d = draft();
	size_t proposed = 0;

	(void)state;
	write_text(log, 4000, 5);
	for (size_t n = 1; n <= 4000; n += 1 + n % 3) {
		struct draft_match m;
		bool found = false;

		if (draft_propose(d, log, n, 1, out, &m) == 0)
			continue;
		proposed++;
		assert_true(m.suffix <= m.agrees && m.agrees <= 32);
		for (size_t place = 1; place < n && !found; place++)
			found = log[place] == out[0] && suffix_at(log, place, n) == m.suffix;
		assert_true(found);
	}
	assert_true(proposed > 500);
	draft_free(d);
	test_free(log);
}

/* A long text is taken in piece by piece, and only its end is looked at. */
static void a_long_text_is_bounded(void **state)
{
	int32_t *log = test_calloc(LONG, sizeof(*log)), out[DRAFT_MOST];
	struct draft *d = draft();
	struct draft_match m;
	size_t calls = 0;

	(void)state;
	for (size_t i = 0; i < LONG; i++)
		log[i] = (int32_t)i;
	for (size_t i = 0; i < 20; i++) { /* stands twice in the text, and at its end */
		log[1000 + i] = log[LONG - 20 + i] = (int32_t)i + 1;
		log[LONG - DRAFT_SPAN / 2 + i] = (int32_t)i + 1;
	}
	log[LONG - DRAFT_SPAN / 2 + 20] = -7;
	while (draft_propose(d, log, LONG, 1, out, &m) == 0)
		assert_true(++calls < 20);
	assert_true(calls >= DRAFT_SPAN / DRAFT_STRETCH - 1);
	assert_int_equal(out[0], -7);
	for (size_t i = 0; i < 20; i++) /* what lies before the end is not found */
		log[LONG - 20 + i] = 1000 + (int32_t)i - 5000;
	log[LONG - 3] = LONG - DRAFT_SPAN - 50;
	log[LONG - 2] = LONG - DRAFT_SPAN - 49;
	log[LONG - 1] = LONG - DRAFT_SPAN - 48;
	draft_free(d);
	d = draft();
	for (size_t i = 0; i < 20; i++)
		assert_int_equal(draft_propose(d, log, LONG, 1, out, &m), 0);
	draft_free(d);
	test_free(log);
}

/* A text that became another one costs proposals, and nothing else. */
static void a_text_that_was_cut_is_taken_in_anew(void **state)
{
	int32_t log[300], out[DRAFT_MOST];
	struct draft *d = draft();
	struct draft_match m;

	(void)state;
	for (int32_t i = 0; i < 300; i++)
		log[i] = i % 100;
	assert_true(draft_propose(d, log, 300, 3, out, &m) > 0);
	for (int32_t i = 0; i < 250; i++)
		log[i] = i % 90;
	assert_int_equal(draft_propose(d, log, 250, 3, out, &m), 3);
	for (int32_t i = 0; i < 3; i++)
		assert_int_equal(out[i], (250 + i) % 90);
	draft_free(d);
}

static void chances_follow_what_comes_true(void **state)
{
	const struct draft_match shorter = { 3, 4, false }, longer = { 32, 32, false };
	const struct draft_match certain = { .certain = true };
	struct draft_odds o = { { 0 }, { 0 } };
	double before;

	(void)state;
	assert_true(draft_chance(&o, &longer, 0) > draft_chance(&o, &shorter, 0));
	assert_true(draft_chance(&o, &shorter, 8) > draft_chance(&o, &shorter, 0));
	for (int i = 0; i < 50; i++)
		draft_learn(&o, &shorter, 1, 0);
	for (int i = 0; i < 50; i++)
		draft_learn(&o, &longer, 4, 4);
	assert_true(draft_chance(&o, &shorter, 0) < 0.1);
	assert_true(draft_chance(&o, &longer, 0) > 0.98);
	assert_true(draft_chance(&o, &certain, 5) > 0.8); /* nothing was learnt of these */
	before = draft_chance(&o, &shorter, 0);
	for (int i = 0; i < 300; i++) /* not used for long: it may be as usual again */
		draft_learn(&o, &shorter, 0, 0);
	assert_true(draft_chance(&o, &shorter, 0) > before + 0.2);
	assert_true(draft_chance(&o, &longer, 0) > 0.98);
	for (size_t suffix = 0; suffix <= 32; suffix++)
		for (size_t agrees = suffix; agrees <= 32; agrees++) {
			const struct draft_match m = { suffix, agrees, false };

			for (size_t i = 0; i < DRAFT_MOST; i++)
				assert_true(draft_chance(&o, &m, i) > 0 && draft_chance(&o, &m, i) < 1);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_stood_before_is_proposed),
		cmocka_unit_test(the_longest_match_is_taken_then_the_latest),
		cmocka_unit_test(what_repeats_itself_goes_on),
		cmocka_unit_test(a_changed_copy_is_followed),
		cmocka_unit_test(proposals_are_of_the_text),
		cmocka_unit_test(a_long_text_is_bounded),
		cmocka_unit_test(a_text_that_was_cut_is_taken_in_anew),
		cmocka_unit_test(chances_follow_what_comes_true),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
