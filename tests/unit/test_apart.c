/*
 * Caches on a device apart from the host, which is lost with its memory at any moment: what the host has of them then
 * is proved and goes on with the very bits of a cache that was never interrupted, on the same kind of device or on the
 * CPU; and from one death to the next it never is less.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "apart.h"
#include "caching.h"
#include "reading.h"
#include "seal.h"

enum { RECORDS = 256 << 10, RECORDS_FILE = 1 << 30, TALKS = 7, OPS = 1500 };

static const char *const policies[TALKS] = { "sink:4,100",	    "separator:4,9,80", "anchor:4,20,80", "sink:70,60",
					     "separator:70,200,30", "window:64",	"dense" };

/*
 * A conversation: its text, how much of it is safe elsewhere, how much was found at least after a death, and how often
 * it left its text for another one, of which nothing was found yet.
 */
struct talk {
	struct kv *kv;
	int32_t log[TEXT];
	int64_t count, safe, found, turns;
};

static struct talk talk[TALKS];
static struct arena *arena;
static uint32_t state;

/* The files as they were at a moment, and what was said then. */
static struct death {
	struct arena_files files;
	bool is;
	struct talk talk[TALKS];
} death;
static unsigned dies_in; /* calls of the device */

static uint32_t lot(uint32_t below)
{
	state = state * 1664525 + 1013904223;
	return (state >> 8) % below;
}

static int copy_file(int from, size_t bytes, off_t size)
{
	int fd = memfd_create("copy", MFD_CLOEXEC);
	char *all = test_malloc(bytes);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(pread(from, all, bytes, 0), bytes);
	assert_int_equal(pwrite(fd, all, bytes, 0), bytes);
	test_free(all);
	return fd;
}

static void die(void)
{
	const struct arena_files f = arena_files(arena);
	struct stat s;

	if (death.is)
		return;
	assert_int_equal(fstat(f.pages, &s), 0);
	death.files.pages = copy_file(f.pages, (size_t)s.st_size, s.st_size);
	death.files.records = copy_file(f.records, RECORDS, RECORDS_FILE);
	memcpy(death.talk, talk, sizeof(talk));
	death.is = true;
}

static void watch(void)
{
	if (dies_in && --dies_in == 0)
		die();
}

static struct arena *open_files(const struct arena_files *from, struct device *d)
{
	struct arena *a = NULL;
	struct err e = { 0 };

	if (arena_open(backend, d, arena_shape(model_arena(m)), 77, bytes_of(PAGES), from, &a, &e))
		fail_msg("%s", e.text);
	return a;
}

/* Takes over what was left, here on a device apart or there on the CPU, and looks closely at one of the caches. */
static void come_back(bool here, struct device *another)
{
	const size_t looks_at = lot(TALKS);
	size_t cursor = 0;
	struct arena *a;
	struct kv *kv;
	struct err e;

	if (here)
		on_a_device_apart(NULL);
	else
		as_usual(NULL);
	a = open_files(&death.files, here ? another : device);
	while ((kv = kv_adopt(a, &cursor))) {
		const size_t i = kv_owner(kv).conversation - 1;
		struct talk *t = &death.talk[i];

		assert_true(i < TALKS);
		if (verify(kv, policies[i], t->log, (size_t)t->safe, &e))
			fail_msg("%s, %lld tokens, %lld safe, %lld found: %s", policies[i], (long long)t->count,
				 (long long)t->safe, (long long)t->found, e.text);
		if (tokens_of(kv) < t->found)
			fail_msg("%s: %lld tokens, %lld were found before", policies[i], (long long)tokens_of(kv),
				 (long long)t->found);
		if (talk[i].turns == t->turns)
			talk[i].found = tokens_of(kv);
		if (i == looks_at)
			goes_on_as_if_alone(kv, policies[i], t->log, TEXT);
		kv_free(kv);
	}
	assert_int_equal(arena_pages_free(a), PAGES);
	arena_free(a);
	death.is = false;
	on_a_device_apart(NULL);
}

