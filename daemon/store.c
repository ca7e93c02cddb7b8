/*
 * Owns how a commit is written: what a change does to the tables.
 *
 * The steady case is one token and one event, and touches nothing but the ends of two logs. All that costs more hangs
 * on a flag of the change: small rows are put together, what nobody sees is deleted.
 *
 * A commit that failed in its last moment may be in the file all the same. So giving it again must do no harm: what a
 * change writes replaces what stands there from its first token, message or event on, and merging leaves the rows of
 * the very commit alone.
 */
#include "store_file.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/*
 * Rows are put together up to what SQLite keeps in a page of 4096 bytes, four of them, without a chain of pages: with
 * one, each comparison on the way to a row would read the chains of others.
 */
enum { LOG_PAGES = 1000, ROW_BYTES = 960, ROW_IDS = ROW_BYTES / 4, ROW_FULL = ROW_BYTES * 7 / 8 };

/* Logs of rows, of tokens and of events: `first` and a payload, which are put together alike. */
struct log {
	enum store_table table;
	enum store_statement put, delete, up, down;
	int extra; /* columns before the payload: of events their number, and the bytes of all events before them */
};
static const struct log tokens = {
	STORE_TOKEN, STORE_TOKEN_PUT, STORE_TOKEN_DELETE, STORE_TOKENS, STORE_TOKENS_DOWN, 0
};
static const struct log events = {
	STORE_EVENT, STORE_EVENT_PUT, STORE_EVENT_DELETE, STORE_EVENTS, STORE_EVENTS_DOWN, 2
};

struct piece {
	int64_t first, count, at;
	const void *data;
	size_t size;
};

static int put_log(struct store *s, const struct log *log, int64_t owner, const struct piece *p, bool whole,
		   struct err *e)
{
	struct store_row r = store_row_begin(s, log->put, log->table);

	store_row_int(&r, owner);
	store_row_int(&r, p->first);
	if (log->extra) {
		store_row_int(&r, p->count);
		store_row_int(&r, p->at);
	}
	store_row_blob(&r, p->data, p->size);
	return store_row_end(&r, whole, e);
}

/* The row that a statement stands on. */
static struct piece piece_at(sqlite3_stmt *st, const struct log *log)
{
	struct piece p = { .first = sqlite3_column_int64(st, 1),
			   .data = sqlite3_column_blob(st, 2 + log->extra),
			   .size = (size_t)sqlite3_column_bytes(st, 2 + log->extra) };

	p.count = log->extra ? sqlite3_column_int64(st, 2) : (int64_t)(p.size / sizeof(int32_t));
	p.at = log->extra ? sqlite3_column_int64(st, 3) : 0;
	return p;
}

static int delete_log(struct store *s, const struct log *log, int64_t owner, int64_t from, int64_t below, struct err *e)
{
	return store_step(s, STORE_BIND(s, log->delete, owner, from, below), e);
}

/* The rows at the end, below `below`, that may be put together: how many, how many bytes, and where they begin. */
static int find_small(struct store *s, const struct log *log, int64_t owner, int64_t below, size_t *rows, size_t *bytes,
		      int64_t *from, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, log->down, owner, below);
	int rc;

	*rows = *bytes = 0;
	while ((rc = store_step(s, st, e)) > 0) {
		struct piece p = piece_at(st, log);

		if (p.size > ROW_FULL || !store_row_whole(st, log->table, 0, 4 + log->extra) ||
		    (*rows && p.first + p.count != *from))
			break;
		*from = p.first;
		*rows += 1;
		*bytes += p.size;
	}
	sqlite3_reset(st);
	return rc < 0 ? rc : 0;
}

/* Copies these rows. */
static int read_small(struct store *s, const struct log *log, int64_t owner, int64_t from, int64_t below, size_t rows,
		      struct piece *piece, char *bytes, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, log->up, owner, from, below);
	int rc = 0;

	for (size_t i = 0; i < rows && (rc = store_step(s, st, e)) > 0; i++) {
		piece[i] = piece_at(st, log);
		memcpy(bytes, piece[i].data, piece[i].size);
		piece[i].data = bytes;
		bytes += piece[i].size;
	}
	sqlite3_reset(st);
	return rc < 0 ? rc : 0;
}

