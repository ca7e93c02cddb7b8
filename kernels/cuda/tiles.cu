/*
 * Owns products of some rows with quantized weights, too many to meet them one by one and too few to unpack a matrix
 * for cuBLAS: weights go from memory to registers, become halves there, and are fragments of tensor cores.
 *
 * A warp has sixteen rows of the matrix and all rows of activations. Which columns are which of a product's sixteen is
 * free as long as both sides agree, so thread t takes block t % 4 of four that follow each other, of rows t / 4 and t
 * / 4 + 8, 16 bytes each, and has all it needs for eight products of sixteen columns. Warps of a block share columns
 * out among them, and their sums are added in order.
 */
#include "targets.h"

/* Threads of a block; warps of it that have different rows, for matrices with fewer rows and with more. */
enum { TILES_WARPS = 8, TILES_THREADS = 256, TILE_HEIGHT = 16, NARROW = 2, WIDE = 4 };

/* A matrix with this many rows a multiprocessor is cut into wider blocks. */
enum { WIDE_ROWS = 64 };

namespace CUDA_SPACE
{

/* The block of a row with its scale in halves; zeros behind the end. */
template <enum dtype T>
static __device__ __forceinline__ void load_block(const matrix &m, int row, int rows, int u, int units, unit &ret)
{
	if (u < units)
		load_unit<T>(m, static_cast<uint32_t>((row < rows ? row : rows - 1) * units), static_cast<uint32_t>(u),
			     static_cast<uint32_t>(units), ret);
	else
		ret = {};
}

/* A block's scale and minimum as pairs of equal halves, for each half of it. */
struct pair_scales {
	uint32_t d[2], m;
};

template <enum dtype T> static __device__ __forceinline__ void pair_scales_of(const unit &b, pair_scales &ret)
{
	const float2 s = scales_of<T>(b);
	const float d = s.x * (1.0f / form_of<T>::step);

	if constexpr (T == DTYPE_Q6_K) {
		ret.d[0] = halves_of_floats(d * half_block_scale(b, 0), d * half_block_scale(b, 0));
		ret.d[1] = halves_of_floats(d * half_block_scale(b, 1), d * half_block_scale(b, 1));
	} else {
		ret.d[0] = ret.d[1] = halves_of_floats(d, d);
	}
	ret.m = form_of<T>::min ? halves_of_floats(s.y, s.y) : 0;
}

template <enum dtype T>
static __device__ __forceinline__ uint32_t weights_of(const unit &b, const pair_scales &s, int k, int odd)
{
	const uint32_t q = halves_less(pair_of<T>(b, k, odd), pair_offset<T>());

	if constexpr (form_of<T>::min)
		return halves_times_plus(q, s.d[0], s.m);
	else
		return halves_times(q, s.d[k / 4]);
}

/* 128 columns of sixteen rows with all rows of activations. */
template <enum dtype T, int N>
static __device__ __forceinline__ void multiply_tile(const unit b[2], const uint4 *x, size_t stride, float sum[N][4])
{
	pair_scales s[2];

	pair_scales_of<T>(b[0], s[0]);
	pair_scales_of<T>(b[1], s[1]);
#pragma unroll
	for (int j = 0; j < 4; j++) {
		uint32_t w[2][4];

#pragma unroll
		for (int h = 0; h < 2; h++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				w[h][i] = weights_of<T>(b[i % 2], s[i % 2], j + 4 * h, i / 2);
#pragma unroll
		for (int n = 0; n < N; n++) {
			const uint4 q = x[n * stride + j * WARP];
			const uint32_t first[2] = { q.x, q.y }, second[2] = { q.z, q.w };

			mma_halves(sum[n], w[0], first);
			mma_halves(sum[n], w[1], second);
		}
	}
}

/* Adds the sums of the warps that have the same rows, and writes them. */
template <int N, int M>
static __device__ __forceinline__ void write_tiles(const product &p, const place<1> &at, int row, float *sums,
						   const float sum[N][4])
{
	constexpr int height = M * TILE_HEIGHT, width = 8 * N, parts = TILES_WARPS / M;
	const int t = static_cast<int>(threadIdx.x), lane = t % WARP, warp = t / WARP;
	float *own = sums + warp / M * height * width + warp % M * TILE_HEIGHT + lane / 4;

#pragma unroll
	for (int n = 0; n < N; n++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			own[(8 * n + lane % 4 * 2 + i % 2) * height + i / 2 * 8] = sum[n][i];
	__syncthreads();
	for (int i = t; i < height * width; i += TILES_THREADS) {
		const int n = i / height, r = row + i % height;
		float total = 0;

		for (int part = 0; part < parts; part++)
			total += sums[part * height * width + i];
		total *= static_cast<float>(HALVES_SCALE);
		if (n < p.n && r < at.rows) {
			float *y = p.y + static_cast<size_t>(n) * p.y_stride + at.column + r;

			*y = p.add ? *y + total : total;
		}
	}
}

template <enum dtype T, int N, int M>
static __global__ void __launch_bounds__(TILES_THREADS, 2) tiles_kernel(const product p)
{
	constexpr int height = M * TILE_HEIGHT, parts = TILES_WARPS / M;
	__shared__ float sums[parts * height * 8 * N];
	const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
	const int tiles = (p.units + 3) / 4;
	const place<1> at = place_of<1>(p, static_cast<int>(blockIdx.x));
	const int row = at.row * height, mine = row + warp % M * TILE_HEIGHT + lane / 4;
	const size_t stride = TILE_ROWS * p.x_stride / sizeof(uint4);
	float sum[N][4] = {};
	unit next[2];

	load_block<T>(at.m, mine, at.rows, warp / M * 4 + lane % 4, p.units, next[0]);
	load_block<T>(at.m, mine + 8, at.rows, warp / M * 4 + lane % 4, p.units, next[1]);
	grid_go();
	grid_wait();
	for (int i = warp / M; i < tiles; i += parts) {
		const unit now[2] = { next[0], next[1] };
		const int u = (i + parts) * 4 + lane % 4;

		load_block<T>(at.m, mine, at.rows, u, p.units, next[0]);
		load_block<T>(at.m, mine + 8, at.rows, u, p.units, next[1]);
		multiply_tile<T, N>(now,
				    reinterpret_cast<const uint4 *>(p.x) + static_cast<size_t>(i) * 4 * WARP + lane,
				    stride, sum);
	}
	write_tiles<N, M>(p, at, row, sums, sum);
}

template <enum dtype T, int N, int M> static void launch_tiles(struct device *d, product *p, int weights)
{
	number_groups(p, weights, M * TILE_HEIGHT);
	ok(d,
	   LAUNCH((tiles_kernel<T, N, M>), static_cast<unsigned>(p->groups), TILES_THREADS, 0, d->stream,
		  static_cast<const product &>(*p)),
	   "a product");
}

template <enum dtype T> static void launch_type(struct device *d, product *p, int weights, bool wide)
{
	if constexpr (form_of<T>::blocked) {
		if (p->n <= 16)
			wide ? launch_tiles<T, 2, WIDE>(d, p, weights) : launch_tiles<T, 2, NARROW>(d, p, weights);
		else if (p->n <= 32)
			wide ? launch_tiles<T, 4, WIDE>(d, p, weights) : launch_tiles<T, 4, NARROW>(d, p, weights);
		else
			wide ? launch_tiles<T, 8, WIDE>(d, p, weights) : launch_tiles<T, 8, NARROW>(d, p, weights);
	}
}

void some_rows(struct device *d, const struct matmul *op, size_t first, size_t weights, size_t column, const uint8_t *x)
{
	const enum dtype type = op->w[first]->type;

	for (size_t end = first + weights; first < end;) {
		product p;
		const int count = take_targets(op, &first, end, &column, FORM_TILES, &p);
		int rows = 0;

		p.x = x;
		for (int i = 0; i < count; i++)
			rows += p.w[i].rows;
		WITH_TYPE(type, launch_type<TYPE>(d, &p, count, rows > WIDE_ROWS * d->sms));
	}
}

} // namespace CUDA_SPACE
