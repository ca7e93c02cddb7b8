/* Device code that needs no other thread: bits, whole numbers, floats, atomics, loads. Part of standin.h. */
#ifndef TESTS_KERNELS_STANDIN_MATH_H
#define TESTS_KERNELS_STANDIN_MATH_H

namespace standin
{

template <typename To, typename From> static inline To cast(From from)
{
	To to;

	static_assert(sizeof(to) == sizeof(from));
	memcpy(&to, &from, sizeof(to));
	return to;
}

} // namespace standin

static inline float __uint_as_float(unsigned x)
{
	return standin::cast<float>(x);
}

static inline float __int_as_float(int x)
{
	return standin::cast<float>(x);
}

static inline unsigned __float_as_uint(float x)
{
	return standin::cast<unsigned>(x);
}

static inline int __float_as_int(float x)
{
	return standin::cast<int>(x);
}

static inline double __longlong_as_double(long long x)
{
	return standin::cast<double>(x);
}

static inline long long __double_as_longlong(double x)
{
	return standin::cast<long long>(x);
}

/* Bits; of zero as on a card, where the compiler's builtins say nothing. */
static inline int __clz(int x)
{
	return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}

static inline int __clzll(long long x)
{
	return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}

static inline int __ffs(int x)
{
	return __builtin_ffs(x);
}

static inline int __ffsll(long long x)
{
	return __builtin_ffsll(x);
}

static inline int __popc(unsigned x)
{
	return __builtin_popcount(x);
}

static inline int __popcll(unsigned long long x)
{
	return __builtin_popcountll(x);
}

static inline unsigned __brev(unsigned x)
{
	unsigned ret = 0;

	for (int i = 0; i < 32; i++)
		ret |= (x >> i & 1) << (31 - i);
	return ret;
}

static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned which)
{
	const uint64_t both = a | static_cast<uint64_t>(b) << 32;
	unsigned ret = 0;

	for (int i = 0; i < 4; i++) {
		const unsigned byte = both >> 8 * (which >> 4 * i & 7) & 0xff;

		ret |= (which >> 4 * i & 8 ? (byte & 0x80 ? 0xffu : 0u) : byte) << 8 * i;
	}
	return ret;
}

static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by)
{
	return static_cast<unsigned>((low | static_cast<uint64_t>(high) << 32) << (by & 31) >> 32);
}

static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by)
{
	return static_cast<unsigned>((low | static_cast<uint64_t>(high) << 32) >> (by & 31));
}

/* Four bytes in a word. */
static inline unsigned __vadd4(unsigned a, unsigned b)
{
	return ((a & 0x7f7f7f7f) + (b & 0x7f7f7f7f)) ^ ((a ^ b) & 0x80808080);
}

static inline unsigned __vsub4(unsigned a, unsigned b)
{
	return ((a | 0x80808080) - (b & 0x7f7f7f7f)) ^ (~(a ^ b) & 0x80808080);
}

static inline unsigned __vsubss4(unsigned a, unsigned b)
{
	unsigned ret = 0;

	for (int i = 0; i < 32; i += 8) {
		const int x = static_cast<int8_t>(a >> i) - static_cast<int8_t>(b >> i);

		ret |= static_cast<unsigned>((x < -128 ? -128 : x > 127 ? 127 : x) & 0xff) << i;
	}
	return ret;
}

static inline int __dp4a(int a, int b, int c)
{
	unsigned sum = static_cast<unsigned>(c);

	for (int i = 0; i < 32; i += 8)
		sum += static_cast<unsigned>(static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i));
	return static_cast<int>(sum);
}

static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c)
{
	for (int i = 0; i < 32; i += 8)
		c += static_cast<unsigned>(static_cast<uint8_t>(a >> i) * static_cast<uint8_t>(b >> i));
	return c;
}

/* Two words of a with two bytes of b: its low or its high ones. */
static inline int __dp2a_lo(int a, int b, int c)
{
	return static_cast<int>(static_cast<unsigned>(c) +
				static_cast<unsigned>(static_cast<int16_t>(a) * static_cast<int8_t>(b) +
						      static_cast<int16_t>(a >> 16) * static_cast<int8_t>(b >> 8)));
}

static inline int __dp2a_hi(int a, int b, int c)
{
	return __dp2a_lo(a, b >> 16, c);
}

static inline int __mulhi(int a, int b)
{
	return static_cast<int>(static_cast<int64_t>(a) * b >> 32);
}

static inline unsigned __umulhi(unsigned a, unsigned b)
{
	return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}

/* min and max take what CUDA's take: two of a type, or a wider and a narrower whole number. */
#define STANDIN_MIN_MAX(type)                                                                                          \
	static inline type min(type a, type b)                                                                         \
	{                                                                                                              \
		return b < a ? b : a;                                                                                  \
	}                                                                                                              \
	static inline type max(type a, type b)                                                                         \
	{                                                                                                              \
		return a < b ? b : a;                                                                                  \
	}
STANDIN_MIN_MAX(int)
STANDIN_MIN_MAX(unsigned)
STANDIN_MIN_MAX(long)
STANDIN_MIN_MAX(unsigned long)
STANDIN_MIN_MAX(long long)
STANDIN_MIN_MAX(unsigned long long)
#undef STANDIN_MIN_MAX

static inline float min(float a, float b)
{
	return fminf(a, b);
}

static inline float max(float a, float b)
{
	return fmaxf(a, b);
}

static inline double min(double a, double b)
{
	return fmin(a, b);
}

static inline double max(double a, double b)
{
	return fmax(a, b);
}

/* Floats. The fast functions of a card err by a few units in the last place; these do not. Macros, since the C library
 * has secret functions of these names. */
