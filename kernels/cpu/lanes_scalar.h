/*
 * Sixteen virtual lanes in plain C: the meaning of what lanes_avx2.h and lanes_avx512.h do with registers. Every
 * operation is on each lane alone, but for the sums and maxima of all lanes, whose tree is fixed: lane i with i + 8,
 * then i + 4, i + 2, i + 1. A `strip` is as many lanes as the integer products take at once.
 */
#ifndef CPU_LANES_H
#define CPU_LANES_H

#include <math.h>

#include "cpu.h"
#include "dtype.h"

/* Sixteen lanes of plain C are no registers: tiles and unrolled loops would only cost the compiler's time. */
#undef UNROLL
#define UNROLL

enum { STRIP = LANES, TILE = 2, PANEL_TILE = 4, PANEL_GROUPS = 1, ATTEND_Q = 1, ATTEND_SUMS = 1 };

struct v16 {
	float f[LANES];
};

INLINE struct v16 v16_set1(float x)
{
	struct v16 r;

	foreach (i, LANES)
		r.f[i] = x;
	return r;
}

INLINE struct v16 v16_load(const float *p)
{
	struct v16 r;

	foreach (i, LANES)
		r.f[i] = p[i];
	return r;
}

INLINE void v16_store(float *p, struct v16 a)
{
	foreach (i, LANES)
		p[i] = a.f[i];
}

/* Sixteen pairs: what is first in each, and what is second. */
INLINE void v16_load_pairs(const float *p, struct v16 *first, struct v16 *second)
{
	foreach (i, LANES) {
		first->f[i] = p[2 * i];
		second->f[i] = p[2 * i + 1];
	}
}

INLINE struct v16 v16_load_f16(const uint16_t *p)
{
	struct v16 r;

	foreach (i, LANES)
		r.f[i] = f16_to_f32(p[i]);
	return r;
}

INLINE struct v16 v16_load_bf16(const uint16_t *p)
{
	struct v16 r;

	foreach (i, LANES)
		r.f[i] = bf16_to_f32(p[i]);
	return r;
}

INLINE void v16_store_f16(uint16_t *p, struct v16 a)
{
	foreach (i, LANES)
		p[i] = f16_of_f32(a.f[i]);
}

INLINE struct v16 v16_add(struct v16 a, struct v16 b)
{
	foreach (i, LANES)
		a.f[i] += b.f[i];
	return a;
}

INLINE struct v16 v16_sub(struct v16 a, struct v16 b)
{
	foreach (i, LANES)
		a.f[i] -= b.f[i];
	return a;
}

INLINE struct v16 v16_mul(struct v16 a, struct v16 b)
{
	foreach (i, LANES)
		a.f[i] *= b.f[i];
	return a;
}

INLINE struct v16 v16_div(struct v16 a, struct v16 b)
{
	foreach (i, LANES)
		a.f[i] /= b.f[i];
	return a;
}

/* a * b + c, rounded once. */
INLINE struct v16 v16_fma(struct v16 a, struct v16 b, struct v16 c)
{
	foreach (i, LANES)
		c.f[i] = fmaf(a.f[i], b.f[i], c.f[i]);
	return c;
}

/* The second when one of them is NaN, as x86 has it. */
INLINE struct v16 v16_max(struct v16 a, struct v16 b)
{
	foreach (i, LANES)
		b.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i];
	return b;
}

INLINE struct v16 v16_abs(struct v16 a)
{
	foreach (i, LANES)
		a.f[i] = fabsf(a.f[i]);
	return a;
}

/* x < limit ? 0 : a */
INLINE struct v16 v16_zero_below(struct v16 x, float limit, struct v16 a)
{
	foreach (i, LANES)
		a.f[i] = x.f[i] < limit ? 0.0f : a.f[i];
	return a;
}

/* x < 0 ? a : b */
INLINE struct v16 v16_if_negative(struct v16 x, struct v16 a, struct v16 b)
{
	foreach (i, LANES)
		b.f[i] = x.f[i] < 0.0f ? a.f[i] : b.f[i];
	return b;
}

/* a * 2^n, n being the low bits of z's mantissa (see MAGIC in rows.h); a and the result are normal. */
INLINE struct v16 v16_scale_exponent(struct v16 a, struct v16 z)
{
	foreach (i, LANES)
		a.f[i] = f32_of_bits(f32_bits(a.f[i]) + (f32_bits(z.f[i]) << 23));
	return a;
}

/* The low byte of each lane's bits. */
INLINE void v16_store_low_bytes(int8_t *p, struct v16 z)
{
	foreach (i, LANES)
		p[i] = (int8_t)(uint8_t)f32_bits(z.f[i]);
}

