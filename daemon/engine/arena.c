/*
 * Owns the map of pages, the count of each page's owners, the stack of those that were given back, and the blocks that
 * the caches' records lie in. On the stack pages whose memory went back to the system lie below those that have some.
 *
 * In files everything that a next process must know is in the files, and everything else is found again: who owns a
 * page is said by the records (record.h), so the counts and the stack are only in memory. A process may die between any
 * two instructions: what makes another thing valid is written after it (settled()).
 *
 * The file of records is a row of blocks, each a power of two long with a head of its own, up to the first place that
 * is no head. Blocks are neither split nor joined; one that was given up goes to the next taker of its size.
 */
#include "arena.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena_file.h"
#include "mirror.h"
#include "seal.h"

enum {
	BLOCK_MAGIC = 0x6b636c62,
	ORDER_LEAST = 10, /* blocks have 2^10 bytes and more */
	ORDER_MOST = 29,
	MEMORY_PAGE = 4096,
	WARM_PIECE = 256 << 10,
	STOCK = 2,	       /* beside `empty`, while others are made so */
	WARM_MOST = 256 << 20, /* bytes of an adopted file that are brought in: page tables take memory too */
};

/* Address space for records; memory is committed as they are made. */
static const size_t records_bytes = (size_t)1 << 30;

struct block {
	uint32_t magic, order; /* it has 2^order bytes, this head among them */
	uint64_t sum;	       /* of its place and its order */
	uint64_t used;
	uint64_t next; /* of those that are not: the one below in the stack; means nothing to a next process */
	uint64_t unused[4];
};

struct arena {
	const struct backend *b;
	struct device *d;
	struct page_shape shape;
	struct mirror *mirror;
	size_t page_bytes, pages;
	int64_t original;
	char *host; /* the map, and in it the first page */
	char *base;
	size_t head, mapped;
	uint32_t *refs; /* owners of each page */
	uint32_t *free; /* stack of pages that were used and given back */
	size_t free_count;
	size_t fresh;	/* pages from here on were never used: neither they nor their counts are in memory yet */
	size_t owned;	/* pages that have owners */
	uint8_t *empty; /* of pages that were used and given back: 1: their memory went back to the system */
	size_t stock;	/* pages that nobody owns and that keep their memory */
	pthread_t warmer;
	bool warming;

	struct arena_files files;
	char *records;
	size_t records_mapped, records_end;
	size_t waiting; /* the next block that kv_adopt() will see; 0: all were seen, and `free` holds what it shall */
	uint64_t idle[ORDER_MOST + 1];
};

