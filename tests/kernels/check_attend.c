/* Keys and values on their pages, and attention over them, against the definitions in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static const struct kit_shape shapes[] = {
	{ 3, 3, 32, 32, true },	 { 9, 3, 64, 64, true },    { 9, 3, 64, 64, false }, { 4, 1, 80, 20, false },
	{ 9, 1, 128, 64, true }, { 8, 2, 24, 16, false },   { 2, 1, 100, 50, true }, { 60, 1, 32, 32, false },
	{ 6, 2, 96, 96, true },	 { 5, 1, 256, 128, false },
};

enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

/* The types that pages of this shape may have, two times in three not the widest. */
static enum dtype type_for(const struct kit_shape *shape, size_t i)
{
	static const enum dtype types[] = { DTYPE_F32, DTYPE_F16, DTYPE_Q8_0 };

	return shape->head_size % 32 && i % 3 == 2 ? DTYPE_F16 : types[i % 3];
}

/* Turns pairs of dimensions: (2i, 2i+1), or (i, i + rotated/2). */
static void rotate(const struct head_shape *h, const float *x, const float *angles, double *y)
{
	for (size_t i = 0; i < h->head_size; i++)
		y[i] = (double)x[i];
	for (size_t i = 0; i < h->rotated / 2; i++) {
		size_t a = h->interleaved ? 2 * i : i, b = h->interleaved ? 2 * i + 1 : i + h->rotated / 2;
		double c = (double)angles[2 * i], s = (double)angles[2 * i + 1];

		y[a] = (double)x[a] * c - (double)x[b] * s;
		y[b] = (double)x[a] * s + (double)x[b] * c;
	}
}

/* Each row to a slot of its conversation's window, every third one to the kept as well. */
static void choose_places(struct kit_random *r, struct kit_scene *s)
{
	int64_t slot = kit_below(r, 1000);

	for (size_t i = 0; i < s->n; i++) {
		s->rows[i].goes[0].run = i % 7 == 5 ? -1 : RUN_WINDOW;
		s->rows[i].goes[0].slot = slot + (int64_t)i;
		s->rows[i].goes[1].run = i % 3 == 0 ? RUN_KEPT : -1;
		s->rows[i].goes[1].slot = (int64_t)i;
	}
}

static void store(const struct kit_scene *s, const struct backend *b, struct device *d)
{
	size_t width = (s->heads.heads + 2 * s->heads.kv_heads) * s->heads.head_size;
	float *qkv = kit_upload(b, d, s->qkv, s->n * width);
	float *angles = kit_upload(b, d, s->store_angles, s->n * 2 * s->heads.rotated);
	struct store op = { .shape = &s->heads,
			    .pages = &s->pages,
			    .layer = s->layer,
			    .qkv = qkv,
			    .angles = angles,
			    .rows = s->rows,
			    .n = s->n };

	kit_scene_show(s, b, d);
	b->store(d, &op);
	kit_scene_hide(s, b, d);
	b->buffer_free(d, qkv);
	b->buffer_free(d, angles);
}

/* How far from `want` an element may be that was stored: an ulp of the rotation, and what its type rounds. */
static double slack_of(const struct kit_scene *s, int64_t slot, const struct row *r, int run, size_t head, size_t dim,
		       bool value, double want)
{
	double half = s->pages.type == DTYPE_F16 ? 0x1p-11 : 3e-7;

	if (s->pages.type != DTYPE_Q8_0)
		return half * fabs(want) + 4e-7;
	return (double)kit_scale(s, r, run, slot, head, dim, value) * 0.50002 + 4e-7;
}

/* In 8 bits: a scale is the largest's 127th, as the next half that is not smaller. */
static void check_scales(const struct kit_scene *s, const struct row *r, int place, size_t head, const double *want,
			 bool value)
{
	for (size_t b = 0; s->pages.type == DTYPE_Q8_0 && b < s->heads.head_size; b += 32) {
		double d = (double)kit_scale(s, r, r->goes[place].run, r->goes[place].slot, head, b, value),
		       largest = 0;

		for (size_t i = b; i < b + 32; i++)
			largest = fmax(largest, fabs(want[i]));
		assert_true(d >= largest / 127 * 0.999999 && d <= largest / 127 * (1 + 0x1p-10) + 0x1p-24);
	}
}

