/*
 * How attention is cut into pieces. Rows of one conversation that stand together make a tile, which shares the reading
 * of its pages. A piece is a tile and a KV head, with all its pages; or, when that would leave threads idle (one
 * conversation decoding), some of its spans, whose results are kept and merged afterwards in the same order in which a
 * whole piece merges them: the result does not tell how it was cut.
 */
#include <assert.h>

#include "cpu.h"

/* Spans of a piece at most, when they are split. */
enum { PIECE_SPANS = 2 };

/* Spans for each thread, from which on a piece takes all KV heads. */
enum { MANY_SPANS = 6 };

struct attend_run {
	const struct device *d;
	const struct attend *op;
	size_t tiles;
	size_t ratio;  /* heads that share a KV head */
	size_t spans;  /* a piece; 0: all, not split */
	size_t heads;  /* KV heads a piece: 1, or where spans are many all of them, which lie side by side in a page */
	size_t stride; /* floats of a span's result for a query */
};

static size_t divide_up(size_t a, size_t b)
{
	return (a + b - 1) / b;
}

/* The pages that any of the tile's rows sees. */
static void list_pages(const struct attend *op, struct attend_tile *t)
{
	t->span_count = 0;
	for (int run = 0; run < RUNS; run++) {
		int64_t first = 0, past = 0;

		for (size_t i = t->row; i < t->row + t->rows; i++) {
			int64_t from = op->rows[i].sees[run].first, count = op->rows[i].sees[run].count;
			int64_t a = from / PAGE_TOKENS, b = (from + count + PAGE_TOKENS - 1) / PAGE_TOKENS;

			if (count <= 0)
				continue;
			first = past == 0 || a < first ? a : first;
			past = b > past ? b : past;
		}
		t->pages.first[run] = first;
		t->pages.count[run] = past - first;
		t->span_count += list_spans(&t->pages, run);
	}
}

static size_t make_tiles(const struct attend *op, size_t ratio, struct attend_tile *tiles)
{
	size_t most = ratio < QUERIES ? QUERIES / ratio : 1, n = 0;

	for (size_t i = 0; i < op->n; i += tiles[n++].rows) {
		size_t rows = 1;

		while (rows < most && i + rows < op->n && op->rows[i + rows].tables == op->rows[i].tables)
			rows++;
		tiles[n] = (struct attend_tile){ .row = i, .rows = rows };
		list_pages(op, &tiles[n]);
	}
	return n;
}

/* Numbers the tiles' pieces; returns how many there are. */
static size_t number_pieces(const struct attend_run *r)
{
	size_t pieces = 0, kv_heads = r->op->shape->kv_heads;

	for (size_t i = 0; i < r->tiles; i++) {
		r->d->tiles[i].piece = pieces;
		pieces += kv_heads / r->heads * (r->spans ? divide_up(r->d->tiles[i].span_count, r->spans) : 1);
	}
	return pieces;
}

/* Splits the spans when whole tiles do not keep the threads busy and the partial results have room. */
static void plan_spans(struct attend_run *r)
{
	size_t kv_heads = r->op->shape->kv_heads, threads = (size_t)pool_threads(r->d->pool), spans = 0, floats = 0;
	size_t rows = 0;

	if (threads == 1 || r->tiles * kv_heads >= 4 * threads)
		return;
	for (size_t i = 0; i < r->tiles; i++) {
		struct attend_tile *t = &r->d->tiles[i];

		t->partials = floats;
		floats += t->rows * r->ratio * kv_heads * t->span_count * r->stride;
		spans += t->span_count;
		rows = t->rows > rows ? t->rows : rows;
	}
	if (spans * kv_heads < 2 || floats > PARTIAL_FLOATS)
		return;
	if (spans >= MANY_SPANS * threads && rows * r->ratio * kv_heads <= QUERIES)
		r->heads = kv_heads;
	r->spans = spans * (kv_heads / r->heads) / (threads * 8);
	r->spans = r->spans < 1 ? 1 : r->spans > PIECE_SPANS ? PIECE_SPANS : r->spans;
}

/* The tile that a piece belongs to. */
static const struct attend_tile *tile_of_piece(const struct attend_run *r, size_t piece)
{
	size_t lo = 0, hi = r->tiles;

	while (hi - lo > 1) {
		size_t mid = (lo + hi) / 2;

		if (r->d->tiles[mid].piece <= piece)
			lo = mid;
		else
			hi = mid;
	}
	return &r->d->tiles[lo];
}

/* Where the partial results of a tile's queries of one KV head begin. */
static float *tile_partials(const struct attend_run *r, const struct attend_tile *t, size_t kv_head)
{
	return r->d->partials + t->partials + kv_head * t->rows * r->ratio * t->span_count * r->stride;
}

static void attend_piece(void *arg, size_t piece, int worker)
{
	const struct attend_run *r = arg;
	const struct attend_tile *t = tile_of_piece(r, piece);
	size_t cuts = r->spans ? divide_up(t->span_count, r->spans) : 1, queries = t->rows * r->ratio;
	struct attend_part p = { .op = r->op,
				 .row = t->row,
				 .kv_head = (piece - t->piece) / cuts * r->heads,
				 .kv_heads = r->heads,
				 .pages = t->pages,
				 .span = (piece - t->piece) % cuts * r->spans,
				 .span_count = t->span_count,
				 .partial_stride = r->stride,
				 .partial_spans = t->span_count };

	if (r->spans)
		p.span_count = t->span_count - p.span < r->spans ? t->span_count - p.span : r->spans;
	for (p.query = 0; p.query < queries; p.query += QUERIES) {
		p.queries = queries - p.query < QUERIES ? queries - p.query : QUERIES;
		if (r->spans)
			p.partials = tile_partials(r, t, p.kv_head) + p.query * t->span_count * r->stride;
		r->d->isa->attend(&p, &r->d->attend[worker]);
	}
}

/* A piece of merging is a head of a row. */
static void merge_piece(void *arg, size_t piece, int worker)
{
	const struct attend_run *r = arg;
	const struct head_shape *h = r->op->shape;
	const struct attend_tile *t = r->d->tiles;
	const size_t at = piece / h->heads, head = piece % h->heads;

	(void)worker;
	while (at >= t->row + t->rows)
		t++;
	r->d->isa->merge(tile_partials(r, t, head / r->ratio) +
				 ((at - t->row) * r->ratio + head % r->ratio) * t->span_count * r->stride,
			 t->span_count, r->stride, h->head_size, r->op->sinks ? r->op->sinks + head : NULL,
			 r->op->y + piece * h->head_size);
}

void fast_attend(struct device *d, const struct attend *op)
{
	const struct head_shape *h = op->shape;
	struct attend_run r = { .d = d, .op = op, .ratio = h->heads / h->kv_heads, .heads = 1 };

	assert(op->n <= d->max_rows && h->head_size <= HEAD_SIZE_MAX && h->heads % h->kv_heads == 0);
	r.stride = PARTIAL_VALUES + round_lanes(h->head_size);
	r.tiles = make_tiles(op, r.ratio, d->tiles);
	plan_spans(&r);
	pool_run(d->pool, attend_piece, &r, number_pieces(&r));
	if (r.spans)
		pool_run(d->pool, merge_piece, &r, op->n * h->heads);
}
