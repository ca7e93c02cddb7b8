/* error.c: names that travel, and texts that are whole sentences whatever they quote. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "error.h"

static void names_and_codes_are_each_others_inverse(void **state)
{
	static const struct {
		int code;
		const char *name;
	} rows[] = {
		{ SINK_EINVAL, "einval" }, { SINK_ENOENT, "enoent" },	{ SINK_EEXIST, "eexist" },
		{ SINK_EBUSY, "ebusy" },   { SINK_EFORMAT, "eformat" }, { SINK_ENOMEM, "enomem" },
		{ SINK_EIO, "eio" },	   { SINK_EDEVICE, "edevice" }, { SINK_EPROTO, "eproto" },
		{ SINK_EGONE, "egone" },   { SINK_ECONN, "econn" },	{ SINK_ETIMEDOUT, "etimedout" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_string_equal(err_name(rows[i].code), rows[i].name);
		assert_int_equal(err_code(rows[i].name), rows[i].code);
	}
	assert_string_equal(err_name(SINK_OK), "ok");
}

static void what_a_newer_peer_says_is_no_success(void **state)
{
	(void)state;
	assert_int_equal(err_code("eweather"), SINK_EINVAL);
	assert_int_equal(err_code(""), SINK_EINVAL);
	assert_int_equal(err_code("ok"), SINK_EINVAL);
	assert_string_equal(err_name(-13), "unknown");
	assert_string_equal(err_name(1), "unknown");
	assert_string_equal(err_name(INT32_MIN), "unknown");
	assert_string_equal(err_name(INT32_MAX), "unknown");
}

static void setting_returns_the_code(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_int_equal(err_set(&e, SINK_EIO, "Reading %s failed at %d.", "x", 7), SINK_EIO);
	assert_int_equal(e.code, SINK_EIO);
	assert_string_equal(e.text, "Reading x failed at 7.");
	assert_int_equal(err_set(NULL, SINK_EBUSY, "Nobody wants this."), SINK_EBUSY);
}

static void control_characters_stay_out(void **state)
{
	struct err e;

	(void)state;
	err_set(&e, SINK_EINVAL, "A name \"%s\".", "a\nb\033[31m\x7f\tc");
	assert_string_equal(e.text, "A name \"a b [31m  c\".");
}

/* Whatever the length, the text ends with a whole character. */
static void a_long_text_is_cut_between_characters(void **state)
{
	static const char *const letters[] = { "x", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x8c\x8a" };

	(void)state;
	for (size_t k = 0; k < 4; k++)
		for (size_t lead = 0; lead < 4; lead++) {
			char text[600] = "";
			size_t width = strlen(letters[k]), n = lead, whole;
			struct err e;

			memset(text, '.', lead);
			while (n + width < sizeof(text)) {
				memcpy(text + n, letters[k], width);
				n += width;
			}
			err_set(&e, SINK_EINVAL, "%s", text);
			whole = lead + (sizeof(e.text) - 1 - lead) / width * width;
			assert_int_equal(strlen(e.text), whole);
			assert_memory_equal(e.text, text, whole);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_codes_are_each_others_inverse),
		cmocka_unit_test(what_a_newer_peer_says_is_no_success),
		cmocka_unit_test(setting_returns_the_code),
		cmocka_unit_test(control_characters_stay_out),
		cmocka_unit_test(a_long_text_is_cut_between_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
