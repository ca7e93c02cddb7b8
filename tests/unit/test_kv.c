/*
 * kv.c against the definition. Each page holds, where its keys would be, the number of the token that was written to
 * each slot; so what a row sees can be read out and compared with what the policy's definition says it shall see.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kv.h"

enum { PAGES = 40 };

static const struct page_shape shape = { 1, 1, 8, DTYPE_F32 };

struct bed {
	const struct backend *b;
	struct device *d;
	struct arena *a;
};

static struct bed bed_new(size_t pages)
{
	const struct device_options o = { .threads = 1, .max_rows = 1 };
	struct bed bed = { 0 };

	bed.b = kernels_find("ref", NULL);
	assert_non_null(bed.b);
	assert_int_equal(bed.b->open(&o, &bed.d, NULL), 0);
	assert_int_equal(arena_new(bed.b, bed.d, &shape, pages * page_bytes(&shape), &bed.a, NULL), 0);
	assert_int_equal(arena_pages(bed.a), pages);
	assert_int_equal(arena_page_bytes(bed.a), page_bytes(&shape));
	return bed;
}

static void bed_free(struct bed *bed)
{
	assert_int_equal(arena_pages_free(bed->a), arena_pages(bed->a));
	arena_free(bed->a);
	bed->b->close(bed->d);
}

static struct kv *cache_new(struct bed *bed, const char *policy, size_t step, int64_t limit)
{
	struct kv_options o = { .step = step, .limit = limit };
	struct err e = { 0 };
	struct kv *kv = NULL;

	assert_int_equal(policy_parse(policy, &o.policy, NULL), 0);
	if (kv_new(bed->a, &o, &kv, &e))
		fail_msg("%s", e.text);
	return kv;
}

/* The number of the token in a slot of a run. */
static int64_t *slot(const struct row *r, int run, int64_t s)
{
	const struct page_table *t = &r->tables[run];
	int64_t *page;

	assert_true(t->ring > 0);
	page = t->page[(s / PAGE_TOKENS) % t->ring];
	assert_non_null(page);
	return &page[s % PAGE_TOKENS];
}

/* All that a row of token t sees, compared with the definition; its position too. */
static void check_row(const struct row *r, int64_t t, int64_t mark, const struct policy *p,
		      const int64_t query_at[RUNS])
{
	int64_t rank = 0;

	for (int64_t i = 0; i <= t; i++) {
		int run = i < p->sinks ? RUN_PINNED : RUN_WINDOW;

		if (i >= p->sinks && i <= t - p->window)
			continue;
		assert_true(i >= r->sees[run].first && i < r->sees[run].first + r->sees[run].count);
		assert_int_equal(*slot(r, run, i), i + mark);
		rank++;
	}
	assert_int_equal(r->sees[RUN_PINNED].count + r->sees[RUN_KEPT].count + r->sees[RUN_WINDOW].count, rank);
	assert_int_equal(query_at[RUN_PINNED], rank - 1);
	assert_int_equal(query_at[RUN_WINDOW], t);
}

/*
 * One step: as the model does it, all rows are written before any is read. A token's number has `mark` added, to tell
 * the branches of a fork apart.
 */
static void step(struct kv *kv, size_t count, int64_t mark, int64_t unmarked)
{
	struct kv_info info;
	struct row row;
	int64_t key_at[2], query_at[RUNS];

	kv_info(kv, &info);
	assert_int_equal(kv_reserve(kv, count, NULL), 0);
	for (size_t i = 0; i < count; i++) {
		int64_t t = info.tokens + (int64_t)i;

		kv_row(kv, i, &row, key_at, query_at);
		assert_int_equal(row.goes[0].run, t < kv_policy(kv)->sinks ? RUN_PINNED : RUN_WINDOW);
		assert_int_equal(row.goes[1].run, -1);
		assert_int_equal(key_at[0], t);
		*slot(&row, row.goes[0].run, row.goes[0].slot) = t + mark;
	}
	for (size_t i = 0; unmarked == 0 && i < count; i++) {
		kv_row(kv, i, &row, key_at, query_at);
		check_row(&row, info.tokens + (int64_t)i, mark, kv_policy(kv), query_at);
	}
	kv_commit(kv, count);
}

static void read_tokens(struct kv *kv, int64_t to, size_t most)
{
	struct kv_info info;

	for (kv_info(kv, &info); info.tokens < to; kv_info(kv, &info)) {
		size_t n = (size_t)(to - info.tokens) < most ? (size_t)(to - info.tokens) : most;

		step(kv, n, 0, 0);
	}
}

