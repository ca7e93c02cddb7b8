/*
 * How a warp multiplies queries with the keys of a page and weights with its values, from each type of page. For
 * attend.cu alone.
 *
 * Both are products on tensor cores, m16n8k16: keys (or values, turned) are the left side, and the eight columns of the
 * right are four heads' queries (or weights), each as a half and the half that is left of it, which loses 2^-22. Which
 * token or dimension a row of a product is, and in which order they are summed up, is free: so a lane loads 16 bytes of
 * a few dimensions each, and puts pairs of halves together by itself. Nothing is turned around in shared memory.
 *
 * Lane 4g + j has eight tokens of a page, token_of(lane, 0..7), and their scores with head j; of values eight
 * dimensions of each 64, dim_of(lane, 0..7), for head j. A page is read in CHUNKS of four times 16 bytes a lane: KEYS
 * of keys, in ascending order, then those of values. A lane copies what it will read itself, so that it has to wait for
 * nobody; only scales are shared. What a row does not see may be anything, also NaN: values are not copied, and scores
 * selected away.
 */
#ifndef CUDA_ATTEND_PART_H
#define CUDA_ATTEND_PART_H

#include "attention.h"

namespace CUDA_SPACE
{

/* Heads of a product; those of its dimensions that a lane has (tokens, for scores); tokens or dimensions at a time. */
enum { FOUR = 4, EIGHT = 8, UNIT = 64, CHUNK_WORDS = 4 * WARP };

/* A page as a row sees it: tokens from .. to-1. The values lie `after` bytes behind the keys. */
struct sight {
	const uint8_t *keys;
	int from, to;
};

static __device__ __forceinline__ bool sees(const struct sight &s, int token)
{
	return token >= s.from && token < s.to;
}

static __device__ __forceinline__ bool sees_any(const struct sight &s, int token, int n)
{
	return token + n > s.from && token < s.to;
}

static __device__ __forceinline__ uint32_t word_of(const uint4 &v, int i)
{
	return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* Four numbers as halves, or what these leave of them. */
static __device__ __forceinline__ uint2 halves_of(float4 v, bool rest)
{
	uint2 h = make_uint2(halves_of_floats(v.x, v.y), halves_of_floats(v.z, v.w));
	const float2 a = floats_of_halves(h.x), b = floats_of_halves(h.y);
	const uint2 less = make_uint2(halves_of_floats(v.x - a.x, v.y - a.y), halves_of_floats(v.z - b.x, v.w - b.y));

	return rest ? less : h;
}

static __device__ __forceinline__ void product(float c[4], const uint32_t a[4], uint2 right)
{
	const uint32_t b[2] = { right.x, right.y };

	mma_halves(c, a, b);
}

/* Where the halves of dimension i of a head's query lie: [step][lane][4], the rest 16 further. */
static __device__ __forceinline__ int place_of(int head, int i)
{
	return (i / 16 * WARP + head % FOUR * 8 + i % 16 / 4) * 4 + i % 4;
}

static __device__ __forceinline__ float4 four_of(const float *p)
{
	return *reinterpret_cast<const float4 *>(p);
}

/* What a warp has of its page in shared memory. */
struct shelf {
	const uint2 *q;	       /* [TILES][STEPS][WARP] */
	const float *p;	       /* [TILES * FOUR][PAGE_TOKENS], weights */
	const uint8_t *scales; /* of the keys, then of the values */
};

/* Pages of halves. 16 bytes of keys are eight tokens of a dimension, of values eight dimensions of a token. */
template <int SIZE> struct part_halves {
	enum { HEAD = SIZE, STEPS = SIZE / 16, UNITS = (SIZE + UNIT - 1) / UNIT, SCALES = 0 };
	enum { KEYS = STEPS, CHUNKS = KEYS + 4 * UNITS, PLAIN = 0 };

	static __device__ __forceinline__ int token_of(int lane, int i)
	{
		return lane / 4 * 8 + i;
	}

	static __device__ __forceinline__ int dim_of(int lane, int i)
	{
		return lane / 4 * 8 + i;
	}

	static __device__ __forceinline__ void ask(const struct sight &s, size_t after, int chunk, int lane, uint4 *to,
						   uint8_t *)
	{
		const int eight = lane / 4 * 8, unit = (chunk - KEYS) / 4;
		const int first = lane % 4 * 4 + (chunk < KEYS ? chunk : (chunk - KEYS) % 4) * 16;

#pragma unroll
		for (int i = 0; i < 4; i++) {
			const int dim = unit * UNIT + eight;

			if (chunk < KEYS)
				copy_if(sees_any(s, eight, 8), to + i * WARP,
					s.keys + ((first + i) * PAGE_TOKENS + eight) * 2);
			else
				copy_if(dim < SIZE && sees(s, first + i), to + i * WARP,
					s.keys + after + ((first + i) * SIZE + dim) * 2);
		}
	}

	/* Rows 2m and 2m+1 of a lane's eight. */
	static __device__ __forceinline__ void left_of(const uint4 v[4], int m, uint32_t a[4])
	{
		a[0] = __byte_perm(word_of(v[0], m), word_of(v[1], m), 0x5410);
		a[1] = __byte_perm(word_of(v[0], m), word_of(v[1], m), 0x7632);
		a[2] = __byte_perm(word_of(v[2], m), word_of(v[3], m), 0x5410);
		a[3] = __byte_perm(word_of(v[2], m), word_of(v[3], m), 0x7632);
	}

	template <int TILES>
	static __device__ __forceinline__ void score(const uint4 v[4], int chunk, const struct shelf &s, int lane,
						     float c[TILES][4][4], float[TILES][EIGHT])
	{
#pragma unroll
		for (int m = 0; m < 4; m++) {
			uint32_t a[4];

			left_of(v, m, a);
#pragma unroll
			for (int t = 0; t < TILES; t++)
				product(c[t][m], a, s.q[(t * STEPS + chunk) * WARP + lane]);
		}
	}

	template <int TILES>
	static __device__ __forceinline__ void weigh(const uint4 v[4], int chunk, const struct sight &,
						     const struct shelf &s, int lane, float c[TILES][4][4])
	{
		uint2 right[TILES];

#pragma unroll
		for (int t = 0; t < TILES; t++)
			right[t] = halves_of(
				four_of(s.p + (t * FOUR + lane / 8) * PAGE_TOKENS + chunk % 4 * 16 + lane % 4 * 4),
				lane & 4);
#pragma unroll
		for (int m = 0; m < 4; m++) {
			uint32_t a[4];

			left_of(v, m, a);
#pragma unroll
			for (int t = 0; t < TILES; t++)
				product(c[t][m], a, right[t]);
		}
	}

	/* Whether the products of a unit's values are complete with this chunk, counted from the first of values. */
	static __device__ __forceinline__ bool ends(int chunk)
	{
		return chunk % 4 == 3;
	}

	static __device__ __forceinline__ int unit_of(int chunk)
	{
		return chunk / 4;
	}
};

/*
 * Pages in 8 bits. 16 bytes of keys are four dimensions of four tokens, of values four tokens of four dimensions; four
 * of them are two times 16 of the one and two times 32 of the other. Whole numbers are exact as halves. Scales of keys
 * go to the sums over their 32 dimensions, those of values to the weights.
 */
template <int SIZE> struct part_bytes {
	enum { HEAD = SIZE, STEPS = SIZE / 16, UNITS = (SIZE + UNIT - 1) / UNIT, PLAIN = 0 };
	enum { KEYS = SIZE / 32, CHUNKS = KEYS + 2 * UNITS, SCALES = SIZE * 4 };

	static __device__ __forceinline__ int token_of(int lane, int i)
	{
		return lane / 4 * 4 + i % 4 + i / 4 * 32;
	}

	static __device__ __forceinline__ int dim_of(int lane, int i)
	{
		return token_of(lane, i);
	}

	static __device__ __forceinline__ void ask(const struct sight &s, size_t after, int chunk, int lane, uint4 *to,
						   uint8_t *scales)
	{
		const bool key = chunk < KEYS;
		const int c = key ? chunk : chunk - KEYS;
		const uint8_t *from = s.keys + (key ? 0 : after);

		if (c == 0)
			for (int i = lane; i < SCALES / 16; i += WARP)
				copy_begin(scales + (key ? 0 : SCALES) + i * 16, from + i * 16);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const int four = lane / 4 * 4 + i % 2 * 32;
			const int quad = (key ? c : c % 2) * 8 + i / 2 * 4 + lane % 4, dim = c / 2 * UNIT + four;

			if (key)
				copy_if(sees_any(s, four, 4), to + i * WARP,
					from + SCALES + (quad * PAGE_TOKENS + four) * 4);
			else
				copy_if(dim < SIZE && sees_any(s, quad * 4, 4), to + i * WARP,
					from + SCALES + (quad * SIZE + dim) * 4);
		}
	}

	static __device__ __forceinline__ void widen(uint32_t word, uint32_t *low, uint32_t *high)
	{
		const uint32_t x = word ^ 0x80808080u;

		*low = halves_less(__byte_perm(x, 0x64646464u, 0x4140), 0x64806480u);
		*high = halves_less(__byte_perm(x, 0x64646464u, 0x4342), 0x64806480u);
	}

	static __device__ __forceinline__ void left_of(const uint4 v[4], int step, int m, uint32_t a[4])
	{
		widen(word_of(v[step * 2 + m / 2], m % 2 * 2), &a[0], &a[2]);
		widen(word_of(v[step * 2 + m / 2], m % 2 * 2 + 1), &a[1], &a[3]);
	}

	static __device__ __forceinline__ float4 scales_of(const uint8_t *scales, int block, int token)
	{
		const uint2 h = *reinterpret_cast<const uint2 *>(scales + (block * PAGE_TOKENS + token) * 2);
		const float2 a = floats_of_halves(h.x), b = floats_of_halves(h.y);

		return make_float4(a.x, a.y, b.x, b.y);
	}

	template <int TILES>
	static __device__ __forceinline__ void score(const uint4 v[4], int chunk, const struct shelf &s, int lane,
						     float[TILES][4][4], float sum[TILES][EIGHT])
	{
#pragma unroll
		for (int m = 0; m < 4; m++) {
			const float4 scale = scales_of(s.scales, chunk, lane / 4 * 4 + m / 2 * 32);
			const float one = m % 2 ? scale.z : scale.x, two = m % 2 ? scale.w : scale.y;
			uint32_t a[2][4];

			left_of(v, 0, m, a[0]);
			left_of(v, 1, m, a[1]);
#pragma unroll
			for (int t = 0; t < TILES; t++) {
				float c[4] = {};

				product(c, a[0], s.q[(t * STEPS + chunk * 2) * WARP + lane]);
				product(c, a[1], s.q[(t * STEPS + chunk * 2 + 1) * WARP + lane]);
				sum[t][2 * m] = fmaf(c[0] + c[1], one, sum[t][2 * m]);
				sum[t][2 * m + 1] = fmaf(c[2] + c[3], two, sum[t][2 * m + 1]);
			}
		}
	}

	/* Four weights with the scales of their values; what is not seen has any scale. */
	static __device__ __forceinline__ uint2 scaled(const struct sight &s, float4 p, float4 scale, int token,
						       bool rest)
	{
		return halves_of(make_float4(sees(s, token) ? p.x * scale.x : 0, sees(s, token + 1) ? p.y * scale.y : 0,
					     sees(s, token + 2) ? p.z * scale.z : 0,
					     sees(s, token + 3) ? p.w * scale.w : 0),
				 rest);
	}

	template <int TILES>
	static __device__ __forceinline__ void weigh(const uint4 v[4], int chunk, const struct sight &seen,
						     const struct shelf &s, int lane, float c[TILES][4][4])
	{
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const int token = (chunk % 2 * 8 + i / 2 * 4 + lane % 4) * 4, block = chunk / 2 * 2 + i % 2;
			uint32_t a[2][4];

			if (block * BLOCK >= SIZE)
				continue;
			left_of(v, i / 2, i % 2 * 2, a[0]);
			left_of(v, i / 2, i % 2 * 2 + 1, a[1]);
#pragma unroll
			for (int t = 0; t < TILES; t++) {
				const uint2 right =
					scaled(seen, four_of(s.p + (t * FOUR + lane / 8) * PAGE_TOKENS + token),
					       scales_of(s.scales + SCALES, block, token), token, lane & 4);

				product(c[t][i % 2 * 2], a[0], right);
				product(c[t][i % 2 * 2 + 1], a[1], right);
			}
		}
	}

