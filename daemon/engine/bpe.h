/*
 * Byte-pair encoding: ranked joins of two neighbours into one token. Of all neighbours that may be joined, those of the
 * lowest rank (of equals, the first in the text) are, until none may. What may be joined is a rule: a table of merges
 * (Sennrich et al. 2016), or the pieces of a SentencePiece vocabulary with their scores.
 */
#ifndef ENGINE_BPE_H
#define ENGINE_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct bpe;

/* An empty table for at most `merges` merges. */
int bpe_new(size_t merges, struct bpe **ret, struct err *e);
void bpe_free(struct bpe *b); /* NULL is fine */

/* Adds the merge of the next rank. A pair that is there already keeps its rank. */
void bpe_add(struct bpe *b, int32_t left, int32_t right, int32_t joined);

/* Scratch for bpe_join(), used again by the next call; zero-initialize, then bpe_release(). */
struct bpe_scratch {
	void *memory;
	size_t bytes;
};
void bpe_release(struct bpe_scratch *s);

/* A part of a text: a token, or -1 while it is none, and the bytes that it stands for. */
struct bpe_part {
	int32_t id;
	uint32_t at, end;
};

/* Whether two neighbours may be joined, at which rank, and to which token; the same whenever it is asked. */
struct bpe_rule {
	bool (*joins)(const void *arg, const struct bpe_part *left, const struct bpe_part *right, uint32_t *rank,
		      int32_t *joined);
	const void *arg;
};

/* The rule of a table, which is `arg`. */
bool bpe_merges(const void *arg, const struct bpe_part *left, const struct bpe_part *right, uint32_t *rank,
		int32_t *joined);

/* Joins the parts of one piece in place and returns how many are left, or SINK_ENOMEM. O(n log n). */
int64_t bpe_join(const struct bpe_rule *rule, struct bpe_part *part, size_t count, struct bpe_scratch *s,
		 struct err *e);

#endif