static void begin_talk(size_t i)
{
	struct talk *t = &talk[i];

	kv_free(t->kv);
	t->count = t->safe = t->found = 0;
	t->turns++;
	draw_text(m, lot(1 << 20), t->log, TEXT);
	t->kv = cache(arena, policies[i]);
	kv_own(t->kv, (struct kv_owner){ 5, i + 1 });
}

/* Reads on, and sometimes guesses what comes, wrongly. */
static void read_on(struct talk *t, size_t count)
{
	struct slice s = { .kv = t->kv, .count = count, .logits = LOGITS_LAST, .hold = lot(4) == 0 };
	int32_t token[STEP];

	t->safe = t->count;
	memcpy(token, t->log + t->count, count * sizeof(*token));
	s.token = token;
	if (s.hold) {
		s.count += lot((uint32_t)(STEP - count + 1));
		draw_text(m, lot(1 << 20), token + count, s.count - count);
	}
	assert_int_equal(model_step(m, &s, 1, NULL), 1);
	assert_int_equal(s.status, 0);
	if (s.hold)
		model_keep(&s, count);
	t->count += (int64_t)count;
}

/* Goes back, and to other words. */
static void go_back(struct talk *t, int64_t count)
{
	const int64_t found = t->found, end = count / PAGE_TOKENS * PAGE_TOKENS;

	t->found = end < found ? end : found;
	if (kv_rewind(t->kv, t->log, count, NULL)) {
		t->found = found;
		return;
	}
	t->count = count;
	t->turns++;
	t->safe = t->safe < count ? t->safe : count;
	draw_text(m, lot(1 << 20), t->log + count, TEXT - (size_t)count);
}

/* A second owner of the pages goes its own way and ends; or pages are being written to a file meanwhile. */
static void share(size_t i)
{
	const struct page_shape *shape = arena_shape(arena);
	struct talk *t = &talk[i];
	struct kv_part part[64];
	struct kv *fork = NULL;
	size_t parts = 0;

	assert_true(kv_parts_most(t->kv) <= 64);
	if (lot(2)) {
		parts = kv_parts(t->kv, part, true);
		for (size_t k = 0; k < parts; k++)
			part[k].sum = seal_page(shape, part[k].page, part[k].run, part[k].number);
	} else {
		assert_int_equal(kv_fork(t->kv, &fork, NULL), 0);
	}
	for (uint32_t n = 1 + lot(4); n && t->count < TEXT - STEP; n--)
		read_on(t, 1 + lot(STEP));
	for (size_t k = 0; k < parts; k++) {
		assert_int_equal(seal_page(shape, part[k].page, part[k].run, part[k].number), part[k].sum);
		arena_drop(arena, part[k].page);
	}
	if (fork && lot(2)) { /* they change places */
		struct kv *kv = t->kv;

		go_back(t, tokens_of(fork));
		if (t->count == tokens_of(fork)) {
			kv_free(kv);
			t->kv = fork;
			t->found = 0;
			t->turns++;
			kv_own(fork, (struct kv_owner){ 5, i + 1 });
			return;
		}
	}
	if (fork)
		read_to(fork, t->log, tokens_of(fork) + 1, false);
	kv_free(fork);
}

static void happen(void)
{
	const size_t i = lot(TALKS);
	struct talk *t = &talk[i];
	const uint32_t what = lot(100);

	if (!t->kv || what == 0 || t->count > TEXT - STEP - AHEAD)
		begin_talk(i);
	else if (what < 10)
		go_back(t, t->count - (int64_t)lot(what < 2 ? (uint32_t)t->count + 1 : (uint32_t)t->count % STEP + 1));
	else if (what < 25)
		share(i);
	else if (what < 50)
		read_on(t, STEP); /* a prompt */
	else
		read_on(t, 1 + lot(what < 75 ? 3 : STEP));
}

