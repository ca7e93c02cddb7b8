/* Operations on rows against their definitions in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static const size_t widths[] = { 1, 7, 15, 16, 17, 64, 100, 576, 1531 };

enum { WIDTHS = sizeof(widths) / sizeof(widths[0]), ROWS = 9 };

static void norm(const struct backend *b, struct device *d, const float *x, size_t n, size_t width, const float *w,
		 float *y)
{
	float *from = kit_upload(b, d, x, n * width), *weight = kit_upload(b, d, w, width);
	float *to = kit_upload(b, d, NULL, n * width);

	b->norm(d, from, n, width, weight, 1e-5f, to);
	b->norm(d, from, n, width, weight, 1e-5f, from);
	kit_download(b, d, to, y, n * width);
	kit_download(b, d, from, to = kit_floats(n * width), n * width);
	kit_same_bits(to, y, n * width); /* in place */
	free(to);
	b->buffer_free(d, weight);
}

void norm_is_what_the_definition_says(void **state)
{
	const struct subject *s = *state;
	struct device *d = kit_open(s->b, 2, ROWS);
	struct kit_random r = { 3 };

	for (size_t i = 0; i < WIDTHS; i++) {
		size_t width = widths[i];
		float *x = kit_floats(ROWS * width), *w = kit_floats(width), *y = kit_floats(ROWS * width);

		kit_numbers(&r, x, ROWS * width);
		kit_numbers(&r, w, width);
		memset(x, 0, width * sizeof(*x));
		norm(s->b, d, x, ROWS, width, w, y);
		for (size_t row = 0; row < ROWS; row++) {
			const float *in = x + row * width;
			double squares = 0;

			for (size_t c = 0; c < width; c++)
				squares += (double)in[c] * (double)in[c];
			for (size_t c = 0; c < width; c++) {
				double want = (double)in[c] / sqrt(squares / (double)width + 1e-5) * (double)w[c];

				assert_true(fabs((double)y[row * width + c] - want) <= 1e-6 * fabs(want));
			}
		}
		free(x);
		free(w);
		free(y);
	}
	s->b->close(d);
}

