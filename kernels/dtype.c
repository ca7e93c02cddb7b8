/*
 * The element types of GGUF files: names, geometry, and their meaning in F32. This file is the definition that every
 * packed layout and every kernel is tested against, so it is written for reading, one function a format.
 */
#include "dtype.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "kernels.h"

static const struct dtype_info types[] = {
	{ DTYPE_F32, "f32", 1, 4 },	  { DTYPE_F16, "f16", 1, 2 },	    { DTYPE_BF16, "bf16", 1, 2 },
	{ DTYPE_Q4_0, "q4_0", 32, 18 },	  { DTYPE_Q4_1, "q4_1", 32, 20 },   { DTYPE_Q5_0, "q5_0", 32, 22 },
	{ DTYPE_Q5_1, "q5_1", 32, 24 },	  { DTYPE_Q8_0, "q8_0", 32, 34 },   { DTYPE_Q4_K, "q4_k", 256, 144 },
	{ DTYPE_Q5_K, "q5_k", 256, 176 }, { DTYPE_Q6_K, "q6_k", 256, 210 }, { DTYPE_MXFP4, "mxfp4", 32, 17 },
};

const struct dtype_info *dtype_find(uint32_t gguf_type)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if ((uint32_t)types[i].type == gguf_type)
			return &types[i];
	return NULL;
}

int weight_check(const struct tensor *t, struct err *e)
{
	const struct dtype_info *info = dtype_find((uint32_t)t->type);

	if (!info)
		return err_set(e, SINK_EINVAL, "The kernels do not know GGUF type %u.", (unsigned)t->type);
	if (t->rows < 1 || t->cols < 1 || t->rows > 1u << 30 || t->cols > 1u << 30)
		return err_set(e, SINK_EFORMAT, "A matrix cannot have %zu rows of %zu columns.", t->rows, t->cols);
	if (t->cols % info->block)
		return err_set(e, SINK_EFORMAT, "Rows of %zu columns do not divide into blocks of %zu, as %s has them.",
			       t->cols, info->block, info->name);
	return 0;
}

