/*
 * Owns what the host tells the card: the arrays that describe a step, laid out in one block of pinned memory and
 * copied at once, and other small arrays as operations bring them.
 *
 * For steps of up to STAGE_FEW rows everything has a fixed address, so that a captured graph reads the arrays of the
 * step at hand. Of a conversation's pages only those are told that its rows see or go to, in a row: `ring` is then so
 * large that page i of the run is page[table + i].
 */
#include <stdlib.h>
#include <string.h>

#include "parts.h"

enum { PAGES_FIRST = 1 << 15, EAGER_BYTES = 1 << 22, KEPT_MOST = 4096 };

static const size_t align = 64;

/* Where the arrays of a step begin in the block, for steps of up to `rows` rows. */
struct layout {
	size_t rows, token, wants, key_at, query_at, row, near, page;
};

struct kept {
	void *at;
	size_t bytes;
	uint8_t *copy;
};

struct staging {
	uint8_t *host, *card; /* the block: arrays of a step, then its pages */
	size_t bytes, pages;  /* room for so many of them */
	uint64_t moved;
	const struct step *step; /* at hand, or NULL */
	struct layout at;
	int32_t pages_most;
	size_t pages_used;

	uint8_t *eager_host, *eager_card;
	size_t eager_bytes, eager_used;
	bool keeping;
	struct kept kept[KEPT_MOST];
	size_t kepts;
};

namespace CUDA_SPACE
{

static size_t aligned(size_t n)
{
	return (n + align - 1) / align * align;
}

static struct layout layout_of(size_t rows)
{
	struct layout l = {};

