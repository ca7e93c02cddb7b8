/* measured.c: what is written is what is read; each kind of damage is told by name, and nothing of it is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "measured.h"

static char home[] = "/tmp/sinkd-measured.XXXXXX";
static char model[64], beside[MEASURED_PATH];

static int make_home(void **state)
{
	FILE *f;

	(void)state;
	if (!mkdtemp(home))
		return -1;
	snprintf(model, sizeof(model), "%s/m.gguf", home);
	f = fopen(model, "w");
	return f ? fclose(f) : -1;
}

static int remove_home(void **state)
{
	(void)state;
	unlink(model);
	unlink(beside);
	return rmdir(home);
}

static void write_file(const char *text)
{
	FILE *to = fopen(beside, "w");

	assert_non_null(to);
	assert_true(fputs(text, to) >= 0);
	assert_int_equal(fclose(to), 0);
}

static void the_file_is_beside_the_model_and_links_are_followed(void **state)
{
	char link[80], found[MEASURED_PATH];
	struct err e;

	(void)state;
	assert_int_equal(measured_path(model, beside, NULL), 0);
	assert_int_equal(strncmp(beside, home, strlen(home)), 0);
	assert_string_equal(strrchr(beside, '/'), "/m.gguf.sinks");
	snprintf(link, sizeof(link), "%s/default.gguf", home);
	assert_int_equal(symlink("m.gguf", link), 0);
	assert_int_equal(measured_path(link, found, NULL), 0);
	assert_string_equal(found, beside);
	unlink(link);
	assert_int_equal(measured_path(link, found, &e), SINK_ENOENT);
	assert_non_null(strstr(e.text, "default.gguf"));
}

static void what_is_written_is_what_is_read(void **state)
{
	static const struct measured all[] = {
		{ UINT64_MAX, 0, -1 },
		{ 0x0123456789abcdef, 1, 2 },
		{ 0, MEASURED_MOST, INT32_MAX - 1 },
	};
	char unfinished[MEASURED_PATH + 8];
	struct measured m;

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		assert_int_equal(measured_write(beside, &all[i], "Perplexity 2.5; with [brackets] = and such", NULL),
				 0);
		assert_int_equal(measured_read(beside, &m, NULL), 0);
		assert_true(m.fingerprint == all[i].fingerprint);
		assert_int_equal(m.sinks, all[i].sinks);
		assert_int_equal(m.token, all[i].token);
	}
	snprintf(unfinished, sizeof(unfinished), "%s.new", beside);
	assert_int_equal(access(unfinished, F_OK), -1);
}

static void no_file_is_no_measurement(void **state)
{
	struct measured m = { .sinks = 77 };
	struct err e;

	(void)state;
	unlink(beside);
	assert_int_equal(measured_read(beside, &m, &e), SINK_ENOENT);
	assert_int_equal(measured_read("/dev/null/m.sinks", &m, &e), SINK_ENOENT);
	assert_int_equal(measured_read(home, &m, &e), SINK_EIO);
	assert_non_null(strstr(e.text, home));
	assert_int_equal(m.sinks, 77);
}

static void a_place_that_cannot_be_written_is_named(void **state)
{
	const struct measured m = { 1, 1, -1 };
	struct err e;

	(void)state;
	assert_int_equal(measured_write("/nowhere/m.gguf.sinks", &m, "", &e), SINK_EIO);
	assert_non_null(strstr(e.text, "/nowhere/m.gguf.sinks"));
}

#define MARK "fingerprint = 0123456789abcdef\n"

static void damage_is_told_and_not_believed(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "fingerprint is missing" },
		{ "[sinks]\n", "fingerprint is missing" },
		{ "[sinks]\nsinks = 4\n", "fingerprint is missing" },
		{ "[sinks]\n" MARK, "sinks is missing" },
		{ MARK "sinks = 4\n", "is missing" },
		{ "[other]\n" MARK "sinks = 4\n", "is missing" },
		{ "[sinks]\n" MARK "sinks\n", "line 3" },
		{ "[sinks]\n" MARK "sinks = \n", "sinks is given" },
		{ "[sinks]\n" MARK "sinks = -1\n", "sinks is given" },
		{ "[sinks]\n" MARK "sinks = +1\n", "sinks is given" },
		{ "[sinks]\n" MARK "sinks = 1025\n", "sinks is given" },
		{ "[sinks]\n" MARK "sinks = 4x\n", "sinks is given" },
		{ "[sinks]\n" MARK "sinks = 4.0\n", "sinks is given" },
		{ "[sinks]\n" MARK "sinks = 0x4\n", "sinks is given" },
		{ "[sinks]\n" MARK "sinks = 99999999999999999999\n", "sinks is given" },
		{ "[sinks]\n" MARK "sinks = 4\nsinks = 4\n", "sinks is given twice" },
		{ "[sinks]\n" MARK MARK "sinks = 4\n", "fingerprint is given twice" },
		{ "[sinks]\n" MARK "sinks = 4\ntoken = two\n", "token is given" },
		{ "[sinks]\n" MARK "sinks = 4\ntoken = -1\n", "token is given" },
		{ "[sinks]\n" MARK "sinks = 4\ntoken = 2147483647\n", "token is given" },
		{ "[sinks]\nfingerprint = 0123456789abcde\nsinks = 4\n", "fingerprint is given" },
		{ "[sinks]\nfingerprint = 0123456789abcdef0\nsinks = 4\n", "fingerprint is given" },
		{ "[sinks]\nfingerprint = 0x23456789abcdef\nsinks = 4\n", "fingerprint is given" },
		{ "[sinks]\nfingerprint = -123456789abcdef\nsinks = 4\n", "fingerprint is given" },
		{ "GGUF\1\2\3 what is this?\n", "line 1" },
	};
	struct measured m = { 5, 6, 7 };
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_file(cases[i].text);
		assert_int_equal(measured_read(beside, &m, &e), SINK_EFORMAT);
		assert_non_null(strstr(e.text, beside));
		if (!strstr(e.text, cases[i].says))
			fail_msg("\"%s\" is not said of case %zu, but: %s", cases[i].says, i, e.text);
		assert_true(m.fingerprint == 5 && m.sinks == 6 && m.token == 7);
	}
}

static void what_a_later_version_adds_is_ignored(void **state)
{
	struct measured m;

	(void)state;
	write_file("; a comment\n[later]\nsinks = many\n[sinks]\nbudget = 512\n" MARK "sinks = 2 ; two\n");
	assert_int_equal(measured_read(beside, &m, NULL), 0);
	assert_true(m.fingerprint == 0x0123456789abcdef && m.sinks == 2 && m.token == -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_file_is_beside_the_model_and_links_are_followed),
		cmocka_unit_test(what_is_written_is_what_is_read),
		cmocka_unit_test(no_file_is_no_measurement),
		cmocka_unit_test(a_place_that_cannot_be_written_is_named),
		cmocka_unit_test(damage_is_told_and_not_believed),
		cmocka_unit_test(what_a_later_version_adds_is_ignored),
	};

	return cmocka_run_group_tests(tests, make_home, remove_home);
}
