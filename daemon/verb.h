/*
 * The verbs of the protocol (libproto/README.md): one table of name, needs and function. A frame comes in, and exactly
 * one reply goes out for it, now or later.
 *
 * A verb may need its conversation to be at home (no batch and no tokenizer has it), or all caches to be at home. What
 * it needs and cannot have yet makes its request wait, in order of arrival for each conversation, until the next batch
 * or text comes back: a step's time at most. Meanwhile all others are served.
 */
#ifndef DAEMON_VERB_H
#define DAEMON_VERB_H

#include "core.h"

/* Where a frame comes from. */
struct sender {
	const void *id; /* the routing id of its connection */
	size_t id_len;
	int fd; /* of its connection; -1 when unknown */
};

/* Serves a frame. A damaged one is answered with an error of id 0. */
void verb_dispatch(struct core *c, const struct sender *from, const void *frame, size_t size);

/* The answer to what is no message of one frame. */
void verb_refuse_frame(struct core *c, const struct sender *from, const struct err *why);

/* Whether the reply tells of a change that must be safe first. */
bool verb_changes(const struct verb *v);

/* Serves the requests that need not wait any more. */
void verb_retry(struct core *c);

#endif
