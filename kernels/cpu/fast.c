/*
 * How all CPU backends but "ref" cut an operation into pieces for the threads. The cut is a matter of speed alone:
 * every piece writes results of its own, and how a result is summed up is the isa's business.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "dtype.h"

/* Numbers below which a piece of a row operation is not worth another thread, and rows of a piece of quantizing. */
enum { ROW_PIECE = 4096 };

/* A piece of a product reads at most this much of the weights. */
enum { PIECE_BYTES = 64 << 10 };

struct pack_run {
	const struct tensor *t;
	struct weight *w;
	size_t groups; /* a piece */
};

static size_t divide_up(size_t a, size_t b)
{
	return (a + b - 1) / b;
}

static void pack_piece(void *arg, size_t piece, int worker)
{
	const struct pack_run *r = arg;
	size_t end = (piece + 1) * r->groups;

	(void)worker;
	for (size_t g = piece * r->groups; g < end && g < r->w->groups; g++)
		pack_group(r->t, g, r->w->data + g * r->w->group_bytes);
}

static bool takes_bytes(const struct device *d, enum dtype type)
{
	return type_is_blocked(type) && d->fast && !type_is_super(type);
}

static bool takes_words(const struct device *d, enum dtype type)
{
	return type_is_blocked(type) && !takes_bytes(d, type);
}

static bool takes_tiles(const struct device *d, size_t rows)
{
	return d->isa->tiles && rows >= XTILE_FROM;
}

/* Replaces a buffer, whose pointer lies at `at`, by one of `bytes`; what was there is lost. */
static int replace(void *at, size_t bytes, struct err *e)
{
	void *old, *new = aligned_alloc(64, (bytes + 63) / 64 * 64);

	if (!new)
		return err_set(e, SINK_ENOMEM, "There is no memory for %zu bytes of activations.", bytes);
	memcpy(&old, at, sizeof(old));
	free(old);
	memcpy(at, &new, sizeof(new));
	return 0;
}

/* Scratch for the input of a weight: sized for the widest so far, of the kinds that have been wanted. */
static int widen(struct device *d, const struct tensor *t, struct err *e)
{
	const size_t widest = t->cols > d->widest ? t->cols : d->widest, rows = d->max_rows, blocks = widest / BLOCK;
	const bool wider = widest > d->widest, tiles = d->isa->tiles && type_is_blocked(t->type);
	const struct {
		void *at;
		bool there, wanted;
		size_t bytes;
	} list[] = {
		{ &d->row, d->row, true, (size_t)pool_threads(d->pool) * round_lanes(widest) * sizeof(*d->row) },
		{ &d->xb, d->xb, takes_bytes(d, t->type), rows * blocks * sizeof(*d->xb) },
		{ &d->xw, d->xw, takes_words(d, t->type), rows * blocks * sizeof(*d->xw) },
		{ &d->xf, d->xf, !type_is_blocked(t->type), rows * widest * sizeof(*d->xf) },
		{ &d->xt, d->xt, tiles, divide_up(rows, LANES) * blocks * sizeof(*d->xt) },
	};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(list) / sizeof(list[0]); i++)
		if (list[i].there ? wider : list[i].wanted)
			rc = replace(list[i].at, list[i].bytes, e);
	if (rc == 0)
		d->widest = widest;
	return rc;
}

static int pack_new(struct device *d, const struct tensor *t, struct weight **ret, struct err *e)
{
	struct weight *w;
	struct pack_run r;
	int rc = weight_check(t, e);

	if (rc == 0)
		rc = widen(d, t, e);
	if (rc != 0)
		return rc;
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(e, SINK_ENOMEM, "There is no memory for a weight.");
	w->type = t->type;
	w->rows = t->rows;
	w->cols = t->cols;
	w->groups = divide_up(t->rows, LANES);
	w->group_bytes = t->cols / dtype_find((uint32_t)t->type)->block * pack_block_bytes(t->type);
	w->bytes = w->groups * w->group_bytes;
	rc = cpu_weight_room(d, w, e);
	if (rc != 0) {
		free(w);
		return rc;
	}
	r = (struct pack_run){ t, w, divide_up(PIECE_BYTES, w->group_bytes) };
	pool_run(d->pool, pack_piece, &r, divide_up(w->groups, r.groups));
	*ret = w;
	return 0;
}

int fast_weight_new(struct device *d, const struct tensor *t, struct weight **ret, struct err *e)
{
	struct tensor five;
	int rc;

	if (t->type != DTYPE_MXFP4)
		return pack_new(d, t, ret, e);
	rc = dtype_mxfp4_to_q5_0(t, &five, e);
	if (rc == 0) {
		rc = pack_new(d, &five, ret, e);
		free((void *)five.data);
	}
	return rc;
}

/* Rows a piece of an operation that takes `width` numbers of each. */
static size_t rows_a_piece(size_t width)
{
	return divide_up(ROW_PIECE, width ? width : 1);
}

