/*
 * Owns verifying and mending, row by row.
 *
 * Mending never guesses. What does not match its sum is taken away, with what follows from it: text from there on,
 * events up to there. A row of a conversation keeps its name and its text when they are plausible, and loses its state.
 * A file whose pages are damaged is read as far as it goes, from both ends of each table, into a new one.
 */
#include "store_file.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "utf8.h"

enum { FINDINGS_OF_PAGES = 20 };

/* A segment, and how much text it has with what is before it. */
struct part {
	struct store_segment is;
	int64_t tokens, messages;
	enum { PART_NEW, PART_OPEN, PART_DONE } state;
};

struct check {
	struct store *s;
	bool repair;
	void (*tell)(void *arg, const char *text);
	void *arg;
	int found;
	bool rebuild; /* the index has to be made anew */
	struct part *part;
	size_t parts;
};

static __attribute__((format(printf, 2, 3))) void say(struct check *c, const char *fmt, ...)
{
	char text[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	for (char *at = text; *at; at++)
		*at = *at == '\n' ? ' ' : *at; /* SQLite tells of a page in several lines */
	c->found++;
	c->tell(c->arg, text);
}

static int check_meta(struct check *c, struct err *e)
{
	static const char *const key[] = { "id", "last", "untidy" };
	int64_t largest, there, value = 0;
	int rc = store_step(c->s, store_bind(c->s, STORE_LARGEST, 0, NULL), e);

	largest = rc > 0 ? sqlite3_column_int64(c->s->statement[STORE_LARGEST], 0) : 0;
	sqlite3_reset(c->s->statement[STORE_LARGEST]);
	for (int i = 0; rc >= 0 && i < 3; i++) {
		rc = store_number(c->s, "SELECT count(*) FROM meta WHERE key = ?1", key[i], &there, e);
		rc = rc < 0 ? rc : store_meta_get(c->s, key[i], &value, e);
		if (rc < 0 || (rc == 0 && !there && i == 2) || (rc > 0 && (i != 1 || value >= largest)))
			continue;
		say(c, "The row \"%s\" of meta is missing or damaged.", key[i]);
		if (c->repair)
			rc = i == 0 ? store_file_number(c->s, e)
				    : store_meta_put(c->s, key[i], i == 1 ? largest : 1, e);
	}
	return rc < 0 ? rc : 0;
}

static int prepare(struct check *c, const char *sql, sqlite3_stmt **ret, struct err *e)
{
	int rc = sqlite3_prepare_v2(c->s->db, sql, -1, ret, NULL);

	return rc == SQLITE_OK ? 0 : store_fail(c->s, rc, e);
}

/* Segments in the order of their numbers. A damaged one begins with nothing: its own text is kept if it does too. */
static int read_segments(struct check *c, struct err *e)
{
	sqlite3_stmt *st;
	int64_t count;
	int rc = store_number(c->s, "SELECT count(*) FROM segment", NULL, &count, e);

	rc = rc < 0 ? rc : prepare(c, "SELECT " STORE_OF_SEGMENT " FROM segment ORDER BY id", &st, e);
	if (rc < 0)
		return rc;
	free(c->part);
	c->parts = 0;
	c->part = calloc((size_t)count + 1, sizeof(*c->part));
	rc = c->part ? 0 : store_no_memory(c->s, e);
	while (rc >= 0 && (rc = store_step(c->s, st, e)) > 0 && c->parts < (size_t)count) {
		struct store_segment *is = &c->part[c->parts++].is;

		is->id = sqlite3_column_int64(st, 0);
		if (!store_row_whole(st, STORE_SEGMENT, 0, 7)) {
			say(c, "Row %lld of segment is damaged.", (long long)is->id);
			rc = c->repair ? store_segment_put(c->s, is, e) : 0;
			continue;
		}
		is->parent = sqlite3_column_int64(st, 1);
		is->tokens = sqlite3_column_int64(st, 2);
		is->messages = sqlite3_column_int64(st, 3);
		is->least_tokens = sqlite3_column_int64(st, 4);
		is->least_messages = sqlite3_column_int64(st, 5);
	}
	sqlite3_finalize(st);
	return rc < 0 ? rc : 0;
}

static int by_id(const void *a, const void *b)
{
	const struct part *x = a, *y = b;

	return x->is.id < y->is.id ? -1 : x->is.id > y->is.id;
}

static struct part *find_part(const struct check *c, int64_t id)
{
	const struct part key = { .is = { .id = id } };

	return c->parts ? bsearch(&key, c->part, c->parts, sizeof(key), by_id) : NULL;
}

/* Cuts the text of a segment where it is damaged; a message is kept with all its tokens or not at all. */
static int cut_text(struct check *c, struct part *p, bool with_message, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(c->s, STORE_MESSAGES, p->is.id, p->messages);
	int64_t end = p->is.tokens;
	char sql[160];
	int rc;

	while ((rc = store_step(c->s, st, e)) > 0) {
		int64_t first = sqlite3_column_int64(st, 3), after = first + sqlite3_column_int64(st, 4);

		if (after > p->tokens) {
			p->messages = sqlite3_column_int64(st, 1);
			p->tokens = first < p->is.tokens ? p->is.tokens : first < p->tokens ? first : p->tokens;
			break;
		}
		end = after > end ? after : end;
	}
	sqlite3_reset(st);
	if (rc == 0 && with_message && end < p->tokens)
		p->tokens = end; /* the message is lost, and so are its tokens */
	c->rebuild = true;
	rc = rc < 0 ? rc : store_cut_tokens(c->s, p->is.id, p->tokens, e);
	rc = rc < 0 ? rc : store_step(c->s, STORE_BIND(c->s, STORE_MESSAGE_DELETE, p->is.id, p->messages), e);
	p->is.least_tokens = p->tokens;
	p->is.least_messages = p->messages;
	rc = rc < 0 ? rc : store_segment_put(c->s, &p->is, e);
	snprintf(sql, sizeof(sql),
		 "DELETE FROM token WHERE segment = %lld AND first < %lld; "
		 "DELETE FROM message WHERE segment = %lld AND number < %lld",
		 (long long)p->is.id, (long long)p->is.tokens, (long long)p->is.id, (long long)p->is.messages);
	return rc < 0 ? rc : store_exec(c->s, sql, e);
}

/* Counts the tokens that are whole. *whole: they all are. */
static int check_tokens(struct check *c, struct part *p, bool *whole, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(c->s, STORE_TOKENS, p->is.id, INT64_MIN, INT64_MAX);
	int rc;

	*whole = true;
	for (p->tokens = p->is.tokens; *whole && (rc = store_step(c->s, st, e)) > 0;) {
		int64_t first = sqlite3_column_int64(st, 1);
		int bytes = sqlite3_column_bytes(st, 2);

		*whole = store_row_whole(st, STORE_TOKEN, 0, 4) && first == p->tokens && bytes > 0 && bytes % 4 == 0;
		if (*whole)
			p->tokens += bytes / 4;
		else
			say(c, "Row %lld, %lld of token is damaged, or does not follow: tokens from %lld on.",
			    (long long)p->is.id, (long long)first, (long long)p->tokens);
		if (!*whole && first < p->tokens) /* it overlaps the one before */
			p->tokens = first > p->is.tokens ? first : p->is.tokens;
	}
	sqlite3_reset(st);
	return rc < 0 ? rc : 0;
}

static int check_messages(struct check *c, struct part *p, bool *whole, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(c->s, STORE_MESSAGES, p->is.id, INT64_MAX);
	int64_t before = 0;
	int rc;

	*whole = true;
	for (p->messages = p->is.messages; *whole && (rc = store_step(c->s, st, e)) > 0;) {
		int64_t number = sqlite3_column_int64(st, 1), first = sqlite3_column_int64(st, 3);
		const char *text = sqlite3_column_blob(st, 8);
		size_t len = (size_t)sqlite3_column_bytes(st, 8);

		*whole = store_row_whole(st, STORE_MESSAGE, 0, 10) && number == p->messages && first >= before &&
			 sqlite3_column_int64(st, 4) >= 0 && utf8_valid(text, len) == len;
		before = first;
		if (*whole)
			p->messages++;
		else
			say(c, "Row %lld, %lld of message is damaged, or does not follow: messages from %lld on.",
			    (long long)p->is.id, (long long)number, (long long)p->messages);
	}
	sqlite3_reset(st);
	return rc < 0 ? rc : 0;
}

/* What a segment begins with must be there. */
static int check_base(struct check *c, struct part *p, struct err *e)
{
	const struct part *parent = p->is.parent ? find_part(c, p->is.parent) : NULL;
	int64_t tokens = parent && parent->state == PART_DONE ? parent->tokens : 0;
	int64_t messages = parent && parent->state == PART_DONE ? parent->messages : 0;

	if (p->is.tokens <= tokens && p->is.messages <= messages && (!p->is.parent || parent))
		return 0;
	say(c, "Row %lld of segment begins with %lld tokens and %lld messages of %lld, which has %lld and %lld.",
	    (long long)p->is.id, (long long)p->is.tokens, (long long)p->is.messages, (long long)p->is.parent,
	    (long long)tokens, (long long)messages);
	if (!c->repair)
		return 0;
	p->is.tokens = tokens < p->is.tokens ? tokens : p->is.tokens;
	p->is.messages = messages < p->is.messages ? messages : p->is.messages;
	p->is.parent = parent && parent->state == PART_DONE ? p->is.parent : 0;
	return store_segment_put(c->s, &p->is, e);
}

/* An end that is lost leaves no row to tell of it but the segment's. */
static int check_end(struct check *c, struct part *p, struct err *e)
{
	if (p->tokens >= p->is.least_tokens && p->messages >= p->is.least_messages)
		return 0;
	say(c, "Row %lld of segment had %lld tokens and %lld messages, and %lld and %lld are left.",
	    (long long)p->is.id, (long long)p->is.least_tokens, (long long)p->is.least_messages, (long long)p->tokens,
	    (long long)p->messages);
	return c->repair ? cut_text(c, p, p->messages < p->is.least_messages, e) : 0;
}

static int check_part(struct check *c, struct part *p, struct err *e)
{
	bool tokens = true, messages = true;
	int rc = check_base(c, p, e);

	rc = rc < 0 ? rc : check_tokens(c, p, &tokens, e);
	rc = rc < 0 ? rc : check_messages(c, p, &messages, e);
	if (rc == 0 && c->repair && !(tokens && messages))
		rc = cut_text(c, p, !messages, e);
	p->state = PART_DONE;
	return rc < 0 || !tokens || !messages ? rc : check_end(c, p, e);
}

/* All segments, each after its parent; one that is open when it is met again is its own ancestor. */
static int check_segments(struct check *c, struct err *e)
{
	struct part **way;
	int rc = read_segments(c, e);

	way = rc < 0 ? NULL : calloc(c->parts + 1, sizeof(struct part *));
	if (rc == 0 && !way)
		return store_no_memory(c->s, e);
	for (size_t i = 0; rc == 0 && i < c->parts; i++) {
		struct part *p = &c->part[i];
		size_t steps = 0;

		for (; p && p->state == PART_NEW; p = find_part(c, p->is.parent)) {
			p->state = PART_OPEN;
			way[steps++] = p;
		}
		while (rc == 0 && steps > 0)
			rc = check_part(c, way[--steps], e);
	}
	free(way);
	return rc;
}

/* Whether the name of a row is one, and no other row's before it. */
static bool is_named(const struct store_conversation *row, size_t i)
{
	size_t len = strlen(row[i].name);

	for (size_t j = 0; j < i; j++)
		if (strcmp(row[j].name, row[i].name) == 0)
			return false;
	return len > 0 && utf8_valid(row[i].name, len) == len;
}

/* A row whose sum is wrong keeps what is plausible: its number, its name, and a segment that is there. */
static int check_conversation(struct check *c, struct store_conversation *row, size_t i, bool whole, struct err *e)
{
	const bool named = is_named(row, i), there = find_part(c, row[i].segment);
	int rc = 0;

	if (!whole || !named)
		say(c, "Row %lld of conversation is damaged, or has another one's name.", (long long)row[i].id);
	if (!there)
		say(c, "Row %lld of conversation names segment %lld, which is not there.", (long long)row[i].id,
		    (long long)row[i].segment);
	if (!c->repair || (whole && named && there))
		return 0;
	if (!named)
		snprintf(row[i].name, sizeof(row[i].name), "mended-%lld", (long long)row[i].id);
	if (!there) {
		row[i].segment = ++c->s->last;
		rc = store_segment_put(c->s, &(struct store_segment){ row[i].segment, 0, 0, 0, 0, 0 }, e);
		rc = rc < 0 ? rc : store_meta_put(c->s, "last", c->s->last, e);
	}
	return rc < 0 ? rc : store_conversation_put(c->s, &row[i], e);
}

static int check_conversations(struct check *c, struct err *e)
{
	struct store_conversation *row;
	int64_t count;
	size_t rows = 0;
	bool *whole;
	sqlite3_stmt *st = store_bind(c->s, STORE_CONVERSATIONS_UP, 0, NULL);
	int rc = store_number(c->s, "SELECT count(*) FROM conversation", NULL, &count, e);

	if (rc < 0)
		return rc;
	row = calloc((size_t)count + 1, sizeof(*row));
	whole = calloc((size_t)count + 1, sizeof(*whole));
	rc = row && whole ? 1 : store_no_memory(c->s, e);
	while (rc > 0 && (rc = store_step(c->s, st, e)) > 0 && rows < (size_t)count) {
		rc = store_conversation_read(c->s, st, &row[rows], &whole[rows], e) < 0 ? SINK_ENOMEM : 1;
		rows += rc > 0;
	}
	sqlite3_reset(st);
	for (size_t i = 0; rc >= 0 && i < rows; i++)
		rc = check_conversation(c, row, i, whole[i], e);
	for (size_t i = 0; i < rows; i++)
		free((void *)row[i].state);
	free(whole);
	free(row);
	return rc < 0 ? rc : 0;
}

/* Rows that belong to nothing, by their numbers; the deletion is repeated, since one may have been another's reason. */
static const struct stray {
	const char *what, *rows;
} stray[] = {
	{ "Row %lld of segment is the text of no conversation.",
	  "id FROM segment WHERE NOT EXISTS(SELECT 1 FROM conversation WHERE segment = segment.id) AND "
	  "NOT EXISTS(SELECT 1 FROM segment AS child WHERE child.parent = segment.id)" },
	{ "Rows %lld of token are of no segment.",
	  "DISTINCT segment FROM token WHERE NOT EXISTS(SELECT 1 FROM segment WHERE id = token.segment)" },
	{ "Rows %lld of message are of no segment.",
	  "DISTINCT segment FROM message WHERE NOT EXISTS(SELECT 1 FROM segment WHERE id = message.segment)" },
	{ "Rows %lld of event are of no conversation.",
	  "DISTINCT conversation FROM event WHERE NOT EXISTS(SELECT 1 FROM conversation WHERE id = conversation)" },
};

static int check_strays(struct check *c, struct err *e)
{
	char sql[400];
	sqlite3_stmt *st;
	int before, rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(stray) / sizeof(stray[0]); i++) {
		snprintf(sql, sizeof(sql), "SELECT %s", stray[i].rows);
		rc = prepare(c, sql, &st, e);
		if (rc < 0)
			return rc;
		while ((rc = store_step(c->s, st, e)) > 0) {
			say(c, stray[i].what, (long long)sqlite3_column_int64(st, 0));
			c->rebuild = true;
		}
		sqlite3_finalize(st);
		snprintf(sql, sizeof(sql), "DELETE %s", strstr(stray[i].rows, "FROM"));
		for (before = -1; c->repair && rc == 0 && before != sqlite3_total_changes(c->s->db);) {
			before = sqlite3_total_changes(c->s->db);
			rc = store_exec(c->s, sql, e);
		}
	}
	return rc;
}

