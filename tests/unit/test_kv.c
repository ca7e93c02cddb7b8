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

static const int32_t mark_id = 1, zeros[128]; /* and tokens that are no marks */

static struct kv *cache_new(struct bed *bed, const char *policy, size_t step, int64_t limit)
{
	struct kv_options o = { .step = step, .limit = limit, .mark = &mark_id, .marks = 1 };
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

/* The text: token 1 is a mark, token 0 none; marks are now rare, now one after the other. */
static int32_t token_at(int64_t t)
{
	return t % 17 == 0 || t % 41 == 3 || (t > 250 && t < 330);
}

/* Where the keys of a text were rotated when they were written, to each of their two places. */
enum { TEXT = 6000 };

struct book {
	int64_t key_at[TEXT][2];
	int64_t mark[TEXT]; /* token of mark number .. */
	int64_t marks;	    /* of the text up to the tokens written */
};

static struct book book;

static void book_rewind(int64_t count)
{
	while (book.marks > 0 && book.mark[book.marks - 1] >= count)
		book.marks--;
}

/* The next row of a token's sight: it is in its slot, and its distance to the query is that of their ranks. */
static void check_seen(const struct row *r, int run, int64_t at, int64_t token, int64_t mark, int64_t key,
		       int64_t query, int64_t behind)
{
	assert_int_equal(*slot(r, run, at), token + mark);
	assert_int_equal(query - key, behind);
}

/* All that a row of token t sees, compared with its policy's view; the positions too. */
static void check_row(const struct row *r, int64_t t, int64_t begin, int64_t mark, const struct policy *p,
		      const int64_t query_at[RUNS])
{
	const struct past past = { .begin = begin, .at = book.mark, .mask = INT64_MAX, .end = book.marks };
	struct view v;
	int64_t behind;

	policy_view(p, &past, t, &v);
	behind = view_size(&v);
	assert_int_equal(r->sees[RUN_PINNED].count, v.pinned);
	assert_int_equal(r->sees[RUN_KEPT].count, v.kept_count);
	assert_int_equal(r->sees[RUN_WINDOW].count, v.window_count);
	for (int64_t i = v.pinned_first; i < v.pinned_first + v.pinned; i++)
		check_seen(r, RUN_PINNED, i, i, mark, book.key_at[i][0], query_at[RUN_PINNED], --behind);
	for (int64_t m = v.kept_first; m < v.kept_first + v.kept_count; m++)
		check_seen(r, RUN_KEPT, m, book.mark[m], mark, book.key_at[book.mark[m]][1], query_at[RUN_KEPT],
			   --behind);
	for (int64_t i = v.window; i < v.window + v.window_count; i++)
		check_seen(r, RUN_WINDOW, i, i, mark, book.key_at[i][0], query_at[RUN_WINDOW], --behind);
	assert_int_equal(behind, 0);
}

/*
 * One step from token `at` on: as the model does it, all rows are written before any is read. A token's number has
 * `mark` added, to tell the branches of a fork apart.
 */
static void step_at(struct kv *kv, int64_t at, int64_t begin, size_t count, int64_t mark, int64_t unmarked)
{
	static int32_t token[KV_STEP_MOST];
	int64_t key_at[2], query_at[RUNS];
	struct row row;

	for (size_t i = 0; i < count; i++)
		token[i] = token_at(at + (int64_t)i);
	assert_int_equal(kv_reserve(kv, token, count, NULL), 0);
	for (size_t i = 0; i < count; i++) {
		int64_t t = at + (int64_t)i;

		kv_row(kv, i, &row, key_at, query_at);
		assert_int_equal(row.goes[0].run, t < kv_policy(kv)->sinks ? RUN_PINNED : RUN_WINDOW);
		assert_int_equal(key_at[0], t);
		book.key_at[t][0] = key_at[0];
		book.key_at[t][1] = key_at[1];
		if (token[i] && (book.marks == 0 || book.mark[book.marks - 1] < t))
			book.mark[book.marks++] = t;
		for (int place = 0; place < 2; place++)
			if (row.goes[place].run >= 0)
				*slot(&row, row.goes[place].run, row.goes[place].slot) = t + mark;
	}
	for (size_t i = 0; unmarked == 0 && i < count; i++) {
		kv_row(kv, i, &row, key_at, query_at);
		check_row(&row, at + (int64_t)i, begin, mark, kv_policy(kv), query_at);
	}
	kv_commit(kv, count);
}

static void step(struct kv *kv, size_t count, int64_t mark, int64_t unmarked)
{
	struct kv_info info;

	kv_info(kv, &info);
	book_rewind(info.tokens);
	step_at(kv, info.tokens, 0, count, mark, unmarked);
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
	static const char *const policies[] = { "dense",
						"window:1",
						"window:64",
						"window:100",
						"sink:4,60",
						"sink:64,64",
						"sink:100,30",
						"sink:3,1",
						"sink:0,200",
						"sink:130,65",
						"separator:4,6,60",
						"separator:0,70,1",
						"separator:100,3,64",
						"separator:4,0,60",
						"anchor:0,200,300",
						"anchor:4,7,100",
						"anchor:70,9,10" };
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
	assert_int_equal(kv_rewind(kv, NULL, 501, &e), SINK_EINVAL);
	assert_int_equal(kv_rewind(kv, NULL, -1, &e), SINK_EINVAL);
	assert_int_equal(kv_rewind(kv, NULL, 300, &e), SINK_EGONE);
	kv_info(kv, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	while (back > 0 && kv_rewind(kv, NULL, back - 1, NULL) == 0)
		back--;
	/* the ring has three pages here, 320 .. 511: token back - 1 needs the 100 tokens up to itself */
	assert_int_equal(back, 320 + 100);
	read_tokens(kv, 440, 5);
	assert_int_equal(kv_rewind(kv, NULL, 430, NULL), 0);
	read_tokens(kv, 900, 16);
	assert_int_equal(kv_rewind(kv, NULL, 0, NULL), 0);
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
	assert_int_equal(kv_rewind(b, NULL, 100, NULL), 0);
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
	assert_int_equal(kv_reserve(b, zeros, 65, &e), SINK_EBUSY);
	assert_non_null(strstr(e.text, "no page"));
	kv_info(b, &info);
	assert_int_equal(info.tokens, 64);
	assert_int_equal(info.pages, 1);
	step(b, 64, 0, 0);
	assert_int_equal(kv_reserve(a, zeros, 1, &e), SINK_EBUSY);
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
		assert_int_equal(kv_reserve(kv, zeros, 64, NULL), 0);
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

/* Pages of marks go back as they leave the sight, and those of a sequence with its anchor. */
static void pages_out_of_sight_go_back(void **state)
{
	static const struct {
		const char *policy;
		size_t most;
	} cases[] = {
		/* pinned, the window's ring, and marks: 8 kept, and few among the last 60 + 2 * 8 tokens */
		{ "separator:4,8,60", 1 + 3 + 2 },
		{ "anchor:4,8,200", 1 + 2 + 2 }, /* a sequence has at most 41 tokens here */
	};
	struct bed bed = bed_new(PAGES);

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct kv *kv = cache_new(&bed, cases[c].policy, 8, 0);
		struct kv_info info;
		struct view v;

		read_tokens(kv, 400, 8);
		for (int64_t to = 500; to < 5000; to += 50) {
			struct past past = { .at = book.mark, .mask = INT64_MAX };

			read_tokens(kv, to, 8);
			past.end = book.marks;
			kv_info(kv, &info);
			assert_in_range(info.pages, 2, cases[c].most);
			policy_held(kv_policy(kv), &past, to - 1, &v);
			assert_int_equal(info.pinned, 4);
			assert_int_equal(info.kept, v.kept_count);
			assert_int_equal(info.window, v.window_count);
			assert_int_equal(info.evicted_end, v.window);
			assert_int_equal(info.tokens, info.pinned + info.kept + info.window + info.evicted);
		}
		kv_free(kv);
	}
	bed_free(&bed);
}

/* Back by up to a step's tokens always, further when the rows are there; what follows is as it was. */
static void marks_can_be_rewound(void **state)
{
	static const char *const policies[] = { "separator:4,6,60", "separator:0,70,5", "anchor:4,7,100",
						"anchor:0,3,20" };
	struct bed bed = bed_new(PAGES);

	(void)state;
	for (size_t p = 0; p < sizeof(policies) / sizeof(policies[0]); p++) {
		struct kv *kv = cache_new(&bed, policies[p], 32, 0);
		int64_t at = 0;

		for (int64_t round = 0; round < 60; round++) {
			read_tokens(kv, at + 40 + round % 7, 32);
			at += 40 + round % 7;
			at -= round % 33;
			assert_int_equal(kv_rewind(kv, NULL, at, NULL), 0);
		}
		assert_int_equal(kv_rewind(kv, NULL, at - 1000, NULL), SINK_EGONE);
		assert_int_equal(kv_rewind(kv, NULL, 0, NULL), 0);
		read_tokens(kv, 400, 32);
		kv_free(kv);
	}
	bed_free(&bed);
}

static void forks_keep_their_own_marks(void **state)
{
	struct bed bed = bed_new(PAGES);
	struct kv *a = cache_new(&bed, "separator:4,30,60", 16, 0), *b = NULL;

	(void)state;
	read_tokens(a, 600, 16);
	assert_int_equal(kv_fork(a, &b, NULL), 0);
	step(a, 9, 0, 0);
	read_tokens(a, 1500, 16);
	read_tokens(b, 900, 16);
	kv_free(a);
	read_tokens(b, 1200, 16);
	kv_free(b);
	bed_free(&bed);
}

/* Each prediction reads the last W tokens and no others; before there are W, the text goes on. */
static void a_recomputed_window_begins_anew(void **state)
{
	struct bed bed = bed_new(PAGES);
	struct kv *kv = cache_new(&bed, "recompute:100", 32, 0);
	struct kv_info info;

	(void)state;
	for (int64_t end = 1; end < 400; end += 1 + end % 3) {
		int64_t at = kv_aim(kv, end), begin = end > 100 ? end - 100 : 0;

		assert_true(at == begin || (begin == 0 && at < end));
		for (size_t n; at < end; at += (int64_t)n) {
			assert_int_equal(kv_aim(kv, end), at);
			n = end - at < 32 ? (size_t)(end - at) : 32;
			assert_true(kv_room(kv) >= n);
			step_at(kv, at, begin, n, 0, 0);
		}
		kv_info(kv, &info);
		assert_int_equal(info.tokens, end);
		assert_int_equal(info.window, end - begin);
		assert_int_equal(info.evicted, begin);
	}
	assert_int_equal(kv_rewind(kv, NULL, 390, NULL), 0);
	kv_info(kv, &info);
	assert_int_equal(info.tokens, 390);
	assert_int_equal(info.window, 100);
	assert_int_equal(kv_aim(kv, 391), 291);
	step_at(kv, 291, 291, 32, 0, 0);
	assert_int_equal(kv_rewind(kv, NULL, 50, NULL), 0);
	assert_int_equal(kv_aim(kv, 60), 0);
	assert_int_equal(kv_rewind(kv, NULL, 0, NULL), 0);
	kv_free(kv);
	bed_free(&bed);
}

static void policies_with_marks_need_them(void **state)
{
	struct kv_options o = { .step = 16 };
	struct bed bed = bed_new(PAGES);
	const int32_t bad = -1;
	struct err e = { 0 };
	struct kv *kv;

	(void)state;
	assert_int_equal(policy_parse("separator:4,6,20", &o.policy, NULL), 0);
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EINVAL);
	assert_non_null(strstr(e.text, "separator"));
	o.mark = &bad;
	o.marks = 1;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EINVAL);
	o.mark = &mark_id;
	o.policy.kept = PAGES * PAGE_TOKENS;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EBUSY);
	o.policy.kept = o.policy.window = INT32_MAX - 1;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EBUSY);
	o.policy.window = 20;
	/* All of them: as many tokens as the arena holds, were each a mark. */
	o.policy.kept = INT32_MAX;
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), 0);
	o.limit = PAGES * PAGE_TOKENS;
	kv_free(kv);
	assert_int_equal(kv_new(bed.a, &o, &kv, &e), SINK_EBUSY);
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
		cmocka_unit_test(pages_out_of_sight_go_back),
		cmocka_unit_test(marks_can_be_rewound),
		cmocka_unit_test(forks_keep_their_own_marks),
		cmocka_unit_test(a_recomputed_window_begins_anew),
		cmocka_unit_test(policies_with_marks_need_them),
		cmocka_unit_test(options_out_of_range_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
