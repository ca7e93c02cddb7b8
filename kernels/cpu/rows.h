/*
 * Operations on rows, written once over the sixteen lanes of the lanes_*.h that the including file chose: so they give
 * the same bits with every instruction set. Included by scalar.c, avx2.c, avx512.c and amx.c only.
 */
#ifndef CPU_ROWS_H
#define CPU_ROWS_H

#include <math.h>
#include <string.h>

#include "dtype.h"

/* Adding 1.5 * 2^23 leaves a number of less than 2^22 rounded to the nearest whole in the low bits of the mantissa. */
#define MAGIC 12582912.0f

/* The last `n` < LANES numbers of a row, zeros behind them. */
INLINE struct v16 load_some(const float *p, size_t n)
{
	float all[LANES] = { 0 };

	memcpy(all, p, n * sizeof(*p));
	return v16_load(all);
}

INLINE void store_some(float *p, size_t n, struct v16 x)
{
	float all[LANES];

	v16_store(all, x);
	memcpy(p, all, n * sizeof(*p));
}

/*
 * e^x for x <= 0; the largest error is 1.01 units in the last place, e^0 is 1, and below -87 it is 0 (e^-87
 * is 1.6e-38). x = n ln 2 + r with |r| <= ln 2 / 2, and e^r = 1 + r + r^2 q(r) with q of degree 4 by Remez' exchange
 * (3.1e-9).
 */
INLINE struct v16 exp_negative(struct v16 x)
{
	struct v16 z = v16_fma(x, v16_set1(0x1.715476p+0f), v16_set1(MAGIC));
	struct v16 n = v16_sub(z, v16_set1(MAGIC)), r, q;

	r = v16_fma(n, v16_set1(-0x1.62e43p-1f), x);
	r = v16_fma(n, v16_set1(0x1.05c61p-29f), r);
	q = v16_set1(0x1.6a23dp-10f);
	q = v16_fma(q, r, v16_set1(0x1.123a2p-7f));
	q = v16_fma(q, r, v16_set1(0x1.5558f2p-5f));
	q = v16_fma(q, r, v16_set1(0x1.555492p-3f));
	q = v16_fma(q, r, v16_set1(0x1.fffffcp-2f));
	q = v16_fma(v16_mul(r, r), q, r);
	q = v16_add(q, v16_set1(1.0f));
	return v16_zero_below(x, -87.0f, v16_scale_exponent(q, z));
}

INLINE struct v16 load_up_to(const float *p, size_t n)
{
	return n < LANES ? load_some(p, n) : v16_load(p);
}

INLINE void store_up_to(float *p, size_t n, struct v16 x)
{
	if (n < LANES)
		store_some(p, n, x);
	else
		v16_store(p, x);
}

INLINE struct v16 v16_min(struct v16 a, struct v16 b)
{
	struct v16 zero = v16_set1(0);

	return v16_sub(zero, v16_max(v16_sub(zero, a), v16_sub(zero, b)));
}

/* The mean, and what a LayerNorm multiplies by: that of squares of what is left when the mean is taken away. */
INLINE void layer_factors(const float *x, size_t width, float eps, float *mean, float *factor)
{
	const size_t whole = width / LANES * LANES, rest = width - whole;
	struct v16 sum = v16_set1(0), squares = v16_set1(0), middle, left;

	for (size_t i = 0; i < width; i += LANES)
		sum = v16_add(sum, load_up_to(x + i, width - i));
	*mean = v16_sum(sum) / (float)width;
	middle = v16_set1(*mean);
	for (size_t i = 0; i < whole; i += LANES) {
		left = v16_sub(v16_load(x + i), middle);
		squares = v16_fma(left, left, squares);
	}
	if (rest) {
		float means[LANES] = { 0 };

		for (size_t i = 0; i < rest; i++)
			means[i] = *mean;
		left = v16_sub(load_some(x + whole, rest), v16_load(means));
		squares = v16_fma(left, left, squares);
	}
	*factor = 1.0f / sqrtf(v16_sum(squares) / (float)width + eps);
}

