/*
 * The sixteen lanes of lanes_scalar.h in two registers of AVX2, with FMA and F16C; a strip is one register, eight
 * lanes.
 */
#ifndef CPU_LANES_H
#define CPU_LANES_H

#include <immintrin.h>
#include <string.h>

#include "cpu.h"

/*
 * TILE: rows of activations that share an unpacked weight; ATTEND_Q queries meet a page at once, with ATTEND_SUMS
 * vectors of sums. All are bounded by sixteen registers.
 */
enum { STRIP = 8, TILE = 4, PANEL_TILE = 4, PANEL_GROUPS = 1, ATTEND_Q = 3, ATTEND_SUMS = 6 };

struct v16 {
	__m256 a, b;
};

INLINE struct v16 v16_set1(float x)
{
	return (struct v16){ _mm256_set1_ps(x), _mm256_set1_ps(x) };
}

INLINE struct v16 v16_load(const float *p)
{
	return (struct v16){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}

INLINE void v16_store(float *p, struct v16 x)
{
	_mm256_storeu_ps(p, x.a);
	_mm256_storeu_ps(p + 8, x.b);
}

/* Of sixteen numbers those with an even place, or with an odd one. */
INLINE __m256 every_second(const float *p, bool odd)
{
	__m256 lo = _mm256_loadu_ps(p), hi = _mm256_loadu_ps(p + 8);
	__m256 r = odd ? _mm256_shuffle_ps(lo, hi, 0xdd) : _mm256_shuffle_ps(lo, hi, 0x88);

	return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(r), 0xd8));
}

INLINE void v16_load_pairs(const float *p, struct v16 *first, struct v16 *second)
{
	*first = (struct v16){ every_second(p, false), every_second(p + LANES, false) };
	*second = (struct v16){ every_second(p, true), every_second(p + LANES, true) };
}

INLINE struct v16 v16_load_f16(const uint16_t *p)
{
	return (struct v16){ _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
			     _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8))) };
}

INLINE __m256 bf16_to_ps(const uint16_t *p)
{
	__m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));

	return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

INLINE struct v16 v16_load_bf16(const uint16_t *p)
{
	return (struct v16){ bf16_to_ps(p), bf16_to_ps(p + 8) };
}

INLINE void v16_store_f16(uint16_t *p, struct v16 x)
{
	_mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
	_mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}

INLINE struct v16 v16_add(struct v16 x, struct v16 y)
{
	return (struct v16){ _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b) };
}

INLINE struct v16 v16_sub(struct v16 x, struct v16 y)
{
	return (struct v16){ _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b) };
}

INLINE struct v16 v16_mul(struct v16 x, struct v16 y)
{
	return (struct v16){ _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b) };
}

INLINE struct v16 v16_div(struct v16 x, struct v16 y)
{
	return (struct v16){ _mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b) };
}

INLINE struct v16 v16_fma(struct v16 x, struct v16 y, struct v16 z)
{
	return (struct v16){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) };
}

INLINE struct v16 v16_max(struct v16 x, struct v16 y)
{
	return (struct v16){ _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b) };
}

INLINE struct v16 v16_abs(struct v16 x)
{
	__m256 sign = _mm256_set1_ps(-0.0f);

	return (struct v16){ _mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b) };
}

INLINE struct v16 v16_zero_below(struct v16 x, float limit, struct v16 y)
{
	__m256 l = _mm256_set1_ps(limit);

	return (struct v16){ _mm256_andnot_ps(_mm256_cmp_ps(x.a, l, _CMP_LT_OQ), y.a),
			     _mm256_andnot_ps(_mm256_cmp_ps(x.b, l, _CMP_LT_OQ), y.b) };
}

INLINE struct v16 v16_if_negative(struct v16 x, struct v16 y, struct v16 z)
{
	__m256 zero = _mm256_setzero_ps();

	return (struct v16){ _mm256_blendv_ps(z.a, y.a, _mm256_cmp_ps(x.a, zero, _CMP_LT_OQ)),
			     _mm256_blendv_ps(z.b, y.b, _mm256_cmp_ps(x.b, zero, _CMP_LT_OQ)) };
}

INLINE __m256 scale_exponent(__m256 x, __m256 z)
{
	__m256i n = _mm256_slli_epi32(_mm256_castps_si256(z), 23);

	return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), n));
}

INLINE struct v16 v16_scale_exponent(struct v16 x, struct v16 z)
{
	return (struct v16){ scale_exponent(x.a, z.a), scale_exponent(x.b, z.b) };
}

