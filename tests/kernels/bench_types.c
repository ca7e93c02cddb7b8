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

/*
 * Copies of a weight have COLD bytes together, several times the last cache. A call is timed alone, the best counts.
 */
enum { MANY = 512, WIDEST = 4096, COPIES = 512, COLD = 128 << 20, STRETCH = 16 << 20, READ_PIECE = 256 << 10 };

/* Spent on a shape. */
enum { SECONDS = 5 };

static const enum dtype types[] = { DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_Q4_K,
				    DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_F16,	DTYPE_BF16, DTYPE_F32 };

static const struct shape {
	size_t rows, cols, n;
} shapes[] = {
	{ 640, 2048, 1 },   { 4096, 640, 1 },	 { 262144, 640, 1 },  { 4096, 4096, 1 },
	{ 11008, 4096, 1 }, { 640, 2048, MANY }, { 4096, 640, MANY }, { 4096, 4096, MANY },
};

typedef uint64_t four __attribute__((vector_size(32)));

enum { TYPES = sizeof(types) / sizeof(types[0]), SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

struct bench {
	const struct backend *b;
	struct device *d;
	float *x, *y;
	struct pool *pool; /* for reading alone, from: */
	four *cold;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct reading {
	const four *from;
	four sum[64]; /* one a thread; what is read must be used */
};

static void read_piece(void *arg, size_t piece, int worker)
{
	struct reading *r = arg;
	const four *p = r->from + piece * READ_PIECE / sizeof(*p);
	four a = { 0 }, b = { 0 };

	for (size_t i = 0; i < READ_PIECE / sizeof(*p); i += 2) {
		a += p[i];
		b += p[i + 1];
	}
	r->sum[worker % 64] += a + b;
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

/* All types of one shape; the last place is for reading alone. */
struct round {
	struct weight *copies[TYPES][COPIES];
	size_t count[TYPES];
	double best[TYPES + 1];
};

static void make_weights(const struct bench *m, const struct shape *s, struct round *r)
{
	memset(r, 0, sizeof(*r));
	for (size_t i = 0; i < TYPES; i++) {
		const struct dtype_info *info = dtype_find((uint32_t)types[i]);
		size_t count = s->n == 1 ? COLD / (s->rows * s->cols / info->block * info->bytes) + 1 : 1;
		struct tensor t;

		if (s->cols % info->block)
			continue;
		t = repeated(types[i], s->rows, s->cols);
		while (t.data && r->count[i] < count && r->count[i] < COPIES &&
		       m->b->weight_new(m->d, &t, &r->copies[i][r->count[i]], NULL) == 0)
			r->count[i]++;
		free((void *)t.data);
	}
}

static void note(double *best, double seconds)
{
	if (*best == 0 || seconds < *best)
		*best = seconds;
}

/* Types take turns, so that all of them see what quiet moments the machine has. */
static void take_turns(const struct bench *m, const struct shape *s, struct round *r)
{
	const double until = now() + SECONDS;

	for (size_t turn = 0; turn < 5 || now() < until; turn++) {
		double start;

		for (size_t i = 0; i < TYPES; i++) {
			const struct weight *const list[] = { r->copies[i][turn % (r->count[i] ? r->count[i] : 1)] };
			const struct matmul op = {
				.w = list, .weights = 1, .x = m->x, .n = s->n, .y = m->y, .y_stride = s->rows
			};

			start = now();
			if (list[0])
				m->b->matmul(m->d, &op);
			if (list[0] && turn > 0)
				note(&r->best[i], now() - start);
		}
		if (s->n == 1) {
			struct reading part = { .from = m->cold + turn * STRETCH % COLD / sizeof(*m->cold) };

			start = now();
			pool_run(m->pool, read_piece, &part, STRETCH / READ_PIECE);
			note(&r->best[TYPES], now() - start);
		}
	}
}

static void bench_shape(const struct bench *m, const struct shape *s, double *ret)
{
	struct round *r = malloc(sizeof(*r));

	if (!r)
		return;
	make_weights(m, s, r);
	take_turns(m, s, r);
	for (size_t i = 0; i < TYPES; i++) {
		const struct dtype_info *info = dtype_find((uint32_t)types[i]);
		double elements = (double)s->rows * (double)s->cols;
		double work =
			s->n == 1 ? elements / (double)info->block * (double)info->bytes : 2 * elements * (double)s->n;

		ret[i] = r->count[i] ? work / r->best[i] * 1e-9 : 0;
		for (size_t c = 0; c < r->count[i]; c++)
			m->b->weight_free(m->d, r->copies[i][c]);
	}
	ret[TYPES] = s->n == 1 ? STRETCH / r->best[TYPES] * 1e-9 : 0;
	free(r);
}

static void print_table(double (*speed)[TYPES + 1])
{
	printf("| type |");
	for (size_t j = 0; j < SHAPES; j++)
		printf(" %zux%zu, %s |", shapes[j].rows, shapes[j].cols, shapes[j].n == 1 ? "GB/s" : "GOP/s");
	printf("\n|---|");
	for (size_t j = 0; j < SHAPES; j++)
		printf("---|");
	for (size_t i = 0; i <= TYPES; i++) {
		printf("\n| %s |", i < TYPES ? dtype_find((uint32_t)types[i])->name : "reading");
		for (size_t j = 0; j < SHAPES; j++)
			if (speed[j][i] > 0)
				printf(" %.*f |", shapes[j].n == 1, speed[j][i]);
			else
				printf(" |");
	}
	printf("\n");
}

int kit_bench_types(const char *backend, int threads, enum precision precision)
{
	const struct device_options o = { .threads = threads, .max_rows = MANY, .precision = precision };
	const size_t most = (size_t)MANY * WIDEST;
	struct bench m = { .b = kernels_find(backend, NULL), .cold = cpu_map(COLD) };
	double speed[SHAPES][TYPES + 1] = { 0 };
	struct kit_random r = { 1 };
	float *x;

	if (m.b && m.b->apart)
		return kit_bench_card(m.b, NULL, precision);
	x = kit_floats(most);
	kit_numbers(&r, x, most);
	if (!m.b || !m.cold || pool_new(threads, false, &m.pool, NULL) != 0 || m.b->open(&o, &m.d, NULL) != 0 ||
	    m.b->buffer_new(m.d, most, &m.x, NULL) || m.b->buffer_new(m.d, most, &m.y, NULL))
		return 1;
	memset(m.cold, 1, COLD);
	m.b->write(m.d, m.x, x, most * sizeof(*x));
	for (size_t j = 0; j < SHAPES; j++)
		bench_shape(&m, &shapes[j], speed[j]);
	printf("%s, %d threads, %s: one row in GB/s, %d rows in GOP/s\n\n", m.b->name, threads,
	       precision_name(precision), MANY);
	print_table(speed);
	m.b->buffer_free(m.d, m.x);
	m.b->buffer_free(m.d, m.y);
	m.b->close(m.d);
	pool_free(m.pool);
	cpu_unmap(m.cold, COLD);
	free(x);
	return 0;
}