static int write_merged(struct store *s, const struct log *log, int64_t owner, const struct piece *piece, size_t rows,
			struct err *e)
{
	struct piece sum = piece[0];
	int rc = 0;

	for (size_t i = 1; rc == 0 && i < rows; i++) {
		if (sum.size + piece[i].size > ROW_BYTES) {
			rc = put_log(s, log, owner, &sum, true, e);
			sum = piece[i];
			continue;
		}
		sum.count += piece[i].count;
		sum.size += piece[i].size;
	}
	return rc < 0 ? rc : put_log(s, log, owner, &sum, true, e);
}

/* Small rows at the end of a log become few large ones. A damaged row stays as it is, and what is before it. */
static int merge(struct store *s, const struct log *log, int64_t owner, int64_t below, struct err *e)
{
	struct piece *piece;
	size_t rows, bytes;
	int64_t from = 0;
	char *copy;
	int rc = find_small(s, log, owner, below, &rows, &bytes, &from, e);

	if (rc < 0 || rows < 2)
		return rc;
	piece = calloc(rows, sizeof(*piece));
	copy = malloc(bytes + 1);
	if (!piece || !copy)
		rc = store_no_memory(s, e);
	rc = rc < 0 ? rc : read_small(s, log, owner, from, below, rows, piece, copy, e);
	rc = rc < 0 ? rc : delete_log(s, log, owner, from, below, e);
	rc = rc < 0 ? rc : write_merged(s, log, owner, piece, rows, e);
	free(copy);
	free(piece);
	return rc;
}

/* The oldest rows go, until the rest has no more bytes than it may; the newest one stays. */
static int prune_events(struct store *s, int64_t id, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, STORE_EVENT_LAST, id);
	int64_t end, seq = INT64_MIN;
	int rc = store_step(s, st, e);

	if (rc <= 0)
		return rc;
	end = sqlite3_column_int64(st, 1);
	sqlite3_reset(st);
	st = STORE_BIND(s, STORE_EVENT_SIZES, id);
	while ((rc = store_step(s, st, e)) > 0) {
		seq = sqlite3_column_int64(st, 0);
		if (end - sqlite3_column_int64(st, 1) <= s->event_bytes)
			break;
	}
	sqlite3_reset(st);
	return rc < 0 ? rc : delete_log(s, &events, id, INT64_MIN, seq, e);
}

int store_cut_tokens(struct store *s, int64_t segment, int64_t from, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, STORE_TOKENS_DOWN, segment, from);
	struct piece p;
	void *copy;
	bool whole;
	int rc = delete_log(s, &tokens, segment, from, INT64_MAX, e);

	rc = rc < 0 ? rc : store_step(s, st, e);
	if (rc <= 0)
		return rc;
	p = piece_at(st, &tokens); /* the last row that is left: its end may go too */
	if (p.count <= from - p.first) {
		sqlite3_reset(st);
		return 0;
	}
	p.size = (size_t)(from - p.first) * sizeof(int32_t);
	whole = store_row_whole(st, STORE_TOKEN, 0, 4);
	copy = malloc(p.size);
	if (copy)
		memcpy(copy, p.data, p.size);
	sqlite3_reset(st);
	if (!copy)
		return store_no_memory(s, e);
	p.data = copy;
	rc = put_log(s, &tokens, segment, &p, whole, e);
	free(copy);
	return rc;
}

/* Takes the text of a row that a statement stands on, in columns 0 and 1, out of the index. */
static int delete_from_index(struct store *s, sqlite3_stmt *row, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, STORE_INDEX_DELETE, sqlite3_column_int64(row, 0));
	int rc = sqlite3_bind_value(st, 2, sqlite3_column_value(row, 1));

	return rc == SQLITE_OK ? store_step(s, st, e) : store_fail(s, rc, e);
}

