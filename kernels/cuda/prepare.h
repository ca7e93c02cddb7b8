/*
 * The input of products on its way to them: a row is normed or gated, and brought to the form that the weights meet, by
 * a block of PREPARE_THREADS threads. few.cu does it in the kernel that multiplies where a row is short, matmul.cu in a
 * kernel of its own where it is not: the same functions, and so the same bits.
 */
#ifndef CUDA_PREPARE_H
#define CUDA_PREPARE_H

#include "layout.h"

/*
 * Forms of a row. `units` are of 32 columns for whole numbers, of 8 for floats.
 *
 *	FLOATS	the first four columns of all units, then the second: [2][units][4]; the last unit is filled with zeros
 *	WORDS	whole numbers of 15 bits, as 256 * high + low: [high, low][2][units][16] bytes, columns 0 .. 15 of all
 *		units, then 16 .. 31; then [units] of what 1 stands for, and the sum of the unit times that
 *	BYTES	whole numbers of 8 bits, likewise with one plane
 *	HALVES	for cuBLAS, [cols], divided by HALVES_SCALE so that they are in range
 *	DENSE	for cuBLAS, [cols] floats
 *	TILES	halves likewise, eight rows together, as a warp loads fragments of 128 columns (tiles.cu):
 *		[cols / 128][j = 0 .. 3][row in 8][block in 4][h = 0, 1][4], columns 16h + 4j + 0, 2, 1, 3 of a block;
 *		rows and columns filled up with zeros
 */
enum form { FORM_FLOATS, FORM_WORDS, FORM_BYTES, FORM_HALVES, FORM_DENSE, FORM_TILES };

enum { PREPARE_THREADS = 256, PREPARE_WARPS = 8, HALVES_SCALE = 16, TILE_COLUMNS = 128, TILE_ROWS = 8 };