	l.rows = rows;
	l.wants = l.token + aligned(rows * sizeof(int32_t));
	l.key_at = l.wants + aligned(rows * sizeof(int32_t));
	l.query_at = l.key_at + aligned(rows * 2 * sizeof(int64_t));
	l.row = l.query_at + aligned(rows * RUNS * sizeof(int64_t));
	l.near = l.row + aligned(rows * sizeof(struct card_row));
	l.page = l.near + aligned(rows * sizeof(struct card_row));
	return l;
}

static void free_block(struct device *d, uint8_t *host, uint8_t *card, size_t bytes)
{
	if (host)
		cudaFreeHost(host);
	memory_free(d, card, bytes);
}

static int make_block(struct device *d, size_t bytes, uint8_t **host, uint8_t **card, struct err *e)
{
	void *h = NULL;

	*card = static_cast<uint8_t *>(memory_new(d, bytes, "the description of a step", e));
	if (!*card)
		return SINK_ENOMEM;
	if (cudaMallocHost(&h, bytes) != cudaSuccess) {
		cudaGetLastError();
		memory_free(d, *card, bytes);
		return err_set(e, SINK_ENOMEM, "The system has no %zu KiB of memory that a card can read.",
			       bytes >> 10);
	}
	*host = static_cast<uint8_t *>(h);
	return 0;
}

int staging_new(struct device *d, struct staging **ret, struct err *e)
{
	struct staging *s = static_cast<struct staging *>(calloc(1, sizeof(*s)));
	const size_t rows = d->o.max_rows > STAGE_FEW ? d->o.max_rows : size_t{ STAGE_FEW };
	int r;

	if (!s)
		return err_set(e, SINK_ENOMEM, "There is no memory for the description of steps.");
	s->pages = PAGES_FIRST;
	s->bytes = layout_of(rows).page + s->pages * sizeof(uint8_t *);
	s->eager_bytes = EAGER_BYTES;
	r = make_block(d, s->bytes, &s->host, &s->card, e);
	if (!r && (r = make_block(d, s->eager_bytes, &s->eager_host, &s->eager_card, e)) != 0)
		free_block(d, s->host, s->card, s->bytes);
	if (r)
		free(s);
	else
		*ret = s;
	return r;
}

void staging_free(struct staging *s)
{
	if (!s)
		return;
	cudaFreeHost(s->host);
	cudaFree(s->card);
	cudaFreeHost(s->eager_host);
	cudaFree(s->eager_card);
	for (size_t i = 0; i < s->kepts; i++) {
		cudaFree(s->kept[i].at);
		free(s->kept[i].copy);
	}
	free(s);
}

uint64_t staging_moved(const struct device *d)
{
	return d->staging->moved;
}

int32_t staging_pages_most(const struct device *d)
{
	return d->staging->pages_most;
}

void staging_keep(struct device *d, bool keep)
{
	d->staging->keeping = keep;
}

/* The pages of a run that rows of one conversation see or go to: lo .. hi-1; none when lo >= hi. */
struct stretch {
	int64_t lo, hi;
};

static void widen(struct stretch *s, int64_t first, int64_t past)
{
	if (first >= past)
		return;
	s->lo = s->lo < first / PAGE_TOKENS ? s->lo : first / PAGE_TOKENS;
	s->hi = s->hi > (past - 1) / PAGE_TOKENS + 1 ? s->hi : (past - 1) / PAGE_TOKENS + 1;
}

/* The stretches of the rows from `first` on that belong to one conversation; returns the row after them. */
static size_t stretch_rows(const struct row *rows, size_t n, size_t first, struct stretch s[RUNS])
{
	size_t i = first;

	for (int run = 0; run < RUNS; run++)
		s[run] = { INT64_MAX, 0 };
	for (; i < n && rows[i].tables == rows[first].tables; i++) {
		for (int run = 0; run < RUNS; run++)
			widen(&s[run], rows[i].sees[run].first, rows[i].sees[run].first + rows[i].sees[run].count);
		for (int place = 0; place < 2; place++)
			if (rows[i].goes[place].run >= 0)
				widen(&s[rows[i].goes[place].run], rows[i].goes[place].slot,
				      rows[i].goes[place].slot + 1);
	}
	return i;
}

static size_t pages_in(const struct stretch s[RUNS])
{
	size_t pages = 0;

	for (int run = 0; run < RUNS; run++)
		pages += s[run].lo < s[run].hi ? static_cast<size_t>(s[run].hi - s[run].lo) : 0;
	return pages;
}

static size_t pages_of(const struct row *rows, size_t n)
{
	struct stretch s[RUNS];
	size_t pages = 0;

	for (size_t i = 0; i < n;) {
		i = stretch_rows(rows, n, i, s);
		pages += pages_in(s);
	}
	return pages;
}

static int32_t pages_seen(const struct card_row *r)
{
	int64_t pages = 0;

	for (int run = 0; run < RUNS; run++)
		if (r->count[run] > 0)
			pages += (r->first[run] + r->count[run] - 1) / PAGE_TOKENS - r->first[run] / PAGE_TOKENS + 1;
	return static_cast<int32_t>(pages);
}

/* Up by at most a quarter, to few different numbers. */
static int32_t round_up(int32_t pages)
{
	int32_t step = 1;

	while (step * 8 < pages)
		step *= 2;
	return (pages + step - 1) / step * step;
}

static void put_row(const struct device *d, const struct row *from, const int32_t table[RUNS], int32_t group,
		    struct card_row *to)
{
	*to = {};
	to->group = group;
	for (int run = 0; run < RUNS; run++) {
		to->first[run] = from->sees[run].first;
		to->count[run] = from->sees[run].count;
		to->query[run] = from->sees[run].query;
		to->ring[run] = INT32_MAX;
		to->table[run] = table[run];
	}
	for (int place = 0; place < 2; place++) {
		const int run = from->goes[place].run;
		const int64_t slot = from->goes[place].slot;

		if (run < 0)
			continue;
		to->goes[place] = page_on_card(d, from->tables[run].page[slot / PAGE_TOKENS % from->tables[run].ring]);
		to->at[place] = static_cast<int32_t>(slot % PAGE_TOKENS);
	}
}

/* Rows behind the last see nothing and go nowhere. */
static void pad_rows(struct card_row *to, size_t n, size_t padded, int32_t group)
{
	for (size_t i = n; i < padded; i++) {
		to[i] = {};
		to[i].group = group;
		for (int run = 0; run < RUNS; run++)
			to[i].ring[run] = 1;
	}
}

/*
 * Describes n rows, and with `near` the same ones as they see less, which is found on the same pages. Returns the most
 * pages that one sees.
 */
static int32_t put_rows(const struct device *d, const struct row *rows, const struct row *near, size_t n, size_t padded,
			struct card_row *to, struct card_row *near_to, uint8_t **page)
{
	int32_t at = 0, most = 0, group = 0, table[RUNS];
	struct stretch s[RUNS];

