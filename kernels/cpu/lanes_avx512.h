/*
 * The sixteen lanes of lanes_scalar.h in one register of AVX-512; a strip is the same. With VNNI
 * (KERNELS_VNNI, by the makefile) four products are added at once; sums of whole numbers are exact, so the bits are the
 * same without.
 */
#ifndef CPU_LANES_H
#define CPU_LANES_H

#ifdef KERNELS_EMULATE_AVX512
#include "emulate_avx512.h"
#else
#include <immintrin.h>
#endif
#include <string.h>

#include "cpu.h"

/*
 * TILE: rows of activations that share an unpacked weight; PANEL_TILE rows meet a panel of PANEL_GROUPS groups, whose
 * broadcast numbers serve both; ATTEND_Q queries meet a page at once, with ATTEND_SUMS vectors of sums. All are bounded
 * by 32 registers.
 */
enum { STRIP = LANES, TILE = 8, PANEL_TILE = 6, PANEL_GROUPS = 2, ATTEND_Q = 6, ATTEND_SUMS = 24 };

struct v16 {
	__m512 v;
};

INLINE struct v16 v16_set1(float x)
{
	return (struct v16){ _mm512_set1_ps(x) };
}

INLINE struct v16 v16_load(const float *p)
{
	return (struct v16){ _mm512_loadu_ps(p) };
}

INLINE void v16_store(float *p, struct v16 x)
{
	_mm512_storeu_ps(p, x.v);
}

INLINE void v16_load_pairs(const float *p, struct v16 *first, struct v16 *second)
{
	const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
	const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
	__m512 lo = _mm512_loadu_ps(p), hi = _mm512_loadu_ps(p + LANES);

	first->v = _mm512_permutex2var_ps(lo, even, hi);
	second->v = _mm512_permutex2var_ps(lo, odd, hi);
}

INLINE struct v16 v16_load_f16(const uint16_t *p)
{
	return (struct v16){ _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)) };
}

INLINE struct v16 v16_load_bf16(const uint16_t *p)
{
	__m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));

	return (struct v16){ _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)) };
}

INLINE void v16_store_f16(uint16_t *p, struct v16 x)
{
	_mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}

INLINE struct v16 v16_add(struct v16 x, struct v16 y)
{
	return (struct v16){ _mm512_add_ps(x.v, y.v) };
}

INLINE struct v16 v16_sub(struct v16 x, struct v16 y)
{
	return (struct v16){ _mm512_sub_ps(x.v, y.v) };
}

INLINE struct v16 v16_mul(struct v16 x, struct v16 y)
{
	return (struct v16){ _mm512_mul_ps(x.v, y.v) };
}

INLINE struct v16 v16_div(struct v16 x, struct v16 y)
{
	return (struct v16){ _mm512_div_ps(x.v, y.v) };
}

INLINE struct v16 v16_fma(struct v16 x, struct v16 y, struct v16 z)
{
	return (struct v16){ _mm512_fmadd_ps(x.v, y.v, z.v) };
}

INLINE struct v16 v16_max(struct v16 x, struct v16 y)
{
	return (struct v16){ _mm512_max_ps(x.v, y.v) };
}

INLINE struct v16 v16_abs(struct v16 x)
{
	return (struct v16){ _mm512_abs_ps(x.v) };
}

INLINE struct v16 v16_zero_below(struct v16 x, float limit, struct v16 y)
{
	__mmask16 below = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(limit), _CMP_LT_OQ);

	return (struct v16){ _mm512_mask_mov_ps(y.v, below, _mm512_setzero_ps()) };
}

INLINE struct v16 v16_if_negative(struct v16 x, struct v16 y, struct v16 z)
{
	return (struct v16){ _mm512_mask_mov_ps(z.v, _mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_LT_OQ), y.v) };
}

INLINE struct v16 v16_scale_exponent(struct v16 x, struct v16 z)
{
	__m512i n = _mm512_slli_epi32(_mm512_castps_si512(z.v), 23);

	return (struct v16){ _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x.v), n)) };
}

INLINE void v16_store_low_bytes(int8_t *p, struct v16 z)
{
	_mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_castps_si512(z.v)));
}

INLINE void v16_store_words(int16_t *p, struct v16 lo, struct v16 hi)
{
	const __m512i order =
		_mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
	const __m512i magic = _mm512_set1_epi32(0x4b400000);
	__m512i a = _mm512_sub_epi32(_mm512_castps_si512(lo.v), magic);
	__m512i b = _mm512_sub_epi32(_mm512_castps_si512(hi.v), magic);

	_mm512_storeu_si512(p, _mm512_shuffle_epi8(_mm512_packs_epi32(a, b), order));
}

