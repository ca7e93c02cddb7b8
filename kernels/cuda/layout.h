/*
 * The layouts of weights on the card, as kernels read them: what pack.cu writes, few.cu multiplies by. Quants lie apart
 * from their scales, so that a thread takes a block of 32 in loads of 16 bytes, and its neighbour the next block.
 *
 *	q	Q8_0: the first 16 bytes of all blocks of a row, then the second, [rows][2][blocks][16]; other blocked
 *		types 16 bytes a block: byte i is element i in its low nibble, 16 + i in its high one; the others: the
 *		file's rows
 *	high	5 bits: 4 bytes a block, bit k of byte c is element 4k + c; Q6_K: 8 bytes a block, bits 2k and 2k + 1 of
 *		byte c are element 4k + c, of byte 4 + c element 16 + 4k + c
 *	scale	d, or d and m, halves; K types: scale and minimum, bytes; Q6_K: the scales of the two halves of a block
 *	super	K types: d and dmin, halves, a superblock; Q6_K: d
 *
 * Quants of types without a minimum are kept less their offset, in two's complement, and are unpacked to the top bits
 * of a byte: a word of four for __dp4a needs no more operations than one without sign, and the sums of activations are
 * not wanted. `step` is what one of these bytes counts.
 */
#ifndef CUDA_LAYOUT_H
#define CUDA_LAYOUT_H

#include "cuda.h"

/* Blocks of a superblock. */
enum { SUPER = 8 };

