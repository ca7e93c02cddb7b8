/*
 * What the tests of grammars share: the vocabulary of the tiny models, patterns, and a matcher that is slow and plainly
 * right. What fails in here fails the test.
 */
#ifndef TESTS_GUIDING_H
#define TESTS_GUIDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guide.h"
#include "token.h"

extern struct vocab *vocab;
extern struct trie *trie;

int make_vocabulary(void **state); /* of a group of tests */
int free_vocabulary(void **state);

enum { PATTERNS = 30 };
extern const char *const patterns[PATTERNS];

/* Whether the pattern matches the text as a whole, by trying. */
bool matches(const char *pattern, const char *text);

struct grammar *grammar_of(const char *pattern);
/* Whether a guide takes the text byte by byte, and is complete then. */
bool accepts(const struct grammar *g, const char *text);
int32_t letter(char c); /* the token of this byte */

/* A generator that is the same everywhere. */
uint32_t roll(uint64_t *seed);

#endif
