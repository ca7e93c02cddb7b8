/*
 * What the two kernels of attention share (attend.cu, attend_many.cu): the operation as they read it, rotation, and the
 * way from a row's slots to bytes of a page.
 */
#ifndef CUDA_ATTENTION_H
#define CUDA_ATTENTION_H

#include <math.h>

#include "cuda.h"

namespace CUDA_SPACE
{

/* Heads and pages, by value. */
struct card_heads {
	int32_t heads, kv_heads, size, rotated;
	bool interleaved;
	float scale;
	size_t layer, head_bytes; /* offset of the layer in a page, bytes of a head's keys */
};

static inline struct card_heads card_heads_of(const struct head_shape *h, const struct page_shape *p, size_t layer)
{
	struct card_heads c = {};

	c.heads = static_cast<int32_t>(h->heads);
	c.kv_heads = static_cast<int32_t>(h->kv_heads);
	c.size = static_cast<int32_t>(h->head_size);
	c.rotated = static_cast<int32_t>(h->rotated);
	c.interleaved = h->interleaved;
	c.scale = h->scale;
	c.layer = page_layer_offset(p, layer);
	c.head_bytes = page_head_bytes(p);
	return c;
}

/* The operation, by value. The scores are taken to base 2: `scale` has the factor in it. */
struct attention {
	struct card_heads h;
	const struct card_row *row;
	uint8_t *const *page;
	const float *qkv, *angles, *sinks, *slopes;
	float *y;
};

static const float log2_e = 1.44269504f;

/* attend_many.cu: attention of prompts, on tensor cores. False: not for such heads, nothing was done. */
bool attend_many(struct device *d, const struct attend *op, const struct card_rows *rows, const struct attention &a);

/* A kernel with more shared memory than all may have has to say so before it is started. */
template <typename... P> static void ask_shared(struct device *d, void (*kernel)(P...), size_t bytes)
{
	if (bytes > (48 << 10))
		ok(d,
		   cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
		   "shared memory");
}

static __device__ __forceinline__ int row_width(const struct card_heads &h)
{
	return (h.heads + 2 * h.kv_heads) * h.size;
}

/* Dimension i of a head after its rotation. */
static __device__ __forceinline__ float rotate_one(const struct card_heads &h, const float *x, const float *angles,
						   int i)
{
	const int half = h.rotated / 2, pair = h.interleaved ? i / 2 : i < half ? i : i - half;
	const bool turned = i < h.rotated, second = h.interleaved ? i & 1 : i >= half;
	const int other = h.interleaved ? i ^ 1 : second ? i - half : i + half;
	const float c = turned ? angles[2 * pair] : 1, s = turned ? angles[2 * pair + 1] : 0;
	const float own = x[i], its = x[turned ? other : i];

	return second ? its * s + own * c : own * c - its * s;
}

/* A layer's keys of a head in a page; its values lie values_after() bytes behind them. */
static __device__ __forceinline__ const uint8_t *head_keys(const struct attention &a, const uint8_t *page, int kv_head)
{
	return page + a.h.layer + static_cast<size_t>(kv_head) * a.h.head_bytes;
}

static __device__ __forceinline__ size_t values_after(const struct card_heads &h)
{
	return static_cast<size_t>(h.kv_heads) * h.head_bytes;
}

/* Four numbers of 8 bits with sign, exactly: as the low bits of a float of 2^23, which is taken away again. */
static __device__ __forceinline__ void floats_of_bytes(uint32_t word, float f[4])
{
	const uint32_t x = word ^ 0x80808080u;

#pragma unroll
	for (int i = 0; i < 4; i++)
		f[i] = __uint_as_float(0x4b000000u | ((x >> (8 * i)) & 0xff)) - 8388736.0f;
}

} // namespace CUDA_SPACE

#endif
