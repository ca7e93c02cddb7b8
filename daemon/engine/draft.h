/*
 * Drafts: what the next tokens of a text may be, looked up in the text itself. Answers that quote, correct or go on
 * with what stands above say long stretches of it again; a place where the same tokens came before tells which.
 *
 * A draft is a guess. Whoever uses it lets the model read it and keeps what the model would have said (model_keep());
 * so nothing here can make an answer another one, and a stale index costs time alone.
 */
#ifndef ENGINE_DRAFT_H
#define ENGINE_DRAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

enum {
	DRAFT_MOST = 16,     /* tokens of one draft */
	DRAFT_SPAN = 65536,  /* the last tokens of a text that are looked at */
	DRAFT_STRETCH = 8192 /* most tokens that one call takes into the index */
};

/* How well the place that a draft comes from agrees with the end of the text. */
struct draft_match {
	size_t suffix; /* tokens before both that are equal, up to 32 */
	size_t agrees; /* of the 32 tokens before, how many are */
	bool certain;  /* what it says is certain, if not in which tokens: it comes from elsewhere */
};

struct draft;

/* An empty index, for one text that only grows; it takes 8 bytes a token that it looks at. SINK_ENOMEM. */
int draft_new(struct draft **ret, struct err *e);
void draft_free(struct draft *d); /* NULL is fine */

/*
 * Writes at most `most` tokens that may follow log[count] to `out`, and returns how many: 0 when nothing is known, when
 * there is no memory, or while the index is behind (a long text is taken in over several calls).
 */
size_t draft_propose(struct draft *d, const int32_t *log, size_t count, size_t most, int32_t *out,
		     struct draft_match *match);

/*
 * How often drafts came true, by kind of match. What is not known is expected as with most texts, and what was learnt
 * is forgotten slowly while it is not used, so that it is tried again now and then.
 */
enum { DRAFT_KINDS = 15 };

struct draft_odds {
	float tried[DRAFT_KINDS], right[DRAFT_KINDS];
};

/* The chance of token `i` of a draft, when those before it were right. */
double draft_chance(const struct draft_odds *o, const struct draft_match *m, size_t i);
/* `tried` tokens were compared, the first `right` of them were; 0 tried: the draft was not used. */
void draft_learn(struct draft_odds *o, const struct draft_match *m, size_t tried, size_t right);

#endif
