/*
 * msg.c and val.c against the MessagePack specification, its bytes written out by hand, and against frames that a
 * hostile peer would send.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "msg.h"

struct frame {
	const char *bytes;
	size_t size;
	const char *says; /* part of the error's text */
};
#define FRAME(literal, says)                                                                                           \
	{                                                                                                              \
		literal, sizeof(literal) - 1, says                                                                     \
	}

/* Parses a copy that ends where its memory ends, so that a sanitizer sees a byte too many. */
static int parse(const void *bytes, size_t size, struct msg **m, struct err *e)
{
	char *copy = malloc(size ? size : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, bytes, size);
	*m = NULL;
	rc = msg_parse(copy, size, m, e);
	free(copy);
	return rc;
}

static void refused(const void *bytes, size_t size, const char *says)
{
	struct err e = { 0 };
	struct msg *m;

	assert_int_equal(parse(bytes, size, &m, &e), SINK_EFORMAT);
	assert_null(m);
	assert_int_equal(e.code, SINK_EFORMAT);
	if (!strstr(e.text, says))
		fail_msg("\"%s\" does not say \"%s\"", e.text, says);
}

/* ---- what is good ---- */

static void every_type_is_read(void **state)
{
	/* {n: nil, t: true, f: false, i: -1, u: 2^64-1, l: -2^63, g: 0.5f, d: 1.5, s: "a\0b", b: 00 ff, a: [7], m: {}}
	 */
	static const char bytes[] = "\x8c\xa1n\xc0\xa1t\xc3\xa1"
				    "f\xc2\xa1i\xff\xa1u\xcf\xff\xff\xff\xff\xff\xff\xff\xff"
				    "\xa1l\xd3\x80\0\0\0\0\0\0\0\xa1g\xca\x3f\0\0\0\xa1"
				    "d\xcb\x3f\xf8\0\0\0\0\0\0\xa1s\xa3"
				    "a\0b\xa1"
				    "b\xc4\x02\0\xff\xa1"
				    "a\x91\x07\xa1m\x80";
	const struct val *root;
	struct msg *m;
	size_t len;

	(void)state;
	assert_int_equal(parse(bytes, sizeof(bytes) - 1, &m, NULL), 0);
	root = msg_root(m);
	assert_int_equal(val_count(root), 12);
	assert_null(val_get(root, "n"));
	assert_true(val_bool(val_get(root, "t"), false));
	assert_false(val_bool(val_get(root, "f"), true));
	assert_int_equal(val_int(val_get(root, "i"), 0), -1);
	assert_true(val_int(val_get(root, "u"), 0) == INT64_MAX);
	assert_true(val_int(val_get(root, "l"), 0) == INT64_MIN);
	assert_true(val_float(val_get(root, "g"), 0) == 0.5);
	assert_true(val_float(val_get(root, "d"), 0) == 1.5);
	assert_true(val_float(val_get(root, "i"), 0) == -1);
	assert_memory_equal(val_str(val_get(root, "s"), &len), "a\0b", 4);
	assert_int_equal(len, 3);
	assert_memory_equal(val_bin(val_get(root, "b"), &len), "\0\xff", 2);
	assert_int_equal(len, 2);
	assert_int_equal(val_int(val_at(val_get(root, "a"), 0), 0), 7);
	assert_int_equal(val_count(val_get(root, "m")), 0);
	assert_int_equal(val_type(val_get(root, "m")), VAL_MAP);
	msg_free(m);
}

static void every_width_of_a_string_is_read_and_terminated(void **state)
{
	static const size_t lengths[] = { 0, 1, 31, 32, 255, 256, 65535, 65536 };

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		char *text = malloc(lengths[i] + 1);
		const char *read;
		struct out *o;
		struct msg *m;
		const void *bytes;
		size_t size, len;

		memset(text, 'x', lengths[i]);
		text[lengths[i]] = '\0';
		assert_int_equal(out_new(&o, NULL), 0);
		out_map(o, NULL);
		out_strn(o, "first", text, lengths[i]);
		out_strn(o, "last", text, lengths[i]);
		out_end(o);
		bytes = out_data(o, &size);
		assert_int_equal(parse(bytes, size, &m, NULL), 0);
		read = val_str(val_get(msg_root(m), "first"), &len);
		assert_int_equal(len, lengths[i]);
		assert_string_equal(read, text);
		read = val_str(val_get(msg_root(m), "last"), &len);
		assert_int_equal(len, lengths[i]);
		assert_string_equal(read, text);
		msg_free(m);
		out_free(o);
		free(text);
	}
}

