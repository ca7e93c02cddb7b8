/*
 * What is kept of conversations, in one SQLite file DIR/sinkd.db (WAL): rows, messages with their full text for search,
 * tokens, events, and the replies of requests that bear a key. The form is in README.md, column by column.
 *
 * Nothing here knows the loop: all functions but store_id() and store_check() are called by one thread at a time, which
 * is the store's own while the daemon runs. They block, and fail whole: after an error the file holds what it held. A
 * disk that fails in the very last moment of a commit may have it all the same, so what is given again after an error
 * begins where it began, and may be in the file already.
 *
 * Texts are kept in segments. A conversation has one, its head; a segment begins with the text of its parent up to a
 * number of tokens and messages, and goes on with rows of its own. So a fork is two new segments, whatever the length:
 * the parent is never written again. A segment that nothing refers to is deleted, and of one that is, what nobody can
 * see. Event logs are not shared.
 */
#ifndef DAEMON_STORE_H
#define DAEMON_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "stream.h"

struct store;

struct store_options {
	const char *dir;     /* exists, 0700 */
	int64_t event_bytes; /* events kept of a conversation; the oldest go first, a row of about 1 KiB at a time */
};

enum { STORE_VERSION = 1 };

/*
 * Opens or makes the file, 0600. SINK_EPROTO: it is of a later version, and left alone; SINK_EBUSY: another process
 * has it, or the disk is full; SINK_EIO (also: it belongs to another user, or is no plain file), SINK_ENOMEM. One that
 * is no database, or is damaged so that it cannot be read, is renamed to sinkd.db.bad-TIME and a new one made; `note`
 * (of `size` bytes) then says so, and is "" otherwise.
 */
int store_open(const struct store_options *o, struct store **ret, char *note, size_t size, struct err *e);
void store_close(struct store *s); /* with a checkpoint; NULL is fine */

uint64_t store_id(const struct store *s); /* a random number that this file was given when it was made; never 0 */
int64_t store_bytes(struct store *s);	  /* of the file and its log */

/* A row. Numbers of conversations and of segments are the caller's choice, and never used twice. */
struct store_conversation {
	int64_t id;
	int64_t segment; /* its head */
	char name[STREAM_NAME + 1];
	double created, used; /* Unix seconds */
	const void *state;    /* the caller's own, not looked into */
	size_t state_size;

	/* Counted when it is read: */
	int64_t tokens, messages;
	int64_t first_seq, seq; /* of the oldest kept event and the next one; equal when there is none */
};

struct store_message {
	int64_t number;
	int role; /* enum role */
	int64_t first_token, tokens;
	double time;
	const char *finish; /* or NULL */
	bool raw;
	const char *text; /* UTF-8, followed by a NUL */
	size_t len;
};

/* What changes of one conversation, in the order of the fields. Parts that are absent are zero. */
struct store_change {
	int64_t id;
	bool removes; /* the conversation with all that is its own; nothing else is looked at */

	bool begins; /* makes `segment`: the first base_* of `parent`, which is 0 for none (and the bases are 0) */
	int64_t parent, base_tokens, base_messages;

	bool writes_row;
	struct store_conversation row;

	int64_t segment; /* where text goes */
	bool cuts;	 /* forgets its tokens and messages from these on, those of its parent too */
	int64_t cut_tokens, cut_messages;

	const int32_t *id_list; /* tokens first_token .., which is not behind the end; they replace what is there */
	size_t ids;
	int64_t first_token;

	/*
	 * In the order of their numbers, none behind the end; replaced when the number is there already. One that the
	 * segment begins with is given with those that follow it, up to the segment's first own one.
	 */
	const struct store_message *message;
	size_t messages;

	const void *record; /* events first_seq .., which is not behind the end, as stream.h has them */
	size_t record_size;
	int64_t first_seq, events;

	bool merges; /* a good moment to put small rows together */
};

/* The reply to a request with a key. The latest STORE_REPLIES are kept. */
struct store_reply {
	int64_t key;
	const void *frame;
	size_t size;
};
enum { STORE_REPLIES = 1024 };

/*
 * One transaction. With `durable` it is on the disk when this returns, and so are all before it; else it is safe from
 * the end of this process alone. SINK_EBUSY: the disk is full (or a quota is); SINK_EIO: it failed, or the file is
 * damaged; SINK_ENOMEM; SINK_EINVAL: a change that leaves a gap.
 */
int store_commit(struct store *s, const struct store_change *change, size_t changes, const struct store_reply *reply,
		 size_t replies, bool durable, struct err *e);

/*
 * Calls `each` for every conversation, the last used first; then the largest number that any row or segment ever had.
 * Returns 0, or how many rows were left out since they are damaged (at least that many), or a negative code.
 */
int store_list(struct store *s, void (*each)(void *arg, const struct store_conversation *row), void *arg,
	       int64_t *last_number, struct err *e);
/* The kept replies, the oldest first; damaged ones are left out. */
int store_replies(struct store *s, void (*each)(void *arg, const struct store_reply *reply), void *arg, struct err *e);

/* The text of a segment: zero-initialize, then release. Texts are owned by the body. */
struct store_body {
	struct store_message *message; /* [messages]; numbered from 0 */
	size_t messages;
	int32_t *id;
	size_t ids;
};
/* SINK_EFORMAT: what is wrong with it, and where. SINK_ENOENT: no such segment. */
int store_load(struct store *s, int64_t segment, struct store_body *ret, struct err *e);
void store_body_release(struct store_body *b);

/*
 * Events from number `from` on, at least one and about `most` bytes, in *records (the caller's, by free()). The first
 * is number `from`; *events is 0, and *records may be NULL, when that is the next one. SINK_EGONE: it is not kept any
 * more; SINK_EFORMAT.
 */
int store_events(struct store *s, int64_t id, int64_t from, size_t most, void **records, size_t *size, int64_t *events,
		 struct err *e);

/* A place where a text stands in a message: `len` bytes from `at` of its text. */
struct store_match {
	int64_t conversation;
	int64_t message;
	int role;
	double time;
	const char *text;
	size_t text_len, at, len;
};
/*
 * Messages that hold this text, whatever the case of its ASCII letters, the last written first; one match a message,
 * also in each conversation that shares it by a fork. conversation: 0 for all. Ends when `each` returns false, which
 * calls nothing of the store. SINK_EINVAL for an empty text, or one that is not UTF-8.
 */
int store_search(struct store *s, const char *text, size_t len, int64_t conversation,
		 bool (*each)(void *arg, const struct store_match *m), void *arg, struct err *e);

/*
 * A little of the work that removing has left: index entries are merged, free pages given back, the log is emptied.
 * *more: call again when there is nothing else to do. That there is such work is remembered in the file.
 */
int store_tidy(struct store *s, bool *more, struct err *e);

/*
 * Verifies the file of a directory in which no daemon runs, row by row, and with `repair` mends what can be: a damaged
 * text is cut where the damage begins, damaged events are left out with those before them, what belongs to nobody is
 * deleted, a damaged row of a conversation loses its state (which is then empty). A file whose pages are damaged is
 * copied as far as it can be read, and the old one renamed to sinkd.db.bad-TIME. `tell` gets a sentence for each
 * finding. Returns the number of findings (with `repair`: of those that are left), or a negative code. SINK_ENOENT:
 * there is no store; SINK_EBUSY: a daemon has it; SINK_EPROTO: it is of a later version.
 */
int store_check(const char *dir, bool repair, void (*tell)(void *arg, const char *text), void *arg, struct err *e);

#endif
