/*
 * Owns products of one row, the usual case of a single conversation: all time goes to reading weights. A warp has a
 * stretch of the row of activations in registers and meets row after row of the matrix with it, so that nothing but
 * weights is loaded in the loop: all of a row's at once, when those before it are used up. (Unit by unit would be
 * sooner, but a warp has six counters to wait for loads with, and then waits for young ones with old ones.) Where a
 * row has several stretches, as many warps share it, and their sums meet in shared memory.
 */
#include "units.h"

enum {
	ONE_RESIDENT = 2, /* blocks of a multiprocessor */
	KEPT = 64,	  /* rows of a team whose sums wait for each other */
};

namespace CUDA_SPACE
{

template <enum dtype T> struct ahead_of {
	/* Rows that are on their way, as far as there are registers. */
	static constexpr int rows = form_of<T>::blocked && form_of<T>::bits <= 4 && !form_of<T>::super ? 2 : 1;
};

/* The stretch of a warp: its units, and which of a row's this thread has. */
struct stretch {
	int first, units;
};

template <enum dtype T>
static __device__ __forceinline__ void load_stretch(const product &p, int row, const stretch &s,
						    unit ret[stretch_of<T>::each])
{
	const place<1> at = place_of<1>(p, row);

#pragma unroll
	for (int i = 0; i < stretch_of<T>::each; i++)
		if (s.first + i * WARP < s.units)
			load_unit<T>(at.m, at.unit[0], static_cast<uint32_t>(s.first + i * WARP),
				     static_cast<uint32_t>(p.units), ret[i]);
}

/* One row's sum over the stretch. */
template <enum dtype T, enum form F>
static __device__ __forceinline__ float sum_stretch(const stretch &s, const unit w[stretch_of<T>::each],
						    const input<F> x[stretch_of<T>::each])
{
	float sum = 0;

#pragma unroll
	for (int i = 0; i < stretch_of<T>::each; i++) {
		if (s.first + i * WARP < s.units) {
			opened<T> now;

			open_unit<T>(w[i], now);
			sum = add_unit<T, F>(now, x[i], sum);
		}
	}
	return sum;
}

/* The sums of rows first, first + stride, ... of all teams of the block, `count` of each. */
static __device__ __forceinline__ void write_sums(const product &p, const float (*sums)[KEPT], int teams, int first,
						  int stride, int count)
{
	__syncthreads();
	for (int i = static_cast<int>(threadIdx.x); i < teams * count; i += PREPARE_THREADS) {
		const int team = i / count, k = i % count, row = first + team + k * stride;

		if (row < p.groups) {
			const place<1> at = place_of<1>(p, row);
			float *y = p.y + at.column + at.row, total = sums[team * p.stretches][k];

			for (int s = 1; s < p.stretches; s++)
				total += sums[team * p.stretches + s][k];
			*y = p.add ? *y + total : total;
		}
	}
	__syncthreads();
}

/* Grid: blocks of teams, a warp for each stretch in a team; a team takes rows until there are no more. */
template <enum dtype T, enum form F>
static __global__ void __launch_bounds__(PREPARE_THREADS, ONE_RESIDENT) one_kernel(const product p)
{
	constexpr int rows = ahead_of<T>::rows, each = stretch_of<T>::each;
	SHARED_DYNAMIC(uint8_t, own);
	__shared__ float scratch[PREPARE_WARPS], sums[PREPARE_WARPS][KEPT];
	const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
	const int teams = PREPARE_WARPS / p.stretches, stride = static_cast<int>(gridDim.x) * teams;
	const int from = warp % p.stretches * stretch_of<T>::units;
	const bool works = warp < teams * p.stretches;
	const stretch s = { from + lane, !works					 ? 0
					 : from + stretch_of<T>::units < p.units ? from + stretch_of<T>::units
										 : p.units };
	const int block = static_cast<int>(blockIdx.x) * teams;
	int row = block + warp / p.stretches;
	unit w[rows][each];
	input<F> x[each];

#pragma unroll
	for (int a = 0; a < rows; a++)
		if (row + a * stride < p.groups)
			load_stretch<T>(p, row + a * stride, s, w[a]);
	grid_go();
	grid_wait();
	if (!p.x) {
		prepare_row<F>(p.from, 0, 0, 1, own, scratch);
		__syncthreads();
	}
#pragma unroll
	for (int i = 0; i < each; i++)
		if (s.first + i * WARP < s.units)
			load_input<F>(p.x ? p.x : own, s.first + i * WARP, p.units, x[i]);
	for (int begin = block; begin < p.groups; begin += KEPT * stride) {
		const int left = (p.groups - begin + stride - 1) / stride, count = left < KEPT ? left : int{ KEPT };

		for (int k = 0; k < count; k += rows)
#pragma unroll
			for (int a = 0; a < rows; a++, row += stride)
				if (k + a < count && row < p.groups) {
					float sum[1] = { sum_stretch<T, F>(s, w[a], x) };

					if (row + rows * stride < p.groups)
						load_stretch<T>(p, row + rows * stride, s, w[a]);
					sum[0] = add_up<1>(sum, lane);
					if (lane == 0)
						sums[warp][k + a] = sum[0];
				}
		write_sums(p, sums, teams, begin, stride, count);
	}
}

/* Rows of the matrices per team as equal as can be. */
static unsigned blocks_of(const struct device *d, const product *p)
{
	const int teams = PREPARE_WARPS / p->stretches, most = ONE_RESIDENT * d->sms;
	const int wanted = (p->groups + teams - 1) / teams, rounds = (wanted + most - 1) / most;

	return static_cast<unsigned>((wanted + rounds - 1) / rounds);
}

template <enum dtype T, enum form F> static bool launch_one(struct device *d, product *p, int weights)
{
	p->stretches = (p->units + stretch_of<T>::units - 1) / stretch_of<T>::units;
	if (p->stretches > PREPARE_WARPS || 2 * p->units < stretch_of<T>::units)
		return false;
	number_groups(p, weights, 1);
	ok(d,
	   LAUNCH((one_kernel<T, F>), blocks_of(d, p), PREPARE_THREADS, p->x ? 0 : p->x_stride, d->stream,
		  static_cast<const product &>(*p)),
	   "a product");
	return true;
}

template <enum dtype T> static bool launch_type(struct device *d, product *p, int weights, enum form f)
{
	if constexpr (!form_of<T>::blocked)
		return p->from.cols % 8 == 0 && launch_one<T, FORM_FLOATS>(d, p, weights);
	else if constexpr (form_of<T>::super)
		return launch_one<T, FORM_WORDS>(d, p, weights);
	else
		return f == FORM_WORDS ? launch_one<T, FORM_WORDS>(d, p, weights)
				       : launch_one<T, FORM_BYTES>(d, p, weights);
}

bool one_row(struct device *d, product *p, int weights, enum dtype type, enum form f)
{
	bool done = false;

	WITH_TYPE(type, done = launch_type<TYPE>(d, p, weights, f));
	return done;
}

} // namespace CUDA_SPACE
