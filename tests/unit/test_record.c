/*
 * Caches that outlive their process, on a random model: adopted from the files of a process that was killed at any
 * moment. Either a cache goes on with the very bits of one that was never interrupted, or it is refused; and never does
 * one harm another.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "apart.h"
#include "caching.h"
#include "make_gguf.h"
#include "model.h"
#include "reading.h"
#include "record.h"
#include "sample.h"

enum {
	RECORDS = 32768, /* bytes of the records' file that the tests use at most */
};

static const char *const policies[] = { "sink:4,100",	       "separator:4,9,80", "anchor:4,20,80",
					"separator:70,200,30", "window:64",	   "dense" };

enum { POLICIES = sizeof(policies) / sizeof(policies[0]) };

static int open_arena(const struct arena_files *from, struct arena **ret, struct err *e)
{
	return arena_open(backend, device, arena_shape(model_arena(m)), 77, bytes_of(PAGES), from, ret, e);
}

/* Second descriptors of an arena's files, as the service manager has them. */
static struct arena_files duplicates(struct arena_files f)
{
	const struct arena_files d = { fcntl(f.pages, F_DUPFD_CLOEXEC, 0), fcntl(f.records, F_DUPFD_CLOEXEC, 0) };

	assert_true(d.pages >= 0 && d.records >= 0);
	return d;
}

static struct arena *adopt(struct arena_files files)
{
	const struct arena_files from = duplicates(files);
	struct arena *a = NULL;
	struct err e = { 0 };

	if (open_arena(&from, &a, &e))
		fail_msg("%s", e.text);
	return a;
}

/* A new arena in files, and descriptors that outlive it. */
static struct arena *begin(struct arena_files *files)
{
	const struct arena_files none = { -1, -1 };
	struct arena *a = NULL;

	assert_int_equal(open_arena(&none, &a, NULL), 0);
	*files = duplicates(arena_files(a));
	return a;
}

static void end(struct arena_files *files)
{
	close(files->pages);
	close(files->records);
}

/* What both processes see: the conversations' texts, which are written before a cache reads them. */
enum { CONVERSATIONS = 2 * POLICIES };

struct shared {
	volatile int runs;
	struct conversation {
		volatile int alive; /* it has a cache that must be found */
		volatile int64_t count;
		int32_t log[TEXT];
	} c[CONVERSATIONS];
};

static uint32_t lot(uint32_t *state, uint32_t below)
{
	*state = *state * 1664525 + 1013904223;
	return (*state >> 8) % below;
}

/* Adds tokens to a text, marks among them. */
static void say(struct conversation *c, uint32_t *state, int64_t tokens)
{
	int32_t token[STEP];

	draw_text(m, lot(state, 1 << 20), token, STEP);
	memcpy(c->log + c->count, token, (size_t)tokens * sizeof(*token));
	c->count += tokens;
}

static void let_go(struct conversation *c, struct kv **kv)
{
	c->alive = 0;
	kv_free(*kv);
	*kv = NULL;
}

static void take_up(struct shared *s, size_t i, struct kv *kv)
{
	kv_own(kv, (struct kv_owner){ 5, i + 1 });
	s->c[i].alive = 1;
}

/* A step with guesses behind the tokens that are said: they are given up again. */
static void guess(struct conversation *c, struct kv *kv, uint32_t *state)
{
	const int64_t at = tokens_of(kv);
	struct slice s = { .kv = kv, .logits = LOGITS_LAST, .hold = true };
	int32_t token[STEP];
	size_t said;

	say(c, state, 1 + lot(state, 8));
	said = (size_t)(c->count - at);
	assert_true(said < STEP);
	draw_text(m, lot(state, 1 << 20), token, STEP);
	memcpy(token, c->log + at, said * sizeof(*token));
	s.token = token;
	s.count = said + 1 + lot(state, (uint32_t)(STEP - said));
	assert_int_equal(model_step(m, &s, 1, NULL), 1);
	model_keep(&s, said);
}