/* Of the events of a conversation those behind the last damage stay; when none do, an empty row keeps the number. */
static int check_log(struct check *c, int64_t id, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(c->s, STORE_EVENTS, id, INT64_MIN, INT64_MAX);
	int64_t next = INT64_MIN, from = INT64_MIN, bad = INT64_MIN;
	struct store_row row;
	int rc;

	while ((rc = store_step(c->s, st, e)) > 0) {
		int64_t seq = sqlite3_column_int64(st, 1), count = sqlite3_column_int64(st, 2);
		bool whole = store_row_whole(st, STORE_EVENT, 0, 6) && count >= 0 && count < INT32_MAX &&
			     store_record_count(sqlite3_column_blob(st, 4), (size_t)sqlite3_column_bytes(st, 4), count);

		if (!whole || (next != INT64_MIN && seq != next && from != INT64_MIN)) {
			bad = seq;
			say(c, "Row %lld, %lld of event is damaged, or does not follow.", (long long)id,
			    (long long)seq);
		}
		from = !whole ? INT64_MIN : bad == seq || from == INT64_MIN ? seq : from;
		next = seq + (whole ? count : 1);
	}
	sqlite3_reset(st);
	if (rc < 0 || bad == INT64_MIN || !c->repair)
		return rc;
	rc = store_step(c->s, STORE_BIND(c->s, STORE_EVENT_DELETE, id, INT64_MIN, from == INT64_MIN ? INT64_MAX : from),
			e);
	row = store_row_begin(c->s, STORE_EVENT_PUT, STORE_EVENT);
	store_row_int(&row, id);
	store_row_int(&row, next > 1 ? next : 1);
	store_row_int(&row, 0);
	store_row_int(&row, 0);
	store_row_blob(&row, NULL, 0);
	return rc < 0 || from != INT64_MIN ? rc : store_row_end(&row, true, e);
}

