/* sched.c: who moves, how far, and for how long others wait, played with runners and a clock of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sched.h"

enum { MOST = 64 };

static struct runner reader(int64_t waiting)
{
	return (struct runner){ .waiting = waiting, .room = 256, .wants = ROWS_LAST };
}

static struct runner streamer(void)
{
	return (struct runner){ .waiting = 1, .room = 256, .wants = ROWS_LAST, .streams = true };
}

/* One step; its rows. Everybody who streams has a token to be read again afterwards. */
static size_t step(struct sched *s, double row_ms, double fixed_ms, double *ms)
{
	struct runner *chosen[MOST];
	size_t count = sched_plan(s, chosen, MOST), rows = 0, prompts = 0;

	for (size_t i = 0; i < count; i++) {
		struct runner *r = chosen[i];

		assert_true(r->take >= 1 && (int64_t)r->take <= r->waiting && (int64_t)r->take <= r->room);
		rows += r->take;
		prompts += r->streams ? 0 : r->take;
		if (!r->streams)
			r->waiting -= (int64_t)r->take;
	}
	*ms = fixed_ms + row_ms * (double)rows;
	if (count)
		sched_learn(s, rows, prompts, *ms);
	return rows;
}

static void nobody_is_nothing_to_do(void **state)
{
	struct runner idle = reader(0), full = reader(5), *chosen[MOST];
	struct sched s;

	(void)state;
	sched_init(&s, 256, 64, 100);
	assert_int_equal(sched_plan(&s, chosen, MOST), 0);
	full.room = 0;
	sched_add(&s, &idle);
	sched_add(&s, &full);
	assert_int_equal(sched_plan(&s, chosen, MOST), 0);
	sched_remove(&s, &idle);
	sched_remove(&s, &idle);
	assert_int_equal(s.count, 1);
}

static void everybody_who_answers_moves_each_step(void **state)
{
	struct runner stream[8], *chosen[MOST];
	struct sched s;

	(void)state;
	sched_init(&s, 256, 64, 100);
	for (int i = 0; i < 8; i++) {
		stream[i] = streamer();
		sched_add(&s, &stream[i]);
	}
	for (int i = 0; i < 5; i++) {
		assert_int_equal(sched_plan(&s, chosen, MOST), 8);
		for (int k = 0; k < 8; k++)
			assert_int_equal(chosen[k]->take, 1);
	}
}

static void more_than_fit_take_turns(void **state)
{
	struct runner stream[10], *chosen[MOST];
	int served[10] = { 0 };
	struct sched s;

	(void)state;
	sched_init(&s, 256, 4, 100); /* four rows of logits */
	for (int i = 0; i < 10; i++) {
		stream[i] = streamer();
		sched_add(&s, &stream[i]);
	}
	for (int i = 0; i < 5; i++) {
		assert_int_equal(sched_plan(&s, chosen, MOST), 4);
		for (int k = 0; k < 4; k++)
			served[chosen[k] - stream]++;
	}
	for (int i = 0; i < 10; i++)
		assert_int_equal(served[i], 2);
}

static void a_long_prompt_leaves_the_gap_small(void **state)
{
	static const double row_ms[] = { 0.1, 1, 3, 20 };

	(void)state;
	for (size_t c = 0; c < sizeof(row_ms) / sizeof(row_ms[0]); c++) {
		struct runner prompt = reader(100000), stream = streamer();
		double ms, total = 0;
		struct sched s;
		int steps = 0;

		sched_init(&s, 256, 64, 100);
		sched_add(&s, &prompt);
		sched_add(&s, &stream);
		for (; prompt.waiting > 50000 && steps < 5000; steps++) {
			assert_true(step(&s, row_ms[c], 5, &ms) >= 2);
			if (steps > 20) /* it has learned */
				assert_true(ms <= 110 + row_ms[c]);
			total += ms;
		}
		/* And what time there is is used: the steps are as long as they may be, or as large. */
		if (row_ms[c] >= 1)
			assert_true(total / steps > 75);
		else
			assert_true((100000 - prompt.waiting) / steps > 200);
	}
}

