/*
 * Replies to requests that bear a key: what makes a request that a client sends again, because its connection was lost,
 * be carried out once. The latest STORE_REPLIES are remembered, in memory and by the store.
 */
#ifndef DAEMON_REPLIES_H
#define DAEMON_REPLIES_H

#include "core.h"

struct replies;

int replies_new(struct replies **ret, struct err *e);
void replies_free(struct replies *l); /* NULL is fine */

/* Those that the store has. */
int replies_load(struct core *c, struct err *e);

/*
 * A request with a key has come: true when it is one of before, and was answered, or its first asker will be forgotten
 * for this one; then it is freed. Otherwise its key is noted as being in hand.
 */
bool replies_know(struct core *c, struct request *r);

/* Its reply is made, and may wait to be sent: the request is in hand no more. */
void replies_made(struct core *c, const struct request *r);

/* It is in hand no more: it was refused. */
void replies_forget(struct core *c, const struct request *r);

/* Sends the reply, as that to request `id`, and remembers it under its key, if it has any. */
void replies_send(struct core *c, uint64_t serial, int64_t id, int64_t key, const void *frame, size_t size);

#endif