int store_cut_messages(struct store *s, int64_t segment, int64_t from, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, STORE_MESSAGES_FROM, segment, from);
	int rc, failed = 0;

	while (failed == 0 && (rc = store_step(s, st, e)) > 0) {
		s->removed = true;
		failed = delete_from_index(s, st, e);
	}
	sqlite3_reset(st);
	rc = failed < 0 ? failed : rc;
	return rc < 0 ? rc : store_step(s, STORE_BIND(s, STORE_MESSAGE_DELETE, segment, from), e);
}

int store_segment_put(struct store *s, const struct store_segment *g, struct err *e)
{
	struct store_row r = store_row_begin(s, STORE_SEGMENT_PUT, STORE_SEGMENT);

	store_row_int(&r, g->id);
	store_row_int(&r, g->parent);
	store_row_int(&r, g->tokens);
	store_row_int(&r, g->messages);
	store_row_int(&r, g->least_tokens);
	store_row_int(&r, g->least_messages);
	return store_row_end(&r, true, e);
}

/* A segment is left with no more than this; what it does not take of its parent any more may be nobody's. */
static int shorten(struct store *s, struct store_segment *g, int64_t to_tokens, int64_t to_messages, int64_t *loose,
		   struct err *e)
{
	int rc = store_cut_tokens(s, g->id, to_tokens, e);

	rc = rc < 0 ? rc : store_cut_messages(s, g->id, to_messages, e);
	*loose = to_tokens < g->tokens || to_messages < g->messages ? g->parent : 0;
	if (rc < 0 || (to_tokens >= g->least_tokens && to_messages >= g->least_messages))
		return rc;
	g->tokens = store_least(g->tokens, to_tokens);
	g->messages = store_least(g->messages, to_messages);
	g->least_tokens = store_least(g->least_tokens, to_tokens);
	g->least_messages = store_least(g->least_messages, to_messages);
	return store_segment_put(s, g, e);
}

int store_loosen(struct store *s, int64_t segment, struct err *e)
{
	if (s->loose_count == s->loose_room) {
		size_t room = s->loose_room ? 2 * s->loose_room : 16;
		int64_t *loose = realloc(s->loose, room * sizeof(*loose));

		if (!loose)
			return store_no_memory(s, e);
		s->loose = loose;
		s->loose_room = room;
	}
	s->loose[s->loose_count++] = segment;
	return 0;
}

/* Deletes what nobody sees of a segment. *next: the segment to look at then, 0 for none. */
static int collect_one(struct store *s, int64_t id, int64_t *next, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, STORE_SEGMENT_USE, id);
	int64_t children, seen_tokens, seen_messages;
	struct store_segment segment;
	bool headed;
	int rc = store_step(s, st, e);

	*next = 0;
	if (rc <= 0)
		return rc;
	headed = sqlite3_column_int(st, 0);
	children = sqlite3_column_int64(st, 1);
	seen_tokens = sqlite3_column_int64(st, 2);
	seen_messages = sqlite3_column_int64(st, 3);
	sqlite3_reset(st);
	rc = headed ? 0 : store_segment_get(s, id, &segment, e);
	if (rc <= 0) /* what is damaged is left for mending */
		return rc == SINK_EFORMAT ? 0 : rc;
	if (children)
		return shorten(s, &segment, seen_tokens, seen_messages, next, e);
	*next = segment.parent;
	rc = store_cut_tokens(s, id, INT64_MIN, e);
	rc = rc < 0 ? rc : store_cut_messages(s, id, INT64_MIN, e);
	return rc < 0 ? rc : store_step(s, STORE_BIND(s, STORE_SEGMENT_DELETE, id), e);
}

int store_collect(struct store *s, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < s->loose_count; i++)
		for (int64_t id = s->loose[i]; rc == 0 && id;)
			rc = collect_one(s, id, &id, e);
	s->loose_count = 0;
	return rc;
}

/* The end of a segment's own tokens or messages, or what it begins with. */
static int end_of(struct store *s, enum store_statement last, int64_t segment, bool in_tokens, int64_t *end,
		  struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, last, segment);
	struct store_segment base;
	int rc = store_step(s, st, e);

	if (rc > 0) {
		*end = sqlite3_column_int64(st, 0);
		sqlite3_reset(st);
		return 0;
	}
	rc = rc < 0 ? rc : store_segment_get(s, segment, &base, e);
	if (rc == 0)
		return err_set(e, SINK_EINVAL, "There is no segment %lld to write to.", (long long)segment);
	*end = in_tokens ? base.tokens : base.messages;
	return rc < 0 ? rc : 0;
}