static void check_place(const struct kit_scene *s, size_t row, int place)
{
	const struct head_shape *h = &s->heads;
	const struct row *r = &s->rows[row];
	const float *qkv = s->qkv + row * (h->heads + 2 * h->kv_heads) * h->head_size;

	if (r->goes[place].run < 0)
		return;
	for (size_t head = 0; head < h->kv_heads; head++) {
		const float *k = qkv + (h->heads + head) * h->head_size, *v = k + h->kv_heads * h->head_size;
		double keys[HEAD_SIZE_MAX], values[HEAD_SIZE_MAX];

		rotate(h, k, s->store_angles + (2 * row + (size_t)place) * h->rotated, keys);
		for (size_t i = 0; i < h->head_size; i++) {
			int run = r->goes[place].run;
			int64_t slot = r->goes[place].slot;
			double key = (double)kit_key(s, r, run, slot, head, i);
			double value = (double)kit_value(s, r, run, slot, head, i);

			values[i] = (double)v[i];
			assert_true(fabs(key - keys[i]) <= slack_of(s, slot, r, run, head, i, false, keys[i]));
			assert_true(fabs(value - values[i]) <= slack_of(s, slot, r, run, head, i, true, values[i]));
		}
		check_scales(s, r, place, head, keys, false);
		check_scales(s, r, place, head, values, true);
	}
}

/* Bytes that are not 0xff as the scene's pages are before anything is stored. */
static size_t written(const struct kit_scene *s)
{
	size_t bytes = 0;

	for (size_t i = 0; i < s->memory_bytes; i++)
		bytes += s->memory[i] != 0xff;
	return bytes;
}

static void check_store(const struct backend *b, const struct kit_shape *shape, enum dtype type, size_t n)
{
	struct kit_random r = { n };
	struct kit_scene s;
	struct device *d = kit_open(b, 2, n);
	size_t places = 0, bytes;

	kit_scene_make(&r, shape, type, n, &s);
	memset(s.memory, 0xff, s.memory_bytes);
	choose_places(&r, &s);
	store(&s, b, d);
	for (size_t i = 0; i < n; i++)
		for (int place = 0; place < 2; place++) {
			check_place(&s, i, place);
			places += s.rows[i].goes[place].run >= 0;
		}
	bytes = places * 2 * page_head_bytes(&s.pages) / PAGE_TOKENS * shape->kv_heads;
	assert_in_range(written(&s), bytes - bytes / 20,
			bytes); /* and nothing else: a few of them are 0xff themselves */
	kit_scene_free(&s);
	b->close(d);
}

void store_writes_what_the_definition_says(void **state)
{
	const struct subject *s = *state;

	for (size_t i = 0; i < SHAPES; i++) {
		check_store(s->b, &shapes[i], DTYPE_F16, 1 + i);
		check_store(s->b, &shapes[i], DTYPE_F32, 33);
		if (shapes[i].head_size % 32 == 0)
			check_store(s->b, &shapes[i], DTYPE_Q8_0, 1 + 4 * i);
	}
}

/* Whatever the backend and the threads: the same bytes, and nothing beside them. */
static void repeat_store(const struct backend *b, const struct backend *first, const struct kit_shape *shape,
			 enum dtype type, size_t n)
{
	uint8_t *want = NULL;

	for (int threads = 0; threads < 4; threads++) {
		const struct backend *by = threads ? b : first;
		struct device *d = kit_open(by, threads ? threads : 1, n);
		struct kit_random r = { 3000 + n };
		struct kit_scene s;

		kit_scene_make(&r, shape, type, n, &s);
		memset(s.memory, 0xff, s.memory_bytes);
		choose_places(&r, &s);
		store(&s, by, d);
		if (threads) {
			assert_memory_equal(s.memory, want, s.memory_bytes);
		} else {
			want = s.memory;
			s.memory = NULL;
		}
		kit_scene_free(&s);
		by->close(d);
	}
	free(want);
}

