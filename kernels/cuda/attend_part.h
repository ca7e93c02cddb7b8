/*
 * How a warp reads its part of a page for attention of few rows: PART tokens, their keys and values, from each type
 * of page. For attend.cu alone.
 *
 * A part has load_keys() and load_values(), which ask for all that is seen at once; scores(), the products of a few
 * queries with the keys, of which each lane keeps that of one token; and weigh(), the values times what the scores
 * became. What a row does not see may be anything, also NaN: it is not read, or selected away.
 *
 * Lanes that differ in COPY have the same score. Where LATE, registers do not hold both: keys are asked for with each
 * few queries, values after their scores. HEAD is the size of heads, 0 for any; BLOCKS how many blocks a
 * multiprocessor shall have room for.
 *
 * hold() says that the numbers are in registers as they were loaded: else the compiler would widen them once for all
 * queries, which takes twice the registers.
 */
#ifndef CUDA_ATTEND_PART_H
#define CUDA_ATTEND_PART_H

#include "attention.h"

namespace CUDA_SPACE
{

enum { PART = 16 };

/*
 * What a warp is about: tokens first .. first+PART-1 of a page, of which those in from .. to-1 are seen. The page's
 * first token lies `apart` behind the query.
 */
struct sight {
	const uint8_t *keys, *values;
	int first, from, to;
	float apart;
};

static __device__ __forceinline__ bool sees(const struct sight &s, int token)
{
	return s.first + token >= s.from && s.first + token < s.to;
}

static __device__ __forceinline__ bool sees_any(const struct sight &s, int token, int n)
{
	return s.first + token + n > s.from && s.first + token < s.to;
}

static __device__ __forceinline__ void hold(uint4 &v)
{
	asm volatile("" : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w));
}

/* Sums v over pairs of lanes that differ in `bit`; the lane with the bit keeps the upper half of the numbers. */
template <int N> static __device__ __forceinline__ void fold(float *v, int lane, int bit)
{
#pragma unroll
	for (int i = 0; i < N / 2; i++) {
		const float keep = lane & bit ? v[i + N / 2] : v[i], send = lane & bit ? v[i] : v[i + N / 2];

		v[i] = keep + __shfl_xor_sync(0xffffffffu, send, bit);
	}
}

static constexpr int lanes_for(int columns)
{
	return columns <= 8 ? 8 : columns <= 16 ? 16 : 32;
}

