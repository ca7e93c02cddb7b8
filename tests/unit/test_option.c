/* option.c from its manual: options anywhere, no abbreviations, values glued or apart, and a cause for all that is
 * wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "option.h"

enum { WORDS = 12 };

/* Parses a command line without a program's name; NULL when all was well, else the cause. */
static const char *parse(struct options *o, uint64_t allowed, const char *const *words)
{
	static char cause[200];
	char *argv[WORDS + 1];
	int argc = 0, at = 0;

	memset(o, 0, sizeof(*o));
	for (; words[argc]; argc++)
		argv[argc] = (char *)(uintptr_t)words[argc];
	argv[argc] = NULL;
	return option_parse(o, allowed, false, argc, argv, &at, cause, sizeof(cause)) ? NULL : cause;
}

static const uint64_t ask = OPTION_GLOBAL | OPTION_SAMPLING | OPTION_BIT(OPTION_CONVERSATION) |
			    OPTION_BIT(OPTION_FILE) | OPTION_BIT(OPTION_DETACH);

static void options_stand_before_and_after_arguments(void **state)
{
	static const char *const words[] = { "one", "-c", "main", "two", "--temperature=0.5", "-d", "-n12",
					     "--",  "-d", "-",	  NULL };
	struct options o;

	(void)state;
	assert_null(parse(&o, ask, words));
	assert_int_equal(o.count, 4);
	assert_string_equal(o.args[0], "one");
	assert_string_equal(o.args[1], "two");
	assert_string_equal(o.args[2], "-d");
	assert_string_equal(o.args[3], "-");
	assert_string_equal(o.v[OPTION_CONVERSATION].text, "main");
	assert_true(o.v[OPTION_DETACH].given);
	assert_int_equal(o.v[OPTION_MAX].number, 12);
	assert_true(o.v[OPTION_TEMPERATURE].real == 0.5);
	assert_false(o.v[OPTION_SEED].given);
	option_release(&o);
}

static void letters_go_together_and_lists_keep_their_order(void **state)
{
	static const char *const words[] = { "-qdf", "a", "--file", "b", "-fc", "--seed", "-7", NULL };
	struct options o;

	(void)state;
	assert_null(parse(&o, ask, words));
	assert_true(o.v[OPTION_QUIET].given && o.v[OPTION_DETACH].given);
	assert_int_equal(o.v[OPTION_FILE].count, 3);
	assert_string_equal(o.v[OPTION_FILE].list[0], "a");
	assert_string_equal(o.v[OPTION_FILE].list[1], "b");
	assert_string_equal(o.v[OPTION_FILE].list[2], "c");
	assert_int_equal(o.v[OPTION_SEED].number, -7);
	assert_int_equal(o.count, 0);
	option_release(&o);
}

static void a_letter_means_what_the_verb_takes(void **state)
{
	static const char *const words[] = { "-f", "-n", "3", NULL };
	uint64_t log = OPTION_GLOBAL | OPTION_BIT(OPTION_FOLLOW) | OPTION_BIT(OPTION_NUMBER);
	struct options o;

	(void)state;
	assert_null(parse(&o, log, words));
	assert_true(o.v[OPTION_FOLLOW].given);
	assert_int_equal(o.v[OPTION_NUMBER].number, 3);
	assert_false(o.v[OPTION_FILE].given || o.v[OPTION_MAX].given);
	option_release(&o);
}

static void an_export_has_options_of_its_own(void **state)
{
	static const char *const words[] = { "sea", "-osea.md", "--format", "md", "--with-cache", NULL };
	static const char *const grep[] = { "-c", "sea", "-n", "5", "blue", "whale", NULL };
	struct options o;

	(void)state;
	assert_null(parse(&o, OPTION_BIT(OPTION_OUTPUT) | OPTION_BIT(OPTION_FORMAT) | OPTION_BIT(OPTION_CACHE), words));
	assert_string_equal(o.v[OPTION_OUTPUT].text, "sea.md");
	assert_string_equal(o.v[OPTION_FORMAT].text, "md");
	assert_true(o.v[OPTION_CACHE].given);
	option_release(&o);
	assert_null(parse(&o, OPTION_BIT(OPTION_WITHIN) | OPTION_BIT(OPTION_NUMBER), grep));
	assert_string_equal(o.v[OPTION_WITHIN].text, "sea");
	assert_false(o.v[OPTION_CONVERSATION].given);
	assert_int_equal(o.count, 2);
	option_release(&o);
}

static void the_verb_is_the_first_that_is_no_option(void **state)
{
	char *argv[] = { (char[]){ "-q" }, (char[]){ "-L" }, (char[]){ "work" }, (char[]){ "ls" }, (char[]){ "-x" } };
	struct options o = { 0 };
	char cause[100];
	int at = 0;

	(void)state;
	assert_true(option_parse(&o, OPTION_GLOBAL, true, 5, argv, &at, cause, sizeof(cause)));
	assert_int_equal(at, 3);
	assert_string_equal(o.v[OPTION_INSTANCE].text, "work");
	option_release(&o);
}

static void a_wrong_line_has_a_cause(void **state)
{
	static const struct {
		const char *words[4], *says;
	} cases[] = {
		{ { "--sed", "1" }, "did you mean --seed" },
		{ { "--temp=1" }, "no option --temp " },
		{ { "-x" }, "no option -x" },
		{ { "-dx" }, "no option -x" },
		{ { "--seed" }, "needs a value" },
		{ { "-n" }, "needs a value" },
		{ { "--seed", "1.5" }, "whole number" },
		{ { "--seed", "99999999999999999999" }, "whole number" },
		{ { "--seed", "" }, "whole number" },
		{ { "--temperature", "nan" }, "a number" },
		{ { "--temperature", "inf" }, "a number" },
		{ { "--temperature", "warm" }, "a number" },
		{ { "--detach=yes" }, "takes no value" },
		{ { "--follow" }, "no option" },
		{ { "--"
		    "=x" },
		  "no option" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct options o;
		const char *cause = parse(&o, ask, cases[i].words);

		assert_non_null(cause);
		if (!strstr(cause, cases[i].says))
			fail_msg("\"%s\" does not say \"%s\"", cause, cases[i].says);
		option_release(&o);
	}
}

static void no_verb_could_confuse_two_options(void **state)
{
	(void)state;
	for (enum option a = 0; a < OPTION_COUNT; a++) {
		assert_non_null(option_rows[a].name);
		assert_non_null(option_rows[a].help);
		assert_int_equal(option_rows[a].type == OPTION_IS_FLAG, !option_rows[a].value);
		for (enum option b = a + 1; b < OPTION_COUNT; b++)
			assert_string_not_equal(option_rows[a].name, option_rows[b].name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_stand_before_and_after_arguments),
		cmocka_unit_test(letters_go_together_and_lists_keep_their_order),
		cmocka_unit_test(a_letter_means_what_the_verb_takes),
		cmocka_unit_test(an_export_has_options_of_its_own),
		cmocka_unit_test(the_verb_is_the_first_that_is_no_option),
		cmocka_unit_test(a_wrong_line_has_a_cause),
		cmocka_unit_test(no_verb_could_confuse_two_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
