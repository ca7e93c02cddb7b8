/*
 * The store on a bad day: altered and cut files, a disk that fails at any moment, no memory. Nothing crashes, nothing
 * altered is given as good, and a commit is there whole or not at all.
 */
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "storing.h"

/* A layer above SQLite's own files that lets one call fail, or all from one on. */
enum { TRIES = 300 };

enum call { CALL_READ, CALL_WRITE, CALL_TRUNCATE, CALL_SYNC, CALL_SIZE, CALL_OPEN, CALL_DELETE, CALL_MALLOC, CALLS };
static struct {
	bool armed, goes_on;
	enum call call;
	int after; /* calls that still do well */
	int code;
	bool hit;
} fault;
static int hits; /* in all */

static bool fails(enum call call)
{
	if (!fault.armed || fault.call != call || (fault.hit && !fault.goes_on) || fault.after-- > 0)
		return false;
	fault.hit = true;
	fault.after = 0;
	hits++;
	return true;
}

struct layer {
	sqlite3_file base;
	sqlite3_file *real;
};

static sqlite3_file *real(sqlite3_file *f)
{
	return ((struct layer *)f)->real;
}

static int layer_close(sqlite3_file *f)
{
	int rc = real(f)->pMethods->xClose(real(f));

	free(real(f));
	return rc;
}

static int layer_read(sqlite3_file *f, void *to, int size, sqlite3_int64 at)
{
	return fails(CALL_READ) ? SQLITE_IOERR_READ : real(f)->pMethods->xRead(real(f), to, size, at);
}

/* A write that fails has written half. */
static int layer_write(sqlite3_file *f, const void *from, int size, sqlite3_int64 at)
{
	bool failing = fails(CALL_WRITE);
	int rc = real(f)->pMethods->xWrite(real(f), from, failing ? size / 2 : size, at);

	return failing ? fault.code : rc;
}

static int layer_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	return fails(CALL_TRUNCATE) ? SQLITE_IOERR_TRUNCATE : real(f)->pMethods->xTruncate(real(f), size);
}

/* Nothing here outlives a power cut anyway. */
static int layer_sync(sqlite3_file *f, int flags)
{
	(void)f;
	(void)flags;
	return fails(CALL_SYNC) ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int layer_size(sqlite3_file *f, sqlite3_int64 *size)
{
	return fails(CALL_SIZE) ? SQLITE_IOERR_FSTAT : real(f)->pMethods->xFileSize(real(f), size);
}

static int layer_lock(sqlite3_file *f, int kind)
{
	return real(f)->pMethods->xLock(real(f), kind);
}

static int layer_unlock(sqlite3_file *f, int kind)
{
	return real(f)->pMethods->xUnlock(real(f), kind);
}

static int layer_reserved(sqlite3_file *f, int *ret)
{
	return real(f)->pMethods->xCheckReservedLock(real(f), ret);
}

static int layer_control(sqlite3_file *f, int op, void *arg)
{
	return real(f)->pMethods->xFileControl(real(f), op, arg);
}

static int layer_sector(sqlite3_file *f)
{
	return real(f)->pMethods->xSectorSize(real(f));
}

static int layer_character(sqlite3_file *f)
{
	return real(f)->pMethods->xDeviceCharacteristics(real(f));
}

/* Version 1: no shared memory, so nothing can come to depend on it. */
static const sqlite3_io_methods methods = { .iVersion = 1,
					    .xClose = layer_close,
					    .xRead = layer_read,
					    .xWrite = layer_write,
					    .xTruncate = layer_truncate,
					    .xSync = layer_sync,
					    .xFileSize = layer_size,
					    .xLock = layer_lock,
					    .xUnlock = layer_unlock,
					    .xCheckReservedLock = layer_reserved,
					    .xFileControl = layer_control,
					    .xSectorSize = layer_sector,
					    .xDeviceCharacteristics = layer_character };
static sqlite3_vfs layer, *below;

static int layer_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	struct layer *l = (struct layer *)f;
	int rc;

	(void)v;
	l->base.pMethods = NULL;
	if (fails(CALL_OPEN))
		return SQLITE_CANTOPEN;
	l->real = calloc(1, (size_t)below->szOsFile);
	assert_non_null(l->real);
	rc = below->xOpen(below, name, l->real, flags, out);
	if (rc != SQLITE_OK)
		free(l->real);
	else
		l->base.pMethods = &methods;
	return rc;
}

