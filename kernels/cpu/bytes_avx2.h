/*
 * Whole-number products of a packed block with activations in 8 bits, by AVX2. Included by lanes_avx2.h.
 */
#ifndef CPU_BYTES_H
#define CPU_BYTES_H

/* Four activations, the same for every lane. */
INLINE __m256i four_of(const int8_t *q)
{
	int32_t word;

	memcpy(&word, q, sizeof(word));
	return _mm256_set1_epi32(word);
}

/* Pairs in 16 bits to a lane's sum, less a correction. */
INLINE struct strip strip_of_words(__m256i words, int32_t correction)
{
	__m256i sum = _mm256_madd_epi16(words, _mm256_set1_epi16(1));

	return (struct strip){ _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, _mm256_set1_epi32(correction))) };
}

/* Four bits: eight pairs of products of at most 15 * 127 fit in 16 bits (30,480). */
INLINE void dot_four_bits(const uint8_t *w, const struct xbytes *x, size_t stride, size_t rows, int32_t offset,
			  struct strip *ret)
{
	const __m256i low = _mm256_set1_epi8(15);
	__m256i sum[TILE];

	foreach (j, 4) {
		__m256i v = _mm256_loadu_si256((const __m256i *)(w + 64 * j));
		__m256i lo = _mm256_and_si256(v, low), hi = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);

		foreach (t, rows) {
			const int8_t *q = x[t * stride].q + 4 * j;
			__m256i p = _mm256_maddubs_epi16(lo, four_of(q));

			if (j == 0)
				sum[t] = p;
			else
				ADD_IN_ORDER(_mm256_add_epi16, sum[t], p);
			ADD_IN_ORDER(_mm256_add_epi16, sum[t], _mm256_maddubs_epi16(hi, four_of(q + 16)));
		}
	}
	foreach (t, rows)
		ret[t] = strip_of_words(sum[t], offset * x[t * stride].sum);
}

/* Five bits: four pairs of at most 31 * 127 fit (31,496), so the block is summed up in two halves. */
INLINE void dot_five_bits(const uint8_t *w, const uint8_t *high, const struct xbytes *x, size_t stride, size_t rows,
			  int32_t offset, struct strip *ret)
{
	const __m256i low = _mm256_set1_epi8(15), fifth = _mm256_set1_epi8(16), ones = _mm256_set1_epi16(1);
	__m256i h = _mm256_loadu_si256((const __m256i *)high);
	__m256i sum[TILE], words[TILE];

	foreach (j, 4) {
		__m256i v = _mm256_loadu_si256((const __m256i *)(w + 64 * j));
		__m256i lo = _mm256_and_si256(v, low), hi = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);

		lo = _mm256_or_si256(lo, _mm256_and_si256(_mm256_slli_epi16(h, (int)(4 - j)), fifth));
		hi = _mm256_or_si256(hi, _mm256_and_si256(_mm256_srli_epi16(h, (int)j), fifth));
		foreach (t, rows) {
			const int8_t *q = x[t * stride].q + 4 * j;
			__m256i p = _mm256_maddubs_epi16(lo, four_of(q));

			if (j % 2 == 0)
				words[t] = p;
			else
				ADD_IN_ORDER(_mm256_add_epi16, words[t], p);
			ADD_IN_ORDER(_mm256_add_epi16, words[t], _mm256_maddubs_epi16(hi, four_of(q + 16)));
			if (j == 1)
				sum[t] = _mm256_madd_epi16(words[t], ones);
		}
	}
	foreach (t, rows) {
		__m256i all = _mm256_add_epi32(sum[t], _mm256_madd_epi16(words[t], ones));

		all = _mm256_sub_epi32(all, _mm256_set1_epi32(offset * x[t * stride].sum));
		ret[t].v = _mm256_cvtepi32_ps(all);
	}
}

INLINE void dot_nibbles(const uint8_t *w, const uint8_t *high, size_t lane, const struct xbytes *x, size_t stride,
			size_t rows, int32_t offset, struct strip *ret)
{
	if (high)
		dot_five_bits(w + 4 * lane, high + 4 * lane, x, stride, rows, offset, ret);
	else
		dot_four_bits(w + 4 * lane, x, stride, rows, offset, ret);
}

/* Eight bits: |w| is unsigned as the instruction wants it, and w's sign goes to x; a pair fits (2 * 128 * 127). */
INLINE void dot_bytes(const uint8_t *w, size_t lane, const struct xbytes *x, size_t stride, size_t rows,
		      struct strip *ret)
{
	const __m256i ones = _mm256_set1_epi16(1);
	__m256i sum[TILE];

