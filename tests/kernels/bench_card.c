/*
 * Times products of every element type on a card, which works while the host goes on: what is timed is a burst of
 * calls with many weights, more of them than its cache holds, and one number read at the end. Bursts of up to 64 rows
 * go as one graph, as steps do, so that no call's start by the host is in the time. The shapes are those of
 * SmolLM2-135M and of a model of 7B. See kit.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kit.h"

enum { ROWS_MOST = 2048, ROWS_GRAPH = 64, COPIES = 512, COPIES_LEAST = 4, REPEATS = 9 };

/* Of all copies of a weight together. */
static const size_t cold = (size_t)192 << 20;

static const enum dtype types[] = { DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_Q4_K,
				    DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_F16,	DTYPE_BF16, DTYPE_F32 };
static const size_t rows_of[] = { 1, 2, 4, 8, 16, 64, 512, ROWS_MOST };

enum { TYPES = sizeof(types) / sizeof(types[0]), COUNTS = sizeof(rows_of) / sizeof(rows_of[0]) };

static const struct shape {
	size_t rows, cols;
	enum input input;
	size_t most; /* rows of activations */
} shapes[] = {
	{ 576, 576, INPUT_PLAIN, ROWS_MOST },	{ 960, 576, INPUT_NORM, ROWS_MOST },
	{ 3072, 576, INPUT_NORM, ROWS_MOST },	{ 576, 1536, INPUT_GATE, ROWS_MOST },
	{ 49152, 576, INPUT_PLAIN, 64 },	{ 4096, 4096, INPUT_PLAIN, ROWS_MOST },
	{ 12288, 4096, INPUT_NORM, ROWS_MOST }, { 22016, 4096, INPUT_NORM, ROWS_MOST },
	{ 4096, 11008, INPUT_GATE, ROWS_MOST }, { 32000, 4096, INPUT_PLAIN, 64 },
};

enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

struct burst {
	const struct backend *b;
	struct device *d;
	const struct shape *shape;
	struct weight *copy[COPIES];
	size_t copies;
	float *x, *y, *norm;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A large matrix of few random rows, over and over. */
static struct tensor repeated(enum dtype type, size_t rows, size_t cols)
{
	struct kit_random r = { rows };
	struct tensor t = kit_tensor(&r, type, 64, cols);
	const struct dtype_info *info = dtype_find((uint32_t)type);
	const size_t row_bytes = cols / info->block * info->bytes;
	uint8_t *data = malloc(rows * row_bytes);

