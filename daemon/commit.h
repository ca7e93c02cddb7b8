/*
 * A commit on its way: what has changed of conversations, as copies, with the replies that wait for it. For keep.c.
 *
 * Each conversation remembers how far it was handed over and how far it is safe (struct kept), so a commit that fails
 * is no loss: the next one is made of what is still missing, which the conversation itself holds.
 */
#ifndef DAEMON_COMMIT_H
#define DAEMON_COMMIT_H

#include "core.h"
#include "store.h"

/* A reply that waits for a commit. */
struct held {
	STAILQ_ENTRY(held) link;
	uint64_t serial;
	int64_t id, key;
	size_t size;
	char frame[];
};
STAILQ_HEAD(held_list, held);

/* What a commit carries of a conversation, and what it takes to carry it again. */
struct cargo {
	struct conversation *v; /* NULL: it was removed meanwhile */
	struct kept before;	/* as it was when it was handed over */
	int64_t tokens, messages, seq;
	void *buffer[5];
};

struct commit {
	struct job job;
	struct store *store;
	struct cargo *cargo;
	struct store_change *change;
	size_t changes;
	struct store_reply *reply;
	size_t replies;
	struct held_list held;
	bool durable;
	int64_t bytes; /* out: of the store */
	int rc;
	struct err err;
};

/* One without changes. NULL without memory. */
struct commit *commit_new(struct store *store, size_t room, bool durable);
void commit_free(struct commit *t);

/* Conversations that were removed. */
void commit_load_removed(struct commit *t, const int64_t *id, size_t count);
/* How many conversations commit_load_changed() would take. */
size_t commit_count(const struct conversations *table);
/* What has changed of conversations; it makes the commit durable when a turn has ended. SINK_ENOMEM. */
int commit_load_changed(struct core *c, struct commit *t, struct err *e);
/* Takes the replies over. SINK_ENOMEM. */
int commit_load_replies(struct commit *t, struct held_list *held, struct err *e);

/* It was carried out, or it is as if it had never been loaded. */
void commit_arrived(struct commit *t);
void commit_lost(struct commit *t);
/* The conversation is being removed. */
void commit_forget(struct commit *t, const struct conversation *v);

#endif