static void a_row_sees_what_the_definition_says(void **state)
{
	static const char *const policies[] = { "dense",      "window:1",    "window:64", "window:100", "sink:4,60",
						"sink:64,64", "sink:100,30", "sink:3,1",  "sink:0,200", "sink:130,65" };
	static const size_t chunks[] = { 1, 7, 64, 130 };
	struct bed bed = bed_new(PAGES);

	(void)state;
	for (size_t p = 0; p < sizeof(policies) / sizeof(policies[0]); p++)
		for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
			struct kv *kv = cache_new(&bed, policies[p], chunks[c], 0);

			read_tokens(kv, 700, chunks[c]);
			kv_free(kv);
			assert_int_equal(arena_pages_free(bed.a), PAGES);
		}
	bed_free(&bed);
}

static void memory_stands_still_once_the_ring_is_full(void **state)
{
	struct bed bed = bed_new(PAGES);
	struct kv *kv = cache_new(&bed, "sink:4,252", 32, 0);
	struct kv_info info;
	size_t pages;

	(void)state;
	read_tokens(kv, 600, 32);
	kv_info(kv, &info);
	pages = info.pages;
	assert_true(pages <= 1 + (252 + 32 - 1 + 63) / 64 + 1);
	assert_int_equal(info.bytes, pages * arena_page_bytes(bed.a));
	for (int64_t to = 700; to < 3000; to += 100) {
		read_tokens(kv, to, 32);
		kv_info(kv, &info);
		assert_int_equal(info.pages, pages);
		assert_int_equal(info.tokens, to);
		assert_int_equal(info.pinned, 4);
		assert_int_equal(info.window, 252);
		assert_int_equal(info.kept, 0);
		assert_int_equal(info.evicted_end, to - 252);
		assert_int_equal(info.evicted, to - 256);
	}
	kv_free(kv);
	bed_free(&bed);
}

static void forks_share_until_they_write(void **state)
{
	struct bed bed = bed_new(PAGES);
	struct kv *a = cache_new(&bed, "sink:4,252", 16, 0), *b = NULL;
	struct kv_info info;
	int64_t key_at[2], query_at[RUNS];
	struct row row;
	size_t before;

	(void)state;
	read_tokens(a, 300, 16);
	before = arena_pages_free(bed.a);
	assert_int_equal(kv_fork(a, &b, NULL), 0);
	assert_int_equal(arena_pages_free(bed.a), before);
	step(a, 3, 0, 0);
	assert_int_equal(arena_pages_free(bed.a), before - 1); /* the page that both were writing to */
	step(b, 9, 1000000, 1);
	step(a, 7, 0, 0);
	read_tokens(a, 2000, 16);
	kv_info(b, &info);
	assert_int_equal(info.tokens, 309);
	kv_row(b, 0, &row, key_at, query_at);
	for (int64_t i = row.sees[RUN_WINDOW].first; i < 309; i++)
		assert_int_equal(*slot(&row, RUN_WINDOW, i), i < 300 ? i : i + 1000000);
	for (int64_t i = 0; i < 4; i++)
		assert_int_equal(*slot(&row, RUN_PINNED, i), i);
	kv_free(a);
	read_tokens(b, 309, 16);
	kv_free(b);
	bed_free(&bed);
}

