/*
 * What a core does at best with this instruction set: loads and sums alone, and multiplications and additions that
 * never leave their registers. The kernels are compared with these, so each loop has as many sums in flight as the
 * latency of its instructions asks for, and hides an operand from the compiler where it could take a product once for
 * all. In the tests' emulation and on other processors it is plain C, as the kernels are there.
 */
#ifndef CPU_PEAK_H
#define CPU_PEAK_H

#if defined(__AVX512BW__)
enum { PEAK_REGISTER = 64, PEAK_SUMS = 12, PEAK_LANES = 12 };
#define PEAK_VECTOR __m512i
#define PEAK_HIDE(x) __asm__("" : "+v"(x))
#define PEAK_USE(x) __asm__ volatile("" : : "v"(x))

INLINE __m512i peak_zero(void)
{
	return _mm512_setzero_si512();
}

INLINE __m512i peak_load(__m512i sum, const uint8_t *p)
{
	return _mm512_add_epi64(sum, _mm512_loadu_si512(p));
}

INLINE __m512i peak_bytes(__m512i sum, __m512i w, __m512i q)
{
	return add_products(sum, w, q);
}

INLINE __m512i peak_words(__m512i sum, __m512i w, __m512i q)
{
#ifdef KERNELS_VNNI
	return _mm512_dpwssd_epi32(sum, w, q);
#else
	return _mm512_add_epi32(sum, _mm512_madd_epi16(w, q));
#endif
}

#elif defined(__AVX2__)
enum { PEAK_REGISTER = 32, PEAK_SUMS = 8, PEAK_LANES = 5 };
#define PEAK_VECTOR __m256i
#define PEAK_HIDE(x) __asm__("" : "+x"(x))
#define PEAK_USE(x) __asm__ volatile("" : : "x"(x))

INLINE __m256i peak_zero(void)
{
	return _mm256_setzero_si256();
}

INLINE __m256i peak_load(__m256i sum, const uint8_t *p)
{
	return _mm256_add_epi64(sum, _mm256_loadu_si256((const __m256i *)p));
}

INLINE __m256i peak_bytes(__m256i sum, __m256i w, __m256i q)
{
	return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, q));
}

INLINE __m256i peak_words(__m256i sum, __m256i w, __m256i q)
{
	return _mm256_add_epi32(sum, _mm256_madd_epi16(w, q));
}

#else
enum { PEAK_REGISTER = 8, PEAK_SUMS = 8, PEAK_LANES = 1 };
#define PEAK_VECTOR uint64_t
#define PEAK_HIDE(x) __asm__("" : "+r"(x))
#define PEAK_USE(x) __asm__ volatile("" : : "r"(x))

INLINE uint64_t peak_zero(void)
{
	return 0;
}

INLINE uint64_t peak_load(uint64_t sum, const uint8_t *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return sum + word;
}

INLINE uint64_t peak_bytes(uint64_t sum, uint64_t w, uint64_t q)
{
	return sum + w * q;
}

INLINE uint64_t peak_words(uint64_t sum, uint64_t w, uint64_t q)
{
	return sum + w * q;
}
#endif

static void read_peak(const uint8_t *p, size_t bytes)
{
	PEAK_VECTOR sum[4] = { peak_zero(), peak_zero(), peak_zero(), peak_zero() }, all = peak_zero();

	for (size_t at = 0; at + 8 * PEAK_REGISTER <= bytes; at += 8 * PEAK_REGISTER)
		foreach (i, 8)
			sum[i % 4] = peak_load(sum[i % 4], p + at + i * PEAK_REGISTER);
	foreach (i, 4)
		all = peak_words(all, sum[i], sum[i]);
	PEAK_USE(all);
}

static double f32_peak(size_t rounds)
{
	struct v16 sum[PEAK_LANES], all = v16_set1(0), half = v16_set1(0.5f);

	__asm__ volatile("" : "+m"(half));
	foreach (i, PEAK_LANES)
		sum[i] = v16_set1((float)i);
	for (size_t r = 0; r < rounds; r++)
		foreach (i, PEAK_LANES)
			sum[i] = v16_fma(sum[i], half, half);
	foreach (i, PEAK_LANES)
		all = v16_add(all, sum[i]);
	__asm__ volatile("" : : "m"(all));
	return 2.0 * LANES * PEAK_LANES * (double)rounds;
}

/* Products of `width` bytes, as many as a register has lanes of them; plain C takes one at a time. */
INLINE double integer_peak(size_t rounds, size_t width)
{
	PEAK_VECTOR sum[PEAK_SUMS], all = peak_zero(), w = peak_zero(), q = peak_zero();

	foreach (i, PEAK_SUMS)
		sum[i] = peak_zero();
	PEAK_HIDE(w);
	for (size_t r = 0; r < rounds; r++)
		foreach (i, PEAK_SUMS) {
			PEAK_HIDE(q);
			sum[i] = width == 1 ? peak_bytes(sum[i], w, q) : peak_words(sum[i], w, q);
			PEAK_HIDE(sum[i]);
		}
	foreach (i, PEAK_SUMS)
		all = peak_words(all, sum[i], q);
	PEAK_USE(all);
	return 2.0 * PEAK_SUMS * (double)(PEAK_REGISTER > 8 ? PEAK_REGISTER / width : 1) * (double)rounds;
}

static double bytes_peak(size_t rounds)
{
	return integer_peak(rounds, 1);
}

static double words_peak(size_t rounds)
{
	return integer_peak(rounds, 2);
}

#endif
