/*
 * Times the operations on the shapes of the default model (SmolLM2-135M: 30 layers, width 576, 9 heads and 3 KV heads
 * of 64, inner width 1536, vocabulary 49,152). Each layer has weights and pages of its own, as a model has: what is
 * timed comes from memory, not from a cache. See kit.h.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kit.h"

enum { LAYERS = 30, WIDTH = 576, HEADS = 9, KV_HEADS = 3, HEAD = 64, INNER = 1536, VOCABULARY = 49152 };
enum { QKV = (HEADS + 2 * KV_HEADS) * HEAD, WINDOW = 1024, DEEP = 4096, MANY = 512, REPEATS = 5 };
enum { PAGES = DEEP / PAGE_TOKENS + 1 };

/* Pages of one type, and rows that each see a window of one width. */
struct cache {
	struct page_shape pages;
	uint8_t *memory;
	void *page[PAGES];
	struct page_table tables[RUNS];
	struct row rows[MANY];
};

struct layer {
	struct weight *qkv, *o, *gate_up, *down;
};

struct model {
	const struct backend *b;
	struct device *d;
	struct layer layer[LAYERS];
	struct weight *out;
	float *x, *y, *wide, *norm, *logits, *angles;
	struct head_shape heads;
	struct cache near, deep, deep_q8;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct weight *weight(const struct model *m, enum dtype type, size_t rows, size_t cols)
{
	struct kit_random r = { rows };
	struct tensor t = kit_tensor(&r, type, rows, cols);
	struct weight *w = NULL;