static uint16_t u16_at(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static void from_f16(const uint8_t *src, size_t cols, float *dst)
{
	for (size_t i = 0; i < cols; i++)
		dst[i] = f16_to_f32(u16_at(src + 2 * i));
}

static void from_bf16(const uint8_t *src, size_t cols, float *dst)
{
	for (size_t i = 0; i < cols; i++)
		dst[i] = bf16_to_f32(u16_at(src + 2 * i));
}

/* d, 16 bytes: low nibbles are elements 0..15, high nibbles 16..31; value (q - 8) * d. */
static void from_q4_0(const uint8_t *src, size_t cols, float *dst)
{
	for (size_t b = 0; b < cols / 32; b++, src += 18, dst += 32) {
		float d = f16_to_f32(u16_at(src));

		for (int i = 0; i < 16; i++) {
			dst[i] = (float)((src[2 + i] & 15) - 8) * d;
			dst[16 + i] = (float)((src[2 + i] >> 4) - 8) * d;
		}
	}
}

/* d, m, nibbles as above; value q * d + m. */
static void from_q4_1(const uint8_t *src, size_t cols, float *dst)
{
	for (size_t b = 0; b < cols / 32; b++, src += 20, dst += 32) {
		float d = f16_to_f32(u16_at(src)), m = f16_to_f32(u16_at(src + 2));

		for (int i = 0; i < 16; i++) {
			dst[i] = (float)(src[4 + i] & 15) * d + m;
			dst[16 + i] = (float)(src[4 + i] >> 4) * d + m;
		}
	}
}

/* Element i of a five-bit block: a nibble, and above it bit i of the 32 at `high`. */
static int five_bits(const uint8_t *high, const uint8_t *nibbles, int i)
{
	int low = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;

	return low | (high[i / 8] >> i % 8 & 1) << 4;
}

/* d, 32 high bits, nibbles; value (q - 16) * d. */
static void from_q5_0(const uint8_t *src, size_t cols, float *dst)
{
	for (size_t b = 0; b < cols / 32; b++, src += 22, dst += 32) {
		float d = f16_to_f32(u16_at(src));

		for (int i = 0; i < 32; i++)
			dst[i] = (float)(five_bits(src + 2, src + 6, i) - 16) * d;
	}
}

/* d, m, 32 high bits, nibbles; value q * d + m. */
static void from_q5_1(const uint8_t *src, size_t cols, float *dst)
{
	for (size_t b = 0; b < cols / 32; b++, src += 24, dst += 32) {
		float d = f16_to_f32(u16_at(src)), m = f16_to_f32(u16_at(src + 2));

		for (int i = 0; i < 32; i++)
			dst[i] = (float)five_bits(src + 4, src + 8, i) * d + m;
	}
}

/* d, 32 signed bytes; value q * d. */
static void from_q8_0(const uint8_t *src, size_t cols, float *dst)
{
	for (size_t b = 0; b < cols / 32; b++, src += 34, dst += 32) {
		float d = f16_to_f32(u16_at(src));

		for (int i = 0; i < 32; i++)
			dst[i] = (float)(int8_t)src[2 + i] * d;
	}
}

/* Twice what four bits of MXFP4 stand for: a sign, two bits of exponent, one of mantissa. */
static int mxfp4_number(int bits)
{
	static const int8_t size[] = { 0, 1, 2, 3, 4, 6, 8, 12 };

	return bits & 8 ? -size[bits & 7] : size[bits & 7];
}

/* What one of these counts: half of a power of two. 255 is no number. */
static float mxfp4_scale(uint8_t exponent)
{
	return exponent == 255 ? NAN : ldexpf(1, exponent - 128);
}

/* An exponent, then nibbles as in Q4_0. */
static void from_mxfp4(const uint8_t *src, size_t cols, float *dst)
{
	for (size_t b = 0; b < cols / 32; b++, src += 17, dst += 32) {
		float d = mxfp4_scale(src[0]);

		for (int i = 0; i < 16; i++) {
			dst[i] = (float)mxfp4_number(src[1 + i] & 15) * d;
			dst[16 + i] = (float)mxfp4_number(src[1 + i] >> 4) * d;
		}
	}
}

/* False when there is no half for the scale. */
static bool block_to_q5_0(const uint8_t *src, uint8_t *dst)
{
	const float d = mxfp4_scale(src[0]);
	const uint16_t half = f16_of_f32(d);

	memset(dst, 0, 22);
	memcpy(dst, &half, sizeof(half));
	for (int i = 0; i < 16; i++) {
		const int low = mxfp4_number(src[1 + i] & 15) + 16, high = mxfp4_number(src[1 + i] >> 4) + 16;

		dst[6 + i] = (uint8_t)((low & 15) | (high & 15) << 4);
		dst[2 + i / 8] |= (uint8_t)(low >> 4 << i % 8);
		dst[4 + i / 8] |= (uint8_t)(high >> 4 << i % 8);
	}
	return d < 65536;
}

int dtype_mxfp4_to_q5_0(const struct tensor *t, struct tensor *ret, struct err *e)
{
	const size_t blocks = t->rows * (t->cols / 32);
	const uint8_t *src = t->data;
	uint8_t *dst;
	int rc = weight_check(t, e);

	if (rc != 0)
		return rc;
	dst = malloc(blocks * 22);
	if (!dst)
		return err_set(e, SINK_ENOMEM, "There is no memory to unpack a matrix of mxfp4.");
	for (size_t b = 0; rc == 0 && b < blocks; b++)
		if (!block_to_q5_0(src + b * 17, dst + b * 22))
			rc = err_set(e, SINK_EFORMAT, "A block of mxfp4 has the exponent %d, beyond what is supported.",
				     src[b * 17] - 127);
	*ret = (struct tensor){ DTYPE_Q5_0, t->rows, t->cols, dst };
	if (rc != 0)
		free(dst);
	return rc;
}

/*
 * 16 numbers of 6 bits in 12 bytes: 8 scales, 8 minima. The first four of each have bytes 0..3 and 4..7; of the others
 * the low four bits are the nibbles of bytes 8..11, and the high two stand above the first four.
 */
static void six_bits(const uint8_t *p, struct superblock *ret)
{
	for (int i = 0; i < 4; i++) {
		ret->scale[i] = (int8_t)(p[i] & 63);
		ret->min[i] = p[4 + i] & 63;
		ret->scale[4 + i] = (int8_t)((p[8 + i] & 15) | p[i] >> 6 << 4);
		ret->min[4 + i] = (uint8_t)(p[8 + i] >> 4 | p[4 + i] >> 6 << 4);
	}
}

/* 32 bytes hold 64 elements, the first 32 in the low nibbles; bit i of byte j of `high` is that of element 32i + j. */
static void read_four_or_five(const uint8_t *high, const uint8_t *nibbles, uint8_t *q)
{
	for (int i = 0; i < SUPERBLOCK; i++) {
		q[i] = nibbles[i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15;
		if (high)
			q[i] |= (uint8_t)((high[i % 32] >> i / 32 & 1) << 4);
	}
}

/*
 * Each half of 128 elements has 64 bytes of low bits, the first 64 elements in the low nibbles, and 32 bytes of high
 * ones: bits 2i and 2i + 1 of byte j are those of element 32i + j.
 */
static void read_six(const uint8_t *low, const uint8_t *high, uint8_t *q)
{
	for (int i = 0; i < SUPERBLOCK; i++) {
		int half = i / 128, at = i % 128;
		int bits = high[32 * half + at % 32] >> at / 32 * 2 & 3;

		q[i] = (uint8_t)((low[64 * half + at % 64] >> at / 64 * 4 & 15) | bits << 4);
	}
}

void dtype_superblock(enum dtype type, const uint8_t *src, struct superblock *ret)
{
	if (type == DTYPE_Q6_K) {
		read_six(src, src + 128, ret->q);
		memcpy(ret->scale, src + 192, sizeof(ret->scale));
		ret->d = u16_at(src + 208);
		return;
	}
	ret->d = u16_at(src);
	ret->dmin = u16_at(src + 2);
	six_bits(src + 4, ret);
	read_four_or_five(type == DTYPE_Q5_K ? src + 16 : NULL, src + (type == DTYPE_Q5_K ? 48 : 16), ret->q);
}

void dtype_superblock_to_f32(enum dtype type, const struct superblock *s, float *dst)
{
	const float d = f16_to_f32(s->d), dmin = type == DTYPE_Q6_K ? 0 : f16_to_f32(s->dmin);

	for (int i = 0; i < SUPERBLOCK; i++)
		if (type == DTYPE_Q6_K)
			dst[i] = d * (float)s->scale[i / 16] * (float)(s->q[i] - 32);
		else
			dst[i] = d * (float)s->scale[i / 32] * (float)s->q[i] - dmin * (float)s->min[i / 32];
}

static void from_superblocks(enum dtype type, const uint8_t *src, size_t cols, float *dst)
{
	const size_t bytes = dtype_find((uint32_t)type)->bytes;
	struct superblock s;

	for (size_t b = 0; b < cols / SUPERBLOCK; b++, src += bytes, dst += SUPERBLOCK) {
		dtype_superblock(type, src, &s);
		dtype_superblock_to_f32(type, &s, dst);
	}
}

void dtype_to_f32(enum dtype type, const void *src, size_t cols, float *dst)
{
	switch (type) {
	case DTYPE_F32:
		memcpy(dst, src, cols * sizeof(float));
		return;
	case DTYPE_F16:
		from_f16(src, cols, dst);
		return;
	case DTYPE_BF16:
		from_bf16(src, cols, dst);
		return;
	case DTYPE_MXFP4:
		from_mxfp4(src, cols, dst);
		return;
	case DTYPE_Q4_0:
		from_q4_0(src, cols, dst);
		return;
	case DTYPE_Q4_1:
		from_q4_1(src, cols, dst);
		return;
	case DTYPE_Q5_0:
		from_q5_0(src, cols, dst);
		return;
	case DTYPE_Q5_1:
		from_q5_1(src, cols, dst);
		return;
	case DTYPE_Q8_0:
		from_q8_0(src, cols, dst);
		return;
	case DTYPE_Q4_K:
	case DTYPE_Q5_K:
	case DTYPE_Q6_K:
		from_superblocks(type, src, cols, dst);
		return;
	}
	assert(0 && "a type that dtype_find does not know");
}
