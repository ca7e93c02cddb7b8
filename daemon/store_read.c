/*
 * Owns what stands in a row and everything that is read: rows with their sums, the list, texts, events, search.
 *
 * Nothing is believed before its sum was compared, so the worst that a damaged file does is to have less in it. The
 * list gives what can be read even when the middle of its table cannot: from the beginning up to the damage, and from
 * the end down to it.
 */
#include "store_file.h"

#include <stdlib.h>
#include <string.h>

#include "utf8.h"

enum { TRIGRAMS = 32 };

static void bind_key(struct store *s, enum store_statement which, const char *key)
{
	sqlite3_reset(s->statement[which]);
	sqlite3_bind_text(s->statement[which], 1, key, -1, SQLITE_STATIC);
}

int store_meta_get(struct store *s, const char *key, int64_t *value, struct err *e)
{
	sqlite3_stmt *st = s->statement[STORE_META_GET];
	int rc;

	bind_key(s, STORE_META_GET, key);
	rc = store_step(s, st, e);
	if (rc <= 0)
		return rc;
	rc = store_row_whole(st, STORE_META, 0, 3);
	*value = sqlite3_column_int64(st, 1);
	sqlite3_reset(st);
	return rc;
}

int store_meta_put(struct store *s, const char *key, int64_t value, struct err *e)
{
	struct store_row r = store_row_begin(s, STORE_META_PUT, STORE_META);

	store_row_text(&r, key, strlen(key));
	store_row_int(&r, value);
	return store_row_end(&r, true, e);
}

/* Makes room for one element more; doubles. */
static void *grow(void *list, size_t count, size_t size)
{
	if (count & (count - 1) || count == 1)
		return list;
	return realloc(list, (count ? 2 * count : 2) * size);
}

/* Copies a text or blob, and returns where it ends. */
static char *copy_column(sqlite3_stmt *st, int column, char *to)
{
	const void *from = sqlite3_column_blob(st, column);
	size_t size = from ? (size_t)sqlite3_column_bytes(st, column) : 0;

	return size ? (char *)memcpy(to, from, size) + size : to;
}

int store_conversation_read(struct store *s, sqlite3_stmt *st, struct store_conversation *ret, bool *whole,
			    struct err *e)
{
	size_t size = (size_t)sqlite3_column_bytes(st, 5);
	bool named = sqlite3_column_bytes(st, 2) <= STREAM_NAME;
	char *state = NULL;

	*whole = named && store_row_whole(st, STORE_CONVERSATION, 0, 7);
	if (*whole && !(state = malloc(size + 1))) {
		*whole = false;
		return store_no_memory(s, e);
	}
	*ret = (struct store_conversation){ .id = sqlite3_column_int64(st, 0),
					    .segment = sqlite3_column_int64(st, 1),
					    .created = sqlite3_column_double(st, 3),
					    .used = sqlite3_column_double(st, 4),
					    .state = state,
					    .state_size = state ? size : 0 };
	if (named)
		copy_column(st, 2, ret->name);
	if (state)
		copy_column(st, 5, state);
	return 0;
}

int store_segment_get(struct store *s, int64_t id, struct store_segment *ret, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, STORE_SEGMENT_GET, id);
	int rc = store_step(s, st, e);

	if (rc <= 0)
		return rc;
	*ret = (struct store_segment){ id,
				       sqlite3_column_int64(st, 1),
				       sqlite3_column_int64(st, 2),
				       sqlite3_column_int64(st, 3),
				       sqlite3_column_int64(st, 4),
				       sqlite3_column_int64(st, 5) };
	rc = store_row_whole(st, STORE_SEGMENT, 0, 7) ? 1 : store_damaged(s, e, "row %lld of segment", (long long)id);
	sqlite3_reset(st);
	return rc;
}

struct listing {
	struct store *store;
	struct store_conversation *row;
	size_t rows;
	int damaged; /* rows that were left out */
};

static int list_row(struct listing *l, sqlite3_stmt *st, struct err *e)
{
	struct store_conversation *row = grow(l->row, l->rows, sizeof(*row));
	bool whole;
	int rc;

	if (!row)
		return store_no_memory(l->store, e);
	l->row = row;
	rc = store_conversation_read(l->store, st, &row[l->rows], &whole, e);
	l->rows += whole;
	l->damaged += rc == 0 && !whole;
	return rc;
}

