/* Norms, what becomes of a product's input, and what of its result, against their definitions in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static const size_t widths[] = { 1, 7, 15, 16, 17, 64, 100, 576, 1531 };

enum { WIDTHS = sizeof(widths) / sizeof(widths[0]), ROWS = 9, GAP = 4 };

/* The kinds of norm. */
struct kind {
	size_t parts;
	bool layer, shift, add;
};

static const struct kind kinds[] = {
	{ 1, false, false, false }, { 1, false, false, true }, { 3, false, false, false },
	{ 1, true, true, false },   { 1, true, false, false }, { 2, true, true, true },
};

enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* Rows are GAP floats further apart than their parts are long. y holds what is added to. */
static void norm(const struct backend *b, struct device *d, const struct kind *k, const float *x, size_t n,
		 size_t width, const float *w, float *y)
{
	const size_t stride = k->parts * width + GAP;
	float *from = kit_upload(b, d, x, n * stride), *weight = kit_upload(b, d, w, width);
	float *shift = kit_upload(b, d, w + width, width), *to = kit_upload(b, d, y, n * stride);
	struct norm op = { from,  to,	    n,	   k->parts, width, stride, weight, k->shift ? shift : NULL,
			   1e-5f, k->layer, k->add };

	b->norm(d, &op);
	kit_download(b, d, to, y, n * stride);
	op.y = from;
	b->norm(d, &op);
	kit_download(b, d, from, to = kit_floats(n * stride), n * stride);
	for (size_t i = 0; !k->add && i < n; i++) /* in place */
		kit_same_bits(to + i * stride, y + i * stride, k->parts * width);
	free(to);
	b->buffer_free(d, weight);
	b->buffer_free(d, shift);
}

static double norm_of(const struct kind *k, const float *x, size_t width, size_t at, const float *w)
{
	double mean = 0, squares = 0;

	for (size_t c = 0; k->layer && c < width; c++)
		mean += (double)x[c] / (double)width;
	for (size_t c = 0; c < width; c++)
		squares += ((double)x[c] - mean) * ((double)x[c] - mean);
	return ((double)x[at] - mean) / sqrt(squares / (double)width + 1e-5) * (double)w[at] +
	       (k->shift ? (double)w[width + at] : 0);
}

static void check_norm(const struct subject *s, struct device *d, const struct kind *k, size_t width)
{
	const size_t stride = k->parts * width + GAP;
	float *x = kit_floats(ROWS * stride), *w = kit_floats(2 * width), *y = kit_floats(ROWS * stride);
	float *was = kit_floats(ROWS * stride);
	struct kit_random r = { 3 + width };

	kit_numbers(&r, x, ROWS * stride);
	kit_numbers(&r, w, 2 * width);
	kit_numbers(&r, was, ROWS * stride);
	memset(x, 0, width * sizeof(*x));
	memcpy(y, was, ROWS * stride * sizeof(*y));
	norm(s->b, d, k, x, ROWS, width, w, y);
	for (size_t at = 0; at < ROWS * stride; at++) {
		const size_t c = at % stride;
		double want = (double)was[at];

		if (c < k->parts * width)
			want = norm_of(k, x + at - c % width, width, c % width, w) + (k->add ? want : 0);
		assert_true(fabs((double)y[at] - want) <= 1e-6 * (fabs(want) + (k->layer || k->add)));
	}
	free(x);
	free(w);
	free(y);
	free(was);
}

void norm_is_what_the_definition_says(void **state)
{
	const struct subject *s = *state;
	struct device *d = kit_open(s->b, 2, ROWS);

	for (size_t i = 0; i < WIDTHS * KINDS; i++)
		check_norm(s, d, &kinds[i % KINDS], widths[i / KINDS]);
	s->b->close(d);
}