namespace CUDA_SPACE
{

struct source {
	const float *x, *norm, *shift;
	float eps;
	int input, cols, rows;
	bool quads; /* rows, and norm, are aligned to four floats */
};

static inline int units_of(enum form f, size_t cols)
{
	const size_t unit = f == FORM_WORDS || f == FORM_BYTES || f == FORM_TILES ? 32 : 8;

	return static_cast<int>((cols + unit - 1) / unit);
}

/* Bytes from one row to the next; of TILES, an eighth of those from eight to the next. */
static inline size_t form_bytes(enum form f, size_t cols)
{
	const size_t units = static_cast<size_t>(units_of(f, cols));

	switch (f) {
	case FORM_WORDS:
		return (units * (2 * BLOCK + 8) + 15) / 16 * 16;
	case FORM_BYTES:
		return (units * (BLOCK + 8) + 15) / 16 * 16;
	case FORM_FLOATS:
		return units * 32;
	case FORM_TILES:
		return (cols + TILE_COLUMNS - 1) / TILE_COLUMNS * TILE_COLUMNS * 2;
	case FORM_HALVES:
		return cols * 2;
	default:
		return cols * 4;
	}
}

/* Columns 4k .. 4k+3 of a row; zeros behind its end. */
static __device__ __forceinline__ float4 quad_of(const float *x, int k, int cols, bool quads)
{
	if (4 * k >= cols)
		return make_float4(0, 0, 0, 0);
	if (quads)
		return reinterpret_cast<const float4 *>(x)[k];
	return make_float4(x[4 * k], 4 * k + 1 < cols ? x[4 * k + 1] : 0, 4 * k + 2 < cols ? x[4 * k + 2] : 0,
			   4 * k + 3 < cols ? x[4 * k + 3] : 0);
}

/* The sum of all threads of the block, for each of them; `sums` are theirs, one a warp. */
static __device__ __forceinline__ float sum_of_block(float sum, float *sums)
{
	const int t = static_cast<int>(threadIdx.x);

	for (int mask = WARP / 2; mask; mask /= 2)
		sum += __shfl_xor_sync(0xffffffffu, sum, mask);
	if (t % WARP == 0)
		sums[t / WARP] = sum;
	__syncthreads();
	sum = 0;
	for (int i = 0; i < PREPARE_WARPS; i++)
		sum += sums[i];
	__syncthreads();
	return sum;
}

/* What a norm takes away from the numbers of a row, and what it multiplies them with. */
struct norm_of_row {
	float mean, factor;
};

/* All threads of the block call it. */
static __device__ __forceinline__ norm_of_row norm_factor(const source &s, const float *x, float *sums)
{
	const int t = static_cast<int>(threadIdx.x);
	const float cols = static_cast<float>(s.cols);
	float sum = 0, mean = 0;

	if (s.input == INPUT_LAYER_NORM) {
		for (int k = t; 4 * k < s.cols; k += PREPARE_THREADS) {
			const float4 v = quad_of(x, k, s.cols, s.quads);

			sum += (v.x + v.y) + (v.z + v.w);
		}
		mean = sum_of_block(sum, sums) / cols;
		sum = 0;
	}
#pragma unroll 4
	for (int k = t; 4 * k < s.cols; k += PREPARE_THREADS) {
		const float4 v = quad_of(x, k, s.cols, s.quads);
		const float each[4] = { v.x - mean, v.y - mean, v.z - mean, v.w - mean };

#pragma unroll
		for (int i = 0; i < 4; i++)
			if (4 * k + i < s.cols)
				sum = fmaf(each[i], each[i], sum);
	}
	return { mean, 1.0f / sqrtf(sum_of_block(sum, sums) / cols + s.eps) };
}

/* As input_is_gate(), which is the host's. */
static __device__ __forceinline__ bool is_gate(int input)
{
	return input >= INPUT_GATE;
}

static __device__ __forceinline__ float sigmoid(float x)
{
	return 1.0f / (1.0f + expf(-x));
}

static __device__ __forceinline__ float activated(int input, float g, float u)
{
	if (input == INPUT_GELU)
		return g * erfcf(g * -0.70710678f) * 0.5f;
	if (input == INPUT_GATE_GELU)
		return g * sigmoid(1.59576912f * g * fmaf(g * g, 0.044715f, 1.0f)) * u;
	if (input == INPUT_GATE_CLAMPED)
		return fminf(g, 7.0f) * sigmoid(1.702f * fminf(g, 7.0f)) * (fmaxf(fminf(u, 7.0f), -7.0f) + 1.0f);
	return g / (1.0f + expf(-g)) * u;
}

static __device__ __forceinline__ float4 input_quad(const source &s, const float *x, int k, const norm_of_row &norm)
{
	const float4 v = quad_of(x, k, s.cols, s.quads);

	if (s.input == INPUT_NORM || s.input == INPUT_LAYER_NORM) {
		const float4 w = quad_of(s.norm, k, s.cols, s.quads);
		const float4 b = s.shift ? quad_of(s.shift, k, s.cols, s.quads) : make_float4(0, 0, 0, 0);
		const float m = norm.mean, f = norm.factor;

		return make_float4((v.x - m) * f * w.x + b.x, (v.y - m) * f * w.y + b.y, (v.z - m) * f * w.z + b.z,
				   (v.w - m) * f * w.w + b.w);
	}
	if (s.input != INPUT_PLAIN) {
		const float4 u = is_gate(s.input) ? quad_of(x + s.cols, k, s.cols, s.quads) : v;

		return make_float4(activated(s.input, v.x, u.x), activated(s.input, v.y, u.y),
				   activated(s.input, v.z, u.z), activated(s.input, v.w, u.w));
	}
	return v;
}

static __device__ __forceinline__ uint32_t four_bytes(int a, int b, int c, int d)
{
	return (static_cast<uint32_t>(a) & 255) | (static_cast<uint32_t>(b) & 255) << 8 |
	       (static_cast<uint32_t>(c) & 255) << 16 | static_cast<uint32_t>(d) << 24;
}

/* Eight threads that follow each other have a unit; the whole warp calls it. */
template <enum form F> static __device__ __forceinline__ void put_whole(const float4 &v, int k, int units, uint8_t *to)
{
	constexpr int most = F == FORM_WORDS ? 127 * 128 : 127, planes = F == FORM_WORDS ? 2 : 1;
	float largest = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))), inverse, d;
	const int u = k / 8, j = k % 8;
	int q[4], sum;

	for (int mask = 4; mask; mask /= 2)
		largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, mask));
	d = largest / most;
	inverse = largest > 1e-30f ? most / largest : 0;
	q[0] = static_cast<int>(rintf(v.x * inverse));
	q[1] = static_cast<int>(rintf(v.y * inverse));
	q[2] = static_cast<int>(rintf(v.z * inverse));
	q[3] = static_cast<int>(rintf(v.w * inverse));
	sum = q[0] + q[1] + q[2] + q[3];
	for (int mask = 4; mask; mask /= 2)
		sum += __shfl_xor_sync(0xffffffffu, sum, mask);
	if (u >= units)
		return;
	uint32_t *word = reinterpret_cast<uint32_t *>(to) + ((j / 4) * units + u) * 4 + j % 4;

	if (F == FORM_WORDS) {
		word[0] = four_bytes((q[0] + 128) >> 8, (q[1] + 128) >> 8, (q[2] + 128) >> 8, (q[3] + 128) >> 8);
		word[2 * units * 4] = four_bytes(q[0], q[1], q[2], q[3]);
	} else {
		word[0] = four_bytes(q[0], q[1], q[2], q[3]);
	}
	if (j == 0)
		reinterpret_cast<float2 *>(to + planes * BLOCK * units)[u] =
			make_float2(d, d * static_cast<float>(sum));
}