/* Pages of halves. 16 bytes of keys are eight tokens of a dimension, of values eight dimensions of a token. */
template <int SIZE, int HEADS> struct part_halves {
	enum { COPY = 2, LATE = SIZE > 128, HEAD = SIZE, BLOCKS = HEADS > 1 || SIZE > 64 ? 2 : 3 };
	enum { LANES = lanes_for(SIZE / 8), GROUPS = WARP / LANES, KEYS = SIZE / 16, VALUES = PART / GROUPS };
	uint4 key[KEYS], value[VALUES];
	int size;

	static __device__ int token_of(int lane)
	{
		return (lane & 1) * 8 + (lane >> 4 & 1) * 4 + (lane >> 3 & 1) * 2 + (lane >> 2 & 1);
	}

	__device__ __forceinline__ void load_keys(const struct sight &s, int lane)
	{
		const uint8_t *k = s.keys + ((lane / 2) * PAGE_TOKENS + s.first + (lane & 1) * 8) * 2;
		const bool some = sees_any(s, (lane & 1) * 8, 8);

#pragma unroll
		for (int i = 0; i < KEYS; i++)
			key[i] = load16_if(some, k + i * 16 * PAGE_TOKENS * 2);
	}

	__device__ __forceinline__ void load_values(const struct sight &s, int lane)
	{
		const int column = lane % LANES;

#pragma unroll
		for (int i = 0; i < VALUES; i++) {
			const int token = i * GROUPS + lane / LANES;

			value[i] = load16_if(column < SIZE / 8 && sees(s, token),
					     s.values + ((s.first + token) * SIZE + column * 8) * 2);
		}
	}

	static __device__ __forceinline__ void widen(const uint4 &from, float to[8])
	{
		const uint32_t word[4] = { from.x, from.y, from.z, from.w };

#pragma unroll
		for (int i = 0; i < 4; i++) {
			const float2 f = floats_of_halves(word[i]);

			to[2 * i] = f.x;
			to[2 * i + 1] = f.y;
		}
	}

	/* The score of token_of(lane) with each query. */
	__device__ __forceinline__ void scores(const struct sight &, const float *q, int stride, int left, int lane,
					       float *score)
	{
		float sum[HEADS][8] = {}, k[8];

#pragma unroll
		for (int i = 0; i < KEYS; i++) {
			hold(key[i]);
			widen(key[i], k);
#pragma unroll
			for (int h = 0; h < HEADS; h++) {
				const float x = h < left ? q[h * stride + i * 16 + lane / 2] : 0;

#pragma unroll
				for (int t = 0; t < 8; t++)
					sum[h][t] = fmaf(x, k[t], sum[h][t]);
			}
		}
#pragma unroll
		for (int h = 0; h < HEADS; h++) {
			fold<8>(sum[h], lane, 16);
			fold<4>(sum[h], lane, 8);
			fold<2>(sum[h], lane, 4);
			score[h] = sum[h][0] + __shfl_xor_sync(0xffffffffu, sum[h][0], COPY);
		}
	}

	/* The sum of all values times p[head][PART], to `to`, [head][stride]. */
	__device__ __forceinline__ void weigh(const struct sight &, const float *p, int left, int lane, float *to,
					      int stride)
	{
		float sum[HEADS][8] = {}, v[8];
		const int column = lane % LANES;
		int at = column * 8;

#pragma unroll
		for (int i = 0; i < VALUES; i++) {
			hold(value[i]);
			widen(value[i], v);
#pragma unroll
			for (int h = 0; h < HEADS; h++) {
				const float w = h < left ? p[h * PART + i * GROUPS + lane / LANES] : 0;

#pragma unroll
				for (int c = 0; c < 8; c++)
					sum[h][c] = fmaf(w, v[c], sum[h][c]);
			}
		}
#pragma unroll
		for (int h = 0; h < HEADS; h++) {
			if (GROUPS > 1)
				fold<8>(sum[h], lane, 16);
			if (GROUPS > 2)
				fold<4>(sum[h], lane, 8);
		}
		at += GROUPS > 1 && lane & 16 ? 4 : 0;
		at += GROUPS > 2 && lane & 8 ? 2 : 0;
		for (int h = 0; h < HEADS && h < left && column < SIZE / 8; h++)
#pragma unroll
			for (int c = 0; c < 8 / GROUPS; c += 2)
				*reinterpret_cast<float2 *>(to + h * stride + at + c) =
					make_float2(sum[h][c], sum[h][c + 1]);
	}
};

