/*
 * Times attention on a card: decoding over windows of several widths, alone and with company, and a prompt, for the
 * heads of SmolLM2-135M, Llama-3-8B and Llama-2-7B. Layers stand one behind the other in a step, as in bench_card.c,
 * so many that no cache holds their pages. See kit.h.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kit.h"

enum { ROWS_MOST = 2048, ROWS_GRAPH = 64, CONVERSATIONS = 8, LAYERS_MOST = 128, LAYERS_LEAST = 4, REPEATS = 9 };

/* Of a conversation's pages in all layers. */
static const size_t cold = (size_t)192 << 20;

static const struct shape {
	const char *name;
	size_t heads, kv_heads, head_size;
} shapes[] = { { "SmolLM2-135M", 9, 3, 64 }, { "Llama-3-8B", 32, 8, 128 }, { "Llama-2-7B", 32, 32, 128 } };

/* What rows see: each a window of its own conversation, or in a prompt all that is before it and itself. */
static const struct load {
	size_t n, window;
	bool prompt;
} loads[] = { { 1, 1024, false }, { 8, 1024, false },  { 64, 1024, false }, { 1, 4096, false },
	      { 8, 4096, false }, { 64, 4096, false }, { 512, 512, true },  { ROWS_MOST, ROWS_MOST, true } };

enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]), LOADS = sizeof(loads) / sizeof(loads[0]) };