/* Into the range of halves. */
static __device__ __forceinline__ float as_half(float v)
{
	return fminf(fmaxf(v * (1.0f / static_cast<float>(HALVES_SCALE)), -65504.0f), 65504.0f);
}

template <enum form F>
static __device__ __forceinline__ void put_quad(const float4 &v, int k, int cols, int units, uint8_t *to)
{
	if constexpr (F == FORM_WORDS || F == FORM_BYTES) {
		put_whole<F>(v, k, units, to);
	} else if constexpr (F == FORM_FLOATS) {
		if (k < 2 * units)
			reinterpret_cast<float4 *>(to)[k % 2 * units + k / 2] = v;
	} else if constexpr (F == FORM_TILES) {
		const int u = k / 8, h = k / 4 % 2, j = k % 4;

		if (u < units)
			reinterpret_cast<uint2 *>(to)[((u / 4 * 4 + j) * TILE_ROWS * 4 + u % 4) * 2 + h] =
				make_uint2(halves_of_floats(as_half(v.x), as_half(v.z)),
					   halves_of_floats(as_half(v.y), as_half(v.w)));
	} else {
		const float each[4] = { v.x, v.y, v.z, v.w };

		if (F == FORM_HALVES && cols % 4 == 0 && 4 * k < cols) {
			reinterpret_cast<uint2 *>(to)[k] = make_uint2(halves_of_floats(as_half(v.x), as_half(v.y)),
								      halves_of_floats(as_half(v.z), as_half(v.w)));
			return;
		}
#pragma unroll
		for (int i = 0; i < 4; i++)
			if (4 * k + i >= cols)
				break;
			else if (F == FORM_HALVES)
				reinterpret_cast<uint16_t *>(to)[4 * k + i] = half_of_float(as_half(each[i]));
			else
				reinterpret_cast<float *>(to)[4 * k + i] = each[i];
	}
}

/*
 * Row i: the stretches `part`, part + parts, ... of four columns a thread. All threads of the block call it. Rows
 * behind the last are zeros.
 */
template <enum form F>
static __device__ __forceinline__ void prepare_row(const source &s, size_t i, int part, int parts, uint8_t *to,
						   float *sums)
{
	const bool has = i < static_cast<size_t>(s.rows);
	const float *x = s.x + i * static_cast<size_t>(is_gate(s.input) ? 2 * s.cols : s.cols);
	const bool normed = s.input == INPUT_NORM || s.input == INPUT_LAYER_NORM;
	const norm_of_row norm = has && normed ? norm_factor(s, x, sums) : norm_of_row{ 0, 1 };
	const int unit = F == FORM_TILES ? int{ TILE_COLUMNS } : F == FORM_WORDS || F == FORM_BYTES ? 32 : 8;
	const int padded = (s.cols + unit - 1) / unit * unit, units = padded / (F == FORM_TILES ? BLOCK : unit);

	for (int k = part * PREPARE_THREADS; 4 * k < padded; k += parts * PREPARE_THREADS) {
		const int own = k + static_cast<int>(threadIdx.x);

		put_quad<F>(has ? input_quad(s, x, own, norm) : make_float4(0, 0, 0, 0), own, s.cols, units, to);
	}
}

/*
 * matmul.cu: the form in which few rows meet weights of a type; the rows of an operation in a form, NULL after a
 * failure.
 */
enum form few_form(const struct device *d, enum dtype type);
const uint8_t *prepare_input(struct device *d, const struct matmul *op, enum form f);

/* tiles.cu: the same for blocked types and up to TILES_MOST rows in TILES. */
enum { TILES_MOST = 64 };
void some_rows(struct device *d, const struct matmul *op, size_t first, size_t weights, size_t column,
	       const uint8_t *x);

/*
 * few.cu: y (+)= input * W^T for matrices of one type, by the rows' own form; rows at `x`, or NULL: prepared on the
 * way. `column` is where the first matrix begins in y.
 */
void few_rows(struct device *d, const struct matmul *op, size_t first, size_t weights, size_t column, enum form f,
	      const source &from, const uint8_t *x);
/* Whether rows are so short that each block prepares them for itself. */
bool few_prepares(const struct matmul *op);

} // namespace CUDA_SPACE

#endif
