/*
 * The reference: every operation as its definition says, in plain C, with activations in F32 and weights dequantized as
 * they are used. It is the oracle of the other backends, so nothing here is shared with them but the threads and the
 * copies; sums are kept in double wherever that costs little.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "cpu.h"
#include "dtype.h"

/* Products summed up in F32, in sixteen lanes that a compiler can keep in registers, before they go to a double. */
enum { STRETCH = 256 };

/* Columns dequantized at once: a piece's own memory, on the stack. */
enum { COLUMNS = 4096 };

static int probe(struct err *e)
{
	(void)e;
	return 0;
}

static int open_ref(const struct device_options *o, struct device **ret, struct err *e)
{
	return cpu_open(NULL, o, ret, e);
}

static size_t row_bytes(enum dtype type, size_t cols)
{
	const struct dtype_info *info = dtype_find((uint32_t)type);

	return cols / info->block * info->bytes;
}

/* Room for what becomes of the input of the widest weight. */
static int widen(struct device *d, size_t cols, struct err *e)
{
	float *x;

	if (cols <= d->widest)
		return 0;
	x = calloc(d->max_rows * cols, sizeof(*x));
	if (!x)
		return err_set(e, SINK_ENOMEM, "There is no memory for %zu rows of %zu activations.", d->max_rows,
			       cols);
	free(d->xf);
	d->xf = x;
	d->widest = cols;
	return 0;
}

/* The weight is the file's bytes as they are. */
static int weight_new(struct device *d, const struct tensor *t, struct weight **ret, struct err *e)
{
	struct weight *w;
	int rc = weight_check(t, e);

	if (rc == 0)
		rc = widen(d, t->cols, e);
	if (rc != 0)
		return rc;
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(e, SINK_ENOMEM, "There is no memory for a weight.");
	w->type = t->type;
	w->rows = t->rows;
	w->cols = t->cols;
	w->bytes = t->rows * row_bytes(t->type, t->cols);
	rc = cpu_weight_room(d, w, e);
	if (rc != 0) {
		free(w);
		return rc;
	}
	memcpy(w->data, t->data, w->bytes);
	*ret = w;
	return 0;
}

static double dot(const float *a, const float *b, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i += STRETCH) {
		size_t end = n - i < STRETCH ? n : i + STRETCH, whole = i + (end - i) / LANES * LANES;
		float lane[LANES] = { 0 };

		for (size_t j = i; j < whole; j += LANES)
			for (size_t l = 0; l < LANES; l++)
				lane[l] += a[j + l] * b[j + l];
		for (size_t l = 0; l < LANES; l++)
			sum += (double)lane[l];
		for (size_t j = whole; j < end; j++)
			sum += (double)a[j] * (double)b[j];
	}
	return sum;
}

/* Rows of a matrix that a piece takes. */
enum { PIECE_ROWS = 16 };

struct product {
	const struct matmul *op;
	const struct weight *w;
	float *y;
};

static void matmul_piece(void *arg, size_t piece, int worker)
{
	const struct product *p = arg;
	const struct matmul *op = p->op;
	size_t cols = p->w->cols, bytes = row_bytes(p->w->type, cols), end = (piece + 1) * PIECE_ROWS;
	float wide[COLUMNS];

	(void)worker;
	for (size_t row = piece * PIECE_ROWS; row < end && row < p->w->rows; row++) {
		const uint8_t *src = p->w->data + row * bytes;

		for (size_t c = 0; c < cols; c += COLUMNS) {
			size_t n = cols - c < COLUMNS ? cols - c : COLUMNS;

			dtype_to_f32(p->w->type, src + row_bytes(p->w->type, c), n, wide);
			for (size_t i = 0; i < op->n; i++) {
				float *y = &p->y[i * op->y_stride + row];
				float sum = (float)dot(op->x + i * cols + c, wide, n);

				*y = c > 0 || op->add ? *y + sum : sum;
			}
		}
	}
}