void store_repeats(void **state)
{
	const struct subject *s = *state;
	const struct backend *first = twin_of(s->b);

	for (size_t i = 0; i < SHAPES * 3; i++)
		repeat_store(s->b, first, &shapes[i % SHAPES], type_for(&shapes[i % SHAPES], i), i % 2 ? 3 : 41);
}

/* Softmax of the scores of all that the row sees, in two passes. `v` at each dimension is weighted by it. */
static void attend_by_definition(const struct kit_scene *s, size_t row, size_t head, double *y)
{
	const struct head_shape *h = &s->heads;
	const struct row *r = &s->rows[row];
	const float *x = s->qkv + (row * (h->heads + 2 * h->kv_heads) + head) * h->head_size;
	size_t kv = head / (h->heads / h->kv_heads);
	double q[HEAD_SIZE_MAX], most = -INFINITY, sum = 0;

	memset(y, 0, h->head_size * sizeof(*y));
	for (int pass = 0; pass < 2; pass++)
		for (int run = 0; run < RUNS; run++) {
			rotate(h, x, s->angles + (row * RUNS + (size_t)run) * h->rotated, q);
			for (int64_t i = 0; i < r->sees[run].count; i++) {
				int64_t slot = r->sees[run].first + i;
				double score = 0, weight;

				for (size_t c = 0; c < h->head_size; c++)
					score += q[c] * (double)kit_key(s, r, run, slot, kv, c);
				score *= (double)h->scale;
				score -= s->slopes ? (double)s->slopes[head] * (double)(r->sees[run].query - slot) : 0;
				most = pass == 0 && score > most ? score : most;
				weight = pass == 0 ? 0 : exp(score - most);
				sum += weight;
				for (size_t c = 0; pass == 1 && c < h->head_size; c++)
					y[c] += weight * (double)kit_value(s, r, run, slot, kv, c);
			}
		}
	if (s->sinks && sum > 0)
		sum += exp((double)s->sinks[head] - most);
	for (size_t c = 0; c < h->head_size; c++)
		y[c] = sum > 0 ? y[c] / sum : 0;
}

/*
 * Values are about 1 and weights sum up to 1; scores of about 5 are off by 1e-6. On pages in 8 bits the fast backends
 * round queries and weights to a 65534th of the largest: scores are off by 5e-5, and values go to 4. A card rounds
 * queries, weights and values of prompts to halves, 2^-12 of each.
 */
static double slack_for(const struct kit_scene *s, const struct backend *b)
{
	if (b->apart && s->n > 64)
		return 2e-3;
	return s->pages.type == DTYPE_Q8_0 && is_fast(b) ? 3e-4 : 1e-5;
}

static void check_attention(const struct kit_scene *s, const struct backend *b, const float *y)
{
	const struct head_shape *h = &s->heads;
	const double slack = slack_for(s, b);

	for (size_t row = 0; row < s->n; row++)
		for (size_t head = 0; head < h->heads; head++) {
			double want[HEAD_SIZE_MAX];

			attend_by_definition(s, row, head, want);
			for (size_t i = 0; i < h->head_size; i++) {
				double got = (double)y[(row * h->heads + head) * h->head_size + i];

				if (!(fabs(got - want[i]) <= slack))
					fail_msg("row %zu of %zu, head %zu, dimension %zu: %.9g, not %.9g", row, s->n,
						 head, i, got, want[i]);
			}
		}
}

static float *room_for(const struct kit_scene *s)
{
	return kit_floats(s->n * s->heads.heads * s->heads.head_size);
}

