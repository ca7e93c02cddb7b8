/* Copies, angles and the largest logits against their definitions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

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
					    DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_MXFP4 };
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
	double inv_freq[2][ROTATED / 2];
	int64_t position[N];
	float y[N * ROTATED], *to = kit_upload(s->b, d, NULL, N * ROTATED);

	for (int k = 0; k < ROTATED / 2; k++)
		inv_freq[1][k] = (inv_freq[0][k] = pow(100000, -2.0 * k / ROTATED)) / (1 + k);
	for (int i = 0; i < N; i++)
		position[i] = i % 2 ? 100000000 + i : i;
	for (int i = 0; i < N; i += 3) /* of the second set */
		position[i] = ~position[i];
	s->b->angles(d, position, N, inv_freq[0], 2, ROTATED, 1.25, to);
	kit_download(s->b, d, to, y, N * ROTATED);
	for (int i = 0; i < N; i++)
		for (int k = 0; k < ROTATED / 2; k++) {
			double at =
				i % 3 ? (double)position[i] * inv_freq[0][k] : (double)~position[i] * inv_freq[1][k];

			assert_true(fabs((double)y[i * ROTATED + 2 * k] - 1.25 * cos(at)) < 1e-7);
			assert_true(fabs((double)y[i * ROTATED + 2 * k + 1] - 1.25 * sin(at)) < 1e-7);
		}
	/* Of one set, that ends where its memory does: rows that see nothing have positions below 0 too. */
	to = kit_upload(s->b, d, NULL, N * ROTATED);
	s->b->angles(d, position, N, inv_freq[1], 1, ROTATED, 1, to);
	kit_download(s->b, d, to, y, N * ROTATED);
	for (int i = 0; i < N; i++) {
		double at = (double)(position[i] < 0 ? ~position[i] : position[i]) * inv_freq[1][1];

		assert_true(fabs((double)y[i * ROTATED + 2] - cos(at)) < 1e-7);
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
