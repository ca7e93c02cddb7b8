/*
 * Caches that come back from pages that were kept elsewhere, on a random model: they go on with the very bits of one
 * that was never interrupted, or are refused. And what serves to keep them: shared parts, sums, memory that goes back.
 */
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

#include "caching.h"
#include "make_gguf.h"
#include "model.h"
#include "reading.h"
#include "sample.h"
#include "seal.h"

static const char *const policies[] = { "sink:4,100",	       "separator:4,9,80", "anchor:4,20,80",
					"separator:70,200,30", "window:64",	   "dense" };

enum { POLICIES = sizeof(policies) / sizeof(policies[0]) };

static int accept(struct kv *kv, const char *policy, const int32_t *log, size_t count, struct err *e)
{
	struct kv_options o;

	options(policy, &o);
	return kv_accept(kv, &o, log, count, e);
}

static struct arena *begin(bool files)
{
	const struct page_shape *shape = arena_shape(model_arena(m));
	const struct arena_files none = { -1, -1 };
	struct arena *a = NULL;

	if (files)
		assert_int_equal(arena_open(backend, device, shape, 77, bytes_of(PAGES), &none, &a, NULL), 0);
	else
		assert_int_equal(arena_new(backend, device, shape, bytes_of(PAGES), &a, NULL), 0);
	return a;
}

/* The pages of a cache as a file would keep them. */
struct kept {
	struct kv_state state;
	struct kv_part part[64];
	size_t parts;
	char *page;
};

static void keep(struct kv *kv, struct kept *k)
{
	const struct page_shape *shape = arena_shape(model_arena(m));

	assert_true(kv_parts_most(kv) <= 64);
	kv_state(kv, &k->state);
	k->parts = kv_parts(kv, k->part, false);
	k->page = test_malloc(bytes_of(k->parts + 1));
	for (size_t i = 0; i < k->parts; i++) {
		struct kv_part *p = &k->part[i];
		const uint64_t sum = seal_page(shape, p->page, p->run, p->number);

		if (p->sealed)
			assert_int_equal(p->sum, sum);
		p->sum = sum;
		memcpy(k->page + bytes_of(i), p->page, bytes_of(1));
	}
}

static struct kv *restore(struct kept *k, struct arena *a, const char *policy, const int32_t *log)
{
	struct kv_options o;
	struct kv *kv = NULL;
	struct err e = { 0 };

	options(policy, &o);
	if (kv_restore(a, &o, &k->state, log, k->part, k->parts, &kv, &e))
		fail_msg("%s: %s", policy, e.text);
	for (size_t i = 0; i < k->parts; i++)
		memcpy(k->part[i].page, k->page + bytes_of(i), bytes_of(1));
	return kv;
}

static void pages_come_back_from_elsewhere(void **state)
{
	static const int64_t lengths[] = { 0, 1, 63, 64, 65, 130, 200, 333, 448 };
	struct arena *arenas[2] = { begin(false), begin(true) };
	int32_t log[TEXT];
	struct err e = { 0 };

	(void)state;
	for (size_t p = 0; p < POLICIES; p++)
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			struct kv *kv = cache(model_arena(m), policies[p]), *back;
			struct kept k;
			int rc;

			draw_text(m, 60 + (uint32_t)i, log, TEXT);
			read_to(kv, log, lengths[i], false);
			keep(kv, &k);
			back = restore(&k, arenas[i % 2], policies[p], log);
			rc = i / 2 % 2 ? accept(back, policies[p], log, TEXT, &e)
				       : verify(back, policies[p], log, TEXT, &e);
			if (rc)
				fail_msg("%s, %lld tokens: %s", policies[p], (long long)lengths[i], e.text);
			goes_on_as_if_alone(back, policies[p], log, TEXT);
			kv_free(back);
			kv_free(kv);
			test_free(k.page);
		}
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(arena_pages_free(arenas[i]), PAGES);
		arena_free(arenas[i]);
	}
}

