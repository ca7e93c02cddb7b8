/* settings.c: every number of `sampling` against the range that the protocol states. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "settings.h"

/* Reads a map that `fill` writes. */
static int read_map(void (*fill)(struct out *o, const void *arg), const void *arg, struct settings *s, bool *seeded,
		    struct err *e)
{
	const void *frame;
	struct out *o;
	struct msg *m;
	size_t size;
	int rc;

	assert_int_equal(out_new(&o, NULL), 0);
	out_map(o, NULL);
	fill(o, arg);
	out_end(o);
	frame = out_data(o, &size);
	assert_int_equal(msg_parse(frame, size, &m, NULL), 0);
	rc = settings_read(msg_root(m), s, seeded, e);
	msg_free(m);
	out_free(o);
	return rc;
}

struct number {
	const char *key;
	double value;
	bool whole;
};

static void fill_number(struct out *o, const void *arg)
{
	const struct number *n = arg;

	if (n->whole)
		out_int(o, n->key, (int64_t)n->value);
	else
		out_float(o, n->key, n->value);
}

static void ranges_are_those_of_the_protocol(void **state)
{
	static const struct {
		struct number n;
		bool good;
	} cases[] = {
		{ { "temperature", 0, false }, true },
		{ { "temperature", 100, false }, true },
		{ { "temperature", 1, true }, true },
		{ { "temperature", -0.001, false }, false },
		{ { "temperature", 100.001, false }, false },
		{ { "temperature", NAN, false }, false },
		{ { "temperature", INFINITY, false }, false },
		{ { "top_p", 0, false }, false },
		{ { "top_p", 1, false }, true },
		{ { "top_p", 1.01, false }, false },
		{ { "min_p", 0, false }, true },
		{ { "min_p", 1, false }, false },
		{ { "repetition_penalty", 0, false }, false },
		{ { "repetition_penalty", 10, false }, true },
		{ { "presence_penalty", -10, false }, true },
		{ { "presence_penalty", 10.5, false }, false },
		{ { "frequency_penalty", -11, true }, false },
		{ { "top_k", 0, true }, true },
		{ { "top_k", 2147483647, true }, true },
		{ { "top_k", 2147483648.0, true }, false },
		{ { "top_k", 1.5, false }, false },
		{ { "top_k", -1, true }, false },
		{ { "penalty_last", 8192, true }, true },
		{ { "penalty_last", 8193, true }, false },
		{ { "max_tokens", -1, true }, false },
		{ { "max_tokens", 0, true }, true },
		{ { "top_logprobs", 20, true }, true },
		{ { "top_logprobs", 21, true }, false },
		{ { "top_logprobs", -1, true }, false },
		{ { "seed", 0, true }, true },
		{ { "seed", -1, true }, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct settings s = { 0 }, before;
		struct err e = { 0 };
		int rc;

		sampling_defaults(&s.how);
		before = s;
		rc = read_map(fill_number, &cases[i].n, &s, NULL, &e);
		assert_int_equal(rc, cases[i].good ? 0 : SINK_EINVAL);
		if (!cases[i].good) {
			assert_non_null(strstr(e.text, cases[i].n.key));
			assert_memory_equal(&s, &before, sizeof(s));
		}
	}
}

static void fill_stops(struct out *o, const void *arg)
{
	out_array(o, "stop");
	for (int i = 0; i < *(const int *)arg; i++)
		out_str(o, NULL, "x\n");
	out_end(o);
}

static void fill_long_stop(struct out *o, const void *arg)
{
	char text[300];

	memset(text, 'x', sizeof(text));
	out_array(o, "stop");
	out_strn(o, NULL, text, (size_t) * (const int *)arg);
	out_end(o);
}

static void stops_are_bounded(void **state)
{
	static const int counts[] = { 0, 1, 16, 17 }, lengths[] = { 0, 1, 256, 257 };

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct settings s = { 0 };
		struct err e;

		sampling_defaults(&s.how);
		assert_int_equal(read_map(fill_stops, &counts[i], &s, NULL, &e), counts[i] <= 16 ? 0 : SINK_EINVAL);
		assert_int_equal(s.stops, counts[i] <= 16 ? counts[i] : 0);
		assert_int_equal(read_map(fill_long_stop, &lengths[i], &s, NULL, &e),
				 lengths[i] >= 1 && lengths[i] <= 256 ? 0 : SINK_EINVAL);
	}
}

static void fill_seed(struct out *o, const void *arg)
{
	(void)arg;
	out_int(o, "seed", 42);
}

static void fill_nothing(struct out *o, const void *arg)
{
	(void)o;
	(void)arg;
}

static void a_seed_is_told_from_none(void **state)
{
	struct settings s = { 0 };
	bool seeded;

	(void)state;
	sampling_defaults(&s.how);
	assert_int_equal(read_map(fill_nothing, NULL, &s, &seeded, NULL), 0);
	assert_false(seeded);
	assert_int_equal(read_map(fill_seed, NULL, &s, &seeded, NULL), 0);
	assert_true(seeded);
	assert_int_equal(s.how.seed, 42);
	assert_int_equal(settings_read(NULL, &s, &seeded, NULL), 0);
	assert_false(seeded);
	assert_true(settings_random_seed() <= INT64_MAX);
}

static void fill_all(struct out *o, const void *arg)
{
	settings_write(arg, o, "sampling", true);
}

static void what_is_written_can_be_read(void **state)
{
	struct settings s = { .max_tokens = 7,
			      .top_logprobs = 3,
			      .logprobs = true,
			      .undrafted = true,
			      .unthinking = true,
			      .stops = 1,
			      .stop = { { 2, "ab" } } },
			back = { 0 };
	const void *frame;
	struct out *o;
	struct msg *m;
	size_t size;

	(void)state;
	sampling_defaults(&s.how);
	sampling_defaults(&back.how);
	s.how.seed = 99;
	s.how.temperature = 1.25;
	assert_int_equal(out_new(&o, NULL), 0);
	out_map(o, NULL);
	fill_all(o, &s);
	out_end(o);
	frame = out_data(o, &size);
	assert_int_equal(msg_parse(frame, size, &m, NULL), 0);
	assert_int_equal(settings_read(val_get(msg_root(m), "sampling"), &back, NULL, NULL), 0);
	assert_memory_equal(&back, &s, sizeof(s));
	msg_free(m);
	out_free(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_are_those_of_the_protocol),
		cmocka_unit_test(stops_are_bounded),
		cmocka_unit_test(a_seed_is_told_from_none),
		cmocka_unit_test(what_is_written_can_be_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
