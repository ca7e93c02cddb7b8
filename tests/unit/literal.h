/*
 * A llama-type model evaluated by the words of the definition, as slowly as that is: no cache, keys kept raw, a mask of
 * all tokens against all, and for each token every key that it sees rotated anew at its rank among them. Sums are taken
 * in double. Memory that runs out, or a file that cannot be read, ends the test.
 */
#ifndef TESTS_LITERAL_H
#define TESTS_LITERAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct literal;

struct literal *literal_open(const char *path);
void literal_close(struct literal *l);
size_t literal_vocab(const struct literal *l);

/*
 * logits[n][vocab]: token t sees token i where mask[t * n + i], i <= t; itself always. Positions are ranks among the
 * visible tokens, or with `text` places in the text.
 */
void literal_logits(const struct literal *l, const int32_t *token, size_t n, const bool *mask, bool text,
		    float *logits);

#endif
