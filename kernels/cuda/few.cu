/*
 * Owns products of few rows, or of a short one (one.cu): weights are read once, 16 bytes a thread, and meet all rows
 * in registers. A warp takes R rows of the matrix at a time and its threads the units of their columns in turn, U of
 * them at once, while the next are on their way; the first are asked for before the predecessor has ended. units.h has
 * the order of a sum.
 */
#include "units.h"

/* Of a block; and blocks that a multiprocessor holds, with two rows of activations, and with more. */
static const int WARPS = PREPARE_WARPS, FEW_RESIDENT = 3, MANY_RESIDENT = 2;

/*
 * Products that are prepared on the way: at most so many rows, and columns of all of them. Every block does it, and
 * with more than a few columns a thread that takes longer than a kernel of its own.
 */
enum { OWN_ROWS = 2, OWN_COLUMNS = 2048 };

/* Matrices with less rows than this, a multiprocessor, get a warp for each. */
enum { SINGLE_ROWS = 32 };

namespace CUDA_SPACE
{

template <enum dtype T, int R, int U>
static __device__ __forceinline__ void load_units(const place<R> &at, int u, int units, unit ret[R][U])
{
#pragma unroll
	for (int i = 0; i < U; i++)
#pragma unroll
		for (int r = 0; r < R; r++)
			if (u + i * WARP < units)
				load_unit<T>(at.m, at.unit[r], static_cast<uint32_t>(u + i * WARP),
					     static_cast<uint32_t>(units), ret[r][i]);
}

/* U units of R rows meet N rows of activations. */
template <enum dtype T, enum form F, int N, int R, int U>
static __device__ __forceinline__ void add_units(const unit now[R][U], const uint8_t *x, const product &p, int u,
						 int rows, float sum[R * N])
{
#pragma unroll
	for (int i = 0; i < U; i++) {
		opened<T> w[R];

		if (u + i * WARP >= p.units)
			break;
#pragma unroll
		for (int r = 0; r < R; r++)
			open_unit<T>(now[r][i], w[r]);
#pragma unroll
		for (int a = 0; a < N; a++) {
			input<F> in;

			load_input<F>(x + (a < rows ? a : 0) * p.x_stride, u + i * WARP, p.units, in);
#pragma unroll
			for (int r = 0; r < R; r++)
				sum[r * N + a] = add_unit<T, F>(w[r], in, sum[r * N + a]);
		}
	}
}

/* Grid: (eights of rows of activations, blocks of warps); a warp takes groups until there are no more. */
template <enum dtype T, enum form F, int N, int R, int U>
static __global__ void __launch_bounds__(PREPARE_THREADS, N > 2 ? MANY_RESIDENT : FEW_RESIDENT)
	few_kernel(const product p)
{
	SHARED_DYNAMIC(uint8_t, own);
	__shared__ float sums[WARPS];
	const int lane = static_cast<int>(threadIdx.x) % WARP, stride = static_cast<int>(gridDim.y) * WARPS;
	const int first = static_cast<int>(blockIdx.x) * N, rows = p.n - first < N ? p.n - first : N;
	int group = static_cast<int>(blockIdx.y) * WARPS + static_cast<int>(threadIdx.x) / WARP;
	place<R> at = place_of<R>(p, group);
	unit next[R][U];

	if (group < p.groups)
		load_units<T, R, U>(at, lane, p.units, next);
	grid_go();
	grid_wait();
	if (!p.x) {
		for (int i = 0; i < rows; i++)
			prepare_row<F>(p.from, static_cast<size_t>(first + i), 0, 1, own + i * p.x_stride, sums);
		__syncthreads();
	}
	const uint8_t *x = p.x ? p.x + first * p.x_stride : own;

	for (; group < p.groups; group += stride) {
		const int mine = lane / (WARP / (R * N)), row = at.row + mine / N;
		const bool writes = lane % (WARP / (R * N)) == 0 && row < at.rows && mine % N < rows;
		float *y = p.y + static_cast<size_t>(first + mine % N) * p.y_stride + at.column + row;
		const float was = writes && p.add ? *y : 0;
		float total = 0;

		for (int begin = lane; begin - lane < p.units; begin += stretch_of<T>::units) {
			float sum[R * N] = {};

			for (int u = begin; u < begin + stretch_of<T>::units && u - lane < p.units; u += WARP * U) {
				unit now[R][U];

#pragma unroll
				for (int i = 0; i < R * U; i++)
					now[i / U][i % U] = next[i / U][i % U];
				load_units<T, R, U>(at, u + WARP * U, p.units, next);
				add_units<T, F, N, R, U>(now, x, p, u, rows, sum);
			}
			total = begin == lane ? add_up<R * N>(sum, lane) : total + add_up<R * N>(sum, lane);
		}
		if (group + stride < p.groups) {
			at = place_of<R>(p, group + stride);
			load_units<T, R, U>(at, lane, p.units, next);
		}
		if (writes)
			*y = p.add ? was + total : total;
	}
}

/* Rows that are not aligned: an element at a time, a warp a row. */
template <enum dtype T> static __global__ void loose_kernel(const product p)
{
	constexpr int most = FEW_ROWS, share = 32 / most;
	const int lane = static_cast<int>(threadIdx.x) % WARP, stride = static_cast<int>(gridDim.y) * WARPS;
	const int first = static_cast<int>(blockIdx.x) * most, cols = p.from.cols;
	const int rows = p.n - first < most ? p.n - first : most;
	int group = static_cast<int>(blockIdx.y) * WARPS + static_cast<int>(threadIdx.x) / WARP;

	grid_go();
	grid_wait();
	for (; group < p.groups; group += stride) {
		const place<1> at = place_of<1>(p, group);
		float sum[most] = {};

		for (int c = lane; c < cols; c += WARP) {
			const float w = element_of<T>(at.m.q, static_cast<size_t>(at.row) * cols + c);
			const int i = (c % 8 / 4 * p.units + c / 8) * 4 + c % 4;

#pragma unroll
			for (int a = 0; a < most; a++)
				if (a < rows)
					sum[a] = fmaf(
						w, reinterpret_cast<const float *>(p.x + (first + a) * p.x_stride)[i],
						sum[a]);
		}
		const float total = add_up<most>(sum, lane);
		const int mine = lane / share;

		if (lane % share == 0 && mine < rows) {
			float *y = p.y + static_cast<size_t>(first + mine) * p.y_stride + at.column + at.row;

			*y = p.add ? *y + total : total;
		}
	}
}

bool few_prepares(const struct matmul *op)
{
	const size_t cols = op->w[0]->cols;

	for (size_t i = 0; i < op->weights; i++)
		if (!type_blocked(op->w[i]->type) && cols % 8)
			return false;
	return op->n <= OWN_ROWS && op->n * cols <= OWN_COLUMNS;
}

/* As many blocks as run at once, or fewer, with equal shares: a few left over would take as long as a full round. */
static dim3 grid_of(const struct device *d, const product *p, int rows)
{
	const int columns = (p->n + rows - 1) / rows, blocks = (p->groups + WARPS - 1) / WARPS;
	const int most = (rows > 2 ? MANY_RESIDENT : FEW_RESIDENT) * d->sms / columns;
	const int rounds = most > 1 ? (blocks + most - 1) / most : blocks;

	return dim3(static_cast<unsigned>(columns), static_cast<unsigned>((blocks + rounds - 1) / rounds));
}

template <enum dtype T, enum form F, int N, int R, int U>
static void launch_few(struct device *d, product *p, int weights)
{
	const size_t shared = p->x ? 0 : N * p->x_stride;

	number_groups(p, weights, R);
	ok(d,
	   LAUNCH((few_kernel<T, F, N, R, U>), grid_of(d, p, N), PREPARE_THREADS, shared, d->stream,
		  static_cast<const product &>(*p)),
	   "a product");
}

/* By what a unit takes: registers hold four of them, and four that are on their way, or two. */
template <enum dtype T, enum form F> static void launch_form(struct device *d, product *p, int weights, int rows)
{
	constexpr int few_units = form_of<T>::bits > 4 || form_of<T>::super || T == DTYPE_F32 ? 2 : 4;

	if (p->n == 1 && rows <= SINGLE_ROWS * d->sms)
		launch_few<T, F, 1, 1, few_units>(d, p, weights);
	else if (p->n == 1)
		launch_few<T, F, 1, 2, few_units / 2>(d, p, weights);
	else if (p->n == 2)
		launch_few<T, F, 2, 2, 1>(d, p, weights);
	else if (p->n <= 4)
		launch_few<T, F, 4, 2, 1>(d, p, weights);
	else
		launch_few<T, F, 8, few_units, 1>(d, p, weights);
}

template <enum dtype T> static void launch_type(struct device *d, product *p, int weights, enum form f, int rows)
{
	if constexpr (!form_of<T>::blocked) {
		if (p->from.cols % 8 == 0) {
			launch_form<T, FORM_FLOATS>(d, p, weights, rows);
			return;
		}
		number_groups(p, weights, 1);
		ok(d,
		   LAUNCH((loose_kernel<T>), grid_of(d, p, FEW_ROWS), PREPARE_THREADS, 0, d->stream,
			  static_cast<const product &>(*p)),
		   "a product");
	} else if constexpr (form_of<T>::super) {
		launch_form<T, FORM_WORDS>(d, p, weights, rows);
	} else if (f == FORM_WORDS) {
		launch_form<T, FORM_WORDS>(d, p, weights, rows);
	} else {
		launch_form<T, FORM_BYTES>(d, p, weights, rows);
	}
}

void few_rows(struct device *d, const struct matmul *op, size_t first, size_t weights, size_t column, enum form f,
	      const source &from, const uint8_t *x)
{
	const enum dtype type = op->w[first]->type;

	for (size_t end = first + weights; first < end;) {
		product p;
		int count, rows = 0;

		count = take_targets(op, &first, end, &column, f, &p);
		p.x = x;
		p.from = from;
		if (p.n == 1 && one_row(d, &p, count, type, f))
			continue;
		for (int i = 0; i < count; i++)
			rows += p.w[i].rows;
		WITH_TYPE(type, launch_type<TYPE>(d, &p, count, f, rows));
	}
}

} // namespace CUDA_SPACE