INLINE float rms_factor(const float *x, size_t width, float eps)
{
	const size_t whole = width / LANES * LANES, rest = width - whole;
	struct v16 squares = v16_set1(0);

	for (size_t i = 0; i < whole; i += LANES)
		squares = v16_fma(v16_load(x + i), v16_load(x + i), squares);
	if (rest)
		squares = v16_fma(load_some(x + whole, rest), load_some(x + whole, rest), squares);
	return 1.0f / sqrtf(v16_sum(squares) / (float)width + eps);
}

static void norm_row(const struct norm *op, const float *x, float *y)
{
	float mean = 0, factor = 0;

	if (op->layer)
		layer_factors(x, op->width, op->eps, &mean, &factor);
	else
		factor = rms_factor(x, op->width, op->eps);
	for (size_t i = 0; i < op->width; i += LANES) {
		const size_t n = op->width - i;
		struct v16 z = load_up_to(x + i, n);

		if (op->layer)
			z = v16_sub(z, v16_set1(mean));
		z = v16_mul(v16_mul(z, v16_set1(factor)), load_up_to(op->w + i, n));
		if (op->shift)
			z = v16_add(z, load_up_to(op->shift + i, n));
		if (op->add)
			z = v16_add(load_up_to(y + i, n), z);
		store_up_to(y + i, n, z);
	}
}

/* 1 / (1 + e^-x), with e^-|x|, which cannot overflow. */
INLINE struct v16 sigmoid(struct v16 x)
{
	struct v16 one = v16_set1(1.0f), t = exp_negative(v16_sub(v16_set1(0), v16_abs(x)));

	return v16_div(v16_if_negative(x, t, one), v16_add(one, t));
}

/*
 * x * P(x): P(-a) = e^(-a^2 / 2) * t * q(t) with t = 1 / (1 + 0.3 a) and q of degree 7 by Remez' exchange (1.2e-7); the
 * largest error is 5e-7 of the result.
 */
INLINE struct v16 gelu(struct v16 x)
{
	static const float q[] = { 0x1.27356cp-5f, -0x1.450b76p-3f, 0x1.abf558p-3f, -0x1.cb88ap-5f,
				   0x1.09eb3ap-3f, 0x1.97a59p-4f,   0x1.eeddaep-4f, 0x1.e9fc14p-4f };
	struct v16 one = v16_set1(1.0f), a = v16_abs(x), t = v16_div(one, v16_fma(a, v16_set1(0x1.333334p-2f), one));
	struct v16 sum = v16_set1(q[0]), tail;

	foreach (i, sizeof(q) / sizeof(q[0]) - 1)
		sum = v16_fma(sum, t, v16_set1(q[i + 1]));
	tail = v16_mul(v16_mul(sum, t), exp_negative(v16_mul(v16_mul(a, a), v16_set1(-0.5f))));
	return v16_mul(x, v16_if_negative(x, tail, v16_sub(one, tail)));
}

/* By the tanh of sqrt(2 / pi) * (x + 0.044715 x^3): (1 + tanh(y)) / 2 is sigmoid(2y). */
INLINE struct v16 gelu_by_tanh(struct v16 x)
{
	struct v16 cubic = v16_fma(v16_mul(x, x), v16_set1(0.044715f), v16_set1(1.0f));

	return v16_mul(x, sigmoid(v16_mul(v16_mul(x, v16_set1(1.59576912f)), cubic)));
}

INLINE struct v16 activated(enum input input, struct v16 g, struct v16 u)
{
	if (input == INPUT_GELU)
		return gelu(g);
	if (input == INPUT_GATE_GELU)
		return v16_mul(gelu_by_tanh(g), u);
	if (input == INPUT_GATE)
		return v16_mul(v16_mul(g, sigmoid(g)), u);
	g = v16_min(g, v16_set1(7.0f));
	u = v16_max(v16_min(u, v16_set1(7.0f)), v16_set1(-7.0f));
	return v16_mul(v16_mul(g, sigmoid(v16_mul(g, v16_set1(1.702f)))), v16_add(u, v16_set1(1.0f)));
}

