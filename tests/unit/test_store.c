/* store.c and its neighbours: what is written is read, whatever was changed in between, and what is removed is gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "storing.h"

static int commit(struct store *s, const struct store_change *h, struct err *e)
{
	return store_commit(s, h, 1, NULL, 0, false, e);
}

/* A conversation with this text as its messages; its number is `id`, its segment id + 1. */
static void add(struct store *s, int64_t id, const char *const *text, size_t count)
{
	struct store_message m[8] = { 0 };
	struct store_change h = { .id = id, .segment = id + 1, .begins = true, .writes_row = true, .message = m };
	struct err e = { 0 };

	h.row = (struct store_conversation){ .id = id, .segment = id + 1, .used = (double)id };
	snprintf(h.row.name, sizeof(h.row.name), "chat %d", (int)id);
	h.messages = count;
	for (size_t i = 0; i < count; i++)
		m[i] = (struct store_message){ .number = (int64_t)i, .text = text[i], .len = strlen(text[i]) };
	if (commit(s, &h, &e) < 0)
		fail_msg("%s", e.text);
}

static void a_new_file_is_private_whatever_the_mask(void **state)
{
	static const mode_t masks[] = { 0, 022, 0777 };

	(void)state;
	for (int i = 0; i < 3; i++) {
		mode_t before = umask(masks[i]);
		char *dir = storing_folder(), path[4096];
		struct store *s = storing_open(dir);
		static const char *const text[] = { "a" };
		uint64_t id = store_id(s);
		struct stat st;

		add(s, 1, text, 1);
		assert_true(id != 0);
		assert_true(store_bytes(s) > 4096);
		storing_path(dir, "sinkd.db", path);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
		storing_path(dir, "sinkd.db-wal", path);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
		storing_path(dir, "sinkd.db-shm", path);
		assert_true(stat(path, &st) < 0);
		store_close(s);
		s = storing_open(dir);
		assert_true(store_id(s) == id);
		store_close(s);
		umask(before);
		storing_remove(dir);
	}
}

static void whatever_is_written_is_read(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct storing_world *w = storing_world(seed);
		char *dir = storing_folder();
		struct store *s = storing_open(dir);
		struct err e = { 0 };

		for (int i = 0; i < 400; i++) {
			bool more = true;

			if (storing_step(w, s, &e) < 0)
				fail_msg("seed %d, step %d: %s", (int)seed, i, e.text);
			if (i % 50 == 49) {
				store_close(s);
				assert_int_equal(storing_check(dir, false, NULL), 0);
				s = storing_open(dir);
			}
			while (i % 100 == 99 && more)
				assert_int_equal(store_tidy(s, &more, NULL), 0);
			if (i % 10 == 9)
				storing_expect(w, s);
		}
		store_close(s);
		assert_int_equal(storing_check(dir, false, NULL), 0);
		storing_world_free(w);
		storing_remove(dir);
	}
}

/* As after a failure whose commit went through: everything is given once more, and something behind it. */
static void a_commit_may_be_given_again(void **state)
{
	char *dir = storing_folder();
	struct store *s = storing_open(dir);
	static const int32_t id[] = { 5, 6, 7, 8 };
	struct store_message m = { .text = "hello", .len = 5, .tokens = 4 };
	struct store_change h = { .id = 1,
				  .segment = 2,
				  .begins = true,
				  .writes_row = true,
				  .id_list = id,
				  .ids = 2,
				  .message = &m,
				  .messages = 1,
				  .first_seq = 1,
				  .events = 2,
				  .merges = true,
				  .row = { .id = 1, .segment = 2, .name = "a" } };
	void *record = storing_records(1, 1, 9, &h.record_size);
	struct store_body b = { 0 };
	int64_t events;
	void *got;
	size_t size;

	(void)state;
	h.record = record;
	h.record_size = 2 * STORING_EVENT;
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(commit(s, &h, NULL), 0);
		h.ids = i == 3 ? 3 : i == 2 ? 2 : 4;
		h.events = 2 + (int64_t)i;
		h.record_size = (size_t)h.events * STORING_EVENT;
	}
	assert_int_equal(store_load(s, 2, &b, NULL), 0);
	assert_int_equal(b.ids, 2);
	assert_int_equal(b.messages, 1);
	store_body_release(&b);
	assert_int_equal(store_events(s, 1, 1, 1 << 20, &got, &size, &events, NULL), 0);
	assert_int_equal(events, 4);
	assert_memory_equal(got, record, size);
	free(got);
	free(record);
	store_close(s);
	assert_int_equal(storing_number(dir, "SELECT count(*) FROM message"), 1);
	assert_int_equal(storing_check(dir, false, NULL), 0);
	storing_remove(dir);
}