/* A product's input with the unit matrix, which leaves it as it is. */
static void gate(const struct backend *b, struct device *d, const float *x, size_t n, size_t width, float *y)
{
	float *from = kit_upload(b, d, x, n * 2 * width), *to = kit_upload(b, d, NULL, n * width);
	float *unit = kit_floats(width * width);
	const struct tensor t = { DTYPE_F32, width, width, unit };
	struct matmul op = { .weights = 1, .x = from, .n = n, .y = to, .y_stride = width, .input = INPUT_GATE };
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

/* Also where e^-g is too large or too small for a float. */
void gate_is_what_the_definition_says(void **state)
{
	static const float edges[] = { 0, -0.0f, 1e-30f, -87, 87, -88.5f, 89, -104, -1000, 1000, -3e38f, 3e38f };
	const struct subject *s = *state;
	struct device *d = kit_open(s->b, 2, ROWS);
	struct kit_random r = { 4 };

	for (size_t i = 0; i < WIDTHS; i++) {
		size_t width = widths[i];
		float *x = kit_floats(ROWS * 2 * width), *y = kit_floats(ROWS * width);

		kit_numbers(&r, x, ROWS * 2 * width);
		for (size_t c = 0; c < width && c < sizeof(edges) / sizeof(edges[0]); c++) {
			x[c] = edges[c];
			x[width + c] = 1;
		}
		gate(s->b, d, x, ROWS, width, y);
		for (size_t at = 0; at < ROWS * width; at++) {
			const float *in = x + at / width * 2 * width + at % width;
			double g = (double)in[0], want = g / (1 + exp(-g)) * (double)in[width];

			/* Below -87 the answer is a zero: less than 1.5e-36 is lost. */
			assert_true(fabs((double)y[at] - want) <= 6e-7 * fabs(want) + 1.5e-36);
		}
		free(x);
		free(y);
	}
	s->b->close(d);
}

/* Together, alone, by threads, and from backend to backend: the same bits. */
void row_operations_repeat(void **state)
{
	enum { WIDTH = 700, MANY = 40 };
	const struct subject *s = *state;
	const struct backend *first = twin_of(s->b);
	float *x = kit_floats(MANY * 2 * WIDTH), *w = kit_floats(WIDTH), *want = kit_floats(MANY * WIDTH);
	float *got = kit_floats(MANY * WIDTH);
	struct kit_random r = { 5 };

	kit_numbers(&r, x, MANY * 2 * WIDTH);
	kit_numbers(&r, w, WIDTH);
	for (int threads = 1; threads < 4; threads++) {
		struct device *plain = kit_open_invariant(first, 1, MANY, PRECISION_EXACT);
		struct device *d = kit_open_invariant(s->b, threads, MANY, PRECISION_EXACT);

		norm(first, plain, x, MANY, WIDTH, w, want);
		norm(s->b, d, x, MANY, WIDTH, w, got);
		kit_same_bits(got, want, MANY * WIDTH);
		norm(s->b, d, x + 3 * WIDTH, 2, WIDTH, w, got);
		kit_same_bits(got, want + 3 * WIDTH, 2 * WIDTH);
		gate(first, plain, x, MANY, WIDTH, want);
		gate(s->b, d, x, MANY, WIDTH, got);
		kit_same_bits(got, want, MANY * WIDTH);
		gate(s->b, d, x + 3 * 2 * WIDTH, 2, WIDTH, got);
		kit_same_bits(got, want + 3 * WIDTH, 2 * WIDTH);
		first->close(plain);
		s->b->close(d);
	}
	free(x);
	free(w);
	free(want);
	free(got);
}

/* A norm before a product gives what norm() and then the product give, for weights of every kind; by a processor, bit
 * by bit. */
void input_is_prepared_on_the_way(void **state)
{
	enum { COLS = 96, MANY = 21, OUT = 33 };
	static const enum dtype types[] = { DTYPE_F16, DTYPE_Q4_1, DTYPE_Q8_0 };
	const struct subject *s = *state;
	float *x = kit_floats(MANY * COLS), *w = kit_floats(COLS), *y = kit_floats(MANY * COLS);
	struct kit_random r = { 9 };

	kit_numbers(&r, x, MANY * COLS);
	kit_numbers(&r, w, COLS);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct device *d = kit_open(s->b, 2, MANY);
		float *from = kit_upload(s->b, d, x, MANY * COLS), *weight = kit_upload(s->b, d, w, COLS);
		float *to = kit_upload(s->b, d, NULL, MANY * OUT), got[MANY * OUT], want[MANY * OUT];
		struct tensor t = kit_tensor(&r, types[i], OUT, COLS);
		struct matmul op = { .weights = 1, .x = from, .n = MANY, .y = to, .y_stride = OUT };
		struct weight *packed = NULL;

		assert_int_equal(s->b->weight_new(d, &t, &packed, NULL), 0);
		op.w = (const struct weight *const *)&packed;
		op.input = INPUT_NORM;
		op.norm = weight;
		op.eps = 1e-5f;
		s->b->matmul(d, &op);
		s->b->read(d, got, to, sizeof(got));
		norm(s->b, d, x, MANY, COLS, w, y);
		s->b->write(d, from, y, MANY * COLS * sizeof(*y));
		op.input = INPUT_PLAIN;
		s->b->matmul(d, &op);
		s->b->read(d, want, to, sizeof(want));
		if (!s->b->apart)
			kit_same_bits(got, want, MANY * OUT);
		for (size_t at = 0; at < MANY * OUT;
		     at++) /* elsewhere a sum has another order, and a half another end */
			assert_true(fabs((double)got[at] - (double)want[at]) < 5e-3);
		s->b->weight_free(d, packed);
		s->b->buffer_free(d, from);
		s->b->buffer_free(d, weight);
		s->b->buffer_free(d, to);
		s->b->close(d);
		free((void *)t.data);
	}
	free(x);
	free(w);
	free(y);
}

static void check_embed(const struct backend *b, struct device *d, enum dtype type)
{
	enum { COLS = 512 };
	static const int32_t tokens[] = { 35, 0, 16, 35 };
	struct kit_random r = { 6 };
	struct tensor t = kit_tensor(&r, type, 37, COLS);
	const struct dtype_info *info = dtype_find((uint32_t)type);
	float y[4 * COLS], want[COLS];
	float *to = kit_upload(b, d, NULL, 4 * COLS);
	struct weight *w = NULL;

	assert_int_equal(b->weight_new(d, &t, &w, NULL), 0);
	b->embed(d, w, tokens, 4, 1.5f, to);
	kit_download(b, d, to, y, 4 * COLS);
	for (size_t i = 0; i < 4; i++) {
		size_t row = (size_t)tokens[i] * (COLS / info->block * info->bytes);

		dtype_to_f32(type, (const uint8_t *)t.data + row, COLS, want);
		for (size_t c = 0; c < COLS; c++)
			assert_true(y[i * COLS + c] == want[c] * 1.5f);
	}
	b->weight_free(d, w);
	free((void *)t.data);
}

void copies_are_copies(void **state)
{
	static const enum dtype types[] = { DTYPE_F32,	DTYPE_F16,  DTYPE_BF16, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K,
					    DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0 };
	static const int32_t index[] = { 2, 2, 0 };
	const struct subject *s = *state;
	struct device *d = kit_open(s->b, 2, 4);
	float x[9], y[9], *from, *to;
	struct kit_random r = { 8 };
	char memory[64];

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		check_embed(s->b, d, types[i]);
	kit_numbers(&r, x, 9);
	from = kit_upload(s->b, d, x, 9);
	to = kit_upload(s->b, d, NULL, 9);
	assert_int_equal((uintptr_t)to % 64, 0);
	s->b->gather(d, from, 3, index, 3, to);
	kit_download(s->b, d, to, y, 9);
	for (size_t i = 0; i < 9; i++)
		assert_true(y[i] == x[3 * index[i / 3] + (int32_t)(i % 3)]);
	s->b->buffer_free(d, from);
	assert_int_equal(s->b->pages_attach(d, memory, sizeof(memory), NULL), 0);
	s->b->pages_detach(d);
	s->b->close(d);
}

