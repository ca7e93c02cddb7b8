/*
 * A guide leads one answer through a grammar: which tokens may come next, so that the answer fits the grammar in the
 * end, and does so within its tokens.
 *
 * Where an answer stands is a set of places in the automaton, each with its stack of calls. Sets are found one by one
 * as texts lead there, are kept with what follows from them, and forgotten when there are many. What is allowed after a
 * text depends on the grammar, the vocabulary and the text alone, not on what was looked at before.
 *
 * Steering. guide_least() tells tokens that surely finish the answer: each byte has a token of its own, and bytes that
 * are certain take the longest tokens that fit them. A token after which what is left would not suffice is not allowed.
 * Ends are allowed where the answer is complete.
 *
 * One thread at a time. Grammar and trie must outlive it. It takes up to 16 MiB, usually less than one.
 */
#ifndef ENGINE_GUIDE_H
#define ENGINE_GUIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "grammar.h"
#include "trie.h"

struct guide;

/* A guide at the beginning. SINK_EINVAL: the vocabulary cannot write anything that fits; SINK_ENOMEM. */
int guide_new(const struct grammar *g, const struct trie *t, struct guide **ret, struct err *e);
void guide_free(struct guide *q); /* NULL is fine */

/* So many tokens finish the answer from where it stands; fewer may do. 0: it is complete. */
int64_t guide_least(const struct guide *q);
bool guide_is_complete(const struct guide *q);
bool guide_is_closed(const struct guide *q); /* it is complete, and nothing may follow */

/* The answer goes on with this token. SINK_EINVAL: it may not, and the guide is as it was; SINK_ENOMEM. */
int guide_take(struct guide *q, int32_t token, struct err *e);

/*
 * Looking ahead: what would be allowed further on. guide_look() begins where the answer stands, guide_see() goes on
 * with a token, as guide_take() does.
 */
void guide_look(struct guide *q);
bool guide_see(struct guide *q, int32_t token);
bool guide_sees_end(const struct guide *q); /* it is closed there */

/* Tokens that are allowed, a bit each; valid until the next call. */
struct mask {
	const uint64_t *bits; /* of the vocabulary */
	size_t count;
	int32_t first; /* the lowest one; -1: none */
};

/* What may come next there when `left` tokens are left, that one included. SINK_ENOMEM. */
int guide_mask(struct guide *q, int64_t left, struct mask *ret, struct err *e);

/* Bytes that must come next there, whatever is said: up to `room`; returns how many. */
size_t guide_forced(struct guide *q, char *to, size_t room);

#endif