/* One thing that may happen to a conversation. */
static void happen(struct shared *s, struct arena *a, struct kv **kv, uint32_t *state)
{
	const size_t i = lot(state, CONVERSATIONS), other = (i + POLICIES) % CONVERSATIONS;
	struct conversation *c = &s->c[i];
	uint32_t what = lot(state, 100);

	if (!kv[i] || what < 3 || c->count > TEXT - STEP - AHEAD) {
		let_go(c, &kv[i]);
		c->count = 0;
		kv[i] = cache(a, policies[i % POLICIES]);
		take_up(s, i, kv[i]);
	} else if (what < 8) {
		let_go(&s->c[other], &kv[other]);
		memcpy(s->c[other].log, c->log, sizeof(c->log));
		s->c[other].count = c->count;
		assert_int_equal(kv_fork(kv[i], &kv[other], NULL), 0);
		take_up(s, other, kv[other]);
	} else if (what < 20) {
		int64_t count = tokens_of(kv[i]) - (int64_t)lot(state, what == 19 ? 200 : STEP);

		if (count >= 0 && kv_rewind(kv[i], c->log, count, NULL) == 0)
			c->count = count;
	} else if (what < 45 && tokens_of(kv[i]) == c->count) {
		guess(c, kv[i], state);
	} else {
		say(c, state, what < 60 ? 1 : 1 + lot(state, STEP));
		read_to(kv[i], c->log, c->count, false);
	}
}

/* Takes up what the last process left, each proved against its text. */
static void take_over(struct shared *s, struct arena *a, struct kv *kv[CONVERSATIONS])
{
	size_t cursor = 0;
	struct err e = { 0 };
	struct kv *found;

	memset(kv, 0, CONVERSATIONS * sizeof(*kv));
	while ((found = kv_adopt(a, &cursor))) {
		const size_t i = kv_owner(found).conversation - 1;

		assert_int_equal(kv_owner(found).store, 5);
		assert_true(i < CONVERSATIONS && !kv[i]);
		kv[i] = found;
	}
	for (size_t i = 0; i < CONVERSATIONS; i++) {
		if (s->c[i].alive)
			assert_non_null(kv[i]);
		if (!s->c[i].alive) { /* it was on its way: there may be a cache, whole or not */
			kv_free(kv[i]);
			kv[i] = NULL;
		}
		if (kv[i] && verify(kv[i], policies[i % POLICIES], s->c[i].log, (size_t)s->c[i].count, &e))
			fail_msg("conversation %zu, %s: %s", i, policies[i % POLICIES], e.text);
	}
}

static void leave(struct kv *kv[CONVERSATIONS])
{
	for (size_t i = 0; i < CONVERSATIONS; i++)
		kv_leave(kv[i]);
}

static void live(struct shared *s, struct arena_files files, uint32_t state)
{
	struct arena *a = adopt(files);
	struct kv *kv[CONVERSATIONS];

	apart_delay(lot(&state, 4) * lot(&state, 100));
	take_over(s, a, kv);
	s->runs = 1;
	for (;;)
		happen(s, a, kv, &state);
}