/* Forgets text of a segment, its own and what it begins with. */
static int cut(struct store *s, int64_t segment, int64_t to_tokens, int64_t to_messages, struct err *e)
{
	struct store_segment g;
	int64_t loose = 0;
	int rc = store_segment_get(s, segment, &g, e);

	if (rc == 0)
		return err_set(e, SINK_EINVAL, "There is no segment %lld to cut.", (long long)segment);
	rc = rc < 0 ? rc : shorten(s, &g, to_tokens, to_messages, &loose, e);
	return rc < 0 || !loose ? rc : store_loosen(s, loose, e);
}

static int put_tokens(struct store *s, const struct store_change *c, struct err *e)
{
	int64_t end;
	int rc = end_of(s, STORE_TOKEN_LAST, c->segment, true, &end, e);

	if (rc == 0 && end > c->first_token)
		rc = cut(s, c->segment, c->first_token, INT64_MAX, e);
	else if (rc == 0 && end < c->first_token)
		rc = err_set(e, SINK_EINVAL, "Segment %lld has %lld tokens; token %lld cannot follow.",
			     (long long)c->segment, (long long)end, (long long)c->first_token);
	for (size_t at = 0; rc == 0 && at < c->ids; at += ROW_IDS) {
		size_t count = c->ids - at < ROW_IDS ? c->ids - at : ROW_IDS;
		struct piece p = { .first = c->first_token + (int64_t)at,
				   .data = c->id_list + at,
				   .size = count * sizeof(int32_t) };

		rc = put_log(s, &tokens, c->segment, &p, true, e);
	}
	return rc;
}

static int put_message_row(struct store *s, enum store_statement which, int64_t segment, const struct store_message *m,
			   struct err *e)
{
	struct store_row r = store_row_begin(s, which, STORE_MESSAGE);

	store_row_int(&r, segment);
	store_row_int(&r, m->number);
	store_row_int(&r, m->role);
	store_row_int(&r, m->first_token);
	store_row_int(&r, m->tokens);
	store_row_real(&r, m->time);
	store_row_text(&r, m->finish, m->finish ? strlen(m->finish) : 0);
	store_row_int(&r, m->raw);
	store_row_text(&r, m->text, m->len);
	return store_row_end(&r, true, e);
}

static int put_message(struct store *s, int64_t segment, const struct store_message *m, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, STORE_MESSAGE_FIND, segment, m->number);
	bool same = false;
	int64_t id = 0, end;
	int rc = store_step(s, st, e), there = rc;

	if (rc > 0) {
		id = sqlite3_column_int64(st, 0);
		same = (size_t)sqlite3_column_bytes(st, 1) == m->len &&
		       (m->len == 0 || memcmp(sqlite3_column_blob(st, 1), m->text, m->len) == 0);
		rc = same ? 0 : delete_from_index(s, st, e);
		sqlite3_reset(st);
	} else if (rc == 0) {
		rc = end_of(s, STORE_MESSAGE_LAST, segment, false, &end, e);
		if (rc == 0 && end < m->number)
			rc = err_set(e, SINK_EINVAL, "Segment %lld has %lld messages; message %lld cannot follow.",
				     (long long)segment, (long long)end, (long long)m->number);
	}
	rc = rc < 0 ? rc : put_message_row(s, there ? STORE_MESSAGE_UPDATE : STORE_MESSAGE_INSERT, segment, m, e);
	if (rc < 0 || same)
		return rc;
	st = STORE_BIND(s, STORE_INDEX_PUT, there ? id : sqlite3_last_insert_rowid(s->db));
	rc = sqlite3_bind_text64(st, 2, m->text, m->len, SQLITE_STATIC, SQLITE_UTF8);
	return rc == SQLITE_OK ? store_step(s, st, e) : store_fail(s, rc, e);
}

