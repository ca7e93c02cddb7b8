/*
 * The life of an answer: from a prompt, through reading and writing, to its end. These functions change a conversation
 * and write the events of it; none of them may be called while the conversation is away, unless it says so.
 */
#ifndef DAEMON_TALK_H
#define DAEMON_TALK_H

#include "core.h"

/*
 * A prompt is coming: the conversation is queued, though its text may still be with the tokenizer. `answers`: an answer
 * under these settings follows. SINK_EBUSY when it is at work already.
 */
int talk_begin(struct core *core, struct conversation *c, bool answers, const struct settings *s, struct err *e);

/*
 * The prompt is in the log, from token `cut` on: it is read from now on. `prompt`: number of the message that causes
 * it, or -1. `open`: the token with which the answer's turn begins; the log's end for one without marks.
 */
int talk_queue(struct core *core, struct conversation *c, int64_t prompt, int64_t cut, int64_t open, struct err *e);

/*
 * Goes on with what an earlier process left unfinished: text and cache are there. An answer's text is made once more of
 * its tokens; nothing is told twice.
 */
void talk_resume(struct core *core, struct conversation *c);

/* Whether an answer under these settings could begin: what its constraint asks for is possible. SINK_EINVAL. */
int talk_check(const struct core *core, const struct settings *s, struct err *e);

/* Takes talk_begin() back: nothing came of it. */
void talk_abandon(struct core *core, struct conversation *c);

/* Appends tokens to the log. SINK_EBUSY at the limit of its length. */
int talk_append(struct core *core, struct conversation *c, const int32_t *id, size_t count, struct err *e);

/* Some of the prompt was read. At its end an answer begins, or the work is done. */
void talk_read(struct core *core, struct conversation *c);

/* One token of the answer. */
void talk_token(struct core *core, struct conversation *c, const struct drawn *d);

/* Ends what it does, by the verb `stop`. */
void talk_stop(struct core *core, struct conversation *c);

/* It cannot go on. Nothing happens when it is not at work. */
void talk_fail(struct core *core, struct conversation *c, const struct err *why);

/*
 * Forgets messages from this number on; their tokens leave the cache too (*by "cache"), or the cache is emptied and
 * will be filled by replay. Needs all batches at home; c must not be at work. Writes the event.
 */
void talk_rewind(struct core *core, struct conversation *c, size_t messages, const char **by);

/* Makes its cache forget all tokens from `count` on, by cutting it or by emptying it; false: emptied. All at home. */
bool talk_trim(struct conversation *c, int64_t count);

/* Its cache is gone; what is left is the log, which is read anew when it is needed. All at home. */
void talk_drop_cache(struct conversation *c);

#endif