struct norm_run {
	const struct isa *isa;
	const struct norm *op;
};

static void norm_piece(void *arg, size_t piece, int worker)
{
	const struct norm_run *r = arg;
	const struct norm *op = r->op;
	size_t rows = rows_a_piece(op->parts * op->width), end = (piece + 1) * rows;

	(void)worker;
	for (size_t i = piece * rows; i < end && i < op->n; i++)
		for (size_t at = i * op->stride, part = 0; part < op->parts; part++, at += op->width)
			r->isa->norm(op, op->x + at, op->y + at);
}

void fast_norm(struct device *d, const struct norm *op)
{
	struct norm_run r = { d->isa, op };

	pool_run(d->pool, norm_piece, &r, divide_up(op->n, rows_a_piece(op->parts * op->width)));
}

/* The kinds of input that a product's weights want. */
struct prepare_run {
	const struct device *d;
	const struct matmul *op;
	size_t cols, rows; /* `rows` a piece */
	bool floats, bytes, words, tiles;
};

static void prepare_row(const struct prepare_run *r, size_t i, float *row)
{
	const struct isa *isa = r->d->isa;
	const struct matmul *op = r->op;
	const struct norm norm = { .width = r->cols,
				   .w = op->norm,
				   .shift = op->shift,
				   .eps = op->eps,
				   .layer = op->input == INPUT_LAYER_NORM };
	const float *x = op->x + i * r->cols * (input_is_gate(op->input) ? 2 : 1);
	const size_t at = i * (r->cols / BLOCK);

	if (op->input != INPUT_PLAIN && r->floats)
		row = r->d->xf + i * r->cols;
	if (op->input == INPUT_NORM || op->input == INPUT_LAYER_NORM)
		isa->norm(&norm, x, row);
	else if (op->input != INPUT_PLAIN)
		isa->activate(op->input, x, r->cols, row);
	if (op->input != INPUT_PLAIN)
		x = row;
	if (r->bytes)
		isa->bytes(x, r->cols, r->d->xb + at);
	if (r->words)
		isa->words(x, r->cols, r->d->xw + at);
}

/* Rows of whole tiles, from the bytes if there are any: a device that takes them has words for other types only. */
static void prepare_tiles(const struct prepare_run *r, size_t first, size_t end)
{
	const size_t blocks = r->cols / BLOCK;

	for (size_t i = first; i < end; i += LANES)
		r->d->isa->tiles(r->bytes ? r->d->xb + i * blocks : NULL, r->bytes ? NULL : r->d->xw + i * blocks,
				 blocks, end - i < LANES ? end - i : LANES, r->d->xt + i / LANES * blocks);
}

static void prepare_piece(void *arg, size_t piece, int worker)
{
	const struct prepare_run *r = arg;
	size_t first = piece * r->rows, end = first + r->rows < r->op->n ? first + r->rows : r->op->n;

	for (size_t i = first; i < end; i++)
		prepare_row(r, i, r->d->row + (size_t)worker * round_lanes(r->cols));
	if (r->tiles)
		prepare_tiles(r, first, end);
}

/* Returns what the tiles were made of: bytes, or else words. */
static bool prepare(struct device *d, const struct matmul *op)
{
	struct prepare_run r = { .d = d, .op = op, .cols = op->w[0]->cols, .rows = rows_a_piece(op->w[0]->cols) };

	for (size_t i = 0; i < op->weights; i++) {
		r.floats |= !type_is_blocked(op->w[i]->type);
		r.bytes |= takes_bytes(d, op->w[i]->type);
		r.words |= takes_words(d, op->w[i]->type);
	}
	r.tiles = takes_tiles(d, op->n) && (r.bytes || r.words);
	if (r.tiles)
		r.rows = divide_up(r.rows, LANES) * LANES;
	if (r.bytes || r.words || op->input != INPUT_PLAIN)
		pool_run(d->pool, prepare_piece, &r, divide_up(op->n, r.rows));
	return r.bytes;
}

struct matmul_run {
	const struct device *d;
	const struct matmul *op;
	size_t groups, row_tiles; /* groups a piece; pieces that a chunk of groups has */
	bool byte_tiles; /* what tiles of activations were made of, where there are any: bytes, or else words */
};

/* A bias goes first to where a product is added to, or joins what is there. `column` is the tile's first. */
static void put_bias(const struct matmul *op, struct tile *t, size_t column, size_t columns)
{
	for (size_t i = 0; i < t->n; i++)
		for (size_t c = 0; c < columns; c++) {
			float *y = &t->y[i * t->y_stride + c];

			*y = t->add ? *y + op->bias[column + c] : op->bias[column + c];
		}
	t->add = true;
}

static void clip(const struct tile *t, size_t columns, float most)
{
	for (size_t i = 0; i < t->n; i++)
		for (size_t c = 0; c < columns; c++) {
			float *y = &t->y[i * t->y_stride + c];

			*y = *y > most ? most : *y < -most ? -most : *y;
		}
}

