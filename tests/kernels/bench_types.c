/*
 * Times products of every element type: one row of activations against weights that come from memory, and 512 rows, as
 * a prompt has them. The shapes are those of a model of 270M (640 wide, inner width 2048, a vocabulary of 262,144) and
 * of one of 7B. Beside them stands what the same threads read when they do nothing else. See kit.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu.h"
#include "kit.h"

/* Copies of a weight have COLD bytes together, several times the last cache; a call is timed alone, the best counts. */
enum { MANY = 512, COPIES = 512, COLD = 256 << 20, READ_PIECE = 256 << 10, WIDEST = 4096 };

static const enum dtype types[] = { DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_Q4_K,
				    DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_F16,	DTYPE_BF16, DTYPE_F32 };

static const struct shape {
	size_t rows, cols, n;
} shapes[] = {
	{ 640, 2048, 1 },   { 4096, 640, 1 },	 { 262144, 640, 1 },  { 4096, 4096, 1 },
	{ 11008, 4096, 1 }, { 640, 2048, MANY }, { 4096, 640, MANY }, { 4096, 4096, MANY },
};

struct bench {
	const struct backend *b;
	struct device *d;
	float *x, *y;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct reading {
	const uint64_t *from;
	uint64_t sum[64]; /* one a thread; what is read must be used */
};

static void read_piece(void *arg, size_t piece, int worker)
{
	struct reading *r = arg;
	const uint64_t *p = r->from + piece * READ_PIECE / sizeof(*p);
	uint64_t a = 0, b = 0, c = 0, d = 0;

	for (size_t i = 0; i < READ_PIECE / sizeof(*p); i += 4) {
		a += p[i];
		b += p[i + 1];
		c += p[i + 2];
		d += p[i + 3];
	}
	r->sum[worker % 64] += a + b + c + d;
}

/* The best of many stretches of 16 MiB, in bytes a second. */
static double reading_speed(int threads)
{
	enum { STRETCH = 16 << 20 };
	struct reading r = { .from = cpu_map(COLD) };
	struct pool *pool = NULL;
	double best = 1e9;

	if (!r.from || pool_new(threads, false, &pool, NULL) != 0)
		return 0;
	memset((void *)r.from, 1, COLD);
	for (size_t i = 0; i < 200; i++) {
		struct reading part = { .from = r.from + i * STRETCH % COLD / sizeof(*r.from) };
		double start = now();

		pool_run(pool, read_piece, &part, STRETCH / READ_PIECE);
		start = now() - start;
		best = start < best ? start : best;
	}
	pool_free(pool);
	cpu_unmap((void *)r.from, COLD);
	return STRETCH / best;
}

/* A large matrix of few random rows, over and over. */
static struct tensor repeated(enum dtype type, size_t rows, size_t cols)
{
	struct kit_random r = { rows };
	struct tensor t = kit_tensor(&r, type, 64, cols);
	const struct dtype_info *info = dtype_find((uint32_t)type);
	size_t row_bytes = cols / info->block * info->bytes;
	uint8_t *data = malloc(rows * row_bytes);

	for (size_t i = 0; data && i < rows; i += 64)
		memcpy(data + i * row_bytes, t.data, (rows - i < 64 ? rows - i : 64) * row_bytes);
	free((void *)t.data);
	return (struct tensor){ type, rows, cols, data };
}

static double best_call(const struct bench *m, const struct shape *s, struct weight *const *copies, size_t count)
{
	double best = 1e9, until = now() + (s->n == 1 ? 0.4 : 0.8);

	for (size_t i = 0; i < 5 || now() < until; i++) {
		const struct weight *const list[] = { copies[i % count] };
		const struct matmul op = {
			.w = list, .weights = 1, .x = m->x, .n = s->n, .y = m->y, .y_stride = s->rows
		};
		double start = now();

		m->b->matmul(m->d, &op);
		start = now() - start;
		if (i > 0 && start < best)
			best = start;
	}
	return best;
}

static void bench_shape(const struct bench *m, enum dtype type, const struct shape *s)
{
	const struct dtype_info *info = dtype_find((uint32_t)type);
	struct weight *copies[COPIES] = { NULL };
	size_t bytes = s->rows * s->cols / info->block * info->bytes, count = s->n == 1 ? COLD / bytes + 1 : 1;
	struct tensor t;
	double best;

	if (s->cols % info->block) {
		printf(" |");
		return;
	}
	count = count < COPIES ? count : COPIES;
	t = repeated(type, s->rows, s->cols);
	for (size_t i = 0; t.data && i < count; i++)
		if (m->b->weight_new(m->d, &t, &copies[i], NULL) != 0)
			count = i;
	free((void *)t.data);
	best = t.data && count ? best_call(m, s, copies, count) : 0;
	if (s->n == 1)
		printf(" %.1f |", (double)bytes / best * 1e-9);
	else
		printf(" %.0f |", 2e-9 * (double)s->rows * (double)s->cols * (double)s->n / best);
	fflush(stdout);
	for (size_t i = 0; i < count; i++)
		m->b->weight_free(m->d, copies[i]);
}

int kit_bench_types(const char *backend, int threads, enum precision precision)
{
	const struct device_options o = { .threads = threads, .max_rows = MANY, .precision = precision };
	struct bench m = { .b = kernels_find(backend, NULL) };
	struct kit_random r = { 1 };
	float *x = kit_floats((size_t)MANY * WIDEST);

	kit_numbers(&r, x, (size_t)MANY * WIDEST);
	if (!m.b || m.b->open(&o, &m.d, NULL) != 0 || m.b->buffer_new(m.d, (size_t)MANY * WIDEST, &m.x, NULL) ||
	    m.b->buffer_new(m.d, (size_t)MANY * WIDEST, &m.y, NULL))
		return 1;
	m.b->write(m.d, m.x, x, (size_t)MANY * WIDEST * sizeof(*x));
	printf("%s, %d threads, %s; reading alone: %.1f GB/s\n\n| type |", m.b->name, threads,
	       precision_name(precision), reading_speed(threads) * 1e-9);
	for (size_t j = 0; j < sizeof(shapes) / sizeof(shapes[0]); j++)
		printf(" %zux%zu%s |", shapes[j].rows, shapes[j].cols, shapes[j].n == 1 ? ", GB/s" : ", GOP/s");
	printf("\n|---|---|---|---|---|---|---|---|---|\n");
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		printf("| %s |", dtype_find((uint32_t)types[i])->name);
		for (size_t j = 0; j < sizeof(shapes) / sizeof(shapes[0]); j++)
			bench_shape(&m, types[i], &shapes[j]);
		printf("\n");
	}
	printf("\nreading alone, again: %.1f GB/s\n", reading_speed(threads) * 1e-9);
	m.b->buffer_free(m.d, m.x);
	m.b->buffer_free(m.d, m.y);
	m.b->close(m.d);
	free(x);
	return 0;
}
