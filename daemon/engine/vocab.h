/*
 * The inside of a vocabulary, for the two files that share it: token_read.c makes one of a file, token.c uses it.
 *
 * Ids are found by bytes in one hash table with two kinds of entries: marks (control and user-defined tokens, whose
 * text is literal) and plain tokens. A plain token that happens to read like a mark is therefore never taken for it,
 * nor the reverse.
 */
#ifndef ENGINE_VOCAB_H
#define ENGINE_VOCAB_H

#include "token.h"

enum { MARK_BYTES_MOST = 128 }; /* of a mark that is looked for in texts */

enum { CONTROL = 1, USER_DEFINED = 2, END = 4, BYTE = 8, MARK = CONTROL | USER_DEFINED };

struct entry {
	const char *at;
	uint32_t len;
	uint32_t flags;
};

struct vocab {
	struct entry *entry; /* by id */
	size_t size;
	char *bytes;   /* the decoded texts */
	int32_t *slot; /* hash table of ids + 1; 0: free */
	size_t mask;
	struct bpe *bpe;	   /* byte-level BPE: the merges, and how texts are cut before them */
	struct pretoken *pretoken; /* NULL: pieces with scores */
	uint32_t *rank;		   /* of pieces, by id: the higher the score, the lower */
	bool space_prefix;	   /* of pieces: a text has a blank put in front */
	int32_t byte[256];	   /* the token of each single byte, or -1 */
	int32_t bos, eos, unknown, fim[VOCAB_FIM];
	bool adds_bos;
	uint8_t begins[256];		      /* the kinds of marks that begin with this byte */
	uint8_t has_len[MARK_BYTES_MOST + 1]; /* the kinds of marks that have this length */
};

/* The slot of the token with these bytes, a mark or a plain one, or the slot where it would go. */
int32_t *vocab_slot(const struct vocab *v, const char *at, size_t len, bool mark);

/* The token with these bytes, or -1. */
int32_t vocab_lookup(const struct vocab *v, const char *at, size_t len, bool mark);

#endif