/* Lets a process live for a while, and kills it: at work, or each third time while it takes over, too. */
static void live_and_die(struct shared *s, struct arena_files files, uint32_t round)
{
	uint32_t state = round * 7919 + 1;
	int status = 0;
	pid_t child;

	s->runs = round % 3 == 2;
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		live(s, files, state);
	while (!s->runs && waitpid(child, &status, WNOHANG) == 0)
		usleep(200);
	assert_true(s->runs);
	usleep((round % 3 == 2 ? 0 : 300) + lot(&state, round % 3 == 2 ? 3000 : 12000));
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_process_may_die_at_any_moment(void **state)
{
	struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kv *kv[CONVERSATIONS];
	struct arena_files files;
	int64_t adopted = 0;
	uint32_t draw = 1;
	struct arena *a;

	(void)state;
	assert_true(s != MAP_FAILED);
	arena_free(begin(&files));
	for (uint32_t round = 0; round < 60; round++) {
		live_and_die(s, files, round);
		a = adopt(files);
		take_over(s, a, kv);
		for (size_t i = 0; i < CONVERSATIONS; i++) {
			struct conversation c = s->c[i];

			if (!kv[i])
				continue;
			adopted++;
			s->c[i].count = c.count = tokens_of(kv[i]);
			for (int64_t more = 0; more < AHEAD; more += STEP)
				say(&c, &draw, AHEAD - more < STEP ? AHEAD - more : STEP);
			if (c.count > AHEAD)
				goes_on_as_if_alone(kv[i], policies[i % POLICIES], c.log, c.count);
		}
		leave(kv);
		arena_free(a);
	}
	assert_true(adopted > 200);
	a = adopt(files);
	take_over(s, a, kv);
	for (size_t i = 0; i < CONVERSATIONS; i++)
		kv_free(kv[i]);
	assert_int_equal(arena_pages_free(a), PAGES);
	arena_free(a);
	end(&files);
	munmap(s, sizeof(*s));
}

/* Two conversations in an arena, and the files as they were left: to be damaged, again and again. */
struct image {
	struct arena_files files;
	char *pages, *records;
	int32_t log[2][TEXT];
	const char *policy[2];
	int64_t at[2];
	uint64_t want[2];
};

static void image_new(struct image *image, const char *policy)
{
	struct arena *a = begin(&image->files);

	image->policy[0] = policy;
	image->policy[1] = "sink:4,100";
	image->pages = test_malloc(4096 + bytes_of(20));
	image->records = test_malloc(RECORDS);
	for (size_t i = 0; i < 2; i++) {
		struct kv *kv = cache(a, image->policy[i]);

		image->at[i] = 300 + 7 * (int64_t)i;
		draw_text(m, 40 + (uint32_t)i, image->log[i], TEXT);
		kv_own(kv, (struct kv_owner){ 9, i + 1 });
		read_to(kv, image->log[i], image->at[i], false);
		kv_leave(kv);
		image->want[i] = reference(image->policy[i], image->log[i], image->at[i], image->at[i] + 1);
	}
	assert_true(arena_pages_free(a) >= PAGES - 20);
	arena_free(a);
	assert_int_equal(pread(image->files.pages, image->pages, 4096 + bytes_of(20), 0), 4096 + bytes_of(20));
	assert_int_equal(pread(image->files.records, image->records, RECORDS, 0), RECORDS);
}

static void image_free(struct image *image)
{
	end(&image->files);
	test_free(image->pages);
	test_free(image->records);
}

/*
 * Adopts the files with one byte changed. Bit i of the answer: conversation i was found and proved, and said then what
 * it should.
 */
static int adopt_damaged(struct image *image, bool records, size_t at, uint8_t flip)
{
	char *copy = records ? image->records : image->pages;
	struct kv *kv, *found[2] = { NULL, NULL };
	size_t cursor = 0;
	struct arena *a;
	int proved = 0;

	copy[at] = (char)(copy[at] ^ flip);
	assert_int_equal(pwrite(image->files.records, image->records, RECORDS, 0), RECORDS);
	assert_int_equal(pwrite(image->files.pages, image->pages, 4096 + bytes_of(20), 0), 4096 + bytes_of(20));
	copy[at] = (char)(copy[at] ^ flip);
	a = adopt(image->files);
	while ((kv = kv_adopt(a, &cursor))) {
		assert_in_range(kv_owner(kv).conversation, 1, 2);
		found[kv_owner(kv).conversation - 1] = kv;
	}
	for (size_t i = 0; i < 2; i++)
		if (found[i] && verify(found[i], image->policy[i], image->log[i], TEXT, NULL) == 0) {
			assert_true(tokens_of(found[i]) <= image->at[i]);
			read_to(found[i], image->log[i], image->at[i], false);
			assert_int_equal(read_to(found[i], image->log[i], image->at[i] + 1, true), image->want[i]);
			proved |= 1 << i;
		}
	kv_free(found[0]);
	kv_free(found[1]);
	assert_int_equal(arena_pages_free(a), PAGES);
	arena_free(a);
	return proved;
}

static void damage_is_found_and_stays_where_it_is(void **state)
{
	static const char *const chosen[] = { "separator:4,9,80", "dense" };
	const size_t head = 4096, block = 64; /* of the file, and of its first block, which is conversation 0's */
	int lost = 0, proved;

	(void)state;
	for (size_t p = 0; p < 2; p++) {
		struct image image;
		const struct record *r;
		size_t bytes;

		image_new(&image, chosen[p]);
		r = (const struct record *)(image.records + head + block);
		bytes = sizeof(*r) + (size_t)(r->ring[0] + r->ring[1] + r->ring[2]) * sizeof(r->entry[0]);
		assert_int_equal(adopt_damaged(&image, true, head, 0), 3);
		for (size_t i = 0; i < bytes; i++) {
			proved = adopt_damaged(&image, true, head + block + i, (uint8_t)(i % 3 ? 1 << i % 8 : 0xff));
			assert_true(proved & 2);
			lost += !(proved & 1);
		}
		assert_true(lost > (int)offsetof(struct record, sum));
		for (size_t i = 0; i < block; i++) /* what is behind a head that is none is lost too */
			adopt_damaged(&image, true, head + i, 1);
		lost = 0;
		for (size_t i = 4096; i < 4096 + bytes_of(12); i += 397) {
			proved = adopt_damaged(&image, false, i, 4);
			assert_int_not_equal(proved, 0); /* a page is of one of them */
			lost += proved != 3;
		}
		assert_true(lost > 10);
		image_free(&image);
	}
}

/* Nothing is taken from files that are not these. */
static void strangers_are_refused(void **state)
{
	const struct page_shape *shape = arena_shape(model_arena(m)), other = { 1, 1, 8, DTYPE_F32 };
	struct arena_files files, more, from;
	struct arena *a = begin(&files);
	struct err e = { 0 };
	int pipes[2], version = 99;

	(void)state;
	arena_free(a);
	arena_free(begin(&more));
	assert_int_equal(arena_open(backend, device, shape, 78, bytes_of(PAGES), &files, &a, &e), SINK_EFORMAT);
	assert_non_null(strstr(e.text, "another model"));
	assert_int_equal(arena_open(backend, device, &other, 77, bytes_of(PAGES), &files, &a, &e), SINK_EFORMAT);
	assert_non_null(strstr(e.text, "another shape"));
	assert_int_equal(arena_open(backend, device, shape, 77, bytes_of(PAGES - 1), &files, &a, &e), SINK_EINVAL);
	from = (struct arena_files){ files.records, files.pages };
	assert_int_equal(open_arena(&from, &a, &e), SINK_EFORMAT);
	from = (struct arena_files){ files.pages, more.records };
	assert_int_equal(open_arena(&from, &a, &e), SINK_EFORMAT);
	assert_non_null(strstr(e.text, "belong together"));
	from = (struct arena_files){ files.pages, -1 };
	assert_int_equal(open_arena(&from, &a, &e), SINK_EFORMAT);
	assert_int_equal(pipe(pipes), 0);
	from.records = pipes[0];
	assert_int_equal(open_arena(&from, &a, &e), SINK_EFORMAT);
	assert_int_equal(pwrite(more.pages, &version, sizeof(version), 8), sizeof(version));
	assert_int_equal(open_arena(&more, &a, &e), SINK_EFORMAT);
	assert_non_null(strstr(e.text, "version 99"));
	assert_int_not_equal(ftruncate(files.pages, 4096), 0); /* nobody cuts them */
	close(pipes[0]);
	close(pipes[1]);
	end(&more);
	/* They can grow. */
	from = duplicates(files);
	assert_int_equal(arena_open(backend, device, shape, 77, bytes_of(PAGES + 9), &from, &a, &e), 0);
	assert_int_equal(arena_pages_free(a), PAGES + 9);
	arena_free(a);
	assert_int_equal(open_arena(&files, &a, &e), SINK_EINVAL);
	end(&files);
}

/* Owners are counted again; what is nobody's goes; what nobody asks for goes too. */
static void owners_are_counted_again(void **state)
{
	struct arena_files files;
	struct arena *a = begin(&files);
	struct kv *kv = cache(a, "sink:4,200"), *fork = NULL, *nobodys = NULL, *unknown = NULL;
	int32_t log[TEXT];
	size_t cursor = 0, left;

	(void)state;
	draw_text(m, 3, log, TEXT);
	kv_own(kv, (struct kv_owner){ 1, 1 });
	read_to(kv, log, 400, false);
	assert_int_equal(kv_fork(kv, &fork, NULL), 0);
	kv_own(fork, (struct kv_owner){ 1, 2 });
	read_to(fork, log, 410, false);
	left = arena_pages_free(a);
	assert_int_equal(kv_fork(kv, &nobodys, NULL), 0);
	assert_int_equal(kv_fork(kv, &unknown, NULL), 0);
	kv_own(unknown, (struct kv_owner){ 1, 3 });
	assert_int_equal(kv_rewind(unknown, NULL, 390, NULL), 0);
	read_to(unknown, log, 391, false); /* twice: both states of a text that is not known */
	read_to(nobodys, log, 500, false);
	kv_leave(nobodys);
	kv_leave(unknown);
	kv_leave(kv);
	kv_leave(fork);
	arena_free(a);

	a = adopt(files);
	kv = kv_adopt(a, &cursor);
	fork = kv_adopt(a, &cursor);
	assert_int_equal(kv_owner(kv).conversation, 1);
	assert_int_equal(kv_owner(fork).conversation, 2);
	assert_null(kv_adopt(a, &cursor));
	assert_int_equal(arena_pages_free(a), left);
	assert_int_equal(verify(kv, "sink:4,199", log, TEXT, NULL), SINK_EINVAL);
	assert_int_equal(verify(kv, "sink:4,200", log, 300, NULL), SINK_EGONE);
	assert_int_equal(verify(kv, "sink:4,200", log + 1, TEXT - 1, NULL), SINK_EGONE);
	assert_int_equal(verify(kv, "sink:4,200", log, TEXT, NULL), 0);
	assert_int_equal(verify(fork, "sink:4,200", log, TEXT, NULL), 0);
	goes_on_as_if_alone(kv, "sink:4,200", log, TEXT);
	kv_free(kv);
	goes_on_as_if_alone(fork, "sink:4,200", log, TEXT);
	kv_leave(fork);
	arena_free(a);

	a = adopt(files); /* and nobody adopts: the arena is used as it is */
	kv = cache(a, "dense");
	read_to(kv, log, 100, false);
	kv_free(kv);
	assert_int_equal(arena_pages_free(a), PAGES);
	cursor = 0;
	assert_null(kv_adopt(a, &cursor));
	arena_free(a);
	end(&files);
}

static bool is_far(const struct arena *a, const char *policy, enum positions positions, int64_t limit)
{
	struct kv_options o;

	options(policy, &o);
	o.positions = positions;
	o.limit = limit;
	return kv_would_be_far(a, &o);
}

/* The frequencies of a model that has two sets: by the rows that a cache may come to hold, for as long as it lives. */
static void a_cache_keeps_its_frequencies(void **state)
{
	enum { ORIGINAL = PAGES * PAGE_TOKENS };
	struct arena_files files, from;
	struct arena *a = begin(&files);
	struct kv *kv = NULL;
	struct kv_options o;
	int32_t log[TEXT];
	size_t cursor = 0;

	(void)state;
	assert_false(is_far(a, "sink:4,5000", POSITIONS_TEXT, 0)); /* there is one set */
	arena_turn(a, 300);
	assert_false(is_far(a, "sink:4,296", POSITIONS_CACHE, 0));
	assert_true(is_far(a, "sink:4,297", POSITIONS_CACHE, 0));
	assert_true(is_far(a, "sink:4,296", POSITIONS_TEXT, 0));
	assert_false(is_far(a, "recompute:300", POSITIONS_CACHE, 0));
	assert_true(is_far(a, "separator:4,200,100", POSITIONS_CACHE, 0));
	assert_false(is_far(a, "dense", POSITIONS_CACHE, 300));
	assert_true(is_far(a, "dense", POSITIONS_CACHE, 301));
	assert_true(is_far(a, "dense", POSITIONS_CACHE, 0));
	arena_turn(a, ORIGINAL);
	assert_false(is_far(a, "dense", POSITIONS_CACHE, 0));

	options("dense", &o);
	o.limit = 0;
	assert_int_equal(kv_new(a, &o, &kv, NULL), 0);
	assert_false(kv_is_far(kv));
	draw_text(m, 3, log, TEXT);
	kv_own(kv, (struct kv_owner){ 1, 1 });
	read_to(kv, log, 100, false);
	kv_leave(kv);
	arena_free(a);

	from = duplicates(files); /* where a new one could hold more */
	assert_int_equal(
		arena_open(backend, device, arena_shape(model_arena(m)), 77, bytes_of(PAGES + 9), &from, &a, NULL), 0);
	arena_turn(a, ORIGINAL);
	assert_true(is_far(a, "dense", POSITIONS_CACHE, 0));
	kv = kv_adopt(a, &cursor);
	assert_non_null(kv);
	assert_int_equal(verify(kv, "dense", log, TEXT, NULL), 0);
	assert_false(kv_is_far(kv));
	kv_free(kv);
	arena_free(a);
	end(&files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EVERYWHERE(a_process_may_die_at_any_moment),	 EVERYWHERE(damage_is_found_and_stays_where_it_is),
		cmocka_unit_test(strangers_are_refused),	 EVERYWHERE(owners_are_counted_again),
		cmocka_unit_test(a_cache_keeps_its_frequencies),
	};
	int failed;

	if (caching_open())
		return 99;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	caching_close();
	return failed;
}
