/*
 * Half-precision numbers in plain C: the same bits as the F16C instructions, NaNs made quiet with their payload kept;
 * and the superblocks of the K types in plain numbers. For the rooms of kernels/ only; the public half of dtype.c is in
 * kernels.h.
 */
#ifndef KERNELS_DTYPE_H
#define KERNELS_DTYPE_H

#include <stdint.h>
#include <string.h>

#include "kernels.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF tensors are little-endian, and so must the machine be."
#endif

static inline float f32_of_bits(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static inline uint32_t f32_bits(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

/* Exact. The exponent is moved by a multiplication, which also gives denormals their leading bit. */
static inline float f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;

	if ((h & 0x7c00) == 0x7c00)
		return f32_of_bits(sign | 0x7f800000 | rest | (h & 0x3ff ? 0x400000 : 0));
	return f32_of_bits(sign | f32_bits(f32_of_bits(rest) * 0x1p112f));
}

static inline float bf16_to_f32(uint16_t h)
{
	return f32_of_bits((uint32_t)h << 16);
}

/* Rounds to the nearest, ties to even; too large becomes infinite. */
static inline uint16_t f16_of_f32(float f)
{
	uint32_t bits = f32_bits(f), sign = bits >> 16 & 0x8000, abs = bits & 0x7fffffff;

	if (abs > 0x7f800000)
		return (uint16_t)(sign | 0x7e00 | (abs >> 13 & 0x3ff));
	if (abs >= 0x477ff000) /* 65520 and up: nearer to 2^16 than to the largest half */
		return (uint16_t)(sign | 0x7c00);
	if (abs < 0x38800000) /* below 2^-14: adding 1/2 leaves the value in units of 2^-24, rounded, in the low bits */
		return (uint16_t)(sign | (f32_bits(f32_of_bits(abs) + 0.5f) - 0x3f000000));
	return (uint16_t)(sign | ((abs - 0x38000000 + 0xfff + (abs >> 13 & 1)) >> 13));
}

/* Checks a tensor's type and shape; SINK_EINVAL or SINK_EFORMAT with the cause. */
int weight_check(const struct tensor *t, struct err *e);

/*
 * A matrix of MXFP4 as one of Q5_0: numbers are whole within -12 and 12, their scales powers of two. Those below 2^-24
 * become 0. SINK_EFORMAT for scales that no half has, from 2^16 on; the result's data is the caller's to free.
 */
int dtype_mxfp4_to_q5_0(const struct tensor *t, struct tensor *ret, struct err *e);

/* Elements of a superblock. */
enum { SUPERBLOCK = 256 };

/*
 * A superblock of Q4_K, Q5_K or Q6_K. Element i is d * scale[i / 32] * q[i] - dmin * min[i / 32], and for Q6_K
 * d * scale[i / 16] * (q[i] - 32).
 */
struct superblock {
	uint16_t d, dmin; /* halves; no dmin in Q6_K */
	int8_t scale[16]; /* 0 .. 63 in the others, which have 8 */
	uint8_t min[8];
	uint8_t q[SUPERBLOCK];
};

void dtype_superblock(enum dtype type, const uint8_t *src, struct superblock *ret);
void dtype_superblock_to_f32(enum dtype type, const struct superblock *s, float *dst);

#endif