#define __expf expf
#define __exp10f exp10f
#define __logf logf
#define __log2f log2f
#define __sinf sinf
#define __cosf cosf
#define __powf powf

static inline float __fdividef(float a, float b)
{
	return a / b;
}

static inline float rsqrtf(float x)
{
	return static_cast<float>(1 / sqrt(static_cast<double>(x)));
}

static inline double rsqrt(double x)
{
	return 1 / sqrt(x);
}

static inline float __saturatef(float x)
{
	return x >= 1 ? 1 : x > 0 ? x : 0;
}

static inline float __fmaf_rn(float a, float b, float c)
{
	return fmaf(a, b, c);
}

static inline double __fma_rn(double a, double b, double c)
{
	return fma(a, b, c);
}

/* Never part of a fused operation. */
static inline float __fadd_rn(float a, float b)
{
	volatile float ret = a + b;

	return ret;
}

static inline float __fsub_rn(float a, float b)
{
	return __fadd_rn(a, -b);
}

static inline float __fmul_rn(float a, float b)
{
	volatile float ret = a * b;

	return ret;
}

static inline double __dadd_rn(double a, double b)
{
	volatile double ret = a + b;

	return ret;
}

static inline double __dmul_rn(double a, double b)
{
	volatile double ret = a * b;

	return ret;
}

static inline float __fdiv_rn(float a, float b)
{
	return a / b;
}

static inline float __frcp_rn(float a)
{
	return 1 / a;
}

static inline float __fsqrt_rn(float a)
{
	return sqrtf(a);
}

static inline float __int2float_rn(int x)
{
	return static_cast<float>(x);
}

static inline float __uint2float_rn(unsigned x)
{
	return static_cast<float>(x);
}

/* To the nearest, ties to even; what is too large becomes the largest, and no number 0, as on a card. */
static inline int __float2int_rn(float x)
{
	return x >= 0x1p31f ? INT32_MAX : x <= -0x1p31f ? INT32_MIN : x == x ? static_cast<int>(nearbyintf(x)) : 0;
}

static inline int __float2int_rz(float x)
{
	return __float2int_rn(truncf(x));
}

static inline int __float2int_rd(float x)
{
	return __float2int_rn(floorf(x));
}

static inline int __float2int_ru(float x)
{
	return __float2int_rn(ceilf(x));
}

/* Atomics: threads take turns, and only where they wait, so that plain operations are whole. */
template <typename T> static inline T atomicAdd(T *p, T v)
{
	const T old = *p;

	*p = old + v;
	return old;
}

static inline int atomicAdd(int *p, int v)
{
	const int old = *p;

	*p = static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(v));
	return old;
}

template <typename T> static inline T atomicSub(T *p, T v)
{
	const T old = *p;

	*p = old - v;
	return old;
}

template <typename T> static inline T atomicExch(T *p, T v)
{
	const T old = *p;

	*p = v;
	return old;
}

template <typename T> static inline T atomicMin(T *p, T v)
{
	const T old = *p;

	*p = v < old ? v : old;
	return old;
}

template <typename T> static inline T atomicMax(T *p, T v)
{
	const T old = *p;

	*p = v > old ? v : old;
	return old;
}

template <typename T> static inline T atomicAnd(T *p, T v)
{
	const T old = *p;

	*p = old & v;
	return old;
}

template <typename T> static inline T atomicOr(T *p, T v)
{
	const T old = *p;

	*p = old | v;
	return old;
}

template <typename T> static inline T atomicXor(T *p, T v)
{
	const T old = *p;

	*p = old ^ v;
	return old;
}

template <typename T> static inline T atomicCAS(T *p, T is, T then)
{
	const T old = *p;

	if (old == is)
		*p = then;
	return old;
}

/* Counts up to `last`, then begins anew; counts down to 0, then begins at `last`. */
static inline unsigned atomicInc(unsigned *p, unsigned last)
{
	const unsigned old = *p;

	*p = old >= last ? 0 : old + 1;
	return old;
}

static inline unsigned atomicDec(unsigned *p, unsigned last)
{
	const unsigned old = *p;

	*p = old == 0 || old > last ? last : old - 1;
	return old;
}

/* Loads and stores that advise a cache. An address has to be aligned to what is loaded. */
namespace standin
{

template <typename T> static inline const T *aligned(const T *p)
{
	if (reinterpret_cast<uintptr_t>(p) % sizeof(T) != 0)
		die("a load or store of %zu bytes at %p, which is not aligned to them", sizeof(T),
		    static_cast<const void *>(p));
	return p;
}

} // namespace standin

template <typename T> static inline T __ldg(const T *p)
{
	return *standin::aligned(p);
}

template <typename T> static inline T __ldca(const T *p)
{
	return *standin::aligned(p);
}

template <typename T> static inline T __ldcg(const T *p)
{
	return *standin::aligned(p);
}

template <typename T> static inline T __ldcs(const T *p)
{
	return *standin::aligned(p);
}

template <typename T> static inline T __ldlu(const T *p)
{
	return *standin::aligned(p);
}

template <typename T> static inline T __ldcv(const T *p)
{
	return *standin::aligned(p);
}

template <typename T> static inline void __stcg(T *p, T v)
{
	standin::aligned(p);
	*p = v;
}

template <typename T> static inline void __stcs(T *p, T v)
{
	standin::aligned(p);
	*p = v;
}

template <typename T> static inline void __stwb(T *p, T v)
{
	standin::aligned(p);
	*p = v;
}

template <typename T> static inline void __stwt(T *p, T v)
{
	standin::aligned(p);
	*p = v;
}

[[noreturn]] static inline void __trap()
{
	standin::die("__trap()");
}

#endif