/* A product's input with the unit matrix, which leaves it as it is. */
static void activate(const struct backend *b, struct device *d, enum input input, const float *x, size_t n,
		     size_t width, float *y)
{
	const size_t stride = input_is_gate(input) ? 2 * width : width;
	float *from = kit_upload(b, d, x, n * stride), *to = kit_upload(b, d, NULL, n * width);
	float *unit = kit_floats(width * width);
	const struct tensor t = { DTYPE_F32, width, width, unit };
	struct matmul op = { .weights = 1, .x = from, .n = n, .y = to, .y_stride = width, .input = input };
	struct weight *w = NULL;

	for (size_t i = 0; i < width; i++)
		unit[i * width + i] = 1;
	assert_int_equal(b->weight_new(d, &t, &w, NULL), 0);
	op.w = (const struct weight *const *)&w;
	b->matmul(d, &op);
	kit_download(b, d, to, y, n * width);
	b->buffer_free(d, from);
	b->weight_free(d, w);
	free(unit);
}

static double activated(enum input input, double g, double u)
{
	if (input == INPUT_GELU)
		return g * erfc(-g * sqrt(0.5)) / 2;
	if (input == INPUT_GATE_GELU)
		return g / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (g + 0.044715 * g * g * g))) * u;
	if (input == INPUT_GATE_CLAMPED) {
		g = fmin(g, 7);
		return g / (1 + exp(-1.702 * g)) * (fmax(-7, fmin(7, u)) + 1);
	}
	return g / (1 + exp(-g)) * u;
}

/*
 * How far off a result may be: a few units in the last place; of GELU as far as its number is, where a tail is a
 * difference of tanh and 1, and e^x of a product of floats.
 */
static double activation_slack(enum input input, double g, double u, double want)
{
	if (input == INPUT_GELU)
		return 8e-7 * fabs(want) + 2e-7 * fmin(1, fabs(g)) + 1.5e-36;
	if (input == INPUT_GATE_GELU)
		return 2e-6 * fabs(want) + 2e-7 * fmin(1, fabs(g)) * fabs(u) + 1.5e-36;
	return (input == INPUT_GATE_CLAMPED ? 2e-6 : 6e-7) * fabs(want) + 1.5e-36;
}

/* Also where e^-g is too large or too small for a float. */
static void check_activation(const struct subject *s, struct device *d, enum input input, size_t width)
{
	static const float edges[] = { 0, -0.0f, 1e-30f, -87, 87, -88.5f, 89, -104, -1000, 1000, -1e12f, 1e12f };
	const size_t stride = input_is_gate(input) ? 2 * width : width;
	float *x = kit_floats(ROWS * stride), *y = kit_floats(ROWS * width);
	struct kit_random r = { 4 };

	kit_numbers(&r, x, ROWS * stride);
	for (size_t i = 0; i < ROWS * stride; i++)
		x[i] *= 3;
	for (size_t c = 0; c < width && c < sizeof(edges) / sizeof(edges[0]); c++) {
		x[c] = edges[c];
		x[stride - width + c] = input_is_gate(input) ? 1 : edges[c];
	}
	activate(s->b, d, input, x, ROWS, width, y);
	for (size_t at = 0; at < ROWS * width; at++) {
		const float *in = x + at / width * stride + at % width;
		double g = (double)in[0], u = (double)in[stride - width], want = activated(input, g, u);

		/* Below -87 the answer is a zero: less than 1.5e-36 is lost. */
		if (!(fabs((double)y[at] - want) <= activation_slack(input, g, u, want)))
			fail_msg("input %d of %.9g and %.9g: %.9g, not %.9g", (int)input, g, u, (double)y[at], want);
	}
	free(x);
	free(y);
}

void activations_are_what_the_definition_says(void **state)
{
	const struct subject *s = *state;
	struct device *d = kit_open(s->b, 2, ROWS);

	for (size_t i = 0; i < WIDTHS; i++)
		for (enum input input = INPUT_GELU; input <= INPUT_GATE_CLAMPED; input++)
			check_activation(s, d, input, widths[i]);
	s->b->close(d);
}

