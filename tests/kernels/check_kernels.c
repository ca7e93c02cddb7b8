/*
 * Every backend, every operation, every type, on random shapes, odd sizes included, against the definitions written out
 * here in double. Then what the backends promise each other: the same bits from "scalar", "avx2", "avx512" and "amx"
 * (emulated where the machine has none), from one row and from many, from one thread and from several.
 *
 * `check_kernels --bench [backend] [threads] [precision]` times the operations instead, and `--bench-types` with the
 * same arguments products of each type; for a card with a type's name behind them, of that one.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { CASES = 640 };

static const enum dtype types[] = { DTYPE_F32,	DTYPE_F16,  DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0,
				    DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_MXFP4 };

enum { TYPES = sizeof(types) / sizeof(types[0]) };

bool is_fast(const struct backend *b)
{
	return strcmp(b->name, "ref") != 0;
}

const struct backend *twin_of(const struct backend *b)
{
	return is_fast(b) && !b->apart ? kernels_find("scalar", NULL) : b;
}

bool as_halves(const struct backend *b, enum dtype type, size_t n)
{
	return b->apart && n > (type == DTYPE_F16 ? 4 : 8);
}

static bool is_blocked(enum dtype type)
{
	return dtype_find((uint32_t)type)->block > 1;
}

static bool has_six_bits(enum dtype type)
{
	return type == DTYPE_Q4_K || type == DTYPE_Q5_K;
}

/* Whether its activations stay in words whatever the precision is. */
static bool is_super(enum dtype type)
{
	return dtype_find((uint32_t)type)->block == 256;
}

/*
 * Activations as the fast backends see them in one plane: blocks of 32 in 8 bits. Where a number lies so near the
 * middle of two that F32 may take the other, `doubt` is their distance, else 0.
 */
static void quantize(float *x, size_t n, float *doubt)
{
	for (; n; n -= 32, x += 32, doubt += 32) {
		float largest = 0, d;

		for (int i = 0; i < 32; i++)
			largest = fmaxf(largest, fabsf(x[i]));
		d = largest / 127;
		for (int i = 0; i < 32; i++) {
			double at = largest > 0 ? (double)x[i] * 127 / (double)largest : 0;

			x[i] = d * (float)rint(at);
			doubt[i] = fabs(fabs(at - rint(at)) - 0.5) < 4e-5 ? d : 0;
		}
	}
}

struct products {
	struct tensor t[3];
	struct weight *w[3];
	size_t weights, cols, n, width, stride;
	float *x, *y;
};

static void make_products(struct kit_random *r, enum dtype type, size_t n, struct products *p)
{
	static const size_t super_cols[] = { 256, 256, 512, 512, 768, 2048 };

	*p = (struct products){ .weights = 1 + kit_below(r, 3), .n = n };
	p->cols = is_super(type) ? super_cols[kit_below(r, 6)] : 32 * (1 + kit_below(r, 9));
	if (!is_blocked(type))
		p->cols -= kit_below(r, 31);
	for (size_t i = 0; i < p->weights; i++) {
		enum dtype own = i == 1 && is_blocked(type) ? types[kit_below(r, TYPES)] : type;

		own = p->cols % dtype_find((uint32_t)own)->block ? type : own;
		p->t[i] = kit_tensor(r, own, 1 + kit_below(r, 70), p->cols);
		p->width += p->t[i].rows;
	}
	p->stride = p->width + kit_below(r, 5);
	p->x = kit_floats(n * p->cols);
	p->y = kit_floats(n * p->stride);
	kit_numbers(r, p->x, n * p->cols);
	kit_numbers(r, p->y, n * p->stride);
	for (size_t i = 0; i < p->cols && kit_below(r, 4) == 0; i++)
		p->x[i] = 0;
}

static void free_products(struct products *p)
{
	for (size_t i = 0; i < p->weights; i++)
		free((void *)p->t[i].data);
	free(p->x);
	free(p->y);
}

static void pack(const struct backend *b, struct device *d, struct products *p)
{
	struct err e;

	for (size_t i = 0; i < p->weights; i++)
		if (b->weight_new(d, &p->t[i], &p->w[i], &e) != 0)
			fail_msg("%s: %s", b->name, e.text);
}

