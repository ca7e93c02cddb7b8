/*
 * The tokens of a vocabulary as a tree of their bytes, in the order of a walk through it: who knows that no token may
 * go on with a byte passes over all that do. Control tokens, marks that a user may name, and tokens of more than
 * TRIE_BYTES bytes are not in it. Made once a model; it never changes.
 */
#ifndef ENGINE_TRIE_H
#define ENGINE_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "token.h"

enum { TRIE_BYTES = 255 };

/* One byte behind those above it. */
struct trie_node {
	uint32_t skip;	/* the next node that does not begin with all of these bytes */
	uint32_t first; /* the tokens that end here: id[first .. the next node's first) */
	uint8_t byte;
	uint8_t depth;	/* bytes before it */
	uint8_t height; /* bytes of the longest token that begins so */
};

struct trie {
	const struct vocab *v;
	struct trie_node *node; /* [nodes + 1]; the last one is no node, its `first` the end of id[] */
	size_t nodes;
	int32_t *id;
	size_t ids;
	size_t depth;	    /* the longest token */
	uint32_t root[257]; /* the first node whose first byte is this one, or behind */
	bool spells[256];   /* there is a token of this byte alone */
	int32_t *end;	    /* tokens that end an answer */
	size_t ends;
};

/* The vocabulary must outlive it. */
int trie_new(const struct vocab *v, struct trie **ret, struct err *e);
void trie_free(struct trie *t); /* NULL is fine */

/* The bytes of a token that is in the tree; none for others, and for a number that is no token. */
struct gguf_str trie_token(const struct trie *t, int32_t id);

/* Bit k - 1: the first k of these bytes are a token; k up to 64. */
uint64_t trie_prefixes(const struct trie *t, const char *at, size_t len);

#endif