	for (size_t i = 0; data && i < rows; i += 64)
		memcpy(data + i * row_bytes, t.data, (rows - i < 64 ? rows - i : 64) * row_bytes);
	free((void *)t.data);
	return (struct tensor){ type, rows, cols, data };
}

static void multiply(const struct burst *m, size_t n)
{
	struct matmul op = { .weights = 1,
			     .x = m->x,
			     .n = n,
			     .y = m->y,
			     .y_stride = m->shape->rows,
			     .input = m->shape->input,
			     .norm = m->norm,
			     .eps = 1e-5f };

	for (size_t i = 0; i < m->copies; i++) {
		op.w = (const struct weight *const *)&m->copy[i];
		m->b->matmul(m->d, &op);
	}
}

/* The best time of a call. */
static double seconds_of(const struct burst *m, size_t n)
{
	static const struct page_table tables[RUNS];
	static struct row rows[ROWS_GRAPH];
	static int32_t token[ROWS_GRAPH];
	static int64_t at[ROWS_GRAPH * RUNS];
	const struct step step = { n, 0, rows, NULL, token, at, at, token };
	double best = 0;
	float y;

	for (size_t i = 0; i < ROWS_GRAPH; i++)
		rows[i] = (struct row){ .tables = tables, .goes = { { -1, 0 }, { -1, 0 } } };
	for (int i = -3; i < REPEATS; i++) {
		size_t go = n, wanted = 0;
		double start = now();

		if (n <= ROWS_GRAPH)
			m->b->begin(m->d, &step, &go, &wanted);
		if (go)
			multiply(m, n);
		if (n <= ROWS_GRAPH && m->b->end(m->d, NULL) != 0)
			return 0;
		m->b->read(m->d, &y, m->y, sizeof(y));
		if (i >= 0 && (best == 0 || now() - start < best))
			best = now() - start;
	}
	return best / (double)m->copies;
}

static void print_line(const struct shape *s, enum dtype type, size_t n, double seconds)
{
	const struct dtype_info *info = dtype_find((uint32_t)type);
	const double elements = (double)s->rows * (double)s->cols;

	printf("| %s | %zux%zu | %zu | %.1f | %.0f | %.1f |\n", info->name, s->rows, s->cols, n, seconds * 1e6,
	       elements / (double)info->block * (double)info->bytes / seconds * 1e-9,
	       2 * elements * (double)n / seconds * 1e-12);
	fflush(stdout);
}

/* A device for each, since it has a graph for each number of rows. */
static bool bench_shape(const struct backend *b, const struct device_options *o, const struct shape *s, enum dtype type)
{
	const struct dtype_info *info = dtype_find((uint32_t)type);
	const size_t bytes = s->rows * s->cols / info->block * info->bytes, floats = 2 * s->most * s->cols;
	size_t copies = cold / bytes + 1 < COPIES ? cold / bytes + 1 : COPIES;
	struct burst *m = calloc(1, sizeof(*m));
	struct tensor t = repeated(type, s->rows, s->cols);
	struct kit_random r = { 1 };
	float *x = kit_floats(floats);
	bool well;

	kit_numbers(&r, x, floats);
	*m = (struct burst){ .b = b, .shape = s };
	copies = copies < COPIES_LEAST ? COPIES_LEAST : copies;
	well = t.data && b->open(o, &m->d, NULL) == 0 && b->buffer_new(m->d, floats, &m->x, NULL) == 0 &&
	       b->buffer_new(m->d, s->most * s->rows, &m->y, NULL) == 0 &&
	       b->buffer_new(m->d, s->cols, &m->norm, NULL) == 0;
	while (well && m->copies < copies && (well = b->weight_new(m->d, &t, &m->copy[m->copies], NULL) == 0))
		m->copies++;
	if (well) {
		b->write(m->d, m->x, x, floats * sizeof(*x));
		b->write(m->d, m->norm, x, s->cols * sizeof(*x));
	}
	for (size_t i = 0; well && i < COUNTS && rows_of[i] <= s->most; i++)
		print_line(s, type, rows_of[i], seconds_of(m, rows_of[i]));
	for (size_t i = 0; i < m->copies; i++)
		b->weight_free(m->d, m->copy[i]);
	if (m->d) {
		b->buffer_free(m->d, m->x);
		b->buffer_free(m->d, m->y);
		b->buffer_free(m->d, m->norm);
	}
	b->close(m->d);
	free(m);
	free(x);
	free((void *)t.data);
	return well;
}

int kit_bench_card(const struct backend *b, const char *only, enum precision precision)
{
	const struct device_options o = {
		.threads = 1, .max_rows = ROWS_MOST, .max_logits = 1, .precision = precision
	};

	printf("%s, %s\n\n| type | shape | rows | us | GB/s | TFLOP/s |\n|---|---|---|---|---|---|\n", b->name,
	       precision_name(precision));
	for (size_t i = 0; i < TYPES; i++)
		for (size_t j = 0; j < SHAPES; j++) {
			const struct dtype_info *info = dtype_find((uint32_t)types[i]);

			if ((only && strcmp(only, info->name) != 0) || shapes[j].cols % info->block)
				continue;
			if (!bench_shape(b, &o, &shapes[j], types[i])) {
				printf("%s fails\n", info->name);
				return 1;
			}
		}
	return 0;
}
