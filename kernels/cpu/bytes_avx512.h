/*
 * Whole-number products of a packed block with activations in 8 bits, by AVX-512, with VNNI and without. Included by
 * lanes_avx512.h.
 */
#ifndef CPU_BYTES_H
#define CPU_BYTES_H

/* Four activations, the same for every lane. */
INLINE __m512i four_of(const int8_t *q)
{
	int32_t word;

	memcpy(&word, q, sizeof(word));
	return _mm512_set1_epi32(word);
}

/*
 * sum + products of unsigned w and signed q, four a lane. Without VNNI pairs are added in 16 bits first: they must not
 * exceed 32,767, so w is at most 128.
 */
INLINE __m512i add_products(__m512i sum, __m512i w, __m512i q)
{
#ifdef KERNELS_VNNI
	return _mm512_dpbusd_epi32(sum, w, q);
#else
	return in_order(_mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(w, q), _mm512_set1_epi16(1))));
#endif
}

INLINE void dot_nibbles(const uint8_t *w, const uint8_t *high, size_t lane, const struct xbytes *x, size_t stride,
			size_t rows, int32_t offset, struct strip *ret)
{
	const __m512i low = _mm512_set1_epi8(15), fifth = _mm512_set1_epi8(16);
	__m512i sum[TILE], h = high ? _mm512_loadu_si512(high) : low;

	(void)lane;
	foreach (t, rows)
		sum[t] = _mm512_set1_epi32(-offset * x[t * stride].sum);
	foreach (j, 4) {
		__m512i v = _mm512_loadu_si512(w + 64 * j);
		__m512i lo = _mm512_and_si512(v, low), hi = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);

		if (high) {
			__m512i left = _mm512_sll_epi16(h, _mm_cvtsi32_si128((int)(4 - j)));
			__m512i right = _mm512_srl_epi16(h, _mm_cvtsi32_si128((int)j));

			lo = _mm512_or_si512(lo, _mm512_and_si512(left, fifth));
			hi = _mm512_or_si512(hi, _mm512_and_si512(right, fifth));
		}
		foreach (t, rows) {
			const int8_t *q = x[t * stride].q + 4 * j;

			sum[t] = add_products(sum[t], lo, four_of(q));
			sum[t] = add_products(sum[t], hi, four_of(q + 16));
		}
	}
	foreach (t, rows)
		ret[t].v = _mm512_cvtepi32_ps(sum[t]);
}

/* Eight bits: VNNI takes w + 128 as unsigned, and 128 * the sum of q is taken off; else |w|, with w's sign given to q.
 */
INLINE void dot_bytes(const uint8_t *w, size_t lane, const struct xbytes *x, size_t stride, size_t rows,
		      struct strip *ret)
{
	__m512i sum[TILE];

	(void)lane;
	foreach (t, rows)
#ifdef KERNELS_VNNI
		sum[t] = _mm512_set1_epi32(-128 * x[t * stride].sum);
#else
		sum[t] = _mm512_setzero_si512();
#endif
	foreach (j, 8) {
		__m512i v = _mm512_loadu_si512(w + 64 * j);
#ifdef KERNELS_VNNI
		__m512i size = _mm512_xor_si512(v, _mm512_set1_epi8(-128));
#else
		__m512i size = _mm512_abs_epi8(v);
		__mmask64 negative = _mm512_movepi8_mask(v);
#endif

		foreach (t, rows) {
			__m512i q = four_of(x[t * stride].q + 4 * j);

#ifndef KERNELS_VNNI
			q = _mm512_mask_sub_epi8(q, negative, _mm512_setzero_si512(), q);
#endif
			sum[t] = add_products(sum[t], size, q);
		}
	}
	foreach (t, rows)
		ret[t].v = _mm512_cvtepi32_ps(sum[t]);
}

struct bytes {
	__m512i v;
};

INLINE struct bytes bytes_load(const uint8_t *p)
{
	return (struct bytes){ _mm512_loadu_si512(p) };
}

INLINE void bytes_store(uint8_t *p, struct bytes x)
{
	_mm512_storeu_si512(p, x.v);
}