INLINE void activate_all(enum input input, const float *x, size_t width, float *y)
{
	const size_t whole = width / LANES * LANES, rest = width - whole, other = input_is_gate(input) ? width : 0;

	for (size_t i = 0; i < whole; i += LANES)
		v16_store(y + i, activated(input, v16_load(x + i), v16_load(x + other + i)));
	if (rest)
		store_some(y + whole, rest,
			   activated(input, load_some(x + whole, rest), load_some(x + other + whole, rest)));
}

static void activate_row(enum input input, const float *x, size_t width, float *y)
{
	if (input == INPUT_GELU)
		activate_all(INPUT_GELU, x, width, y);
	else if (input == INPUT_GATE_GELU)
		activate_all(INPUT_GATE_GELU, x, width, y);
	else if (input == INPUT_GATE)
		activate_all(INPUT_GATE, x, width, y);
	else
		activate_all(INPUT_GATE_CLAMPED, x, width, y);
}

/*
 * A block's whole numbers plus MAGIC, and its scale. A block whose largest value is below 2^-100 is zero: the inverse
 * of its scale might not be finite.
 */
INLINE void quantize_block(const float *x, float most, struct v16 z[2], float *d, float *ds, int32_t *low, int32_t *sum)
{
	struct v16 lo = v16_load(x), hi = v16_load(x + LANES), magic = v16_set1(MAGIC);
	float largest = v16_largest(v16_max(v16_abs(lo), v16_abs(hi)));
	bool zero = largest < 0x1p-100f;
	struct v16 by = v16_set1(zero ? 0.0f : most / largest);
	float sums[2];

	z[0] = v16_fma(lo, by, magic);
	z[1] = v16_fma(hi, by, magic);
	*d = zero ? 0.0f : largest / most;
	sums[0] = v16_sum(v16_sub(z[0], magic)); /* exact in any order, and as floats, which may be no numbers */
	sums[1] = v16_sum(v16_sub(z[1], magic));
	*low = (int32_t)sums[0];
	*sum = (int32_t)(sums[0] + sums[1]);
	*ds = *d * (float)*sum;
}

static void bytes_row(const float *x, size_t cols, struct xbytes *ret)
{
	struct v16 z[2];
	int32_t low;

	for (size_t b = 0; b < cols / BLOCK; b++, x += BLOCK, ret++) {
		quantize_block(x, 127, z, &ret->d, &ret->ds, &low, &ret->sum);
		v16_store_low_bytes(ret->q, z[0]);
		v16_store_low_bytes(ret->q + LANES, z[1]);
		less_of(ret->q, ret->less);
	}
}

static void words_row(const float *x, size_t cols, struct xwords *ret)
{
	struct v16 z[2];

	for (size_t b = 0; b < cols / BLOCK; b++, x += BLOCK, ret++) {
		quantize_block(x, WORD_MOST, z, &ret->d, &ret->ds, &ret->low, &ret->sum);
		v16_store_words(ret->q, z[0], z[1]);
	}
}

/* Turns the first dimensions of a head by `angles`, pairs of cosine and sine; the others are copied. */
INLINE void rotate_head(const struct head_shape *h, const float *x, const float *angles, float *y)
{
	size_t half = h->rotated / 2, step = h->interleaved ? 2 : 1, apart = h->interleaved ? 1 : half, i = 0;

	for (; !h->interleaved && i + LANES <= half; i += LANES) {
		struct v16 a = v16_load(x + i), b = v16_load(x + half + i), c, s;

		v16_load_pairs(angles + 2 * i, &c, &s);
		v16_store(y + i, v16_fma(a, c, v16_sub(v16_set1(0), v16_mul(b, s))));
		v16_store(y + half + i, v16_fma(a, s, v16_mul(b, c)));
	}
	for (; i < half; i++) {
		float c = angles[2 * i], s = angles[2 * i + 1], a = x[i * step], b = x[i * step + apart];

		y[i * step] = fmaf(a, c, -(b * s));
		y[i * step + apart] = fmaf(a, s, b * c);
	}
	memcpy(y + h->rotated, x + h->rotated, (h->head_size - h->rotated) * sizeof(*y));
}

/*
 * A block of keys or values in 8 bits: the scale is rounded up, so that no number is beyond 127 of it, and the numbers
 * are divided by the scale as it is kept: their error is half of it and nothing more.
 */
