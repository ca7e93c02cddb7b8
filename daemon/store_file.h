/*
 * The store's file, for the four files of the store: opening and making it, its statements, rows with their sums, and
 * what SQLite's errors are called here.
 *
 * Each row of each table ends with a sum: XXH3 of all other columns, chained, with the table as the seed. So a row that
 * was altered, or stands where another belongs, is found when it is read, and nothing is believed before.
 */
#ifndef DAEMON_STORE_FILE_H
#define DAEMON_STORE_FILE_H

#include <sqlite3.h>
#include <string.h>
#include <xxhash.h>

#include "store.h"

/* Seeds of sums: they never change. */
enum store_table {
	STORE_META = 1,
	STORE_CONVERSATION,
	STORE_SEGMENT,
	STORE_MESSAGE,
	STORE_TOKEN,
	STORE_EVENT,
	STORE_REPLY,
};

static inline int64_t store_least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* The statements: their names and texts. A row is read with all columns, in the order of the table, the sum last. */
#define STORE_OF_CONVERSATION "id, segment, name, created, used, state, sum"
#define STORE_OF_SEGMENT "id, parent, tokens, messages, least_tokens, least_messages, sum"
#define STORE_OF_TOKEN "segment, first, ids, sum"
#define STORE_OF_MESSAGE "segment, number, role, first_token, tokens, time, finish, raw, text, sum"
#define STORE_OF_EVENT "conversation, seq, count, at, records, sum"
#define STORE_STATEMENT_LIST(X)                                                                                        \
	X(STORE_BEGIN, "BEGIN IMMEDIATE")                                                                              \
	X(STORE_COMMIT, "COMMIT")                                                                                      \
	X(STORE_ROLLBACK, "ROLLBACK")                                                                                  \
	X(STORE_META_GET, "SELECT key, value, sum FROM meta WHERE key = ?1")                                           \
	X(STORE_META_PUT, "INSERT OR REPLACE INTO meta VALUES(?1, ?2, ?3)")                                            \
	X(STORE_CONVERSATION_GET, "SELECT " STORE_OF_CONVERSATION " FROM conversation WHERE id = ?1")                  \
	X(STORE_CONVERSATION_PUT, "INSERT OR REPLACE INTO conversation VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")            \
	X(STORE_CONVERSATION_DELETE, "DELETE FROM conversation WHERE id = ?1")                                         \
	X(STORE_CONVERSATIONS_UP, "SELECT " STORE_OF_CONVERSATION " FROM conversation ORDER BY id")                    \
	X(STORE_CONVERSATIONS_DOWN, "SELECT " STORE_OF_CONVERSATION " FROM conversation ORDER BY id DESC")             \
	X(STORE_SEGMENT_GET, "SELECT " STORE_OF_SEGMENT " FROM segment WHERE id = ?1")                                 \
	X(STORE_SEGMENT_PUT, "INSERT OR REPLACE INTO segment VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")                      \
	X(STORE_SEGMENT_DELETE, "DELETE FROM segment WHERE id = ?1")                                                   \
	X(STORE_SEGMENT_USE, "SELECT EXISTS(SELECT 1 FROM conversation WHERE segment = ?1), count(*), "                \
			     "max(tokens), max(messages) FROM segment WHERE parent = ?1")                              \
	X(STORE_TOKEN_LAST, "SELECT first + length(ids) / 4 FROM token WHERE segment = ?1 ORDER BY first DESC "        \
			    "LIMIT 1")                                                                                 \
	X(STORE_TOKEN_PUT, "INSERT OR REPLACE INTO token VALUES(?1, ?2, ?3, ?4)")                                      \
	X(STORE_TOKEN_DELETE, "DELETE FROM token WHERE segment = ?1 AND first >= ?2 AND first < ?3")                   \
	X(STORE_TOKENS, "SELECT " STORE_OF_TOKEN " FROM token WHERE segment = ?1 AND first >= ?2 AND first < ?3 "      \
			"ORDER BY first")                                                                              \
	X(STORE_TOKENS_DOWN, "SELECT " STORE_OF_TOKEN " FROM token WHERE segment = ?1 AND first < ?2 ORDER BY "        \
			     "first DESC")                                                                             \
	X(STORE_MESSAGE_LAST, "SELECT number + 1 FROM message WHERE segment = ?1 ORDER BY number DESC LIMIT 1")        \
	X(STORE_MESSAGE_FIND, "SELECT id, text FROM message WHERE segment = ?1 AND number = ?2")                       \
	X(STORE_MESSAGE_INSERT, "INSERT INTO message(" STORE_OF_MESSAGE ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, "        \
				"?8, ?9, ?10)")                                                                        \
	X(STORE_MESSAGE_UPDATE, "UPDATE message SET role = ?3, first_token = ?4, tokens = ?5, time = ?6, finish "      \
				"= ?7, raw = ?8, text = ?9, sum = ?10 WHERE segment = ?1 AND number = ?2")             \
	X(STORE_MESSAGE_DELETE, "DELETE FROM message WHERE segment = ?1 AND number >= ?2")                             \
	X(STORE_MESSAGES, "SELECT " STORE_OF_MESSAGE " FROM message WHERE segment = ?1 AND number < ?2 ORDER BY "      \
			  "number")                                                                                    \
	X(STORE_MESSAGES_FROM, "SELECT id, text FROM message WHERE segment = ?1 AND number >= ?2")                     \
	X(STORE_MESSAGE_GET, "SELECT " STORE_OF_MESSAGE " FROM message WHERE id = ?1")                                 \
	X(STORE_EVENT_FIRST, "SELECT seq FROM event WHERE conversation = ?1 ORDER BY seq LIMIT 1")                     \
	X(STORE_EVENT_LAST,                                                                                            \
	  "SELECT seq + count, at + length(records) FROM event WHERE conversation = ?1 ORDER BY seq DESC LIMIT 1")     \
	X(STORE_EVENT_PUT, "INSERT OR REPLACE INTO event VALUES(?1, ?2, ?3, ?4, ?5, ?6)")                              \
	X(STORE_EVENT_DELETE, "DELETE FROM event WHERE conversation = ?1 AND seq >= ?2 AND seq < ?3")                  \
	X(STORE_EVENTS_BEFORE, "SELECT " STORE_OF_EVENT " FROM event WHERE conversation = ?1 AND seq <= ?2 ORDER "     \
			       "BY seq DESC LIMIT 1")                                                                  \
	X(STORE_EVENTS, "SELECT " STORE_OF_EVENT " FROM event WHERE conversation = ?1 AND seq >= ?2 AND seq < ?3 "     \
			"ORDER BY seq")                                                                                \
	X(STORE_EVENTS_DOWN, "SELECT " STORE_OF_EVENT " FROM event WHERE conversation = ?1 AND seq < ?2 ORDER BY "     \
			     "seq DESC")                                                                               \
	X(STORE_EVENT_SIZES, "SELECT seq, at FROM event WHERE conversation = ?1 ORDER BY seq")                         \
	X(STORE_REPLY_PUT, "INSERT OR REPLACE INTO reply(key, frame, sum) VALUES(?1, ?2, ?3)")                         \
	X(STORE_REPLY_PRUNE, "DELETE FROM reply WHERE n <= (SELECT max(n) FROM reply) - ?1")                           \
	X(STORE_REPLIES_UP, "SELECT key, frame, sum FROM reply ORDER BY n")                                            \
	X(STORE_INDEX_PUT, "INSERT INTO search(rowid, text) VALUES(?1, ?2)")                                           \
	X(STORE_INDEX_DELETE, "INSERT INTO search(search, rowid, text) VALUES('delete', ?1, ?2)")                      \
	X(STORE_INDEX_MERGE, "INSERT INTO search(search, rank) VALUES('merge', ?1)")                                   \
	X(STORE_SEARCH_INDEX, "SELECT rowid FROM search WHERE search MATCH ?1 UNION SELECT id FROM message "           \
			      "WHERE typeof(text) = 'blob' ORDER BY 1 DESC")                                           \
	X(STORE_SEARCH_STRANGE, "SELECT id FROM message WHERE typeof(text) = 'blob' ORDER BY id DESC")                 \
	X(STORE_SEARCH_ALL, "SELECT id FROM message ORDER BY id DESC")                                                 \
	X(STORE_WHO_SEES,                                                                                              \
	  "WITH RECURSIVE sees(id) AS (SELECT ?1 UNION SELECT segment.id FROM sees JOIN segment "                      \
	  "ON parent = sees.id WHERE messages > ?2) SELECT conversation.id FROM sees JOIN conversation ON "            \
	  "conversation.segment = sees.id")                                                                            \
	X(STORE_LARGEST, "SELECT max(ifnull((SELECT max(id) FROM conversation), 0), ifnull((SELECT max(id) FROM "      \
			 "segment), 0))")

