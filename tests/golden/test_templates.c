/*
 * Chat templates against what jinja2 made of them: each line of expected.txt is a template, a conversation and a text.
 * $SINKD_TEMPLATES names another folder of templates with its own expected.txt (README.md says how to make one).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "jinja.h"

enum { CONVERSATIONS_MOST = 100, PATH = 4096 };

static char *conversation[CONVERSATIONS_MOST];
static int conversations;

/* The clock of make_templates.py. */
static const struct tm now = {
	.tm_year = 126, .tm_mday = 2, .tm_hour = 3, .tm_min = 4, .tm_sec = 5, .tm_wday = 5, .tm_yday = 1
};

static FILE *open_in(const char *folder, const char *name)
{
	char path[2 * PATH];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "r");
	if (!f)
		fail_msg("cannot open %s", path);
	return f;
}

static struct jinja *read_template(const char *folder, const char *name)
{
	static char text[1 << 20];
	char file[PATH];
	struct jinja *j = NULL;
	struct err e;
	size_t len;
	FILE *f;

	snprintf(file, sizeof(file), "%s.jinja", name);
	f = open_in(folder, file);
	len = fread(text, 1, sizeof(text), f);
	fclose(f);
	if (jinja_new(text, len, &j, &e))
		fail_msg("%s: %s", name, e.text);
	return j;
}

static size_t unescape(char *s)
{
	char *to = s, *begin = s;

	for (; *s; s++, to++) {
		*to = *s;
		if (*s == '\\')
			*to = *++s == 'n' ? '\n' : *s == 't' ? '\t' : *s == '0' ? '\0' : '\\';
	}
	*to = '\0';
	return (size_t)(to - begin);
}

static void check(const struct jinja *j, const char *name, int number, char *should)
{
	struct jinja_call c = { .now = &now };
	struct jinja_output o;
	struct err e;
	size_t len;

	assert_in_range(number, 0, conversations - 1);
	c.json = conversation[number];
	c.json_len = strlen(c.json);
	if (jinja_render(j, &c, &o, &e)) {
		if (strcmp(should, "!") != 0)
			fail_msg("%s, conversation %d: %s", name, number, e.text);
		return;
	}
	len = unescape(should);
	if (len != o.len || memcmp(should, o.at, o.len) != 0)
		fail_msg("%s, conversation %d: got \"%s\", not \"%s\"", name, number, o.at, should);
	jinja_output_release(&o);
}

static int check_folder(const char *folder)
{
	FILE *f = open_in(folder, "expected.txt");
	char *line = NULL, last[PATH] = "";
	struct jinja *j = NULL;
	size_t room = 0;
	int lines = 0;

	for (; getline(&line, &room, f) > 0; lines++) {
		char *number = strchr(line, '\t'), *text = number ? strchr(number + 1, '\t') : NULL;

		assert_non_null(text);
		*number++ = *text++ = '\0';
		text[strcspn(text, "\n")] = '\0';
		if (strcmp(last, line) != 0) {
			jinja_free(j);
			snprintf(last, sizeof(last), "%s", line);
			j = read_template(folder, line);
		}
		check(j, line, (int)strtol(number, NULL, 10), text);
	}
	jinja_free(j);
	free(line);
	fclose(f);
	return lines;
}

static char own[PATH];

static void templates_give_the_text_of_jinja2(void **state)
{
	(void)state;
	assert_true(check_folder(own) >= 20 * 10);
}

static void so_do_those_of_another_folder(void **state)
{
	const char *folder = getenv("SINKD_TEMPLATES");

	(void)state;
	if (!folder || !*folder)
		skip();
	assert_true(check_folder(folder) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(templates_give_the_text_of_jinja2),
		cmocka_unit_test(so_do_those_of_another_folder),
	};
	const char *top = getenv("top_srcdir");
	size_t room = 0;
	int failed;
	FILE *f;

	snprintf(own, sizeof(own), "%s/tests/golden/templates", top && *top ? top : ".");
	f = open_in(own, "conversations.jsonl");
	while (conversations < CONVERSATIONS_MOST && getline(&conversation[conversations], &room, f) > 0) {
		conversations++;
		room = 0;
	}
	fclose(f);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	for (int i = 0; i <= conversations && i < CONVERSATIONS_MOST; i++)
		free(conversation[i]);
	return failed;
}
