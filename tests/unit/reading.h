/*
 * What the tests of the model share: models, caches, texts drawn at random, and the reading of them. Whatever fails
 * fails the test.
 */
#ifndef TESTS_READING_H
#define TESTS_READING_H

#include <stddef.h>
#include <stdint.h>

#include "model.h"

/* Most rows of a step, and ids that are marks in these tests: few, so that plain tokens stand between them. */
enum { ROWS = 512, MOST_MARKS = 4 };

struct model *open_model(const char *path, const char *kernels, int threads);
struct model *open_model_of(const char *path, const char *kernels, int threads, const char *cache_type);

/* A cache of the model; an `origin` below 0 asks for positions in the text. */
struct kv *open_cache(struct model *m, const char *policy, int64_t origin);
struct kv *open_cache_of(struct model *m, const char *policy, int64_t origin, int64_t limit);

void draw_tokens(uint32_t seed, size_t vocab, int32_t *token, size_t n);

/* Tokens with marks now and then: each third or so in some stretches, rare in others. */
void draw_text(const struct model *m, uint32_t seed, int32_t *token, size_t n);

/* Reads tokens in chunks and keeps all logits (NULL: none); returns their checksum. */
uint64_t read_text(struct model *m, struct kv *kv, const int32_t *token, size_t n, size_t chunk, float *logits);

double largest_difference(const float *a, const float *b, size_t n);

#endif