INLINE uint16_t round_q8(const float *x, int8_t *ret)
{
	struct v16 lo = v16_load(x), hi = v16_load(x + LANES), by, magic = v16_set1(MAGIC);
	float d = v16_largest(v16_max(v16_abs(lo), v16_abs(hi))) / 127.0f;
	uint16_t half = f16_of_f32(d);

	half = (uint16_t)(half + (f16_to_f32(half) < d));
	d = f16_to_f32(half);
	by = v16_set1(d > 0.0f ? 1.0f / d : 0.0f);
	v16_store_low_bytes(ret, v16_fma(lo, by, magic));
	v16_store_low_bytes(ret + LANES, v16_fma(hi, by, magic));
	return half;
}

/* To slot `at` of a page in 8 bits (kernels.h). */
static void store_q8(const float *k, const float *v, size_t size, size_t at, uint8_t *keys, uint8_t *values)
{
	const size_t scales = size / BLOCK * PAGE_TOKENS * sizeof(uint16_t);
	int8_t q[BLOCK];

	for (size_t b = 0; b < size / BLOCK; b++) {
		uint16_t d = round_q8(k + b * BLOCK, q);

		memcpy(keys + 2 * (b * PAGE_TOKENS + at), &d, 2);
		for (size_t i = 0; i < BLOCK; i += 4)
			memcpy(keys + scales + (b * BLOCK + i) * PAGE_TOKENS + 4 * at, q + i, 4);
		d = round_q8(v + b * BLOCK, q);
		memcpy(values + 2 * (b * PAGE_TOKENS + at), &d, 2);
		for (size_t i = 0; i < BLOCK; i++)
			memcpy(values + scales + (at / 4 * size + b * BLOCK + i) * 4 + at % 4, q + i, 1);
	}
}

/* One row's key and value of one KV head, to one of its places; slots lie side by side in a dimension of the keys. */
INLINE void store_at(const struct store *op, const struct row *r, int place, size_t kv_head, const float *k,
		     const float *v)
{
	const struct page_table *table = &r->tables[r->goes[place].run];
	int64_t slot = r->goes[place].slot;
	size_t at = (size_t)(slot % PAGE_TOKENS), size = op->shape->head_size, padded = round_lanes(size);
	uint8_t *keys = page_keys(table, slot / PAGE_TOKENS, op->pages, op->layer, kv_head);
	uint8_t *values = keys + page_values(op->pages);
	uint16_t half[HEAD_SIZE_MAX];

	if (op->pages->type == DTYPE_F32) {
		for (size_t i = 0; i < size; i++)
			memcpy(keys + 4 * (i * PAGE_TOKENS + at), k + i, 4);
		memcpy(values + 4 * at * size, v, 4 * size);
		return;
	}
	if (op->pages->type == DTYPE_Q8_0) {
		store_q8(k, v, size, at, keys, values);
		return;
	}
	for (size_t i = 0; i < padded; i += LANES)
		v16_store_f16(half + i, v16_load(k + i));
	for (size_t i = 0; i < size; i++)
		memcpy(keys + 2 * (i * PAGE_TOKENS + at), half + i, 2);
	for (size_t i = 0; i < padded; i += LANES)
		v16_store_f16(half + i, v16_load(v + i));
	memcpy(values + 2 * at * size, half, 2 * size);
}

static void store_row(const struct store *op, size_t row, size_t kv_head)
{
	const struct head_shape *h = op->shape;
	const struct row *r = &op->rows[row];
	const float *qkv = op->qkv + row * (h->heads + 2 * h->kv_heads) * h->head_size;
	float k[HEAD_SIZE_MAX] = { 0 }, v[HEAD_SIZE_MAX] = { 0 };

	memcpy(v, qkv + (h->heads + h->kv_heads + kv_head) * h->head_size, h->head_size * sizeof(*v));
	for (int place = 0; place < 2; place++) {
		const float *angles = op->angles + (2 * row + (size_t)place) * h->rotated;

		if (r->goes[place].run < 0)
			continue;
		rotate_head(h, qkv + (h->heads + kv_head) * h->head_size, angles, k);
		store_at(op, r, place, kv_head, k, v);
	}
}

#endif
