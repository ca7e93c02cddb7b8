/*
 * Slices that a step holds: whatever stood behind the tokens that are kept of them, the cache goes on as one that never
 * read anything else. Its rows, what it says of itself, its sealed pages and their sums are the same, bit by bit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include <cmocka.h>

#include "caching.h"
#include "make_gguf.h"
#include "reading.h"
#include "sample.h"

static char tiny_path[] = "test_held.XXXXXX";

static const char *const policies[] = { "sink:4,100",	       "sink:70,60",	 "window:64",	    "separator:4,9,80",
					"separator:70,all,30", "anchor:4,20,80", "anchor:0,all,50", "dense" };

static uint32_t lot(uint32_t *state, uint32_t below)
{
	*state = *state * 1664525 + 1013904223;
	return (*state >> 8) % below;
}

/* One row after the other, each in a step of its own: the checksums of their logits, and what is said of the cache. */
struct plain {
	int32_t log[TEXT];
	uint64_t sum[TEXT];
	struct kv_info info[TEXT + 1];
};

static void read_plain(struct kv *kv, struct plain *p, int64_t to)
{
	for (int64_t at = tokens_of(kv); at < to; at++) {
		p->sum[at] = read_to(kv, p->log, at + 1, true);
		kv_info(kv, &p->info[at + 1]);
	}
}

static void same_info(const struct kv_info *a, const struct kv_info *b)
{
	assert_int_equal(a->tokens, b->tokens);
	assert_int_equal(a->pinned, b->pinned);
	assert_int_equal(a->kept, b->kept);
	assert_int_equal(a->window, b->window);
	assert_int_equal(a->evicted, b->evicted);
	assert_int_equal(a->evicted_end, b->evicted_end);
}

/* Whether a row of the text stands in each slot of a full page: then its sum says what is in it. */
static bool is_written(const struct kv *kv, const struct kv_part *part)
{
	const int64_t sinks = kv_policy(kv)->sinks, first = part->number * PAGE_TOKENS;

	/* A pinned token leaves its slot of the window free, and one among the marks if it is one. */
	return part->run == RUN_PINNED ? first + PAGE_TOKENS <= sinks : first >= sinks;
}

/* All that tells one cache from another. */
static void same_cache(struct kv *a, struct kv *b)
{
	struct kv_part *part[2];
	struct kv_state state[2];
	size_t parts;

	kv_state(a, &state[0]);
	kv_state(b, &state[1]);
	assert_int_equal(state[0].tokens, state[1].tokens);
	assert_int_equal(state[0].marks, state[1].marks);
	assert_int_equal(state[0].text, state[1].text);
	assert_int_equal(kv_room(a), kv_room(b));
	for (int i = 0; i < 2; i++)
		part[i] = test_calloc(kv_parts_most(a) + 1, sizeof(*part[i]));
	parts = kv_parts(a, part[0], false);
	assert_int_equal(kv_parts(b, part[1], false), parts);
	for (size_t i = 0; i < parts; i++) {
		assert_int_equal(part[0][i].run, part[1][i].run);
		assert_int_equal(part[0][i].number, part[1][i].number);
		assert_int_equal(part[0][i].sealed, part[1][i].sealed);
		if (is_written(a, &part[0][i]))
			assert_int_equal(part[0][i].sum, part[1][i].sum);
	}
	test_free(part[0]);
	test_free(part[1]);
}

/* A step of `right` tokens of the text and `wrong` others behind them; all rows of the former are as they shall be. */
static void guess(struct kv *kv, const struct plain *p, size_t right, size_t wrong, uint32_t seed)
{
	const int64_t at = tokens_of(kv);
	struct slice s = { .kv = kv, .count = right + wrong, .logits = LOGITS_ALL, .hold = true };
	struct kv_info info;
	int32_t token[STEP];

	draw_text(m, seed, token, STEP);
	memcpy(token, p->log + at, right * sizeof(*token));
	s.token = token;
	assert_int_equal(model_step(m, &s, 1, NULL), (int)s.count);
	assert_int_equal(tokens_of(kv), at); /* nothing counts yet */
	for (size_t i = 0; i < right; i++)
		assert_int_equal(logits_checksum(model_logits(m, s.first_logits + i), (size_t)model_info(m)->vocab, 0),
				 p->sum[at + (int64_t)i]);
	model_keep(&s, right);
	assert_int_equal(tokens_of(kv), at + (int64_t)right);
	kv_info(kv, &info);
	for (int64_t n = right ? at + 1 : at; n > 0 && n <= at + (int64_t)right; n++) {
		kv_info_at(kv, n, &info);
		same_info(&info, &p->info[n]);
	}
}