	foreach (j, 8) {
		__m256i v = _mm256_loadu_si256((const __m256i *)(w + 64 * j + 4 * lane)), size = _mm256_abs_epi8(v);

		foreach (t, rows) {
			__m256i q = _mm256_sign_epi8(four_of(x[t * stride].q + 4 * j), v);
			__m256i p = _mm256_madd_epi16(_mm256_maddubs_epi16(size, q), ones);

			if (j == 0)
				sum[t] = p;
			else
				ADD_IN_ORDER(_mm256_add_epi32, sum[t], p);
		}
	}
	foreach (t, rows)
		ret[t].v = _mm256_cvtepi32_ps(sum[t]);
}

struct bytes {
	__m256i v;
};

INLINE struct bytes bytes_load(const uint8_t *p)
{
	return (struct bytes){ _mm256_loadu_si256((const __m256i *)p) };
}

INLINE void bytes_store(uint8_t *p, struct bytes x)
{
	_mm256_storeu_si256((__m256i *)p, x.v);
}

INLINE void bytes_of_nibbles(const uint8_t *w, struct bytes *ret)
{
	const __m256i low = _mm256_set1_epi8(15);
	__m256i v = _mm256_loadu_si256((const __m256i *)w);

	ret[0].v = _mm256_and_si256(v, low);
	ret[1].v = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
}

INLINE void bytes_add_high(const uint8_t *high, size_t at, struct bytes *ret)
{
	const __m256i fifth = _mm256_set1_epi8(16);
	__m256i h = _mm256_loadu_si256((const __m256i *)high);

	ret[0].v = _mm256_or_si256(ret[0].v, _mm256_and_si256(_mm256_slli_epi16(h, (int)(4 - at)), fifth));
	ret[1].v = _mm256_or_si256(ret[1].v, _mm256_and_si256(_mm256_srli_epi16(h, (int)at), fifth));
}

INLINE struct bytes bytes_plus(struct bytes x, int8_t n)
{
	return (struct bytes){ _mm256_add_epi8(x.v, _mm256_set1_epi8(n)) };
}

/*
 * Pairs in 16 bits: 16 columns of a weight of five bits, less 16, fit (16 * 16 * 127 is 32,512). On their way there
 * they may wrap, for sums are taken modulo 2^16.
 */
enum { BYTE_SUMS_NARROW = 1 };

struct byte_sums {
	__m256i v;
};

INLINE void less_of(const int8_t *q, int16_t *ret)
{
	__m256i v = _mm256_loadu_si256((const __m256i *)q);
	__m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(16), v);
	__m128i sum = _mm_add_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
	int32_t word;

	sum = _mm_add_epi16(sum, _mm_unpackhi_epi64(sum, sum));
	sum = _mm_add_epi16(sum, _mm_shuffle_epi32(sum, 1));
	word = _mm_cvtsi128_si32(_mm_sub_epi16(_mm_setzero_si128(), sum));
	memcpy(ret, &word, sizeof(word));
}

INLINE struct byte_sums byte_sums_less(const struct xbytes *x)
{
	int32_t word;

	memcpy(&word, x->less, sizeof(word));
	return (struct byte_sums){ _mm256_set1_epi32(word) };
}

INLINE struct byte_sums byte_sums_of(struct bytes w, const int8_t *q)
{
	return (struct byte_sums){ _mm256_maddubs_epi16(w.v, four_of(q)) };
}

INLINE void byte_sums_add(struct byte_sums *sum, struct bytes w, const int8_t *q)
{
	ADD_IN_ORDER(_mm256_add_epi16, sum->v, _mm256_maddubs_epi16(w.v, four_of(q)));
}

INLINE struct sums sums_of_bytes(struct byte_sums s)
{
	return (struct sums){ _mm256_madd_epi16(s.v, _mm256_set1_epi16(1)) };
}

/* Eight bits: see dot_bytes(). */
INLINE struct bytes bytes_of_signed(const uint8_t *w)
{
	return (struct bytes){ _mm256_abs_epi8(_mm256_loadu_si256((const __m256i *)w)) };
}

INLINE struct sums signed_sums_begin(const struct xbytes *x)
{
	(void)x;
	return sums_set1(0);
}

INLINE void signed_sums_add(struct sums *sum, struct bytes size, const uint8_t *w, const int8_t *q)
{
	__m256i x = _mm256_sign_epi8(four_of(q), _mm256_loadu_si256((const __m256i *)w));
	__m256i pairs = _mm256_maddubs_epi16(size.v, x);

	ADD_IN_ORDER(_mm256_add_epi32, sum->v, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#endif
