/* Scenes of attention for the kernel tests; see kit.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dtype.h"
#include "kit.h"

/* The keys or the values of a slot's head, as its page keeps them. */
static uint8_t *head_at(const struct kit_scene *s, const struct row *row, int run, int64_t slot, size_t head,
			bool value)
{
	const struct page_table *t = &row->tables[run];
	uint8_t *page = t->page[slot / PAGE_TOKENS % t->ring];
	size_t bytes = s->heads.head_size * PAGE_TOKENS / 32 * dtype_find((uint32_t)s->pages.type)->bytes;

	if (s->pages.type != DTYPE_Q8_0)
		bytes *= 32; /* those have no blocks */
	assert_int_equal(page_head_bytes(&s->pages), bytes);
	return page + page_layer_offset(&s->pages, s->layer) + (value ? s->heads.kv_heads : 0) * bytes + head * bytes;
}

/* What the layout in kernels.h says: the number of an element, or in 8 bits its byte behind the scales. */
static size_t place_of(const struct kit_scene *s, size_t token, size_t dim, bool value)
{
	size_t size = s->heads.head_size;

	if (s->pages.type != DTYPE_Q8_0)
		return value ? token * size + dim : dim * PAGE_TOKENS + token;
	return (value ? (token / 4 * size + dim) * 4 + token % 4 : (dim / 4 * PAGE_TOKENS + token) * 4 + dim % 4) +
	       size / 32 * PAGE_TOKENS * 2;
}

static uint8_t *scale_at(uint8_t *head, size_t token, size_t dim)
{
	return head + (dim / 32 * PAGE_TOKENS + token) * 2;
}

static float half_at(const uint8_t *p)
{
	uint16_t h;

	memcpy(&h, p, 2);
	return f16_to_f32(h);
}

static float number_at(const struct kit_scene *s, uint8_t *head, size_t token, size_t dim, bool value)
{
	size_t at = place_of(s, token, dim, value);
	float f;

	if (s->pages.type == DTYPE_Q8_0)
		return (float)(int8_t)head[at] * half_at(scale_at(head, token, dim));
	if (s->pages.type == DTYPE_F16)
		return half_at(head + 2 * at);
	memcpy(&f, head + 4 * at, 4);
	return f;
}

float kit_key(const struct kit_scene *s, const struct row *row, int run, int64_t slot, size_t head, size_t dim)
{
	return number_at(s, head_at(s, row, run, slot, head, false), (size_t)(slot % PAGE_TOKENS), dim, false);
}

float kit_value(const struct kit_scene *s, const struct row *row, int run, int64_t slot, size_t head, size_t dim)
{
	return number_at(s, head_at(s, row, run, slot, head, true), (size_t)(slot % PAGE_TOKENS), dim, true);
}

float kit_scale(const struct kit_scene *s, const struct row *row, int run, int64_t slot, size_t head, size_t dim,
		bool value)
{
	return half_at(scale_at(head_at(s, row, run, slot, head, value), (size_t)(slot % PAGE_TOKENS), dim));
}

/* A random element; in 8 bits a block's first brings the scale, now and then none or one that is no normal half. */
static void put_number(struct kit_random *r, const struct kit_scene *s, uint8_t *head, size_t token, size_t dim,
		       bool value)
{
	size_t at = place_of(s, token, dim, value);
	float x = kit_number(r), d = kit_below(r, 29) ? fabsf(x) / 100 : (float)kit_below(r, 2) * 0x1p-20f;
	uint16_t h = f16_of_f32(s->pages.type == DTYPE_Q8_0 ? d : x);

	if (s->pages.type == DTYPE_F32)
		memcpy(head + 4 * at, &x, 4);
	else if (s->pages.type == DTYPE_F16)
		memcpy(head + 2 * at, &h, 2);
	else
		head[at] = (uint8_t)((int)kit_below(r, 255) - 127);
	if (s->pages.type == DTYPE_Q8_0 && dim % 32 == 0)
		memcpy(scale_at(head, token, dim), &h, 2);
}