static void gaps_are_refused_and_change_nothing(void **state)
{
	char *dir = storing_folder();
	struct store *s = storing_open(dir);
	static const char *const text[] = { "a", "b" };
	const struct store_message far = { .number = 3, .text = "x", .len = 1 };
	const int32_t id = 1;
	const struct store_change bad[] = {
		{ .id = 1, .segment = 2, .id_list = &id, .ids = 1, .first_token = 1 },
		{ .id = 1, .segment = 2, .message = &far, .messages = 1 },
		{ .id = 1, .segment = 9, .id_list = &id, .ids = 1 },
		{ .id = 1, .segment = 9, .cuts = true },
		{ .id = 1, .segment = 9, .message = &far, .messages = 1 },
	};
	struct store_body b = { 0 };

	(void)state;
	add(s, 1, text, 2);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct store_change two[] = { { .id = 1, .removes = true }, bad[i] };
		struct err e = { 0 };

		two[0].id = 77;
		assert_int_equal(store_commit(s, two, 2, NULL, 0, i % 2, &e), SINK_EINVAL);
		assert_true(strlen(e.text) > 20);
	}
	assert_int_equal(store_load(s, 2, &b, NULL), 0);
	assert_int_equal(b.messages, 2);
	store_body_release(&b);
	assert_int_equal(store_load(s, 9, &b, NULL), SINK_ENOENT);
	store_close(s);
	storing_remove(dir);
}

static void a_thousand_forks_are_one_text(void **state)
{
	enum { FORKS = 1000 };
	char *dir = storing_folder();
	struct store *s = storing_open(dir);
	struct store_body b = { 0 };

	(void)state;
	for (int32_t i = 0; i < FORKS; i++) {
		struct store_message m = { .number = i, .first_token = i, .tokens = 1, .text = "same", .len = 4 };
		struct store_change h = { .id = 1,
					  .begins = true,
					  .segment = i + 2,
					  .parent = i ? i + 1 : 0,
					  .base_tokens = i,
					  .base_messages = i,
					  .writes_row = true,
					  .id_list = &i,
					  .ids = 1,
					  .first_token = i,
					  .message = &m,
					  .messages = 1,
					  .row = { .id = 1, .segment = i + 2, .name = "long" } };

		assert_int_equal(commit(s, &h, NULL), 0);
	}
	assert_int_equal(store_load(s, FORKS + 1, &b, NULL), 0);
	assert_int_equal(b.ids, FORKS);
	assert_int_equal(b.messages, FORKS);
	for (int32_t i = 0; i < FORKS; i++)
		assert_int_equal(b.id[i], i);
	store_body_release(&b);
	store_close(s);
	assert_int_equal(storing_check(dir, false, NULL), 0);
	storing_sql(dir, "UPDATE segment SET parent = 900 WHERE id = 500");
	s = storing_open(dir);
	assert_int_equal(store_load(s, FORKS + 1, &b, NULL), SINK_EFORMAT);
	store_close(s);
	storing_remove(dir);
}

static void merging_leaves_few_rows_and_the_newest_events(void **state)
{
	char *dir = storing_folder();
	struct store *s = storing_open(dir);
	static const char *const text[] = { "a" };
	int64_t bytes, first;

	(void)state;
	add(s, 1, text, 1);
	for (int32_t i = 0; i < 10000; i++) {
		struct store_change h = { .id = 1,
					  .segment = 2,
					  .id_list = &i,
					  .ids = 1,
					  .first_token = i,
					  .first_seq = i + 1,
					  .events = 1,
					  .merges = i % 200 == 199 || i == 9999 };
		void *record = storing_records(1, i + 1, 1, &h.record_size);

		h.record = record;
		assert_int_equal(commit(s, &h, NULL), 0);
		free(record);
	}
	store_close(s);
	assert_in_range(storing_number(dir, "SELECT count(*) FROM token"), 42, 50);
	assert_in_range(storing_number(dir, "SELECT max(length(ids)) FROM token"), 900, 960);
	assert_in_range(storing_number(dir, "SELECT count(*) FROM event"), 200, 250);
	assert_in_range(storing_number(dir, "SELECT max(length(records)) FROM event"), 900, 960);
	bytes = storing_number(dir, "SELECT sum(length(records)) FROM event");
	assert_in_range(bytes, 198 * 1024, 200 * 1024);
	first = storing_number(dir, "SELECT min(seq) FROM event");
	assert_int_equal(storing_check(dir, false, NULL), 0);
	s = storing_open(dir);
	for (int64_t at = 1; at <= 10001; at += at < first ? 999 : 777) {
		void *got = NULL;
		int64_t count;
		size_t size;
		int rc = store_events(s, 1, at, 1000, &got, &size, &count, NULL);

		assert_int_equal(rc, at < first ? SINK_EGONE : 0);
		if (rc == 0 && at <= 10000)
			assert_int_equal(size, count * STORING_EVENT);
		free(got);
	}
	store_close(s);
	storing_remove(dir);
}