/* The halves of sixteen lanes. */
INLINE __m256 low_half(__m512 x)
{
	return _mm512_castps512_ps256(x);
}

INLINE __m256 high_half(__m512 x)
{
	return _mm512_extractf32x8_ps(x, 1);
}

INLINE float v16_sum(struct v16 x)
{
	__m256 eight = _mm256_add_ps(low_half(x.v), high_half(x.v));
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE float v16_largest(struct v16 x)
{
	__m256 eight = _mm256_max_ps(low_half(x.v), high_half(x.v));
	__m128 s = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));

	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

struct strip {
	__m512 v;
};

INLINE struct strip strip_set1(float x)
{
	return (struct strip){ _mm512_set1_ps(x) };
}

INLINE struct strip strip_load_f16(const uint8_t *p)
{
	return (struct strip){ _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)) };
}

INLINE struct strip strip_load(const float *p)
{
	return (struct strip){ _mm512_loadu_ps(p) };
}

INLINE struct strip strip_of_bytes(const uint8_t *p)
{
	return (struct strip){ _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p))) };
}

INLINE struct strip strip_mul(struct strip x, struct strip y)
{
	return (struct strip){ _mm512_mul_ps(x.v, y.v) };
}

INLINE struct strip strip_fma(struct strip x, struct strip y, struct strip z)
{
	return (struct strip){ _mm512_fmadd_ps(x.v, y.v, z.v) };
}

INLINE void strip_store(float *p, struct strip x)
{
	_mm512_storeu_ps(p, x.v);
}

struct words {
	__m512i v;
};

struct sums {
	__m512i v;
};

INLINE struct words words_load(const int16_t *p)
{
	return (struct words){ _mm512_loadu_si512(p) };
}

INLINE void words_store(int16_t *p, struct words x)
{
	_mm512_storeu_si512(p, x.v);
}

INLINE void words_of_nibbles(const uint8_t *w, struct words *ret)
{
	const __m512i low = _mm512_set1_epi16(15);
	__m512i v = _mm512_loadu_si512(w);

	ret[0].v = _mm512_and_si512(v, low);
	ret[1].v = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
	ret[2].v = _mm512_and_si512(_mm512_srli_epi16(v, 8), low);
	ret[3].v = _mm512_srli_epi16(v, 12);
}

INLINE void words_add_high(const uint8_t *high, size_t at, int16_t mask, struct words *ret)
{
	const __m512i bits = _mm512_set1_epi16(mask);
	__m512i h = _mm512_loadu_si512(high);
	__m512i left = _mm512_sll_epi16(h, _mm_cvtsi32_si128((int)(4 - at)));

	ret[0].v = _mm512_or_si512(ret[0].v, _mm512_and_si512(left, bits));
	foreach (k, 3) {
		__m512i right = _mm512_srl_epi16(h, _mm_cvtsi32_si128((int)(4 * k + at)));

		ret[k + 1].v = _mm512_or_si512(ret[k + 1].v, _mm512_and_si512(right, bits));
	}
}

INLINE void words_in_place(const uint8_t *w, struct words *ret)
{
	__m512i v = _mm512_loadu_si512(w);

	ret[0].v = _mm512_and_si512(v, _mm512_set1_epi16(15));
	ret[1].v = _mm512_and_si512(v, _mm512_set1_epi16(15 << 4));
	ret[2].v = _mm512_and_si512(v, _mm512_set1_epi16(15 << 8));
	ret[3].v = _mm512_srli_epi16(v, 12);
}

INLINE void words_with_high(const uint8_t *w, const uint8_t *high, size_t at, int16_t mask, struct words *ret)
{
	const __m512i low = _mm512_set1_epi8(15), bits = _mm512_set1_epi8((char)mask), byte = _mm512_set1_epi16(255);
	__m512i v = _mm512_loadu_si512(w), h = _mm512_loadu_si512(high);
	__m512i even = _mm512_and_si512(_mm512_sll_epi16(h, _mm_cvtsi32_si128((int)(4 - at))), bits);
	__m512i odd = _mm512_and_si512(_mm512_srl_epi16(h, _mm_cvtsi32_si128((int)at)), bits);

	even = _mm512_or_si512(even, _mm512_and_si512(v, low));
	odd = _mm512_or_si512(odd, _mm512_and_si512(_mm512_srli_epi16(v, 4), low));
	ret[0].v = _mm512_and_si512(even, byte);
	ret[1].v = _mm512_and_si512(odd, byte);
	ret[2].v = _mm512_andnot_si512(byte, even);
	ret[3].v = _mm512_andnot_si512(byte, odd);
}