/* y, the sum being added to what is there, of rows [first, first + n). */
static void multiply(const struct backend *b, struct device *d, const struct products *p, size_t first, size_t n,
		     bool add, float *y)
{
	float *x = kit_upload(b, d, p->x + first * p->cols, n * p->cols);
	float *to = kit_upload(b, d, p->y + first * p->stride, n * p->stride);
	const struct weight *const *w = (const struct weight *const *)p->w;
	struct matmul op = {
		.w = w, .weights = p->weights, .x = x, .n = n, .y = to, .y_stride = p->stride, .add = add
	};

	b->matmul(d, &op);
	kit_download(b, d, to, y, n * p->stride);
	b->buffer_free(d, x);
}

static void unpack(const struct backend *b, struct device *d, struct products *p)
{
	for (size_t i = 0; i < p->weights; i++)
		b->weight_free(d, p->w[i]);
}

/* What an activation is when it meets a weight. */
enum form { FLOATS, BYTES, WORDS, HALVES };

/* How far off a result may be, of terms that sum up to `size` without their signs. */
static double slack_of(enum dtype type, enum form f, double size)
{
	if (f == HALVES && type != DTYPE_F32)
		return size * 0x1p-10 + 1e-5; /* both sides round to 11 bits */
	return size * (!is_blocked(type) ? 2e-6 : f == WORDS ? 16e-6 : 8e-6) + 1e-5;
}

/* One result by the definition; `slack` is how far off its rounding may bring it, and what is in doubt of x. */
static double product(const struct products *p, const float *x, const float *doubt, size_t column, enum form f,
		      double *slack)
{
	const struct tensor *t = p->t;
	const struct dtype_info *info;
	double sum = 0, size = 0, largest = 0, unsure = 0;
	float *w = kit_floats(p->cols);

	while (column >= t->rows)
		column -= t++->rows;
	info = dtype_find((uint32_t)t->type);
	dtype_to_f32(t->type, (const uint8_t *)t->data + column * (p->cols / info->block * info->bytes), p->cols, w);
	for (size_t i = 0; i < p->cols; i++) {
		sum += (double)w[i] * (double)x[i];
		unsure += doubt ? fabs((double)w[i]) * (double)doubt[i] : 0;
		size += (fabs((double)w[i]) + 1) * fabs((double)x[i]); /* q * d and m may cancel: each is larger */
		for (size_t j = i; i % 32 == 0 && j < i + 32 && j < p->cols; j++)
			largest = fmax(j == i ? 0 : largest, fabs((double)x[j]));
		if (f == WORDS)
			size += (fabs((double)w[i]) + 1) * largest; /* words round to a 32512th: 16e-6 */
	}
	*slack = slack_of(t->type, f, size) + unsure;
	free(w);
	return sum;
}

static enum form form_of(const struct backend *b, size_t n, enum dtype type, enum precision precision)
{
	if (!is_fast(b))
		return FLOATS;
	if (as_halves(b, type, n))
		return HALVES;
	if (precision == PRECISION_EXACT || is_super(type))
		return WORDS;
	return is_blocked(type) ? BYTES : FLOATS;
}

static void check_products(const struct backend *b, const struct products *p, enum precision precision, bool add,
			   const float *y)
{
	float *x = kit_floats(p->cols), *rough = kit_floats(p->cols + 32), *doubt = kit_floats(p->cols + 32);

	for (size_t i = 0; i < p->n; i++) {
		memcpy(x, p->x + i * p->cols, p->cols * sizeof(*x));
		memcpy(rough, x, p->cols * sizeof(*x));
		if (p->cols % 32 == 0)
			quantize(rough, p->cols, doubt);
		for (size_t c = 0, t = 0, end = p->t[0].rows; c < p->stride; c++) {
			enum form f;
			double was = (double)p->y[i * p->stride + c], got = (double)y[i * p->stride + c], slack, want;

			if (c >= p->width) {
				assert_true(got == was);
				continue;
			}
			while (c >= end)
				end += p->t[++t].rows;
			f = form_of(b, p->n, p->t[t].type, precision);
			want = product(p, f == BYTES ? rough : x, f == BYTES ? doubt : NULL, c, f, &slack);
			want += add ? was : 0;
			if (!(fabs(got - want) <= slack))
				fail_msg("%s, %s, row %zu, column %zu of %zu inputs: %.9g, not %.9g", b->name,
					 dtype_find((uint32_t)p->t[t].type)->name, i, c, p->cols, got, want);
		}
	}
	free(x);
	free(rough);
	free(doubt);
}