struct order {
	int64_t id[8];
	size_t count;
};

static void note_row(void *arg, const struct store_conversation *row)
{
	struct order *o = arg;

	o->id[o->count++] = row->id;
}

static void the_list_begins_with_what_was_used_last(void **state)
{
	char *dir = storing_folder();
	struct store *s = storing_open(dir);
	static const char *const text[] = { "a" };
	struct store_change h = { .id = 3, .writes_row = true, .row = { .id = 3, .segment = 4, .used = 99 } };
	struct store_change gone = { .id = 5, .removes = true };
	struct order o = { 0 };
	int64_t last;

	(void)state;
	for (int64_t id = 1; id <= 7; id += 2)
		add(s, id, text, 1);
	memcpy(h.row.name, "chat 1", 7); /* the name of another one, which gets a new one in the same commit */
	assert_int_equal(commit(s, &h, NULL), 0);
	h.id = h.row.id = 1;
	h.row.segment = 2;
	h.row.used = 98;
	memcpy(h.row.name, "chat 3", 7);
	assert_int_equal(commit(s, &h, NULL), 0);
	add(s, 100, text, 1);
	gone.id = 100;
	assert_int_equal(commit(s, &gone, NULL), 0);
	store_close(s);
	s = storing_open(dir);
	assert_int_equal(store_list(s, note_row, &o, &last, NULL), 0);
	assert_int_equal(o.count, 4);
	assert_int_equal(o.id[0], 3);
	assert_int_equal(o.id[1], 1);
	assert_int_equal(o.id[2], 7);
	assert_int_equal(last, 101);
	store_close(s);
	storing_remove(dir);
}

static void note_reply(void *arg, const struct store_reply *r)
{
	struct order *o = arg;

	assert_int_equal(r->size, sizeof(int64_t));
	assert_memory_equal(r->frame, &r->key, sizeof(int64_t));
	if (!o->count++)
		o->id[0] = r->key;
	else
		assert_true(r->key == ++o->id[0]);
}

static void the_latest_replies_are_kept(void **state)
{
	char *dir = storing_folder();
	struct store *s = storing_open(dir);
	struct order o = { 0 };

	(void)state;
	for (int64_t key = 1; key <= STORE_REPLIES + 100; key++) {
		struct store_reply r = { key, &key, sizeof(key) };

		assert_int_equal(store_commit(s, NULL, 0, &r, 1, key % 300 == 0, NULL), 0);
	}
	assert_int_equal(store_commit(s, NULL, 0, NULL, 0, true, NULL), 0);
	store_close(s);
	s = storing_open(dir);
	assert_int_equal(store_replies(s, note_reply, &o, NULL), 0);
	assert_int_equal(o.count, STORE_REPLIES);
	assert_int_equal(o.id[0], STORE_REPLIES + 100);
	store_close(s);
	storing_remove(dir);
}

struct matches {
	char said[2000];
	size_t count, most;
};

static bool note_match(void *arg, const struct store_match *m)
{
	struct matches *q = arg;
	size_t len = strlen(q->said);

	snprintf(q->said + len, sizeof(q->said) - len, "%d.%d@%zu ", (int)m->conversation, (int)m->message, m->at);
	assert_true(m->at + m->len <= m->text_len);
	return ++q->count < q->most;
}

static const char *search(struct store *s, const char *text, size_t len, int64_t conversation)
{
	static struct matches q;
	struct err e = { 0 };

	q = (struct matches){ .most = 5 };
	if (store_search(s, text, len, conversation, note_match, &q, &e) < 0)
		return e.text[0] ? "error" : "silent error";
	return q.said;
}

