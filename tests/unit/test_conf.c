/* conf.c: the table, its sources and their order, and what is said of a mistake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf.h"
#include "log.h"

static char home[] = "/tmp/sinkd-conf.XXXXXX";
static char file[64];

static int make_home(void **state)
{
	(void)state;
	if (!mkdtemp(home))
		return -1;
	snprintf(file, sizeof(file), "%s/sinkd.conf", home);
	setenv("XDG_CONFIG_HOME", home, 1);
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	unsetenv("RUNTIME_DIRECTORY");
	unsetenv("SINKD_MODEL");
	return 0;
}

static int remove_home(void **state)
{
	(void)state;
	unlink(file);
	return rmdir(home);
}

static void write_file(const char *text)
{
	FILE *to = fopen(file, "w");

	assert_non_null(to);
	assert_true(fputs(text, to) >= 0);
	assert_int_equal(fclose(to), 0);
}

/* Reads with these words on the command line (NULL at the end). */
static int load(struct conf *c, struct conf_call *call, struct err *e, const char *const *words)
{
	char *argv[32] = { (char *)"sinkd" };
	int argc = 1;

	while (words && words[argc - 1]) {
		argv[argc] = (char *)words[argc - 1];
		argc++;
	}
	return conf_load(argc, argv, c, call, e);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void later_sources_win(void **state)
{
	static struct conf c;
	struct conf_call call;

	(void)state;
	write_file(
		"# a comment\n[sinkd]\ntop-k = 7 ; the rest is a comment\ngap=33.5\ncache = 3M\npin-threads = yes\n");
	setenv("SINKD_MODEL", "from-environment", 1);
	assert_int_equal(load(&c, &call, NULL, WORDS("-f", file, "--gap", "44")), 0);
	assert_int_equal(c.sampling.how.top_k, 7);
	assert_true(c.gap == 44);
	assert_int_equal(c.cache, 3 << 20);
	assert_true(c.pin_threads);
	assert_string_equal(c.model, "from-environment");
	assert_string_equal(call.file, file);
	assert_int_equal(call.action, CONF_RUN);
	write_file("model = from-file\n");
	assert_int_equal(load(&c, &call, NULL, WORDS("-f", file)), 0);
	assert_string_equal(c.model, "from-file");
	assert_int_equal(load(&c, &call, NULL, WORDS("-f", file, "-m", "from-line")), 0);
	assert_string_equal(c.model, "from-line");
	unsetenv("SINKD_MODEL");
}

static void the_endpoint_has_a_default(void **state)
{
	static struct conf c;
	struct conf_call call;

	(void)state;
	assert_int_equal(load(&c, &call, NULL, NULL), 0);
	assert_string_equal(c.listen, "ipc:///run/user/7/sinkd/sinkd.sock");
	setenv("RUNTIME_DIRECTORY", "/run/sinkd:/run/other", 1);
	assert_int_equal(load(&c, &call, NULL, NULL), 0);
	assert_string_equal(c.listen, "ipc:///run/sinkd/sinkd.sock");
	unsetenv("RUNTIME_DIRECTORY");
	unsetenv("XDG_RUNTIME_DIR");
	assert_int_equal(load(&c, &call, NULL, NULL), 0);
	assert_string_equal(c.listen, "ipc:///run/sinkd/sinkd.sock");
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	assert_int_equal(load(&c, &call, NULL, WORDS("-l", "/tmp/x.sock")), 0);
	assert_string_equal(c.listen, "ipc:///tmp/x.sock");
	assert_int_equal(load(&c, &call, NULL, WORDS("-l", "tcp://127.0.0.1:9")), 0);
	assert_string_equal(c.listen, "tcp://127.0.0.1:9");
}

static void the_place_of_what_is_kept_has_a_default(void **state)
{
	static struct conf c;
	struct conf_call call;
	const char *was = getenv("HOME");
	char *old = strdup(was ? was : "");

	(void)state;
	unsetenv("XDG_STATE_HOME");
	setenv("HOME", "/home/x", 1);
	assert_int_equal(load(&c, &call, NULL, NULL), 0);
	assert_string_equal(c.state, "/home/x/.local/state/sinkd");
	setenv("XDG_STATE_HOME", "/state", 1);
	assert_int_equal(load(&c, &call, NULL, NULL), 0);
	assert_string_equal(c.state, "/state/sinkd");
	setenv("STATE_DIRECTORY", "/var/lib/sinkd:/var/lib/other", 1);
	assert_int_equal(load(&c, &call, NULL, NULL), 0);
	assert_string_equal(c.state, "/var/lib/sinkd");
	assert_int_equal(load(&c, &call, NULL, WORDS("--state", "none")), 0);
	assert_string_equal(c.state, "none");
	unsetenv("STATE_DIRECTORY");
	unsetenv("XDG_STATE_HOME");
	setenv("HOME", old, 1);
	free(old);
}

static void mistakes_in_a_file_name_their_line(void **state)
{
	static const struct {
		const char *text, *says[2];
	} cases[] = {
		{ "top-k = 1\nfoo = 2\n", { "line 2", "foo" } },
		{ "\n\ntop-k = many\n", { "line 3", "top-k" } },
		{ "top-k = -1\n", { "line 1", "from 0" } },
		{ "top-k = 1.5\n", { "line 1", "whole" } },
		{ "temperature = nan\n", { "line 1", "temperature" } },
		{ "temperature = 101\n", { "line 1", "temperature" } },
		{ "cache = 1\n", { "line 1", "cache" } },
		{ "cache = 5X\n", { "line 1", "cache" } },
		{ "cache = -5M\n", { "line 1", "cache" } },
		{ "cache = 99999999999999999999\n", { "line 1", "cache" } },
		{ "policy = whirl\n", { "line 1", "whirl" } },
		{ "policy = anchor:4,5\n", { "line 1", "window" } },
		{ "separator-ids = 5, comma\n", { "line 1", "separator-ids" } },
		{ "separator-ids = ,\n", { "line 1", "empty" } },
		{ "anchors = 1,-2\n", { "line 1", "anchors" } },
		{ "pin-threads = perhaps\n", { "line 1", "yes or no" } },
		{ "log-level = loud\n", { "line 1", "warning" } },
		{ "gap = 5\ngap = 6\n", { "line 2", "twice" } },
		{ "[sinkd]\ngap = 5\n[other]\ngap = 6\n", { "line 4", "other" } },
		{ "gap 5\n", { "line 1", "name = value" } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		static struct conf c;
		struct conf_call call;
		struct err e = { 0 };

		write_file(cases[i].text);
		assert_int_equal(load(&c, &call, &e, WORDS("-f", file)), SINK_EINVAL);
		assert_non_null(strstr(e.text, file));
		for (int k = 0; k < 2; k++)
			if (!strstr(e.text, cases[i].says[k]))
				fail_msg("\"%s\" does not say \"%s\"", e.text, cases[i].says[k]);
	}
}

static void a_long_line_is_an_error(void **state)
{
	static char text[2000];
	static struct conf c;
	struct conf_call call;
	struct err e = { 0 };

	(void)state;
	memset(text, 'x', sizeof(text) - 2);
	memcpy(text, "model = ", 8);
	text[sizeof(text) - 2] = '\n';
	write_file(text);
	assert_int_equal(load(&c, &call, &e, WORDS("-f", file)), SINK_EINVAL);
	assert_non_null(strstr(e.text, "too long"));
}

static void mistakes_on_the_command_line_are_named(void **state)
{
	static const struct {
		const char *words[4], *says;
	} cases[] = {
		{ { "--foo" }, "--foo" },
		{ { "-x" }, "-x" },
		{ { "--top-k" }, "--top-k" },
		{ { "--top-k", "x" }, "top-k" },
		{ { "-m" }, "-m" },
		{ { "left" }, "left" },
		{ { "--gap", "0" }, "gap" },
		{ { "--test=5" }, "--test" },
		{ { "-f", "/nonexistent/x" }, "/nonexistent/x" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		static struct conf c;
		struct conf_call call = { .action = CONF_TEST };
		struct err e = { 0 };

		assert_true(load(&c, &call, &e, cases[i].words) < 0);
		assert_int_equal(call.action, CONF_TEST);
		if (!strstr(e.text, cases[i].says))
			fail_msg("\"%s\" does not say \"%s\"", e.text, cases[i].says);
	}
}

static void actions_are_told(void **state)
{
	static const struct {
		const char *word;
		enum conf_action action;
	} cases[] = {
		{ "-t", CONF_TEST },	{ "--test", CONF_TEST },	  { "-h", CONF_HELP },
		{ "-V", CONF_VERSION }, { "--print-config", CONF_PRINT }, { "-v", CONF_RUN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		static struct conf c;
		struct conf_call call;

		assert_int_equal(load(&c, &call, NULL, WORDS(cases[i].word)), 0);
		assert_int_equal(call.action, cases[i].action);
		assert_int_equal(c.log_level, cases[i].word[1] == 'v' ? LOG_DEBUG : LOG_INFO);
	}
}

static void a_reload_takes_what_may_change(void **state)
{
	static struct conf c, fresh;
	char restart[256];

	(void)state;
	conf_defaults(&c);
	fresh = c;
	conf_reload(&c, &fresh, restart, sizeof(restart));
	assert_string_equal(restart, "");
	assert_int_equal(conf_set(&fresh, "policy", "dense", NULL), 0);
	assert_int_equal(conf_set(&fresh, "anchors", "1,2 3", NULL), 0);
	assert_int_equal(conf_set(&fresh, "temperature", "1.5", NULL), 0);
	assert_int_equal(conf_set(&fresh, "model", "other", NULL), 0);
	assert_int_equal(conf_set(&fresh, "threads", "9", NULL), 0);
	conf_reload(&c, &fresh, restart, sizeof(restart));
	assert_string_equal(c.policy, "dense");
	assert_int_equal(conf_set(&fresh, "policy", "auto", NULL), 0);
	conf_reload(&c, &fresh, restart, sizeof(restart));
	assert_string_equal(c.policy, "auto");
	assert_string_equal(c.anchors, "1,2 3");
	assert_int_equal(conf_set(&c, "anchors", "", NULL), 0);
	assert_string_equal(c.anchors, "");
	assert_true(c.sampling.how.temperature == 1.5);
	assert_string_equal(c.model, "");
	assert_int_equal(c.threads, 0);
	assert_string_equal(restart, "model threads");
}

/* The lines `name = value` of a text, those that are commented out too. */
static void speculation_is_a_word_or_a_number(void **state)
{
	static const char *const bad[] = { "", "on", "-1", "17", "4x", "1.5" };
	struct conf c;

	(void)state;
	conf_defaults(&c);
	assert_int_equal(c.speculation, -1);
	assert_int_equal(conf_set(&c, "speculation", "off", NULL), 0);
	assert_int_equal(c.speculation, 0);
	assert_int_equal(conf_set(&c, "speculation", "16", NULL), 0);
	assert_int_equal(c.speculation, 16);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(conf_set(&c, "speculation", bad[i], NULL), SINK_EINVAL);
	assert_int_equal(conf_set(&c, "speculation", "auto", NULL), 0);
	assert_int_equal(c.speculation, -1);
}

static void collect(FILE *from, char lines[64][64], size_t *count)
{
	char line[256];

	*count = 0;
	while (fgets(line, sizeof(line), from)) {
		const char *at = line + (*line == '#');

		line[strcspn(line, "\n")] = '\0';
		if (*at >= 'a' && *at <= 'z' && at[strcspn(at, " ")] == ' ' && at[strcspn(at, " ") + 1] == '=' &&
		    *count < 64)
			snprintf(lines[(*count)++], 64, "%s", at);
	}
}

static void the_example_shows_every_default(void **state)
{
	static struct conf c;
	static char ours[64][64], example[64][64];
	char path[4096];
	const char *top = getenv("top_srcdir");
	size_t n, m;
	FILE *from;

	(void)state;
	conf_defaults(&c);
	from = tmpfile();
	assert_non_null(from);
	conf_print(&c, from);
	rewind(from);
	collect(from, ours, &n);
	fclose(from);
	snprintf(path, sizeof(path), "%s/contrib/sinkd.conf", top ? top : ".");
	from = fopen(path, "r");
	assert_non_null(from);
	collect(from, example, &m);
	fclose(from);
	assert_true(n > 20);
	assert_int_equal(n, m);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(ours[i], example[i]);
}

static void what_is_printed_can_be_read(void **state)
{
	static struct conf c, back;
	struct conf_call call;
	FILE *to;

	(void)state;
	conf_defaults(&c);
	assert_int_equal(conf_set(&c, "cache", "1234567", NULL), 0);
	assert_int_equal(conf_set(&c, "min-p", "0.125", NULL), 0);
	assert_int_equal(conf_set(&c, "listen", "ipc:///a/b", NULL), 0);
	assert_int_equal(conf_set(&c, "state", "/a/c", NULL), 0);
	assert_int_equal(conf_set(&c, "policy", "separator:4,all,64", NULL), 0);
	assert_int_equal(conf_set(&c, "separator-ids", "[13, 30, 198]", NULL), 0);
	to = fopen(file, "w");
	assert_non_null(to);
	conf_print(&c, to);
	assert_int_equal(fclose(to), 0);
	assert_int_equal(load(&back, &call, NULL, WORDS("-f", file)), 0);
	assert_memory_equal(&back, &c, sizeof(c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(later_sources_win),
		cmocka_unit_test(the_endpoint_has_a_default),
		cmocka_unit_test(the_place_of_what_is_kept_has_a_default),
		cmocka_unit_test(mistakes_in_a_file_name_their_line),
		cmocka_unit_test(a_long_line_is_an_error),
		cmocka_unit_test(mistakes_on_the_command_line_are_named),
		cmocka_unit_test(actions_are_told),
		cmocka_unit_test(a_reload_takes_what_may_change),
		cmocka_unit_test(speculation_is_a_word_or_a_number),
		cmocka_unit_test(the_example_shows_every_default),
		cmocka_unit_test(what_is_printed_can_be_read),
	};

	return cmocka_run_group_tests(tests, make_home, remove_home);
}
