/*
 * guide.c on grammars: masks are compared with a walk over every token of the vocabulary, and what steering promises is
 * tried by walking at random until the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "guiding.h"

static bool guided(struct guide *q, const char *text)
{
	guide_look(q);
	for (; *text; text++)
		if (!guide_see(q, letter(*text)))
			return false;
	return true;
}

/* ---- rules that call each other ---- */

/* Brackets in brackets: S is "(" S* ")". */
static struct grammar *brackets(bool ends)
{
	struct grammar *g;
	struct err e;
	int32_t s, part[3];

	assert_int_equal(grammar_new(&g, &e), 0);
	s = grammar_rule(g);
	part[0] = grammar_text(g, "(", 1);
	part[1] = grammar_repeat(g, s, ends ? 0 : 1, GRAMMAR_MANY);
	part[2] = grammar_text(g, ")", 1);
	grammar_define(g, s, grammar_seq(g, part, 3));
	if (grammar_finish(g, s, &e) < 0) {
		assert_false(ends);
		assert_int_equal(e.code, SINK_EINVAL);
		grammar_free(g);
		return NULL;
	}
	return g;
}

static void rules_may_call_themselves(void **state)
{
	struct grammar *g = brackets(true), *round;
	struct guide *q;
	struct err e;
	int32_t s;
	int depth = 0;

	(void)state;
	assert_true(accepts(g, "(()(()))"));
	assert_false(accepts(g, "(()"));
	assert_false(accepts(g, "())"));
	assert_int_equal(guide_new(g, trie, &q, NULL), 0);
	while (guide_take(q, letter('('), NULL) == 0)
		depth++;
	assert_true(depth > 20 && depth <= GRAMMAR_DEPTH + 1);
	assert_true(guide_least(q) <= depth);
	for (int i = 0; i < depth; i++) {
		assert_false(guide_is_complete(q));
		assert_int_equal(guide_take(q, letter(')'), NULL), 0);
	}
	assert_true(guide_is_closed(q));
	guide_free(q);
	grammar_free(g);
	assert_null(brackets(false)); /* no text of it ends */
	assert_int_equal(grammar_new(&round, &e), 0);
	s = grammar_rule(round);
	grammar_define(round, s, grammar_any(round, (const int32_t[]){ s, grammar_text(round, "a", 1) }, 2));
	assert_int_equal(grammar_finish(round, s, &e), SINK_EINVAL);
	grammar_free(round);
}

static void equal_expressions_are_one(void **state)
{
	struct grammar *g;
	int32_t a, b, words[3];

	(void)state;
	assert_int_equal(grammar_new(&g, NULL), 0);
	a = grammar_text(g, "one", 3);
	b = grammar_text(g, "one", 3);
	assert_int_equal(a, b);
	assert_int_equal(grammar_any(g, (const int32_t[]){ a, b, EXPR_NEVER }, 3), a);
	assert_int_equal(grammar_seq(g, (const int32_t[]){ EXPR_EMPTY, a }, 2), a);
	assert_int_equal(grammar_seq(g, (const int32_t[]){ a, EXPR_NEVER }, 2), EXPR_NEVER);
	words[0] = a;
	words[1] = grammar_text(g, "only", 4);
	words[2] = grammar_text(g, "on", 2);
	assert_int_equal(grammar_finish(g, grammar_any(g, words, 3), NULL), 0);
	assert_true(accepts(g, "one") && accepts(g, "only") && accepts(g, "on"));
	assert_false(accepts(g, "onl") || accepts(g, "onely") || accepts(g, ""));
	grammar_free(g);
}

/* ---- masks ---- */

static bool is_allowed(const struct mask *m, int32_t id)
{
	return m->bits[id / 64] >> id % 64 & 1;
}

/* Every token by itself, against the mask. */
static void compare_mask(struct guide *q, int64_t left)
{
	struct mask m;
	size_t count = 0;

	guide_look(q);
	assert_int_equal(guide_mask(q, left, &m, NULL), 0);
	for (int32_t id = 0; id < (int32_t)vocab_size(vocab); id++) {
		bool good = false;

		if (vocab_is_end(vocab, id)) {
			good = guide_is_complete(q);
		} else if (!vocab_is_control(vocab, id)) {
			guide_look(q);
			good = guide_see(q, id);
		}
		if (left > 1 << 20 && is_allowed(&m, id) != good)
			fail_msg("token %d is %s", id, good ? "refused" : "allowed");
		assert_true(good || !is_allowed(&m, id));
		count += is_allowed(&m, id);
	}
	assert_int_equal(count, m.count);
}

/* One of the tokens of a mask. */
static int32_t any_of(const struct mask *m, uint64_t *seed)
{
	size_t nth = roll(seed) % m->count;

	for (int32_t id = 0; id < (int32_t)vocab_size(vocab); id++)
		if (is_allowed(m, id) && nth-- == 0)
			return id;
	return -1;
}

