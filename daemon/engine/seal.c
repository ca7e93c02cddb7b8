/*
 * Owns the sums of pages and rows. A row lies scattered over its page (each dimension of a key stands beside that of
 * the 63 other tokens), so its numbers are gathered piece by piece, a piece being the key and the value of one head in
 * one layer. Several rows are gathered together: they share the lines of memory, and to fetch those is what it costs.
 */
#include "seal.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
	GROUP = 32,	      /* rows that are gathered together: a line of memory, where elements have two bytes */
	ALONE_MOST = 8 << 20, /* bytes of pages that one thread compares alone */
	AHEAD = 64,	      /* dimensions whose lines are asked for in advance; those of the next head follow */
};

static uint64_t seed_of(int run, int64_t number)
{
	return (uint64_t)number * RUNS + (uint64_t)run;
}

uint64_t seal_bytes(const void *at, size_t count, uint64_t seed)
{
	return XXH3_64bits_withSeed(at, count, seed);
}

uint64_t seal_page(const struct page_shape *s, const void *page, int run, int64_t number)
{
	const uint64_t sum = seal_bytes(page, page_bytes(s), seed_of(run, number));

	return sum ? sum : 1;
}

/* Claims at work; threads take one after the other. */
struct comparing {
	const struct page_shape *shape;
	struct seal_claim *claim;
	size_t claims;
	atomic_size_t next;
};

static void *compare(void *arg)
{
	struct comparing *c = arg;
	size_t i;

	while ((i = atomic_fetch_add(&c->next, 1)) < c->claims) {
		struct seal_claim *claim = &c->claim[i];

		if (claim->page)
			claim->right = claim->sum == seal_page(c->shape, claim->page, claim->run, claim->number);
	}
	return NULL;
}

void seal_compare(const struct page_shape *s, struct seal_claim *claim, size_t claims)
{
	struct comparing c = { .shape = s, .claim = claim, .claims = claims };
	bool helped = false;
	pthread_t helper;
	size_t pages = 0;

	for (size_t i = 0; i < claims; i++)
		pages += claim[i].page != NULL;
	if (pages > 1 && pages > ALONE_MOST / page_bytes(s))
		helped = pthread_create(&helper, NULL, compare, &c) == 0;
	compare(&c);
	if (helped)
		pthread_join(helper, NULL);
}

/* Copies the keys of `rows` tokens from the first on, one after the other: to[rows][size], `apart` bytes apart. */
static void gather_keys(const char *keys, size_t size, size_t bytes, size_t rows, char *to, size_t apart)
{
	for (size_t d = 0; d < size; d++) {
		__builtin_prefetch(keys + (d + AHEAD) * PAGE_TOKENS * bytes);
		for (size_t i = 0; i < rows; i++) {
			const char *from = keys + (d * PAGE_TOKENS + i) * bytes;

			if (bytes == 2)
				memcpy(to + i * apart + d * 2, from, 2);
			else
				memcpy(to + i * apart + d * 4, from, 4);
		}
	}
}

/* Adds one head of one layer to the sums of `rows` rows. */
static void add_piece(XXH3_state_t *state, const char *keys, const char *values, size_t size, size_t bytes, size_t rows)
{
	char piece[GROUP * HEAD_SIZE_MAX * 2 * sizeof(float)];
	const size_t row = size * bytes;

	gather_keys(keys, size, bytes, rows, piece, 2 * row);
	for (size_t i = 0; i < rows; i++) {
		memcpy(piece + i * 2 * row + row, values + i * row, row);
		XXH3_64bits_update(&state[i], piece + i * 2 * row, 2 * row);
	}
}

/* The sums of at most GROUP rows, of which the first lies in slot `first`. */
static uint64_t seal_group(const struct page_shape *s, const char *page, int run, int64_t slot, size_t first,
			   size_t rows)
{
	const size_t layer_bytes = page_bytes(s) / s->layers;
	const size_t head_bytes = layer_bytes / s->kv_heads / 2, bytes = head_bytes / s->head_size / PAGE_TOKENS;
	XXH3_state_t state[GROUP];
	uint64_t sum = 0;

	for (size_t i = 0; i < rows; i++) {
		XXH3_INITSTATE(&state[i]);
		XXH3_64bits_reset_withSeed(&state[i], seed_of(run, slot + (int64_t)i));
	}
	for (size_t l = 0; l < s->layers; l++)
		for (size_t h = 0; h < s->kv_heads; h++) {
			const char *keys = page + page_layer_offset(s, l) + h * head_bytes;

			add_piece(state, keys + first * bytes, keys + layer_bytes / 2 + first * s->head_size * bytes,
				  s->head_size, bytes, rows);
		}
	for (size_t i = 0; i < rows; i++)
		sum += XXH3_64bits_digest(&state[i]);
	return sum;
}

uint64_t seal_rows(const struct page_shape *s, const void *page, int run, int64_t number, size_t first, size_t past)
{
	uint64_t sum = 0;

	assert(past <= PAGE_TOKENS && s->head_size <= HEAD_SIZE_MAX);
	for (size_t at = first; at < past; at += GROUP)
		sum += seal_group(s, page, run, number * PAGE_TOKENS + (int64_t)at, at,
				  past - at < GROUP ? past - at : GROUP);
	return sum;
}
