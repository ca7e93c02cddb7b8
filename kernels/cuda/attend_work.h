/*
 * A warp's work on its pages for attention of few rows, one page after the other. It copies what it needs of them to a
 * ring in shared memory, some chunks ahead of what it computes, and waits for no other warp. For attend.cu alone.
 */
#ifndef CUDA_ATTEND_WORK_H
#define CUDA_ATTEND_WORK_H

#include "attend_part.h"

namespace CUDA_SPACE
{

/* Chunks of 2 KiB that a warp has on their way; 4 or 8. */
enum { RING_MOST = 8 };

/* Weights are 2^8 times what they were, lest what halves leave of small ones be lost. */
static const float weights_up = 8;

/* Fewer for heads that are large, so that a block fits on smaller cards, or small. */
template <class PART> static inline __host__ __device__ constexpr int ring_of()
{
	return int{ PART::CHUNKS } < 4					    ? 1
	       : int{ PART::CHUNKS } < int{ RING_MOST } || PART::HEAD > 128 ? 4
									    : int{ RING_MOST };
}

/* A warp at work. Its pages are `now`, with number `at` among them, and `next`; what is on its way goes to the ring. */
template <class PART, int TILES> struct worker {
	enum { RING = ring_of<PART>() };
	struct sight now, next;
	size_t after;
	int lane, at, size;
	uint4 *ring;
	uint8_t *scales; /* of the pages of even and of odd numbers */
	float *p;
	float most[TILES], sum[TILES]; /* of head lane % FOUR of each tile; the sum of this lane's tokens */
	float y[TILES][PART::UNITS][EIGHT];

	/* A chunk of this page, or from CHUNKS on of the next. */
	__device__ __forceinline__ void ask(int chunk)
	{
		const bool later = chunk >= PART::CHUNKS;
		const struct sight &s = later ? next : now;
		uint4 *to = ring + (at * PART::CHUNKS + chunk) % RING * CHUNK_WORDS + lane;

		if (s.to > s.from)
			PART::ask(s, after, later ? chunk - PART::CHUNKS : chunk, lane, to,
				  scales + (at + later) % 2 * 2 * PART::SCALES);
		copy_group();
	}

	__device__ __forceinline__ void begin()
	{
		if constexpr (!PART::PLAIN) {
#pragma unroll
			for (int i = 0; i < RING; i++)
				ask(i);
		}
	}

	/* What the lane has copied as this chunk; asks for the one that takes its place. */
	__device__ __forceinline__ void take(int chunk, uint4 v[4])
	{
		const uint4 *from = ring + (at * PART::CHUNKS + chunk) % RING * CHUNK_WORDS + lane;

		copy_wait<RING - 1>();
		if (PART::SCALES > 0)
			__syncwarp();
#pragma unroll
		for (int i = 0; i < 4; i++)
			v[i] = from[i * WARP];
		ask(chunk + RING);
	}

	/* Weights from the scores of a page, to shared memory. */
	__device__ __forceinline__ void weights(float score[TILES][EIGHT])
	{
#pragma unroll
		for (int t = 0; t < TILES; t++) {
			float top = -INFINITY, base, keep;

#pragma unroll
			for (int i = 0; i < EIGHT; i++)
				top = fmaxf(top, sees(now, PART::token_of(lane, i)) ? score[t][i] : -INFINITY);
			for (int mask = 4; mask < WARP; mask *= 2)
				top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, mask));
			top = fmaxf(most[t], top - weights_up);
			base = top > -INFINITY ? top : 0;
			keep = power_of_two(most[t] - base);
			most[t] = top;
			sum[t] *= keep;
#pragma unroll
			for (int i = 0; i < EIGHT; i++) {
				score[t][i] = sees(now, PART::token_of(lane, i)) ? power_of_two(score[t][i] - base) : 0;
				sum[t] += score[t][i];
			}
#pragma unroll
			for (int i = 0; i < EIGHT; i += 4)
				*reinterpret_cast<float4 *>(p + (t * FOUR + lane % FOUR) * PAGE_TOKENS +
							    PART::token_of(lane, i)) =
					make_float4(score[t][i], score[t][i + 1], score[t][i + 2], score[t][i + 3]);
#pragma unroll
			for (int i = 0; i < PART::UNITS * EIGHT; i++)
				y[t][i / EIGHT][i % EIGHT] *= keep;
		}
		__syncwarp();
	}

	/* Adds the sums of products of halves and of their rests, which are neighbours. */
	static __device__ __forceinline__ void add(const float c[TILES][4][4], float *to, int stride)
	{
#pragma unroll
		for (int t = 0; t < TILES; t++)
#pragma unroll
			for (int i = 0; i < EIGHT; i++)
				to[t * stride + i] += c[t][i / 2][i % 2 * 2] + c[t][i / 2][i % 2 * 2 + 1];
	}

	__device__ __forceinline__ void page(const uint8_t *q)
	{
		const struct shelf s = { reinterpret_cast<const uint2 *>(q), p, scales + at % 2 * 2 * PART::SCALES };
		float score[TILES][EIGHT] = {};
		uint4 v[4];

		if constexpr (PART::PLAIN) {
			PART::template score_page<TILES>(now, size, s, lane, score);
			weights(score);
			PART::template weigh_page<TILES>(now, size, after, s, lane, y);
		} else {
			float c[TILES][4][4] = {};

#pragma unroll
			for (int i = 0; i < PART::KEYS; i++) {
				take(i, v);
				PART::template score<TILES>(v, i, s, lane, c, score);
			}
			add(c, score[0], EIGHT);
			weights(score);
#pragma unroll
			for (int i = 0; i < PART::CHUNKS - PART::KEYS; i++) {
				take(PART::KEYS + i, v);
				if (i == 0 || PART::ends(i - 1))
					clear(c);
				PART::template weigh<TILES>(v, i, now, s, lane, c);
				if (PART::ends(i))
					add(c, y[0][PART::unit_of(i)], PART::UNITS * EIGHT);
			}
		}
	}

	static __device__ __forceinline__ void clear(float c[TILES][4][4])
	{
#pragma unroll
		for (int i = 0; i < TILES * 16; i++)
			c[i / 16][i / 4 % 4][i % 4] = 0;
	}

	/* The result of all of the warp's pages: it takes the place of the ring. */
	__device__ __forceinline__ void leave(float2 *stat, int stride)
	{
		float *to = reinterpret_cast<float *>(ring);

		__syncwarp();
#pragma unroll
		for (int t = 0; t < TILES; t++) {
			const int head = t * FOUR + lane % FOUR;

			for (int mask = 4; mask < WARP; mask *= 2)
				sum[t] += __shfl_xor_sync(0xffffffffu, sum[t], mask);
			if (lane < FOUR)
				stat[head] = make_float2(most[t], sum[t]);
#pragma unroll
			for (int i = 0; i < PART::UNITS * EIGHT; i += 4) {
				const float *v = &y[t][i / EIGHT][i % EIGHT];
				const int dim = i / EIGHT * UNIT + PART::dim_of(lane, i % EIGHT);

				if (dim < stride)
					*reinterpret_cast<float4 *>(to + head * stride + dim) =
						make_float4(v[0], v[1], v[2], v[3]);
			}
		}
	}
};

} // namespace CUDA_SPACE

#endif