static void readers_take_null_and_other_types(void **state)
{
	struct msg *m;
	const struct val *one;
	const char *key;
	size_t len;

	(void)state;
	assert_null(val_get(NULL, "x"));
	assert_null(val_at(NULL, 0));
	assert_null(val_pair(NULL, 0, &key, &len));
	assert_int_equal(val_type(NULL), VAL_NIL);
	assert_int_equal(val_count(NULL), 0);
	assert_int_equal(val_int(NULL, 5), 5);
	assert_null(val_str(NULL, &len));
	assert_null(val_bin(NULL, &len));
	assert_int_equal(parse("\x81\xa1k\x01", 4, &m, NULL), 0);
	one = val_get(msg_root(m), "k");
	assert_null(val_get(one, "x"));
	assert_null(val_at(one, 0));
	assert_null(val_str(one, &len));
	assert_true(val_bool(one, true));
	assert_ptr_equal(val_pair(msg_root(m), 0, &key, &len), one);
	assert_string_equal(key, "k");
	assert_null(val_pair(msg_root(m), 1, &key, &len));
	msg_free(m);
	msg_free(NULL);
}

/* ---- what is bad ---- */

static void damaged_frames_are_refused_by_their_cause(void **state)
{
	static const struct frame frames[] = {
		FRAME("", "ends"),
		FRAME("\xdd\xff\0\0\0", "values where 0 bytes"), /* 5 bytes that ask for 96 GiB */
		FRAME("\xdf\xff\xff\xff\xff", "values where 0 bytes"),
		FRAME("\x81\xa1k\xdd\xff\xff\xff\xff", "values where 0 bytes"),
		FRAME("\x81\xa1k\xdb\xff\xff\xff\xff"
		      "0123456789",
		      "bytes where 10"), /* a string of 4 GiB, 10 bytes sent */
		FRAME("\x81\xa1k\xc6\xff\xff\xff\xff"
		      "0123456789",
		      "bytes where 10"),
		FRAME("\x81\xa1k\xcf\0\0\0", "bytes where 3"),
		FRAME("\x81\xa1k\xda\0", "length"),
		FRAME("\x81\xa1k", "ends"),
		FRAME("\x81", "values where 0"),
		FRAME("\x80\x80", "1 bytes behind"),
		FRAME("\xc0", "no map"),
		FRAME("\x07", "no map"),
		FRAME("\x90", "no map"),
		FRAME("\x91\x80", "no map"),
		FRAME("\xa1k", "no map"),
		FRAME("\x81\x01\x02", "key that is no string"),
		FRAME("\x81\xc4\x01k\x02", "key that is no string"),
		FRAME("\x81\x80\x02", "key that is no string"),
		FRAME("\x82\xa1k\x01\xa1k\x02", "key \"k\" twice"),
		FRAME("\x81\xa1m\x82\xa0\x01\xa0\x02", "key \"\" twice"),
		FRAME("\x81\xa1k\xc1", "unused"),
		FRAME("\x81\xa1k\xd4\x01\x02", "extension"),
		FRAME("\x81\xa1k\xc7\x01\x02\x03", "extension"),
		FRAME("\x81\xa1k\xa1\xff", "UTF-8"),
		FRAME("\x81\xa1\x80\x01", "UTF-8"),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++)
		refused(frames[i].bytes, frames[i].size, frames[i].says);
}

static void a_prefix_of_a_frame_is_never_a_frame(void **state)
{
	static const char bytes[] =
		"\x83\xa1s\xa3xyz\xa1m\x82\xa1q\xc4\x01w\xa1r\x93\x01\x02\xcd\x01\x02\xa1t\xcb\0\0\0\0"
		"\0\0\0\0";
	struct msg *m;

	(void)state;
	assert_int_equal(parse(bytes, sizeof(bytes) - 1, &m, NULL), 0);
	msg_free(m);
	for (size_t n = 0; n < sizeof(bytes) - 1; n++)
		refused(bytes, n, "");
}

static void strings_that_are_no_utf8_are_refused(void **state)
{
	static const char *const bad[] = {
		"\x80",
		"\xc0\x80",
		"\xc1\xbf",
		"\xc3",
		"\xc3(",
		"\xe0\x9f\xbf",
		"\xe2\x82",
		"\xe2(\xa1",
		"\xed\xa0\x80",
		"\xed\xbf\xbf",
		"\xf0\x8f\xbf\xbf",
		"\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80",
		"\xf0\x9f\x8c",
		"\xf8\x88\x80\x80\x80",
		"12345678\xff",
		"1234567\xc3",
		"\xff\xfe",
		"\xe2\x82\xac\xbf",
	};
	static const char *const good[] = { "\xc2\x80",		"\xdf\xbf",	    "\xe0\xa0\x80",
					    "\xed\x9f\xbf",	"\xee\x80\x80",	    "\xef\xbf\xbf",
					    "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "12345678\xc3\xa4" };
	char frame[40];
	struct msg *m;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t n =
			(size_t)snprintf(frame, sizeof(frame), "\x81\xa1k%c%s", (char)(0xa0 | strlen(bad[i])), bad[i]);

		refused(frame, n, "UTF-8");
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		size_t n = (size_t)snprintf(frame, sizeof(frame), "\x81\xa1k%c%s", (char)(0xa0 | strlen(good[i])),
					    good[i]);

		assert_int_equal(parse(frame, n, &m, NULL), 0);
		assert_string_equal(val_str(val_get(msg_root(m), "k"), NULL), good[i]);
		msg_free(m);
	}
}