static int check_events(struct check *c, struct err *e)
{
	sqlite3_stmt *st = NULL;
	int rc = prepare(c, "SELECT id FROM conversation", &st, e);

	while (rc >= 0 && (rc = store_step(c->s, st, e)) > 0)
		rc = check_log(c, sqlite3_column_int64(st, 0), e);
	sqlite3_finalize(st);
	return rc;
}

static int check_replies(struct check *c, struct err *e)
{
	sqlite3_stmt *st = NULL;
	char sql[80];
	int rc = prepare(c, "SELECT n, key, frame, sum FROM reply ORDER BY n", &st, e);

	while (rc >= 0 && (rc = store_step(c->s, st, e)) > 0) {
		if (store_row_whole(st, STORE_REPLY, 1, 3))
			continue;
		say(c, "Row %lld of reply is damaged.", (long long)sqlite3_column_int64(st, 0));
		snprintf(sql, sizeof(sql), "DELETE FROM reply WHERE n = %lld", (long long)sqlite3_column_int64(st, 0));
		if (c->repair)
			rc = store_exec(c->s, sql, e);
	}
	sqlite3_finalize(st);
	return rc;
}

static int check_index(struct check *c, struct err *e)
{
	int rc = 0;

	if (!c->repair || !c->rebuild) {
		rc = store_exec(c->s, "INSERT INTO search(search, rank) VALUES('integrity-check', 1)", e);
		if (rc != SINK_EFORMAT)
			return rc;
		say(c, "The index search does not match the texts of message.");
		rc = 0;
	}
	return c->repair ? store_exec(c->s, "INSERT INTO search(search) VALUES('rebuild')", e) : 0;
}

