/*
 * A score: log-probabilities of given tokens, read in a cache of its own (a fork of the conversation's, or an empty
 * one) like the prompt of any conversation, so that it delays nobody.
 *
 * Under a policy that recomputes, each token is predicted from its own window, which is read for it alone.
 */
#ifndef DAEMON_SCORE_H
#define DAEMON_SCORE_H

#include "core.h"

enum {
	SCORE_TOKENS = 65536,
	SCORES_MOST = 16,
	SCORE_ROWS = 1 << 20, /* that one reads at most, where each token costs a whole window */
};

struct score {
	TAILQ_ENTRY(score) link;
	struct runner runner;
	struct request *request;
	struct kv *kv;
	struct tokens tokens; /* those of the conversation that are read first, then those that are scored */
	int64_t base;	      /* the first one's place in the text */
	int64_t read, first;  /* tokens that the cache has; the first that is scored */
	int64_t next;	      /* where the policy recomputes: the first whose log-probability is not known yet */
	bool anew;	      /* it does */
	double *logprobs;     /* [tokens.count - first] */
};

/*
 * Begins one for the request, which it takes over on success; `id` is copied. `v` (may be NULL) is the conversation
 * that comes before. All caches must be at home. SINK_EBUSY: too many.
 */
int score_begin(struct core *c, struct request *r, struct conversation *v, const int32_t *id, size_t count,
		struct err *e);
void score_free(struct core *c, struct score *s); /* not replied to */

/* Sets its runner, fills its part of a batch, and takes the results. */
void score_prepare(struct score *s);
void score_fill(struct score *s, struct slice *slice, struct entry *n);
void score_take(struct core *c, struct score *s, const struct slice *slice);
void score_fail(struct core *c, struct score *s, const struct err *why);

#endif