static int layer_delete(sqlite3_vfs *v, const char *name, int sync)
{
	(void)v;
	return fails(CALL_DELETE) ? SQLITE_IOERR_DELETE : below->xDelete(below, name, sync);
}

static sqlite3_mem_methods memory, plain_memory;

static void *failing_malloc(int size)
{
	return fails(CALL_MALLOC) ? NULL : plain_memory.xMalloc(size);
}

static void *failing_realloc(void *p, int size)
{
	return fails(CALL_MALLOC) ? NULL : plain_memory.xRealloc(p, size);
}

static void lay(void)
{
	sqlite3_config(SQLITE_CONFIG_GETMALLOC, &plain_memory);
	memory = plain_memory;
	memory.xMalloc = failing_malloc;
	memory.xRealloc = failing_realloc;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &memory);
	below = sqlite3_vfs_find(NULL);
	layer = *below;
	layer.szOsFile = sizeof(struct layer);
	layer.zName = "layer";
	layer.xOpen = layer_open;
	layer.xDelete = layer_delete;
	sqlite3_vfs_register(&layer, 1);
}

/* A store with a world in it, as bytes that are put into a folder again and again. */
struct sample {
	char *dir, path[4096];
	struct storing_world *w;
	char *bytes;
	size_t size;
};

static struct sample sample_make(uint64_t seed, uint64_t count, int steps)
{
	struct sample m = { .dir = storing_folder(), .w = storing_world(seed) };
	struct store *s = storing_open(m.dir);

	m.w->count = count;
	for (int i = 0; i < steps; i++)
		assert_int_equal(storing_step(m.w, s, NULL), 0);
	for (int i = 0; i < STORING_CONVERSATIONS; i++) { /* from now on each end is known */
		struct store_change h = { .id = m.w->conversation[i].id, .segment = m.w->conversation[i].segment };

		h.merges = true;
		assert_int_equal(store_commit(s, &h, h.id != 0, NULL, 0, false, NULL), 0);
	}
	store_close(s);
	storing_path(m.dir, "sinkd.db", m.path);
	m.bytes = storing_read(m.path, &m.size);
	return m;
}

static void empty_folder(struct sample *m)
{
	storing_remove(m->dir);
	m->dir = storing_folder();
	storing_path(m->dir, "sinkd.db", m->path);
}

static void sample_free(struct sample *m)
{
	storing_remove(m->dir);
	storing_world_free(m->w);
	free(m->bytes);
}

/* What a damaged store gave, against the world that it had. */
struct given {
	const struct storing_world *w;
	struct store *s;
	int rows, texts;
	bool prefix; /* a text may be the beginning of what it was, a state may be missing */
};

static void expect_body(const struct given *g, const struct storing_conversation *c, const struct store_body *b)
{
	if (g->prefix)
		assert_true(b->ids <= c->tokens && b->messages <= c->messages);
	else
		assert_true(b->ids == c->tokens && b->messages == c->messages);
	if (b->ids)
		assert_memory_equal(b->id, c->token, b->ids * sizeof(*b->id));
	for (size_t i = 0; i < b->messages; i++) {
		assert_string_equal(b->message[i].text, c->message[i].text);
		assert_int_equal(b->message[i].first_token, c->message[i].first_token);
		assert_int_equal(b->message[i].tokens, c->message[i].tokens);
	}
}

static void expect_events(const struct given *g, const struct store_conversation *row)
{
	void *got, *right;
	int64_t count;
	size_t size;

	for (int64_t at = row->first_seq; at < row->seq; at += count) {
		if (store_events(g->s, row->id, at, 4000, &got, &size, &count, NULL) < 0 || !count)
			return;
		right = storing_records(row->id, at, count, &size);
		assert_memory_equal(got, right, size);
		free(got);
		free(right);
	}
}

