/* Owns the map of pages, the count of each page's owners, and the stack of those that were given back. */
#include "arena.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct arena {
	const struct backend *b;
	struct device *d;
	size_t page_bytes, pages;
	void *host; /* the map, and what the device calls it */
	char *base;
	size_t mapped;
	uint32_t *refs; /* owners of each page */
	uint32_t *free; /* stack of pages that were used and given back */
	size_t free_count;
	size_t fresh; /* pages from here on were never used: neither they nor their records are in memory yet */
	void *bounce; /* one page of host memory, for copies */
};

int arena_new(const struct backend *b, struct device *d, const struct page_shape *shape, size_t bytes,
	      struct arena **ret, struct err *e)
{
	struct arena *a;
	void *base;
	int r;

	if (page_bytes(shape) == 0 || bytes / page_bytes(shape) == 0)
		return err_set(e, SINK_EINVAL, "A cache of %zu bytes cannot hold one page of %zu bytes.", bytes,
			       page_bytes(shape));
	a = calloc(1, sizeof(*a));
	if (!a)
		return err_set(e, SINK_ENOMEM, "Out of memory for the cache's records.");
	a->b = b;
	a->d = d;
	a->page_bytes = page_bytes(shape);
	a->pages = bytes / a->page_bytes;
	if (a->pages > UINT32_MAX)
		a->pages = UINT32_MAX;
	a->mapped = a->pages * a->page_bytes;
	a->refs = calloc(a->pages, sizeof(*a->refs));
	a->free = calloc(a->pages, sizeof(*a->free));
	a->bounce = malloc(a->page_bytes);
	a->host = mmap(NULL, a->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!a->refs || !a->free || !a->bounce || a->host == MAP_FAILED) {
		r = err_set(e, SINK_ENOMEM, "The system refused %zu MiB of address space for the cache: %s.",
			    a->mapped >> 20, strerror(errno));
		goto fail;
	}
	r = b->pages_attach(d, a->host, a->mapped, &base, e);
	if (r)
		goto fail;
	a->base = base;
	*ret = a;
	return 0;
fail:
	arena_free(a);
	return r;
}

void arena_free(struct arena *a)
{
	if (!a)
		return;
	assert(a->free_count == a->fresh);
	if (a->base)
		a->b->pages_detach(a->d, a->base, a->mapped);
	if (a->host && a->host != MAP_FAILED)
		munmap(a->host, a->mapped);
	free(a->bounce);
	free(a->free);
	free(a->refs);
	free(a);
}

size_t arena_pages(const struct arena *a)
{
	return a->pages;
}

size_t arena_pages_free(const struct arena *a)
{
	return a->free_count + a->pages - a->fresh;
}

size_t arena_page_bytes(const struct arena *a)
{
	return a->page_bytes;
}

static uint32_t *page_refs(const struct arena *a, const void *page)
{
	return &a->refs[(size_t)((const char *)page - a->base) / a->page_bytes];
}

void *arena_take(struct arena *a)
{
	size_t i;

	assert(arena_pages_free(a) > 0);
	i = a->free_count ? a->free[--a->free_count] : a->fresh++;
	a->refs[i] = 1;
	return a->base + i * a->page_bytes;
}

void arena_share(struct arena *a, void *page)
{
	++*page_refs(a, page);
}

bool arena_is_shared(const struct arena *a, const void *page)
{
	return *page_refs(a, page) > 1;
}

void arena_drop(struct arena *a, void *page)
{
	uint32_t *refs = page_refs(a, page);

	if (--*refs == 0)
		a->free[a->free_count++] = (uint32_t)(refs - a->refs);
}

void arena_copy(struct arena *a, void *to, const void *from)
{
	a->b->read(a->d, a->bounce, from, a->page_bytes);
	a->b->write(a->d, to, a->bounce, a->page_bytes);
}