struct scene {
	const struct backend *b;
	struct device *d;
	struct head_shape heads;
	struct page_shape pages;
	size_t window_pages, bytes;
	uint8_t *memory;
	void **page;
	struct page_table tables[CONVERSATIONS][RUNS];
	struct row rows[ROWS_MOST];
	float *qkv, *angles, *y;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Pages of as many layers as are cold; what they hold is 0.07 over and over. */
static bool make_pages(struct scene *s, const struct shape *shape, enum dtype type, size_t window)
{
	size_t layer, page;

	s->pages = (struct page_shape){ 1, shape->kv_heads, shape->head_size, type };
	s->window_pages = window / PAGE_TOKENS + 1;
	layer = page_bytes(&s->pages) * s->window_pages;
	s->pages.layers = cold / layer + 1 < LAYERS_MOST ? cold / layer + 1 : LAYERS_MOST;
	if (s->pages.layers < LAYERS_LEAST)
		s->pages.layers = LAYERS_LEAST;
	page = page_bytes(&s->pages);
	s->bytes = page * s->window_pages * CONVERSATIONS;
	s->memory = aligned_alloc(64, s->bytes);
	s->page = calloc(s->window_pages * CONVERSATIONS, sizeof(*s->page));
	if (!s->memory || !s->page)
		return false;
	memset(s->memory, 0x2c, s->bytes);
	for (size_t i = 0; i < s->window_pages * CONVERSATIONS; i++)
		s->page[i] = s->memory + i * page;
	for (size_t c = 0; c < CONVERSATIONS; c++)
		s->tables[c][RUN_WINDOW] =
			(struct page_table){ s->page + c * s->window_pages, (int64_t)s->window_pages };
	if (s->b->pages_attach(s->d, s->memory, s->bytes, NULL) != 0)
		return false;
	s->b->page_load(s->d, s->memory, s->bytes);
	return true;
}

static void make_rows(struct scene *s, const struct load *l)
{
	for (size_t i = 0; i < l->n; i++) {
		struct row *r = &s->rows[i];

		*r = (struct row){ .tables = s->tables[l->prompt ? 0 : i % CONVERSATIONS],
				   .goes = { { -1, 0 }, { -1, 0 } } };
		r->sees[RUN_WINDOW].first = l->prompt ? 0 : 7;
		r->sees[RUN_WINDOW].count = (int64_t)(l->prompt ? i + 1 : l->window);
	}
}

static bool make_scene(struct scene *s, const struct shape *shape, enum dtype type, const struct load *l)
{
	const size_t room = l->n < ROWS_GRAPH ? ROWS_GRAPH : l->n; /* a step may go on with more rows */
	const size_t width = (shape->heads + 2 * shape->kv_heads) * shape->head_size;
	const struct device_options o = { .threads = 1, .max_rows = ROWS_MOST, .max_logits = 1 };
	struct kit_random r = { 1 };
	float *x = kit_floats(l->n * width);
	bool well;

	s->heads = (struct head_shape){ .heads = shape->heads,
					.kv_heads = shape->kv_heads,
					.head_size = shape->head_size,
					.rotated = shape->head_size,
					.interleaved = true,
					.scale = 1 / sqrtf((float)shape->head_size) };
	kit_numbers(&r, x, l->n * width);
	well = s->b->open(&o, &s->d, NULL) == 0 && make_pages(s, shape, type, l->window) &&
	       s->b->buffer_new(s->d, room * width, &s->qkv, NULL) == 0 &&
	       s->b->buffer_new(s->d, room * RUNS * shape->head_size, &s->angles, NULL) == 0 &&
	       s->b->buffer_new(s->d, room * shape->heads * shape->head_size, &s->y, NULL) == 0;
	make_rows(s, l);
	if (well)
		s->b->write(s->d, s->qkv, x, l->n * width * sizeof(*x));
	free(x);
	return well;
}

static void free_scene(struct scene *s)
{
	if (s->d) {
		s->b->buffer_free(s->d, s->qkv);
		s->b->buffer_free(s->d, s->angles);
		s->b->buffer_free(s->d, s->y);
		s->b->pages_detach(s->d);
	}
	s->b->close(s->d);
	free(s->memory);
	free(s->page);
	free(s);
}

/* The best time of a layer. */
static double seconds_of(const struct scene *s, size_t n)
{
	static int32_t token[ROWS_MOST];
	static int64_t at[ROWS_MOST * RUNS];
	const struct step step = { n, 0, s->rows, NULL, token, at, at, token };
	double best = 0;
	float y;

	for (int i = -3; i < REPEATS; i++) {
		size_t go = n, wanted = 0;
		double start = now();

		s->b->begin(s->d, &step, &go, &wanted);
		for (size_t layer = 0; go && layer < s->pages.layers; layer++) {
			struct attend op = { &s->heads, &s->pages, layer, s->qkv, s->angles,
					     s->rows,	go,	   s->y,  NULL,	  NULL };

			s->b->attend(s->d, &op);
		}
		if (s->b->end(s->d, NULL) != 0)
			return 0;
		s->b->read(s->d, &y, s->y, sizeof(y));
		if (i >= 0 && (best == 0 || now() - start < best))
			best = now() - start;
	}
	return best / (double)s->pages.layers;
}

static void print_line(const struct shape *shape, enum dtype type, const struct load *l, double seconds)
{
	const struct page_shape one = { 1, shape->kv_heads, shape->head_size, type };
	const double n = (double)l->n, seen = l->prompt ? n * (n + 1) / 2 : n * (double)l->window;
	const double products = 2 * seen * (double)(shape->heads * shape->head_size);

	printf("| %s | %s | %zu | %zu | %.1f | ", shape->name, dtype_find((uint32_t)type)->name, l->n, l->window,
	       seconds * 1e6);
	if (l->prompt)
		printf("| %.1f |\n", 2 * products / seconds * 1e-12);
	else
		printf("%.0f | %.2f |\n", seen * (double)page_bytes(&one) / PAGE_TOKENS / seconds * 1e-9,
		       2 * products / seconds * 1e-12);
	fflush(stdout);
}

int kit_bench_attend(const struct backend *b)
{
	static const enum dtype types[] = { DTYPE_F16, DTYPE_Q8_0 };

	printf("%s\n\n| heads of | pages | rows | window | us | GB/s | TFLOP/s |\n|---|---|---|---|---|---|---|\n",
	       b->name);
	for (size_t i = 0; i < SHAPES; i++)
		for (size_t j = 0; j < LOADS * 2; j++) {
			const struct load *l = &loads[j % LOADS];
			struct scene *s = calloc(1, sizeof(*s));
			bool well;

			if (!s)
				return 1;
			s->b = b;
			well = make_scene(s, &shapes[i], types[j / LOADS], l);
			if (well)
				print_line(&shapes[i], types[j / LOADS], l, seconds_of(s, l->n));
			free_scene(s);
			if (!well) {
				printf("There is no room for this.\n");
				return 1;
			}
		}
	return 0;
}
