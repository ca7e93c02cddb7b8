/*
 * Owns the card's memory for pages and their way to the host and back. A page has the same place in the host's map as
 * in the card's memory.
 *
 * The host's map is a file that outlives us, and cannot be pinned: it is larger than what may be. So a page goes to a
 * pinned buffer first, piece by piece, and from there to its place by a thread of the driver, in the order of a second
 * stream; neither the stream of operations nor our thread waits for it. A load is rare, and waits.
 */
#include <atomic>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

enum { PIECES = 4, JOBS = 1024 };

static const size_t piece_bytes = 4 << 20;

/* From the buffer to its place; with a number, that of the save that is complete then. */
struct piece {
	struct saves *saves;
	void *to;
	const void *from;
	size_t bytes;
	uint64_t number;
};

struct saves {
	uint8_t *buffer; /* pinned, PIECES of piece_bytes each */
	cudaEvent_t written;
	struct piece *piece; /* JOBS, used in turn */
	uint64_t pieces, begun;
	std::atomic<uint64_t> done, landed; /* saves, and pieces */
};

namespace CUDA_SPACE
{

int saves_new(struct device *d, struct saves **ret, struct err *e)
{
	struct saves *s = static_cast<struct saves *>(calloc(1, sizeof(*s)));
	void *buffer = NULL;

	(void)d;
	if (s)
		s->piece = static_cast<struct piece *>(calloc(JOBS, sizeof(*s->piece)));
	if (!s || !s->piece || cudaMallocHost(&buffer, PIECES * piece_bytes) != cudaSuccess ||
	    cudaEventCreateWithFlags(&s->written, cudaEventDisableTiming) != cudaSuccess) {
		cudaGetLastError();
		if (buffer)
			cudaFreeHost(buffer);
		if (s)
			free(s->piece);
		free(s);
		return err_set(e, SINK_ENOMEM, "There is no memory for pages on their way to the host.");
	}
	s->buffer = static_cast<uint8_t *>(buffer);
	*ret = s;
	return 0;
}

void saves_free(struct saves *s)
{
	if (!s)
		return;
	cudaEventDestroy(s->written);
	cudaFreeHost(s->buffer);
	free(s->piece);
	free(s);
}

int pages_attach(struct device *d, void *host, size_t bytes, struct err *e)
{
	d->pages = static_cast<uint8_t *>(memory_new(d, bytes, "the pages of caches", e));
	if (!d->pages)
		return SINK_ENOMEM;
	d->pages_host = static_cast<uint8_t *>(host);
	d->pages_bytes = bytes;
	return 0;
}

void pages_detach(struct device *d)
{
	cudaStreamSynchronize(d->copying);
	cudaStreamSynchronize(d->stream);
	memory_free(d, d->pages, d->pages_bytes);
	d->pages = d->pages_host = NULL;
	d->pages_bytes = 0;
}

size_t pages_room(struct device *d, size_t other)
{
	size_t free = 0, total = 0, left;

	if (cudaMemGetInfo(&free, &total) != cudaSuccess)
		return 0;
	left = d->o.memory && d->o.memory < d->taken + free ? d->o.memory - d->taken : free;
	if (d->o.memory && d->taken > d->o.memory)
		left = 0;
	return left > other ? left - other : 0;
}

uint8_t *page_on_card(const struct device *d, const void *page)
{
	return page ? d->pages + (static_cast<const uint8_t *>(page) - d->pages_host) : NULL;
}

void page_copy(struct device *d, void *to, const void *from, size_t bytes)
{
	ok(d, cudaMemcpyAsync(page_on_card(d, to), page_on_card(d, from), bytes, cudaMemcpyDeviceToDevice, d->stream),
	   "copying a page");
}

void page_load(struct device *d, void *page, size_t bytes)
{
	ok(d, cudaMemcpyAsync(page_on_card(d, page), page, bytes, cudaMemcpyHostToDevice, d->stream), "loading a page");
	ok(d, cudaStreamSynchronize(d->stream), "loading a page");
}

/* In a thread of the driver's, which may not call it. */
static void CUDART_CB land(void *arg)
{
	struct piece *p = static_cast<struct piece *>(arg);

	memcpy(p->to, p->from, p->bytes);
	if (p->number)
		p->saves->done.store(p->number, std::memory_order_release);
	p->saves->landed.fetch_add(1, std::memory_order_release);
}

static void save_piece(struct device *d, uint8_t *page, size_t bytes, uint64_t number)
{
	struct saves *s = d->saves;
	uint8_t *buffer = s->buffer + s->pieces % PIECES * piece_bytes;
	struct piece *p = &s->piece[s->pieces % JOBS];

	if (s->pieces - s->landed.load(std::memory_order_acquire) >= JOBS)
		ok(d, cudaStreamSynchronize(d->copying), "saving pages");
	*p = { s, page, buffer, bytes, number };
	s->pieces++;
	ok(d, cudaMemcpyAsync(buffer, page_on_card(d, page), bytes, cudaMemcpyDeviceToHost, d->copying),
	   "saving a page");
	ok(d, cudaLaunchHostFunc(d->copying, land, p), "saving a page");
}

uint64_t page_save(struct device *d, void *page, size_t bytes)
{
	struct saves *s = d->saves;
	uint8_t *at = static_cast<uint8_t *>(page);

	s->begun++;
	ok(d, cudaEventRecord(s->written, d->stream), "saving a page");
	ok(d, cudaStreamWaitEvent(d->copying, s->written, 0), "saving a page");
	for (size_t done = 0, n; done < bytes; done += n) {
		n = bytes - done < piece_bytes ? bytes - done : piece_bytes;
		save_piece(d, at + done, n, done + n == bytes ? s->begun : 0);
	}
	return s->begun;
}

bool page_saved(struct device *d, uint64_t save, bool wait)
{
	if (wait && d->saves->done.load(std::memory_order_acquire) < save)
		ok(d, cudaStreamSynchronize(d->copying), "saving pages");
	return d->saves->done.load(std::memory_order_acquire) >= save;
}

} // namespace CUDA_SPACE