/* At a hundred million a float's product is off by several turns. */
void angles_are_taken_in_double(void **state)
{
	enum { N = 40, ROTATED = 64 };
	const struct subject *s = *state;
	struct device *d = kit_open(s->b, 2, N);
	double inv_freq[ROTATED / 2];
	int64_t position[N];
	float y[N * ROTATED], *to = kit_upload(s->b, d, NULL, N * ROTATED);

	for (int k = 0; k < ROTATED / 2; k++)
		inv_freq[k] = pow(100000, -2.0 * k / ROTATED);
	for (int i = 0; i < N; i++)
		position[i] = i % 2 ? 100000000 + i : i;
	s->b->angles(d, position, N, inv_freq, ROTATED, to);
	kit_download(s->b, d, to, y, N * ROTATED);
	for (int i = 0; i < N; i++)
		for (int k = 0; k < ROTATED / 2; k++) {
			double at = (double)position[i] * inv_freq[k];

			assert_true(fabs((double)y[i * ROTATED + 2 * k] - cos(at)) < 1e-7);
			assert_true(fabs((double)y[i * ROTATED + 2 * k + 1] - sin(at)) < 1e-7);
		}
	s->b->close(d);
}

struct ranked {
	double logit;
	int32_t id;
};

static int by_rank(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->logit != y->logit)
		return x->logit > y->logit ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

/* One row sorted by hand. */
static void check_top(const float *x, size_t vocab, const struct top *top)
{
	struct ranked *all = test_calloc(vocab, sizeof(*all));
	double sum = 0;

	for (size_t i = 0; i < vocab; i++)
		all[i] = (struct ranked){ isnan(x[i]) ? -INFINITY : (double)x[i], (int32_t)i };
	qsort(all, vocab, sizeof(*all), by_rank);
	for (size_t i = 0; i < vocab; i++)
		sum += all[i].logit > -INFINITY ? exp(all[i].logit - all[0].logit) : 0;
	assert_int_equal(top->count, vocab < TOP_MOST ? vocab : TOP_MOST);
	assert_true((double)top->max == all[0].logit);
	for (int32_t i = 0; i < top->count; i++) {
		assert_int_equal(top->id[i], all[i].id);
		assert_true((double)top->logit[i] == all[i].logit);
	}
	assert_true(fabs(top->sum - sum) <= 1e-6 * sum);
	test_free(all);
}

/* Rows that differ in how many of their numbers are equal, and in what is no ordinary number. */
static void make_row(struct kit_random *r, size_t kind, float *x, size_t vocab)
{
	kit_numbers(r, x, vocab);
	for (size_t i = 0; i < vocab; i++) {
		const uint32_t lot = kit_below(r, 64);

		if (kind == 1) /* few different ones, zeros of both signs among them */
			x[i] = truncf(x[i]) * 3;
		else if (kind == 2) /* all equal */
			x[i] = -2.5f;
		else if (kind == 3) /* most are impossible */
			x[i] = lot ? -INFINITY : x[i];
		else if (kind == 4)
			x[i] = lot == 0 ? NAN : lot == 1 ? -INFINITY : lot == 2 ? -3e38f : x[i] * 9;
		else if (kind == 5) /* rising: each part of the row beats those before it */
			x[i] = (float)i / 1000;
		else if (kind == 6)
			x[i] = -INFINITY;
	}
}

void the_largest_are_what_sorting_finds(void **state)
{
	enum { KINDS = 7, MANY = 70 };
	static const size_t vocabs[] = { 1, 2, 63, 64, 65, 1000, 2049, 4100, 32000, 49153, 270001 };
	const struct subject *s = *state;
	const size_t floats = MANY * sizeof(struct top) / sizeof(float);
	struct device *d = kit_open(s->b, 2, MANY);
	struct kit_random r = { 12 };
	struct top top[MANY];

	for (size_t v = 0; v < sizeof(vocabs) / sizeof(vocabs[0]); v++) {
		const size_t vocab = vocabs[v], rows = vocab > 5000 ? 2 : vocab == 65 ? MANY : KINDS;
		float *x = kit_floats(rows * vocab), *from, *to = kit_upload(s->b, d, NULL, floats);

		for (size_t i = 0; i < rows; i++)
			make_row(&r, (v + i) % KINDS, x + i * vocab, vocab);
		from = kit_upload(s->b, d, x, rows * vocab);
		s->b->top(d, from, rows, vocab, (struct top *)(void *)to);
		s->b->read(d, top, to, rows * sizeof(*top));
		for (size_t i = 0; i < rows; i++)
			check_top(x + i * vocab, vocab, &top[i]);
		s->b->buffer_free(d, from);
		s->b->buffer_free(d, to);
		free(x);
	}
	s->b->close(d);
}