static void expect_row(void *arg, const struct store_conversation *row)
{
	struct given *g = arg;
	const struct storing_conversation *c = NULL;
	struct store_body b = { 0 };

	for (int i = 0; i < STORING_CONVERSATIONS; i++)
		if (g->w->conversation[i].id == row->id)
			c = &g->w->conversation[i];
	assert_non_null(c);
	g->rows++;
	if (row->state_size || !g->prefix) {
		assert_int_equal(row->state_size, strlen(c->state));
		assert_memory_equal(row->state, c->state, row->state_size);
	}
	assert_true(g->prefix || (row->segment == c->segment && strcmp(row->name, c->name) == 0));
	if (store_load(g->s, row->segment, &b, NULL) == 0) {
		g->texts++;
		expect_body(g, c, &b);
		store_body_release(&b);
	}
	expect_events(g, row);
}

static bool expect_match(void *arg, const struct store_match *m)
{
	const struct given *g = arg;

	for (int i = 0; i < STORING_CONVERSATIONS; i++) {
		const struct storing_conversation *c = &g->w->conversation[i];

		for (size_t j = 0; j < c->messages; j++)
			if (strlen(c->message[j].text) == m->text_len &&
			    memcmp(c->message[j].text, m->text, m->text_len) == 0)
				return true;
	}
	fail_msg("a text that nobody wrote");
	return false;
}

/* Opens what is there and compares all that it gives. False: it was set aside. */
static bool expect_true(const struct sample *m, struct given *g)
{
	char note[512];
	struct err e = { 0 };
	int64_t last;
	int rc = store_open(&(struct store_options){ m->dir, 1 << 20 }, &g->s, note, sizeof(note), &e);

	g->w = m->w;
	g->rows = g->texts = 0;
	if (rc == SINK_EPROTO)
		return false;
	if (rc < 0)
		fail_msg("%s", e.text);
	store_list(g->s, expect_row, g, &last, NULL);
	store_search(g->s, "lighthouse", 10, 0, expect_match, g, NULL);
	store_search(g->s, "e", 1, 0, expect_match, g, NULL);
	store_close(g->s);
	return !*note;
}

static void expect_mended(struct sample *m, struct given *g)
{
	struct err e = { 0 };
	int left = storing_check(m->dir, true, &e);

	if (left == SINK_EPROTO)
		return;
	if (left != 0)
		fail_msg("%d are left: %s", left, e.text);
	assert_int_equal(storing_check(m->dir, false, NULL), 0);
	g->prefix = true;
	assert_true(expect_true(m, g));
	g->prefix = false;
}

static void a_later_version_is_left_alone(void **state)
{
	char *dir = storing_folder(), path[4096];
	size_t size, after;
	char *before, *now;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(storing_try(dir, NULL, &e), 0);
	storing_sql(dir, "PRAGMA user_version = 2");
	storing_path(dir, "sinkd.db", path);
	before = storing_read(path, &size);
	assert_int_equal(storing_try(dir, NULL, &e), SINK_EPROTO);
	assert_int_equal(storing_check(dir, true, &e), SINK_EPROTO);
	now = storing_read(path, &after);
	assert_int_equal(size, after);
	assert_memory_equal(before, now, size);
	free(before);
	free(now);
	storing_remove(dir);
}