/* One way through the table. SINK_EFORMAT: it could not be read to its end. */
static int list_rows(struct listing *l, enum store_statement way, const int64_t *until, struct err *e)
{
	sqlite3_stmt *st = store_bind(l->store, way, 0, NULL);
	int rc, failed = 0;

	while (failed == 0 && (rc = store_step(l->store, st, e)) > 0) {
		if (until && sqlite3_column_int64(st, 0) <= *until)
			break;
		failed = list_row(l, st, e);
	}
	sqlite3_reset(st);
	return failed < 0 ? failed : rc < 0 ? rc : 0;
}

/* A number of a log's end; 0 when it cannot be read, which is told when the log itself is. */
static int64_t counted(struct store *s, enum store_statement which, int64_t owner, int64_t otherwise)
{
	sqlite3_stmt *st = STORE_BIND(s, which, owner);
	int rc = store_step(s, st, NULL);
	int64_t n = rc > 0 ? sqlite3_column_int64(st, 0) : rc == 0 ? otherwise : 0;

	sqlite3_reset(st);
	return n < 0 ? 0 : n;
}

static void count_row(struct store *s, struct store_conversation *c)
{
	struct store_segment base = { 0 };

	if (store_segment_get(s, c->segment, &base, NULL) <= 0)
		base = (struct store_segment){ 0 };
	c->tokens = counted(s, STORE_TOKEN_LAST, c->segment, base.tokens);
	c->messages = counted(s, STORE_MESSAGE_LAST, c->segment, base.messages);
	c->first_seq = counted(s, STORE_EVENT_FIRST, c->id, 1);
	c->seq = counted(s, STORE_EVENT_LAST, c->id, c->first_seq);
}

static int used_last_first(const void *a, const void *b)
{
	const struct store_conversation *x = a, *y = b;

	if (x->used != y->used)
		return x->used < y->used ? 1 : -1;
	return x->id < y->id ? 1 : -1;
}

int store_list(struct store *s, void (*each)(void *arg, const struct store_conversation *row), void *arg,
	       int64_t *last_number, struct err *e)
{
	struct listing l = { .store = s };
	int64_t until;
	int rc = store_ready(s, e);

	rc = rc < 0 ? rc : list_rows(&l, STORE_CONVERSATIONS_UP, NULL, e);
	if (rc == SINK_EFORMAT) {
		l.damaged++;
		until = l.rows ? l.row[l.rows - 1].id : INT64_MIN;
		rc = list_rows(&l, STORE_CONVERSATIONS_DOWN, &until, e);
		rc = rc == SINK_EFORMAT ? 0 : rc;
	}
	if (rc == 0) {
		*last_number = counted(s, STORE_LARGEST, 0, 0);
		*last_number = *last_number < s->last ? s->last : *last_number;
		if (l.rows)
			qsort(l.row, l.rows, sizeof(*l.row), used_last_first);
	}
	for (size_t i = 0; i < l.rows; i++) {
		if (rc == 0) {
			count_row(s, &l.row[i]);
			each(arg, &l.row[i]);
		}
		free((void *)l.row[i].state);
	}
	free(l.row);
	return rc < 0 ? rc : l.damaged;
}

int store_replies(struct store *s, void (*each)(void *arg, const struct store_reply *reply), void *arg, struct err *e)
{
	sqlite3_stmt *st;
	int rc = store_ready(s, e);

	if (rc < 0)
		return rc;
	st = store_bind(s, STORE_REPLIES_UP, 0, NULL);
	while ((rc = store_step(s, st, e)) > 0) {
		struct store_reply r = { sqlite3_column_int64(st, 0), sqlite3_column_blob(st, 1),
					 (size_t)sqlite3_column_bytes(st, 1) };

		if (store_row_whole(st, STORE_REPLY, 0, 3))
			each(arg, &r);
	}
	return rc;
}

/* A segment on the way from a head to its first ancestor, and how much of it the head sees. */
struct link {
	struct store_segment is;
	int64_t tokens, messages;
};

