/* answer.c: a text cut into tokens anywhere comes out as if it had come whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "answer.h"
#include "utf8.h"

/* What the definition says: all before the first stop string, with U+FFFD for bytes that are no UTF-8. */
static void by_hand(const char *text, const struct settings *s, struct text *out)
{
	size_t end = strlen(text);

	for (size_t i = 0; i < s->stops; i++) {
		const char *at = strstr(text, s->stop[i].text);

		if (at && (size_t)(at - text) < end)
			end = (size_t)(at - text);
	}
	assert_int_equal(text_add_valid(out, text, end, NULL), 0);
	assert_int_equal(text_add(out, "", 0, NULL), 0);
}

static void by_pieces(const char *text, size_t piece, const struct settings *s, struct text *out)
{
	size_t len = strlen(text), told = 0, taken = 0;
	bool stopped = false;
	struct answer a;

	answer_init(&a, s);
	for (size_t at = 0; at < len && !stopped; at += piece) {
		size_t n = len - at < piece ? len - at : piece, before = out->len;

		assert_int_equal(
			answer_take(&a, &(struct drawn){ (int32_t)at, -1.0, NULL }, text + at, n, out, &stopped, NULL),
			0);
		taken++;
		if (out->len > before) { /* whole characters, and all tokens so far go with them */
			assert_int_equal(utf8_valid(out->at + before, out->len - before), out->len - before);
			told += a.tokens;
			assert_int_equal(told, taken);
			answer_sent(&a);
		}
	}
	if (!stopped)
		assert_int_equal(answer_end(&a, out, NULL), 0);
	assert_int_equal(text_add(out, "", 0, NULL), 0);
	answer_release(&a);
}

static void add_stop(struct settings *s, const char *text)
{
	s->stop[s->stops].len = strlen(text);
	memcpy(s->stop[s->stops++].text, text, strlen(text) + 1);
}

static void any_cut_gives_the_same_text(void **state)
{
	static const struct {
		const char *text, *stops[4];
	} cases[] = {
		{ "plain text", { NULL } },
		{ "plain text", { "text" } },
		{ "one\nUser: two", { "\nUser:" } },
		{ "aaaaab", { "aab" } },
		{ "abababac", { "abac", "zz" } },
		{ "first second third", { "third", "second" } },
		{ "st sto stop", { "stop" } },
		{ "ends with sto", { "stop" } },
		{ "na\xc3\xafve caf\xc3\xa9 \xf0\x9f\x98\x80 end", { NULL } },
		{ "na\xc3\xafve caf\xc3\xa9 \xf0\x9f\x98\x80 end", { "\xf0\x9f\x98\x80" } },
		{ "bad \xff\xfe bytes \xc3( and \xe2\x82", { NULL } },
		{ "bad \xff stop", { " stop" } },
		{ "\xc3\xa9", { "x" } },
		{ "stop", { "stop" } },
	};

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct settings s = { 0 };

		for (int i = 0; i < 4 && cases[c].stops[i]; i++)
			add_stop(&s, cases[c].stops[i]);
		for (size_t piece = 1; piece < 30; piece++) {
			struct text whole = { 0 }, cut = { 0 };

			by_hand(cases[c].text, &s, &whole);
			by_pieces(cases[c].text, piece, &s, &cut);
			assert_string_equal(cut.at, whole.at);
			text_release(&whole);
			text_release(&cut);
		}
	}
}

static void nothing_is_held_without_a_reason(void **state)
{
	struct settings s = { 0 };
	struct text out = { 0 };
	bool stopped;
	struct answer a;

	(void)state;
	add_stop(&s, "END");
	answer_init(&a, &s);
	assert_int_equal(answer_take(&a, &(struct drawn){ .id = 1 }, "one E", 5, &out, &stopped, NULL), 0);
	assert_string_equal(out.at, "one ");
	assert_int_equal(answer_take(&a, &(struct drawn){ .id = 2 }, "N", 1, &out, &stopped, NULL), 0);
	assert_string_equal(out.at, "one ");
	assert_int_equal(answer_take(&a, &(struct drawn){ .id = 3 }, "d", 1, &out, &stopped, NULL), 0);
	assert_string_equal(out.at, "one ENd");
	assert_int_equal(a.tokens, 3);
	assert_int_equal(a.held.len, 0);
	answer_release(&a);
	text_release(&out);
}

static void likeliest_tokens_wait_with_theirs(void **state)
{
	struct settings s = { .top_logprobs = 2 };
	struct likeliest l = { .count = 2, .at = { { -0.5, 7 }, { -1, 8 } } };
	struct text out = { 0 };
	bool stopped;
	struct answer a;

	(void)state;
	answer_init(&a, &s);
	assert_int_equal(answer_prepare(&a, NULL), 0);
	assert_non_null(a.explained);
	for (int i = 0; i < 20; i++) {
		l.at[0].id = i;
		assert_int_equal(answer_take(&a, &(struct drawn){ i, -0.5, i == 3 ? NULL : &l }, "\xf0", 1, &out,
					     &stopped, NULL),
				 0);
	}
	assert_int_equal(a.tokens, 20);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(a.likeliest[i].count, i == 3 ? 0 : 2);
		assert_true(i == 3 || a.likeliest[i].at[0].id == i);
	}
	answer_release(&a);
	text_release(&out);
}

static void zero_bytes_are_text(void **state)
{
	struct settings s = { .stops = 1, .stop = { { 3, { 'a', '\0', 'b' } } } };
	struct text out = { 0 };
	bool stopped;
	struct answer a;

	(void)state;
	answer_init(&a, &s);
	assert_int_equal(answer_take(&a, &(struct drawn){ .id = 1 }, "x\0ya", 4, &out, &stopped, NULL), 0);
	assert_int_equal(out.len, 3);
	assert_false(stopped);
	assert_int_equal(answer_take(&a, &(struct drawn){ .id = 1 }, "\0bz", 3, &out, &stopped, NULL), 0);
	assert_true(stopped);
	assert_int_equal(out.len, 3);
	answer_release(&a);
	text_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_cut_gives_the_same_text),
		cmocka_unit_test(nothing_is_held_without_a_reason),
		cmocka_unit_test(likeliest_tokens_wait_with_theirs),
		cmocka_unit_test(zero_bytes_are_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
