/*
 * Byte-pair encoding: ranked merges of two tokens into one. Of all neighbours that have a merge, those of the lowest
 * rank (of equals, the first in the text) are joined, until no neighbours have one.
 */
#ifndef ENGINE_BPE_H
#define ENGINE_BPE_H

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

/* Joins the ids of one piece in place and returns how many are left, or SINK_ENOMEM. O(n log n). */
int64_t bpe_join(const struct bpe *b, int32_t *id, size_t count, struct bpe_scratch *s, struct err *e);

#endif