/* Together, alone, by threads, and from backend to backend: the same bits. */
static void repeat_norm(const struct backend *b, struct device *d, const struct backend *first, struct device *plain,
			const struct kind *k)
{
	enum { WIDTH = 700, MANY = 40 };
	const size_t stride = k->parts * WIDTH + GAP;
	float *x = kit_floats(MANY * stride), *w = kit_floats(2 * WIDTH), *want = kit_floats(MANY * stride);
	float *got = kit_floats(MANY * stride);
	struct kit_random r = { 5 };

	kit_numbers(&r, x, MANY * stride);
	kit_numbers(&r, w, 2 * WIDTH);
	kit_numbers(&r, got, MANY * stride);
	memcpy(want, got, MANY * stride * sizeof(*want));
	norm(first, plain, k, x, MANY, WIDTH, w, want);
	norm(b, d, k, x + 3 * stride, 2, WIDTH, w, got + 3 * stride);
	kit_same_bits(got + 3 * stride, want + 3 * stride, 2 * stride);
	norm(b, d, k, x, 3, WIDTH, w, got);
	norm(b, d, k, x + 5 * stride, MANY - 5, WIDTH, w, got + 5 * stride);
	kit_same_bits(got, want, MANY * stride);
	free(x);
	free(w);
	free(want);
	free(got);
}

static void repeat_activation(const struct backend *b, struct device *d, const struct backend *first,
			      struct device *plain, enum input input)
{
	enum { WIDTH = 700, MANY = 40 };
	const size_t stride = input_is_gate(input) ? 2 * WIDTH : WIDTH;
	float *x = kit_floats(MANY * stride), *want = kit_floats(MANY * WIDTH), *got = kit_floats(MANY * WIDTH);
	struct kit_random r = { 6 };

	kit_numbers(&r, x, MANY * stride);
	activate(first, plain, input, x, MANY, WIDTH, want);
	activate(b, d, input, x, MANY, WIDTH, got);
	kit_same_bits(got, want, MANY * WIDTH);
	activate(b, d, input, x + 3 * stride, 2, WIDTH, got);
	kit_same_bits(got, want + 3 * WIDTH, 2 * WIDTH);
	free(x);
	free(want);
	free(got);
}

void row_operations_repeat(void **state)
{
	const struct subject *s = *state;
	const struct backend *first = twin_of(s->b);

	for (int threads = 1; threads < 4; threads++) {
		struct device *plain = kit_open_invariant(first, 1, 40, PRECISION_EXACT);
		struct device *d = kit_open_invariant(s->b, threads, 40, PRECISION_EXACT);

		for (size_t k = 0; k < KINDS; k++)
			repeat_norm(s->b, d, first, plain, &kinds[k]);
		for (enum input input = INPUT_GELU; input <= INPUT_GATE_CLAMPED; input++)
			repeat_activation(s->b, d, first, plain, input);
		first->close(plain);
		s->b->close(d);
	}
}

/* A product whose input is normed, or left as it is. */
struct prepared {
	const struct backend *b;
	struct device *d;
	struct tensor t;
	float *x, *w, *bias; /* the device's */
	size_t n;
};

static void multiply(const struct prepared *p, struct matmul op, float *y, size_t from)
{
	const size_t out = p->t.rows;
	float *to = kit_upload(p->b, p->d, y, p->n * out);
	struct weight *packed = NULL;

	assert_int_equal(p->b->weight_new(p->d, &p->t, &packed, NULL), 0);
	op.w = (const struct weight *const *)&packed;
	op.weights = 1;
	op.x = p->x + from * p->t.cols;
	op.y = to;
	op.y_stride = out;
	op.norm = p->w;
	op.eps = 1e-5f;
	p->b->matmul(p->d, &op);
	p->b->weight_free(p->d, packed);
	kit_download(p->b, p->d, to, y, p->n * out);
}

/*
 * The bits of a norm and a product one after the other, where the backend is a processor; elsewhere a sum has another
 * order, and a half another end.
 */