/* Pages in 8 bits. 16 bytes of keys are four tokens of four dimensions, of values four dimensions of four tokens. */
template <int SIZE, int HEADS> struct part_bytes {
	enum {
		COPY = 4,
		LATE = SIZE > 128,
		HEAD = SIZE,
		BLOCKS = HEADS > 1 || SIZE > 128 ? 2 : 3,
		LANES = lanes_for(SIZE / 4),
		GROUPS = WARP / LANES,
		WIDE = (SIZE / 4 + WARP - 1) / WARP,
		KEYS = SIZE / 32,
		VALUES = PART / 4 / GROUPS
	};
	uint4 key[KEYS], value[VALUES][WIDE];
	uint2 key_scale[KEYS], value_scale[VALUES][WIDE];
	int size;

	static __device__ int token_of(int lane)
	{
		return (lane & 3) * 4 + (lane >> 4 & 1) * 2 + (lane >> 3 & 1);
	}

	static __device__ __forceinline__ const uint8_t *scale_at(const uint8_t *head, int block, int token)
	{
		return head + (block * PAGE_TOKENS + token) * 2;
	}

	__device__ __forceinline__ void load_keys(const struct sight &s, int lane)
	{
		const int token = s.first + (lane & 3) * 4;
		const uint8_t *k = s.keys + SIZE * 4 + (lane / 4 * PAGE_TOKENS + token) * 4;
		const bool some = sees_any(s, (lane & 3) * 4, 4);

#pragma unroll
		for (int i = 0; i < KEYS; i++) {
			key[i] = load16_if(some, k + i * 8 * PAGE_TOKENS * 4);
			key_scale[i] = load8_if(some, scale_at(s.keys, i, token));
		}
	}

	__device__ __forceinline__ void load_values(const struct sight &s, int lane)
	{
		const int column = lane % LANES;

#pragma unroll
		for (int i = 0; i < VALUES; i++) {
			const int four = i * GROUPS + lane / LANES;
			const bool any = column < SIZE / 4 && sees_any(s, four * 4, 4);

#pragma unroll
			for (int w = 0; w < WIDE; w++) {
				const int dim = (column + w * WARP) * 4;

				value[i][w] =
					load16_if(any, s.values + SIZE * 4 + ((s.first / 4 + four) * SIZE + dim) * 4);
				value_scale[i][w] = load8_if(any, scale_at(s.values, dim / BLOCK, s.first + four * 4));
			}
		}
	}

	static __device__ __forceinline__ void widen(const uint2 &from, float to[4])
	{
		const float2 low = floats_of_halves(from.x), high = floats_of_halves(from.y);

		to[0] = low.x;
		to[1] = low.y;
		to[2] = high.x;
		to[3] = high.y;
	}

	__device__ __forceinline__ void scores(const struct sight &, const float *q, int stride, int left, int lane,
					       float *score)
	{
		float sum[HEADS][4] = {}, scale[4], k[4];

#pragma unroll
		for (int i = 0; i < KEYS; i++) {
			hold(key[i]);

			const uint32_t word[4] = { key[i].x, key[i].y, key[i].z, key[i].w };

			widen(key_scale[i], scale);
#pragma unroll
			for (int t = 0; t < 4; t++) {
				floats_of_bytes(word[t], k);
#pragma unroll
				for (int h = 0; h < HEADS; h++) {
					const float4 x = h < left ? *reinterpret_cast<const float4 *>(
									    q + h * stride + (i * 8 + lane / 4) * 4)
								  : make_float4(0, 0, 0, 0);

					sum[h][t] = fmaf(scale[t],
							 fmaf(x.w, k[3], fmaf(x.z, k[2], fmaf(x.y, k[1], x.x * k[0]))),
							 sum[h][t]);
				}
			}
		}
#pragma unroll
		for (int h = 0; h < HEADS; h++) {
			fold<4>(sum[h], lane, 16);
			fold<2>(sum[h], lane, 8);
			score[h] = sum[h][0] + __shfl_xor_sync(0xffffffffu, sum[h][0], COPY);
		}
	}

	__device__ __forceinline__ void weigh(const struct sight &s, const float *p, int left, int lane, float *to,
					      int stride)
	{
		float sum[HEADS][WIDE][4] = {}, scale[4], v[4];

#pragma unroll
		for (int i = 0; i < VALUES; i++) {
			const int token = (i * GROUPS + lane / LANES) * 4;

#pragma unroll
			for (int w = 0; w < WIDE; w++) {
				hold(value[i][w]);

				const uint32_t word[4] = { value[i][w].x, value[i][w].y, value[i][w].z, value[i][w].w };

				widen(value_scale[i][w], scale);
#pragma unroll
				for (int t = 0; t < 4; t++)
					scale[t] = sees(s, token + t) ? scale[t] : 0;
#pragma unroll
				for (int c = 0; c < 4; c++) {
					floats_of_bytes(word[c], v);
#pragma unroll
					for (int t = 0; t < 4; t++)
						v[t] *= scale[t];
#pragma unroll
					for (int h = 0; h < HEADS; h++) {
						const float4 x = h < left ? *reinterpret_cast<const float4 *>(
										    p + h * PART + token)
									  : make_float4(0, 0, 0, 0);

						sum[h][w][c] = fmaf(x.x, v[0], sum[h][w][c]);
						sum[h][w][c] = fmaf(x.y, v[1], sum[h][w][c]);
						sum[h][w][c] = fmaf(x.z, v[2], sum[h][w][c]);
						sum[h][w][c] = fmaf(x.w, v[3], sum[h][w][c]);
					}
				}
			}
		}
		put(sum, left, lane, to, stride);
	}

	static __device__ void put(float (&sum)[HEADS][WIDE][4], int left, int lane, float *to, int stride)
	{
		const int column = lane % LANES;

#pragma unroll
		for (int h = 0; h < HEADS; h++) {
#pragma unroll
			for (int w = 0; w < WIDE; w++) {
				float *at = to + h * stride + (column + w * WARP) * 4;

				if (GROUPS > 1)
					fold<4>(sum[h][w], lane, 16);
				if (h < left && column < SIZE / 4 && GROUPS > 1)
					*reinterpret_cast<float2 *>(at + (lane & 16 ? 2 : 0)) =
						make_float2(sum[h][w][0], sum[h][w][1]);
				else if (h < left && column < SIZE / 4)
					*reinterpret_cast<float4 *>(at) =
						make_float4(sum[h][w][0], sum[h][w][1], sum[h][w][2], sum[h][w][3]);
			}
		}
	}
};