static void pages_that_do_not_fit_are_refused(void **state)
{
	const char *policy = "separator:4,9,80";
	struct kv *kv = cache(model_arena(m), policy), *back = NULL, *room[12];
	struct kv_options o;
	struct arena *a = NULL;
	int32_t log[TEXT];
	struct kept k;

	(void)state;
	assert_int_equal(arena_new(backend, device, arena_shape(model_arena(m)), bytes_of(12), &a, NULL), 0);
	options(policy, &o);
	draw_text(m, 2, log, TEXT);
	read_to(kv, log, 300, false);
	keep(kv, &k);
	assert_int_equal(kv_restore(a, &o, &k.state, log, k.part, k.parts - 1, &back, NULL), SINK_EFORMAT);
	assert_int_equal(kv_restore(a, &o, &k.state, log, k.part + 1, k.parts - 1, &back, NULL), SINK_EFORMAT);
	k.part[k.parts] = k.part[k.parts - 1];
	assert_int_equal(kv_restore(a, &o, &k.state, log, k.part, k.parts + 1, &back, NULL), SINK_EFORMAT);
	k.part[1].number++;
	assert_int_equal(kv_restore(a, &o, &k.state, log, k.part, k.parts, &back, NULL), SINK_EFORMAT);
	k.part[1].number--;
	k.state.marks++;
	assert_int_equal(kv_restore(a, &o, &k.state, log, k.part, k.parts, &back, NULL), SINK_EFORMAT);
	k.state.marks--;
	k.state.tokens = -1;
	assert_int_equal(kv_restore(a, &o, &k.state, log, k.part, k.parts, &back, NULL), SINK_EINVAL);
	k.state.tokens = 300;
	assert_int_equal(arena_pages_free(a), 12);
	for (size_t i = 0; i < k.parts; i++) { /* each page matters */
		back = restore(&k, a, policy, log);
		((char *)k.part[i].page)[i * 100] ^= 1;
		assert_int_equal(verify(back, policy, log, TEXT, NULL), SINK_EFORMAT);
		kv_free(back);
	}
	back = restore(&k, a, policy, log);
	assert_int_equal(verify(back, policy, log + 1, TEXT - 1, NULL), SINK_EGONE);
	kv_free(back);
	back = restore(&k, a, policy, log);
	assert_int_equal(accept(back, policy, log + 1, TEXT - 1, NULL), SINK_EGONE);
	kv_free(back);
	back = restore(&k, a, policy, log);
	assert_int_equal(accept(back, "separator:4,9,81", log, TEXT, NULL), SINK_EINVAL);
	kv_free(back);
	for (size_t i = 0; i < 12 / k.parts; i++)
		room[i] = restore(&k, a, policy, log);
	assert_int_equal(kv_restore(a, &o, &k.state, log, k.part, k.parts, &back, NULL), SINK_EBUSY);
	for (size_t i = 0; i < 12 / k.parts; i++)
		kv_free(room[i]);
	arena_free(a);
	kv_free(kv);
	test_free(k.page);
}

/* Shared parts stay as they are while their cache goes on, and when it is gone. */
static void shared_parts_stay(void **state)
{
	struct arena *a = model_arena(m);
	const size_t left = arena_pages_free(a);
	struct kv *kv = cache(a, "sink:4,100");
	struct kv_part part[16];
	uint64_t sum[16];
	int32_t log[TEXT];
	size_t parts;

	(void)state;
	draw_text(m, 2, log, TEXT);
	read_to(kv, log, 300, false);
	assert_true(kv_parts_most(kv) <= 16);
	parts = kv_parts(kv, part, true);
	for (size_t i = 0; i < parts; i++)
		sum[i] = seal_page(arena_shape(a), part[i].page, part[i].run, part[i].number);
	read_to(kv, log, 600, false);
	kv_free(kv);
	for (size_t i = 0; i < parts; i++) {
		assert_int_equal(seal_page(arena_shape(a), part[i].page, part[i].run, part[i].number), sum[i]);
		arena_drop(a, part[i].page);
	}
	assert_int_equal(arena_pages_free(a), left);
}

