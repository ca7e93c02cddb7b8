/*
 * Owns the way of a product: which forms its input gets, and who multiplies. Few rows meet weights as they are packed
 * (few.cu). Some rows meet quantized ones as halves, unpacked in registers (tiles.cu). Many become products of halves
 * by cuBLAS (blas.cu), F16 as it lies, the rest unpacked in stretches of rows; F32 goes through its products of F32.
 *
 * A half has 11 bits: a product of halves is off by 2^-11 of the sum of |w * x| at most, and by some 2^-12 of the root
 * of the sum of squares as a rule.
 */
#include "prepare.h"

/* Of a row of the input, in a block that is not its only one. */
enum { SPLIT_ROWS = 32 };

namespace CUDA_SPACE
{

/* Bytes of weights in halves at once. */
static const size_t tile_bytes = 128 << 20;

/* Grid: (rows, parts of a row). */
template <enum form F>
static __global__ void __launch_bounds__(PREPARE_THREADS) prepare_kernel(source from, uint8_t *to, size_t stride)
{
	__shared__ float sums[PREPARE_WARPS];

	grid_go();
	grid_wait();
	to += F == FORM_TILES ? blockIdx.x / TILE_ROWS * TILE_ROWS * stride + blockIdx.x % TILE_ROWS * 4 * sizeof(uint4)
			      : blockIdx.x * stride;
	prepare_row<F>(from, blockIdx.x, static_cast<int>(blockIdx.y), static_cast<int>(gridDim.y), to, sums);
}

static source source_of(const struct matmul *op)
{
	const size_t cols = op->w[0]->cols;
	const bool aligned = (reinterpret_cast<uintptr_t>(op->x) | reinterpret_cast<uintptr_t>(op->norm) |
			      reinterpret_cast<uintptr_t>(op->shift)) %
				     16 ==
			     0;

	return { op->x,
		 op->norm,
		 op->shift,
		 op->eps,
		 op->input,
		 static_cast<int>(cols),
		 static_cast<int>(op->n),
		 aligned && cols % 4 == 0 };
}

/* Rows that a form has for n: the fragments of TILES are for 16, 32 or 64. */
static size_t form_rows(enum form f, size_t n)
{
	return f != FORM_TILES ? n : n <= 16 ? 16 : n <= 32 ? 32 : 64;
}

/* Brings all rows to a form; NULL after a failure. */
static uint8_t *prepare(struct device *d, const struct matmul *op, const source &from, enum form f)
{
	const size_t cols = op->w[0]->cols, stride = form_bytes(f, cols), quads = (cols + 3) / 4;
	const size_t rows = form_rows(f, op->n);
	uint8_t *to = static_cast<uint8_t *>(scratch(d, SCRATCH_INPUT, rows * stride));
	const dim3 grid(static_cast<unsigned>(rows),
			rows > SPLIT_ROWS ? 1 : static_cast<unsigned>((quads + PREPARE_THREADS - 1) / PREPARE_THREADS));

	if (!to)
		return NULL;
#define PREPARE(form)                                                                                                  \
	ok(d, LAUNCH((prepare_kernel<form>), grid, PREPARE_THREADS, 0, d->stream, from, to, stride), "an input")
	if (f == FORM_FLOATS)
		PREPARE(FORM_FLOATS);
	else if (f == FORM_WORDS)
		PREPARE(FORM_WORDS);
	else if (f == FORM_BYTES)
		PREPARE(FORM_BYTES);
	else if (f == FORM_HALVES)
		PREPARE(FORM_HALVES);
	else if (f == FORM_TILES)
		PREPARE(FORM_TILES);
	else
		PREPARE(FORM_DENSE);
#undef PREPARE
	return to;
}

enum form few_form(const struct device *d, enum dtype type)
{
	if (!type_blocked(type))
		return FORM_FLOATS;
	return d->o.precision == PRECISION_FAST && !type_super(type) ? FORM_BYTES : FORM_WORDS;
}

const uint8_t *prepare_input(struct device *d, const struct matmul *op, enum form f)
{
	return prepare(d, op, source_of(op), f);
}

/* Matrices of one type that follow each other go together; a form is made once for those that follow each other. */
static void multiply_few(struct device *d, const struct matmul *op)
{
	const source from = source_of(op);
	const bool own = few_prepares(op);
	const uint8_t *x = NULL;
	enum form has = FORM_DENSE;

	for (size_t i = 0, column = 0, end; i < op->weights; i = end) {
		const enum form f = few_form(d, op->w[i]->type);
		size_t rows = 0;

		for (end = i; end < op->weights && op->w[end]->type == op->w[i]->type; end++)
			rows += op->w[end]->rows;
		if (!own && has != f) {
			x = prepare(d, op, from, f);
			has = f;
		}
		if (!own && !x)
			return;
		few_rows(d, op, i, end - i, column, f, from, x);
		column += rows;
	}
}

static void multiply_halves(struct device *d, const struct matmul *op, const struct weight *w, const uint8_t *x,
			    float *y)
{
	const size_t most = tile_bytes / (2 * w->cols), rows = w->rows < most ? w->rows : most ? most : 1;
	uint16_t *tile;

	if (w->type == DTYPE_F16) {
		blas_product(d, DTYPE_F16, w->q, w->rows, w->cols, x, op->n, HALVES_SCALE, y, op->y_stride, op->add);
		return;
	}
	tile = static_cast<uint16_t *>(scratch(d, SCRATCH_TILE, rows * w->cols * 2));
	for (size_t first = 0; tile && first < w->rows; first += rows) {
		const size_t n = w->rows - first < rows ? w->rows - first : rows;

		weight_to_halves(d, w, first, n, tile);
		blas_product(d, DTYPE_F16, tile, n, w->cols, x, op->n, HALVES_SCALE, y + first, op->y_stride, op->add);
	}
}

static enum form many_form(enum dtype type, size_t n)
{
	return type == DTYPE_F32 ? FORM_DENSE : type_blocked(type) && n <= TILES_MOST ? FORM_TILES : FORM_HALVES;
}

static void multiply_many(struct device *d, const struct matmul *op)
{
	const source from = source_of(op);
	const uint8_t *x = NULL;
	enum form has = FORM_WORDS;

	for (size_t i = 0, column = 0, end; i < op->weights; i = end) {
		const struct weight *w = op->w[i];
		const enum form f = many_form(w->type, op->n);
		size_t rows = 0;

		for (end = i; end < op->weights && op->w[end]->type == w->type; end++)
			rows += op->w[end]->rows;
		if (has != f) {
			x = prepare(d, op, from, f);
			has = f;
		}
		if (!x)
			return;
		if (f == FORM_TILES)
			some_rows(d, op, i, end - i, column, x);
		for (float *y = op->y + column; f != FORM_TILES && i < end; y += op->w[i++]->rows)
			if (f == FORM_DENSE)
				blas_product(d, DTYPE_F32, op->w[i]->q, op->w[i]->rows, w->cols, x, op->n, 1, y,
					     op->y_stride, op->add);
			else
				multiply_halves(d, op, op->w[i], x, y);
		column += rows;
	}
}

/* From five rows on a product of halves is faster for weights that are halves already. */
static size_t few_most(const struct matmul *op)
{
	for (size_t i = 0; i < op->weights; i++)
		if (op->w[i]->type != DTYPE_F16)
			return FEW_ROWS;
	return FEW_ROWS / 2;
}

/* Grid: (rows, stretches of columns). A bias goes to where a product is added to, or joins what is there. */
static __global__ void __launch_bounds__(PREPARE_THREADS)
	bias_kernel(float *y, size_t stride, const float *bias, size_t columns, bool add)
{
	const size_t c = size_t{ blockIdx.y } * PREPARE_THREADS + threadIdx.x;

	grid_wait();
	grid_go();
	if (c < columns)
		y[blockIdx.x * stride + c] = add ? y[blockIdx.x * stride + c] + bias[c] : bias[c];
}

static __global__ void __launch_bounds__(PREPARE_THREADS)
	clip_kernel(float *y, size_t stride, size_t columns, float most)
{
	const size_t c = size_t{ blockIdx.y } * PREPARE_THREADS + threadIdx.x;

	grid_wait();
	grid_go();
	if (c < columns)
		y[blockIdx.x * stride + c] = fminf(fmaxf(y[blockIdx.x * stride + c], -most), most);
}

static void multiply(struct device *d, const struct matmul *op)
{
	if (op->n <= few_most(op) || !d->blas)
		multiply_few(d, op);
	else
		multiply_many(d, op);
}

void matmul(struct device *d, const struct matmul *op)
{
	struct matmul biased = *op;
	size_t columns = 0;

	if (!op->n || !op->weights)
		return;
	if (!op->bias && !(op->clip > 0)) {
		multiply(d, op);
		return;
	}
	for (size_t i = 0; i < op->weights; i++)
		columns += op->w[i]->rows;

	const dim3 grid(static_cast<unsigned>(op->n),
			static_cast<unsigned>((columns + PREPARE_THREADS - 1) / PREPARE_THREADS));

	if (op->bias) {
		ok(d,
		   LAUNCH((bias_kernel), grid, PREPARE_THREADS, 0, d->stream, op->y, op->y_stride, op->bias, columns,
			  op->add),
		   "a bias");
		biased.add = true;
	}
	multiply(d, &biased);
	if (op->clip > 0)
		ok(d,
		   LAUNCH((clip_kernel), grid, PREPARE_THREADS, 0, d->stream, op->y, op->y_stride, columns, op->clip),
		   "clipping");
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* Unpacked weights get all at once what they will want in the end: what scratch outgrows stays taken. */
int matmul_room(struct device *d, const struct tensor *t, struct err *e)
{
	const size_t n = d->o.max_rows, few = d->blas && n > FEW_ROWS ? size_t{ FEW_ROWS } : n;
	const size_t most = tile_bytes / (2 * t->cols), rows = t->rows < most ? t->rows : most ? most : 1;
	size_t input = few * form_bytes(few_form(d, t->type), t->cols), tile = 0;

	if (d->blas && n > FEW_ROWS) {
		const enum form f = many_form(t->type, n < TILES_MOST ? n : size_t{ TILES_MOST });

		input = larger(input, form_rows(f, TILES_MOST) * form_bytes(f, t->cols));
		input = larger(input, n * form_bytes(many_form(t->type, SIZE_MAX), t->cols));
		if (t->type != DTYPE_F16 && t->type != DTYPE_F32)
			tile = rows * t->cols * 2 > tile_bytes / 8 ? larger(tile_bytes, rows * t->cols * 2)
								   : rows * t->cols * 2;
	}
	if (scratch(d, SCRATCH_INPUT, input) && (!tile || scratch(d, SCRATCH_TILE, tile)))
		return 0;
	return err_set(e, SINK_ENOMEM, "%s", d->failed.text);
}

} // namespace CUDA_SPACE