static void check_rounds(const struct subject *s, struct device *d, enum precision precision)
{
	for (size_t round = 0; round < 14; round++) {
		struct kit_random r = { 100 * s->type + round };
		struct products p;
		float *y;

		make_products(&r, s->type, round < 12 ? 1 + round % 9 : 64 + round, &p);
		y = kit_floats(p.n * p.stride);
		pack(s->b, d, &p);
		multiply(s->b, d, &p, 0, p.n, round % 2, y);
		check_products(s->b, &p, precision, round % 2, y);
		unpack(s->b, d, &p);
		free_products(&p);
		free(y);
	}
	s->b->close(d);
}

static void products_are_what_the_definition_says(void **state)
{
	const struct subject *s = *state;

	check_rounds(s, kit_open_at(s->b, 2, 80, PRECISION_EXACT), PRECISION_EXACT);
	check_rounds(s, kit_open_at(s->b, 2, 80, PRECISION_FAST), PRECISION_FAST);
	if (s->b->apart)
		check_rounds(s, kit_open_invariant(s->b, 2, 80, PRECISION_EXACT), PRECISION_EXACT);
}

/* Any number of rows together and each alone, and any number of threads, in every backend: the same bits. */
static void repeat_products(const struct subject *s, enum precision precision)
{
	const struct backend *first = twin_of(s->b);
	struct kit_random r = { 7 + s->type };
	struct products p;
	float *want, *got;

	make_products(&r, s->type, 71, &p);
	want = kit_floats(p.n * p.stride);
	got = kit_floats(p.n * p.stride);
	for (int threads = 0; threads < 4; threads++) {
		const struct backend *b = threads ? s->b : first;
		struct device *d = kit_open_invariant(b, threads ? threads : 1, 71, precision);

		pack(b, d, &p);
		multiply(b, d, &p, 0, p.n, false, threads ? got : want);
		if (threads)
			kit_same_bits(got, want, p.n * p.stride);
		for (size_t i = 0; threads == 2 && i < p.n; i += 5) {
			size_t n = 1 + i / 5 % 5;

			multiply(b, d, &p, i, i + n > p.n ? p.n - i : n, false, got);
			kit_same_bits(got, want + i * p.stride, (i + n > p.n ? p.n - i : n) * p.stride);
		}
		unpack(b, d, &p);
		b->close(d);
	}
	free_products(&p);
	free(want);
	free(got);
}

static void products_repeat(void **state)
{
	repeat_products(*state, PRECISION_EXACT);
	repeat_products(*state, PRECISION_FAST);
}

/* Blocks whose sums are as large as they may be: rows of one weight, and rows of the largest and the smallest word. */
static void make_extremes(struct products *p)
{
	static const uint8_t fill[] = { 0, 0xff, 0x80, 0x7f };
	const struct dtype_info *info = dtype_find((uint32_t)p->t[0].type);
	const bool min = p->t[0].type == DTYPE_Q4_1 || p->t[0].type == DTYPE_Q5_1 || has_six_bits(p->t[0].type);
	const bool last = p->t[0].type == DTYPE_Q6_K; /* its scale stands behind the rest */
	const size_t scales = min ? 4 : 2, row_bytes = p->cols / info->block * info->bytes;

	for (size_t i = 0; i < sizeof(fill) && info->block > 1; i++)
		memset((uint8_t *)p->t[0].data + i * row_bytes + (last ? 0 : scales), fill[i], info->bytes - scales);
	for (size_t i = 0; i < p->n; i++)
		for (size_t c = 0; c < 32; c++)
			p->x[i * p->cols + c] = i % 3 == 2 ? (float)(c % 3) - 1 : i % 3 ? -1 : 1;
}

static size_t block_of(enum dtype type)
{
	size_t block = dtype_find((uint32_t)type)->block;

	return block > 32 ? block : 32;
}