static void rewinding_stops_where_rows_are_gone(void **state)
{
	struct bed bed = bed_new(PAGES);
	struct kv *kv = cache_new(&bed, "sink:4,100", 16, 0);
	struct kv_info before, after;
	struct err e = { 0 };
	int64_t back = 500;

	(void)state;
	read_tokens(kv, 500, 16);
	kv_info(kv, &before);
	assert_int_equal(kv_rewind(kv, 501, &e), SINK_EINVAL);
	assert_int_equal(kv_rewind(kv, -1, &e), SINK_EINVAL);
	assert_int_equal(kv_rewind(kv, 300, &e), SINK_EGONE);
	kv_info(kv, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	while (back > 0 && kv_rewind(kv, back - 1, NULL) == 0)
		back--;
	/* the ring has three pages here, 320 .. 511: token back - 1 needs the 100 tokens up to itself */
	assert_int_equal(back, 320 + 100);
	read_tokens(kv, 440, 5);
	assert_int_equal(kv_rewind(kv, 430, NULL), 0);
	read_tokens(kv, 900, 16);
	assert_int_equal(kv_rewind(kv, 0, NULL), 0);
	assert_int_equal(arena_pages_free(bed.a), PAGES);
	kv_info(kv, &after);
	assert_int_equal(after.tokens + after.pinned + after.window + after.evicted, 0);
	read_tokens(kv, 300, 16);
	kv_free(kv);
	bed_free(&bed);
}

static void rewinding_a_fork_leaves_the_other_alone(void **state)
{
	struct bed bed = bed_new(PAGES);
	struct kv *a = cache_new(&bed, "dense", 64, 0), *b = NULL;

	(void)state;
	read_tokens(a, 400, 64);
	assert_int_equal(kv_fork(a, &b, NULL), 0);
	assert_int_equal(kv_rewind(b, 100, NULL), 0);
	step(b, 60, 5000, 1);
	read_tokens(a, 500, 64);
	kv_free(a);
	kv_free(b);
	bed_free(&bed);
}

static void a_full_arena_refuses_and_changes_nothing(void **state)
{
	struct bed bed = bed_new(6);
	struct kv *a = cache_new(&bed, "dense", 200, 0), *b = cache_new(&bed, "dense", 200, 0);
	struct kv_info info;
	struct err e = { 0 };

	(void)state;
	read_tokens(a, 64 * 4, 64);
	step(b, 64, 0, 0);
	assert_int_equal(kv_reserve(b, 65, &e), SINK_EBUSY);
	assert_non_null(strstr(e.text, "no page"));
	kv_info(b, &info);
	assert_int_equal(info.tokens, 64);
	assert_int_equal(info.pages, 1);
	step(b, 64, 0, 0);
	assert_int_equal(kv_reserve(a, 1, &e), SINK_EBUSY);
	kv_free(b);
	read_tokens(a, 64 * 6, 64);
	assert_int_equal(kv_room(a), 0);
	kv_free(a);
	bed_free(&bed);
}

static void dense_has_an_end_and_windows_have_none(void **state)
{
	struct bed bed = bed_new(PAGES);
	struct kv *dense = cache_new(&bed, "dense", 50, 120), *window = cache_new(&bed, "window:10", 50, 120);

	(void)state;
	assert_int_equal(kv_room(dense), 50);
	read_tokens(dense, 100, 50);
	assert_int_equal(kv_room(dense), 20);
	read_tokens(dense, 120, 20);
	assert_int_equal(kv_room(dense), 0);
	read_tokens(window, 1000, 50);
	assert_int_equal(kv_room(window), 50);
	kv_free(dense);
	kv_free(window);
	bed_free(&bed);
}

static void positions_are_as_the_options_say(void **state)
{
	struct bed bed = bed_new(PAGES);
	struct kv_options o = { .step = 64, .origin = 4000000 };
	int64_t key_at[2], query_at[RUNS];
	struct row row;
	struct kv *kv;

	(void)state;
	assert_int_equal(policy_parse("sink:4,20", &o.policy, NULL), 0);
	for (int p = 0; p < 2; p++) {
		o.positions = p ? POSITIONS_TEXT : POSITIONS_CACHE;
		assert_int_equal(kv_new(bed.a, &o, &kv, NULL), 0);
		assert_int_equal(kv_reserve(kv, 64, NULL), 0);
		kv_row(kv, 3, &row, key_at, query_at);
		assert_int_equal(key_at[0], 3);
		assert_int_equal(query_at[RUN_PINNED], 3);
		kv_row(kv, 50, &row, key_at, query_at);
		assert_int_equal(key_at[0], 4000050);
		assert_int_equal(query_at[RUN_WINDOW], 4000050);
		assert_int_equal(query_at[RUN_PINNED], p ? 50 : 23);
		kv_free(kv);
	}
	bed_free(&bed);
}

static void options_out_of_range_are_refused(void **state)
{
	struct bed bed = bed_new(PAGES);
	struct kv_options o = { .step = 16 };
	struct arena *none = NULL;
	struct err e = { 0 };
	struct kv *kv = NULL;

	(void)state;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EINVAL); /* no policy */
	assert_int_equal(policy_parse("sink:4,20", &o.policy, NULL), 0);
	o.step = 0;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EINVAL);
	o.step = (size_t)1 << 40;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EINVAL);
	o.step = 16;
	o.origin = -1;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EINVAL);
	o.origin = 0;
	o.limit = -1;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EINVAL);
	o.limit = 0;
	o.policy.sinks = INT32_MAX;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EBUSY);
	o.policy.sinks = -1;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EINVAL);
	assert_int_equal(policy_parse("window:2000000000", &o.policy, NULL), 0);
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EBUSY);
	assert_int_equal(policy_parse("dense", &o.policy, NULL), 0);
	o.limit = INT64_MAX;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EBUSY);
	o.limit = PAGES * PAGE_TOKENS;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), 0);
	kv_free(kv);
	assert_int_equal(arena_new(bed.b, bed.d, &shape, page_bytes(&shape) - 1, &none, &e), SINK_EINVAL);
	assert_null(none);
	kv_free(NULL);
	arena_free(NULL);
	bed_free(&bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_row_sees_what_the_definition_says),
		cmocka_unit_test(memory_stands_still_once_the_ring_is_full),
		cmocka_unit_test(forks_share_until_they_write),
		cmocka_unit_test(rewinding_stops_where_rows_are_gone),
		cmocka_unit_test(rewinding_a_fork_leaves_the_other_alone),
		cmocka_unit_test(a_full_arena_refuses_and_changes_nothing),
		cmocka_unit_test(dense_has_an_end_and_windows_have_none),
		cmocka_unit_test(positions_are_as_the_options_say),
		cmocka_unit_test(options_out_of_range_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