INLINE void v16_store_low_bytes(int8_t *p, struct v16 z)
{
	__m256i byte = _mm256_set1_epi32(255);
	__m256i a = _mm256_and_si256(_mm256_castps_si256(z.a), byte);
	__m256i b = _mm256_and_si256(_mm256_castps_si256(z.b), byte);
	__m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);

	_mm_storeu_si128((__m128i *)p,
			 _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

/* Words of 16 bits, lo's four and hi's four of each half register, put in their places. */
INLINE __m256i place_words(__m256 lo, __m256 hi)
{
	const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9,
					       12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
	const __m256i magic = _mm256_set1_epi32(0x4b400000);
	__m256i a = _mm256_sub_epi32(_mm256_castps_si256(lo), magic);
	__m256i b = _mm256_sub_epi32(_mm256_castps_si256(hi), magic);

	return _mm256_shuffle_epi8(_mm256_packs_epi32(a, b), order);
}

INLINE void v16_store_words(int16_t *p, struct v16 lo, struct v16 hi)
{
	_mm256_storeu_si256((__m256i *)p, place_words(lo.a, hi.a));
	_mm256_storeu_si256((__m256i *)(p + LANES), place_words(lo.b, hi.b));
}

INLINE float v16_sum(struct v16 x)
{
	__m256 eight = _mm256_add_ps(x.a, x.b);
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE float v16_largest(struct v16 x)
{
	__m256 eight = _mm256_max_ps(x.a, x.b);
	__m128 s = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));

	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

struct strip {
	__m256 v;
};

INLINE struct strip strip_set1(float x)
{
	return (struct strip){ _mm256_set1_ps(x) };
}

INLINE struct strip strip_load_f16(const uint8_t *p)
{
	return (struct strip){ _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)) };
}

INLINE struct strip strip_load(const float *p)
{
	return (struct strip){ _mm256_loadu_ps(p) };
}

INLINE struct strip strip_of_bytes(const uint8_t *p)
{
	return (struct strip){ _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p))) };
}

INLINE struct strip strip_mul(struct strip x, struct strip y)
{
	return (struct strip){ _mm256_mul_ps(x.v, y.v) };
}

INLINE struct strip strip_fma(struct strip x, struct strip y, struct strip z)
{
	return (struct strip){ _mm256_fmadd_ps(x.v, y.v, z.v) };
}

INLINE void strip_store(float *p, struct strip x)
{
	_mm256_storeu_ps(p, x.v);
}

/*
 * Adds up in the order of the program. A compiler that is free to turn a chain of sums into a tree keeps all of its
 * parts at once, more than there are registers: a third of the speed.
 */
#define ADD_IN_ORDER(add, sum, x)                                                                                      \
	do {                                                                                                           \
		(sum) = add(sum, x);                                                                                   \
		__asm__("" : "+x"(sum));                                                                               \
	} while (0)

struct words {
	__m256i v;
};

struct sums {
	__m256i v;
};

INLINE struct words words_load(const int16_t *p)
{
	return (struct words){ _mm256_loadu_si256((const __m256i *)p) };
}

INLINE void words_store(int16_t *p, struct words x)
{
	_mm256_storeu_si256((__m256i *)p, x.v);
}

INLINE void words_of_nibbles(const uint8_t *w, struct words *ret)
{
	const __m256i low = _mm256_set1_epi16(15);
	__m256i v = _mm256_loadu_si256((const __m256i *)w);

	ret[0].v = _mm256_and_si256(v, low);
	ret[1].v = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
	ret[2].v = _mm256_and_si256(_mm256_srli_epi16(v, 8), low);
	ret[3].v = _mm256_srli_epi16(v, 12);
}

INLINE void words_add_high(const uint8_t *high, size_t at, int16_t mask, struct words *ret)
{
	const __m256i bits = _mm256_set1_epi16(mask);
	__m256i h = _mm256_loadu_si256((const __m256i *)high);

	ret[0].v = _mm256_or_si256(ret[0].v, _mm256_and_si256(_mm256_slli_epi16(h, (int)(4 - at)), bits));
	foreach (k, 3)
		ret[k + 1].v =
			_mm256_or_si256(ret[k + 1].v, _mm256_and_si256(_mm256_srli_epi16(h, (int)(4 * k + at)), bits));
}

INLINE void words_in_place(const uint8_t *w, struct words *ret)
{
	__m256i v = _mm256_loadu_si256((const __m256i *)w);

	ret[0].v = _mm256_and_si256(v, _mm256_set1_epi16(15));
	ret[1].v = _mm256_and_si256(v, _mm256_set1_epi16(15 << 4));
	ret[2].v = _mm256_and_si256(v, _mm256_set1_epi16(15 << 8));
	ret[3].v = _mm256_srli_epi16(v, 12);
}

INLINE void words_with_high(const uint8_t *w, const uint8_t *high, size_t at, int16_t mask, struct words *ret)
{
	const __m256i low = _mm256_set1_epi8(15), bits = _mm256_set1_epi8((int8_t)mask), byte = _mm256_set1_epi16(255);
	__m256i v = _mm256_loadu_si256((const __m256i *)w), h = _mm256_loadu_si256((const __m256i *)high);
	__m256i even = _mm256_and_si256(_mm256_slli_epi16(h, (int)(4 - at)), bits);
	__m256i odd = _mm256_and_si256(_mm256_srli_epi16(h, (int)at), bits);

	even = _mm256_or_si256(even, _mm256_and_si256(v, low));
	odd = _mm256_or_si256(odd, _mm256_and_si256(_mm256_srli_epi16(v, 4), low));
	ret[0].v = _mm256_and_si256(even, byte);
	ret[1].v = _mm256_and_si256(odd, byte);
	ret[2].v = _mm256_andnot_si256(byte, even);
	ret[3].v = _mm256_andnot_si256(byte, odd);
}