static void search_finds_what_grep_would(void **state)
{
	char *dir = storing_folder();
	struct store *s = storing_open(dir);
	static const char *const one[] = { "A lighthouse, 100% sure", "say \"hello\" to a_b",
					   "Zo\xc3\xab na\xc3\xafve" };
	static const char *const two[] = { "no LightHouse here", "100 sure, axb" };
	static const struct {
		const char *text, *found;
	} all[] = {
		{ "lighthouse", "3.0@3 1.0@2 " },
		{ "LIGHT", "3.0@3 1.0@2 " },
		{ "100%", "1.0@14 " },
		{ "a_b", "1.1@15 " },
		{ "\"hello\"", "1.1@4 " },
		{ "' OR", "" },
		{ "Zo\xc3\xab", "1.2@0 " },
		{ "ZO\xc3\x8b", "" },
		{ "\xc3\xaf", "1.2@7 " },
		{ "e", "3.1@7 3.0@12 1.2@10 1.1@6 1.0@11 " },
		{ "a", "3.1@10 1.2@6 1.1@1 1.0@0 " },
		{ "sure, axb", "3.1@4 " },
		{ "sure, axbc", "" },
		{ "%", "1.0@17 " },
	};
	struct store_message nul = { .number = 2, .text = "before\0behind", .len = 13 };
	struct store_change h = { .id = 3, .segment = 4, .message = &nul, .messages = 1 };

	(void)state;
	add(s, 1, one, 3);
	add(s, 3, two, 2);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		assert_string_equal(search(s, all[i].text, strlen(all[i].text), 0), all[i].found);
	assert_string_equal(search(s, "lighthouse", 10, 1), "1.0@2 ");
	assert_string_equal(search(s, "e", 1, 3), "3.1@7 3.0@12 ");
	assert_string_equal(search(s, "", 0, 0), "error");
	assert_string_equal(search(s, "\xff\xfe\xfd", 3, 0), "error");
	assert_int_equal(commit(s, &h, NULL), 0);
	assert_string_equal(search(s, "behind", 6, 0), "3.2@7 ");
	assert_string_equal(search(s, "e\0b", 3, 0), "3.2@5 ");
	assert_string_equal(search(s, "before", 6, 0), "3.2@0 ");
	nul.text = "what is this now";
	nul.len = strlen(nul.text);
	assert_int_equal(commit(s, &h, NULL), 0);
	assert_string_equal(search(s, "behind", 6, 0), "");
	assert_string_equal(search(s, "THIS NOW", 8, 0), "3.2@8 ");
	store_close(s);
	assert_int_equal(storing_check(dir, false, NULL), 0);
	storing_remove(dir);
}

static void search_sees_a_fork_as_far_as_it_goes(void **state)
{
	char *dir = storing_folder();
	struct store *s = storing_open(dir);
	static const char *const text[] = { "first apple", "second pear", "third plum" };
	struct store_change h[] = {
		{ .id = 1,
		  .begins = true,
		  .segment = 3,
		  .parent = 2,
		  .base_messages = 3,
		  .writes_row = true,
		  .row = { .id = 1, .segment = 3, .name = "one" } },
		{ .id = 4,
		  .begins = true,
		  .segment = 5,
		  .parent = 2,
		  .base_messages = 2,
		  .writes_row = true,
		  .row = { .id = 4, .segment = 5, .name = "two" } },
	};
	struct store_change cut = { .id = 4, .segment = 5, .cuts = true, .cut_messages = 1 };
	struct store_change gone = { .id = 1, .removes = true };

	(void)state;
	add(s, 1, text, 3);
	assert_int_equal(store_commit(s, h, 2, NULL, 0, false, NULL), 0);
	assert_string_equal(search(s, "pear", 4, 4), "4.1@7 ");
	assert_string_equal(search(s, "plum", 4, 0), "1.2@6 ");
	assert_int_equal(commit(s, &cut, NULL), 0);
	assert_string_equal(search(s, "pear", 4, 0), "1.1@7 ");
	assert_int_equal(commit(s, &gone, NULL), 0);
	assert_string_equal(search(s, "apple", 5, 0), "4.0@6 ");
	store_close(s);
	assert_int_equal(storing_number(dir, "SELECT count(*) FROM message"), 1); /* what nobody sees is gone */
	assert_int_equal(storing_number(dir, "SELECT count(*) FROM segment"), 2);
	assert_int_equal(storing_check(dir, false, NULL), 0);
	storing_remove(dir);
}