void attention_is_what_the_definition_says(void **state)
{
	static const size_t rows[] = { 1, 2, 9, 23 };
	const struct subject *sub = *state;
	struct device *d = kit_open(sub->b, 2, 32);

	for (size_t i = 0; i < SHAPES * 4; i++) {
		struct kit_random r = { 1000 + i };
		struct kit_scene s;
		float *y;

		kit_scene_make(&r, &shapes[i % SHAPES], type_for(&shapes[i % SHAPES], i), rows[i / SHAPES], &s);
		y = room_for(&s);
		kit_attend(&s, sub->b, d, 0, s.n, y);
		check_attention(&s, sub->b, y);
		kit_scene_free(&s);
		free(y);
	}
	sub->b->close(d);
}

/* Of a conversation's rows only the first and the last see something of the window: pages between, nobody looks at. */
static void leave_a_gap(struct kit_scene *s)
{
	for (size_t i = 0; i < s->n; i++) {
		struct row *row = &s->rows[i];
		const bool first = i == 0 || row[-1].tables != row->tables;
		const bool last = i + 1 == s->n || row[1].tables != row->tables;
		const int64_t all = row->sees[RUN_WINDOW].count, count = all > 0 && (first || last) ? 1 : 0;

		row->sees[RUN_WINDOW].count = count;
		if (count && !first)
			row->sees[RUN_WINDOW].first += all - 1;
	}
}

/*
 * Tiles of many rows, which windows cross and pages wrap in, for all sizes of heads that a backend may have a way of
 * its own for. A card cuts the largest of these into tiles of 128 rows, others into 64.
 */
void attention_of_prompts_is_what_the_definition_says(void **state)
{
	static const struct kit_shape many[] = {
		{ 8, 2, 64, 64, true }, { 9, 3, 128, 64, false }, { 2, 1, 80, 80, false },
		{ 2, 1, 96, 32, true }, { 1, 1, 256, 256, true }, { 2, 1, 72, 64, true },
	};
	const struct subject *sub = *state;
	struct device *d = kit_open(sub->b, 2, 256);

	for (size_t i = 0; i < sizeof(many) / sizeof(many[0]) * 3; i++) {
		struct kit_random r = { 4000 + i };
		struct kit_scene s;
		float *y;

		kit_scene_make(&r, &many[i / 3], type_for(&many[i / 3], i), sub->b->apart && i % 3 ? 230 : 70, &s);
		y = room_for(&s);
		kit_attend(&s, sub->b, d, 0, s.n, y);
		check_attention(&s, sub->b, y);
		leave_a_gap(&s);
		kit_attend(&s, sub->b, d, 0, s.n, y);
		check_attention(&s, sub->b, y);
		kit_scene_free(&s);
		free(y);
	}
	sub->b->close(d);
}

/* Rows together and alone, pages split among threads and not, many lookers and few: the same bits. */
static void repeat_scene(const struct backend *b, const struct backend *first, const struct kit_scene *s)
{
	size_t width = s->heads.heads * s->heads.head_size;
	float *want = room_for(s), *got = room_for(s);

	for (int threads = 0; threads < 4; threads += b->apart ? 3 : 1) {
		const struct backend *by = threads ? b : first;
		struct device *d = kit_open_invariant(by, threads ? threads : 1, s->n, PRECISION_EXACT);

		kit_attend(s, by, d, 0, s->n, threads ? got : want);
		if (threads)
			kit_same_bits(got, want, s->n * width);
		for (size_t i = 0; threads && i < s->n; i += 1 + (size_t)threads) {
			size_t n = i + (size_t)threads <= s->n ? (size_t)threads : 1;

			kit_attend(s, by, d, i, n, got);
			kit_same_bits(got, want + i * width, n * width);
		}
		by->close(d);
	}
	free(want);
	free(got);
}

void attention_repeats(void **state)
{
	const struct subject *sub = *state;
	const struct backend *first = twin_of(sub->b);

	for (size_t i = 0; i < SHAPES * 2; i++) {
		struct kit_random r = { 2000 + i };
		struct kit_scene s;

		kit_scene_make(&r, &shapes[i % SHAPES], type_for(&shapes[i % SHAPES], i), i < SHAPES ? 4 : 40, &s);
		repeat_scene(sub->b, first, &s);
		kit_scene_free(&s);
	}
}