static void embed(struct device *d, const struct weight *w, const int32_t *token, size_t n, float scale, float *y)
{
	(void)d;
	for (size_t i = 0; i < n; i++, y += w->cols) {
		assert(token[i] >= 0 && (size_t)token[i] < w->rows);
		dtype_to_f32(w->type, w->data + (size_t)token[i] * row_bytes(w->type, w->cols), w->cols, y);
		for (size_t c = 0; c < w->cols; c++)
			y[c] *= scale;
	}
}

/* One stretch of a row. */
static void norm_stretch(const struct norm *op, const float *x, float *y)
{
	double mean = 0, squares = 0, factor;

	for (size_t c = 0; op->layer && c < op->width; c++)
		mean += (double)x[c] / (double)op->width;
	for (size_t c = 0; c < op->width; c++)
		squares += ((double)x[c] - mean) * ((double)x[c] - mean);
	factor = 1 / sqrt(squares / (double)op->width + (double)op->eps);
	for (size_t c = 0; c < op->width; c++) {
		double z = ((double)x[c] - mean) * factor * (double)op->w[c] + (op->shift ? (double)op->shift[c] : 0);

		y[c] = (float)(z + (op->add ? (double)y[c] : 0));
	}
}

static void norm(struct device *d, const struct norm *op)
{
	(void)d;
	for (size_t i = 0; i < op->n; i++)
		for (size_t at = i * op->stride, part = 0; part < op->parts; part++, at += op->width)
			norm_stretch(op, op->x + at, op->y + at);
}

static double sigmoid(double x)
{
	return 1 / (1 + exp(-x));
}

/* sqrt(8 / pi) */
#define GELU_FACTOR 1.5957691216057308

/* The number that becomes of one, or of a pair where the input is a gate. */
static double activated(enum input input, double g, double u)
{
	if (input == INPUT_GELU)
		return g * erfc(-g / sqrt(2)) / 2;
	if (input == INPUT_GATE_GELU) /* (1 + tanh(x)) / 2 = sigmoid(2x) */
		return g * sigmoid(GELU_FACTOR * (g + 0.044715 * g * g * g)) * u;
	if (input == INPUT_GATE_CLAMPED) {
		g = fmin(g, 7);
		return g * sigmoid(1.702 * g) * (fmax(fmin(u, 7), -7) + 1);
	}
	return g * sigmoid(g) * u;
}

static void activate(enum input input, const float *x, size_t n, size_t width, float *y)
{
	const size_t stride = input_is_gate(input) ? 2 * width : width, other = stride - width;

	for (size_t i = 0; i < n; i++, x += stride, y += width)
		for (size_t c = 0; c < width; c++)
			y[c] = (float)activated(input, (double)x[c], (double)x[other + c]);
}

/* What a product's rows become last: with the bias, and clipped. */
static void finish(const struct matmul *op, size_t rows, size_t column)
{
	for (size_t i = 0; i < op->n; i++)
		for (size_t r = 0; r < rows; r++) {
			float *y = &op->y[i * op->y_stride + column + r];

			*y += op->bias ? op->bias[column + r] : 0;
			if (op->clip > 0)
				*y = fminf(fmaxf(*y, -op->clip), op->clip);
		}
}

static void matmul(struct device *d, const struct matmul *op)
{
	const size_t cols = op->weights ? op->w[0]->cols : 0;
	const bool layer = op->input == INPUT_LAYER_NORM;
	const struct norm normed = { op->x, d->xf, op->n, 1, cols, cols, op->norm, op->shift, op->eps, layer, false };
	struct matmul plain = *op;
	size_t column = 0;

	if (op->input == INPUT_NORM || layer)
		norm(d, &normed);
	else if (op->input != INPUT_PLAIN)
		activate(op->input, op->x, op->n, cols, d->xf);
	if (op->input != INPUT_PLAIN)
		plain.x = d->xf;
	for (size_t i = 0; i < op->weights; column += op->w[i++]->rows) {
		struct product p = { &plain, op->w[i], op->y + column };

		pool_run(d->pool, matmul_piece, &p, (op->w[i]->rows + PIECE_ROWS - 1) / PIECE_ROWS);
		if (op->bias || op->clip > 0)
			finish(op, op->w[i]->rows, column);
	}
}