/* Sums of rows do not depend on the cut in which they came. */
static void sums_of_rows_add_up(void **state)
{
	static const struct page_shape shapes[] = { { 2, 3, 16, DTYPE_F16 },
						    { 3, 1, 256, DTYPE_F32 },
						    { 2, 3, 64, DTYPE_Q8_0 } };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		char *page = test_malloc(page_bytes(&shapes[i]));
		uint64_t whole, sum = 0;

		for (size_t at = 0; at < page_bytes(&shapes[i]); at++)
			page[at] = (char)(at * 2654435761 >> 13);
		whole = seal_rows(&shapes[i], page, RUN_KEPT, 9, 0, PAGE_TOKENS);
		for (size_t at = 0, n = 1; at < PAGE_TOKENS; at += n, n = n * 2 < PAGE_TOKENS - at ? n * 2 : 1)
			sum += seal_rows(&shapes[i], page, RUN_KEPT, 9, at, at + n);
		assert_int_equal(sum, whole);
		assert_int_not_equal(seal_rows(&shapes[i], page, RUN_KEPT, 10, 0, PAGE_TOKENS), whole);
		assert_int_not_equal(seal_page(&shapes[i], page, RUN_KEPT, 9),
				     seal_page(&shapes[i], page, RUN_WINDOW, 9));
		for (size_t at = 0; at < page_bytes(&shapes[i]); at += 97) {
			page[at] ^= 1;
			assert_int_not_equal(seal_rows(&shapes[i], page, RUN_KEPT, 9, 0, PAGE_TOKENS), whole);
			page[at] ^= 1;
		}
		test_free(page);
	}
}

/* As many pages as two threads share. */
static void wrong_pages_are_found_among_many(void **state)
{
	enum { CLAIMS = 40, HOLE = 11, BAD = 23 };
	static const struct page_shape shape = { 8, 4, 64, DTYPE_F16 };
	struct seal_claim claim[CLAIMS] = { { .page = NULL } };
	char *pages = test_calloc(CLAIMS, page_bytes(&shape));

	(void)state;
	assert_true(CLAIMS * page_bytes(&shape) > 16 << 20);
	for (size_t i = 0; i < CLAIMS; i++) {
		char *page = pages + i * page_bytes(&shape);

		memset(page, (int)i, page_bytes(&shape));
		if (i != HOLE)
			claim[i] = (struct seal_claim){ page, RUN_WINDOW, (int64_t)i,
							seal_page(&shape, page, RUN_WINDOW, (int64_t)i), false };
	}
	pages[BAD * page_bytes(&shape) + 5000] ^= 1;
	seal_compare(&shape, claim, CLAIMS);
	for (size_t i = 0; i < CLAIMS; i++)
		assert_int_equal(claim[i].right, i != HOLE && i != BAD);
	test_free(pages);
}

static blkcnt_t blocks_of(const struct arena *a)
{
	struct stat s;

	assert_int_equal(fstat(arena_files(a).pages, &s), 0);
	return s.st_blocks;
}

/* Its pages have memory from the beginning on, are taken first, and keep it when the rest goes back. */
static void a_stock_keeps_its_memory(void **state)
{
	const blkcnt_t page = (blkcnt_t)(bytes_of(1) / 512);
	struct arena *a = begin(true);
	void *taken[20];
	blkcnt_t blocks;

	(void)state;
	arena_warm(a, 5);
	arena_warm_end(a);
	blocks = blocks_of(a);
	assert_true(blocks >= 5 * page);
	assert_int_equal(arena_pages_free(a), PAGES);
	for (size_t i = 0; i < 20; i++) {
		taken[i] = arena_take(a);
		memset(taken[i], 1, bytes_of(1));
		assert_true(i >= 5 || blocks_of(a) == blocks);
	}
	for (size_t i = 0; i < 20; i++)
		arena_drop(a, taken[i]);
	assert_int_equal(arena_trim(a), bytes_of(15));
	assert_int_equal(arena_trim(a), 0);
	blocks = blocks_of(a);
	for (size_t i = 0; i < 5; i++)
		memset(arena_take(a), 2, bytes_of(1));
	assert_true(blocks_of(a) == blocks);
	memset(arena_take(a), 2, bytes_of(1));
	assert_true(blocks_of(a) > blocks);
	arena_free(a);
}