static void check_policy(const char *policy, uint32_t seed)
{
	struct plain *p = test_calloc(1, sizeof(*p));
	struct kv *plain = cache(model_arena(m), policy), *held = cache(model_arena(m), policy), *fork;

	draw_text(m, seed, p->log, TEXT);
	while (tokens_of(plain) < TEXT - STEP) {
		const size_t room = kv_room(held), right = 1 + lot(&seed, room < 9 ? (uint32_t)room : 9);
		const size_t wrong = lot(&seed, (uint32_t)(room - right < STEP / 2 ? room - right : STEP / 2) + 1);

		read_plain(plain, p, tokens_of(plain) + (int64_t)right);
		fork = NULL;
		if (lot(&seed, 8) == 0) { /* one that shares its pages, and goes its own way */
			assert_int_equal(kv_fork(held, &fork, NULL), 0);
			guess(fork, p, right, wrong / 2, seed);
		}
		if (lot(&seed, 8) == 0)
			guess(held, p, 0, room < STEP / 2 ? room : STEP / 2, seed); /* and nothing is kept */
		guess(held, p, right, wrong, seed);
		same_cache(held, plain);
		if (fork)
			same_cache(fork, plain);
		kv_free(fork);
		if (lot(&seed, 10) == 0 && tokens_of(held) > STEP) { /* a way back */
			const int64_t to = tokens_of(held) - (int64_t)lot(&seed, STEP / 2);

			assert_int_equal(kv_rewind(held, p->log, to, NULL), 0);
			assert_int_equal(kv_rewind(plain, p->log, to, NULL), 0);
		}
	}
	kv_free(held);
	kv_free(plain);
	assert_int_equal(arena_pages_free(model_arena(m)), arena_pages(model_arena(m)));
	test_free(p);
}

static void what_is_not_kept_leaves_no_trace(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 3; seed++)
		for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++)
			check_policy(policies[i], seed);
}

/* Near the end of a budget there is room for fewer, and the last token may be kept alone. */
static void a_budget_may_end_in_a_draft(void **state)
{
	struct kv_options o = { .step = STEP, .limit = 100 };
	struct plain *p = test_calloc(1, sizeof(*p));
	struct kv *plain = NULL, *held = NULL;

	(void)state;
	assert_int_equal(policy_parse("dense", &o.policy, NULL), 0);
	assert_int_equal(kv_new(model_arena(m), &o, &plain, NULL), 0);
	assert_int_equal(kv_new(model_arena(m), &o, &held, NULL), 0);
	draw_text(m, 9, p->log, TEXT);
	read_plain(plain, p, 100);
	read_to(held, p->log, 95, false);
	guess(held, p, 1, 4, 3);
	guess(held, p, 2, 2, 4);
	guess(held, p, 2, 0, 5);
	same_cache(held, plain);
	assert_int_equal(kv_room(held), 0);
	kv_free(held);
	kv_free(plain);
	test_free(p);
}

/* Held and other slices in one step: each goes on as if alone. */
static void held_and_others_share_a_step(void **state)
{
	struct plain *p = test_calloc(1, sizeof(*p));
	struct kv *plain = cache(model_arena(m), "sink:4,100"), *held = cache(model_arena(m), "sink:4,100");
	struct kv *other = cache(model_arena(m), "separator:4,9,80");
	const size_t vocab = (size_t)model_info(m)->vocab;
	int32_t token[STEP];

	(void)state;
	draw_text(m, 21, p->log, TEXT);
	read_plain(plain, p, 200);
	for (int64_t at = 0; at < 200; at += 4) {
		struct slice s[] = {
			{ .kv = held, .token = token, .count = 9, .logits = LOGITS_ALL, .hold = true },
			{ .kv = other, .token = p->log + at, .count = 4, .logits = LOGITS_LAST },
		};

		draw_text(m, (uint32_t)at, token, 9);
		memcpy(token, p->log + at, 4 * sizeof(*token));
		assert_int_equal(model_step(m, s, 2, NULL), 10);
		for (size_t i = 0; i < 4; i++)
			assert_int_equal(logits_checksum(model_logits(m, s[0].first_logits + i), vocab, 0),
					 p->sum[at + (int64_t)i]);
		model_keep(&s[0], 4);
	}
	same_cache(held, plain);
	goes_on_as_if_alone(other, "separator:4,9,80", p->log, TEXT);
	kv_free(held);
	kv_free(plain);
	kv_free(other);
	test_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_kept_leaves_no_trace),
		cmocka_unit_test(a_budget_may_end_in_a_draft),
		cmocka_unit_test(held_and_others_share_a_step),
	};
	const struct make_tiny tiny = { .seed = 7, .heads = 2, .kv_heads = 1, .head_size = 16, .ff = 32 };
	int fd = mkstemp(tiny_path), failed;

	if (fd < 0 || make_tiny_model(tiny_path, &tiny))
		return 99;
	close(fd);
	m = open_model(tiny_path, "auto", 1);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	model_close(m);
	unlink(tiny_path);
	return failed;
}
