/*
 * markdown.c from its manual: the text comes out whole, styled as Markdown says, and however it is cut into pieces the
 * screen looks the same. A screen here is a list of characters, each with the style that the terminal had.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "markdown.h"

enum { CELLS = 4096, STYLE = 16 };

struct screen {
	char text[CELLS + 1];
	char style[CELLS][STYLE]; /* what stood between "[0" and "m" */
	size_t count;
	char now[STYLE];
};

/* Takes what a terminal would be sent; a style must never begin or end inside of a character. */
static void show(struct screen *s, const struct buf *b)
{
	for (size_t i = 0; i < b->size; i++) {
		const char *at = b->data + i;

		if (*at != '\033') {
			assert_true(s->count < CELLS);
			memcpy(s->style[s->count], s->now, STYLE);
			s->text[s->count++] = *at;
			continue;
		}
		assert_true(i + 3 < b->size && at[1] == '[' && at[2] == '0');
		assert_true(i + 1 < b->size && buf_utf8(s->text, s->count) == s->count);
		snprintf(s->now, STYLE, "%.*s", (int)strcspn(at + 3, "m"), at + 3);
		i += 3 + strcspn(at + 3, "m");
	}
	s->text[s->count] = '\0';
}

static void add(struct markdown *m, struct screen *s, const char *text, size_t len)
{
	struct buf b = { 0 };

	markdown_add(m, text, len, &b);
	show(s, &b);
	assert_string_equal(s->now, "");
	assert_true(m->count < MARKDOWN_HELD);
	buf_release(&b);
}

static void finish(struct markdown *m, struct screen *s)
{
	struct buf b = { 0 };

	markdown_flush(m, &b);
	show(s, &b);
	assert_int_equal(m->count, 0);
	buf_release(&b);
}

static void whole(struct screen *s, const char *text)
{
	struct markdown m = { 0 };

	memset(s, 0, sizeof(*s));
	add(&m, s, text, strlen(text));
	finish(&m, s);
	assert_string_equal(s->text, text);
}

static void assert_same(const struct screen *a, const struct screen *b)
{
	assert_string_equal(a->text, b->text);
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->style[i], b->style[i]) != 0)
			fail_msg("at %zu of \"%s\": \"%s\" and \"%s\"", i, a->text, a->style[i], b->style[i]);
}

/* The style of the first place where `part` stands. */
static const char *style_of(const struct screen *s, const char *part)
{
	const char *at = strstr(s->text, part);

	assert_non_null(at);
	for (size_t i = 1; i < strlen(part); i++)
		assert_string_equal(s->style[at - s->text], s->style[at - s->text + i]);
	return s->style[at - s->text];
}

static const struct {
	const char *text, *part, *style;
} samples[] = {
	{ "# Head *line*\nplain\n", "Head ", ";1;35" },
	{ "# Head\nplain\n", "plain", "" },
	{ "#hash\n", "#hash", "" },
	{ "####### seven\n", "seven", "" },
	{ "   ## In\n", "In", ";1;35" },
	{ "a **b c** d", "b c", ";1" },
	{ "a **b c** d", " d", "" },
	{ "a **b c** d", "**", ";2" },
	{ "a *b* d", "b", ";3" },
	{ "a ***b*** d", "b", ";1;3" },
	{ "**a *b* c**", "b", ";1;3" },
	{ "**a *b* c**", " c", ";1" },
	{ "2 * 3 * 4", " 3 ", "" },
	{ "snake_case_name x", "case", "" },
	{ "an _apt_ word", "apt", ";3" },
	{ "**open\nnext", "next", "" },
	{ "\\*not\\* so", "not", "" },
	{ "use `x**y**z` so", "x**y**z", ";36" },
	{ "use ``a`b`` so", "a`b", ";36" },
	{ "use `open\nnext", "next", "" },
	{ "```c\nint *a = *b;\n```\nafter *x*", "int *a = *b;", ";36" },
	{ "```c\nint *a = *b;\n```\nafter *x*", "after ", "" },
	{ "```c\nx\n```\n", "```c", ";2" },
	{ "````\n```\nin\n````\nout", "in", ";36" },
	{ "````\n```\nin\n````\nout", "out", "" },
	{ "~~~\n# no\n~~~\n", "# no", ";36" },
	{ "```\nno end ```\nin", "in", ";36" },
	{ "```x``` is short\nout", "out", "" },
	{ "- one\n- two", "one", "" },
	{ "- one\n", "-", ";1" },
	{ "* **b**: c\n", "b", ";1" },
	{ "12. twelve\n", "12.", ";1" },
	{ "12.5 is\n", "12.5", "" },
	{ "1990 was\n", "1990", "" },
	{ "1234567890. no\n", "1234567890.", "" },
	{ "> said\nnot", "said", ";3" },
	{ "> said\nnot", ">", ";2;3" },
	{ "> said\nnot", "not", "" },
	{ "---\nx", "---", ";2" },
	{ "* * *\nx", "x", "" },
	{ "-----\nx", "-----", ";2" },
	{ "--- a", "a", "" },
	{ "see [the page](http://a.b/c_d_e) x", "the page", "" },
	{ "see [the page](http://a.b/c_d_e) x", "http://a.b/c_d_e", ";2;4" },
	{ "see [the page](http://a.b/c_d_e) x", " x", "" },
	{ "a[1](2) and f[x] (y)", " (y)", "" },
	{ "\xc3\xa9t\xc3\xa9 **\xc3\xa9t\xc3\xa9** \xe2\x82\xac", "\xc3\xa9t\xc3\xa9", "" },
	{ "z **\xc3\xa9t\xc3\xa9**", "\xc3\xa9t\xc3\xa9", ";1" },
};