	for (size_t i = 0; i < n; group++) {
		const struct page_table *tables = rows[i].tables;
		const size_t past = stretch_rows(rows, n, i, s);

		for (int run = 0; run < RUNS; run++) {
			table[run] = at - static_cast<int32_t>(s[run].lo < s[run].hi ? s[run].lo : 0);
			for (int64_t p = s[run].lo; p < s[run].hi; p++)
				page[at++] = page_on_card(d, tables[run].page[p % tables[run].ring]);
		}
		for (; i < past; i++) {
			put_row(d, &rows[i], table, group, &to[i]);
			if (near)
				put_row(d, &near[i], table, group, &near_to[i]);
			most = pages_seen(&to[i]) > most ? pages_seen(&to[i]) : most;
		}
	}
	pad_rows(to, n, padded, group);
	if (near)
		pad_rows(near_to, n, padded, group);
	return round_up(most);
}

/* More room for pages: the block moves. */
static bool more_pages(struct device *d, size_t pages)
{
	struct staging *s = d->staging;
	const size_t more = pages * 2, bytes = s->bytes + (more - s->pages) * sizeof(uint8_t *);
	uint8_t *host = NULL, *card = NULL;
	struct err e;

	ok(d, cudaStreamSynchronize(d->stream), "before a larger step");
	if (make_block(d, bytes, &host, &card, &e) != 0) {
		if (!d->failed.code)
			err_set(&d->failed, SINK_EDEVICE, "%s", e.text);
		return false;
	}
	free_block(d, s->host, s->card, s->bytes);
	s->host = host;
	s->card = card;
	s->bytes = bytes;
	s->pages = more;
	s->moved++;
	return true;
}

template <typename T> static void put(uint8_t *to, const T *from, size_t n, size_t padded)
{
	memcpy(to, from, n * sizeof(T));
	memset(to + n * sizeof(T), 0, (padded - n) * sizeof(T));
}

void staging_begin(struct device *d, const struct step *step, size_t n, size_t wanted)
{
	struct staging *s = d->staging;
	const size_t pages = pages_of(step->rows, step->n);

	if (pages > s->pages && !more_pages(d, pages))
		return;
	s->step = step;
	s->at = layout_of(n <= STAGE_FEW ? size_t{ STAGE_FEW } : n);
	put(s->host + s->at.token, step->token, step->n, n);
	put(s->host + s->at.wants, step->wants, step->wanted, wanted);
	put(s->host + s->at.key_at, step->key_at, step->n * 2, n * 2);
	put(s->host + s->at.query_at, step->query_at, step->n * RUNS, n * RUNS);
	s->pages_most = put_rows(d, step->rows, step->near, step->n, n,
				 reinterpret_cast<struct card_row *>(s->host + s->at.row),
				 reinterpret_cast<struct card_row *>(s->host + s->at.near),
				 reinterpret_cast<uint8_t **>(s->host + s->at.page));
	ok(d,
	   cudaMemcpyAsync(s->card, s->host, s->at.page + pages * sizeof(uint8_t *), cudaMemcpyHostToDevice, d->stream),
	   "describing a step");
}

void staging_end(struct device *d)
{
	d->staging->step = NULL;
}

/* What a graph names lies where it is for good, once for all graphs that have equal arrays. */
static const void *keep(struct device *d, const void *host, size_t bytes)
{
	struct staging *s = d->staging;
	struct kept *k = &s->kept[s->kepts];
	struct err e;

	for (size_t i = 0; i < s->kepts; i++)
		if (s->kept[i].bytes == bytes && memcmp(s->kept[i].copy, host, bytes) == 0)
			return s->kept[i].at;
	if (s->kepts == KEPT_MOST) {
		ok(d, cudaErrorMemoryAllocation, "too many arrays in graphs");
		return s->eager_card;
	}
	k->copy = static_cast<uint8_t *>(malloc(bytes));
	k->at = memory_new(d, bytes, "an array", &e);
	if (!k->copy || !k->at) {
		free(k->copy);
		memory_free(d, k->at, bytes);
		ok(d, cudaErrorMemoryAllocation, "an array");
		return s->eager_card;
	}
	memcpy(k->copy, host, bytes);
	k->bytes = bytes;
	s->kepts++;
	ok(d, cudaMemcpyAsync(k->at, host, bytes, cudaMemcpyHostToDevice, d->copying), "an array");
	ok(d, cudaStreamSynchronize(d->copying), "an array");
	return k->at;
}

/* Room in the block for arrays of the moment. It is used again when the card has read all of it. */
static size_t eager_room(struct device *d, size_t bytes)
{
	struct staging *s = d->staging;
	size_t at = s->eager_used;

	if (aligned(bytes) > s->eager_bytes - at) {
		ok(d, cudaStreamSynchronize(d->stream), "waiting for arrays");
		at = 0;
	}
	if (aligned(bytes) > s->eager_bytes) {
		uint8_t *host = NULL, *card = NULL;
		struct err e;

		if (make_block(d, aligned(bytes), &host, &card, &e) != 0) {
			if (!d->failed.code)
				err_set(&d->failed, SINK_EDEVICE, "%s", e.text);
			return SIZE_MAX;
		}
		free_block(d, s->eager_host, s->eager_card, s->eager_bytes);
		s->eager_host = host;
		s->eager_card = card;
		s->eager_bytes = aligned(bytes);
	}
	s->eager_used = at + aligned(bytes);
	return at;
}

static const void *send_eager(struct device *d, size_t at, size_t bytes)
{
	struct staging *s = d->staging;

	ok(d, cudaMemcpyAsync(s->eager_card + at, s->eager_host + at, bytes, cudaMemcpyHostToDevice, d->stream),
	   "sending an array");
	return s->eager_card + at;
}

const void *staged(struct device *d, const void *host, size_t bytes)
{
	struct staging *s = d->staging;
	size_t at;

	if (s->step && host == s->step->token)
		return s->card + s->at.token;
	if (s->step && host == s->step->wants)
		return s->card + s->at.wants;
	if (s->step && host == s->step->key_at)
		return s->card + s->at.key_at;
	if (s->step && host == s->step->query_at)
		return s->card + s->at.query_at;
	if (s->keeping)
		return keep(d, host, bytes);
	at = eager_room(d, bytes);
	if (at == SIZE_MAX)
		return s->eager_card;
	memcpy(s->eager_host + at, host, bytes);
	return send_eager(d, at, bytes);
}

struct card_rows staged_rows(struct device *d, const struct row *rows, size_t n)
{
	struct staging *s = d->staging;
	const size_t row_bytes = aligned(n * sizeof(struct card_row));
	struct card_rows ret = {};
	size_t at;

	if (s->step && (rows == s->step->rows || rows == s->step->near)) {
		const size_t where = rows == s->step->rows ? s->at.row : s->at.near;

		ret.row = reinterpret_cast<const struct card_row *>(s->card + where);
		ret.page = reinterpret_cast<uint8_t *const *>(s->card + s->at.page);
		ret.host = reinterpret_cast<const struct card_row *>(s->host + where);
		ret.pages_most = s->pages_most;
		return ret;
	}
	at = eager_room(d, row_bytes + pages_of(rows, n) * sizeof(uint8_t *));
	if (at == SIZE_MAX)
		return ret;
	ret.host = reinterpret_cast<struct card_row *>(s->eager_host + at);
	ret.pages_most = put_rows(d, rows, NULL, n, n, reinterpret_cast<struct card_row *>(s->eager_host + at), NULL,
				  reinterpret_cast<uint8_t **>(s->eager_host + at + row_bytes));
	ret.row = static_cast<const struct card_row *>(
		send_eager(d, at, row_bytes + pages_of(rows, n) * sizeof(uint8_t *)));
	ret.page = reinterpret_cast<uint8_t *const *>(s->eager_card + at + row_bytes);
	return ret;
}

} // namespace CUDA_SPACE