/* Everything once, in this order: what is mended first is what others are compared with. */
static int check_rows(struct check *c, struct err *e)
{
	static int (*const all[])(struct check *, struct err *) = { check_meta,	  check_segments, check_conversations,
								    check_strays, check_events,	  check_replies,
								    check_index };
	int rc = store_begin(c->s, e);
	struct err why;

	c->rebuild = false;
	for (size_t i = 0; rc == 0 && i < sizeof(all) / sizeof(all[0]); i++) {
		rc = all[i](c, &why);
		if (rc == SINK_EFORMAT && !c->repair) {
			say(c, "%s", why.text);
			rc = 0;
		} else if (rc < 0) {
			err_set(e, rc, "%s", why.text);
		}
	}
	if (rc == 0 && c->repair && c->rebuild)
		rc = store_meta_put(c->s, "untidy", 1, e);
	return store_end(c->s, rc, e);
}

/* Whether the pages are sound. */
static int check_pages(struct check *c, struct err *e)
{
	char sql[64];
	sqlite3_stmt *st = NULL;
	int rc, before = c->found;

	snprintf(sql, sizeof(sql), "PRAGMA integrity_check(%d)", FINDINGS_OF_PAGES);
	rc = prepare(c, sql, &st, e);
	while (rc >= 0 && (rc = store_step(c->s, st, e)) > 0)
		if (strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0)
			say(c, "Of the file: %s.", (const char *)sqlite3_column_text(st, 0));
	sqlite3_finalize(st);
	return rc < 0 ? rc : c->found == before ? 0 : SINK_EFORMAT;
}

