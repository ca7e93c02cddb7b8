/*
 * A conversation: its name, messages, token log, cache, settings and state; and the table of all of them.
 *
 * The token log holds every token of the text in order: those that the cache has read, and behind them those that wait.
 * It is what replay reads when the cache is gone, 4 bytes a token. A message is a range of it; tokens that `feed` put
 * there belong to none.
 *
 * Where conversations are kept (keep.h), the text of one that nobody has used since the start is not in memory
 * (`absent`), and its cache may be in memory, in a file, or nowhere (tier.h).
 *
 * Ownership. All of it is the loop's. While `away` is set, a batch in the engine's thread names the cache and the log:
 * neither is touched, and what would touch them waits (verb.h). While `encoding` is set, a text of the conversation is
 * with the tokenizer: messages may be read, not changed. Calls of kv_*() but kv_new() also need all batches at home.
 */
#ifndef DAEMON_CONVERSATION_H
#define DAEMON_CONVERSATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "answer.h"
#include "draft.h"
#include "error.h"
#include "kv.h"
#include "msg.h"
#include "pulse.h"
#include "retention.h"
#include "sched.h"
#include "settings.h"
#include "stream.h"
#include "token.h"
#include "turn.h"

enum state { STATE_IDLE, STATE_QUEUED, STATE_READING, STATE_ANSWERING, STATE_FAILED, STATES };

/* What happens to a conversation; which of it may happen in which state is a table. */
enum happening {
	HAPPENS_PROMPT, /* tokens to be read, or a text that will become some */
	HAPPENS_SERVED, /* the first of them are in a batch */
	HAPPENS_READ,	/* the last of them were, and an answer begins */
	HAPPENS_END,	/* the work is done, or was stopped */
	HAPPENS_FAILURE,
	HAPPENINGS,
};

struct message {
	enum role role;
	struct text text;
	int64_t first_token, tokens; /* its range of the log, with the marks of its turn */
	double time;
	const char *finish; /* of an answer that ended; static */
	bool raw;	    /* an answer without the marks of a turn, as `generate` makes it */
};

/* What a conversation is doing, from a prompt to its end. */
struct work {
	bool answers;			/* an answer follows the reading */
	int64_t message;		/* the answer's number; without one, that of the message being read */
	int64_t prompt;			/* number of the message that caused it, or -1 */
	int64_t begin;			/* tokens in the cache when it began */
	int64_t cut;			/* where `stop` cuts the log while the prompt is read */
	int64_t total;			/* tokens to be read before the answer */
	int64_t open;			/* tokens of the log when the answer began */
	int64_t replay_from, replay_to; /* those had been read before */
	int64_t generated, evicted;
	double asked, served, read, first; /* ms of the monotonic clock */
	double told;			   /* when the last `prefill` was */
	struct answer answer;
	struct draft *draft;	  /* the index of its text; NULL: none yet, or it is of no use */
	struct draft_match match; /* where the draft that is being read came from */
	bool cramped;		  /* there was no page for a draft: the next step goes without */
	struct request *request;  /* a `feed` that waits for the end */
};

/*
 * How far the store has the conversation. Counts are of what was handed over; the `safe` ones of what was committed. A
 * segment is where its text is kept, behind the first base_* of its parent's (store.h).
 */
struct kept {
	int64_t id; /* 0: it is not kept */
	int64_t segment, parent, base_tokens, base_messages;
	bool begins; /* the segment is yet to be made */
	bool known;  /* the store has its row */
	bool row;    /* what is in the row has changed */
	bool cuts;   /* text from these on is to be forgotten first */
	bool ends;   /* a turn is over: what is said of it must be on the disk */
	int64_t cut_tokens, cut_messages;
	int64_t tokens, messages, seq;
	int64_t safe_tokens, safe_messages, safe_seq;
	int64_t rows; /* small ones, since they were put together */
	TAILQ_ENTRY(conversation) link;
	bool listed; /* among those that have changed */
	bool flies;  /* a part of it is being committed */
};

/* Where a cache is. */
enum tier {
	TIER_NONE,   /* nothing to keep: no token was read, or the policy begins anew */
	TIER_MEMORY, /* kv */
	TIER_FOUND,  /* kv, of an earlier process, not proved yet */
	TIER_DISK,   /* a file */
	TIER_REPLAY, /* nowhere: the log will be read anew */
};

struct conversations;

struct conversation {
	struct conversations *table;
	TAILQ_ENTRY(conversation) by_use;
	LIST_ENTRY(conversation) in_bucket;
	char name[STREAM_NAME + 1];
	enum state state;
	struct settings settings;
	struct retention keeps;
	const char *note; /* for the reply to the request that made it; static, NULL: none */
	bool pin_system;  /* to be done when the system prompt is known */

	struct message *message;
	size_t messages, message_room;
	bool begun;	/* what stands at the beginning was written, or fed */
	bool turn_open; /* the last turn of the log was not closed by its marks */