/* {"k": [[[…]]]}, `depth` containers in all. */
static size_t nested(char *frame, size_t depth)
{
	memcpy(frame, "\x81\xa1k", 3);
	memset(frame + 3, 0x91, depth - 2);
	frame[depth + 1] = (char)0x90;
	return depth + 2;
}

static void nesting_ends_at_the_limit(void **state)
{
	char frame[10010];
	struct msg *m;

	(void)state;
	assert_int_equal(parse(frame, nested(frame, MSG_DEPTH), &m, NULL), 0);
	msg_free(m);
	refused(frame, nested(frame, MSG_DEPTH + 1), "deeper");
	refused(frame, nested(frame, 10000), "deeper");
	memset(frame, 0x91, 10000);
	refused(frame, 10000, "no map");
	for (int i = 0; i < 3000; i++)
		memcpy(frame + 3 * i, "\x81\xa1k", 3);
	refused(frame, 9000, "deeper");
}

static void counts_end_at_the_limit(void **state)
{
	size_t size = 8 + MSG_ELEMENTS, at = 3;
	char *frame = calloc(1, size + 8);
	struct msg *m;

	(void)state;
	memcpy(frame, "\x81\xa1k\xdd\0\x0f\xff\xfe", 8); /* 2^20 - 2 in the array, the key and the array itself */
	assert_int_equal(parse(frame, 8 + MSG_ELEMENTS - 2, &m, NULL), 0);
	assert_int_equal(val_count(val_get(msg_root(m), "k")), MSG_ELEMENTS - 2);
	msg_free(m);
	frame[7] = (char)0xff;
	refused(frame, 8 + MSG_ELEMENTS - 1, "more than");
	frame[0] = (char)0xde;
	frame[1] = 0;
	for (int pairs = MSG_PAIRS; pairs <= MSG_PAIRS + 1; pairs++) {
		frame[2] = (char)pairs;
		at = 3;
		for (int i = 0; i < pairs; i++) {
			frame[at++] = (char)0xa2;
			frame[at++] = (char)('0' + i / 16);
			frame[at++] = (char)('0' + i % 16);
			frame[at++] = 1;
		}
		if (pairs <= MSG_PAIRS) {
			assert_int_equal(parse(frame, at, &m, NULL), 0);
			msg_free(m);
		} else {
			refused(frame, at, "128 are allowed");
		}
	}
	free(frame);
}

/* A frame made of nothing but full maps is the most that the check of the keys can cost. */
static void the_worst_frame_costs_little(void **state)
{
	size_t maps = MSG_ELEMENTS / (2 * MSG_PAIRS + 1) - 1, at = 8;
	char *frame = malloc(8 + maps * (3 + 4 * MSG_PAIRS));
	clock_t began;
	struct msg *m;

	(void)state;
	memcpy(frame, "\x81\xa1k\xdd\0\0", 6);
	frame[6] = (char)(maps >> 8);
	frame[7] = (char)maps;
	for (size_t j = 0; j < maps; j++) {
		memcpy(frame + at, "\xde\0\x80", 3);
		at += 3;
		for (int i = 0; i < MSG_PAIRS; i++) {
			const char pair[4] = { (char)0xa2, (char)('0' + i / 16), (char)('0' + i % 16), 1 };

			memcpy(frame + at, pair, 4);
			at += 4;
		}
	}
	began = clock();
	assert_int_equal(parse(frame, at, &m, NULL), 0);
	print_message("%zu bytes of full maps: %.0f ms\n", at, (double)(clock() - began) * 1000 / CLOCKS_PER_SEC);
	msg_free(m);
	free(frame);
}

static void a_good_message_after_a_bad_one_is_read(void **state)
{
	struct msg *m;

	(void)state;
	for (int i = 0; i < 3; i++) {
		refused("\xdd\xff\0\0\0", 5, "values");
		assert_int_equal(parse("\x81\xa2op\xa4list", 9, &m, NULL), 0);
		assert_string_equal(val_str(val_get(msg_root(m), "op"), NULL), "list");
		msg_free(m);
	}
}

/* ---- checked fields ---- */