/* Messages that the segment begins with become its own, when they are given up to its first own one. */
static int put_messages(struct store *s, const struct store_change *c, struct err *e)
{
	int64_t first = c->message[0].number;
	struct store_segment base = { 0 };
	int rc = store_segment_get(s, c->segment, &base, e);

	if (rc > 0 && first + (int64_t)c->messages < base.messages)
		return err_set(e, SINK_EINVAL, "Message %lld is another segment's.", (long long)first);
	if (rc > 0 && first < base.messages) {
		base.messages = first;
		rc = store_segment_put(s, &base, e);
	}
	for (size_t i = 0; rc >= 0 && i < c->messages; i++)
		rc = put_message(s, c->segment, &c->message[i], e);
	return rc < 0 ? rc : 0;
}

static int put_events(struct store *s, const struct store_change *c, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, STORE_EVENT_LAST, c->id);
	struct piece p = { c->first_seq, c->events, 0, c->record, c->record_size };
	int64_t next = c->first_seq;
	int rc = store_step(s, st, e);

	if (rc > 0 && sqlite3_column_int64(st, 0) > c->first_seq) {
		sqlite3_reset(st);
		rc = delete_log(s, &events, c->id, c->first_seq, INT64_MAX, e);
		rc = rc < 0 ? rc : store_step(s, st, e);
	}
	if (rc > 0) {
		next = sqlite3_column_int64(st, 0);
		p.at = sqlite3_column_int64(st, 1);
	}
	sqlite3_reset(st);
	if (rc >= 0 && next != c->first_seq)
		rc = err_set(e, SINK_EINVAL, "The next event of conversation %lld is %lld, not %lld.", (long long)c->id,
			     (long long)next, (long long)c->first_seq);
	return rc < 0 ? rc : put_log(s, &events, c->id, &p, true, e);
}

int store_conversation_put(struct store *s, const struct store_conversation *row, struct err *e)
{
	struct store_row r = store_row_begin(s, STORE_CONVERSATION_PUT, STORE_CONVERSATION);

	store_row_int(&r, row->id);
	store_row_int(&r, row->segment);
	store_row_text(&r, row->name, strlen(row->name));
	store_row_real(&r, row->created);
	store_row_real(&r, row->used);
	store_row_blob(&r, row->state, row->state_size);
	return store_row_end(&r, true, e);
}

/* Notes that a conversation leaves the segment that it has now, unless that is `stays`. */
static int leave(struct store *s, int64_t id, int64_t stays, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, STORE_CONVERSATION_GET, id);
	int64_t head;
	int rc = store_step(s, st, e);

	if (rc <= 0)
		return rc;
	head = sqlite3_column_int64(st, 1);
	sqlite3_reset(st);
	return head == stays ? 0 : store_loosen(s, head, e);
}

static int take_away(struct store *s, int64_t id, struct err *e)
{
	int rc = leave(s, id, 0, e);

	s->removed = true;
	rc = rc < 0 ? rc : store_step(s, STORE_BIND(s, STORE_CONVERSATION_DELETE, id), e);
	return rc < 0 ? rc : delete_log(s, &events, id, INT64_MIN, INT64_MAX, e);
}

/* Notes how much text there is at least. A segment that is damaged is left for mending, and fails nobody's commit. */
static int note_end(struct store *s, int64_t segment, struct err *e)
{
	struct store_segment g;
	int64_t end_tokens, end_messages;
	int rc = store_segment_get(s, segment, &g, e);

	if (rc <= 0)
		return rc == SINK_EFORMAT ? 0 : rc;
	rc = end_of(s, STORE_TOKEN_LAST, segment, true, &end_tokens, e);
	rc = rc < 0 ? rc : end_of(s, STORE_MESSAGE_LAST, segment, false, &end_messages, e);
	if (rc < 0 || (end_tokens <= g.least_tokens && end_messages <= g.least_messages))
		return rc;
	g.least_tokens = end_tokens > g.least_tokens ? end_tokens : g.least_tokens;
	g.least_messages = end_messages > g.least_messages ? end_messages : g.least_messages;
	return store_segment_put(s, &g, e);
}