static const struct salvage {
	enum store_table table;
	int from; /* where the columns of the sum begin */
	const char *name, *columns, *up, *down;
} salvage[] = {
	{ STORE_META, 0, "meta", "key, value, sum", "key", "key DESC" },
	{ STORE_CONVERSATION, 0, "conversation", STORE_OF_CONVERSATION, "id", "id DESC" },
	{ STORE_SEGMENT, 0, "segment", STORE_OF_SEGMENT, "id", "id DESC" },
	{ STORE_MESSAGE, 1, "message", "id, " STORE_OF_MESSAGE, "id", "id DESC" },
	{ STORE_TOKEN, 0, "token", STORE_OF_TOKEN, "segment, first", "segment DESC, first DESC" },
	{ STORE_EVENT, 0, "event", STORE_OF_EVENT, "conversation, seq", "conversation DESC, seq DESC" },
	{ STORE_REPLY, 1, "reply", "n, key, frame, sum", "n", "n DESC" },
};

/* Copies rows that are whole for as long as rows can be read. */
static int copy_rows(sqlite3 *from, struct store *to, const struct salvage *v, const char *order, struct err *e)
{
	char sql[400];
	sqlite3_stmt *get = NULL, *put = NULL;
	int columns, rc;

	snprintf(sql, sizeof(sql), "SELECT %s FROM %s ORDER BY %s", v->columns, v->name, order);
	if (sqlite3_prepare_v2(from, sql, -1, &get, NULL) != SQLITE_OK)
		return 0;
	columns = sqlite3_column_count(get);
	snprintf(sql, sizeof(sql), "INSERT OR REPLACE INTO %s(%s) VALUES(%.*s)", v->name, v->columns, 2 * columns - 1,
		 "?,?,?,?,?,?,?,?,?,?,?");
	rc = sqlite3_prepare_v2(to->db, sql, -1, &put, NULL);
	while (rc == SQLITE_OK && sqlite3_step(get) == SQLITE_ROW) {
		if (!store_row_whole(get, v->table, v->from, columns - v->from))
			continue;
		for (int i = 0; rc == SQLITE_OK && i < columns; i++)
			rc = sqlite3_bind_value(put, i + 1, sqlite3_column_value(get, i));
		rc = rc == SQLITE_OK && sqlite3_step(put) == SQLITE_DONE ? SQLITE_OK : sqlite3_errcode(to->db);
		sqlite3_reset(put);
	}
	rc = rc == SQLITE_OK ? 0 : store_fail(to, rc, e);
	sqlite3_finalize(get);
	sqlite3_finalize(put);
	return rc;
}

