/*
 * How "scalar", "avx2" and "avx512" cut an operation into pieces for the threads. The cut is a matter of speed alone:
 * every piece writes results of its own, and how a result is summed up is the isa's business.
 */
#include <assert.h>
#include <stdlib.h>

#include "cpu.h"

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

/* Scratch for the quantized activations of the widest matrix. */
static int widen(struct device *d, size_t cols, struct err *e)
{
	size_t each = d->fast ? sizeof(struct xbytes) : sizeof(struct xwords),
	       bytes = d->max_rows * (cols / BLOCK) * each;
	void *x;

	if (cols <= d->widest)
		return 0;
	x = aligned_alloc(64, (bytes + 63) / 64 * 64);
	if (!x)
		return err_set(e, SINK_ENOMEM, "There is no memory for %zu bytes of quantized activations.", bytes);
	free(d->fast ? (void *)d->xb : (void *)d->xw);
	if (d->fast)
		d->xb = x;
	else
		d->xw = x;
	d->widest = cols;
	return 0;
}

int fast_weight_new(struct device *d, const struct tensor *t, struct weight **ret, struct err *e)
{
	struct weight *w;
	struct pack_run r;
	int rc = weight_check(t, e);

	if (rc == 0 && type_is_blocked(t->type))
		rc = widen(d, t->cols, e);
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
	w->data = cpu_map(w->bytes);
	if (!w->data) {
		err_set(e, SINK_ENOMEM, "There is no memory for a weight of %zu bytes.", w->bytes);
		free(w);
		return SINK_ENOMEM;
	}
	r = (struct pack_run){ t, w, divide_up(PIECE_BYTES, w->group_bytes) };
	pool_run(d->pool, pack_piece, &r, divide_up(w->groups, r.groups));
	*ret = w;
	return 0;
}

struct rows_run {
	const struct isa *isa;
	const float *x, *w;
	size_t n, width, rows; /* `rows` a piece */
	float eps;
	float *y;
	struct xbytes *xb;
	struct xwords *xw;
};

static void run_rows(struct device *d, void (*fn)(void *arg, size_t piece, int worker), struct rows_run *r)
{
	r->isa = d->isa;
	r->rows = divide_up(ROW_PIECE, r->width ? r->width : 1);
	pool_run(d->pool, fn, r, divide_up(r->n, r->rows));
}

#define EACH_ROW(r, piece) for (size_t i = (piece) * (r)->rows; i < ((piece) + 1) * (r)->rows && i < (r)->n; i++)

static void norm_piece(void *arg, size_t piece, int worker)
{
	const struct rows_run *r = arg;

	(void)worker;
	EACH_ROW(r, piece)
	r->isa->norm(r->x + i * r->width, r->width, r->w, r->eps, r->y + i * r->width);
}

static void gate_piece(void *arg, size_t piece, int worker)
{
	const struct rows_run *r = arg;

	(void)worker;
	EACH_ROW(r, piece)
	r->isa->gate(r->x + i * 2 * r->width, r->width, r->y + i * r->width);
}

static void quantize_piece(void *arg, size_t piece, int worker)
{
	const struct rows_run *r = arg;

	(void)worker;
	EACH_ROW(r, piece)
	{
		const size_t at = i * (r->width / BLOCK);

		if (r->xb)
			r->isa->bytes(r->x + i * r->width, r->width, r->xb + at);
		else
			r->isa->words(r->x + i * r->width, r->width, r->xw + at);
	}
}

void fast_norm(struct device *d, const float *x, size_t n, size_t width, const float *w, float eps, float *y)
{
	struct rows_run r = { .x = x, .w = w, .n = n, .width = width, .eps = eps, .y = y };

	run_rows(d, norm_piece, &r);
}

void fast_gate(struct device *d, const float *x, size_t n, size_t width, float *y)
{
	struct rows_run r = { .x = x, .n = n, .width = width, .y = y };

	run_rows(d, gate_piece, &r);
}

struct matmul_run {
	const struct device *d;
	const struct matmul *op;
	size_t groups, row_tiles; /* groups a piece; pieces that a chunk of groups has */
};

/* Pieces of a weight follow each other, its chunks of groups outside and the tiles of rows inside. */
static void matmul_piece(void *arg, size_t piece, int worker)
{
	const struct matmul_run *r = arg;
	const struct matmul *op = r->op;
	size_t column = 0, i = 0, chunk, row, at;
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
			   .x = op->x + row * op->w[i]->cols,
			   .n = op->n - row < TILE_ROWS ? op->n - row : TILE_ROWS,
			   .y = op->y + row * op->y_stride + column + chunk * LANES,
			   .y_stride = op->y_stride,
			   .add = op->add };
	if (type_is_blocked(op->w[i]->type)) {
		t.xb = r->d->xb ? r->d->xb + at : NULL;
		t.xw = r->d->xw ? r->d->xw + at : NULL;
	}
	r->d->isa->matmul(&t);
}

/* Enough pieces that no thread waits long for the last, none so small that taking it costs more than doing it. */
static size_t groups_a_piece(const struct device *d, const struct matmul *op, size_t row_tiles)
{
	size_t groups = 0, bytes = 0, wanted, most;

	for (size_t i = 0; i < op->weights; i++) {
		groups += op->w[i]->groups;
		bytes += op->w[i]->bytes;
	}
	wanted = groups * row_tiles / ((size_t)pool_threads(d->pool) * 8);
	most = PIECE_BYTES / (bytes / groups);
	wanted = wanted < most ? wanted : most;
	return wanted ? wanted : 1;
}

void fast_matmul(struct device *d, const struct matmul *op)
{
	struct matmul_run r = { d, op, 1, divide_up(op->n, TILE_ROWS) };
	bool quantized = false;
	size_t pieces = 0;

	assert(op->n <= d->max_rows);
	if (op->n == 0 || op->weights == 0)
		return;
	r.groups = groups_a_piece(d, op, r.row_tiles);
	for (size_t i = 0; i < op->weights; i++) {
		quantized |= type_is_blocked(op->w[i]->type);
		pieces += divide_up(op->w[i]->groups, r.groups) * r.row_tiles;
	}
	if (quantized) {
		struct rows_run q = { .x = op->x, .n = op->n, .width = op->w[0]->cols, .xb = d->xb, .xw = d->xw };

		run_rows(d, quantize_piece, &q);
	}
	pool_run(d->pool, matmul_piece, &r, pieces);
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