static void make_pages(struct kit_scene *s)
{
	size_t bytes = page_bytes(&s->pages);
	uint8_t *page;

	s->memory_bytes = KIT_CONVERSATIONS * RUNS * KIT_RING * bytes;
	s->memory = malloc(s->memory_bytes);
	assert_non_null(s->memory);
	memset(s->memory, 0xff, s->memory_bytes); /* a NaN in all types */
	page = s->memory;
	for (int c = 0; c < KIT_CONVERSATIONS; c++)
		for (int run = 0; run < RUNS; run++) {
			for (int i = 0; i < KIT_RING; i++, page += bytes)
				s->page[c][run][i] = page;
			s->tables[c][run] = (struct page_table){ s->page[c][run], KIT_RING };
		}
}

/* Three in four of the runs are seen; a window begins anywhere, so that it may wrap. */
static void choose_sights(struct kit_random *r, struct kit_scene *s, size_t from, size_t past)
{
	bool nothing = kit_below(r, 9) == 0;
	int64_t window = kit_below(r, 2000), count = 1 + kit_below(r, 3 * PAGE_TOKENS), roll = kit_below(r, 2);
	int64_t pinned = kit_below(r, 4) ? kit_below(r, 90) : 0, kept = kit_below(r, 2) ? kit_below(r, 70) : 0;
	int64_t kept_first = kit_below(r, 200), pinned_first = kit_below(r, 3) ? 0 : kit_below(r, 90);

	for (size_t i = from; i < past; i++) {
		struct row *row = &s->rows[i];
		int64_t step = (int64_t)(i - from);

		row->goes[0].run = row->goes[1].run = -1;
		if (nothing)
			continue;
		row->sees[RUN_PINNED].first = pinned_first;
		row->sees[RUN_PINNED].count = pinned;
		row->sees[RUN_KEPT].first = kept_first;
		row->sees[RUN_KEPT].count = kept;
		row->sees[RUN_WINDOW].first = window + roll * step;
		row->sees[RUN_WINDOW].count = count + (1 - roll) * step;
		for (int run = 0; run < RUNS; run++)
			row->sees[run].query = row->sees[run].first + row->sees[run].count - 1 + 30 * (RUNS - 1 - run);
	}
}

static void fill_head(struct kit_random *r, struct kit_scene *s, const struct row *row, int run, int64_t slot,
		      size_t head)
{
	size_t token = (size_t)(slot % PAGE_TOKENS);

	for (size_t dim = 0; dim < s->heads.head_size; dim++)
		for (int value = 0; value < 2; value++)
			put_number(r, s, head_at(s, row, run, slot, head, value), token, dim, value);
}

static void fill_seen(struct kit_random *r, struct kit_scene *s, const struct row *row)
{
	for (int run = 0; run < RUNS; run++)
		for (int64_t i = 0; i < row->sees[run].count; i++) {
			int64_t slot = row->sees[run].first + i;

			if (!isnan(kit_key(s, row, run, slot, 0, 0)))
				continue;
			for (size_t head = 0; head < s->heads.kv_heads; head++)
				fill_head(r, s, row, run, slot, head);
		}
}

static float *make_angles(struct kit_random *r, size_t n, size_t rotated)
{
	float *a = kit_floats(n * rotated);

	for (size_t i = 0; i < n * rotated / 2; i++) {
		double at = kit_number(r) * 3;

		a[2 * i] = (float)cos(at);
		a[2 * i + 1] = (float)sin(at);
	}
	return a;
}

void kit_scene_make(struct kit_random *r, const struct kit_shape *shape, enum dtype type, size_t n,
		    struct kit_scene *ret)
{
	struct kit_scene *s = ret;
	size_t width = (shape->heads + 2 * shape->kv_heads) * shape->head_size, per = n / KIT_CONVERSATIONS + 1;

