/*
 * Checksums of cache pages (XXH3, 64 bits), each of which covers what the page is: its run and its number there.
 */
#ifndef ENGINE_SEAL_H
#define ENGINE_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels.h"

/* Of a whole page; never 0. */
uint64_t seal_page(const struct page_shape *s, const void *page, int run, int64_t number);

/* What is said of a page, and whether it is so. */
struct seal_claim {
	const void *page; /* NULL: there is none, and nothing is compared */
	int run;
	int64_t number;
	uint64_t sum;
	bool right;
};
/* Compares pages with their sums, in two threads where there is much to do; sets `right` of each that has a page. */
void seal_compare(const struct page_shape *s, struct seal_claim *claim, size_t claims);

/*
 * Of the rows in slots first .. past-1 of a page that still changes elsewhere (slots of the page, 0 .. PAGE_TOKENS):
 * a sum, so that a later row's is added to it, whatever cut the rows came in.
 */
uint64_t seal_rows(const struct page_shape *s, const void *page, int run, int64_t number, size_t first, size_t past);

/* Of any memory, such as a record's. */
uint64_t seal_bytes(const void *at, size_t count, uint64_t seed);

#endif