static void experts(struct device *d, const struct experts *op)
{
	static const struct cpu_products by = { norm, matmul };

	cpu_experts(d, &by, op);
}

static void rotate(const struct head_shape *h, const float *x, const float *angles, float *y)
{
	memcpy(y, x, h->head_size * sizeof(*y));
	for (size_t i = 0; i < h->rotated / 2; i++) {
		size_t a = h->interleaved ? 2 * i : i, b = h->interleaved ? 2 * i + 1 : i + h->rotated / 2;
		float c = angles[2 * i], s = angles[2 * i + 1];

		y[a] = x[a] * c - x[b] * s;
		y[b] = x[a] * s + x[b] * c;
	}
}

/* Where an element of a head's keys or values lies: its number, or its byte behind the scales. */
static size_t place_of(const struct page_shape *s, bool value, size_t token, size_t dim)
{
	if (s->type != DTYPE_Q8_0)
		return value ? token * s->head_size + dim : dim * PAGE_TOKENS + token;
	return value ? (token / 4 * s->head_size + dim) * 4 + token % 4 : (dim / 4 * PAGE_TOKENS + token) * 4 + dim % 4;
}

static float element(const struct page_shape *s, const uint8_t *head, bool value, size_t token, size_t dim)
{
	size_t at = place_of(s, value, token, dim), scales = s->head_size / BLOCK * PAGE_TOKENS;

	if (s->type == DTYPE_F32)
		return ((const float *)head)[at];
	if (s->type == DTYPE_F16)
		return f16_to_f32(((const uint16_t *)head)[at]);
	return f16_to_f32(((const uint16_t *)head)[dim / BLOCK * PAGE_TOKENS + token]) *
	       (float)(int8_t)head[2 * scales + at];
}

static void put_block(const struct page_shape *s, uint8_t *head, bool value, size_t token, size_t first, const float *x)
{
	size_t scales = s->head_size / BLOCK * PAGE_TOKENS;
	float largest = 0, d;
	uint16_t half;

	for (size_t i = 0; i < BLOCK; i++)
		largest = fmaxf(largest, fabsf(x[i]));
	half = f16_of_f32(largest / 127);
	if (f16_to_f32(half) < largest / 127)
		half++;
	d = f16_to_f32(half);
	((uint16_t *)head)[first / BLOCK * PAGE_TOKENS + token] = half;
	for (size_t i = 0; i < BLOCK; i++)
		head[2 * scales + place_of(s, value, token, first + i)] =
			(uint8_t)(int8_t)(d > 0 ? rintf(x[i] / d) : 0);
}

static void put_row(const struct page_shape *s, uint8_t *head, bool value, size_t token, const float *x)
{
	for (size_t i = 0; i < s->head_size; i++) {
		size_t at = place_of(s, value, token, i);

		if (s->type == DTYPE_F32)
			((float *)head)[at] = x[i];
		else if (s->type == DTYPE_F16)
			((uint16_t *)head)[at] = f16_of_f32(x[i]);
		else if (i % BLOCK == 0)
			put_block(s, head, value, token, i, x + i);
	}
}

/* One KV head of one row to one place. */
static void store_head(const struct store *op, size_t row, int place, size_t head)
{
	const struct head_shape *h = op->shape;
	const struct row *r = &op->rows[row];
	const float *qkv = op->qkv + row * (h->heads + 2 * h->kv_heads) * h->head_size;
	const float *v = qkv + (h->heads + h->kv_heads + head) * h->head_size;
	int64_t slot = r->goes[place].slot;
	size_t at = (size_t)(slot % PAGE_TOKENS);
	uint8_t *keys = page_keys(&r->tables[r->goes[place].run], slot / PAGE_TOKENS, op->pages, op->layer, head);
	float k[HEAD_SIZE_MAX];

	rotate(h, qkv + (h->heads + head) * h->head_size, op->angles + (2 * row + (size_t)place) * h->rotated, k);
	put_row(op->pages, keys, false, at, k);
	put_row(op->pages, keys + page_values(op->pages), true, at, v);
}