INLINE void words_of_bytes(const uint8_t *w, struct words *even, struct words *odd)
{
	__m256i v = _mm256_loadu_si256((const __m256i *)w);

	even->v = _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8);
	odd->v = _mm256_srai_epi16(v, 8);
}

INLINE struct words words_sub(struct words x, int16_t n)
{
	return (struct words){ _mm256_sub_epi16(x.v, _mm256_set1_epi16(n)) };
}

INLINE struct words words_of_scales(const uint8_t *p)
{
	__m256i v = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));

	return (struct words){ _mm256_blend_epi16(v, _mm256_slli_epi32(v, 16), 0xaa) };
}

INLINE struct words words_mul(struct words x, struct words y)
{
	return (struct words){ _mm256_mullo_epi16(x.v, y.v) };
}

INLINE struct sums sums_set1(int32_t n)
{
	return (struct sums){ _mm256_set1_epi32(n) };
}

/* Two numbers of 16 bits, the same for every lane. */
INLINE __m256i two_of(const int16_t *q)
{
	int32_t word;

	memcpy(&word, q, sizeof(word));
	return _mm256_set1_epi32(word);
}

INLINE void sums_add(struct sums *sum, struct words w, const int16_t *x)
{
	ADD_IN_ORDER(_mm256_add_epi32, sum->v, _mm256_madd_epi16(w.v, two_of(x)));
}

INLINE struct sums sums_of(struct words w, const int16_t *x)
{
	return (struct sums){ _mm256_madd_epi16(w.v, two_of(x)) };
}

INLINE struct sums sums_plus(struct sums a, struct sums b)
{
	return (struct sums){ _mm256_add_epi32(a.v, b.v) };
}

INLINE struct sums sums_down(struct sums s, int bits)
{
	return (struct sums){ _mm256_srai_epi32(s.v, bits) };
}

INLINE struct sums sums_scaled(struct sums a, const uint8_t *by_a, struct sums b, const uint8_t *by_b)
{
	__m256i s = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)by_a));
	__m256i t = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)by_b));

	return (struct sums){ _mm256_add_epi32(_mm256_mullo_epi32(a.v, s), _mm256_mullo_epi32(b.v, t)) };
}

INLINE struct strip strip_of_sums(struct sums s)
{
	return (struct strip){ _mm256_cvtepi32_ps(s.v) };
}

/* See lanes_scalar.h; bounded by sixteen registers. */
enum { WHOLE_Q = 3, WHOLE_V = 1 };

struct n16 {
	__m256i a, b;
};

INLINE struct n16 n16_zero(void)
{
	return (struct n16){ _mm256_setzero_si256(), _mm256_setzero_si256() };
}

INLINE struct v16 v16_of_n16(struct n16 x)
{
	return (struct v16){ _mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b) };
}

/* The bytes in 16 bits: the even ones of each word, and the odd ones. */
struct fours {
	struct n16 even, odd;
};

INLINE struct fours fours_load(const uint8_t *p)
{
	__m256i a = _mm256_loadu_si256((const __m256i *)p), b = _mm256_loadu_si256((const __m256i *)(p + 32));

	return (struct fours){ { _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8),
				 _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8) },
			       { _mm256_srai_epi16(a, 8), _mm256_srai_epi16(b, 8) } };
}

INLINE struct n16 n16_add_products(struct n16 sum, struct fours x, const int16_t *q)
{
	__m256i even = two_of(q), odd = two_of(q + 2);

	ADD_IN_ORDER(_mm256_add_epi32, sum.a, _mm256_madd_epi16(x.even.a, even));
	ADD_IN_ORDER(_mm256_add_epi32, sum.b, _mm256_madd_epi16(x.even.b, even));
	ADD_IN_ORDER(_mm256_add_epi32, sum.a, _mm256_madd_epi16(x.odd.a, odd));
	ADD_IN_ORDER(_mm256_add_epi32, sum.b, _mm256_madd_epi16(x.odd.b, odd));
	return sum;
}

INLINE void v16_store_fours(int16_t *p, struct v16 z)
{
	const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0, 1, 4, 5, 2, 3,
					       6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
	const __m256i magic = _mm256_set1_epi32(0x4b400000);
	__m256i a = _mm256_sub_epi32(_mm256_castps_si256(z.a), magic);
	__m256i b = _mm256_sub_epi32(_mm256_castps_si256(z.b), magic);
	__m256i words = _mm256_shuffle_epi8(_mm256_packs_epi32(a, b), order);

	_mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(words, 0xd8));
}

#include "bytes_avx2.h"

#endif
