/*
 * Owns the way of keys and values to their pages. A block takes a KV head of some neighbouring rows: their keys lie
 * side by side in a page, dimension by dimension, so they are turned around in shared memory.
 */
#include "attention.h"

namespace CUDA_SPACE
{

enum { ROWS = 32, THREADS = 256, WARPS = THREADS / 32 };

/* What a block stores, and where. */
struct storing {
	struct card_heads h;
	const struct card_row *row;
	const float *qkv, *angles;
	int32_t n;
};

static __device__ __forceinline__ const float *key_of(const struct storing &s, int row, int head)
{
	return s.qkv + static_cast<size_t>(row) * row_width(s.h) + (s.h.heads + head) * s.h.size;
}

static __device__ __forceinline__ float rotated_key(const struct storing &s, int row, int place, int head, int i)
{
	return rotate_one(s.h, key_of(s, row, head), s.angles + (2 * static_cast<size_t>(row) + place) * s.h.rotated,
			  i);
}

static __device__ __forceinline__ float value_of(const struct storing &s, int row, int head, int i)
{
	return key_of(s, row, head)[s.h.kv_heads * s.h.size + i];
}

static __device__ __forceinline__ uint8_t *head_at(const struct storing &s, uint8_t *page, int head)
{
	return page + s.h.layer + static_cast<size_t>(head) * s.h.head_bytes;
}

static __device__ __forceinline__ void put(uint16_t *to, float x)
{
	*to = half_of_float(x);
}

static __device__ __forceinline__ void put(float *to, float x)
{
	*to = x;
}

/* Rows first .. first+rows-1, one place of each, as numbers of type T. */
template <typename T>
static __device__ void store_numbers(const struct storing &s, int first, int rows, int place, int head, float *turned)
{
	for (int e = static_cast<int>(threadIdx.x); e < rows * s.h.size; e += THREADS) {
		const int r = e / s.h.size, i = e % s.h.size;
		const struct card_row *row = &s.row[first + r];

		if (!row->goes[place])
			continue;
		turned[i * (ROWS + 1) + r] = rotated_key(s, first + r, place, head, i);
		put(reinterpret_cast<T *>(head_at(s, row->goes[place], head) + values_after(s.h)) +
			    row->at[place] * s.h.size + i,
		    value_of(s, first + r, head, i));
	}
	__syncthreads();
	for (int e = static_cast<int>(threadIdx.x); e < rows * s.h.size; e += THREADS) {
		const int i = e / rows, r = e % rows;
		const struct card_row *row = &s.row[first + r];

		if (row->goes[place])
			put(reinterpret_cast<T *>(head_at(s, row->goes[place], head)) + i * PAGE_TOKENS +
				    row->at[place],
			    turned[i * (ROWS + 1) + r]);
	}
	__syncthreads();
}

/* A block of 32 dimensions in 8 bits, by a warp. */
static __device__ void store_block(uint8_t *to, int size, bool value, int token, int block, int lane, float x)
{
	const int i = block * BLOCK + lane;
	float largest = fabsf(x), d;
	uint16_t half;

	for (int mask = 16; mask > 0; mask /= 2)
		largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, mask));
	half = half_of_float(largest / 127);
	if (float_of_half(half) < largest / 127)
		half++;
	d = float_of_half(half);
	if (lane == 0)
		reinterpret_cast<uint16_t *>(to)[block * PAGE_TOKENS + token] = half;
	to += size / BLOCK * PAGE_TOKENS * 2;
	to[value ? (token / 4 * size + i) * 4 + token % 4 : (i / 4 * PAGE_TOKENS + token) * 4 + i % 4] =
		static_cast<uint8_t>(static_cast<int8_t>(d > 0 ? rintf(x / d) : 0));
}

static __device__ void store_blocks(const struct storing &s, int first, int rows, int head)
{
	const int lane = static_cast<int>(threadIdx.x) % WARP, blocks = s.h.size / BLOCK;

	for (int e = static_cast<int>(threadIdx.x) / WARP; e < rows * blocks * 4; e += WARPS) {
		const int r = first + e / 4 / blocks, block = e / 4 % blocks, place = e & 1;
		const bool value = e & 2;
		uint8_t *page = s.row[r].goes[place];

		if (!page)
			continue;
		store_block(head_at(s, page, head) + (value ? values_after(s.h) : 0), s.h.size, value,
			    s.row[r].at[place], block, lane,
			    value ? value_of(s, r, head, block * BLOCK + lane)
				  : rotated_key(s, r, place, head, block * BLOCK + lane));
	}
}

template <enum dtype TYPE> static __global__ void __launch_bounds__(THREADS) store_kernel(const struct storing s)
{
	__shared__ float turned[TYPE == DTYPE_Q8_0 ? 1 : HEAD_SIZE_MAX * (ROWS + 1)];
	const int head = static_cast<int>(blockIdx.x), first = static_cast<int>(blockIdx.y) * ROWS;
	const int rows = s.n - first < ROWS ? s.n - first : ROWS;

	grid_wait();
	grid_go();
	if constexpr (TYPE == DTYPE_Q8_0)
		store_blocks(s, first, rows, head);
	for (int place = 0; place < 2 && TYPE != DTYPE_Q8_0; place++) {
		if constexpr (TYPE == DTYPE_F32)
			store_numbers<float>(s, first, rows, place, head, turned);
		else
			store_numbers<uint16_t>(s, first, rows, place, head, turned);
	}
}

void store(struct device *d, const struct store *op)
{
	struct storing s = {};
	const dim3 grid(static_cast<unsigned>(op->shape->kv_heads), static_cast<unsigned>((op->n + ROWS - 1) / ROWS));

	if (op->n == 0)
		return;
	s.h = card_heads_of(op->shape, op->pages, op->layer);
	s.row = staged_rows(d, op->rows, op->n).row;
	s.qkv = op->qkv;
	s.angles = op->angles;
	s.n = static_cast<int32_t>(op->n);
	if (d->failed.code)
		return;
	if (op->pages->type == DTYPE_Q8_0)
		ok(d, LAUNCH((store_kernel<DTYPE_Q8_0>), grid, THREADS, 0, d->stream, s), "storing keys and values");
	else if (op->pages->type == DTYPE_F32)
		ok(d, LAUNCH((store_kernel<DTYPE_F32>), grid, THREADS, 0, d->stream, s), "storing keys and values");
	else
		ok(d, LAUNCH((store_kernel<DTYPE_F16>), grid, THREADS, 0, d->stream, s), "storing keys and values");
}

} // namespace CUDA_SPACE