static void no_flipped_byte_is_believed(void **state)
{
	enum { FLIPS = 2104, HEAD = 120 };
	struct sample m = sample_make(3, 3, 60);
	struct given g = { 0 };
	uint64_t random = 7;
	int rows = 0, texts = 0, aside = 0, most;

	(void)state;
	assert_true(expect_true(&m, &g));
	most = g.rows;
	assert_true(most >= 2 && g.texts == most);
	for (size_t i = 0; i < FLIPS; i++) {
		size_t at = i < HEAD ? i : HEAD + (i - HEAD) * (m.size - HEAD) / (FLIPS - HEAD);
		char was = m.bytes[at];

		empty_folder(&m);
		m.bytes[at] = (char)(was ^ (1 << storing_random(&random, 8)));
		storing_write(m.path, m.bytes, m.size);
		if (i % 8 == 7) {
			storing_check(m.dir, false, NULL);
			expect_mended(&m, &g);
		} else if (expect_true(&m, &g)) {
			rows += g.rows;
			texts += g.texts;
		} else {
			aside++;
		}
		m.bytes[at] = was;
	}
	print_message("of %d: %d set aside, %d of %d rows and %d texts read\n", FLIPS * 7 / 8, aside, rows,
		      most * FLIPS * 7 / 8, texts);
	assert_true(texts > most * FLIPS / 2);
	sample_free(&m);
}

static void a_cut_file_is_read_as_far_as_it_goes(void **state)
{
	struct sample m = sample_make(4, 6, 80);
	struct given g = { 0 };

	(void)state;
	for (size_t size = 0; size < m.size; size += 4096)
		for (int way = 0; way < 2; way++) {
			empty_folder(&m);
			storing_write(m.path, m.bytes, size + (size_t)way * 100);
			if (way)
				expect_mended(&m, &g);
			else
				expect_true(&m, &g);
		}
	sample_free(&m);
}

/* Each of these is one kind of damage; mending leaves nothing to be found. */
static void each_kind_of_damage_is_found_and_mended(void **state)
{
	static const char *const damage[] = {
		"DELETE FROM meta WHERE key = 'id'",
		"UPDATE meta SET value = 1 WHERE key = 'last'",
		"UPDATE conversation SET name = 'other' WHERE id = (SELECT max(id) FROM conversation)",
		"UPDATE conversation SET state = x'00' WHERE id = (SELECT min(id) FROM conversation)",
		"DELETE FROM conversation WHERE id = (SELECT min(id) FROM conversation)",
		"UPDATE segment SET tokens = tokens + 1, messages = messages + 1",
		"DELETE FROM segment WHERE id = (SELECT min(id) FROM segment)",
		"UPDATE segment SET parent = id",
		"UPDATE token SET ids = x'01000000' WHERE first > 5",
		"UPDATE token SET first = first + 1000000 WHERE first > 5",
		"DELETE FROM token WHERE first = (SELECT min(first) FROM token WHERE first > 0)",
		"UPDATE message SET text = 'lies' WHERE number = 1",
		"UPDATE message SET first_token = 0",
		"DELETE FROM message WHERE number = 0",
		"DELETE FROM message WHERE number = (SELECT max(number) FROM message)",
		"DELETE FROM token WHERE first = (SELECT max(first) FROM token)",
		"UPDATE event SET records = zeroblob(length(records))",
		"UPDATE event SET count = count + 1 WHERE conversation = (SELECT min(id) FROM conversation)",
		"INSERT INTO event SELECT conversation, seq + count + 5, count, at, records, 0 FROM event",
		"UPDATE event SET seq = seq + 1000000000",
		"INSERT INTO event VALUES(999, 1, 1, 0, x'00', 0)",
		"INSERT INTO reply VALUES(1, 2, x'00', 3)",
		"DELETE FROM search_data WHERE id > 1000",
		"INSERT INTO search(search, rowid, text) VALUES('delete', 1, 'lighthouse')",
	};
	struct sample m = sample_make(5, 12, 150);
	struct given g = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
		empty_folder(&m);
		storing_write(m.path, m.bytes, m.size);
		storing_sql(m.dir, damage[i]);
		if (storing_check(m.dir, false, NULL) < 1)
			fail_msg("nothing was found of: %s", damage[i]);
		expect_mended(&m, &g);
		assert_true(g.rows > 2);
	}
	sample_free(&m);
}

static void disarm(void)
{
	memset(&fault, 0, sizeof(fault));
}

static void arm(enum call call, int after, bool goes_on, int code)
{
	disarm();
	fault.call = call;
	fault.after = after;
	fault.goes_on = goes_on;
	fault.code = code;
	fault.armed = true;
}