static void one_slow_step_is_soon_forgotten(void **state)
{
	struct runner prompt = reader(1000000), stream = streamer();
	struct sched s;
	double ms;

	(void)state;
	sched_init(&s, 256, 64, 100);
	sched_add(&s, &prompt);
	sched_add(&s, &stream);
	for (int i = 0; i < 50; i++)
		step(&s, 1, 5, &ms);
	assert_true(ms > 75);
	step(&s, 50, 5, &ms);
	for (int i = 0; i < 20; i++)
		step(&s, 1, 5, &ms);
	assert_true(ms > 75);
}

/* A conversation that reads its window anew for each token is a reader, whatever its length. */
static void one_that_reads_anew_holds_up_no_stream(void **state)
{
	struct runner stream = { .waiting = 1, .room = 256, .wants = ROWS_LAST, .streams = true };
	struct runner anew = { .waiting = 900, .room = 900, .wants = ROWS_LAST };
	struct runner *chosen[2];
	struct sched s;
	int steps = 0;

	(void)state;
	sched_init(&s, 256, 64, 100);
	s.row_ms = 1;
	s.chunk = 256;
	sched_add(&s, &anew);
	sched_add(&s, &stream);
	for (; anew.waiting > 0; steps++) {
		assert_int_equal(sched_plan(&s, chosen, 2), 2);
		assert_int_equal(stream.take, 1);
		assert_in_range(anew.take, 1, 99);
		anew.waiting -= (int64_t)anew.take;
		anew.room = anew.waiting;
		anew.streams = anew.waiting == 1;
	}
	assert_int_equal(steps, 10);
}

static void prompts_share_a_step(void **state)
{
	struct runner r[4] = { reader(5000), reader(5000), reader(5000), reader(20) };
	struct sched s;
	double ms;

	(void)state;
	sched_init(&s, 256, 64, 1000);
	for (int i = 0; i < 4; i++)
		sched_add(&s, &r[i]);
	step(&s, 0.1, 1, &ms); /* 64 rows at first */
	for (int i = 0; i < 4; i++)
		assert_int_equal(r[i].take, 16);
	for (int i = 0; i < 3; i++)
		step(&s, 0.1, 1, &ms);
	assert_int_equal(r[3].waiting, 0);
	for (int i = 0; i < 3; i++)
		assert_true(r[i].take >= 80 && r[i].take <= 90);
}

static void thin_pieces_are_not_cut(void **state)
{
	struct runner r[40], *chosen[MOST];
	struct sched s;

	(void)state;
	sched_init(&s, 256, 64, 100);
	for (int i = 0; i < 40; i++) {
		r[i] = reader(1000);
		sched_add(&s, &r[i]);
	}
	assert_int_equal(sched_plan(&s, chosen, MOST), 4); /* 64 rows in pieces of 16 */
	assert_int_equal(sched_plan(&s, chosen, MOST), 4);
	assert_ptr_equal(chosen[0], &r[4]); /* the next ones */
}

static void a_step_keeps_to_its_limits(void **state)
{
	struct runner r[3] = { reader(100), reader(100), reader(100) }, *chosen[MOST];
	size_t count, rows = 0, logits = 0;
	struct sched s;

	(void)state;
	sched_init(&s, 48, 10, 1e6);
	r[1].wants = ROWS_ALL;
	r[2].room = 5;
	for (int i = 0; i < 3; i++)
		sched_add(&s, &r[i]);
	count = sched_plan(&s, chosen, MOST);
	for (size_t i = 0; i < count; i++) {
		rows += chosen[i]->take;
		logits += chosen[i]->wants == ROWS_ALL ? chosen[i]->take : 0;
	}
	assert_true(rows <= 48 && logits == 10);
	assert_int_equal(r[2].take, 5);
	assert_int_equal(sched_plan(&s, chosen, 1), 1);
}

