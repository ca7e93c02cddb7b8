/*
 * The events of a conversation, one function each: encoded as the protocol has them and appended to its stream. An
 * event that memory is missing for is logged and lost; its number goes to the next one.
 */
#ifndef DAEMON_EVENT_H
#define DAEMON_EVENT_H

#include "conversation.h"

struct events;

int events_new(struct events **ret, struct err *e);
void events_free(struct events *v); /* NULL is fine */

void event_message(struct events *v, struct conversation *c, size_t message);
void event_answer(struct events *v, struct conversation *c);
void event_prefill(struct events *v, struct conversation *c, int64_t done, int64_t total, double ms);
/* A piece of the answer, with the tokens that the answer holds. */
void event_text(struct events *v, struct conversation *c, const struct text *text, const struct vocab *vocab);
/* Tokens from `first` up to the window have left it. */
void event_evicted(struct events *v, struct conversation *c, int64_t first);
/*
 * Its cache is back from "memory", "disk" or "replay": `tokens` are there again, `recomputed` must be, or were,
 * read anew.
 */
void event_restored(struct events *v, struct conversation *c, int64_t tokens, int64_t recomputed, const char *from,
		    double ms);
void event_unsaved(struct events *v, struct conversation *c, const struct err *why);
void event_saved(struct events *v, struct conversation *c);
void event_done(struct events *v, struct conversation *c, const char *finish, double now);
void event_error(struct events *v, struct conversation *c, const struct err *why);
void event_rewound(struct events *v, struct conversation *c, size_t messages);
void event_renamed(struct events *v, struct conversation *c, const char *to);
void event_removed(struct events *v, struct conversation *c);

#endif
