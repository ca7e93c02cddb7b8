/*
 * Owns the second memory. Rows name pages by their address at the host, so operations that read or write pages get
 * tables of their own. The rest is a processor's backend, its device too.
 */
#include "apart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

enum { STRETCHES = 8, LINE = 64, ROWS_MOST = 4096, FILLED_MOST = 64 << 20 };

static struct stretch {
	struct device *d;
	char *host, *apart;
	size_t bytes;
} stretch[STRETCHES];

/* Saves under way, the oldest first. */
static struct save {
	struct save *next;
	uint64_t number;
	unsigned due;
	char *page, *then; /* what it held when it was asked for */
	size_t bytes;
} * saves;

static struct backend backend;
static const struct backend *plain;
static uint64_t begun, done;
static unsigned calls, delay = 3, fails_in;
static size_t room = SIZE_MAX;
static bool failed;
static void (*watcher)(void);

static char *apart_of(const void *page)
{
	for (size_t i = 0; i < STRETCHES; i++)
		if (stretch[i].host && (const char *)page >= stretch[i].host &&
		    (const char *)page < stretch[i].host + stretch[i].bytes)
			return stretch[i].apart + ((const char *)page - stretch[i].host);
	fail_msg("A page that the device does not have.");
	return NULL;
}

/* Of what was written meanwhile some is there and some is not. */
static void complete(struct save *s)
{
	const char *now = apart_of(s->page);

	for (size_t at = 0; at < s->bytes; at += LINE)
		memcpy(s->page + at, at / LINE % 2 ? now + at : s->then + at,
		       s->bytes - at < LINE ? s->bytes - at : LINE);
	done = s->number;
}

static void drop_save(void)
{
	struct save *s = saves;

	saves = s->next;
	free(s->then);
	free(s);
}

static void go_on(void)
{
	if (watcher)
		watcher();
	for (calls++; saves && !failed && (int)(calls - saves->due) >= 0; drop_save())
		complete(saves);
}

static int pages_attach(struct device *d, void *host, size_t bytes, struct err *e)
{
	struct stretch *s = stretch;

	while (s->host)
		s++;
	assert_true(s < stretch + STRETCHES);
	*s = (struct stretch){ d, host, NULL, bytes };
	s->apart = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->apart == MAP_FAILED)
		return err_set(e, SINK_ENOMEM, "There is no memory for pages.");
	if (bytes <= FILLED_MOST)
		memset(s->apart, 0xff, bytes); /* what is not written must not be read */
	return 0;
}

static void pages_detach(struct device *d)
{
	struct stretch *s = stretch;

	while (s->d != d || !s->host)
		s++;
	for (; saves; drop_save())
		if (!failed)
			complete(saves);
	munmap(s->apart, s->bytes);
	*s = (struct stretch){ 0 };
}

static size_t pages_room(struct device *d, size_t other)
{
	(void)d;
	return room > other ? room - other : 0;
}

static void page_copy(struct device *d, void *to, const void *from, size_t bytes)
{
	(void)d;
	go_on();
	memcpy(apart_of(to), apart_of(from), bytes);
}

static void page_load(struct device *d, void *page, size_t bytes)
{
	(void)d;
	go_on();
	memcpy(apart_of(page), page, bytes);
}

static uint64_t page_save(struct device *d, void *page, size_t bytes)
{
	struct save *s = calloc(1, sizeof(*s)), **at = &saves;

	(void)d;
	go_on();
	assert_non_null(s);
	*s = (struct save){ NULL, ++begun, calls + delay, page, malloc(bytes), bytes };
	assert_non_null(s->then);
	memcpy(s->then, apart_of(page), bytes);
	while (*at)
		at = &(*at)->next;
	*at = s;
	return s->number;
}

static bool page_saved(struct device *d, uint64_t save, bool wait)
{
	(void)d;
	go_on();
	for (; wait && saves && !failed && done < save; drop_save())
		complete(saves);
	return done >= save;
}

static void begin(struct device *d, const struct step *s, size_t *n, size_t *wanted)
{
	go_on();
	if (fails_in && --fails_in == 0)
		failed = true;
	plain->begin(d, s, n, wanted);
}

static int end(struct device *d, struct err *e)
{
	go_on();
	return failed ? err_set(e, SINK_EDEVICE, "The device has failed.") : plain->end(d, e);
}

/* The rows with tables of the device's addresses; `tables` of each conversation are freed by release(). */
static void translate(const struct row *from, size_t n, struct row *to)
{
	for (size_t i = 0; i < n; i++) {
		struct page_table *t;

		to[i] = from[i];
		if (i && from[i].tables == from[i - 1].tables) {
			to[i].tables = to[i - 1].tables;
			continue;
		}
		to[i].tables = t = calloc(RUNS, sizeof(*t));
		assert_non_null(t);
		for (int run = 0; run < RUNS; run++) {
			const struct page_table *was = &from[i].tables[run];
			void **page = calloc((size_t)was->ring + 1, sizeof(*page));

			assert_non_null(page);
			for (int64_t p = 0; p < was->ring; p++)
				page[p] = was->page[p] ? apart_of(was->page[p]) : NULL;
			t[run] = (struct page_table){ page, was->ring };
		}
	}
}

static void release(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (i && rows[i].tables == rows[i - 1].tables)
			continue;
		for (int run = 0; run < RUNS; run++)
			free((void *)rows[i].tables[run].page);
		free((void *)rows[i].tables);
	}
}

static void store(struct device *d, const struct store *op)
{
	static struct row rows[ROWS_MOST];
	struct store there = *op;

	go_on();
	translate(op->rows, op->n, rows);
	there.rows = rows;
	plain->store(d, &there);
	release(rows, op->n);
}

static void attend(struct device *d, const struct attend *op)
{
	static struct row rows[ROWS_MOST];
	struct attend there = *op;

	go_on();
	translate(op->rows, op->n, rows);
	there.rows = rows;
	plain->attend(d, &there);
	release(rows, op->n);
}

const struct backend *apart_backend(void)
{
	plain = kernels_find("auto", NULL);
	backend = *plain;
	backend.name = "apart";
	backend.apart = true;
	backend.pages_attach = pages_attach;
	backend.pages_detach = pages_detach;
	backend.pages_room = pages_room;
	backend.page_copy = page_copy;
	backend.page_load = page_load;
	backend.page_save = page_save;
	backend.page_saved = page_saved;
	backend.begin = begin;
	backend.end = end;
	backend.store = store;
	backend.attend = attend;
	return &backend;
}

void apart_delay(unsigned n)
{
	delay = n;
}

void apart_fail(unsigned n)
{
	fails_in = n;
	failed = false;
}

void apart_watch(void (*call)(void))
{
	watcher = call;
}

void apart_room(size_t bytes)
{
	room = bytes;
}