	*s = (struct kit_scene){ .n = n, .layer = 1 };
	s->heads = (struct head_shape){ .heads = shape->heads,
					.kv_heads = shape->kv_heads,
					.head_size = shape->head_size,
					.rotated = shape->rotated,
					.interleaved = shape->interleaved,
					.scale = 1 / sqrtf((float)shape->head_size) };
	s->pages = (struct page_shape){ 2, shape->kv_heads, shape->head_size, type };
	make_pages(s);
	s->rows = calloc(n, sizeof(*s->rows));
	assert_non_null(s->rows);
	for (size_t i = 0; i < n; i++)
		s->rows[i].tables = s->tables[n < 5 ? 0 : i / per];
	for (size_t from = 0, past; from < n; from = past) {
		for (past = from + 1; past < n && s->rows[past].tables == s->rows[from].tables;)
			past++;
		choose_sights(r, s, from, past);
	}
	for (size_t i = 0; i < n; i++)
		fill_seen(r, s, &s->rows[i]);
	s->qkv = kit_floats(n * width);
	kit_numbers(r, s->qkv, n * width);
	s->angles = make_angles(r, n * RUNS, shape->rotated);
	s->store_angles = make_angles(r, n * 2, shape->rotated);
	if (kit_below(r, 2)) {
		s->sinks = kit_floats(shape->heads);
		kit_numbers(r, s->sinks, shape->heads);
		s->sinks[0] = 30; /* one that takes all */
	}
	if (kit_below(r, 3) == 0) {
		s->slopes = kit_floats(shape->heads);
		for (size_t i = 0; i < shape->heads; i++)
			s->slopes[i] = exp2f(-8 * (float)(i + 1) / (float)shape->heads);
	}
}

void kit_scene_free(struct kit_scene *s)
{
	free(s->memory);
	free(s->rows);
	free(s->qkv);
	free(s->angles);
	free(s->store_angles);
	free(s->sinks);
	free(s->slopes);
}

void kit_scene_show(const struct kit_scene *s, const struct backend *b, struct device *d)
{
	struct err e;

	if (b->pages_attach(d, s->memory, s->memory_bytes, &e) != 0)
		fail_msg("%s: %s", b->name, e.text);
	b->page_load(d, s->memory, s->memory_bytes);
}

void kit_scene_hide(const struct kit_scene *s, const struct backend *b, struct device *d)
{
	assert_true(b->page_saved(d, b->page_save(d, s->memory, s->memory_bytes), true));
	b->pages_detach(d);
}

void kit_attend(const struct kit_scene *s, const struct backend *b, struct device *d, size_t first, size_t n, float *y)
{
	size_t width = (s->heads.heads + 2 * s->heads.kv_heads) * s->heads.head_size;
	size_t out = n * s->heads.heads * s->heads.head_size;
	float *qkv = kit_upload(b, d, s->qkv + first * width, n * width);
	float *angles = kit_upload(b, d, s->angles + first * RUNS * s->heads.rotated, n * RUNS * s->heads.rotated);
	float *to = kit_upload(b, d, NULL, out), *sinks = kit_upload(b, d, s->sinks, s->heads.heads);
	float *slopes = kit_upload(b, d, s->slopes, s->heads.heads);
	struct attend op = { .shape = &s->heads,
			     .pages = &s->pages,
			     .layer = s->layer,
			     .qkv = qkv,
			     .angles = angles,
			     .rows = s->rows + first,
			     .n = n,
			     .y = to,
			     .sinks = s->sinks ? sinks : NULL,
			     .slopes = s->slopes ? slopes : NULL };

	kit_scene_show(s, b, d);
	b->attend(d, &op);
	kit_scene_hide(s, b, d);
	kit_download(b, d, to, y, out);
	b->buffer_free(d, qkv);
	b->buffer_free(d, angles);
	b->buffer_free(d, sinks);
	b->buffer_free(d, slopes);
}