/* What was written stands before what is written from here on, for whoever looks at the files after our death. */
static void settled(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

static int arena_alloc(const struct backend *b, struct device *d, const struct page_shape *shape, size_t bytes,
		       struct arena **ret, struct err *e)
{
	struct arena *a;

	if (page_bytes(shape) == 0 || bytes / page_bytes(shape) == 0)
		return err_set(e, SINK_EINVAL, "A cache of %zu bytes cannot hold one page of %zu bytes.", bytes,
			       page_bytes(shape));
	a = calloc(1, sizeof(*a));
	if (!a)
		return err_set(e, SINK_ENOMEM, "Out of memory for the cache's records.");
	a->b = b;
	a->d = d;
	a->shape = *shape;
	a->original = INT64_MAX;
	a->page_bytes = page_bytes(shape);
	a->pages = bytes / a->page_bytes;
	if (a->pages >= UINT32_MAX)
		a->pages = UINT32_MAX - 1;
	a->files = (struct arena_files){ -1, -1 };
	*ret = a;
	return 0;
}

/* Maps the pages, of the file if there is one, shows them to the device, and makes what counts them. */
static int map_pages(struct arena *a, struct err *e)
{
	const int fd = a->files.pages, flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *map;
	int r;

	a->head = fd < 0 ? 0 : ARENA_HEAD;
	a->mapped = a->head + a->pages * a->page_bytes;
	a->refs = calloc(a->pages, sizeof(*a->refs));
	a->free = calloc(a->pages, sizeof(*a->free));
	a->empty = calloc(a->pages, sizeof(*a->empty));
	map = mmap(NULL, a->mapped, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);
	a->host = map == MAP_FAILED ? NULL : map;
	if (!a->refs || !a->free || !a->empty || !a->host)
		return err_set(e, SINK_ENOMEM, "The system refused %zu MiB of address space for the cache: %s.",
			       a->mapped >> 20, strerror(errno));
	if (fd < 0)
		madvise(map, a->mapped, MADV_HUGEPAGE); /* fewer first touches; a refusal costs speed only */
	r = a->b->pages_attach(a->d, a->host + a->head, a->mapped - a->head, e);
	if (!r)
		a->base = a->host + a->head;
	if (!r && a->b->apart)
		r = mirror_new(a->b, a->d, &a->shape, a->base, a->pages, &a->mirror, e);
	return r;
}

int arena_new(const struct backend *b, struct device *d, const struct page_shape *shape, size_t bytes,
	      struct arena **ret, struct err *e)
{
	struct arena *a;
	int r = arena_alloc(b, d, shape, bytes, &a, e);

	if (!r && (r = map_pages(a, e)) != 0)
		arena_free(a);
	else if (!r)
		*ret = a;
	return r;
}

/* Compares the files with what is expected; only then the pages' is made longer, if need be. */
static int take_files(struct arena *a, const struct arena_files *from, uint64_t fingerprint, struct err *e)
{
	const size_t bytes = ARENA_HEAD + a->pages * a->page_bytes;
	size_t has, mapped;
	int r = arena_files_check(from, &a->shape, fingerprint, &has, &mapped, e);

	if (r)
		return r;
	if (has <= ARENA_HEAD || (has - ARENA_HEAD) % a->page_bytes || mapped != records_bytes)
		return err_set(e, SINK_EFORMAT, "The files of pages and of records have %zu and %zu bytes.", has,
			       mapped);
	if (has > bytes)
		return err_set(e, SINK_EINVAL, "The file of pages has %zu MiB, more than the %zu MiB for caches.",
			       has >> 20, bytes >> 20);
	if (has < bytes && ftruncate(from->pages, (off_t)bytes))
		return err_set(e, SINK_ENOMEM, "The file of pages cannot grow: %s.", strerror(errno));
	a->fresh = (has - ARENA_HEAD) / a->page_bytes;
	a->waiting = ARENA_HEAD;
	a->files = *from;
	return 0;
}

static struct block *block_at(const struct arena *a, size_t at)
{
	return (struct block *)(a->records + at);
}

static uint64_t block_sum(size_t at, uint32_t order)
{
	const uint64_t place[] = { at, order };

	return seal_bytes(place, sizeof(place), BLOCK_MAGIC);
}

static bool is_block(const struct arena *a, size_t at)
{
	const struct block *b = block_at(a, at);

	return at + sizeof(*b) <= a->records_mapped && b->magic == BLOCK_MAGIC && b->order >= ORDER_LEAST &&
	       b->order <= ORDER_MOST && at + ((size_t)1 << b->order) <= a->records_mapped &&
	       b->sum == block_sum(at, b->order);
}

static void give_up_block(struct arena *a, size_t at)
{
	struct block *b = block_at(a, at);

	b->used = 0;
	settled();
	b->next = a->idle[b->order];
	a->idle[b->order] = at;
}

/* Maps the records and walks over their blocks: up to the first place that is no block; what lies behind is lost. */
static int map_records(struct arena *a, struct err *e)
{
	void *map = mmap(NULL, records_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, a->files.records, 0);

	if (map == MAP_FAILED)
		return err_set(e, SINK_ENOMEM, "The system refused %zu MiB of address space for records: %s.",
			       records_bytes >> 20, strerror(errno));
	a->records = map;
	a->records_mapped = records_bytes;
	a->records_end = ARENA_HEAD;
	while (is_block(a, a->records_end)) {
		size_t at = a->records_end;

		a->records_end += (size_t)1 << block_at(a, at)->order;
		if (block_at(a, at)->used != 1)
			give_up_block(a, at);
	}
	return 0;
}

int arena_open(const struct backend *b, struct device *d, const struct page_shape *shape, uint64_t fingerprint,
	       size_t bytes, const struct arena_files *from, struct arena **ret, struct err *e)
{
	const bool adopts = from->pages >= 0 || from->records >= 0;
	struct arena *a;
	int r = arena_alloc(b, d, shape, bytes, &a, e);

	if (r)
		return r;
	r = adopts ? take_files(a, from, fingerprint, e)
		   : arena_files_make(shape, fingerprint, ARENA_HEAD + a->pages * a->page_bytes, records_bytes,
				      &a->files, e);
	if (!r)
		r = map_pages(a, e);
	if (!r)
		r = map_records(a, e);
	if (!r) {
		*ret = a;
		return 0;
	}
	if (adopts)
		a->files = (struct arena_files){ -1, -1 };
	arena_free(a);
	return r;
}

struct arena_files arena_files(const struct arena *a)
{
	return a->files;
}

const struct page_shape *arena_shape(const struct arena *a)
{
	return &a->shape;
}

void arena_turn(struct arena *a, int64_t original)
{
	a->original = original;
}

int64_t arena_original(const struct arena *a)
{
	return a->original;
}

struct mirror *arena_mirror(const struct arena *a)
{
	return a->mirror;
}

void arena_free(struct arena *a)
{
	if (!a)
		return;
	assert(a->owned == 0 || a->records);
	arena_warm_end(a);
	mirror_free(a->mirror);
	if (a->base)
		a->b->pages_detach(a->d);
	if (a->host)
		munmap(a->host, a->mapped);
	if (a->records)
		munmap(a->records, a->records_mapped);
	if (a->files.pages >= 0)
		close(a->files.pages);
	if (a->files.records >= 0)
		close(a->files.records);
	free(a->empty);
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
	return a->pages - a->owned;
}

size_t arena_page_bytes(const struct arena *a)
{
	return a->page_bytes;
}

/* In pieces: whoever maps or frees memory meanwhile waits for one of them. */
static void bring_in(char *at, size_t bytes, int how)
{
	for (size_t n; bytes; at += n, bytes -= n)
		madvise(at, n = bytes < WARM_PIECE ? bytes : WARM_PIECE, how);
}

/* Of an adopted file, what has memory is brought in, up to a limit; pages that have none are marked as empty. */
static void *warm(void *arg)
{
	struct arena *a = arg;
	size_t left = WARM_MOST;
	off_t at, past = ARENA_HEAD;

	if (!a->waiting) {
		bring_in(a->host, a->head + a->free_count * a->page_bytes, MADV_POPULATE_WRITE);
		return NULL;
	}
	memset(a->empty, 1, a->fresh);
	while ((at = lseek(a->files.pages, past, SEEK_DATA)) >= 0 &&
	       (past = lseek(a->files.pages, at, SEEK_HOLE)) > at) {
		const size_t bytes = (size_t)(past - at) < left ? (size_t)(past - at) : left;

		bring_in(a->host + at, bytes, MADV_POPULATE_READ);
		left -= bytes;
		for (size_t i = (size_t)(at - ARENA_HEAD); i < (size_t)(past - ARENA_HEAD); i += a->page_bytes)
			a->empty[i / a->page_bytes] = 0;
		a->empty[(size_t)(past - ARENA_HEAD - 1) / a->page_bytes] = 0;
	}
	return NULL;
}

void arena_warm(struct arena *a, size_t stock)
{
	assert(a->fresh == 0 || a->waiting);
	a->stock = stock < a->pages ? stock : a->pages;
	while (!a->waiting && a->free_count < a->stock)
		a->free[a->free_count++] = (uint32_t)(a->stock - ++a->fresh);
	a->warming = pthread_create(&a->warmer, NULL, warm, a) == 0;
}

void arena_warm_end(struct arena *a)
{
	if (a->warming)
		pthread_join(a->warmer, NULL);
	a->warming = false;
}

/* Ends adoption: records that nobody asked for are given up, pages that no cache claimed are free. */
static void settle(struct arena *a)
{
	size_t cursor = 0, bytes;
	void *block;

	if (!a->waiting)
		return;
	while (a->waiting < a->records_end && (block = arena_block_next(a, &cursor, &bytes)))
		arena_block_free(a, block);
	a->waiting = 0;
	a->free_count = 0;
	for (int empty = 1; empty >= 0; empty--)
		for (size_t i = a->fresh; i-- > 0;)
			if (a->refs[i] == 0 && a->empty[i] == empty)
				a->free[a->free_count++] = (uint32_t)i;
}

uint32_t arena_number(const struct arena *a, const void *page)
{
	return (uint32_t)((size_t)((const char *)page - a->base) / a->page_bytes);
}

void *arena_take(struct arena *a)
{
	size_t i;

	settle(a);
	assert(arena_pages_free(a) > 0);
	i = a->free_count ? a->free[--a->free_count] : a->fresh++;
	a->refs[i] = 1;
	a->empty[i] = 0;
	a->owned++;
	return a->base + i * a->page_bytes;
}

void *arena_claim(struct arena *a, uint32_t number)
{
	assert(a->waiting);
	if (number >= a->fresh)
		return NULL;
	a->owned += a->refs[number]++ == 0;
	a->empty[number] = 0;
	return a->base + (size_t)number * a->page_bytes;
}

void arena_share(struct arena *a, void *page)
{
	++a->refs[arena_number(a, page)];
}

bool arena_is_shared(const struct arena *a, const void *page)
{
	return a->refs[arena_number(a, page)] > 1;
}

void arena_drop(struct arena *a, void *page)
{
	const uint32_t i = arena_number(a, page);

	if (--a->refs[i])
		return;
	a->owned--;
	if (!a->waiting)
		a->free[a->free_count++] = i;
}

void arena_copy(struct arena *a, void *to, const void *from)
{
	a->b->page_copy(a->d, to, from, a->page_bytes);
}

/* Gives the memory of pages first .. past-1 back to the system. */
static bool empty_pages(struct arena *a, size_t first, size_t past)
{
	const size_t at = a->head + first * a->page_bytes, end = a->head + past * a->page_bytes;
	const size_t begin = (at + MEMORY_PAGE - 1) / MEMORY_PAGE * MEMORY_PAGE;

	if (a->files.pages >= 0)
		return !fallocate(a->files.pages, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
				  (off_t)(end - at));
	return begin >= end || !madvise(a->host + begin, (end - begin) / MEMORY_PAGE * MEMORY_PAGE, MADV_DONTNEED);
}

size_t arena_trim(struct arena *a)
{
	size_t bytes = 0, past;

	settle(a);
	for (size_t i = 0; i < a->stock && i < a->free_count; i++)
		a->empty[a->free[a->free_count - 1 - i]] |= STOCK;
	for (size_t i = 0; i < a->fresh; i = past + 1) {
		for (past = i; past < a->fresh && a->refs[past] == 0 && !a->empty[past]; past++)
			;
		if (past == i || !empty_pages(a, i, past))
			continue;
		memset(a->empty + i, 1, past - i);
		bytes += (past - i) * a->page_bytes;
	}
	for (size_t i = 0; i < a->stock && i < a->free_count; i++)
		a->empty[a->free[a->free_count - 1 - i]] &= (uint8_t)~STOCK;
	return bytes;
}

void *arena_block_new(struct arena *a, size_t bytes, struct err *e)
{
	uint32_t order = ORDER_LEAST;
	struct block *b;
	size_t at;

	settle(a);
	while (order < ORDER_MOST && ((size_t)1 << order) - sizeof(*b) < bytes)
		order++;
	at = a->records_end;
	if (!a->records) {
		b = calloc(1, bytes);
		if (!b)
			err_set(e, SINK_ENOMEM, "Out of memory for the record of a cache.");
		return b;
	}
	if (((size_t)1 << order) - sizeof(*b) < bytes ||
	    (!a->idle[order] && ((size_t)1 << order) + sizeof(*b) > a->records_mapped - at)) {
		err_set(e, SINK_ENOMEM, "There is no room left for the record of a cache.");
		return NULL;
	}
	if (a->idle[order]) {
		b = block_at(a, a->idle[order]);
		a->idle[order] = b->next;
	} else {
		a->records_end += (size_t)1 << order;
		memset(block_at(a, a->records_end), 0, sizeof(*b)); /* a walk shall end there, whatever it held */
		b = block_at(a, at);
		*b = (struct block){ .order = order, .sum = block_sum(at, order) };
		settled();
		b->magic = BLOCK_MAGIC;
	}
	memset(b + 1, 0, bytes);
	settled();
	b->used = 1;
	return b + 1;
}

void arena_block_free(struct arena *a, void *block)
{
	if (a->records)
		give_up_block(a, (size_t)((char *)((struct block *)block - 1) - a->records));
	else
		free(block);
}

void *arena_block_next(struct arena *a, size_t *cursor, size_t *bytes)
{
	while (a->waiting && a->waiting < a->records_end) {
		struct block *b = block_at(a, a->waiting);

		a->waiting += (size_t)1 << b->order;
		*cursor = a->waiting;
		*bytes = ((size_t)1 << b->order) - sizeof(*b);
		if (b->used)
			return b + 1;
	}
	settle(a);
	return NULL;
}
