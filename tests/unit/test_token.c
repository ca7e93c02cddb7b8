/*
 * token.c and what it stands on (utf8.c, pretoken.c, bpe.c): from the definition of each, and for the pre-tokenizers
 * from recorded splits. The default model's vocabulary has its own test among the golden ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bpe.h"
#include "pretoken.h"
#include "token.h"
#include "utf8.h"
#include "vectors.h"

/* ---- UTF-8 ---- */

static void characters_are_those_of_the_standard(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		int is;
	} cases[] = {
		{ "a", 1, 1 },
		{ "\0", 1, 1 },
		{ "", 0, -1 },
		{ "\xc3\xa9", 2, 2 },
		{ "\xc3", 1, -1 },
		{ "\xc3\x28", 2, 0 },
		{ "\xc0\x80", 2, 0 },
		{ "\xc1\xbf", 2, 0 },
		{ "\x80", 1, 0 },
		{ "\xe2\x82\xac", 3, 3 },
		{ "\xe2\x82", 2, -1 },
		{ "\xe0\x80", 2, 0 },
		{ "\xe0\xa0\x80", 3, 3 },
		{ "\xe0\x9f\xbf", 3, 0 },
		{ "\xed\x9f\xbf", 3, 3 },
		{ "\xed\xa0\x80", 3, 0 },
		{ "\xed\xa0", 2, 0 },
		{ "\xf0\x9f\x99\x82", 4, 4 },
		{ "\xf0\x8f\xbf\xbf", 4, 0 },
		{ "\xf0\x90\x80\x80", 4, 4 },
		{ "\xf4\x8f\xbf\xbf", 4, 4 },
		{ "\xf4\x90\x80\x80", 4, 0 },
		{ "\xf5\x80\x80\x80", 4, 0 },
		{ "\xff", 1, 0 },
		{ "\xf0\x9f\x99", 3, -1 },
		{ "\xf0\x9f\x99\x28", 4, 0 },
		{ "\xf0", 1, -1 },
	};

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
		assert_int_equal(utf8_character(cases[c].text, cases[c].len), cases[c].is);
	assert_int_equal(utf8_code("\xf4\x8f\xbf\xbf", 4), 0x10ffff);
	assert_int_equal(utf8_code("\xe2\x82\xac", 3), 0x20ac);
	assert_int_equal(utf8_code("\xc3\xa9", 2), 0xe9);
	assert_int_equal(utf8_valid("ab\xc3\xa9\xff", 5), 4);
}

static void only_what_can_be_completed_is_held_back(void **state)
{
	static const struct {
		const char *text;
		size_t whole;
	} cases[] = {
		{ "", 0 },
		{ "abc", 3 },
		{ "ab\xc3", 2 },
		{ "ab\xc3\xa9", 4 },
		{ "\xf0", 0 },
		{ "\xf0\x9f", 0 },
		{ "\xf0\x9f\x99", 0 },
		{ "\xf0\x9f\x99\x82", 4 },
		{ "a\xe2\x82", 1 },
		{ "a\xe0\x80", 3 },
		{ "a\xed\xa0", 3 },
		{ "a\xc0", 2 },
		{ "a\xff", 2 },
		{ "a\x80\x80", 3 },
		{ "\xf4\x90", 2 },
		{ "\xc3\xc3", 1 },
		{ "a\xf0\x9f\xe2", 3 },
		{ "\xf8", 1 },
		{ "\x9f\x99\x82", 3 },
		{ "\xf0\x28\xc3", 2 },
	};

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
		assert_int_equal(utf8_whole(cases[c].text, strlen(cases[c].text)), cases[c].whole);
}

/* ---- pre-tokenizers ---- */

struct cuts {
	int32_t at[4096];
	size_t count;
};

static int take_piece(void *arg, const char *at, size_t len, struct err *e)
{
	struct cuts *c = arg;

	(void)at;
	(void)e;
	assert_true(c->count < sizeof(c->at) / sizeof(c->at[0]));
	c->at[c->count++] = (int32_t)len;
	return 0;
}

static struct pretoken *named(const char *name)
{
	struct pretoken *p = NULL;

	assert_int_equal(pretoken_new((struct gguf_str){ name, strlen(name) }, &p, NULL), 0);
	return p;
}

static void texts_are_cut_as_recorded(void **state)
{
	static struct vectors v;
	static struct cuts is, should;
	static char text[FIELD_BYTES];

	(void)state;
	vectors_open(&v, "pretoken.txt");
	while (vectors_next(&v)) {
		struct pretoken *p = named(v.field[0]);
		size_t len = vectors_text(v.field[1], text, sizeof(text));

		should.count = vectors_numbers(v.field[2], should.at, sizeof(should.at) / sizeof(should.at[0]));
		is.count = 0;
		assert_int_equal(pretoken_split(p, text, len, take_piece, &is, NULL), 0);
		if (is.count != should.count || memcmp(is.at, should.at, is.count * sizeof(is.at[0])) != 0)
			fail_msg("line %zu: %s cuts %s differently", v.lines, v.field[0], v.field[1]);
		pretoken_free(p);
	}
	assert_int_equal(v.lines, 2250);
}