static struct msg *built(void (*build)(struct out *o))
{
	struct out *o;
	struct msg *m;
	size_t size;
	const void *bytes;

	assert_int_equal(out_new(&o, NULL), 0);
	out_map(o, NULL);
	build(o);
	out_end(o);
	assert_true(out_ok(o));
	bytes = out_data(o, &size);
	assert_int_equal(parse(bytes, size, &m, NULL), 0);
	out_free(o);
	return m;
}

static void build_fields(struct out *o)
{
	out_int(o, "min", INT64_MIN);
	out_int(o, "minus", -1);
	out_int(o, "seven", 7);
	out_int(o, "huge", INT64_MAX);
	out_float(o, "half", 0.5);
	out_float(o, "three", 3.0);
	out_float(o, "nan", NAN);
	out_float(o, "inf", -INFINITY);
	out_str(o, "text", "sea");
	out_bool(o, "yes", true);
	out_nil(o, "nil");
}

static void integers_are_checked(void **state)
{
	static const char *const bad[] = { "min", "minus", "huge", "half", "three", "nan", "text", "yes" };
	struct msg *m = built(build_fields);
	const struct val *root = msg_root(m);
	struct err e;
	int64_t n = 42;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(msg_int(root, bad[i], 0, 100, &n, &e), SINK_EINVAL);
		assert_non_null(strstr(e.text, bad[i]));
		assert_non_null(strstr(e.text, "from 0 to 100"));
		assert_int_equal(msg_int_or(root, bad[i], 0, 100, &n, &e), SINK_EINVAL);
	}
	assert_int_equal(msg_int(root, "absent", 0, 100, &n, &e), SINK_EINVAL);
	assert_int_equal(msg_int(root, "nil", 0, 100, &n, &e), SINK_EINVAL);
	assert_non_null(strstr(e.text, "missing"));
	assert_int_equal(msg_int_or(root, "absent", 0, 100, &n, &e), 0);
	assert_int_equal(msg_int_or(root, "nil", 0, 100, &n, &e), 0);
	assert_int_equal(n, 42);
	assert_int_equal(msg_int(root, "seven", 7, 7, &n, &e), 0);
	assert_int_equal(n, 7);
	assert_int_equal(msg_int(root, "min", INT64_MIN, INT64_MAX, &n, &e), 0);
	assert_true(n == INT64_MIN);
	msg_free(m);
}

static void numbers_flags_and_strings_are_checked(void **state)
{
	struct msg *m = built(build_fields);
	const struct val *root = msg_root(m);
	const char *s = "before";
	bool yes = false;
	double x = 42;
	size_t len = 0;
	struct err e;

	(void)state;
	assert_int_equal(msg_float_or(root, "nan", &x, &e), SINK_EINVAL);
	assert_int_equal(msg_float_or(root, "inf", &x, &e), SINK_EINVAL);
	assert_int_equal(msg_float_or(root, "text", &x, &e), SINK_EINVAL);
	assert_int_equal(msg_float_or(root, "absent", &x, &e), 0);
	assert_true(x == 42);
	assert_int_equal(msg_float_or(root, "seven", &x, &e), 0);
	assert_true(x == 7);
	assert_int_equal(msg_bool_or(root, "seven", &yes, &e), SINK_EINVAL);
	assert_int_equal(msg_bool_or(root, "yes", &yes, &e), 0);
	assert_true(yes);
	assert_int_equal(msg_str(root, "seven", 9, &s, &len, &e), SINK_EINVAL);
	assert_int_equal(msg_str(root, "text", 2, &s, &len, &e), SINK_EINVAL);
	assert_int_equal(msg_str(root, "absent", 9, &s, &len, &e), SINK_EINVAL);
	assert_int_equal(msg_str_or(root, "absent", 9, &s, &len, &e), 0);
	assert_string_equal(s, "before");
	assert_int_equal(msg_str(root, "text", 3, &s, &len, &e), 0);
	assert_string_equal(s, "sea");
	assert_int_equal(len, 3);
	msg_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_is_read),
		cmocka_unit_test(every_width_of_a_string_is_read_and_terminated),
		cmocka_unit_test(readers_take_null_and_other_types),
		cmocka_unit_test(damaged_frames_are_refused_by_their_cause),
		cmocka_unit_test(a_prefix_of_a_frame_is_never_a_frame),
		cmocka_unit_test(strings_that_are_no_utf8_are_refused),
		cmocka_unit_test(nesting_ends_at_the_limit),
		cmocka_unit_test(counts_end_at_the_limit),
		cmocka_unit_test(the_worst_frame_costs_little),
		cmocka_unit_test(a_good_message_after_a_bad_one_is_read),
		cmocka_unit_test(integers_are_checked),
		cmocka_unit_test(numbers_flags_and_strings_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