/* What a product of many rows is cut into: tiles of rows, pairs of groups, stretches of blocks. Each cut is met. */
static void any_rows(const struct subject *s, size_t rows, size_t blocks, enum precision precision)
{
	enum { MOST = 130 };
	struct kit_random r = { 3 + blocks };
	struct products p = {
		.weights = 1, .cols = block_of(s->type) * blocks, .n = MOST, .width = rows, .stride = rows
	};
	const struct backend *twin = twin_of(s->b);
	struct device *d = kit_open_invariant(twin, 1, MOST, precision);
	float *want = kit_floats(MOST * rows), *got = kit_floats(MOST * rows);

	p.t[0] = kit_tensor(&r, s->type, rows, p.cols);
	p.x = kit_floats(MOST * p.cols);
	p.y = kit_floats(MOST * rows);
	kit_numbers(&r, p.x, MOST * p.cols);
	kit_numbers(&r, p.y, MOST * rows);
	make_extremes(&p);
	pack(twin, d, &p);
	multiply(twin, d, &p, 0, MOST, true, want);
	unpack(twin, d, &p);
	twin->close(d);
	d = kit_open_invariant(s->b, 2, MOST, precision);
	pack(s->b, d, &p);
	for (size_t n = blocks < 9 ? 1 : MOST - 15; n <= MOST; n += s->b->apart ? 13 : blocks < 9 ? 1 : 5) {
		multiply(s->b, d, &p, MOST - n, n, true, got);
		kit_same_bits(got, want + (MOST - n) * rows, n * rows);
	}
	unpack(s->b, d, &p);
	s->b->close(d);
	free_products(&p);
	free(want);
	free(got);
}

static void products_of_any_rows_are_the_same(void **state)
{
	const struct subject *s = *state;

	for (int precision = PRECISION_EXACT; precision <= PRECISION_FAST && is_fast(s->b); precision++) {
		const size_t shorter = block_of(s->type) / 32;

		any_rows(s, 37, 3, (enum precision)precision);
		any_rows(s, 48, 2, (enum precision)precision);
		any_rows(s, 20, 25 / shorter, (enum precision)precision);
		any_rows(s, 33, 49 / shorter, (enum precision)precision);
	}
}

/* Blocks whose bytes are all alike, so that quants and scales are as large as they can be, of either sign. */
static struct tensor extreme_tensor(enum dtype type, uint8_t byte)
{
	const struct dtype_info *info = dtype_find((uint32_t)type);
	const size_t rows = 17, blocks = rows * 512 / info->block;
	uint8_t *data = malloc(blocks * info->bytes);

	assert_non_null(data);
	memset(data, byte, blocks * info->bytes);
	for (size_t b = 0; b < blocks && is_blocked(type); b++) {
		uint8_t *d = data + b * info->bytes + (type == DTYPE_Q6_K ? 208 : 0);
		const uint8_t one_or_less[4] = { 0, b % 3 ? 0x3c : 0xbc, 0, b % 2 ? 0x34 : 0xb4 };

		memcpy(d, one_or_less, type == DTYPE_Q4_1 || type == DTYPE_Q5_1 || has_six_bits(type) ? 4 : 2);
	}
	return (struct tensor){ type, rows, 512, data };
}

/* The largest whole numbers that a block can give fit: activations all alike, or of both signs, are the largest too. */
static void extremes_are_what_the_definition_says(void **state)
{
	static const uint8_t bytes[] = { 0, 255, 128, 127 };
	const struct subject *s = *state;
	const size_t n = 9;

	for (size_t i = 0; i < 8 && is_blocked(s->type); i++) {
		const enum precision precision = i % 2 ? PRECISION_FAST : PRECISION_EXACT;
		struct device *d = kit_open_at(s->b, 2, n, precision);
		struct products p = { .weights = 1, .cols = 512, .n = n, .width = 17, .stride = 17 };
		float *y = kit_floats(n * 17);

		p.t[0] = extreme_tensor(s->type, bytes[i / 2]);
		p.x = kit_floats(n * 512);
		p.y = kit_floats(n * 17);
		for (size_t at = 0; at < n * 512; at++)
			p.x[at] = at / 512 % 3 == 0 || (at / 512 % 3 == 1 && at % 32 < 16) ? 1 : -1;
		pack(s->b, d, &p);
		for (size_t first = 0, rows = 1; first < n; first += rows, rows++)
			multiply(s->b, d, &p, first, n - first < rows ? n - first : rows, false, y + first * 17);
		check_products(s->b, &p, precision, false, y);
		multiply(s->b, d, &p, 0, n, false, y);
		check_products(s->b, &p, precision, false, y);
		unpack(s->b, d, &p);
		s->b->close(d);
		free_products(&p);
		free(y);
	}
}