INLINE void bytes_of_nibbles(const uint8_t *w, struct bytes *ret)
{
	const __m512i low = _mm512_set1_epi8(15);
	__m512i v = _mm512_loadu_si512(w);

	ret[0].v = _mm512_and_si512(v, low);
	ret[1].v = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
}

INLINE void bytes_add_high(const uint8_t *high, size_t at, struct bytes *ret)
{
	const __m512i fifth = _mm512_set1_epi8(16);
	__m512i h = _mm512_loadu_si512(high);
	__m512i left = _mm512_sll_epi16(h, _mm_cvtsi32_si128((int)(4 - at)));
	__m512i right = _mm512_srl_epi16(h, _mm_cvtsi32_si128((int)at));

	ret[0].v = _mm512_or_si512(ret[0].v, _mm512_and_si512(left, fifth));
	ret[1].v = _mm512_or_si512(ret[1].v, _mm512_and_si512(right, fifth));
}

INLINE struct bytes bytes_plus(struct bytes x, int8_t n)
{
	return (struct bytes){ _mm512_add_epi8(x.v, _mm512_set1_epi8(n)) };
}

/* With VNNI in 32 bits, without it in 16, as lanes_avx2.h has them. */
struct byte_sums {
	__m512i v;
};

#ifdef KERNELS_VNNI
enum { BYTE_SUMS_NARROW = 0 };

INLINE void less_of(const int8_t *q, int16_t *ret)
{
	(void)q;
	ret[0] = ret[1] = 0;
}

INLINE struct byte_sums byte_sums_less(const struct xbytes *x)
{
	return (struct byte_sums){ _mm512_set1_epi32(-16 * x->sum) };
}

INLINE void byte_sums_add(struct byte_sums *sum, struct bytes w, const int8_t *q)
{
	sum->v = _mm512_dpbusd_epi32(sum->v, w.v, four_of(q));
}
#else
enum { BYTE_SUMS_NARROW = 1 };

INLINE void less_of(const int8_t *q, int16_t *ret)
{
	int32_t sum[2] = { 0 };

	foreach (i, BLOCK)
		sum[i / 2 % 2] += q[i];
	foreach (i, 2)
		ret[i] = (int16_t)(-16 * sum[i]);
}

INLINE struct byte_sums byte_sums_less(const struct xbytes *x)
{
	int32_t word;

	memcpy(&word, x->less, sizeof(word));
	return (struct byte_sums){ _mm512_set1_epi32(word) };
}

INLINE void byte_sums_add(struct byte_sums *sum, struct bytes w, const int8_t *q)
{
	sum->v = in_order(_mm512_add_epi16(sum->v, _mm512_maddubs_epi16(w.v, four_of(q))));
}
#endif

INLINE struct byte_sums byte_sums_of(struct bytes w, const int8_t *q)
{
	struct byte_sums r = { _mm512_setzero_si512() };

	byte_sums_add(&r, w, q);
	return r;
}

INLINE struct sums sums_of_bytes(struct byte_sums s)
{
#ifdef KERNELS_VNNI
	return (struct sums){ s.v };
#else
	return (struct sums){ _mm512_madd_epi16(s.v, _mm512_set1_epi16(1)) };
#endif
}

/* Eight bits: see dot_bytes(). */
INLINE struct bytes bytes_of_signed(const uint8_t *w)
{
	__m512i v = _mm512_loadu_si512(w);

#ifdef KERNELS_VNNI
	return (struct bytes){ _mm512_xor_si512(v, _mm512_set1_epi8(-128)) };
#else
	return (struct bytes){ _mm512_abs_epi8(v) };
#endif
}

INLINE struct sums signed_sums_begin(const struct xbytes *x)
{
#ifdef KERNELS_VNNI
	return sums_set1(-128 * x->sum);
#else
	(void)x;
	return sums_set1(0);
#endif
}

INLINE void signed_sums_add(struct sums *sum, struct bytes size, const uint8_t *w, const int8_t *q)
{
	__m512i x = four_of(q);

#ifdef KERNELS_VNNI
	(void)w;
#else
	x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(_mm512_loadu_si512(w)), _mm512_setzero_si512(), x);
#endif
	sum->v = add_products(sum->v, size.v, x);
}

#endif
