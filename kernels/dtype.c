/*
 * The element types of GGUF files: names, geometry, and their meaning in F32. This file is the definition that every
 * packed layout and every kernel is tested against, so it is written for reading, one function a format.
 */
#include "dtype.h"

#include <assert.h>

#include "kernels.h"

static const struct dtype_info types[] = {
	{ DTYPE_F32, "f32", 1, 4 },	{ DTYPE_F16, "f16", 1, 2 },	{ DTYPE_BF16, "bf16", 1, 2 },
	{ DTYPE_Q4_0, "q4_0", 32, 18 }, { DTYPE_Q4_1, "q4_1", 32, 20 }, { DTYPE_Q5_0, "q5_0", 32, 22 },
	{ DTYPE_Q5_1, "q5_1", 32, 24 }, { DTYPE_Q8_0, "q8_0", 32, 34 },
};

const struct dtype_info *dtype_find(uint32_t gguf_type)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if ((uint32_t)types[i].type == gguf_type)
			return &types[i];
	return NULL;
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
	}
	assert(0 && "a type that dtype_find does not know");
}
