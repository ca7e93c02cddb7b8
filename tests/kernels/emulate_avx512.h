/*
 * AVX-512 on machines that have none: Debian's SIMDe, and in plain C what its release 0.7.4 lacks or does not round
 * once (its fused multiply-add is two operations). lanes_avx512.h includes this in place of <immintrin.h>.
 */
#ifndef TESTS_EMULATE_AVX512_H
#define TESTS_EMULATE_AVX512_H

#ifndef SIMDE_ENABLE_NATIVE_ALIASES
#define SIMDE_ENABLE_NATIVE_ALIASES
#endif

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wextra"
#include <simde/x86/avx512.h>
#pragma GCC diagnostic pop

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "dtype.h"

#undef _mm512_madd_epi16
#define _mm512_madd_epi16 simde_mm512_madd_epi16 /* that release's alias asks for four arguments */
#define __mmask16 simde__mmask16
#define __mmask64 simde__mmask64
#undef _mm512_fmadd_ps
#undef _mm512_loadu_ps
#undef _mm512_storeu_ps
#undef _mm512_cvtph_ps
#undef _mm512_cvtps_ph
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi8_epi32
#undef _mm512_cvtepu8_epi32
#undef _mm512_srai_epi32
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtepi32_epi8
#undef _mm512_cvtepi32_epi16
#undef _mm512_extractf32x8_ps
#undef _mm512_castps512_ps256
#define _mm512_fmadd_ps emulated_fmadd
#define _mm512_loadu_ps emulated_loadu
#define _mm512_storeu_ps emulated_storeu
#define _mm512_cvtph_ps emulated_cvtph
#define _mm512_cvtps_ph(x, rounding) emulated_cvtps_ph(x)
#define _mm512_cvtepu16_epi32 emulated_cvtepu16
#define _mm512_cvtepi8_epi32 emulated_cvtepi8
#define _mm512_cvtepu8_epi32 emulated_cvtepu8
#define _mm512_srai_epi32 emulated_srai
#define _mm512_cvtepi32_ps emulated_cvtepi32
#define _mm512_cvtepi32_epi8 emulated_low_bytes
#define _mm512_cvtepi32_epi16 emulated_low_words
#define _mm512_extractf32x8_ps emulated_half
#define _mm512_castps512_ps256(x) emulated_half(x, 0)

/* Registers as arrays and back. */
#define EMULATED_LANES(type, name, from)                                                                               \
	type name[sizeof(from) / sizeof(type)];                                                                        \
	memcpy(name, &from, sizeof(name))

static inline __m512 emulated_loadu(const void *p)
{
	__m512 r;

	memcpy(&r, p, sizeof(r));
	return r;
}

static inline void emulated_storeu(void *p, __m512 x)
{
	memcpy(p, &x, sizeof(x));
}

static inline __m512 emulated_fmadd(__m512 x, __m512 y, __m512 z)
{
	EMULATED_LANES(float, a, x);
	EMULATED_LANES(float, b, y);
	EMULATED_LANES(float, c, z);

	for (int i = 0; i < 16; i++)
		c[i] = fmaf(a[i], b[i], c[i]);
	return emulated_loadu(c);
}

static inline __m512 emulated_cvtph(__m256i x)
{
	EMULATED_LANES(uint16_t, h, x);
	float f[16];

	for (int i = 0; i < 16; i++)
		f[i] = f16_to_f32(h[i]);
	return emulated_loadu(f);
}

static inline __m256i emulated_cvtps_ph(__m512 x)
{
	EMULATED_LANES(float, f, x);
	uint16_t h[16];
	__m256i r;

	for (int i = 0; i < 16; i++)
		h[i] = f16_of_f32(f[i]);
	memcpy(&r, h, sizeof(r));
	return r;
}

static inline __m512i emulated_cvtepu16(__m256i x)
{
	EMULATED_LANES(uint16_t, h, x);
	uint32_t wide[16];
	__m512i r;

	for (int i = 0; i < 16; i++)
		wide[i] = h[i];
	memcpy(&r, wide, sizeof(r));
	return r;
}

/* Sixteen bytes, signed or not, to 32 bits each. */
static inline __m512i emulated_cvtepi8(__m128i x)
{
	EMULATED_LANES(int8_t, b, x);
	int32_t wide[16];
	__m512i r;

	for (int i = 0; i < 16; i++)
		wide[i] = b[i];
	memcpy(&r, wide, sizeof(r));
	return r;
}

static inline __m512i emulated_cvtepu8(__m128i x)
{
	EMULATED_LANES(uint8_t, b, x);
	int32_t wide[16];
	__m512i r;

	for (int i = 0; i < 16; i++)
		wide[i] = b[i];
	memcpy(&r, wide, sizeof(r));
	return r;
}

static inline __m512i emulated_srai(__m512i x, unsigned bits)
{
	EMULATED_LANES(int32_t, n, x);
	__m512i r;

	for (int i = 0; i < 16; i++)
		n[i] >>= bits;
	memcpy(&r, n, sizeof(r));
	return r;
}

static inline __m512 emulated_cvtepi32(__m512i x)
{
	EMULATED_LANES(int32_t, n, x);
	float f[16];

	for (int i = 0; i < 16; i++)
		f[i] = (float)n[i];
	return emulated_loadu(f);
}

static inline __m128i emulated_low_bytes(__m512i x)
{
	EMULATED_LANES(uint32_t, n, x);
	uint8_t b[16];
	__m128i r;

	for (int i = 0; i < 16; i++)
		b[i] = (uint8_t)n[i];
	memcpy(&r, b, sizeof(r));
	return r;
}

static inline __m256i emulated_low_words(__m512i x)
{
	EMULATED_LANES(uint32_t, n, x);
	uint16_t w[16];
	__m256i r;

	for (int i = 0; i < 16; i++)
		w[i] = (uint16_t)n[i];
	memcpy(&r, w, sizeof(r));
	return r;
}

static inline __m256 emulated_half(__m512 x, int half)
{
	EMULATED_LANES(float, f, x);
	__m256 r;

	memcpy(&r, f + 8 * half, sizeof(r));
	return r;
}

#endif
