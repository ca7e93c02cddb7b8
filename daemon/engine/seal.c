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

/* A head of a layer, and the rows of it that are gathered; `to` takes the first row, the next `apart` bytes later. */
struct piece {
	const char *keys, *values;
	size_t size, bytes; /* dimensions; bytes of an element, where they have no blocks */
	size_t first, rows;
};

/* The keys of a row are `size` elements, and so are the values that follow them. */
static void gather_elements(const struct piece *p, char *to, size_t apart)
{
	const size_t bytes = p->bytes, row = p->size * bytes;

	for (size_t d = 0; d < p->size; d++) {
		const char *from = p->keys + (d * PAGE_TOKENS + p->first) * bytes;

		__builtin_prefetch(from + AHEAD * PAGE_TOKENS * bytes);
		for (size_t i = 0; i < p->rows; i++) {
			if (bytes == 2)
				memcpy(to + i * apart + d * 2, from + i * 2, 2);
			else
				memcpy(to + i * apart + d * 4, from + i * 4, 4);
		}
	}
	for (size_t i = 0; i < p->rows; i++)
		memcpy(to + i * apart + row, p->values + (p->first + i) * row, row);
}

/* In 8 bits (kernels.h): the scales of a row's keys and its words of four, then those of its values, byte by byte. */
static void gather_q8(const struct piece *p, char *to, size_t apart)
{
	const size_t blocks = p->size / 32, scales = blocks * PAGE_TOKENS * 2, half = apart / 2;

	for (size_t i = 0; i < p->rows; i++, to += apart) {
		const size_t token = p->first + i;
		const char *keys = p->keys + scales + token * 4;
		const char *values = p->values + scales + token / 4 * p->size * 4 + token % 4;

		for (size_t b = 0; b < blocks; b++) {
			memcpy(to + b * 2, p->keys + (b * PAGE_TOKENS + token) * 2, 2);
			memcpy(to + half + b * 2, p->values + (b * PAGE_TOKENS + token) * 2, 2);
		}
		for (size_t j = 0; j < p->size / 4; j++) {
			__builtin_prefetch(keys + (j + AHEAD) * PAGE_TOKENS * 4);
			memcpy(to + blocks * 2 + j * 4, keys + j * PAGE_TOKENS * 4, 4);
		}
		for (size_t d = 0; d < p->size; d++)
			to[half + blocks * 2 + d] = values[d * 4];
	}
}

/* The sums of at most GROUP rows, of which the first lies in slot `first`. */
static uint64_t seal_group(const struct page_shape *s, const char *page, int run, int64_t slot, size_t first,
			   size_t rows)
{
	const size_t head_bytes = page_head_bytes(s), row = 2 * head_bytes / PAGE_TOKENS;
	struct piece p = { .size = s->head_size, .bytes = s->type == DTYPE_F32 ? 4 : 2, .first = first, .rows = rows };
	char gathered[GROUP * HEAD_SIZE_MAX * 2 * sizeof(float)];
	XXH3_state_t state[GROUP];
	uint64_t sum = 0;

	for (size_t i = 0; i < rows; i++) {
		XXH3_INITSTATE(&state[i]);
		XXH3_64bits_reset_withSeed(&state[i], seed_of(run, slot + (int64_t)i));
	}
	for (size_t l = 0; l < s->layers; l++)
		for (size_t h = 0; h < s->kv_heads; h++) {
			p.keys = page + page_layer_offset(s, l) + h * head_bytes;
			p.values = p.keys + s->kv_heads * head_bytes;
			(s->type == DTYPE_Q8_0 ? gather_q8 : gather_elements)(&p, gathered, row);
			for (size_t i = 0; i < rows; i++)
				XXH3_64bits_update(&state[i], gathered + i * row, row);
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