static void what_was_removed_is_in_no_byte(void **state)
{
	static const char marker[] = "Xyzzy-Plugh-Quux-1977", piece[] = "zzy";
	char *dir = storing_folder(), text[3000];
	struct store *s = storing_open(dir);
	const char *const marked = text;
	bool more;

	(void)state;
	for (int round = 0; round < 40; round++) {
		for (size_t i = 0; i + 30 < sizeof(text); i += 30)
			snprintf(text + i, 31, "%s %08d", round == 7 ? marker : "nothing to be seen...",
				 (int)i + round);
		add(s, 1 + 2 * round, &marked, 1);
	}
	assert_true(storing_has(dir, marker, strlen(marker)));
	assert_string_not_equal(search(s, marker, strlen(marker), 0), "");
	assert_int_equal(commit(s, &(struct store_change){ .id = 15, .removes = true }, NULL), 0);
	store_close(s);
	s = storing_open(dir); /* the flag is in the file */
	do
		assert_int_equal(store_tidy(s, &more, NULL), 0);
	while (more);
	assert_false(storing_has(dir, marker, strlen(marker)));
	assert_false(storing_has(dir, piece, strlen(piece)));
	assert_string_equal(search(s, marker, strlen(marker), 0), "");
	store_close(s);
	assert_int_equal(storing_number(dir, "SELECT count(*) FROM conversation"), 39);
	assert_int_equal(storing_check(dir, false, NULL), 0);
	storing_remove(dir);
}

static void one_process_has_it(void **state)
{
	char *dir = storing_folder();
	struct store *s = storing_open(dir);
	struct err e = { 0 };
	int status;
	pid_t child;

	(void)state;
	child = fork();
	if (child == 0)
		_exit(storing_try(dir, NULL, &e) == SINK_EBUSY && storing_check(dir, false, NULL) == SINK_EBUSY ? 0
														: 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(storing_try(dir, NULL, &e), SINK_EBUSY);
	store_close(s);
	assert_int_equal(storing_try(dir, NULL, &e), 0);
	storing_remove(dir);
}

static void strange_places_are_named(void **state)
{
	char *dir = storing_folder(), path[4096], other[4096];
	struct err e = { 0 };

	(void)state;
	assert_int_equal(storing_try("/nowhere/at/all", NULL, &e), SINK_EIO);
	assert_non_null(strstr(e.text, "/nowhere/at/all"));
	storing_path(dir, "file", other);
	storing_write(other, "x", 1);
	assert_int_equal(storing_try(other, NULL, &e), SINK_EIO);
	storing_path(dir, "sinkd.db", path);
	assert_int_equal(symlink(other, path), 0);
	assert_int_equal(storing_try(dir, NULL, &e), SINK_EIO);
	assert_non_null(strstr(e.text, "symbolic link"));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(storing_try(dir, NULL, &e), SINK_EIO);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(storing_check(dir, false, &e), SINK_ENOENT);
	if (geteuid() == 0) {
		assert_int_equal(chown(dir, 12345, 12345), 0);
		assert_int_equal(storing_try(dir, NULL, &e), SINK_EIO);
		assert_non_null(strstr(e.text, "another user"));
		assert_int_equal(chown(dir, 0, 0), 0);
	}
	storing_remove(dir);
}

static void what_is_no_database_is_set_aside(void **state)
{
	static const struct {
		const char *data;
		size_t size;
	} bad[] = { { "", 0 }, { "not a database at all", 21 }, { "SQLite format 3", 16 } };
	char *dir, path[4096], note[512];
	struct err e = { 0 };

	(void)state;
	for (int i = 0; i < 6; i++) {
		dir = storing_folder();
		storing_path(dir, "sinkd.db", path);
		storing_write(path, bad[i / 2].data, bad[i / 2].size);
		if (i % 2) {
			assert_in_range(storing_check(dir, false, &e), 1, 5);
			assert_int_equal(storing_check(dir, true, &e), 0);
		} else {
			assert_int_equal(storing_try(dir, note, &e), 0);
			assert_non_null(strstr(note, "sinkd.db.bad-"));
		}
		assert_int_equal(storing_try(dir, note, &e), 0);
		assert_string_equal(note, "");
		storing_remove(dir);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_file_is_private_whatever_the_mask),
		cmocka_unit_test(whatever_is_written_is_read),
		cmocka_unit_test(a_commit_may_be_given_again),
		cmocka_unit_test(gaps_are_refused_and_change_nothing),
		cmocka_unit_test(a_thousand_forks_are_one_text),
		cmocka_unit_test(merging_leaves_few_rows_and_the_newest_events),
		cmocka_unit_test(the_list_begins_with_what_was_used_last),
		cmocka_unit_test(the_latest_replies_are_kept),
		cmocka_unit_test(search_finds_what_grep_would),
		cmocka_unit_test(search_sees_a_fork_as_far_as_it_goes),
		cmocka_unit_test(what_was_removed_is_in_no_byte),
		cmocka_unit_test(one_process_has_it),
		cmocka_unit_test(strange_places_are_named),
		cmocka_unit_test(what_is_no_database_is_set_aside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
