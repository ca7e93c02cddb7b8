/* Experts against their definition in double, and their bits in other company. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { COLS = 64, FF = 96, EXPERTS = 7, USED = 3, MANY = 70 };

/* The weights in F32 as the definition reads them, and what a backend makes of them. */
struct mixture {
	struct tensor router, gate[EXPERTS], up[EXPERTS], down[EXPERTS];
	float router_bias[EXPERTS], bias[EXPERTS * 2 * FF], down_bias[EXPERTS * COLS], norm[COLS];
	float x[MANY * COLS], y[MANY * COLS];
};

static void make_mixture(struct kit_random *r, enum dtype type, struct mixture *m)
{
	m->router = kit_tensor(r, DTYPE_F32, EXPERTS, COLS);
	for (size_t i = 0; i < EXPERTS; i++) {
		m->gate[i] = kit_tensor(r, type, FF, COLS);
		m->up[i] = kit_tensor(r, type, FF, COLS);
		m->down[i] = kit_tensor(r, type, COLS, FF);
	}
	kit_numbers(r, m->router_bias, EXPERTS);
	kit_numbers(r, m->bias, EXPERTS * 2 * FF);
	kit_numbers(r, m->down_bias, EXPERTS * COLS);
	kit_numbers(r, m->norm, COLS);
	kit_numbers(r, m->x, MANY * COLS);
	kit_numbers(r, m->y, MANY * COLS);
}

static void free_mixture(struct mixture *m)
{
	free((void *)m->router.data);
	for (size_t i = 0; i < EXPERTS; i++) {
		free((void *)m->gate[i].data);
		free((void *)m->up[i].data);
		free((void *)m->down[i].data);
	}
}

static struct weight *pack(const struct backend *b, struct device *d, const struct tensor *t)
{
	struct weight *w = NULL;

	assert_int_equal(b->weight_new(d, t, &w, NULL), 0);
	return w;
}

/* Rows first .. first + n - 1; y[n][COLS]. */
static void run(const struct backend *b, struct device *d, const struct mixture *m, bool biases, size_t first, size_t n,
		float *y)
{
	struct weight *router = pack(b, d, &m->router), *gate[EXPERTS], *up[EXPERTS], *down[EXPERTS];
	float *buffer[] = { kit_upload(b, d, m->router_bias, EXPERTS),
			    kit_upload(b, d, m->bias, EXPERTS * 2 * FF),
			    kit_upload(b, d, m->down_bias, EXPERTS * COLS),
			    kit_upload(b, d, m->norm, COLS),
			    kit_upload(b, d, m->x + first * COLS, n * COLS),
			    kit_upload(b, d, NULL, n * experts_work(EXPERTS, USED, COLS, FF)) };
	float *to = kit_upload(b, d, m->y + first * COLS, n * COLS);
	struct experts op = { .router = router,
			      .gate = (const struct weight *const *)gate,
			      .up = (const struct weight *const *)up,
			      .down = (const struct weight *const *)down,
			      .router_bias = biases ? buffer[0] : NULL,
			      .bias = biases ? buffer[1] : NULL,
			      .down_bias = biases ? buffer[2] : NULL,
			      .used = USED,
			      .activation = biases ? INPUT_GATE_CLAMPED : INPUT_GATE,
			      .x = buffer[4],
			      .n = n,
			      .norm = buffer[3],
			      .eps = 1e-5f,
			      .y = to,
			      .work = buffer[5] };

	for (size_t i = 0; i < EXPERTS; i++) {
		gate[i] = pack(b, d, &m->gate[i]);
		up[i] = pack(b, d, &m->up[i]);
		down[i] = pack(b, d, &m->down[i]);
	}
	b->experts(d, &op);
	kit_download(b, d, to, y, n * COLS);
	b->weight_free(d, router);
	for (size_t i = 0; i < EXPERTS; i++) {
		b->weight_free(d, gate[i]);
		b->weight_free(d, up[i]);
		b->weight_free(d, down[i]);
	}
	for (size_t i = 0; i < sizeof(buffer) / sizeof(buffer[0]); i++)
		b->buffer_free(d, buffer[i]);
}

static double dot(const struct tensor *t, size_t row, const double *x)
{
	const struct dtype_info *info = dtype_find((uint32_t)t->type);
	float w[FF];
	double sum = 0;

	dtype_to_f32(t->type, (const uint8_t *)t->data + row * (t->cols / info->block) * info->bytes, t->cols, w);
	for (size_t c = 0; c < t->cols; c++)
		sum += (double)w[c] * x[c];
	return sum;
}