	static __device__ __forceinline__ bool ends(int chunk)
	{
		return chunk % 2 == 1;
	}

	static __device__ __forceinline__ int unit_of(int chunk)
	{
		return chunk / 2;
	}
};

/* Pages of any type and heads of any size, element by element, without tensor cores. */
template <enum dtype TYPE> struct part_plain {
	enum { HEAD = 0, UNITS = int{ HEAD_SIZE_MAX } / int{ UNIT }, SCALES = 0, KEYS = 0, CHUNKS = 0, PLAIN = 1 };

	static __device__ __forceinline__ int token_of(int lane, int i)
	{
		return lane / 4 * 8 + i;
	}

	static __device__ __forceinline__ int dim_of(int lane, int i)
	{
		return lane / 4 * 8 + i;
	}

	static __device__ float element(const uint8_t *head, int size, bool value, int token, int dim)
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

	template <int TILES>
	static __device__ void score_page(const struct sight &seen, int size, const struct shelf &s, int lane,
					  float sum[TILES][EIGHT])
	{
		const int steps = (size + 15) / 16;

		for (int d = 0; d < size; d++) {
			float q[TILES];

#pragma unroll
			for (int t = 0; t < TILES; t++) {
				const uint16_t *h = reinterpret_cast<const uint16_t *>(s.q + t * steps * WARP) +
						    place_of(lane % 4, d);

				q[t] = float_of_half(h[0]) + float_of_half(h[16]);
			}
#pragma unroll
			for (int i = 0; i < EIGHT; i++) {
				const int token = token_of(lane, i);
				const float k = sees(seen, token) ? element(seen.keys, size, false, token, d) : 0;

#pragma unroll
				for (int t = 0; t < TILES; t++)
					sum[t][i] = fmaf(q[t], k, sum[t][i]);
			}
		}
	}

	template <int TILES>
	static __device__ void weigh_page(const struct sight &seen, int size, size_t after, const struct shelf &s,
					  int lane, float (*sum)[UNITS][EIGHT])
	{
		for (int token = seen.from; token < seen.to; token++) {
#pragma unroll
			for (int i = 0; i < UNITS * int{ EIGHT }; i++) {
				const int d = i / EIGHT * UNIT + dim_of(lane, i % EIGHT);
				const float v = d < size ? element(seen.keys + after, size, true, token, d) : 0;

#pragma unroll
				for (int t = 0; t < TILES; t++)
					sum[t][i / EIGHT][i % EIGHT] =
						fmaf(s.p[(t * FOUR + lane % 4) * PAGE_TOKENS + token], v,
						     sum[t][i / EIGHT][i % EIGHT]);
			}
		}
	}
};

} // namespace CUDA_SPACE

#endif