static void times_are_those_of_the_last_thousand(void **state)
{
	struct sched_times t;
	struct sched s;

	(void)state;
	sched_init(&s, 256, 64, 100);
	sched_times(&s, &t);
	assert_true(t.median == 0 && t.p99 == 0 && t.max == 0);
	for (int i = 0; i < 500; i++)
		sched_learn(&s, 1, 0, 1e6);
	for (int i = 1; i <= SCHED_STEPS; i++)
		sched_learn(&s, 1, 0, i);
	sched_times(&s, &t);
	assert_true(t.median >= 500 && t.median <= 501);
	assert_true(t.p99 >= 989 && t.p99 <= 991);
	assert_true(t.max == SCHED_STEPS);
	assert_int_equal(s.steps, 500 + SCHED_STEPS);
}

/* Tokens a second that are to be expected of a step of one stream with so many drafts of this chance each. */
static double rate(double chance, size_t drafts, double row)
{
	double tokens = 1, c = 1;

	for (size_t i = 0; i < drafts; i++)
		tokens += c *= chance;
	return tokens / (10 * (1 + row * (double)drafts));
}

static struct runner drafter(size_t drafts, double chance)
{
	struct runner r = streamer();

	r.drafts = drafts;
	for (size_t i = 0; i < drafts; i++)
		r.chance[i] = chance;
	return r;
}

/* A machine on which each further row costs this share of the first. */
static void teach(struct sched *s, double row)
{
	for (int i = 0; i < 200; i++)
		for (size_t n = 1; n <= DRAFT_MOST + 1; n++)
			sched_learn(s, n, 0, 10 * (1 + row * (double)(n - 1)));
}

static void as_many_drafts_as_pay(void **state)
{
	static const double rows[] = { 0.02, 0.2, 0.35, 0.9 }, chances[] = { 0.01, 0.3, 0.6, 0.9, 0.99 };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (size_t k = 0; k < sizeof(chances) / sizeof(chances[0]); k++) {
			struct runner r = drafter(DRAFT_MOST, chances[k]), *chosen[MOST];
			double best = 0, got;
			struct sched s;

			sched_init(&s, 256, 64, 1000);
			sched_add(&s, &r);
			assert_int_equal(sched_plan(&s, chosen, MOST), 1);
			assert_int_equal(r.take, 1); /* nothing is known of times */
			teach(&s, rows[i]);
			assert_int_equal(sched_plan(&s, chosen, MOST), 1);
			got = rate(chances[k], r.take - 1, rows[i]);
			for (size_t n = 0; n <= DRAFT_MOST; n++)
				best = rate(chances[k], n, rows[i]) > best ? rate(chances[k], n, rows[i]) : best;
			assert_true(got > best * 0.96);
			assert_true(chances[k] > rows[i] || r.take == 1);
		}
}

static void drafts_keep_to_limits(void **state)
{
	struct runner r[6] = { { .listed = false } }, *chosen[MOST];
	struct sched s;
	size_t rows;

	(void)state;
	sched_init(&s, 256, 64, 15); /* a step of one row takes 10 */
	teach(&s, 0.2);
	for (int i = 0; i < 2; i++) {
		r[i] = drafter(DRAFT_MOST, 0.99);
		sched_add(&s, &r[i]);
	}
	assert_int_equal(sched_plan(&s, chosen, MOST), 2);
	assert_true(pace_of(&s.pace, r[0].take + r[1].take) <= 15); /* neither waits for longer */
	assert_true(r[0].take + r[1].take >= 3);
	r[1].drafts = 0; /* the likeliest come first */
	assert_int_equal(sched_plan(&s, chosen, MOST), 2);
	assert_int_equal(r[1].take, 1);
	assert_true(r[0].take > 1);
	s.drafts = 0;
	assert_int_equal(sched_plan(&s, chosen, MOST), 2);
	assert_int_equal(r[0].take + r[1].take, 2);
	s.drafts = DRAFT_MOST; /* whatever it costs, but for the rows that there are */
	for (int i = 0; i < 6; i++) {
		sched_remove(&s, &r[i]);
		r[i] = drafter(DRAFT_MOST, 0.1);
		sched_add(&s, &r[i]);
	}
	assert_int_equal(sched_plan(&s, chosen, MOST), 6);
	rows = 0;
	for (int i = 0; i < 6; i++)
		rows += r[i].take;
	assert_int_equal(rows, 6 + SCHED_DRAFTS);
	s.max_rows = 9;
	assert_int_equal(sched_plan(&s, chosen, MOST), 6);
	rows = 0;
	for (int i = 0; i < 6; i++)
		rows += r[i].take;
	assert_int_equal(rows, 9);
}