static void store(struct device *d, const struct store *op)
{
	(void)d;
	assert(op->shape->head_size <= HEAD_SIZE_MAX);
	for (size_t i = 0; i < op->n; i++)
		for (int place = 0; place < 2; place++)
			for (size_t head = 0; op->rows[i].goes[place].run >= 0 && head < op->shape->kv_heads; head++)
				store_head(op, i, place, head);
}

/* A softmax that is being summed up: what was added so far counts e^(score - max). */
struct softmax {
	double max, sum;
	double o[HEAD_SIZE_MAX];
};

static void softmax_add(struct softmax *s, double score, const struct page_shape *pages, const uint8_t *values,
			size_t token)
{
	size_t size = pages->head_size;
	double keep = 1, weight;

	if (score > s->max) {
		keep = exp(s->max - score);
		s->max = score;
		s->sum *= keep;
		for (size_t i = 0; i < size; i++)
			s->o[i] *= keep;
	}
	weight = exp(score - s->max);
	s->sum += weight;
	for (size_t i = 0; i < size; i++)
		s->o[i] += weight * (double)element(pages, values, true, token, i);
}

static void see_run(const struct attend *op, const struct row *r, int run, size_t head, const float *q,
		    struct softmax *s)
{
	size_t size = op->shape->head_size, kv_head = head / (op->shape->heads / op->shape->kv_heads);
	double slope = op->slopes ? (double)op->slopes[head] : 0;
	int64_t end = r->sees[run].first + r->sees[run].count;

	for (int64_t slot = r->sees[run].first; slot < end; slot++) {
		const uint8_t *keys = page_keys(&r->tables[run], slot / PAGE_TOKENS, op->pages, op->layer, kv_head);
		size_t at = (size_t)(slot % PAGE_TOKENS);
		double score = 0;

		for (size_t i = 0; i < size; i++)
			score += (double)q[i] * (double)element(op->pages, keys, false, at, i);
		score = score * (double)op->shape->scale - slope * (double)(r->sees[run].query - slot);
		softmax_add(s, score, op->pages, keys + page_values(op->pages), at);
	}
}

/* A piece is one head of one row. */
static void attend_piece(void *arg, size_t piece, int worker)
{
	const struct attend *op = arg;
	const struct head_shape *h = op->shape;
	size_t row = piece / h->heads, head = piece % h->heads, size = h->head_size;
	const struct row *r = &op->rows[row];
	const float *x = op->qkv + (row * (h->heads + 2 * h->kv_heads) + head) * size;
	struct softmax s = { .max = -INFINITY };
	float q[HEAD_SIZE_MAX];

	(void)worker;
	for (int run = 0; run < RUNS; run++) {
		if (r->sees[run].count <= 0)
			continue;
		rotate(h, x, op->angles + (row * RUNS + (size_t)run) * h->rotated, q);
		see_run(op, r, run, head, q, &s);
	}
	if (op->sinks)
		s.sum += exp((double)op->sinks[head] - s.max);
	for (size_t i = 0; i < size; i++)
		op->y[piece * size + i] = s.sum > 0 ? (float)(s.o[i] / s.sum) : 0;
}

static void attend(struct device *d, const struct attend *op)
{
	struct attend copy = *op;

	assert(op->shape->head_size <= HEAD_SIZE_MAX);
	pool_run(d->pool, attend_piece, &copy, op->n * op->shape->heads);
}

const struct backend backend_ref = {
	.name = "ref",
	.about = "the definitions in plain C, F32 activations; slow",
	.page_type = DTYPE_F32,
	.probe = probe,
	.open = open_ref,
	CPU_OPS,
	.weight_new = weight_new,
	.norm = norm,
	.matmul = matmul,
	.experts = experts,
	.store = store,
	.attend = attend,
	.embed = embed,
};