/* Of an adopted arena the pages that have memory are taken first, wherever they lie, and what was cached is whole. */
static void an_adopted_arena_is_brought_in(void **state)
{
	struct arena *a = begin(true), *next = NULL;
	struct arena_files files;
	struct kv *kv = cache(a, "sink:4,100"), *low = cache(a, "dense");
	int32_t log[TEXT];
	size_t cursor = 0;
	blkcnt_t blocks;

	(void)state;
	draw_text(m, 2, log, TEXT);
	read_to(low, log, 500, false);
	read_to(kv, log, 300, false);
	kv_own(kv, (struct kv_owner){ 3, 4 });
	kv_free(low);
	assert_int_equal(arena_trim(a), bytes_of(8));
	low = cache(a, "dense");
	read_to(low, log, 190, false);
	files = (struct arena_files){ dup(arena_files(a).pages), dup(arena_files(a).records) };
	kv_leave(low);
	kv_leave(kv);
	arena_free(a);
	assert_int_equal(
		arena_open(backend, device, arena_shape(model_arena(m)), 77, bytes_of(PAGES), &files, &next, NULL), 0);
	arena_warm(next, 5);
	arena_warm_end(next);
	kv = kv_adopt(next, &cursor);
	assert_non_null(kv);
	assert_null(kv_adopt(next, &cursor));
	blocks = blocks_of(next);
	for (size_t i = 0; i < 3; i++)
		memset(arena_take(next), 2, bytes_of(1));
	assert_true(blocks_of(next) == blocks);
	assert_int_equal(verify(kv, "sink:4,100", log, TEXT, NULL), 0);
	goes_on_as_if_alone(kv, "sink:4,100", log, TEXT);
	kv_free(kv);
	arena_free(next);
}

static void memory_that_nobody_owns_goes_back(void **state)
{
	struct arena *arenas[2] = { begin(false), begin(true) };
	int32_t log[TEXT];
	struct stat before, after;

	(void)state;
	draw_text(m, 2, log, TEXT);
	for (size_t i = 0; i < 2; i++) {
		struct kv *kv = cache(arenas[i], "dense"), *other = cache(arenas[i], "sink:4,100");

		read_to(kv, log, 500, false);
		read_to(other, log, 300, false);
		kv_free(kv);
		assert_int_equal(fstat(arena_files(arenas[1]).pages, &before), 0);
		assert_int_equal(arena_trim(arenas[i]), bytes_of(8));
		assert_int_equal(arena_trim(arenas[i]), 0);
		assert_int_equal(fstat(arena_files(arenas[1]).pages, &after), 0);
		assert_true(i == 0 || after.st_blocks + (blkcnt_t)bytes_of(7) / 512 < before.st_blocks);
		kv = cache(arenas[i], "dense");
		read_to(kv, log, 100, false);
		goes_on_as_if_alone(kv, "dense", log, TEXT);
		goes_on_as_if_alone(other, "sink:4,100", log, TEXT);
		kv_free(kv);
		kv_free(other);
		arena_free(arenas[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EVERYWHERE(pages_come_back_from_elsewhere),
		EVERYWHERE(pages_that_do_not_fit_are_refused),
		EVERYWHERE(shared_parts_stay),
		cmocka_unit_test(sums_of_rows_add_up),
		cmocka_unit_test(wrong_pages_are_found_among_many),
		cmocka_unit_test(a_stock_keeps_its_memory),
		cmocka_unit_test(an_adopted_arena_is_brought_in),
		BOTH_TYPES(memory_that_nobody_owns_goes_back),
	};
	int failed;

	if (caching_open())
		return 99;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	caching_close();
	return failed;
}
