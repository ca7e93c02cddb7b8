/*
 * Conversations that were kept: what stands in their rows, how they are found again at the start, how their text comes
 * back when it is used, and how an answer that a process left unfinished goes on in the next.
 */
#ifndef DAEMON_RESUME_H
#define DAEMON_RESUME_H

#include "core.h"

/* The state of a row: a MessagePack map (README.md). *ret is the caller's. SINK_ENOMEM. */
int resume_write(const struct core *c, const struct conversation *v, void **ret, size_t *size, struct err *e);
/* The same for a conversation of another place (bundle.h): what it is, not what it does. */
int resume_read(struct conversation *v, const void *state, size_t size, struct err *e);

/* All conversations of the store, their texts left where they are. *last: the largest number in use. */
int resume_list(struct core *c, int64_t *last, struct err *e);

/*
 * Has the text of an absent conversation read. True: it is there. False: it is on its way, or cannot be had
 * (v->trouble).
 */
bool resume_text(struct core *c, struct conversation *v);

/* Whether the model is one that the tokens of the conversation are of. SINK_EINVAL. */
int resume_check(const struct core *c, const struct conversation *v, struct err *e);

/* Goes on with those that were left at work, once the model is there: called every turn. */
void resume_turn(struct core *c);

#endif