/* Walks at random with so many tokens; what comes of it is complete, and goes to `text`. */
static void walk(const struct grammar *g, int64_t most, uint64_t seed, bool compares, char *text, size_t room)
{
	struct guide *q;
	size_t len = 0;
	int64_t left;

	assert_int_equal(guide_new(g, trie, &q, NULL), 0);
	assert_true(guide_least(q) <= most);
	for (left = most; left > 0 && !guide_is_closed(q); left--) {
		struct gguf_str piece;
		struct mask m;
		int32_t id;

		if (compares) {
			compare_mask(q, INT64_MAX);
			compare_mask(q, left);
		}
		guide_look(q);
		assert_int_equal(guide_mask(q, left, &m, NULL), 0);
		assert_true(m.count > 0);
		id = any_of(&m, &seed);
		if (vocab_is_end(vocab, id)) {
			assert_true(guide_is_complete(q));
			break;
		}
		assert_int_equal(guide_take(q, id, NULL), 0);
		assert_true(guide_least(q) < left);
		piece = vocab_piece(vocab, id, false);
		assert_true(len + piece.len < room);
		memcpy(text + len, piece.at, piece.len);
		len += piece.len;
	}
	text[len] = '\0';
	assert_true(guide_is_complete(q));
	guide_free(q);
}

static void masks_are_what_each_token_says(void **state)
{
	static char text[1 << 16];

	(void)state;
	for (size_t i = 0; i < PATTERNS; i++) {
		struct grammar *g = grammar_of(patterns[i]);

		walk(g, 40, i, true, text, sizeof(text));
		assert_true(matches(patterns[i], text) || strlen(text) > 60);
		grammar_free(g);
	}
}

static void every_walk_ends_well_within_its_tokens(void **state)
{
	static const char *const endless[] = { "(a|b)*abb", "a{2,30}(bc|.*d)e", "[^x]*x[^x]*x",
					       "(the|a) (cat|dog)( and .*)?" };
	static char text[1 << 16];

	(void)state;
	for (size_t i = 0; i < sizeof(endless) / sizeof(endless[0]); i++) {
		struct grammar *g = grammar_of(endless[i]);
		struct guide *q;
		int64_t least;

		assert_int_equal(guide_new(g, trie, &q, NULL), 0);
		least = guide_least(q);
		guide_free(q);
		for (int64_t more = 0; more < 30; more += 3)
			for (uint64_t seed = 0; seed < 5; seed++)
				walk(g, least + more, seed, false, text, sizeof(text));
		grammar_free(g);
	}
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct grammar *g = brackets(true);

		walk(g, 2 + (int64_t)seed, seed, false, text, sizeof(text));
		grammar_free(g);
	}
}

/* What is allowed does not depend on what was looked at, or forgotten, before. */
static void a_guide_forgets_without_harm(void **state)
{
	struct grammar *g = grammar_of("(.{1,400}x){1,400}");
	struct guide *q, *other;
	uint64_t seed = 3;

	(void)state;
	assert_int_equal(guide_new(g, trie, &q, NULL), 0);
	assert_int_equal(guide_new(g, trie, &other, NULL), 0);
	for (int i = 0; i < 400; i++) {
		struct mask m, n;
		int32_t id;

		guide_look(q);
		assert_int_equal(guide_mask(q, 5000, &m, NULL), 0);
		id = any_of(&m, &seed);
		if (i % 50 == 0) {
			guide_look(other);
			assert_int_equal(guide_mask(other, 5000, &n, NULL), 0);
			assert_int_equal(m.count, n.count);
			assert_int_equal(guide_least(q), guide_least(other));
		}
		assert_int_equal(guide_take(q, id, NULL), 0);
		assert_int_equal(guide_take(other, id, NULL), 0);
	}
	guide_free(q);
	guide_free(other);
	grammar_free(g);
}

static void bytes_that_must_come_are_told(void **state)
{
	struct grammar *g = grammar_of("\\{\"name\": \"(Ann|Anna)\"\\}");
	struct guide *q;
	char bytes[64];

	(void)state;
	assert_int_equal(guide_new(g, trie, &q, NULL), 0);
	guide_look(q);
	assert_int_equal(guide_forced(q, bytes, sizeof(bytes)), 13);
	assert_memory_equal(bytes, "{\"name\": \"Ann", 13);
	assert_int_equal(guide_forced(q, bytes, 4), 4);
	assert_true(guided(q, "{\"name\": \"Anna"));
	assert_int_equal(guide_forced(q, bytes, sizeof(bytes)), 2);
	assert_true(guided(q, "{\"name\": \"Ann\"}"));
	assert_true(guide_sees_end(q));
	assert_false(guide_is_complete(q)); /* looking ahead is not going there */
	guide_free(q);
	grammar_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_may_call_themselves),
		cmocka_unit_test(equal_expressions_are_one),
		cmocka_unit_test(masks_are_what_each_token_says),
		cmocka_unit_test(every_walk_ends_well_within_its_tokens),
		cmocka_unit_test(a_guide_forgets_without_harm),
		cmocka_unit_test(bytes_that_must_come_are_told),
	};

	return cmocka_run_group_tests(tests, make_vocabulary, free_vocabulary);
}