static void styles_are_those_of_markdown(void **state)
{
	struct screen s;

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		whole(&s, samples[i].text);
		if (strcmp(style_of(&s, samples[i].part), samples[i].style) != 0)
			fail_msg("\"%s\" in \"%s\" has style \"%s\", not \"%s\"", samples[i].part, samples[i].text,
				 style_of(&s, samples[i].part), samples[i].style);
	}
}

static void a_text_cut_anywhere_looks_the_same(void **state)
{
	struct screen one, two;

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		const char *text = samples[i].text;
		size_t len = strlen(text);
		struct markdown bytes = { 0 };

		whole(&one, text);
		for (size_t cut = 1; cut < len; cut++) {
			struct markdown m = { 0 };

			memset(&two, 0, sizeof(two));
			add(&m, &two, text, cut);
			add(&m, &two, text + cut, len - cut);
			finish(&m, &two);
			assert_same(&one, &two);
		}
		memset(&two, 0, sizeof(two));
		for (size_t at = 0; at < len; at++)
			add(&bytes, &two, text + at, 1);
		finish(&bytes, &two);
		assert_same(&one, &two);
	}
}

static uint32_t next(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void random_pieces_of_random_texts_look_the_same(void **state)
{
	static const char *const parts[] = {
		"*",   "**",	   "_",	   "`",	 "```", "~~~", "\n", "\n\n", "# ",  "#",   ">",
		"- ",  "1. ",	   "[",	   "](", ")",	" ",   "\t", "\\",   "a",   "b1",  "!",
		"---", "\xc3\xa9", "word", "  ", "|",	"<x>", "9",  ".",    "_a_", "***", "\xf0\x9f\x98\x80",
		"__",  "````"
	};
	struct screen one, two;
	uint32_t seed = 7;

	(void)state;
	for (int round = 0; round < 3000; round++) {
		struct markdown m = { 0 };
		struct buf text = { 0 };
		size_t at = 0;

		for (uint32_t n = next(&seed) % 60 + 1; n; n--)
			buf_adds(&text, parts[next(&seed) % (sizeof(parts) / sizeof(parts[0]))]);
		whole(&one, buf_text(&text));
		memset(&two, 0, sizeof(two));
		while (at < text.size) {
			size_t n = next(&seed) % 7 + 1;

			n = n < text.size - at ? n : text.size - at;
			add(&m, &two, text.data + at, n);
			at += n;
		}
		finish(&m, &two);
		assert_same(&one, &two);
		buf_release(&text);
	}
}

/* What a person reads must not wait for the rest of a line. */
static void only_marks_wait(void **state)
{
	static const struct {
		const char *text;
		size_t waits;
	} cases[] = {
		{ "The sea", 0 },      { "The **", 2 },	 { "The **s", 0 },     { "# Hea", 0 },	   { "#", 1 },
		{ "  - it", 0 },       { "```py", 0 },	 { "see `co", 0 },     { "see [a pa", 0 }, { "see [a]", 1 },
		{ "see [a](http", 0 }, { "| a | b", 0 }, { "the year 19", 0 }, { "19", 2 },	   { "--", 2 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct markdown m = { 0 };
		struct buf b = { 0 };

		markdown_add(&m, cases[i].text, strlen(cases[i].text), &b);
		if (m.count != cases[i].waits)
			fail_msg("\"%s\": %zu bytes wait", cases[i].text, m.count);
		buf_release(&b);
	}
}

/* Bytes that are no UTF-8 come out as they are, too. */
static void no_byte_is_lost(void **state)
{
	uint32_t seed = 11;

	(void)state;
	for (int round = 0; round < 2000; round++) {
		struct markdown m = { 0 };
		struct buf b = { 0 }, plain = { 0 };
		char text[200];
		size_t len = next(&seed) % sizeof(text);

		for (size_t i = 0; i < len; i++) {
			text[i] = (char)(next(&seed) % 2 ? next(&seed) : (uint32_t) "*_`#>-[](\n ~"[next(&seed) % 12]);
			text[i] = text[i] == '\033' ? 'e' : text[i];
		}
		markdown_add(&m, text, len, &b);
		markdown_flush(&m, &b);
		for (size_t i = 0; i < b.size; i++) {
			if (b.data[i] == '\033')
				i += strcspn(b.data + i, "m");
			else
				buf_add(&plain, b.data + i, 1);
		}
		assert_int_equal(plain.size, len);
		assert_memory_equal(buf_text(&plain), text, len);
		buf_release(&b);
		buf_release(&plain);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(styles_are_those_of_markdown),
		cmocka_unit_test(a_text_cut_anywhere_looks_the_same),
		cmocka_unit_test(random_pieces_of_random_texts_look_the_same),
		cmocka_unit_test(only_marks_wait),
		cmocka_unit_test(no_byte_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