/* The chain, the head first. A circle is noticed when a segment comes again that was looked at 1, 2, 4, … steps ago. */
static int find_chain(struct store *s, int64_t head, struct link **ret, size_t *count, struct err *e)
{
	struct link *chain = NULL, *more, at = { .tokens = INT64_MAX, .messages = INT64_MAX };
	int64_t id = head, mark = 0;
	int rc = 1;

	for (*count = 0; id && rc > 0; id = at.is.parent) {
		rc = id == mark ? store_damaged(s, e, "segment %lld is its own ancestor", (long long)id)
				: store_segment_get(s, id, &at.is, e);
		if (rc == 0)
			rc = *count ? store_damaged(s, e, "segment %lld is missing", (long long)id)
				    : err_set(e, SINK_ENOENT, "There is no segment %lld.", (long long)id);
		if (rc < 0)
			break;
		if ((*count & (*count - 1)) == 0)
			mark = id;
		more = grow(chain, *count, sizeof(*chain));
		if (!more) {
			rc = store_no_memory(s, e);
			break;
		}
		chain = more;
		chain[(*count)++] = at;
		at.tokens = store_least(at.tokens, at.is.tokens);
		at.messages = store_least(at.messages, at.is.messages);
	}
	*ret = chain;
	return rc < 0 ? rc : 0;
}

static int load_tokens(struct store *s, const struct link *l, struct store_body *b, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, STORE_TOKENS, l->is.id, INT64_MIN, l->tokens);
	int rc;

	while ((rc = store_step(s, st, e)) > 0) {
		int64_t first = sqlite3_column_int64(st, 1);
		size_t count = (size_t)sqlite3_column_bytes(st, 2) / sizeof(int32_t);
		int32_t *id;

		if (first != (int64_t)b->ids || !count || !store_row_whole(st, STORE_TOKEN, 0, 4)) {
			rc = store_damaged(s, e, "tokens of segment %lld, from %zu on", (long long)l->is.id, b->ids);
			break;
		}
		count = (size_t)store_least((int64_t)count, l->tokens - first);
		id = realloc(b->id, (b->ids + count) * sizeof(*id));
		if (!id) {
			rc = store_no_memory(s, e);
			break;
		}
		b->id = id;
		memcpy(id + b->ids, sqlite3_column_blob(st, 2), count * sizeof(*id));
		b->ids += count;
	}
	sqlite3_reset(st);
	return rc;
}

/* Columns as STORE_OF_MESSAGE has them. The text and the reason of the end lie in one allocation. */
static int read_message(struct store *s, sqlite3_stmt *st, struct store_message *ret, struct err *e)
{
	size_t len = (size_t)sqlite3_column_bytes(st, 8), finish_len = (size_t)sqlite3_column_bytes(st, 6);
	char *copy = malloc(len + finish_len + 2);

	if (!copy)
		return store_no_memory(s, e);
	copy_column(st, 8, copy)[0] = '\0';
	copy_column(st, 6, copy + len + 1)[0] = '\0';
	*ret = (struct store_message){
		.number = sqlite3_column_int64(st, 1),
		.role = sqlite3_column_int(st, 2),
		.first_token = sqlite3_column_int64(st, 3),
		.tokens = sqlite3_column_int64(st, 4),
		.time = sqlite3_column_double(st, 5),
		.finish = sqlite3_column_type(st, 6) == SQLITE_NULL ? NULL : copy + len + 1,
		.raw = sqlite3_column_int(st, 7) != 0,
		.text = copy,
		.len = len,
	};
	return 0;
}

static int load_messages(struct store *s, const struct link *l, struct store_body *b, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, STORE_MESSAGES, l->is.id, l->messages);
	int rc;

	while ((rc = store_step(s, st, e)) > 0) {
		struct store_message *more;

		if (sqlite3_column_int64(st, 1) != (int64_t)b->messages || !store_row_whole(st, STORE_MESSAGE, 0, 10)) {
			rc = store_damaged(s, e, "message %zu of segment %lld", b->messages, (long long)l->is.id);
			break;
		}
		more = grow(b->message, b->messages, sizeof(*more));
		if (!more) {
			rc = store_no_memory(s, e);
			break;
		}
		b->message = more;
		rc = read_message(s, st, &more[b->messages], e);
		if (rc < 0)
			break;
		b->messages++;
	}
	sqlite3_reset(st);
	return rc;
}