static int merge_all(struct store *s, const struct store_change *c, struct err *e)
{
	int rc = merge(s, &tokens, c->segment, c->ids ? c->first_token : INT64_MAX, e);

	rc = rc < 0 ? rc : merge(s, &events, c->id, c->events ? c->first_seq : INT64_MAX, e);
	rc = rc < 0 ? rc : note_end(s, c->segment, e);
	return rc < 0 ? rc : prune_events(s, c->id, e);
}

static int change_one(struct store *s, const struct store_change *c, struct err *e)
{
	int rc = 0;

	if (c->removes)
		return take_away(s, c->id, e);
	if (c->begins)
		rc = store_segment_put(s,
				       &(struct store_segment){ c->segment, c->parent, c->base_tokens, c->base_messages,
								c->base_tokens, c->base_messages },
				       e);
	if (rc == 0 && c->writes_row && (rc = leave(s, c->row.id, c->row.segment, e)) == 0)
		rc = store_conversation_put(s, &c->row, e);
	if (rc == 0 && c->cuts)
		rc = cut(s, c->segment, c->cut_tokens, c->cut_messages, e);
	if (rc == 0 && c->ids)
		rc = put_tokens(s, c, e);
	if (rc == 0 && c->messages)
		rc = put_messages(s, c, e);
	if (rc == 0 && c->events)
		rc = put_events(s, c, e);
	if (rc == 0 && c->merges)
		rc = merge_all(s, c, e);
	s->last = -store_least(-s->last, store_least(-c->id, -c->segment));
	return rc;
}

static int put_replies(struct store *s, const struct store_reply *reply, size_t replies, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < replies; i++) {
		struct store_row r = store_row_begin(s, STORE_REPLY_PUT, STORE_REPLY);

		store_row_int(&r, reply[i].key);
		store_row_blob(&r, reply[i].frame, reply[i].size);
		rc = store_row_end(&r, true, e);
	}
	return rc < 0 || !replies ? rc : store_step(s, STORE_BIND(s, STORE_REPLY_PRUNE, STORE_REPLIES), e);
}

static int write_all(struct store *s, const struct store_change *change, size_t changes,
		     const struct store_reply *reply, size_t replies, bool durable, struct err *e)
{
	int64_t last = s->last;
	int before = sqlite3_total_changes(s->db), rc = store_begin(s, e);

	s->loose_count = 0;
	for (size_t i = 0; rc == 0 && i < changes; i++)
		rc = change_one(s, &change[i], e);
	rc = rc < 0 ? rc : put_replies(s, reply, replies, e);
	rc = rc < 0 ? rc : store_collect(s, e);
	if (rc == 0 && s->last != last)
		rc = store_meta_put(s, "last", s->last, e);
	if (rc == 0 && s->removed && !s->untidy)
		rc = store_meta_put(s, "untidy", 1, e);
	/* Only what writes is synced: a commit for the sake of those before it writes something. */
	if (rc == 0 && durable && sqlite3_total_changes(s->db) == before)
		rc = store_meta_put(s, "last", s->last, e);
	rc = store_end(s, rc, e);
	if (rc < 0)
		s->last = last;
	return rc;
}

int store_commit(struct store *s, const struct store_change *change, size_t changes, const struct store_reply *reply,
		 size_t replies, bool durable, struct err *e)
{
	int rc = store_ready(s, e);

	if (rc == 0 && s->full != durable) {
		rc = store_exec(s, durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", e);
		s->full = durable;
	}
	s->removed = false;
	rc = rc < 0 ? rc : write_all(s, change, changes, reply, replies, durable, e);
	if (rc == SINK_EFORMAT && e)
		e->code = SINK_EIO; /* to a writer a damaged file is one more way in which the disk failed */
	if (rc < 0)
		return rc == SINK_EFORMAT ? SINK_EIO : rc;
	s->untidy = s->untidy || s->removed;
	/* The commit stands whatever becomes of this; store_fail() sees to it that the next call looks. */
	if (s->log_pages >= LOG_PAGES)
		store_checkpoint(s, false, NULL);
	return 0;
}