static void bytes_that_are_no_character_stand_alone(void **state)
{
	static const int32_t should[] = { 2, 1, 1, 2, 1 };
	struct pretoken *p = named("gpt-2");
	struct cuts is = { .count = 0 };

	(void)state;
	assert_int_equal(pretoken_split(p, "ab\xff\xc0zz\xe2", 7, take_piece, &is, NULL), 0);
	assert_int_equal(is.count, 5);
	assert_memory_equal(is.at, should, sizeof(should));
	pretoken_free(p);
}

static void an_unknown_pretokenizer_is_refused(void **state)
{
	static const char *const names[] = { "", "gpt", "gpt-22", "nobody\033" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct pretoken *p = NULL;
		struct err e = { 0 };

		assert_int_equal(pretoken_new((struct gguf_str){ names[i], strlen(names[i]) }, &p, &e), SINK_EINVAL);
		assert_non_null(strstr(e.text, "gpt-2, smollm, llama-bpe, dbrx"));
		assert_null(strchr(e.text, '\033'));
		assert_null(p);
	}
}

/* ---- byte-pair encoding ---- */

enum { ALPHABET = 3, MERGES = 40 };

struct rules {
	int32_t left[MERGES], right[MERGES];
	int32_t tokens; /* so far */
};

/* The definition: join the pair of the lowest rank, the first in the text, until there is none. */
static size_t join_by_hand(const struct rules *r, int32_t *id, size_t count)
{
	for (int rank = 0; rank < MERGES; rank++)
		for (size_t i = 0; i + 1 < count; i++)
			if (id[i] == r->left[rank] && id[i + 1] == r->right[rank]) {
				id[i] = ALPHABET + rank;
				memmove(id + i + 1, id + i + 2, (count - i - 2) * sizeof(*id));
				count--;
				rank = -1; /* a new pair may have any rank */
				break;
			}
	return count;
}

static void merges_go_by_rank_and_then_by_place(void **state)
{
	unsigned dice = 1;

	(void)state;
	for (int round = 0; round < 200; round++) {
		struct bpe_scratch scratch = { 0 };
		struct rules r;
		struct bpe *b;

		assert_int_equal(bpe_new(MERGES, &b, NULL), 0);
		for (int i = 0; i < MERGES; i++) {
			r.left[i] = rand_r(&dice) % (ALPHABET + i);
			r.right[i] = rand_r(&dice) % (ALPHABET + i);
			bpe_add(b, r.left[i], r.right[i], ALPHABET + i);
		}
		for (size_t len = 0; len < 60; len++) {
			const struct bpe_rule rule = { bpe_merges, b };
			struct bpe_part is[60];
			int32_t should[60];
			size_t count;

			for (uint32_t i = 0; i < len; i++) {
				should[i] = rand_r(&dice) % ALPHABET;
				is[i] = (struct bpe_part){ should[i], i, i + 1 };
			}
			count = join_by_hand(&r, should, len);
			assert_int_equal(bpe_join(&rule, is, len, &scratch, NULL), count);
			for (size_t i = 0; i < count; i++) {
				assert_int_equal(is[i].id, should[i]);
				assert_int_equal(is[i].at, i ? is[i - 1].end : 0);
			}
			assert_true(!count || is[count - 1].end == len);
		}
		bpe_release(&scratch);
		bpe_free(b);
	}
}

/* ---- lists ---- */

static void a_list_of_tokens_grows(void **state)
{
	static const int32_t more[] = { 7, 8, 9 };
	struct tokens t = { 0 };

	(void)state;
	for (int32_t i = 0; i < 1000; i++)
		assert_int_equal(tokens_add(&t, i, NULL), 0);
	assert_int_equal(tokens_append(&t, more, 3, NULL), 0);
	assert_int_equal(tokens_append(&t, NULL, 0, NULL), 0);
	assert_int_equal(t.count, 1003);
	assert_int_equal(t.id[999], 999);
	assert_int_equal(t.id[1002], 9);
	tokens_release(&t);
	assert_int_equal(t.count, 0);
	assert_int_equal(tokens_add(&t, 1, NULL), 0);
	tokens_release(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(characters_are_those_of_the_standard),
		cmocka_unit_test(only_what_can_be_completed_is_held_back),
		cmocka_unit_test(texts_are_cut_as_recorded),
		cmocka_unit_test(bytes_that_are_no_character_stand_alone),
		cmocka_unit_test(an_unknown_pretokenizer_is_refused),
		cmocka_unit_test(merges_go_by_rank_and_then_by_place),
		cmocka_unit_test(a_list_of_tokens_grows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
