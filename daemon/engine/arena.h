/*
 * The memory of all caches of a model: pages of PAGE_TOKENS tokens (kernels.h), counted by owner. Address space is
 * reserved at the start; a page takes memory when it is first used, and goes to the next taker when its last owner
 * drops it.
 *
 * There are no locks: one thread at a time; but for arena_pages(), which any may ask.
 */
#ifndef ENGINE_ARENA_H
#define ENGINE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "kernels.h"

struct arena;

/* Reserves address space for `bytes` of pages on the device; memory is committed as pages are first used. */
int arena_new(const struct backend *b, struct device *d, const struct page_shape *shape, size_t bytes,
	      struct arena **ret, struct err *e);
void arena_free(struct arena *a); /* NULL is fine; every kv must be gone */
size_t arena_pages(const struct arena *a);
size_t arena_pages_free(const struct arena *a);
size_t arena_page_bytes(const struct arena *a);

/* A page of which the caller has made sure that there is one, and is its owner. Its old contents may still be in it. */
void *arena_take(struct arena *a);
void arena_share(struct arena *a, void *page); /* one owner more */
bool arena_is_shared(const struct arena *a, const void *page);
void arena_drop(struct arena *a, void *page); /* one owner less */
void arena_copy(struct arena *a, void *to, const void *from);

#endif