static void drafts_make_no_step_with_a_prompt_longer(void **state)
{
	struct runner r = drafter(8, 0.98), prompt = reader(100000), *chosen[MOST];
	size_t drafted = 0;
	struct sched s;

	(void)state;
	sched_init(&s, 256, 64, 100);
	sched_add(&s, &r);
	sched_add(&s, &prompt);
	for (int i = 0; i < 60; i++) {
		size_t count = sched_plan(&s, chosen, MOST), rows = 0;

		assert_int_equal(count, 2);
		assert_true(prompt.take > 0);
		rows = r.take + prompt.take;
		drafted += r.take - 1;
		if (i > 30)
			assert_true(5 + 2 * (double)rows <= 110);
		sched_learn(&s, rows, prompt.take, 5 + 2 * (double)rows);
	}
	assert_true(drafted > 100);
}

/* Times of a few counts tell those between and beyond; what changes for one changes for all; and what is old goes. */
static void times_of_steps_are_learnt(void **state)
{
	struct pace p = { { 0 }, { 0 } };

	(void)state;
	assert_true(pace_of(&p, 3) <= 0);
	pace_learn(&p, 1, 8);
	assert_true(pace_of(&p, 1) > 7.9 && pace_of(&p, 1) < 8.1);
	assert_true(pace_of(&p, 5) > 8 && pace_of(&p, 5) < 24); /* a guess */
	for (int i = 0; i < 100; i++) {
		pace_learn(&p, 1, 8);
		pace_learn(&p, 5, 12);
		pace_learn(&p, 9, 20);
	}
	assert_true(pace_of(&p, 5) > 11.5 && pace_of(&p, 5) < 12.5);
	assert_true(pace_of(&p, 3) > 9.5 && pace_of(&p, 3) < 10.5);
	assert_true(pace_of(&p, 17) > 30 && pace_of(&p, 17) < 34);
	for (int i = 0; i < 40; i++) /* twice as slow, seen with one row alone */
		pace_learn(&p, 1, 16);
	assert_true(pace_of(&p, 1) > 15 && pace_of(&p, 5) > 17);
	pace_learn(&p, 1, 1e9); /* an outlier, or nonsense */
	pace_learn(&p, 0, 5);
	pace_learn(&p, PACE_ROWS + 1, 5);
	pace_learn(&p, 3, 0);
	assert_true(pace_of(&p, 1) < 18);
	for (int i = 0; i < 2000; i++)
		pace_learn(&p, 1, 8);
	assert_true(pace_of(&p, 5) > 15 && pace_of(&p, 5) < 17); /* what a row costs mostly */
	for (size_t n = 2; n <= PACE_ROWS + 30; n++)
		assert_true(pace_of(&p, n) >= pace_of(&p, n - 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_is_nothing_to_do),
		cmocka_unit_test(everybody_who_answers_moves_each_step),
		cmocka_unit_test(more_than_fit_take_turns),
		cmocka_unit_test(a_long_prompt_leaves_the_gap_small),
		cmocka_unit_test(one_slow_step_is_soon_forgotten),
		cmocka_unit_test(one_that_reads_anew_holds_up_no_stream),
		cmocka_unit_test(prompts_share_a_step),
		cmocka_unit_test(thin_pieces_are_not_cut),
		cmocka_unit_test(a_step_keeps_to_its_limits),
		cmocka_unit_test(times_are_those_of_the_last_thousand),
		cmocka_unit_test(as_many_drafts_as_pay),
		cmocka_unit_test(drafts_keep_to_limits),
		cmocka_unit_test(drafts_make_no_step_with_a_prompt_longer),
		cmocka_unit_test(times_of_steps_are_learnt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