/* Some commits and a tidying while a fault is armed; whatever failed, the store is in step with the world again. */
static void work_through(const struct sample *m)
{
	struct storing_world *w = storing_copy(m->w), *before;
	struct store *s = NULL;
	struct err e = { 0 };
	char note[512] = "", why[400];
	bool more = true, same = true;
	int rc = store_open(&(struct store_options){ m->dir, 200 * 1024 }, &s, note, sizeof(note), &e);

	assert_string_equal(note, "");
	for (int i = 0; rc == 0 && i < 8; i++) {
		before = storing_copy(w);
		rc = storing_step(w, s, &e);
		if (rc < 0) {
			assert_true(rc == SINK_EIO || rc == SINK_EBUSY || rc == SINK_ENOMEM);
			disarm();
			if (storing_same(before, s, why, sizeof(why))) {
				storing_world_free(w);
				w = storing_copy(before);
			}
		}
		storing_world_free(before);
	}
	for (int i = 0; rc == 0 && more && i < 50; i++)
		rc = store_tidy(s, &more, &e);
	disarm();
	if (s)
		same = storing_same(w, s, why, sizeof(why));
	store_close(s);
	if (!same)
		fail_msg("%s", why);
	assert_int_equal(storing_check(m->dir, false, NULL), 0);
	s = storing_open(m->dir);
	storing_expect(w, s);
	store_close(s);
	storing_world_free(w);
}

static void a_commit_outlives_its_process(void **state)
{
	(void)state;
	for (int steps = 1; steps < 300; steps += 37) {
		struct storing_world *w = storing_world((uint64_t)steps);
		char *dir = storing_folder();
		struct store *s;

		storing_die_after(w, dir, steps);
		s = storing_open(dir);
		storing_expect(w, s);
		store_close(s);
		storing_world_free(w);
		storing_remove(dir);
	}
}

static void a_commit_is_there_whole_or_not_at_all(void **state)
{
	static const struct {
		enum call call;
		int code, stride;
	} all[] = { { CALL_READ, 0, 5 },
		    { CALL_WRITE, SQLITE_FULL, 3 },
		    { CALL_WRITE, SQLITE_IOERR_WRITE, 3 },
		    { CALL_TRUNCATE, 0, 1 },
		    { CALL_SYNC, 0, 1 },
		    { CALL_SIZE, 0, 1 },
		    { CALL_OPEN, 0, 1 },
		    { CALL_DELETE, 0, 1 },
		    { CALL_MALLOC, 0, 41 } };
	struct sample m = sample_make(6, 12, 120);

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int before, tries = 0;

		do { /* until there are fewer calls than that */
			before = hits;
			empty_folder(&m);
			storing_write(m.path, m.bytes, m.size);
			arm(all[i].call, tries * all[i].stride, tries % 2, all[i].code);
			work_through(&m);
		} while (hits > before && ++tries < TRIES);
	}
	sample_free(&m);
}

static void a_store_is_made_whole_or_not_at_all(void **state)
{
	(void)state;
	for (int call = CALL_READ; call < CALLS; call++)
		for (int n = 0; n < 60; n++) {
			char *dir = storing_folder(), note[512];

			arm(call, call == CALL_MALLOC ? n * 37 : n, n % 2, SQLITE_FULL);
			storing_try(dir, note, NULL);
			assert_string_equal(note, "");
			disarm();
			store_close(storing_open(dir));
			assert_int_equal(storing_check(dir, false, NULL), 0);
			storing_remove(dir);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_later_version_is_left_alone),
		cmocka_unit_test(no_flipped_byte_is_believed),
		cmocka_unit_test(a_cut_file_is_read_as_far_as_it_goes),
		cmocka_unit_test(each_kind_of_damage_is_found_and_mended),
		cmocka_unit_test(a_commit_outlives_its_process),
		cmocka_unit_test(a_commit_is_there_whole_or_not_at_all),
		cmocka_unit_test(a_store_is_made_whole_or_not_at_all),
	};

	lay();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