	if (m->b->weight_new(m->d, &t, &w, NULL) != 0)
		w = NULL;
	free((void *)t.data);
	return w;
}

/* Memory that was never written would be one page of zeros, read from the nearest cache: these are numbers of 0.07. */
static bool make_cache(struct cache *c, enum dtype type, int64_t window)
{
	size_t pages = (size_t)window / PAGE_TOKENS + 1, bytes;

	c->pages = (struct page_shape){ LAYERS, KV_HEADS, HEAD, type };
	bytes = page_bytes(&c->pages);
	c->memory = aligned_alloc(64, pages * bytes);
	if (!c->memory)
		return false;
	memset(c->memory, 0x2c, pages * bytes);
	for (size_t i = 0; i < pages; i++)
		c->page[i] = c->memory + i * bytes;
	for (int run = 0; run < RUNS; run++)
		c->tables[run] = (struct page_table){ c->page, (int64_t)pages };
	for (size_t i = 0; i < MANY; i++) {
		c->rows[i].tables = c->tables;
		c->rows[i].sees[RUN_WINDOW].first = (int64_t)i;
		c->rows[i].sees[RUN_WINDOW].count = window;
		c->rows[i].goes[0].run = RUN_WINDOW;
		c->rows[i].goes[0].slot = (int64_t)i + window - 1;
		c->rows[i].goes[1].run = -1;
	}
	return true;
}

static bool make_model(struct model *m, const char *backend, const struct device_options *o)
{
	struct err e;

	m->b = kernels_find(backend, &e);
	if (!m->b || m->b->open(o, &m->d, &e) != 0) {
		fprintf(stderr, "%s\n", e.text);
		return false;
	}
	for (int i = 0; i < LAYERS; i++)
		m->layer[i] =
			(struct layer){ weight(m, DTYPE_Q4_1, QKV, WIDTH), weight(m, DTYPE_Q4_1, WIDTH, WIDTH),
					weight(m, DTYPE_Q4_1, 2 * INNER, WIDTH), weight(m, DTYPE_Q4_1, WIDTH, INNER) };
	m->out = weight(m, DTYPE_Q8_0, VOCABULARY, WIDTH);
	m->heads = (struct head_shape){ HEADS, KV_HEADS, HEAD, HEAD, true, 0.125f };
	if (!make_cache(&m->near, m->b->page_type, WINDOW) || !make_cache(&m->deep, m->b->page_type, DEEP) ||
	    !make_cache(&m->deep_q8, DTYPE_Q8_0, DEEP))
		return false;
	if (m->b->buffer_new(m->d, MANY * INNER, &m->x, NULL) || m->b->buffer_new(m->d, MANY * WIDTH, &m->y, NULL) ||
	    m->b->buffer_new(m->d, MANY * 2 * INNER, &m->wide, NULL) || m->b->buffer_new(m->d, WIDTH, &m->norm, NULL) ||
	    m->b->buffer_new(m->d, VOCABULARY, &m->logits, NULL) ||
	    m->b->buffer_new(m->d, MANY * RUNS * HEAD, &m->angles, NULL))
		return false;
	return m->out != NULL;
}

static void free_model(struct model *m)
{
	float *const buffers[] = { m->x, m->y, m->wide, m->norm, m->logits, m->angles };

	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		m->b->buffer_free(m->d, buffers[i]);
	for (int i = 0; i < LAYERS; i++) {
		m->b->weight_free(m->d, m->layer[i].qkv);
		m->b->weight_free(m->d, m->layer[i].o);
		m->b->weight_free(m->d, m->layer[i].gate_up);
		m->b->weight_free(m->d, m->layer[i].down);
	}
	m->b->weight_free(m->d, m->out);
	m->b->close(m->d);
	free(m->near.memory);
	free(m->deep.memory);
	free(m->deep_q8.memory);
}

static void product(const struct model *m, const struct weight *w, struct matmul op)
{
	const struct weight *const list[] = { w };

	op.w = list;
	op.weights = 1;
	m->b->matmul(m->d, &op);
}

static void do_qkv(const struct model *m, int layer, size_t n)
{
	product(m, m->layer[layer].qkv,
		(struct matmul){ .x = m->x,
				 .n = n,
				 .y = m->wide,
				 .y_stride = QKV,
				 .input = INPUT_NORM,
				 .norm = m->norm,
				 .eps = 1e-5f });
}

static void do_o(const struct model *m, int layer, size_t n)
{
	product(m, m->layer[layer].o, (struct matmul){ .x = m->x, .n = n, .y = m->y, .y_stride = WIDTH, .add = true });
}

static void do_gate_up(const struct model *m, int layer, size_t n)
{
	product(m, m->layer[layer].gate_up,
		(struct matmul){ .x = m->x,
				 .n = n,
				 .y = m->wide,
				 .y_stride = 2 * INNER,
				 .input = INPUT_NORM,
				 .norm = m->norm,
				 .eps = 1e-5f });
}

static void do_down(const struct model *m, int layer, size_t n)
{
	product(m, m->layer[layer].down,
		(struct matmul){
			.x = m->wide, .n = n, .y = m->y, .y_stride = WIDTH, .add = true, .input = INPUT_GATE });
}

static void do_out(const struct model *m, int layer, size_t n)
{
	(void)n;
	if (layer == 0)
		product(m, m->out, (struct matmul){ .x = m->x, .n = 1, .y = m->logits, .y_stride = VOCABULARY });
}

static void do_norm(const struct model *m, int layer, size_t n)
{
	(void)layer;
	m->b->norm(m->d, &(struct norm){ m->y, m->x, n, 1, WIDTH, WIDTH, m->norm, NULL, 1e-5f, false, false });
}

static void do_store(const struct model *m, int layer, size_t n)
{
	const struct cache *c = &m->near;
	struct store op = { &m->heads, &c->pages, (size_t)layer, m->wide, m->angles, c->rows, n };

	m->b->store(m->d, &op);
}

static void attend(const struct model *m, const struct cache *c, int layer, size_t n)
{
	struct attend op = { &m->heads, &c->pages, (size_t)layer, m->wide, m->angles, c->rows, n, m->y, NULL, NULL };

	m->b->attend(m->d, &op);
}

static void do_attend(const struct model *m, int layer, size_t n)
{
	attend(m, &m->near, layer, n);
}

static void do_deep(const struct model *m, int layer, size_t n)
{
	attend(m, &m->deep, layer, n);
}

static void do_deep_q8(const struct model *m, int layer, size_t n)
{
	attend(m, &m->deep_q8, layer, n);
}

/* All of a step, but for the embedding, the angles and the choice of a token. */
static void do_step(const struct model *m, int layer, size_t n)
{
	do_qkv(m, layer, n);
	do_store(m, layer, n);
	do_attend(m, layer, n);
	do_o(m, layer, n);
	do_gate_up(m, layer, n);
	do_down(m, layer, n);
	if (layer == LAYERS - 1)
		do_out(m, 0, n);
}

/* Bytes read and multiply-adds, of a layer and a row. */
static const struct line {
	const char *name;
	void (*run)(const struct model *m, int layer, size_t n);
	double bytes, products;
	double layers;	  /* for which bytes and products count */
	size_t rows_most; /* 0: all numbers of rows are timed */
} lines[] = {
	{ "qkv 960x576 q4_1", do_qkv, QKV *WIDTH * 0.625, QKV *WIDTH, LAYERS, 0 },
	{ "o 576x576 q4_1", do_o, WIDTH *WIDTH * 0.625, WIDTH *WIDTH, LAYERS, 0 },
	{ "gate/up 3072x576 q4_1", do_gate_up, 2 * INNER *WIDTH * 0.625, 2 * INNER *WIDTH, LAYERS, 0 },
	{ "down 576x1536 q4_1", do_down, INNER *WIDTH * 0.625, INNER *WIDTH, LAYERS, 0 },
	{ "out 49152x576 q8_0", do_out, VOCABULARY *WIDTH * 1.0625, VOCABULARY *WIDTH, 1, 1 },
	{ "norm 576", do_norm, 0, 0, LAYERS, 0 },
	{ "store", do_store, 0, 0, LAYERS, 0 },
	{ "attend 1024", do_attend, 2.0 * WINDOW *KV_HEADS *HEAD * 2, 2.0 * WINDOW *HEADS *HEAD, LAYERS, 0 },
	{ "attend 4096", do_deep, 2.0 * DEEP *KV_HEADS *HEAD * 2, 2.0 * DEEP *HEADS *HEAD, LAYERS, 64 },
	{ "attend 4096 q8_0", do_deep_q8, 2.0 * DEEP *KV_HEADS *HEAD * 1.0625, 2.0 * DEEP *HEADS *HEAD, LAYERS, 64 },
	{ "step", do_step, 0, 0, 1, 0 },
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The best time of the operation in all layers. */
static double seconds_of(const struct model *m, const struct line *l, size_t n)
{
	double t[REPEATS];

	for (int i = -1; i < REPEATS; i++) {
		double start = now();

		for (int layer = 0; layer < LAYERS; layer++)
			l->run(m, layer, n);
		if (i >= 0)
			t[i] = now() - start;
	}
	qsort(t, REPEATS, sizeof(*t), compare);
	return t[0];
}

int kit_bench(const char *backend, int threads, enum precision precision)
{
	static const size_t rows[] = { 1, 16, 64, 512 };
	const struct device_options o = { .threads = threads, .max_rows = MANY, .precision = precision };
	const struct backend *b = kernels_find(backend, NULL);
	struct model *m;
	double start = now();

	if (b && b->apart)
		return kit_bench_attend(b);
	m = calloc(1, sizeof(*m));
	if (!m || !make_model(m, backend, &o))
		return 1;
	printf("%s, %d threads, %s; made in %.2f s; us a call, GB/s of weights or pages, GOP/s\n", m->b->name, threads,
	       precision_name(precision), now() - start);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++) {
			const struct line *l = &lines[i];
			double s, n = (double)rows[j];

			if (l->rows_most && rows[j] > l->rows_most)
				continue;
			s = seconds_of(m, l, rows[j]) / l->layers;
			printf("%-22s n %4zu %10.1f us", l->name, rows[j], s * 1e6);
			if (l->bytes > 0 && rows[j] == 1)
				printf(" %7.1f GB/s", l->bytes / s * 1e-9);
			if (l->products > 0)
				printf(" %7.1f GOP/s", 2 * l->products * n / s * 1e-9);
			if (l->run == do_step)
				printf(" %8.1f tokens/s", n / s);
			printf("\n");
		}
	free_model(m);
	free(m);
	return 0;
}
