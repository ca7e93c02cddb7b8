/*
 * What the products of few rows share (one.cu, few.cu): units of weights and of activations in registers, and the
 * order of a sum. A thread takes every 32nd unit of a stretch of a row and adds from left to right; the threads' sums
 * are added in one tree, and the stretches in their order. So a result's bits depend neither on the kernel nor on the
 * rows that travel together.
 */
#ifndef CUDA_UNITS_H
#define CUDA_UNITS_H

#include "targets.h"

namespace CUDA_SPACE
{

/* Units of a stretch that a thread has; a row of few.cu or one.cu is cut alike. */
template <enum dtype T> struct stretch_of {
	static constexpr int each = form_of<T>::blocked ? 4 : 8, units = each * WARP;
};

/* A unit of a row of activations. */
template <enum form F> struct input {
	uint4 q[F == FORM_BYTES ? 2 : F == FORM_WORDS ? 4 : 1];
	float2 d;
	float v[F == FORM_FLOATS ? 8 : 1];
};

template <enum form F>
static __device__ __forceinline__ void load_input(const uint8_t *x, int u, int units, input<F> &ret)
{
	if constexpr (F == FORM_FLOATS) {
		const float4 a = reinterpret_cast<const float4 *>(x)[u];
		const float4 b = reinterpret_cast<const float4 *>(x)[units + u];

		ret.v[0] = a.x, ret.v[1] = a.y, ret.v[2] = a.z, ret.v[3] = a.w;
		ret.v[4] = b.x, ret.v[5] = b.y, ret.v[6] = b.z, ret.v[7] = b.w;
	} else {
		constexpr int pieces = F == FORM_WORDS ? 4 : 2;

#pragma unroll
		for (int i = 0; i < pieces; i++)
			ret.q[i] = reinterpret_cast<const uint4 *>(x)[i * units + u];
		ret.d = reinterpret_cast<const float2 *>(x + pieces * 16 * units)[u];
	}
}

/* Words first .. last-1 of a block: a whole number. */
template <enum form F>
static __device__ __forceinline__ float whole(const uint32_t w[8], const input<F> &x, int first, int last)
{
	int high = 0, low = 0;

#pragma unroll
	for (int k = first; k < last; k++) {
		high = __dp4a(static_cast<int>(w[k]), static_cast<int>(word_of(x.q[k / 4], k % 4)), high);
		if constexpr (F == FORM_WORDS)
			low = __dp4a(static_cast<int>(w[k]), static_cast<int>(word_of(x.q[2 + k / 4], k % 4)), low);
	}
	return static_cast<float>(F == FORM_WORDS ? 256 * high + low : high);
}

/* A unit of weights in registers, once for all rows of activations. */
template <enum dtype T> struct opened {
	uint32_t w[form_of<T>::blocked ? 8 : 1];
	float v[form_of<T>::blocked ? 1 : 8];
	float2 s;
	float half[2];
};

template <enum dtype T> static __device__ __forceinline__ void open_unit(const unit &b, opened<T> &ret)
{
	if constexpr (!form_of<T>::blocked) {
		floats_of<T>(b, ret.v);
	} else {
#pragma unroll
		for (int k = 0; k < 8; k++)
			ret.w[k] = quants_of<T>(b, k);
		ret.s = scales_of<T>(b);
		if constexpr (T == DTYPE_Q6_K) {
			ret.half[0] = half_block_scale(b, 0);
			ret.half[1] = half_block_scale(b, 1);
		}
	}
}

template <enum dtype T, enum form F>
static __device__ __forceinline__ float add_unit(const opened<T> &b, const input<F> &x, float sum)
{
	if constexpr (!form_of<T>::blocked) {
#pragma unroll
		for (int i = 0; i < 8; i++)
			sum = fmaf(b.v[i], x.v[i], sum);
	} else if constexpr (T == DTYPE_Q6_K) {
		const float halves = fmaf(whole<F>(b.w, x, 4, 8), b.half[1], whole<F>(b.w, x, 0, 4) * b.half[0]);

		sum = fmaf(halves, b.s.x * x.d.x, sum);
	} else {
		sum = fmaf(whole<F>(b.w, x, 0, 8), b.s.x * x.d.x, sum);
		if constexpr (form_of<T>::min)
			sum = fmaf(b.s.y, x.d.y, sum);
	}
	return sum;
}

/* Sums of V numbers over a warp; the thread gets that of number lane / (32 / V). One tree for any V. */
template <int V> static __device__ __forceinline__ float add_up(float v[V], int lane)
{
	int count = V;

#pragma unroll
	for (int mask = WARP / 2; mask; mask /= 2) {
		const bool upper = lane & mask;

		if (count == 1) {
			v[0] += __shfl_xor_sync(0xffffffffu, v[0], mask);
			continue;
		}
		count /= 2;
#pragma unroll
		for (int i = 0; i < V / 2; i++)
			if (i < count) {
				const float given = upper ? v[i] : v[count + i], kept = upper ? v[count + i] : v[i];

				v[i] = kept + __shfl_xor_sync(0xffffffffu, given, mask);
			}
	}
	return v[0];
}

/* one.cu: false where a row is too long or not aligned, and nothing was done. */
bool one_row(struct device *d, product *p, int weights, enum dtype type, enum form f);

} // namespace CUDA_SPACE

#endif