INLINE void words_of_bytes(const uint8_t *w, struct words *even, struct words *odd)
{
	__m512i v = _mm512_loadu_si512(w);

	even->v = _mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8);
	odd->v = _mm512_srai_epi16(v, 8);
}

INLINE struct words words_sub(struct words x, int16_t n)
{
	return (struct words){ _mm512_sub_epi16(x.v, _mm512_set1_epi16(n)) };
}

INLINE struct words words_of_scales(const uint8_t *p)
{
	__m512i v = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
	__m512i low = _mm512_and_si512(v, _mm512_set1_epi32(0xffff));

	return (struct words){ _mm512_or_si512(low, _mm512_slli_epi32(v, 16)) };
}

INLINE struct words words_mul(struct words x, struct words y)
{
	return (struct words){ _mm512_mullo_epi16(x.v, y.v) };
}

INLINE struct sums sums_set1(int32_t n)
{
	return (struct sums){ _mm512_set1_epi32(n) };
}

/* A sum in the order of the program, as in lanes_avx2.h. Instructions with a sum of their own have no other. */
INLINE __m512i in_order(__m512i sum)
{
#if !defined(KERNELS_VNNI) && !defined(KERNELS_EMULATE_AVX512)
	__asm__("" : "+v"(sum));
#endif
	return sum;
}

/* sum + products in pairs; `q` holds two numbers, the same for every lane. */
INLINE __m512i add_pairs(__m512i sum, __m512i x, const int16_t *q)
{
	int32_t word;

	memcpy(&word, q, sizeof(word));
#ifdef KERNELS_VNNI
	return _mm512_dpwssd_epi32(sum, x, _mm512_set1_epi32(word));
#else
	return in_order(_mm512_add_epi32(sum, _mm512_madd_epi16(x, _mm512_set1_epi32(word))));
#endif
}

INLINE void sums_add(struct sums *sum, struct words w, const int16_t *x)
{
	sum->v = add_pairs(sum->v, w.v, x);
}

INLINE struct sums sums_of(struct words w, const int16_t *x)
{
	return (struct sums){ add_pairs(_mm512_setzero_si512(), w.v, x) };
}

INLINE struct sums sums_plus(struct sums a, struct sums b)
{
	return (struct sums){ _mm512_add_epi32(a.v, b.v) };
}

INLINE struct sums sums_down(struct sums s, unsigned bits)
{
	return (struct sums){ _mm512_srai_epi32(s.v, bits) };
}

INLINE struct sums sums_scaled(struct sums a, const uint8_t *by_a, struct sums b, const uint8_t *by_b)
{
	__m512i s = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)by_a));
	__m512i t = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)by_b));

	return (struct sums){ _mm512_add_epi32(_mm512_mullo_epi32(a.v, s), _mm512_mullo_epi32(b.v, t)) };
}

INLINE struct strip strip_of_sums(struct sums s)
{
	return (struct strip){ _mm512_cvtepi32_ps(s.v) };
}

/* See lanes_scalar.h; enough sums at once that none waits for the one before it. */
enum { WHOLE_Q = 3, WHOLE_V = 2 };

struct n16 {
	__m512i v;
};

INLINE struct n16 n16_zero(void)
{
	return (struct n16){ _mm512_setzero_si512() };
}

INLINE struct v16 v16_of_n16(struct n16 x)
{
	return (struct v16){ _mm512_cvtepi32_ps(x.v) };
}

/* The bytes in 16 bits: the even ones of each word, and the odd ones. */
struct fours {
	__m512i even, odd;
};

INLINE struct fours fours_load(const uint8_t *p)
{
	__m512i x = _mm512_loadu_si512(p);

	return (struct fours){ _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8), _mm512_srai_epi16(x, 8) };
}

INLINE struct n16 n16_add_products(struct n16 sum, struct fours x, const int16_t *q)
{
	return (struct n16){ add_pairs(add_pairs(sum.v, x.even, q), x.odd, q + 2) };
}

INLINE void v16_store_fours(int16_t *p, struct v16 z)
{
	__m256i words = _mm512_cvtepi32_epi16(_mm512_castps_si512(z.v));

	words = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(words, 0xd8), 0xd8);
	_mm256_storeu_si256((__m256i *)p, words);
}

#include "bytes_avx512.h"

#endif
