/*
 * The loop's side of the store (store.h): what has changed is handed over at the end of a turn, all conversations in
 * one transaction, one at a time; and nobody is told anything before it is safe. Events are sent, and replies to
 * requests that change something, when the transaction that holds them has been committed.
 *
 * When the disk takes no more, saving stops, loudly: `sink status`, STATUS=, an `unsaved` event to those who are
 * concerned. What was saved stays; all goes on in memory, up to a limit, and is saved as soon as that works again.
 *
 * All functions do nothing where nothing is kept (`state = none`).
 */
#ifndef DAEMON_KEEP_H
#define DAEMON_KEEP_H

#include "core.h"
#include "store.h"

enum { KEEP_ROWS = 512 }; /* commits of a conversation after which its small rows are put together */

struct keep;

/* Opens the store; a directory that is missing is made, 0700. SINK_EBUSY, SINK_EPROTO, SINK_EIO, SINK_ENOMEM. */
int keep_open(struct core *c, struct err *e);
/* All jobs must be at home. */
void keep_close(struct core *c);

bool keep_is_on(const struct core *c);
bool keep_has_stopped(const struct core *c); /* the disk takes no more */
const struct err *keep_trouble(const struct core *c);
struct store *keep_store(const struct core *c);
uint64_t keep_id(const struct core *c); /* of the store */
int keep_fd(const struct core *c);	/* readable when a job has come back; -1 */

int64_t keep_bytes(const struct core *c); /* of the store's file, as of the last commit */

/* A number that was never used. */
int64_t keep_number(struct core *c);

/* A new conversation is to be kept, under a number and in a segment of its own. */
void keep_begin(struct core *c, struct conversation *v);
/* It goes, with all that is kept of it. */
void keep_remove(struct core *c, struct conversation *v);
/*
 * The text of `fork` is that of `v` up to these numbers: neither is written again. keep_may_fork() is false while that
 * has to wait for a commit.
 */
bool keep_may_fork(const struct core *c, const struct conversation *v);
void keep_fork(struct core *c, struct conversation *v, struct conversation *fork, int64_t tokens, int64_t messages);

/* Whether the engine may read on: what the conversation's cache has read already is safe. */
bool keep_allows(const struct core *c, const struct conversation *v);
/* SINK_EBUSY when saving has stopped and too much of the conversation is unsaved. */
int keep_check(const struct core *c, const struct conversation *v, struct err *e);

/*
 * Holds the reply (`frame`, to request `id` of peer `serial`) until what it tells is safe. `key` 0: none. False: it is
 * not held, and to be sent at once.
 */
bool keep_reply(struct core *c, uint64_t serial, int64_t id, int64_t key, const void *frame, size_t size);

/* Another asker of a held reply. */
bool keep_redirect(struct core *c, int64_t key, uint64_t serial, int64_t id);

/* Jobs for the store's thread; `store` of them is keep_store(). SINK_EBUSY. */
int keep_give(struct core *c, struct job *j, struct err *e);
void keep_home(struct core *c); /* such a job has come back: to be called by its done() */
void keep_take(struct core *c);
/* The end of a turn. */
void keep_turn(struct core *c);
/* When keep_turn() has something to do by the clock, in ms; 0: never. */
double keep_due(const struct core *c);
/* Nothing is under way, and nothing is left to be handed over. */
bool keep_is_idle(const struct core *c);
bool keep_is_away(const struct core *c); /* a job is with the thread */
/* From now on all that is handed over is made durable. */
void keep_stop(struct core *c);

#endif
