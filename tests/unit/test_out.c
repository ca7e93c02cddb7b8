/* out.c: what is written is what the MessagePack specification says, and what msg.c reads back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "msg.h"

static void what_is_written_is_as_small_as_it_can_be(void **state)
{
	static const char wanted[] = "\x83\xa1n\x07\xa1"
				     "a\x92\xc0\x80\xa1m\x81\xa1s\xa1x";
	const void *bytes;
	struct out *o;
	size_t size;

	(void)state;
	assert_int_equal(out_new(&o, NULL), 0);
	for (int round = 0; round < 2; round++) {
		out_map(o, NULL);
		out_int(o, "n", 7);
		out_array(o, "a");
		out_nil(o, NULL);
		out_map(o, NULL);
		out_end(o);
		out_end(o);
		out_map(o, "m");
		out_str(o, "s", "x");
		out_end(o);
		assert_false(out_ok(o));
		out_end(o);
		assert_true(out_ok(o));
		bytes = out_data(o, &size);
		assert_int_equal(size, sizeof(wanted) - 1);
		assert_memory_equal(bytes, wanted, size);
		out_reset(o);
	}
	out_free(o);
	out_free(NULL);
}

static void many_and_long_values_come_back(void **state)
{
	enum { COUNT = 70000 };
	const struct val *a;
	const void *bytes;
	struct out *o, *copy;
	struct msg *m, *again;
	size_t size, copy_size;

	(void)state;
	assert_int_equal(out_new(&o, NULL), 0);
	out_map(o, NULL);
	out_array(o, "a");
	for (int i = 0; i < COUNT; i++)
		out_int(o, NULL, i - COUNT / 2);
	out_end(o);
	out_end(o);
	assert_int_equal(out_check(o, NULL), 0);
	bytes = out_data(o, &size);
	assert_int_equal(msg_parse(bytes, size, &m, NULL), 0);
	a = val_get(msg_root(m), "a");
	assert_int_equal(val_count(a), COUNT);
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(val_int(val_at(a, (size_t)i), 0), i - COUNT / 2);
	assert_int_equal(out_new(&copy, NULL), 0);
	out_map(copy, NULL);
	out_val(copy, "all", msg_root(m));
	out_val(copy, "none", NULL);
	out_end(copy);
	bytes = out_data(copy, &copy_size);
	assert_int_equal(msg_parse(bytes, copy_size, &again, NULL), 0);
	assert_int_equal(val_count(val_get(val_get(msg_root(again), "all"), "a")), COUNT);
	assert_int_equal(val_count(msg_root(again)), 2);
	msg_free(again);
	msg_free(m);
	out_free(copy);
	out_free(o);
}

static void text_that_is_no_utf8_is_mended(void **state)
{
	/* one U+FFFD for each longest part of a character, as Unicode recommends */
	static const struct {
		const char *from, *to;
	} rows[] = {
		{ "", "" },
		{ "\xff", "\xef\xbf\xbd" },
		{ "a\xe2\x82", "a\xef\xbf\xbd" },
		{ "\xe2\x82z", "\xef\xbf\xbdz" },
		{ "\xf0\x9f\x8c\xc3\xa4", "\xef\xbf\xbd\xc3\xa4" },
		{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct out *o;
		struct msg *m;
		const void *bytes;
		size_t size;

		assert_int_equal(out_new(&o, NULL), 0);
		out_map(o, NULL);
		out_str(o, "s", rows[i].from);
		out_end(o);
		bytes = out_data(o, &size);
		assert_int_equal(msg_parse(bytes, size, &m, NULL), 0);
		assert_string_equal(val_str(val_get(msg_root(m), "s"), NULL), rows[i].to);
		msg_free(m);
		out_free(o);
	}
}

static void key_missing(struct out *o)
{
	out_map(o, NULL);
	out_int(o, NULL, 1);
	out_end(o);
}

static void key_too_many(struct out *o)
{
	out_array(o, NULL);
	out_int(o, "k", 1);
	out_end(o);
}

static void closed_too_often(struct out *o)
{
	out_map(o, NULL);
	out_end(o);
	out_end(o);
}

static void left_open(struct out *o)
{
	out_map(o, NULL);
}

static void two_at_the_top(struct out *o)
{
	out_nil(o, NULL);
	out_nil(o, NULL);
}

static void too_deep(struct out *o)
{
	for (int i = 0; i <= MSG_DEPTH; i++)
		out_array(o, NULL);
	for (int i = 0; i <= MSG_DEPTH; i++)
		out_end(o);
}

static void nothing(struct out *o)
{
	(void)o;
}

static void a_writers_mistakes_are_remembered(void **state)
{
	static void (*const mistakes[])(struct out *) = { key_missing,	  key_too_many, closed_too_often, left_open,
							  two_at_the_top, too_deep,	nothing };
	struct out *o;
	struct err e;

	(void)state;
	assert_int_equal(out_new(&o, NULL), 0);
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		mistakes[i](o);
		assert_false(out_ok(o));
		assert_int_equal(out_check(o, &e), SINK_EINVAL);
		out_reset(o);
		out_map(o, NULL);
		out_end(o);
		assert_true(out_ok(o));
		out_reset(o);
	}
	out_free(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_as_small_as_it_can_be),
		cmocka_unit_test(many_and_long_values_come_back),
		cmocka_unit_test(text_that_is_no_utf8_is_mended),
		cmocka_unit_test(a_writers_mistakes_are_remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
