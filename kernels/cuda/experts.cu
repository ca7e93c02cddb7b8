/*
 * Owns experts: which of them a row takes, and the products of just those. The host never learns which: weights are
 * found by number, from a list in the card's memory. A row and one of its experts are a column of the grid, whose warps
 * share out the rows of the matrix as in few.cu, with the same order of a sum. The rows of a prompt do not share the
 * reading of weights, so prompts are as slow as their rows one by one.
 */
#include <stdlib.h>

#include "units.h"

enum { CHOOSERS = WARP, AT_ONCE = 64 };

namespace CUDA_SPACE
{

/* A warp a row: the largest logits, of equals the lowest number, and their softmax. */
static __global__ void __launch_bounds__(CHOOSERS)
	choose_kernel(const float *logits, int experts, int used, float *share, int32_t *chosen)
{
	const float *const x = logits + size_t{ blockIdx.x } * experts;
	float *const to = share + size_t{ blockIdx.x } * used;
	int32_t *const id = chosen + size_t{ blockIdx.x } * used;
	const int lane = static_cast<int>(threadIdx.x);
	float before = INFINITY, first = 0, sum = 0;
	int last = -1;

	grid_wait();
	grid_go();
	for (int u = 0; u < used; u++) {
		float most = -INFINITY;
		int at = experts;

		for (int i = lane; i < experts; i += CHOOSERS)
			if ((x[i] < before || (x[i] == before && i > last)) && (at == experts || x[i] > most)) {
				most = x[i];
				at = i;
			}
		for (int mask = CHOOSERS / 2; mask; mask /= 2) {
			const float other = __shfl_xor_sync(~0u, most, mask);
			const int its = __shfl_xor_sync(~0u, at, mask);

			if (its < experts && (at == experts || other > most || (other == most && its < at))) {
				most = other;
				at = its;
			}
		}
		before = most;
		last = at;
		first = u ? first : most;
		sum += expf(most - first);
		if (lane == 0) {
			to[u] = expf(most - first);
			id[u] = at < experts ? at : 0;
		}
	}
	if (lane == 0)
		for (int u = 0; u < used; u++)
			to[u] /= sum;
}

/* Products of one kind of matrix with rows, each with those of its experts. */
struct choosing {
	const matrix *m; /* [experts], in the card's memory */
	const int32_t *chosen;
	int used, units, rows;
	const uint8_t *x;
	size_t x_stride;
	bool each; /* x has a row for each expert of a row, else one for all of them */
	const float *bias;
	size_t bias_stride; /* from expert to expert */
	float *y;
	size_t y_stride; /* y is [n][used][y_stride] */
};

/* Grid: (blocks of warps, used, rows). */
template <enum dtype T, enum form F>
static __global__ void __launch_bounds__(PREPARE_THREADS) chosen_kernel(const choosing c)
{
	const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
	const int stride = static_cast<int>(gridDim.x) * PREPARE_WARPS;
	const size_t place = size_t{ blockIdx.z } * c.used + blockIdx.y;

	grid_go();
	grid_wait();

	const int32_t expert = c.chosen[place];
	const matrix m = c.m[expert];
	const uint8_t *x = c.x + (c.each ? place : blockIdx.z) * c.x_stride;

	for (int row = static_cast<int>(blockIdx.x) * PREPARE_WARPS + warp; row < c.rows; row += stride) {
		float sum[1] = {};

		for (int u = lane; u < c.units; u += WARP) {
			unit loaded;
			opened<T> w;
			input<F> in;

			load_unit<T>(m, static_cast<uint32_t>(row) * c.units, static_cast<uint32_t>(u),
				     static_cast<uint32_t>(c.units), loaded);
			open_unit<T>(loaded, w);
			load_input<F>(x, u, c.units, in);
			sum[0] = add_unit<T, F>(w, in, sum[0]);
		}
		sum[0] = add_up<1>(sum, lane);
		if (lane == 0)
			c.y[place * c.y_stride + row] =
				sum[0] + (c.bias ? c.bias[static_cast<size_t>(expert) * c.bias_stride + row] : 0);
	}
}

/* y += the experts' results by their shares, in the order of their ranks. */
static __global__ void __launch_bounds__(PREPARE_THREADS)
	share_kernel(const float *result, const float *share, int used, size_t cols, float *y)
{
	const size_t c = size_t{ blockIdx.x } * PREPARE_THREADS + threadIdx.x, row = blockIdx.y;

	grid_wait();
	grid_go();
	if (c >= cols)
		return;

	float sum = y[row * cols + c];

	for (int u = 0; u < used; u++)
		sum = fmaf(share[row * used + u], result[(row * used + u) * cols + c], sum);
	y[row * cols + c] = sum;
}

template <enum dtype T> static void launch_chosen(struct device *d, const choosing &c, enum form f, size_t n)
{
	const int blocks = (c.rows + PREPARE_WARPS - 1) / PREPARE_WARPS;
	const dim3 grid(static_cast<unsigned>(blocks < d->sms ? blocks : d->sms), static_cast<unsigned>(c.used),
			static_cast<unsigned>(n));

	if constexpr (!form_of<T>::blocked)
		ok(d, LAUNCH((chosen_kernel<T, FORM_FLOATS>), grid, PREPARE_THREADS, 0, d->stream, c), "experts");
	else if constexpr (form_of<T>::super)
		ok(d, LAUNCH((chosen_kernel<T, FORM_WORDS>), grid, PREPARE_THREADS, 0, d->stream, c), "experts");
	else if (f == FORM_WORDS)
		ok(d, LAUNCH((chosen_kernel<T, FORM_WORDS>), grid, PREPARE_THREADS, 0, d->stream, c), "experts");
	else
		ok(d, LAUNCH((chosen_kernel<T, FORM_BYTES>), grid, PREPARE_THREADS, 0, d->stream, c), "experts");
}

/* The experts' matrices of a kind; they are of one type and shape. */
static const matrix *list_of(struct device *d, const struct weight *const *w, size_t experts)
{
	matrix *list = static_cast<matrix *>(calloc(experts, sizeof(*list)));
	const void *there;

	if (!list) {
		ok(d, cudaErrorMemoryAllocation, "a list of experts");
		return NULL;
	}
	for (size_t i = 0; i < experts; i++)
		list[i] = matrix_of(w[i]);
	there = staged(d, list, experts * sizeof(*list));
	free(list);
	return static_cast<const matrix *>(there);
}

static void multiply_chosen(struct device *d, const struct matmul *in, const struct weight *const *w, size_t experts,
			    choosing c, size_t n)
{
	const enum form f = few_form(d, w[0]->type);

	c.m = list_of(d, w, experts);
	c.rows = static_cast<int>(w[0]->rows);
	c.units = units_of(f, w[0]->cols);
	c.x = prepare_input(d, in, f);
	c.x_stride = form_bytes(f, w[0]->cols);
	if (c.m && c.x)
		WITH_TYPE(w[0]->type, launch_chosen<TYPE>(d, c, f, n));
}

/* Where the parts of `work` begin. */
struct parts {
	float *logits, *share, *pair, *result;
	int32_t *chosen;
};

static void run_some(struct device *d, const struct experts *op, size_t first, size_t n, const struct parts &p)
{
	const size_t cols = op->router->cols, experts = op->router->rows, ff = op->down[0]->cols;
	struct matmul in = {}, out = {};
	choosing c = {};

	c.used = static_cast<int>(op->used);
	c.chosen = p.chosen + first * op->used;
	in.w = op->gate;
	in.weights = 1;
	in.x = op->x + first * cols;
	in.n = n;
	in.input = INPUT_NORM;
	in.norm = op->norm;
	in.eps = op->eps;
	c.y_stride = 2 * ff;
	c.bias_stride = 2 * ff;
	c.y = p.pair;
	c.bias = op->bias;
	multiply_chosen(d, &in, op->gate, experts, c, n);
	c.y = p.pair + ff;
	c.bias = op->bias ? op->bias + ff : NULL;
	multiply_chosen(d, &in, op->up, experts, c, n);
	out.w = op->down;
	out.weights = 1;
	out.x = p.pair;
	out.n = n * op->used;
	out.input = op->activation;
	c.each = true;
	c.y_stride = c.bias_stride = cols;
	c.y = p.result;
	c.bias = op->down_bias;
	multiply_chosen(d, &out, op->down, experts, c, n);
	ok(d,
	   LAUNCH((share_kernel),
		  dim3(static_cast<unsigned>((cols + PREPARE_THREADS - 1) / PREPARE_THREADS), static_cast<unsigned>(n)),
		  PREPARE_THREADS, 0, d->stream, p.result, p.share + first * op->used, c.used, cols,
		  op->y + first * cols),
	   "experts");
}

void experts(struct device *d, const struct experts *op)
{
	const size_t cols = op->router->cols, experts = op->router->rows, ff = op->down[0]->cols;
	const size_t some = op->n < AT_ONCE ? op->n : size_t{ AT_ONCE };
	struct matmul route = {};
	struct parts p;

	if (!op->n)
		return;
	p.logits = op->work;
	p.share = p.logits + op->n * experts;
	p.chosen = reinterpret_cast<int32_t *>(p.share + op->n * op->used);
	p.pair = static_cast<float *>(scratch(d, SCRATCH_EXPERTS, some * op->used * (2 * ff + cols) * sizeof(float)));
	p.result = p.pair + some * op->used * 2 * ff;
	route.w = &op->router;
	route.weights = 1;
	route.x = op->x;
	route.n = op->n;
	route.y = p.logits;
	route.y_stride = experts;
	route.input = INPUT_NORM;
	route.norm = op->norm;
	route.eps = op->eps;
	route.bias = op->router_bias;
	matmul(d, &route);
	if (d->failed.code)
		return;
	ok(d,
	   LAUNCH((choose_kernel), static_cast<unsigned>(op->n), CHOOSERS, 0, d->stream, p.logits,
		  static_cast<int>(experts), static_cast<int>(op->used), p.share, p.chosen),
	   "experts");
	for (size_t i = 0; i < op->n && !d->failed.code; i += some)
		run_some(d, op, i, op->n - i < some ? op->n - i : some, p);
}

} // namespace CUDA_SPACE