namespace CUDA_SPACE
{

template <enum dtype T> struct form_of {
	static constexpr bool super = T == DTYPE_Q4_K || T == DTYPE_Q5_K || T == DTYPE_Q6_K;
	static constexpr bool min = T == DTYPE_Q4_1 || T == DTYPE_Q5_1 || T == DTYPE_Q4_K || T == DTYPE_Q5_K;
	static constexpr int bits = T == DTYPE_Q4_0 || T == DTYPE_Q4_1 || T == DTYPE_Q4_K   ? 4
				    : T == DTYPE_Q5_0 || T == DTYPE_Q5_1 || T == DTYPE_Q5_K ? 5
				    : T == DTYPE_Q6_K					    ? 6
				    : T == DTYPE_Q8_0					    ? 8
											    : 0;
	static constexpr bool blocked = bits != 0;
	/* Columns that a thread takes at once. */
	static constexpr int unit = blocked ? BLOCK : 8;
	static constexpr float step = min || bits == 8 || bits == 0 ? 1.0f : 1.0f / static_cast<float>(1 << (8 - bits));
};

/* A matrix as kernels get it. */
struct matrix {
	const uint8_t *q, *high, *scale, *super;
};

/* What a thread loads of a row: a block, or eight columns. What a type has not is not loaded. */
struct unit {
	uint4 q[2];
	uint32_t high[2], scale, super;
};

template <typename V> static __device__ __forceinline__ V weights_at(const uint8_t *array, uint32_t i)
{
	return __ldg(reinterpret_cast<const V *>(array) + i);
}

/* Unit u of the `units` of a row whose first is number `row` of the matrix (fewer than 2^31, as pack.cu checks). */
template <enum dtype T>
static __device__ __forceinline__ void load_unit(const matrix &m, uint32_t row, uint32_t u, uint32_t units, unit &ret)
{
	const uint32_t at = row + u;

	if constexpr (T == DTYPE_Q8_0) {
		ret.q[0] = weights_at<uint4>(m.q, at + row);
		ret.q[1] = weights_at<uint4>(m.q, at + row + units);
	} else if constexpr (T == DTYPE_F32) {
		ret.q[0] = weights_at<uint4>(m.q, 2 * at);
		ret.q[1] = weights_at<uint4>(m.q, 2 * at + 1);
	} else {
		ret.q[0] = weights_at<uint4>(m.q, at);
	}
	if constexpr (form_of<T>::bits == 5)
		ret.high[0] = weights_at<uint32_t>(m.high, at);
	if constexpr (T == DTYPE_Q6_K) {
		const uint2 high = weights_at<uint2>(m.high, at);

		ret.high[0] = high.x;
		ret.high[1] = high.y;
		ret.super = weights_at<uint16_t>(m.super, at / SUPER);
	} else if constexpr (form_of<T>::super) {
		ret.super = weights_at<uint32_t>(m.super, at / SUPER);
	}
	if constexpr (T == DTYPE_Q4_1 || T == DTYPE_Q5_1)
		ret.scale = weights_at<uint32_t>(m.scale, at);
	else if constexpr (form_of<T>::blocked)
		ret.scale = weights_at<uint16_t>(m.scale, at);
}

static __device__ __forceinline__ uint32_t word_of(const uint4 &q, int j)
{
	return j == 0 ? q.x : j == 1 ? q.y : j == 2 ? q.z : q.w;
}

static __device__ __forceinline__ uint32_t shifted(uint32_t w, int left)
{
	return left >= 0 ? w << left : w >> -left;
}

/* The four bits of each byte of word j in `half`, moved to bit `to` and up. */
static __device__ __forceinline__ uint32_t nibbles_of(const unit &b, int j, int half, int to)
{
	return shifted(word_of(b.q[0], j), to - 4 * half) & 0x0f0f0f0fu << to;
}

/* Word k of a block: elements 4k .. 4k+3 in a byte each. */
template <enum dtype T> static __device__ __forceinline__ uint32_t quants_of(const unit &b, int k)
{
	constexpr int low = form_of<T>::min ? 0 : 8 - form_of<T>::bits; /* the lowest bit */
	const int j = k & 3, half = k >> 2;

	if constexpr (T == DTYPE_Q8_0)
		return word_of(b.q[half], j);
	else if constexpr (form_of<T>::bits == 4)
		return nibbles_of(b, j, half, low);
	else if constexpr (form_of<T>::bits == 5)
		return nibbles_of(b, j, half, low) | (shifted(b.high[0], low + 4 - k) & 0x01010101u << (low + 4));
	else
		return nibbles_of(b, j, half, low) |
		       (shifted(b.high[half], low + 4 - 2 * j) & 0x03030303u << (low + 4));
}

/* What the halves of pair_of() are more than quants: 1024, whose last place is 1, and the offset. */
template <enum dtype T> static __device__ __forceinline__ uint32_t pair_offset()
{
	return 0x64006400u | (form_of<T>::min ? 0 : 0x00010001u << (form_of<T>::bits - 1));
}

/* Elements 4k + odd and 4k + odd + 2 of a block as halves: a quant's bits put into 1024, less pair_offset() at last. */
template <enum dtype T> static __device__ __forceinline__ uint32_t pair_of(const unit &b, int k, int odd)
{
	const int j = k & 3, half = k >> 2;

	if constexpr (T == DTYPE_Q8_0) {
		return ((word_of(b.q[half], j) >> 8 * odd) & 0x00ff00ffu) ^ pair_offset<T>();
	} else {
		const uint32_t low = shifted(word_of(b.q[0], j), -4 * half - 8 * odd) & 0x000f000fu;

		if constexpr (form_of<T>::bits == 4)
			return low ^ pair_offset<T>();
		else if constexpr (form_of<T>::bits == 5)
			return (low | (shifted(b.high[0], 4 - k - 8 * odd) & 0x00100010u)) ^ pair_offset<T>();
		else
			return (low | (shifted(b.high[half], 4 - 2 * j - 8 * odd) & 0x00300030u)) ^ pair_offset<T>();
	}
}

/* What a quant counts, and what is added for each element. (Q6_K: to be multiplied by a half block's own scale.) */
template <enum dtype T> static __device__ __forceinline__ float2 scales_of(const unit &b)
{
	if constexpr (T == DTYPE_Q4_1 || T == DTYPE_Q5_1) {
		return floats_of_halves(b.scale);
	} else if constexpr (T == DTYPE_Q4_K || T == DTYPE_Q5_K) {
		const float2 d = floats_of_halves(b.super);

		return make_float2(d.x * static_cast<float>(b.scale & 255), -d.y * static_cast<float>(b.scale >> 8));
	} else if constexpr (T == DTYPE_Q6_K) {
		return make_float2(float_of_half(static_cast<uint16_t>(b.super)) * form_of<T>::step, 0);
	} else {
		return make_float2(float_of_half(static_cast<uint16_t>(b.scale)) * form_of<T>::step, 0);
	}
}

static __device__ __forceinline__ float half_block_scale(const unit &b, int half)
{
	return static_cast<float>(static_cast<int8_t>(b.scale >> 8 * half));
}

/* The eight columns of a unit of a type without blocks. */
template <enum dtype T> static __device__ __forceinline__ void floats_of(const unit &b, float v[8])
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if constexpr (T == DTYPE_F32) {
			v[i] = __uint_as_float(word_of(b.q[0], i));
			v[4 + i] = __uint_as_float(word_of(b.q[1], i));
		} else if constexpr (T == DTYPE_BF16) {
			v[2 * i] = __uint_as_float(word_of(b.q[0], i) << 16);
			v[2 * i + 1] = __uint_as_float(word_of(b.q[0], i) & 0xffff0000u);
		} else {
			const float2 pair = floats_of_halves(word_of(b.q[0], i));

			v[2 * i] = pair.x;
			v[2 * i + 1] = pair.y;
		}
	}
}