	struct tokens log;
	struct kv *kv;	      /* NULL: not begun, or given up for others' sake */
	struct kv_info seen;  /* of the cache, when it was last at home */
	int64_t evicted_told; /* the first token that no `evicted` has told of */
	bool replays;	      /* a cache was lost: what is read is a replay */
	struct kv_info left;  /* of the cache when it was lost or left; while kv is NULL */
	enum tier tier;
	bool restoring, leaving; /* the cache is on its way from, or to, its file */
	bool pin;		 /* the last to leave memory */
	struct ring *ring;	 /* what its file holds, when that is known; owned by a job while `saving` */
	bool saving;
	int64_t file_bytes; /* of its file; 0: it has none */
	double saved_at;    /* when that was written last, and ... */
	double save_at;	    /* when an idle cache is written to its file, in ms of the clock; 0: it need not be */

	struct kept kept;
	bool absent, fetching; /* its text is on the disk alone; it is being read */
	bool resumes;	       /* it goes on with its work when text and cache are there */
	struct err trouble;    /* why its text cannot be had; code 0: it can */
	int64_t absent_tokens, absent_messages;
	struct {
		char name[64];
		uint64_t vocab; /* 0: not known yet */
	} model;		/* whose tokens these are */

	struct stream *stream;
	struct runner runner;
	struct draft_odds odds;
	struct work work;
	struct pulse pulse;
	size_t place; /* while it is queued: among those who wait, from 1 on */
	bool away, encoding;
	double created, used; /* Unix seconds */
};

enum { BUCKETS = 1024 };

struct conversations {
	TAILQ_HEAD(conversation_list, conversation) by_use; /* last used first */
	LIST_HEAD(, conversation) bucket[BUCKETS];
	size_t count, in[STATES];
	uint64_t happened;				/* counts the changes of states */
	TAILQ_HEAD(changed_list, conversation) changed; /* since they were last handed to the store */
};

void conversations_init(struct conversations *t);

/* SINK_EINVAL tells what is wrong with the name. */
int conversation_check_name(const char *name, size_t len, struct err *e);
/* The conversation of this name, or NULL with SINK_ENOENT. */
struct conversation *conversation_find(struct conversations *t, const char *name, size_t len, struct err *e);

/* The one of this number in the store; NULL: there is none. */
struct conversation *conversation_numbered(const struct conversations *t, int64_t number);

/*
 * An empty conversation. The name is checked; SINK_EEXIST when it is taken. The table owns it until
 * conversation_remove(), which closes the stream and frees all but the cache: kv must be NULL by then.
 */
int conversation_new(struct conversations *t, const char *name, size_t len, size_t log_bytes, struct conversation **ret,
		     struct err *e);
void conversation_remove(struct conversations *t, struct conversation *c);
int conversation_rename(struct conversations *t, struct conversation *c, const char *name, size_t len, struct err *e);
/* A name that is free, of the form "chat-7". */
void conversation_invent_name(struct conversations *t, char name[STREAM_NAME + 1]);
/* It is the one used last. */
void conversation_touch(struct conversations *t, struct conversation *c);

/* Whether this may happen now; and lets it happen. */
bool conversation_can(const struct conversation *c, enum happening h);
void conversation_happens(struct conversation *c, enum happening h);
/* What it was when it was put away, or is taken to be: nothing of it is to be kept anew. */
void conversation_set_state(struct conversation *c, enum state s);
bool conversation_busy(const struct conversation *c); /* queued, reading or answering */
const char *state_name(enum state s);
/* The state of this name, STATE_IDLE for another word. */
enum state state_named(const char *name);

/* Something of it has changed that is kept: text or events; with `row` also what stands in its row. */
void conversation_changed(struct conversation *c, bool row);

/* How an answer may end, as `message.finish` has it; NULL for another word. */
const char *conversation_finish(const char *name);

/* Appends a message; its text is copied. */
int conversation_add(struct conversation *c, enum role role, const char *text, size_t len, struct err *e);
/* Forgets messages and tokens from these on. The cache is the caller's business. */
void conversation_cut(struct conversation *c, size_t messages, int64_t tokens);
/* Leaves its text to the store, if that has all of it and nobody uses it: it is absent from now on. */
bool conversation_unload(struct conversation *c);
/* Messages from this one on have changed where the store may have them already. */
void conversation_rewrite(struct conversation *c, size_t messages);
/* Of its cache, wherever that is. */
const struct kv_info *conversation_cache(const struct conversation *c);
/* Tokens that the cache has yet to read. */
int64_t conversation_waiting(const struct conversation *c);

/* Tokens of its log. */
int64_t conversation_tokens(const struct conversation *c);

/* The first token of the window; 0 when none has left it. */
int64_t conversation_evicted_end(const struct conversation *c);

/* Writes `info`, as the protocol has it, under `key`. */
void conversation_info(const struct conversation *c, struct out *o, const char *key);

double clock_ms(void);	 /* monotonic */
double clock_unix(void); /* seconds */

#endif