/* Pieces of a weight follow each other, its chunks of groups outside and the tiles of rows inside. */
static void matmul_piece(void *arg, size_t piece, int worker)
{
	const struct matmul_run *r = arg;
	const struct matmul *op = r->op;
	size_t column = 0, i = 0, chunk, row, at, columns;
	struct tile t;

	(void)worker;
	for (;; i++) {
		size_t pieces = divide_up(op->w[i]->groups, r->groups) * r->row_tiles;

		if (piece < pieces)
			break;
		piece -= pieces;
		column += op->w[i]->rows;
	}
	chunk = piece / r->row_tiles * r->groups;
	row = piece % r->row_tiles * TILE_ROWS;
	at = row * (op->w[i]->cols / BLOCK);
	t = (struct tile){ .w = op->w[i],
			   .group = chunk,
			   .groups = op->w[i]->groups - chunk < r->groups ? op->w[i]->groups - chunk : r->groups,
			   .n = op->n - row < TILE_ROWS ? op->n - row : TILE_ROWS,
			   .y = op->y + row * op->y_stride + column + chunk * LANES,
			   .y_stride = op->y_stride,
			   .add = op->add };
	if (!type_is_blocked(op->w[i]->type))
		t.x = (op->input == INPUT_PLAIN ? op->x : r->d->xf) + row * op->w[i]->cols;
	else if (takes_bytes(r->d, op->w[i]->type))
		t.xb = r->d->xb + at;
	else
		t.xw = r->d->xw + at;
	if ((r->byte_tiles ? (const void *)t.xb : t.xw) && takes_tiles(r->d, op->n))
		t.xt = r->d->xt + at / LANES;
	columns = op->w[i]->rows - chunk * LANES;
	columns = columns < t.groups * LANES ? columns : t.groups * LANES;
	if (op->bias)
		put_bias(op, &t, column + chunk * LANES, columns);
	r->d->isa->matmul(&t);
	if (op->clip > 0)
		clip(&t, columns, op->clip);
}

/* Enough pieces that no thread waits long for the last, none so small that taking it costs more than doing it. */
static size_t groups_a_piece(const struct device *d, const struct matmul *op, size_t row_tiles)
{
	const size_t together = op->n > 1 ? d->isa->groups : 1;
	size_t groups = 0, bytes = 0, wanted, most;

	for (size_t i = 0; i < op->weights; i++) {
		groups += op->w[i]->groups;
		bytes += op->w[i]->bytes;
	}
	wanted = groups * row_tiles / ((size_t)pool_threads(d->pool) * 8);
	most = PIECE_BYTES / (bytes / groups);
	wanted = wanted < most ? wanted : most;
	wanted = wanted / together * together;
	return wanted ? wanted : together;
}

void fast_matmul(struct device *d, const struct matmul *op)
{
	struct matmul_run r = { .d = d, .op = op, .row_tiles = divide_up(op->n, TILE_ROWS) };
	size_t pieces = 0;

	assert(op->n <= d->max_rows);
	if (op->n == 0 || op->weights == 0)
		return;
	r.groups = groups_a_piece(d, op, r.row_tiles);
	for (size_t i = 0; i < op->weights; i++)
		pieces += divide_up(op->w[i]->groups, r.groups) * r.row_tiles;
	r.byte_tiles = prepare(d, op);
	pool_run(d->pool, matmul_piece, &r, pieces);
}

void fast_experts(struct device *d, const struct experts *op)
{
	static const struct cpu_products by = { fast_norm, fast_matmul };

	cpu_experts(d, &by, op);
}

struct store_run {
	const struct isa *isa;
	const struct store *op;
};

/* A piece is a KV head: tokens of one head share cache lines, so another thread has no business there. */
static void store_piece(void *arg, size_t piece, int worker)
{
	const struct store_run *r = arg;

	(void)worker;
	for (size_t i = 0; i < r->op->n; i++)
		r->isa->store(r->op, i, piece);
}

void fast_store(struct device *d, const struct store *op)
{
	struct store_run r = { d->isa, op };

	assert(op->shape->head_size <= HEAD_SIZE_MAX);
	if (op->n * op->shape->kv_heads * op->shape->head_size >= ROW_PIECE) {
		pool_run(d->pool, store_piece, &r, op->shape->kv_heads);
		return;
	}
	for (size_t head = 0; head < op->shape->kv_heads; head++)
		store_piece(&r, head, 0);
}

void fast_embed(struct device *d, const struct weight *w, const int32_t *token, size_t n, float scale, float *y)
{
	(void)d;
	for (size_t i = 0; i < n; i++, y += w->cols) {
		assert(token[i] >= 0 && (size_t)token[i] < w->rows);
		pack_row_to_f32(w, (size_t)token[i], y);
		for (size_t c = 0; scale != 1.0f && c < w->cols; c++)
			y[c] *= scale;
	}
}
