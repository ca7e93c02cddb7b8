/*
 * The memory of all caches of a model: pages of PAGE_TOKENS tokens (kernels.h), counted by owner. Address space is
 * reserved at the start; a page takes memory when it is first used, and goes to the next taker when its last owner
 * drops it.
 *
 * There are no locks: one thread at a time; but for arena_pages(), which any may ask.
 *
 * The first touch of memory takes longer than what is done with it, so some of it is touched in advance, and a stock of
 * pages that nobody owns keeps its memory: arena_warm().
 */
#ifndef ENGINE_ARENA_H
#define ENGINE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "kernels.h"

struct arena;

/*
 * Where an arena lies when it is to outlive its process: two memfds, of the pages and of the records (kv.h) of the
 * caches in them. -1: none.
 */
struct arena_files {
	int pages, records;
};

/* Reserves address space for `bytes` of pages on the device; memory is committed as pages are first used. */
int arena_new(const struct backend *b, struct device *d, const struct page_shape *shape, size_t bytes,
	      struct arena **ret, struct err *e);

/*
 * The same in files: those of `from`, which an earlier process has left, or new ones where they are -1. `fingerprint`
 * is the model's. Adopted files grow to `bytes` when they are smaller; the caches in them wait for kv_adopt(), and are
 * forgotten once anything else is asked of the arena. SINK_EFORMAT: they are no arena, or one of another model, shape
 * or version; SINK_EINVAL: they are larger than `bytes`; nothing in them was changed then. SINK_ENOMEM: the system has
 * no memory, or no such files. The descriptors become the arena's on success only.
 */
int arena_open(const struct backend *b, struct device *d, const struct page_shape *shape, uint64_t fingerprint,
	       size_t bytes, const struct arena_files *from, struct arena **ret, struct err *e);
/* Its files; -1 for one of arena_new(). For handing over, not to be closed. */
struct arena_files arena_files(const struct arena *a);
const struct page_shape *arena_shape(const struct arena *a);
/*
 * The rows that a cache may have for the first set of the model's frequencies to be right (arch.h); before any cache is
 * made. Without it there is one set.
 */
void arena_turn(struct arena *a, int64_t original);
int64_t arena_original(const struct arena *a); /* INT64_MAX: there is one set */
/* What the host has of its pages (mirror.h); NULL where they lie at the host. */
struct mirror *arena_mirror(const struct arena *a);

/* NULL is fine; every kv must be gone. Files are closed; what kv_leave() left in them stays, if somebody has them. */
void arena_free(struct arena *a);

/*
 * Begins to bring memory into this process, in a thread of its own: of a new arena the first `stock` pages, of an
 * adopted one what its files hold, as far as it is reasonable. arena_warm_end() waits until that is done, 60 ms at most
 * where there is a core to spare, and comes before anything else that is done with the arena; arena_free() does so too.
 * From then on arena_take() prefers pages that have memory, and arena_trim() leaves as many that nobody owns.
 *
 * Where the system has no thread nothing is brought in, and all is as it was but slower.
 */
void arena_warm(struct arena *a, size_t stock);
void arena_warm_end(struct arena *a);

size_t arena_pages(const struct arena *a);
size_t arena_pages_free(const struct arena *a);
size_t arena_page_bytes(const struct arena *a);

/* A page of which the caller has made sure that there is one, and is its owner. Its old contents may still be in it. */
void *arena_take(struct arena *a);
void arena_share(struct arena *a, void *page); /* one owner more */
bool arena_is_shared(const struct arena *a, const void *page);
void arena_drop(struct arena *a, void *page); /* one owner less */
void arena_copy(struct arena *a, void *to, const void *from);

/* Gives the memory of pages that nobody owns, but for the stock, back to the system. Returns how many bytes. */
size_t arena_trim(struct arena *a);

/*
 * For records, which name a page by its number. arena_claim() makes one owner more of a page that a waiting record
 * names; NULL when there is no such page.
 */
uint32_t arena_number(const struct arena *a, const void *page);
void *arena_claim(struct arena *a, uint32_t number);

/*
 * Where a record lies: zeroed memory, in the file of records where there is one, aligned to 64 bytes there. It is found
 * again from now on. NULL: SINK_ENOMEM. May be called while another thread has pages of the arena, as kv_new() may.
 */
void *arena_block_new(struct arena *a, size_t bytes, struct err *e);
void arena_block_free(struct arena *a, void *block);

/* The next block that waits for adoption, and its size; NULL: no more, and the pages that nobody claimed are free. */
void *arena_block_next(struct arena *a, size_t *cursor, size_t *bytes);

#endif
