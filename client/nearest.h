/* "Did you mean …": the known word that a mistyped one is nearest to. */
#ifndef CLIENT_NEAREST_H
#define CLIENT_NEAREST_H

#include <stddef.h>

/*
 * The nearest of `count` words by edit distance (insert, remove, replace, swap neighbours), or NULL when none is near:
 * at most a third of the longer word may differ, and at least one letter may.
 */
const char *nearest(const char *word, size_t len, const char *const *words, size_t count);

#endif