#define STORE_STATEMENT_NAME(name, text) name,
enum store_statement { STORE_STATEMENT_LIST(STORE_STATEMENT_NAME) STORE_STATEMENTS };

struct store {
	char *dir, *path;
	int lock; /* DIR/sinkd.lock, held for life */
	int64_t event_bytes;
	uint64_t id;
	int64_t last; /* the largest number ever used */
	bool untidy;  /* something was removed, and its traces were not yet */
	bool removed; /* in this commit */

	sqlite3 *db; /* NULL: closed after an error; the next call opens it again */
	sqlite3_stmt *statement[STORE_STATEMENTS];
	bool failed;	/* the disk did: what is in the file is known only when it is opened anew */
	bool full;	/* PRAGMA synchronous is FULL */
	int log_pages;	/* in the log after the last commit */
	int64_t *loose; /* segments that may have lost their last use in this commit */
	size_t loose_count, loose_room;
};

/* Checks the directory and takes its lock. The store is zeroed but for `dir` and `path`, and lock is -1. */
int store_file_lock(struct store *s, struct err *e);
/* What the file's first bytes say: 0, SINK_ENOENT, SINK_EFORMAT (no database of ours), SINK_EPROTO, SINK_EIO. */
int store_file_peek(const struct store *s, struct err *e);
/* Makes a store, whole or not at all: empty, or with what `fill` (may be NULL) puts in. */
int store_file_make(const struct store *s, int (*fill)(void *arg, struct store *empty, struct err *e), void *arg,
		    struct err *e);