static void bad_weights_are_refused(void **state)
{
	const struct subject *s = *state;
	static const struct {
		struct tensor t;
		int code;
		const char *says;
	} cases[] = {
		{ { (enum dtype)99, 4, 32, "" }, SINK_EINVAL, "type 99" },
		{ { DTYPE_Q4_0, 4, 40, "" }, SINK_EFORMAT, "40 columns" },
		{ { DTYPE_Q8_0, 0, 32, "" }, SINK_EFORMAT, "0 rows" },
		{ { DTYPE_Q4_K, 4, 128, "" }, SINK_EFORMAT, "128 columns do not divide into blocks of 256, as q4_k" },
		{ { DTYPE_Q5_K, 4, 288, "" }, SINK_EFORMAT, "288 columns do not divide into blocks of 256, as q5_k" },
		{ { DTYPE_Q6_K, 4, 576, "" }, SINK_EFORMAT, "576 columns do not divide into blocks of 256, as q6_k" },
		{ { DTYPE_F32, 4, 0, "" }, SINK_EFORMAT, "0 columns" },
		{ { DTYPE_F32, SIZE_MAX, 4, "" }, SINK_EFORMAT, "cannot have" },
	};
	struct device *d = kit_open(s->b, 1, 1);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct weight *w = NULL;
		struct err e = { 0 };

		assert_int_equal(s->b->weight_new(d, &cases[i].t, &w, &e), cases[i].code);
		assert_non_null(strstr(e.text, cases[i].says));
		assert_null(w);
	}
	s->b->weight_free(d, NULL);
	s->b->buffer_free(d, NULL);
	s->b->close(d);
	s->b->close(NULL);
}

static void bad_options_are_refused(void **state)
{
	const struct subject *s = *state;
	static const struct device_options bad[] = {
		{ .threads = 0, .max_rows = 1 },	{ .threads = -1, .max_rows = 1 },
		{ .threads = 100000, .max_rows = 1 },	{ .threads = 1, .max_rows = 0 },
		{ .threads = 1, .max_rows = SIZE_MAX },
	};
	struct device *d = kit_open(s->b, 1, 1);

	s->b->close(d);
	for (size_t i = s->b->apart ? 3 : 0; i < sizeof(bad) / sizeof(bad[0]); i++) { /* cards have no threads */
		struct err e = { 0 };

		d = NULL;
		assert_int_equal(s->b->open(&bad[i], &d, &e), SINK_EINVAL);
		assert_true(e.text[0] != '\0');
		assert_null(d);
	}
}

static void names_are_found(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_ptr_equal(kernels_find("ref", NULL), kernels_all[0]);
	assert_non_null(kernels_find("auto", &e));
	assert_true(is_fast(kernels_find("auto", NULL)));
	assert_null(kernels_find("avx3", &e));
	assert_int_equal(e.code, SINK_EINVAL);
	assert_non_null(strstr(e.text, "avx3"));
	assert_non_null(strstr(e.text, "auto, ref, scalar"));
	for (size_t i = 0; kernels_all[i]; i++) {
		int rc = kernels_all[i]->probe(&e);

		assert_true(rc == 0 || rc == SINK_EDEVICE);
		assert_true((kernels_find(kernels_all[i]->name, NULL) != NULL) == (rc == 0));
	}
}

/* What is about no backend; check_cuda leaves it to check_kernels. */
static const struct CMUnitTest general[] = {
	{ "names are found", names_are_found, NULL, NULL, NULL },
#ifndef KERNELS_STANDIN
	{ "halves are what IEEE 754 says", halves_are_what_ieee_754_says, NULL, NULL, NULL },
	{ "types are what their formats say", types_are_what_their_formats_say, NULL, NULL, NULL },
	{ "pages have the size of their type", pages_have_the_size_of_their_type, NULL, NULL, NULL },
	{ "quotas are respected", quotas_are_respected, NULL, NULL, NULL },
#endif
};