static void what_the_host_has_goes_on(void **unused)
{
	static const unsigned delays[] = { 0, 1, 7, 60, 500 };
	const struct device_options o = { .threads = 1, .max_rows = STEP };
	const struct arena_files none = { -1, -1 };
	struct device *another = NULL;

	(void)unused;
	assert_int_equal(backend->open(&o, &another, NULL), 0);
	for (size_t d = 0; d < sizeof(delays) / sizeof(delays[0]); d++) {
		state = (uint32_t)d + 1;
		arena = open_files(&none, device);
		memset(talk, 0, sizeof(talk));
		apart_delay(delays[d]);
		apart_watch(watch);
		for (size_t op = 0; op < OPS; op++) {
			if (lot(12) == 0)
				dies_in = 1 + lot(40);
			happen();
			if (lot(30) == 0)
				die();
			apart_watch(NULL);
			if (death.is)
				come_back(lot(2), another);
			apart_watch(watch);
		}
		dies_in = 0;
		for (size_t i = 0; i < TALKS; i++)
			if (talk[i].kv) {
				talk[i].safe = talk[i].found = talk[i].count;
				kv_leave(talk[i].kv);
			}
		die();
		apart_watch(NULL);
		come_back(d % 2, another);
		arena_free(arena);
	}
	backend->close(another);
}

/* Caches get what the device has left, and it is said how much that is. */
static void caches_fit_into_what_is_left(void **unused)
{
	const size_t left = (size_t)512 << 20;
	struct model *few = NULL;
	struct err e;

	(void)unused;
	apart_room(left + bytes_of(20));
	assert_int_equal(caching_model(&few, &e), 0);
	assert_int_equal(arena_pages(model_arena(few)), 20);
	assert_non_null(strstr(model_note(few), "1280 tokens"));
	model_close(few);
	apart_room(left + bytes_of(7));
	assert_int_equal(caching_model(&few, &e), SINK_ENOMEM);
	assert_non_null(strstr(e.text, "8 pages"));
	apart_room(SIZE_MAX);
}

/* A device that fails takes the step with it, and what was on its way; not what the host has. */
static void a_failure_costs_what_was_not_here(void **unused)
{
	const struct arena_files none = { -1, -1 };
	struct slice s = { .count = STEP, .logits = LOGITS_LAST };
	struct kv_part part[64];
	struct err e = { 0 };

	(void)unused;
	memset(talk, 0, sizeof(talk));
	arena = open_files(&none, device);
	apart_delay(2);
	begin_talk(1);
	for (int64_t at = 0; at < 300; at += 20)
		read_on(&talk[1], 20);
	apart_delay(1000000);
	apart_fail(3);
	s.kv = talk[1].kv;
	for (int i = 0; i < 4; i++) {
		const int64_t at = tokens_of(s.kv);

		s.token = talk[1].log + at;
		assert_int_equal(model_step(m, &s, 1, &e), i < 2 ? 1 : SINK_EDEVICE);
		assert_int_equal(tokens_of(s.kv), i < 2 ? at + STEP : at);
	}
	assert_non_null(strstr(e.text, "failed"));
	assert_int_equal(kv_parts(s.kv, part, true), 0);
	kv_leave(s.kv);
	talk[1].count = talk[1].safe = 380;
	talk[1].found = 256;
	die();
	arena_free(arena);
	apart_fail(0);
	come_back(false, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_the_host_has_goes_on, on_a_device_apart, as_usual),
		cmocka_unit_test_setup_teardown(a_failure_costs_what_was_not_here, on_a_device_apart, as_usual),
		cmocka_unit_test_setup_teardown(caches_fit_into_what_is_left, on_a_device_apart, as_usual),
	};
	int failed;

	if (caching_open())
		return 99;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	caching_close();
	return failed;
}