/* Gives the file its random number. */
int store_file_number(struct store *s, struct err *e);
/* Opens what is there. SINK_EFORMAT: it cannot be read at all; nothing is open after any error. */
int store_file_open(struct store *s, struct err *e);
void store_file_close(struct store *s);
/* Renames it, with its log, to sinkd.db.bad-TIME; `name` gets the new path. */
int store_file_set_aside(const struct store *s, char *name, size_t size, struct err *e);
/* A store of a directory that is neither locked nor opened; and all that it holds given back. */
int store_file_new(const char *dir, struct store **ret, struct err *e);
void store_file_free(struct store *s);

/* To be called first by what uses the file: opens it again when it had to be closed. */
int store_ready(struct store *s, struct err *e);
/* Moves the log into the file; `whole` empties it too. */
int store_checkpoint(struct store *s, bool whole, struct err *e);

int store_no_memory(const struct store *s, struct err *e);
/* Words what SQLite said and remembers whether the disk failed. SINK_EFORMAT stands for a damaged file. */
int store_fail(struct store *s, int rc, struct err *e);
/* Words that a row does not match its sum, or is not what it must be: SINK_EFORMAT. */
int store_damaged(const struct store *s, struct err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The statement with its integers bound, to be stepped by store_step(). */
sqlite3_stmt *store_bind(struct store *s, enum store_statement which, int count, const int64_t *value);
#define STORE_BIND(s, which, ...)                                                                                      \
	store_bind(s, which, sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t), (int64_t[]){ __VA_ARGS__ })
/* 1: a row; 0: none, and the statement is reset; or a code, also reset. */
int store_step(struct store *s, sqlite3_stmt *st, struct err *e);
/* Steps a statement that gives no rows. */
int store_run(struct store *s, enum store_statement which, struct err *e);
int store_exec(struct store *s, const char *sql, struct err *e);
/* The number that a query gives, which may have an argument (or NULL); 0 when it gives none. */
int store_number(struct store *s, const char *sql, const char *argument, int64_t *ret, struct err *e);

/* A row being written: columns in the order of the table; the sum comes last by itself. */
struct store_row {
	struct store *store;
	sqlite3_stmt *st;
	int column, rc;
	uint64_t sum;
};

static inline struct store_row store_row_begin(struct store *s, enum store_statement which, enum store_table table)
{
	sqlite3_reset(s->statement[which]);
	return (struct store_row){ s, s->statement[which], 0, SQLITE_OK, table };
}

/* One column more; its type counts, so that a number and a text of the same bytes differ. */
static inline uint64_t store_row_add(uint64_t sum, int type, const void *data, size_t size)
{
	return XXH3_64bits_withSeed(data, size, sum * 8 + (uint64_t)type);
}

static inline void store_row_bound(struct store_row *r, int rc, int type, const void *data, size_t size)
{
	if (rc != SQLITE_OK)
		r->rc = rc;
	r->sum = store_row_add(r->sum, type, data, size);
}

static inline void store_row_int(struct store_row *r, int64_t value)
{
	store_row_bound(r, sqlite3_bind_int64(r->st, ++r->column, value), SQLITE_INTEGER, &value, sizeof(value));
}

static inline void store_row_real(struct store_row *r, double value)
{
	store_row_bound(r, sqlite3_bind_double(r->st, ++r->column, value), SQLITE_FLOAT, &value, sizeof(value));
}

static inline void store_row_blob(struct store_row *r, const void *data, size_t size)
{
	const void *bytes = size ? data : "";

	store_row_bound(r, sqlite3_bind_blob64(r->st, ++r->column, bytes, size, SQLITE_STATIC), SQLITE_BLOB, bytes,
			size);
}