static void add_expert(const struct mixture *m, bool biases, size_t e, double share, const double *h, double *y)
{
	double a[FF];

	for (size_t i = 0; i < FF; i++) {
		double g = dot(&m->gate[e], i, h) + (biases ? (double)m->bias[e * 2 * FF + i] : 0);
		double u = dot(&m->up[e], i, h) + (biases ? (double)m->bias[e * 2 * FF + FF + i] : 0);

		if (biases) {
			g = fmin(g, 7);
			a[i] = g / (1 + exp(-1.702 * g)) * (fmin(fmax(u, -7), 7) + 1);
		} else {
			a[i] = g / (1 + exp(-g)) * u;
		}
	}
	for (size_t c = 0; c < COLS; c++)
		y[c] += share * (dot(&m->down[e], c, a) + (biases ? (double)m->down_bias[e * COLS + c] : 0));
}

/* Returns how large the numbers are that were added up. */
static double by_definition(const struct mixture *m, bool biases, size_t row, double *y)
{
	const float *x = m->x + row * COLS;
	double h[COLS], logit[EXPERTS], squares = 0, sum = 0, largest = 0;
	bool taken[EXPERTS] = { false };

	for (size_t c = 0; c < COLS; c++)
		squares += (double)x[c] * (double)x[c];
	for (size_t c = 0; c < COLS; c++) {
		h[c] = (double)x[c] / sqrt(squares / COLS + 1e-5) * (double)m->norm[c];
		y[c] = (double)m->y[row * COLS + c];
	}
	for (size_t e = 0; e < EXPERTS; e++)
		logit[e] = dot(&m->router, e, h) + (biases ? (double)m->router_bias[e] : 0);
	for (size_t u = 0; u < USED; u++) {
		size_t best = EXPERTS;

		for (size_t e = 0; e < EXPERTS; e++)
			best = !taken[e] && (best == EXPERTS || logit[e] > logit[best]) ? e : best;
		taken[best] = true;
		sum += exp(logit[best]);
	}
	for (size_t e = 0; e < EXPERTS; e++)
		if (taken[e])
			add_expert(m, biases, e, exp(logit[e]) / sum, h, y);
	for (size_t c = 0; c < COLS; c++)
		largest = fmax(largest, fabs(y[c]));
	return largest;
}

void experts_are_what_the_definition_says(void **state)
{
	static const enum dtype types[] = { DTYPE_F16, DTYPE_Q8_0, DTYPE_MXFP4 };
	const struct subject *s = *state;
	struct mixture *m = test_malloc(sizeof(*m));
	float *y = kit_floats(MANY * COLS);

	for (size_t i = 0; i < 6; i++) {
		struct device *d = kit_open(s->b, 2, MANY);
		struct kit_random r = { 50 + i };
		const size_t n = i % 2 ? MANY : 3;

		make_mixture(&r, types[i / 2], m);
		run(s->b, d, m, i % 3 > 0, 0, n, y);
		for (size_t row = 0; row < n; row++) {
			double want[COLS], largest = by_definition(m, i % 3 > 0, row, want);

			for (size_t c = 0; c < COLS; c++)
				if (!(fabs((double)y[row * COLS + c] - want[c]) <= 2e-3 * largest))
					fail_msg("row %zu, column %zu: %.9g, not %.9g", row, c,
						 (double)y[row * COLS + c], want[c]);
		}
		free_mixture(m);
		s->b->close(d);
	}
	test_free(m);
	free(y);
}

/* Of a row in any company, by any number of threads and instruction set. */
void experts_repeat(void **state)
{
	const struct subject *s = *state;
	const struct backend *first = twin_of(s->b);
	struct mixture *m = test_malloc(sizeof(*m));
	float *want = kit_floats(MANY * COLS), *got = kit_floats(MANY * COLS);
	struct kit_random r = { 60 };

	make_mixture(&r, DTYPE_MXFP4, m);
	for (int threads = 0; threads < 3; threads++) {
		const struct backend *b = threads ? s->b : first;
		struct device *d = kit_open_invariant(b, threads ? threads : 1, MANY, PRECISION_EXACT);

		run(b, d, m, true, 0, MANY, threads ? got : want);
		if (threads)
			kit_same_bits(got, want, MANY * COLS);
		for (size_t i = 0; threads && i < MANY; i += 17) {
			run(b, d, m, true, i, 2, got);
			kit_same_bits(got, want + i * COLS, 2 * COLS);
		}
		b->close(d);
	}
	free_mixture(m);
	test_free(m);
	free(want);
	free(got);
}
