/*
 * Where a device has memory of its own for pages (backend.apart): how much of each page the host has too, and the seals
 * of those that it has whole. The engine's bytes of a page are the device's; the host's copy is what outlives the
 * process, is written to files, and is summed.
 *
 * A page goes to the host while others are computed, and is sealed there by threads of their own: to hash a page of
 * a large model takes as long as a step. All functions are called as operations of the device are, by one thread at a
 * time; none waits unless it is told to. What is told to be there is there: a page that was written again meanwhile is
 * not.
 */
#ifndef ENGINE_MIRROR_H
#define ENGINE_MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "kernels.h"

struct mirror;

/* For pages that lie one after the other from `base` on. */
int mirror_new(const struct backend *b, struct device *d, const struct page_shape *shape, char *base, size_t pages,
	       struct mirror **ret, struct err *e);
void mirror_free(struct mirror *m); /* NULL is fine; before the pages go */

/* The device writes to rows `from` and more of a page; 0: what it held is void. */
void mirror_touch(struct mirror *m, const void *page, size_t from);

/* A page was copied on the device; with `host` the host's copy is copied too, for as many rows as that has. */
void mirror_copied(struct mirror *m, void *to, const void *from, bool host);

/*
 * A page that lies at the host alone, or will when the caller has filled it there; and its way to the device, before
 * it is read there: `rows` of it count, and its seal where it is full (0: unknown). Nothing, if it is there already.
 */
void mirror_absent(struct mirror *m, void *page);
void mirror_load(struct mirror *m, void *page, size_t rows, uint64_t seal);

/* Whether the host has the first `want` rows; if not, the page is sent, with the `has` rows that the device has. */
bool mirror_rows(struct mirror *m, void *page, size_t want, size_t has, bool wait);

/* The same of a page that is full, with its seal as page `number` of a run; 0: not yet, or the device has failed. */
uint64_t mirror_seal(struct mirror *m, void *page, int run, int64_t number, bool wait);

#endif