/* The whole numbers that MAGIC was added to, columns 0 to 15 and 16 to 31 of a block, in their places among words. */
INLINE void v16_store_words(int16_t *p, struct v16 lo, struct v16 hi)
{
	foreach (i, LANES) {
		p[word_place(i)] = (int16_t)(uint16_t)f32_bits(lo.f[i]);
		p[word_place(LANES + i)] = (int16_t)(uint16_t)f32_bits(hi.f[i]);
	}
}

INLINE float v16_sum(struct v16 a)
{
	for (size_t half = LANES / 2; half; half /= 2)
		for (size_t i = 0; i < half; i++)
			a.f[i] += a.f[i + half];
	return a.f[0];
}

INLINE float v16_largest(struct v16 a)
{
	for (size_t half = LANES / 2; half; half /= 2)
		for (size_t i = 0; i < half; i++)
			a.f[i] = a.f[i] > a.f[i + half] ? a.f[i] : a.f[i + half];
	return a.f[0];
}

struct strip {
	struct v16 v;
};

INLINE struct strip strip_set1(float x)
{
	return (struct strip){ v16_set1(x) };
}

INLINE struct strip strip_load_f16(const uint8_t *p)
{
	struct strip r;

	foreach (i, LANES) {
		uint16_t h;

		memcpy(&h, p + 2 * i, 2);
		r.v.f[i] = f16_to_f32(h);
	}
	return r;
}

INLINE struct strip strip_load(const float *p)
{
	return (struct strip){ v16_load(p) };
}

/* Unsigned bytes, one a lane. */
INLINE struct strip strip_of_bytes(const uint8_t *p)
{
	struct strip r;

	foreach (i, LANES)
		r.v.f[i] = (float)p[i];
	return r;
}

INLINE struct strip strip_mul(struct strip a, struct strip b)
{
	return (struct strip){ v16_mul(a.v, b.v) };
}

INLINE struct strip strip_fma(struct strip a, struct strip b, struct strip c)
{
	return (struct strip){ v16_fma(a.v, b.v, c.v) };
}

INLINE void strip_store(float *p, struct strip a)
{
	v16_store(p, a.v);
}

INLINE struct strip strip_of_ints(const int32_t *sum, int32_t correction)
{
	struct strip r;

	foreach (i, LANES)
		r.v.f[i] = (float)(sum[i] - correction);
	return r;
}

/* Two columns of each lane of a strip. */
struct words {
	int16_t w[LANES][2];
};

/* A whole number for each lane of a strip. */
struct sums {
	int32_t n[LANES];
};

INLINE struct words words_load(const int16_t *p)
{
	struct words r;

	memcpy(&r, p, sizeof(r));
	return r;
}

INLINE void words_store(int16_t *p, struct words x)
{
	memcpy(p, &x, sizeof(x));
}

/* A quarter of a block of four bits, `w` at the strip's first byte, in the order of word_place(). */
INLINE void words_of_nibbles(const uint8_t *w, struct words *ret)
{
	foreach (k, 4)
		foreach (i, 2 * LANES)
			ret[k].w[i / 2][i % 2] = (int16_t)(w[2 * i + k / 2] >> k % 2 * 4 & 15);
}

/* Adds to word k what `mask`, 16 or 48, leaves of the bits of `high` from at + 4k on, moved to bit 4. */
INLINE void words_add_high(const uint8_t *high, size_t at, int16_t mask, struct words *ret)
{
	foreach (k, 4)
		foreach (i, 2 * LANES)
			ret[k].w[i / 2][i % 2] |= (int16_t)(high[2 * i + k / 2] >> (k % 2 * 4 + at) << 4 & mask);
}

/* A quarter of four bits, words 1 and 2 left where they are in the sixteen bits: 16 and 256 times their value. */
INLINE void words_in_place(const uint8_t *w, struct words *ret)
{
	words_of_nibbles(w, ret);
	foreach (i, 2 * LANES) {
		ret[1].w[i / 2][i % 2] = (int16_t)(ret[1].w[i / 2][i % 2] << 4);
		ret[2].w[i / 2][i % 2] = (int16_t)(ret[2].w[i / 2][i % 2] << 8);
	}
}

/* A quarter with its high bits, words 2 and 3 256 times their value. */
INLINE void words_with_high(const uint8_t *w, const uint8_t *high, size_t at, int16_t mask, struct words *ret)
{
	words_of_nibbles(w, ret);
	words_add_high(high, at, mask, ret);
	foreach (i, 2 * LANES) {
		ret[2].w[i / 2][i % 2] = (int16_t)(ret[2].w[i / 2][i % 2] << 8);
		ret[3].w[i / 2][i % 2] = (int16_t)(ret[3].w[i / 2][i % 2] << 8);
	}
}