static const struct {
	const char *name;
	CMUnitTestFunction test;
	bool by_type;
} plan[] = {
	{ "products are what the definition says", products_are_what_the_definition_says, true },
	{ "products repeat", products_repeat, true },
	{ "products of any rows are the same", products_of_any_rows_are_the_same, true },
	{ "extremes are what the definition says", extremes_are_what_the_definition_says, true },
	{ "bad weights are refused", bad_weights_are_refused, false },
	{ "bad options are refused", bad_options_are_refused, false },
	{ "norm is what the definition says", norm_is_what_the_definition_says, false },
	{ "activations are what the definition says", activations_are_what_the_definition_says, false },
	{ "row operations repeat", row_operations_repeat, false },
	{ "input is prepared on the way", input_is_prepared_on_the_way, false },
	{ "results are biased and clipped", results_are_biased_and_clipped, false },
	{ "experts are what the definition says", experts_are_what_the_definition_says, false },
	{ "experts repeat", experts_repeat, false },
	{ "copies are copies", copies_are_copies, false },
	{ "angles are taken in double", angles_are_taken_in_double, false },
	{ "the largest are what sorting finds", the_largest_are_what_sorting_finds, false },
	{ "store writes what the definition says", store_writes_what_the_definition_says, false },
	{ "store repeats", store_repeats, false },
	{ "attention is what the definition says", attention_is_what_the_definition_says, false },
	{ "attention of prompts is what the definition says", attention_of_prompts_is_what_the_definition_says, false },
	{ "attention repeats", attention_repeats, false },
#ifdef KERNELS_STANDIN
	{ "steps become graphs", steps_become_graphs, false },
	{ "a card may break at any call", a_card_may_break_at_any_call, false },
	{ "a card may be small", a_card_may_be_small, false },
	{ "memory is capped", memory_is_capped, false },
	{ "cards that cannot be used are refused", cards_that_cannot_be_used_are_refused, false },
	{ "pages come and go", pages_come_and_go, false },
#endif
};

/* A machine that cannot run the backend skips the test. */
static void run_subject(void **state)
{
	const struct subject *s = *state;
	struct err e;

	if (s->b->probe(&e) != 0) {
		print_message("%s: %s\n", s->b->name, e.text);
		skip();
	}
	s->test(state);
}

static int bench(int argc, char **argv)
{
	enum precision precision = PRECISION_EXACT;
	struct err e;

	if (argc > 4 && precision_find(argv[4], &precision, &e) != 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	if (argc > 5 && kernels_find(argv[2], NULL))
		return kit_bench_card(kernels_find(argv[2], NULL), argv[5], precision);
	return (strcmp(argv[1], "--bench") == 0 ? kit_bench : kit_bench_types)(
		argc > 2 ? argv[2] : "auto", argc > 3 ? (int)strtol(argv[3], NULL, 10) : kernels_cores(), precision);
}

int main(int argc, char **argv)
{
	static struct CMUnitTest tests[CASES];
	static struct subject subjects[CASES];
	static char names[CASES][96];
	size_t n = 0;

	if (argc > 1 && (strcmp(argv[1], "--bench") == 0 || strcmp(argv[1], "--bench-types") == 0))
		return bench(argc, argv);
	if (argc > 1) /* those whose names are like this, such as "cuda:*" */
		cmocka_set_test_filter(argv[1]);
	for (size_t i = 0; i < sizeof(general) / sizeof(general[0]); i++)
		tests[n++] = general[i];
	for (const struct backend *const *b = kit_backends(); *b; b++)
		for (size_t i = 0; i < sizeof(plan) / sizeof(plan[0]); i++)
			for (size_t t = 0; t < (plan[i].by_type ? TYPES : 1) && n < CASES; t++) {
				subjects[n] = (struct subject){ *b, types[t], plan[i].test };
				snprintf(names[n], sizeof(names[n]), "%s: %s%s%s", (*b)->name, plan[i].name,
					 plan[i].by_type ? ", " : "",
					 plan[i].by_type ? dtype_find((uint32_t)types[t])->name : "");
				tests[n] = (struct CMUnitTest){ names[n], run_subject, NULL, NULL, &subjects[n] };
				n++;
			}
	return _cmocka_run_group_tests("kernels", tests, n, NULL, NULL);
}