static int load_link(struct store *s, const struct link *l, struct store_body *b, struct err *e)
{
	int rc;

	if (store_least(l->is.tokens, l->tokens) != (int64_t)b->ids ||
	    store_least(l->is.messages, l->messages) != (int64_t)b->messages)
		return store_damaged(s, e, "segment %lld begins behind %lld tokens and %lld messages, not %zu and %zu",
				     (long long)l->is.id, (long long)l->is.tokens, (long long)l->is.messages, b->ids,
				     b->messages);
	rc = load_tokens(s, l, b, e);
	rc = rc < 0 ? rc : load_messages(s, l, b, e);
	if (rc == 0 && ((int64_t)b->ids < store_least(l->is.least_tokens, l->tokens) ||
			(int64_t)b->messages < store_least(l->is.least_messages, l->messages)))
		return store_damaged(s, e, "the end of segment %lld is lost: %zu tokens and %zu messages are left",
				     (long long)l->is.id, b->ids, b->messages);
	return rc;
}

int store_load(struct store *s, int64_t segment, struct store_body *ret, struct err *e)
{
	struct store_body b = { 0 };
	struct link *chain = NULL;
	size_t count;
	int rc = store_ready(s, e);

	if (rc < 0)
		return rc;
	rc = find_chain(s, segment, &chain, &count, e);
	while (rc == 0 && count > 0)
		rc = load_link(s, &chain[--count], &b, e);
	free(chain);
	if (rc < 0)
		store_body_release(&b);
	else
		*ret = b;
	return rc;
}

void store_body_release(struct store_body *b)
{
	for (size_t i = 0; i < b->messages; i++)
		free((void *)b->message[i].text);
	free(b->message);
	free(b->id);
	*b = (struct store_body){ 0 };
}

struct taking {
	char *bytes;
	size_t size;
	int64_t next, events;
};

/* Takes the row that a statement stands on, from the event `next` on. */
static int take_row(struct store *s, sqlite3_stmt *st, struct taking *t, struct err *e)
{
	int64_t seq = sqlite3_column_int64(st, 1), count = sqlite3_column_int64(st, 2);
	const char *at = sqlite3_column_blob(st, 4);
	size_t left = (size_t)sqlite3_column_bytes(st, 4), bytes;
	char *more;

	if (!store_row_whole(st, STORE_EVENT, 0, 6))
		return store_damaged(s, e, "events %lld.. of conversation %lld", (long long)seq,
				     (long long)sqlite3_column_int64(st, 0));
	for (; seq < t->next && count > 0; seq++, count--) {
		bytes = store_record_bytes(at, left);
		if (!bytes)
			return store_damaged(s, e, "event %lld of conversation %lld", (long long)seq,
					     (long long)sqlite3_column_int64(st, 0));
		at += bytes;
		left -= bytes;
	}
	if (seq != t->next)
		return store_damaged(s, e, "event %lld of conversation %lld is missing", (long long)t->next,
				     (long long)sqlite3_column_int64(st, 0));
	more = realloc(t->bytes, t->size + left + 1);
	if (!more)
		return store_no_memory(s, e);
	t->bytes = more;
	if (left)
		memcpy(more + t->size, at, left);
	t->size += left;
	t->events += count;
	t->next += count;
	return 0;
}

/* The first row is found from the event, those behind it follow. */
static int take_events(struct store *s, int64_t id, size_t most, struct taking *t, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(s, STORE_EVENTS_BEFORE, id, t->next);
	int rc = store_step(s, st, e), failed = 0;
	int64_t end;

	if (rc == 0 && counted(s, STORE_EVENT_FIRST, id, t->next) > t->next)
		return err_set(e, SINK_EGONE, "Event %lld is no longer kept.", (long long)t->next);
	if (rc <= 0)
		return rc;
	end = sqlite3_column_int64(st, 1) + sqlite3_column_int64(st, 2);
	failed = end > t->next ? take_row(s, st, t, e) : 0;
	sqlite3_reset(st);
	if (failed < 0)
		return failed;
	st = STORE_BIND(s, STORE_EVENTS, id, t->next, INT64_MAX);
	while (t->size < most && (rc = store_step(s, st, e)) > 0)
		if ((rc = take_row(s, st, t, e)) < 0)
			break;
	sqlite3_reset(st);
	/* What is whole is given; the damage is told to who comes for it. */
	return rc < 0 && !t->events ? rc : 0;
}

int store_events(struct store *s, int64_t id, int64_t from, size_t most, void **records, size_t *size, int64_t *events,
		 struct err *e)
{
	struct taking t = { .next = from };
	int rc = store_ready(s, e);