void input_is_prepared_on_the_way(void **state)
{
	enum { COLS = 96, MANY = 21, OUT = 33, STRIDE = COLS + GAP };
	static const enum dtype types[] = { DTYPE_F16, DTYPE_Q4_1, DTYPE_Q8_0 };
	const struct subject *s = *state;
	float *x = kit_floats(MANY * STRIDE), *w = kit_floats(2 * COLS), *y = kit_floats(MANY * STRIDE);
	struct kit_random r = { 9 };

	kit_numbers(&r, x, MANY * STRIDE);
	kit_numbers(&r, w, 2 * COLS);
	for (size_t i = 0; i < 6; i++) {
		const struct kind k = { 1, i >= 3, i >= 4, false };
		struct prepared p = {
			s->b, kit_open(s->b, 2, MANY), kit_tensor(&r, types[i % 3], OUT, COLS), NULL, NULL, NULL, MANY
		};
		float got[MANY * OUT] = { 0 }, want[MANY * OUT] = { 0 };
		float *shift = kit_upload(s->b, p.d, w + COLS, COLS);

		p.x = kit_upload(s->b, p.d, NULL, MANY * COLS);
		p.w = kit_upload(s->b, p.d, w, COLS);
		for (size_t row = 0; row < MANY; row++)
			s->b->write(p.d, p.x + row * COLS, x + row * STRIDE, COLS * sizeof(float));
		multiply(&p,
			 (struct matmul){ .n = MANY,
					  .input = k.layer ? INPUT_LAYER_NORM : INPUT_NORM,
					  .shift = k.shift ? shift : NULL },
			 got, 0);
		norm(s->b, p.d, &k, x, MANY, COLS, w, y);
		for (size_t row = 0; row < MANY; row++)
			s->b->write(p.d, p.x + row * COLS, y + row * STRIDE, COLS * sizeof(float));
		multiply(&p, (struct matmul){ .n = MANY }, want, 0);
		if (!s->b->apart)
			kit_same_bits(got, want, MANY * OUT);
		for (size_t at = 0; at < MANY * OUT; at++)
			assert_true(fabs((double)got[at] - (double)want[at]) < 5e-3);
		s->b->buffer_free(p.d, p.x);
		s->b->buffer_free(p.d, p.w);
		s->b->buffer_free(p.d, shift);
		s->b->close(p.d);
		free((void *)p.t.data);
	}
	free(x);
	free(w);
	free(y);
}

/* Biases and clipping: of the result as it is without, to an ulp; and the same bits in any company. */
void results_are_biased_and_clipped(void **state)
{
	enum { COLS = 64, MANY = 21, OUT = 37 };
	static const enum dtype types[] = { DTYPE_F32, DTYPE_Q8_0 };
	const struct subject *s = *state;
	struct kit_random r = { 10 };

	for (size_t i = 0; i < 8; i++) {
		const bool add = i & 1, clipped = i & 2;
		float x[MANY * COLS], bias[OUT], plain[MANY * OUT] = { 0 }, was[MANY * OUT], got[MANY * OUT];
		float few[MANY * OUT];
		struct prepared p = { s->b,
				      kit_open_invariant(s->b, 3, MANY, PRECISION_EXACT),
				      kit_tensor(&r, types[i / 4], OUT, COLS),
				      NULL,
				      NULL,
				      NULL,
				      MANY };
		struct matmul op = { .n = MANY, .add = add, .clip = clipped ? 1.5f : 0 };

		kit_numbers(&r, x, MANY * COLS);
		kit_numbers(&r, bias, OUT);
		kit_numbers(&r, was, MANY * OUT);
		memcpy(got, was, sizeof(got));
		memcpy(few, was, sizeof(few));
		p.x = kit_upload(s->b, p.d, x, MANY * COLS);
		op.bias = p.bias = kit_upload(s->b, p.d, bias, OUT);
		multiply(&p, (struct matmul){ .n = MANY }, plain, 0);
		multiply(&p, op, got, 0);
		for (size_t at = 0; at < MANY * OUT; at++) {
			double want = (double)plain[at] + (double)bias[at % OUT] + (add ? (double)was[at] : 0);

			want = clipped ? fmin(fmax(want, -1.5), 1.5) : want;
			assert_true(fabs((double)got[at] - want) <= 1e-5 * (1 + fabs((double)plain[at])));
		}
		op.n = 2;
		memcpy(few, was + 5 * OUT, 2 * OUT * sizeof(*few));
		multiply(&p, op, few, 5);
		kit_same_bits(few, got + 5 * OUT, 2 * OUT);
		s->b->buffer_free(p.d, p.x);
		s->b->buffer_free(p.d, p.bias);
		s->b->close(p.d);
		free((void *)p.t.data);
	}
}