/* NULL is one too; a text with a NUL in it is a blob, since SQLite would stop there. */
static inline void store_row_text(struct store_row *r, const char *data, size_t len)
{
	if (!data)
		store_row_bound(r, sqlite3_bind_null(r->st, ++r->column), SQLITE_NULL, "", 0);
	else if (memchr(data, 0, len))
		store_row_blob(r, data, len);
	else
		store_row_bound(r, sqlite3_bind_text64(r->st, ++r->column, data, len, SQLITE_STATIC, SQLITE_UTF8),
				SQLITE_TEXT, data, len);
}

/* `whole` false: the row was damaged when it was read, and is to stay so. */
static inline int store_row_end(struct store_row *r, bool whole, struct err *e)
{
	uint64_t sum = whole ? r->sum : ~r->sum;
	int rc = sqlite3_bind_int64(r->st, ++r->column, (int64_t)sum);

	if (r->rc != SQLITE_OK || rc != SQLITE_OK)
		return store_fail(r->store, r->rc != SQLITE_OK ? r->rc : rc, e);
	return store_step(r->store, r->st, e);
}

/* Whether the columns from `from` on, `count` of them with the sum at the end, are a row as it was written. */
static inline bool store_row_whole(sqlite3_stmt *st, enum store_table table, int from, int count)
{
	int last = from + count - 1;
	uint64_t sum = table;

	for (int i = from; i < last; i++) {
		int type = sqlite3_column_type(st, i);
		int64_t number = sqlite3_column_int64(st, i);
		double real = sqlite3_column_double(st, i);
		const void *bytes;

		if (type == SQLITE_INTEGER) {
			sum = store_row_add(sum, type, &number, sizeof(number));
		} else if (type == SQLITE_FLOAT) {
			sum = store_row_add(sum, type, &real, sizeof(real));
		} else {
			bytes = sqlite3_column_blob(st, i);
			sum = store_row_add(sum, type, bytes ? bytes : "", (size_t)sqlite3_column_bytes(st, i));
		}
	}
	return sqlite3_column_type(st, last) == SQLITE_INTEGER && (uint64_t)sqlite3_column_int64(st, last) == sum;
}

/* A number in `meta`: 1, or 0 when it is not there or damaged. */
int store_meta_get(struct store *s, const char *key, int64_t *value, struct err *e);
int store_meta_put(struct store *s, const char *key, int64_t value, struct err *e);

/* Reads a row of STORE_OF_CONVERSATION; the state, which only a row that is whole has, is allocated. SINK_ENOMEM. */
int store_conversation_read(struct store *s, sqlite3_stmt *st, struct store_conversation *ret, bool *whole,
			    struct err *e);

struct store_segment {
	int64_t id, parent, tokens, messages; /* the last two: what it begins with, of its parent's text */
	int64_t least_tokens, least_messages; /* it had that many when small rows were last put together: an end that is
						 lost leaves no row whose sum could tell */
};
/* 1, 0 when there is none, or a code; SINK_EFORMAT when it is damaged. */
int store_segment_get(struct store *s, int64_t id, struct store_segment *ret, struct err *e);

/* Parts of a commit that mending needs too. */
int store_begin(struct store *s, struct err *e);
int store_end(struct store *s, int rc, struct err *e); /* commits; rolls back when rc is a code, and returns that */
int store_conversation_put(struct store *s, const struct store_conversation *row, struct err *e);
int store_segment_put(struct store *s, const struct store_segment *g, struct err *e);
int store_cut_tokens(struct store *s, int64_t segment, int64_t from, struct err *e);
int store_cut_messages(struct store *s, int64_t segment, int64_t from, struct err *e);
/* Notes that a segment may have lost a use; what nobody sees is deleted by store_collect(), at the end of a commit. */
int store_loosen(struct store *s, int64_t segment, struct err *e);
int store_collect(struct store *s, struct err *e);

/* Bytes of the first of the records at `at`, 0 when none is there. */
static inline size_t store_record_bytes(const void *at, size_t left)
{
	struct record r;

	if (left < sizeof(r))
		return 0;
	memcpy(&r, at, sizeof(r));
	return left - sizeof(r) < (size_t)r.size + r.to ? 0 : sizeof(r) + r.size + r.to;
}

/* Whether these are so many of them, and nothing else. */
static inline bool store_record_count(const char *at, size_t left, int64_t count)
{
	size_t bytes;

	for (; count > 0; count--, at += bytes, left -= bytes)
		if ((bytes = store_record_bytes(at, left)) == 0)
			return false;
	return left == 0;
}

#endif