/* An element of a type without blocks, where rows are not aligned. */
template <enum dtype T> static __device__ __forceinline__ float element_of(const uint8_t *q, size_t i)
{
	if constexpr (T == DTYPE_F32)
		return __ldg(reinterpret_cast<const float *>(q) + i);
	else if constexpr (T == DTYPE_F16)
		return float_of_half(__ldg(reinterpret_cast<const uint16_t *>(q) + i));
	else
		return float_of_bfloat(__ldg(reinterpret_cast<const uint16_t *>(q) + i));
}

/* Runs `call` with TYPE, a constant, for a type that is known when the program runs. */
#define WITH_TYPE_CASE(name, ...)                                                                                      \
	case name: {                                                                                                   \
		constexpr enum dtype TYPE = name;                                                                      \
		__VA_ARGS__;                                                                                           \
		break;                                                                                                 \
	}
#define WITH_TYPE(type, ...)                                                                                           \
	switch (type) {                                                                                                \
		WITH_TYPE_CASE(DTYPE_F32, __VA_ARGS__)                                                                 \
		WITH_TYPE_CASE(DTYPE_F16, __VA_ARGS__)                                                                 \
		WITH_TYPE_CASE(DTYPE_BF16, __VA_ARGS__)                                                                \
		WITH_TYPE_CASE(DTYPE_Q4_0, __VA_ARGS__)                                                                \
		WITH_TYPE_CASE(DTYPE_Q4_1, __VA_ARGS__)                                                                \
		WITH_TYPE_CASE(DTYPE_Q5_0, __VA_ARGS__)                                                                \
		WITH_TYPE_CASE(DTYPE_Q5_1, __VA_ARGS__)                                                                \
		WITH_TYPE_CASE(DTYPE_Q8_0, __VA_ARGS__)                                                                \
		WITH_TYPE_CASE(DTYPE_Q4_K, __VA_ARGS__)                                                                \
		WITH_TYPE_CASE(DTYPE_Q5_K, __VA_ARGS__)                                                                \
		WITH_TYPE_CASE(DTYPE_Q6_K, __VA_ARGS__)                                                                \
	case DTYPE_MXFP4: /* packed as Q5_0 */                                                                         \
		break;                                                                                                 \
	}

/* Device-side view of a weight, and how many units its rows have. */
static inline matrix matrix_of(const struct weight *w)
{
	return { w->q, w->high, w->scale, w->super };
}

static inline bool type_blocked(enum dtype type)
{
	return type != DTYPE_F32 && type != DTYPE_F16 && type != DTYPE_BF16;
}

static inline bool type_super(enum dtype type)
{
	return type == DTYPE_Q4_K || type == DTYPE_Q5_K || type == DTYPE_Q6_K;
}

} // namespace CUDA_SPACE

#endif
