/*
 * What the kernel tests share: random numbers and tensors, a backend opened for a test, and scenes of attention
 * (conversations with pages of keys and values, rows that see parts of them).
 */
#ifndef TESTS_KERNELS_KIT_H
#define TESTS_KERNELS_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels.h"

/* Backends under test: the compiled ones, then the emulated; in check_cuda that over the stand-in. NULL-terminated. */
const struct backend *const *kit_backends(void);

/* A random generator of its own, so that a test's numbers do not depend on the C library. */
struct kit_random {
	uint64_t state;
};
uint32_t kit_below(struct kit_random *r, uint32_t limit);
float kit_number(struct kit_random *r); /* about normal, mean 0, deviation 1 */
void kit_numbers(struct kit_random *r, float *x, size_t n);

/* A matrix of random bytes whose scales are moderate; data is the caller's to free. */
struct tensor kit_tensor(struct kit_random *r, enum dtype type, size_t rows, size_t cols);

/* Opens `b`; fails the test with the reason when it cannot be. */
struct device *kit_open(const struct backend *b, int threads, size_t max_rows);
struct device *kit_open_at(const struct backend *b, int threads, size_t max_rows, enum precision precision);
/* One whose rows do not depend on their company; processors are never otherwise. */
struct device *kit_open_invariant(const struct backend *b, int threads, size_t max_rows, enum precision precision);
/* A buffer with these contents (zeros for NULL), and its contents back. */
float *kit_upload(const struct backend *b, struct device *d, const float *x, size_t n);
void kit_download(const struct backend *b, struct device *d, float *buffer, float *x, size_t n);

/* `n` numbers on the heap; fails the test when there is no memory. */
float *kit_floats(size_t n);

/* Whether two arrays are equal bit by bit; says where they are not. */
void kit_same_bits(const float *a, const float *b, size_t n);

/* Attention: `conversations` times three rings of pages, and rows that see parts of them. */
enum { KIT_CONVERSATIONS = 3, KIT_RING = 5 };

struct kit_scene {
	struct head_shape heads;
	struct page_shape pages;
	size_t layer;
	uint8_t *memory; /* all pages, one after the other */
	size_t memory_bytes;
	void *page[KIT_CONVERSATIONS][RUNS][KIT_RING];
	struct page_table tables[KIT_CONVERSATIONS][RUNS];
	struct row *rows;
	size_t n;
	float *qkv, *angles, *store_angles;
	float *sinks;  /* [heads], learned ones; NULL in half of the scenes */
	float *slopes; /* [heads], of ALiBi; NULL in two of three */
};

struct kit_shape {
	size_t heads, kv_heads, head_size, rotated;
	bool interleaved;
};

/*
 * Rows of up to KIT_CONVERSATIONS conversations. What no row sees is filled with NaN. `kinds` chooses what rows see:
 * windows that cross pages and wrap their ring, chunks whose rows see one token more each, empty runs, rows that see
 * nothing.
 */
void kit_scene_make(struct kit_random *r, const struct kit_shape *shape, enum dtype type, size_t n,
		    struct kit_scene *ret);
void kit_scene_free(struct kit_scene *s);

/* Makes the scene's pages the device's, and ends that: what it wrote is in them then. */
void kit_scene_show(const struct kit_scene *s, const struct backend *b, struct device *d);
void kit_scene_hide(const struct kit_scene *s, const struct backend *b, struct device *d);

/* The element of the scene's pages: key dimension or value dimension `dim` of a slot, in F32. */
float kit_key(const struct kit_scene *s, const struct row *row, int run, int64_t slot, size_t head, size_t dim);
float kit_value(const struct kit_scene *s, const struct row *row, int run, int64_t slot, size_t head, size_t dim);
/* Of pages in 8 bits: the scale of that element's block. */
float kit_scale(const struct kit_scene *s, const struct row *row, int run, int64_t slot, size_t head, size_t dim,
		bool value);

/* Runs attention over rows [first, first + n) of the scene. y is [n][heads * head_size]. */
void kit_attend(const struct kit_scene *s, const struct backend *b, struct device *d, size_t first, size_t n, float *y);

/* Times every operation on the shapes of the default model. */
int kit_bench(const char *backend, int threads, enum precision precision);
/* Times products of every type on shapes of small and large models, as rows of a table for kernels/README.md. */
int kit_bench_types(const char *backend, int threads, enum precision precision);
/* The same for a card, on shapes of its own; `only` a type of this name, or NULL. */
int kit_bench_card(const struct backend *b, const char *only, enum precision precision);
/* Times attention on a card. */
int kit_bench_attend(const struct backend *b);

#endif
