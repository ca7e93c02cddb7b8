/*
 * Whole-number products of a packed block with activations in 8 bits, in plain C: the meaning of bytes_avx2.h and
 * bytes_avx512.h. Included by lanes_scalar.h.
 */
#ifndef CPU_BYTES_H
#define CPU_BYTES_H

/*
 * The products of one packed block with the blocks of `rows` rows of activations, x[t * stride], as whole numbers:
 * sum of (weight - offset) * q. `high` holds the fifth bits, or is NULL.
 */
INLINE void dot_nibbles(const uint8_t *w, const uint8_t *high, size_t lane, const struct xbytes *x, size_t stride,
			size_t rows, int32_t offset, struct strip *ret)
{
	(void)lane;
	for (size_t t = 0; t < rows; t++, x += stride) {
		int32_t sum[LANES] = { 0 };

		for (int j = 0; j < 4; j++)
			for (size_t i = 0; i < 4 * LANES; i++) {
				int lo = w[64 * j + (int)i] & 15, hi = w[64 * j + (int)i] >> 4;

				if (high) {
					lo |= (high[i] >> j & 1) << 4;
					hi |= (high[i] >> (4 + j) & 1) << 4;
				}
				sum[i / 4] += lo * x->q[4 * j + (int)(i % 4)] + hi * x->q[16 + 4 * j + (int)(i % 4)];
			}
		ret[t] = strip_of_ints(sum, offset * x->sum);
	}
}

INLINE void dot_bytes(const uint8_t *w, size_t lane, const struct xbytes *x, size_t stride, size_t rows,
		      struct strip *ret)
{
	(void)lane;
	for (size_t t = 0; t < rows; t++, x += stride) {
		int32_t sum[LANES] = { 0 };

		for (size_t j = 0; j < 8; j++)
			for (size_t i = 0; i < 4 * LANES; i++)
				sum[i / 4] += (int8_t)w[64 * j + i] * x->q[4 * j + i % 4];
		ret[t] = strip_of_ints(sum, 0);
	}
}

/* Four columns of each lane of a strip. */
struct bytes {
	uint8_t w[4 * LANES];
};

INLINE struct bytes bytes_load(const uint8_t *p)
{
	struct bytes r;

	memcpy(&r, p, sizeof(r));
	return r;
}

INLINE void bytes_store(uint8_t *p, struct bytes x)
{
	memcpy(p, &x, sizeof(x));
}

/* Vector j of a block of four bits, `w` at the strip's first byte: columns from 4j on, and from 16 + 4j on. */
INLINE void bytes_of_nibbles(const uint8_t *w, struct bytes *ret)
{
	foreach (i, 4 * LANES) {
		ret[0].w[i] = w[i] & 15;
		ret[1].w[i] = w[i] >> 4;
	}
}

/* Their fifth bits: `at` is j. */
INLINE void bytes_add_high(const uint8_t *high, size_t at, struct bytes *ret)
{
	foreach (half, 2)
		foreach (i, 4 * LANES)
			ret[half].w[i] |= (uint8_t)((high[i] >> (4 * half + at) & 1) << 4);
}

INLINE struct bytes bytes_plus(struct bytes x, int8_t n)
{
	foreach (i, 4 * LANES)
		x.w[i] = (uint8_t)(x.w[i] + n);
	return x;
}

/*
 * Sums of a block's products with weights that have no sign, on their way. Where they are NARROW they are pairs in 16
 * bits, and hold a block of five bits only if 16 is taken off the weights: less_of() prepares that.
 */
enum { BYTE_SUMS_NARROW = 0 };

struct byte_sums {
	int32_t n[LANES];
};

/* What xbytes.less is of a block. */
INLINE void less_of(const int8_t *q, int16_t *ret)
{
	(void)q;
	ret[0] = ret[1] = 0;
}

/* Sums begin with -16 times those of the activations. */
INLINE struct byte_sums byte_sums_less(const struct xbytes *x)
{
	struct byte_sums r;

	foreach (i, LANES)
		r.n[i] = -16 * x->sum;
	return r;
}

/* sum + products with the four at q, the same for every lane. */
INLINE void byte_sums_add(struct byte_sums *sum, struct bytes w, const int8_t *q)
{
	foreach (i, 4 * LANES)
		sum->n[i / 4] += w.w[i] * q[i % 4];
}

INLINE struct byte_sums byte_sums_of(struct bytes w, const int8_t *q)
{
	struct byte_sums r = { { 0 } };

	byte_sums_add(&r, w, q);
	return r;
}

INLINE struct sums sums_of_bytes(struct byte_sums s)
{
	struct sums r;

	memcpy(&r, &s, sizeof(r));
	return r;
}

/* Eight bits: what a panel keeps of weights with a sign, which are still there when their products are added up. */
INLINE struct bytes bytes_of_signed(const uint8_t *w)
{
	return bytes_load(w);
}

INLINE struct sums signed_sums_begin(const struct xbytes *x)
{
	(void)x;
	return sums_set1(0);
}

INLINE void signed_sums_add(struct sums *sum, struct bytes kept, const uint8_t *w, const int8_t *q)
{
	(void)kept;
	foreach (i, 4 * LANES)
		sum->n[i / 4] += (int8_t)w[i] * q[i % 4];
}

#endif