/* Pages of any type and heads of any size, element by element. */
template <enum dtype TYPE, int HEADS> struct part_plain {
	enum { COPY = 16, LATE = 0, STEP = 2, HEAD = 0, BLOCKS = 2 };
	int size;

	static __device__ int token_of(int lane)
	{
		return lane % PART;
	}

	__device__ void load_keys(const struct sight &, int)
	{
	}

	__device__ void load_values(const struct sight &, int)
	{
	}

	__device__ float element(const uint8_t *head, bool value, int token, int dim) const
	{
		const int at = value ? token * size + dim : dim * PAGE_TOKENS + token;
		const int byte = value ? (token / 4 * size + dim) * 4 + token % 4
				       : (dim / 4 * PAGE_TOKENS + token) * 4 + dim % 4;

		if (TYPE == DTYPE_F32)
			return reinterpret_cast<const float *>(head)[at];
		if (TYPE == DTYPE_F16)
			return float_of_half(reinterpret_cast<const uint16_t *>(head)[at]);
		return float_of_half(reinterpret_cast<const uint16_t *>(head)[dim / BLOCK * PAGE_TOKENS + token]) *
		       static_cast<float>(static_cast<int8_t>(head[size * 4 + byte]));
	}

	__device__ __forceinline__ void scores(const struct sight &s, const float *q, int stride, int left, int lane,
					       float *score)
	{
		const int token = token_of(lane);

#pragma unroll
		for (int h = 0; h < HEADS; h++)
			score[h] = 0;
		for (int i = lane / PART; i < size; i += STEP) {
			const float k = sees(s, token) ? element(s.keys, false, s.first + token, i) : 0;

#pragma unroll
			for (int h = 0; h < HEADS; h++)
				score[h] = fmaf(h < left ? q[h * stride + i] : 0, k, score[h]);
		}
#pragma unroll
		for (int h = 0; h < HEADS; h++)
			score[h] += __shfl_xor_sync(0xffffffffu, score[h], COPY);
	}

	__device__ __forceinline__ void weigh(const struct sight &s, const float *p, int left, int lane, float *to,
					      int stride)
	{
		for (int i = lane; i < size; i += WARP) {
			float sum[HEADS] = {};

			for (int t = 0; t < PART; t++) {
				const float v = sees(s, t) ? element(s.values, true, s.first + t, i) : 0;

#pragma unroll
				for (int h = 0; h < HEADS; h++)
					sum[h] = fmaf(h < left ? p[h * PART + t] : 0, v, sum[h]);
			}
#pragma unroll
			for (int h = 0; h < HEADS; h++)
				if (h < left)
					to[h * stride + i] = sum[h];
		}
	}
};

} // namespace CUDA_SPACE

#endif
