/* template.c from its manual: what a file sets, what the command line sets above it, and a line for what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "template.h"

#include <cmocka.h> /* last: it has a macro of the name of our fail() */

static char dir[] = "/tmp/sink-template.XXXXXX", path[sizeof(dir) + 16];

static void write_file(const char *text, size_t size)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, size, f), size);
	assert_int_equal(fclose(f), 0);
}

static int apply_bytes(struct cli *c, const char *text, size_t size)
{
	write_file(text, size);
	c->o.v[OPTION_TEMPLATE] = (struct option_value){ .given = true, .text = path };
	return template_apply(c);
}

static int apply(struct cli *c, const char *text)
{
	return apply_bytes(c, text, strlen(text));
}

static void end(struct cli *c)
{
	buf_release(&c->prefix);
	option_release(&c->o);
}

static void a_file_sets_options(void **state)
{
	struct cli c = { 0 };

	(void)state;
	assert_int_equal(apply(&c, "; a comment\n[template]\ndescription = For tests\nsystem = Be brief. ; not this\n"
				   "policy=sink:4,100\nmarks = 1,2\ntemperature = 0.25\ntop-k: 7\nstop = one\n"
				   "stop = two\nprompt = Say:\nlogprobs = no\n"),
			 0);
	assert_string_equal(c.o.v[OPTION_SYSTEM].text, "Be brief.");
	assert_string_equal(c.o.v[OPTION_POLICY].text, "sink:4,100");
	assert_string_equal(c.o.v[OPTION_MARKS].text, "1,2");
	assert_true(c.o.v[OPTION_TEMPERATURE].real == 0.25);
	assert_int_equal(c.o.v[OPTION_TOP_K].number, 7);
	assert_int_equal(c.o.v[OPTION_STOP].count, 2);
	assert_string_equal(c.o.v[OPTION_STOP].list[1], "two");
	assert_string_equal(buf_text(&c.prefix), "Say:");
	assert_false(c.o.v[OPTION_LOGPROBS].given);
	assert_false(c.o.v[OPTION_SEED].given);
	end(&c);
}

static void the_command_line_comes_first(void **state)
{
	struct cli c = { 0 };
	char cause[200];

	(void)state;
	assert_true(option_set(&c.o, OPTION_TEMPERATURE, "1.5", cause, sizeof(cause)));
	assert_true(option_set(&c.o, OPTION_STOP, "mine", cause, sizeof(cause)));
	assert_int_equal(apply(&c, "temperature = 0.25\nseed = 4\nstop = its\n"), 0);
	assert_true(c.o.v[OPTION_TEMPERATURE].real == 1.5);
	assert_int_equal(c.o.v[OPTION_SEED].number, 4);
	assert_int_equal(c.o.v[OPTION_STOP].count, 1);
	assert_string_equal(c.o.v[OPTION_STOP].list[0], "mine");
	end(&c);
}

static void lines_that_begin_with_a_blank_go_on(void **state)
{
	struct cli c = { 0 };

	(void)state;
	assert_int_equal(apply(&c, "system = One\n  two ; and this\n\n\tthree\n\nseed = 1\n"), 0);
	assert_string_equal(c.o.v[OPTION_SYSTEM].text, "One\ntwo ; and this\n\nthree");
	end(&c);
	c = (struct cli){ 0 };
	assert_int_equal(apply(&c, "system =\n  First\n  second\n"), 0);
	assert_string_equal(c.o.v[OPTION_SYSTEM].text, "First\nsecond");
	end(&c);
}

/* inih takes 200 bytes at once; nobody has to know. */
static void long_lines_are_whole(void **state)
{
	struct buf text = { 0 }, more = { 0 };
	struct cli c = { 0 };

	(void)state;
	for (int i = 0; i < 400; i++)
		buf_addf(&text, "%s%d", i % 3 ? " " : " \xc3\xa9 #", i);
	buf_adds(&more, "system = x");
	buf_add(&more, text.data, text.size);
	buf_adds(&more, "\n  y");
	buf_add(&more, text.data, text.size);
	buf_adds(&more, "\nseed = 3\n");
	assert_int_equal(apply(&c, buf_text(&more)), 0);
	buf_clear(&more);
	buf_addf(&more, "x%s\ny%s", text.data, text.data);
	assert_string_equal(c.o.v[OPTION_SYSTEM].text, buf_text(&more));
	assert_int_equal(c.o.v[OPTION_SEED].number, 3);
	buf_release(&text);
	buf_release(&more);
	end(&c);
}

static void files_that_are_named_stand_beside(void **state)
{
	struct cli c = { 0 };
	char expected[sizeof(path) + 16];

	(void)state;
	assert_int_equal(apply(&c, "system = @prompt.txt\nschema = form.json\n"), 0);
	snprintf(expected, sizeof(expected), "@%s/prompt.txt", dir);
	assert_string_equal(c.o.v[OPTION_SYSTEM].text, expected);
	snprintf(expected, sizeof(expected), "%s/form.json", dir);
	assert_string_equal(c.o.v[OPTION_SCHEMA].text, expected);
	end(&c);
	c = (struct cli){ 0 };
	assert_int_equal(apply(&c, "system = @/etc/prompt.txt\n"), 0);
	assert_string_equal(c.o.v[OPTION_SYSTEM].text, "@/etc/prompt.txt");
	end(&c);
}

/* What a run says on standard error. */
static void complaint(const char *text, size_t size, char *ret, size_t room)
{
	struct cli c = { 0 };
	int before = dup(STDERR_FILENO), ends[2];
	ssize_t n;

	assert_int_equal(pipe(ends), 0);
	dup2(ends[1], STDERR_FILENO);
	assert_int_equal(apply_bytes(&c, text, size), FAIL_USAGE);
	dup2(before, STDERR_FILENO);
	close(before);
	close(ends[1]);
	n = read(ends[0], ret, room - 1);
	close(ends[0]);
	ret[n > 0 ? n : 0] = '\0';
	end(&c);
}

static void what_is_wrong_is_told_with_its_line(void **state)
{
	static const struct {
		const char *text, *line, *word;
	} cases[] = {
		{ "seed = 1\ntemprature = 0.5\n", "line 2:", "temperature" },
		{ "\n\nseed = many\n", "line 3:", "whole number" },
		{ "temperature = hot\n", "line 1:", "a number" },
		{ "seed = 1\nseed = 2\n", "line 2:", "twice" },
		{ "seed = 1\n  2\n", "line 2:", "second line" },
		{ "[other]\nseed = 1\n", "line 2:", "[other]" },
		{ "logprobs = maybe\n", "line 1:", "neither yes nor no" },
		{ "no sense\n", "line 1:", "name = value" },
		{ "system = a\n\nfile = b\n", "line 3:", "file" },
	};
	char said[400];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		complaint(cases[i].text, strlen(cases[i].text), said, sizeof(said));
		if (!strstr(said, cases[i].line) || !strstr(said, cases[i].word) || !strstr(said, path))
			fail_msg("\"%s\": %s", cases[i].text, said);
	}
	complaint("system = \xff\n", 11, said, sizeof(said));
	assert_non_null(strstr(said, "UTF-8"));
	complaint("system = a\0b\n", 13, said, sizeof(said));
	assert_non_null(strstr(said, "line 1:"));
}

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/a.ini", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_sets_options),
		cmocka_unit_test(the_command_line_comes_first),
		cmocka_unit_test(lines_that_begin_with_a_blank_go_on),
		cmocka_unit_test(long_lines_are_whole),
		cmocka_unit_test(files_that_are_named_stand_beside),
		cmocka_unit_test(what_is_wrong_is_told_with_its_line),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