/* Into a new store what the old file still has; then the old one is set aside. */
static int copy_file(void *arg, struct store *empty, struct err *e)
{
	struct check *c = arg;
	char name[4096];
	sqlite3 *from = NULL;
	int rc = store_exec(empty, "BEGIN", e);

	if (rc == 0 && sqlite3_open_v2(c->s->path, &from, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK) {
		sqlite3_db_config(from, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		sqlite3_exec(from, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL);
		for (size_t i = 0; rc == 0 && i < sizeof(salvage) / sizeof(salvage[0]); i++) {
			rc = copy_rows(from, empty, &salvage[i], salvage[i].up, e);
			rc = rc < 0 ? rc : copy_rows(from, empty, &salvage[i], salvage[i].down, e);
		}
	}
	sqlite3_close(from);
	rc = rc < 0 ? rc : store_exec(empty, "INSERT INTO search(search) VALUES('rebuild'); COMMIT", e);
	return rc < 0 ? rc : store_file_set_aside(c->s, name, sizeof(name), e);
}

static int check_file(struct check *c, struct err *e)
{
	struct err why = { 0 };
	int rc = store_file_peek(c->s, &why);

	rc = rc < 0 ? rc : store_file_open(c->s, &why);
	if (rc == 0 && !c->repair)
		sqlite3_db_config(c->s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	if (rc == SINK_EFORMAT)
		say(c, "%s", why.text);
	rc = rc < 0 ? rc : check_pages(c, &why);
	if (rc == SINK_EFORMAT && c->repair) {
		store_file_close(c->s);
		rc = store_file_make(c->s, copy_file, c, &why);
		rc = rc < 0 ? rc : store_file_open(c->s, &why);
	}
	if (rc == SINK_EFORMAT && c->found)
		return c->s->db ? check_rows(c, e) : 0;
	if (rc < 0)
		return err_set(e, rc, "%s", why.text);
	return check_rows(c, e);
}

int store_check(const char *dir, bool repair, void (*tell)(void *arg, const char *text), void *arg, struct err *e)
{
	struct check c = { .repair = repair, .tell = tell, .arg = arg };
	int rc = store_file_new(dir, &c.s, e);

	if (rc < 0)
		return rc;
	rc = store_file_lock(c.s, e);
	rc = rc < 0 ? rc : check_file(&c, e);
	if (rc == 0 && repair) { /* what is left now is what counts */
		c.repair = false;
		c.found = 0;
		rc = check_rows(&c, e);
	}
	free(c.part);
	store_file_free(c.s);
	return rc < 0 ? rc : c.found;
}