	rc = rc < 0 ? rc : take_events(s, id, most, &t, e);
	if (rc < 0) {
		free(t.bytes);
		return rc;
	}
	*records = t.bytes;
	*size = t.size;
	*events = t.events;
	return 0;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
}

/* Where the text stands, whatever the case of its ASCII letters; SIZE_MAX when it does not. */
static size_t find_text(const char *in, size_t in_len, const char *text, size_t len)
{
	for (size_t at = 0; at + len <= in_len; at++) {
		size_t i = 0;

		while (i < len && lower(in[at + i]) == lower(text[i]))
			i++;
		if (i == len)
			return at;
	}
	return SIZE_MAX;
}

/*
 * A question to the index: three characters at a time, each of which a message must have. A few of a long text are
 * enough, since each message is looked at. Returns how many there are.
 */
static int write_question(const char *text, size_t len, char *out)
{
	size_t at[3] = { 0 }, count = 0, end;
	int trigrams = 0;

	for (size_t i = 0; i < len && trigrams < TRIGRAMS; i = end) {
		end = i + (size_t)utf8_character(text + i, len - i);
		at[count++] = i;
		if (count < 3)
			continue;
		count = 0;
		*out++ = '"';
		for (size_t j = at[0]; j < end; j++) {
			if (text[j] == '"')
				*out++ = '"';
			*out++ = text[j];
		}
		*out++ = '"';
		*out++ = ' ';
		trigrams++;
	}
	*out = '\0';
	return trigrams;
}

struct search {
	struct store *store;
	const char *text;
	size_t len;
	int64_t conversation;
	bool (*each)(void *arg, const struct store_match *m);
	void *arg;
};

/* One message, for each conversation that sees it. 1: go on; 0: enough. */
static int search_message(const struct search *q, int64_t id, struct err *e)
{
	sqlite3_stmt *st = STORE_BIND(q->store, STORE_MESSAGE_GET, id), *who;
	struct store_match m = { .len = q->len };
	int rc = store_step(q->store, st, e), go_on = 1;

	if (rc <= 0)
		return rc < 0 ? rc : 1;
	m.message = sqlite3_column_int64(st, 1);
	m.role = sqlite3_column_int(st, 2);
	m.time = sqlite3_column_double(st, 5);
	m.text = sqlite3_column_blob(st, 8);
	m.text_len = (size_t)sqlite3_column_bytes(st, 8);
	m.at = find_text(m.text, m.text_len, q->text, q->len);
	if (m.at == SIZE_MAX || !store_row_whole(st, STORE_MESSAGE, 0, 10)) {
		sqlite3_reset(st);
		return 1;
	}
	who = STORE_BIND(q->store, STORE_WHO_SEES, sqlite3_column_int64(st, 0), m.message);
	while (go_on && (rc = store_step(q->store, who, e)) > 0) {
		m.conversation = sqlite3_column_int64(who, 0);
		if (!q->conversation || q->conversation == m.conversation)
			go_on = q->each(q->arg, &m);
	}
	sqlite3_reset(who);
	sqlite3_reset(st);
	return rc < 0 ? rc : go_on;
}

int store_search(struct store *s, const char *text, size_t len, int64_t conversation,
		 bool (*each)(void *arg, const struct store_match *m), void *arg, struct err *e)
{
	const struct search q = { s, text, len, conversation, each, arg };
	char question[TRIGRAMS * 3 * 4 + TRIGRAMS * 6 + 1];
	enum store_statement which = STORE_SEARCH_ALL;
	sqlite3_stmt *st;
	int rc;

	if (!len || utf8_valid(text, len) != len)
		return err_set(e, SINK_EINVAL,
			       len ? "The text to be found is not valid UTF-8." : "The text to be found is empty.");
	rc = store_ready(s, e);
	if (rc < 0)
		return rc;
	if (memchr(text, 0, len))
		which = STORE_SEARCH_STRANGE; /* texts with a NUL, of which the index has the beginning alone */
	else if (write_question(text, len, question) > 0)
		which = STORE_SEARCH_INDEX;
	st = store_bind(s, which, 0, NULL);
	if (which == STORE_SEARCH_INDEX)
		sqlite3_bind_text(st, 1, question, -1, SQLITE_STATIC);
	while ((rc = store_step(s, st, e)) > 0)
		if ((rc = search_message(&q, sqlite3_column_int64(st, 0), e)) <= 0)
			break;
	sqlite3_reset(st);
	return rc;
}