/* Bytes of a strip: columns 0 and 2 of each lane to even, 1 and 3 to odd. */
INLINE void words_of_bytes(const uint8_t *w, struct words *even, struct words *odd)
{
	foreach (i, 2 * LANES) {
		even->w[i / 2][i % 2] = (int8_t)w[2 * i];
		odd->w[i / 2][i % 2] = (int8_t)w[2 * i + 1];
	}
}

INLINE struct words words_sub(struct words x, int16_t n)
{
	foreach (i, 2 * LANES)
		x.w[i / 2][i % 2] = (int16_t)(x.w[i / 2][i % 2] - n);
	return x;
}

/* Signed bytes, one a lane, for both columns of the lane. */
INLINE struct words words_of_scales(const uint8_t *p)
{
	struct words r;

	foreach (i, 2 * LANES)
		r.w[i / 2][i % 2] = (int8_t)p[i / 2];
	return r;
}

INLINE struct words words_mul(struct words x, struct words y)
{
	foreach (i, 2 * LANES)
		x.w[i / 2][i % 2] = (int16_t)(x.w[i / 2][i % 2] * y.w[i / 2][i % 2]);
	return x;
}

INLINE struct sums sums_set1(int32_t n)
{
	struct sums r;

	foreach (i, LANES)
		r.n[i] = n;
	return r;
}

/* sum + products with the pair at x, the same for every lane. */
INLINE void sums_add(struct sums *sum, struct words w, const int16_t *x)
{
	foreach (i, LANES)
		sum->n[i] += w.w[i][0] * x[0] + w.w[i][1] * x[1];
}

INLINE struct sums sums_of(struct words w, const int16_t *x)
{
	struct sums r = sums_set1(0);

	sums_add(&r, w, x);
	return r;
}

INLINE struct sums sums_plus(struct sums a, struct sums b)
{
	foreach (i, LANES)
		a.n[i] += b.n[i];
	return a;
}

/* Divided by 2^bits, of which each is a multiple. */
INLINE struct sums sums_down(struct sums s, int bits)
{
	foreach (i, LANES)
		s.n[i] /= 1 << bits;
	return s;
}

/* a * by_a + b * by_b, with signed bytes, one a lane. */
INLINE struct sums sums_scaled(struct sums a, const uint8_t *by_a, struct sums b, const uint8_t *by_b)
{
	foreach (i, LANES)
		a.n[i] = a.n[i] * (int8_t)by_a[i] + b.n[i] * (int8_t)by_b[i];
	return a;
}

INLINE struct strip strip_of_sums(struct sums s)
{
	return strip_of_ints(s.n, 0);
}

/*
 * Attention over pages in 8 bits: WHOLE_Q queries times WHOLE_V times sixteen lanes at once. A lane's four bytes meet
 * four numbers of 16 bits, which stand in the order 0, 2, 1, 3: the even bytes of a word become two numbers by two
 * shifts, and so do the odd ones.
 */
enum { WHOLE_Q = 1, WHOLE_V = 1 };

/* Sixteen whole numbers. */
struct n16 {
	int32_t n[LANES];
};

INLINE struct n16 n16_zero(void)
{
	return (struct n16){ { 0 } };
}

INLINE struct v16 v16_of_n16(struct n16 a)
{
	struct v16 r;

	foreach (i, LANES)
		r.f[i] = (float)a.n[i];
	return r;
}

/* Sixteen words of four bytes with a sign. */
struct fours {
	const int8_t *byte;
};

INLINE struct fours fours_load(const uint8_t *p)
{
	return (struct fours){ (const int8_t *)p };
}

/* sum + the products of each word with q[4]. */
INLINE struct n16 n16_add_products(struct n16 sum, struct fours x, const int16_t *q)
{
	foreach (i, LANES) {
		const int8_t *b = x.byte + 4 * i;

		sum.n[i] += b[0] * q[0] + b[2] * q[1] + b[1] * q[2] + b[3] * q[3];
	}
	return sum;
}

/* The low 16 bits of each lane, each four in the order 0, 2, 1, 3. */
INLINE void v16_store_fours(int16_t *p, struct v16 z)
{
	foreach (i, LANES)
		p[i] = (int16_t)(uint16_t)f32_bits(z.f[i / 4 * 4 + i % 2 * 2 + i % 4 / 2]);
}

#include "bytes_scalar.h"

#endif
