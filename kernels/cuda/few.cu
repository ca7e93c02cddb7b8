/*
 * Owns products of few rows, where all time goes to reading weights: each is read once, 16 bytes a thread, and meets all
 * rows in registers. A warp takes R rows of the matrix at a time and its threads the units of their columns in turn, U
 * of them at once, while the next are on their way; the first are asked for before the predecessor has ended. Blocks
 * are whole numbers, exact in any order; across blocks a thread sums up in F32 from left to right, and the threads'
 * sums are added in one tree, whatever R, U and the number of rows are: so a result's bits do not depend on them.
 */
#include "targets.h"

/* Of a block; and blocks that a multiprocessor holds, with one or two rows of activations, and with more. */
static const int WARPS = PREPARE_WARPS, FEW_RESIDENT = 3, MANY_RESIDENT = 2;

/* Products that are prepared on the way: at most so many rows, and floats of x. */
enum { OWN_ROWS = 2, OWN_FLOATS = 8192 };

/* Matrices with less rows than this, a multiprocessor, get a warp for each. */
enum { SINGLE_ROWS = 32 };

/* Of the second cache; and bytes of weights that all warps together ask it for in advance: well below its size. */
enum { LINE = 128, AHEAD = 24 << 20 };

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

/* Of a type's weights: bytes of the quants, and of the scales, of a unit. */
template <enum dtype T> struct unit_bytes {
	static constexpr int q = T == DTYPE_Q8_0 || T == DTYPE_F32 ? 32 : 16;
	static constexpr int scale = !form_of<T>::blocked ? 0 : T == DTYPE_Q4_1 || T == DTYPE_Q5_1 ? 4 : 2;
};

static __device__ __forceinline__ void ask_for_bytes(const uint8_t *from, int line, int bytes)
{
	if (line * LINE < bytes)
		ask_for(from + line * LINE);
}

/*
 * While its input is on its way a warp asks for the weights that it comes to first: of each row of its first groups the
 * beginning, or all of it. What the registers hold by then keeps the memory busy for a microsecond; the input takes
 * several.
 */
template <enum dtype T, int R>
static __device__ __forceinline__ void ask_ahead(const product &p, int group, int stride, int lane)
{
	const int row = p.units * unit_bytes<T>::q, each = row < p.ahead / R ? row : p.ahead / R;
	const int lines = (each + LINE - 1) / LINE, rows = each ? p.ahead / each : 0;

	for (int i = lane; i < rows * lines; i += WARP) {
		const int k = i / lines, line = i % lines, g = group + k / R * stride;

		if (g >= p.groups)
			break;
		const place<R> at = place_of<R>(p, g);
		const int r = at.row + k % R < at.rows ? k % R : 0;
		const size_t unit = at.unit[0] + static_cast<size_t>(r * p.units);

		ask_for_bytes(at.m.q + unit * unit_bytes<T>::q, line, each);
		if (unit_bytes<T>::scale)
			ask_for_bytes(at.m.scale + unit * unit_bytes<T>::scale, line, p.units * unit_bytes<T>::scale);
	}
}

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
	ask_ahead<T, R>(p, group, stride, lane);
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
		float sum[R * N] = {};

		for (int u = lane; u - lane < p.units; u += WARP * U) {
			unit now[R][U];

#pragma unroll
			for (int i = 0; i < R * U; i++)
				now[i / U][i % U] = next[i / U][i % U];
			load_units<T, R, U>(at, u + WARP * U, p.units, next);
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
		if (group + stride < p.groups) {
			at = place_of<R>(p, group + stride);
			load_units<T, R, U>(at, lane, p.units, next);
		}
		const float total = add_up<R * N>(sum, lane);

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
	return op->n <= OWN_ROWS && op->n * cols * (op->input == INPUT_GATE ? 2 : 1) <= OWN_FLOATS;
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

	const dim3 grid = grid_of(d, p, N);

	p->ahead = AHEAD / static_cast<int>(grid.x * grid.y * WARPS);
	ok(d,
	   LAUNCH((few_kernel<T, F, N, R, U>), grid, PREPARE_THREADS, shared, d->stream,
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
		int count, rows;

		count = take_targets(op, &first, end, &column, f, &p);
		p.x = x;
		p.from = from;
		rows = 0;
		for (int i = 0; i < count; i++)
			rows += p.w[i].rows;
		WITH_TYPE(type, launch_type<TYPE>(d, &p, count, f, rows));
	}
}

} // namespace CUDA_SPACE
