/*
 * Attention of some queries over some pages, without a sum across lanes: in the product with the keys lanes are tokens
 * (dimension after dimension), in the product with the values they are dimensions (token after token). A page gives a
 * partial softmax; pages are merged in ascending order within a span, and spans likewise:
 *
 *	max' = larger of max and page's max, a = e^(max - max'), b = e^(page's max - max')
 *	sum' = fma(page's sum, b, sum * a), likewise each value
 *
 * How many queries share the reading of a page, and whether the page was turned into F32 first, changes no result.
 * Included like rows.h, after it.
 */
#ifndef CPU_ATTEND_H
#define CPU_ATTEND_H

#include "attend_q8.h"

/* A query and the tokens that it sees of the page at hand. */
struct looker {
	size_t query;
	struct sight sees;
};

/* The page at hand, of one layer and KV head. A row of `values` has `stride` elements, whole vectors of them. */
struct page_view {
	const void *keys, *values;
	const void *next; /* keys of the page that comes after it */
	bool half;
	size_t stride;
};

INLINE struct v16 load_element(const void *p, size_t at, bool half)
{
	return half ? v16_load_f16((const uint16_t *)p + at) : v16_load((const float *)p + at);
}

/*
 * A page's keys and values of a KV head are a few KiB apart from all others, too little for the hardware to foresee
 * what comes: while keys are read the values are asked for, and while values are read the keys that come next. Each of
 * `steps` asks for its share. Pages that were turned into F32 lie in a near cache already.
 */
INLINE void fetch_share(const void *next, size_t dims, size_t step, size_t steps, bool half)
{
	const size_t share = dims * PAGE_TOKENS * 2 / steps;

	if (!half)
		return;
	for (size_t at = 0; at < share; at += 64)
		__builtin_prefetch((const char *)next + step * share + at);
}

INLINE void scores_of(const float *const *q, float *const *s, size_t queries, size_t dims, const struct page_view *v,
		      bool half, size_t token)
{
	const size_t passes = PAGE_TOKENS / (ATTEND_V * LANES), pass = token / (ATTEND_V * LANES);
	struct v16 acc[ATTEND_Q][ATTEND_V];

	foreach (i, queries)
		foreach (j, ATTEND_V)
			acc[i][j] = v16_set1(0);
	for (size_t d = 0; d < dims; d++) {
		fetch_share(v->values, dims, pass * dims + d, passes * dims, half);
		foreach (j, ATTEND_V) {
			struct v16 k = load_element(v->keys, d * PAGE_TOKENS + token + j * LANES, half);

			foreach (i, queries)
				acc[i][j] = v16_fma(v16_set1(q[i][d]), k, acc[i][j]);
		}
	}
	foreach (i, queries)
		foreach (j, ATTEND_V)
			v16_store(s[i] + token + j * LANES, acc[i][j]);
}

/* o[dim .. dim + vectors * LANES) += probabilities times values of tokens [from, to). */
INLINE void values_of(const float *const *p, float *const *o, size_t queries, size_t vectors, const struct page_view *v,
		      bool half, size_t dim, size_t from, size_t to)
{
	const size_t passes = v->stride / (vectors * LANES);
	struct v16 acc[ATTEND_Q][ATTEND_V];

	foreach (i, queries)
		foreach (j, vectors)
			acc[i][j] = v16_load(o[i] + dim + j * LANES);
	for (size_t t = from; t < to; t++) {
		fetch_share(v->next, v->stride, t * passes + dim / (vectors * LANES), PAGE_TOKENS * passes, half);
		foreach (j, vectors) {
			struct v16 x = load_element(v->values, t * v->stride + dim + j * LANES, half);

			foreach (i, queries)
				acc[i][j] = v16_fma(v16_set1(p[i][t]), x, acc[i][j]);
		}
	}
	foreach (i, queries)
		foreach (j, vectors)
			v16_store(o[i] + dim + j * LANES, acc[i][j]);
}

INLINE void values_all(const float *const *p, float *const *o, size_t queries, size_t dims, const struct page_view *v,
		       bool half, size_t from, size_t to)
{
	size_t dim = 0;

	for (; dim + ATTEND_V * LANES <= dims; dim += ATTEND_V * LANES)
		values_of(p, o, queries, ATTEND_V, v, half, dim, from, to);
	for (; dim < dims; dim += LANES)
		values_of(p, o, queries, 1, v, half, dim, from, to);
}

/* Scores of up to ATTEND_Q queries; vectors that none of them sees are left out. */
INLINE void scores_some(const struct looker *l, size_t n, struct attend_scratch *s, size_t dims,
			const struct page_view *v, bool half)
{
	const float *q[ATTEND_Q];
	float *to[ATTEND_Q];
	size_t lo = PAGE_TOKENS, hi = 0;

	for (size_t i = 0; i < n; i++) {
		q[i] = s->q + l[i].query * dims;
		to[i] = s->s + l[i].query * PAGE_TOKENS;
		lo = (size_t)l[i].sees.lo < lo ? (size_t)l[i].sees.lo : lo;
		hi = (size_t)l[i].sees.hi > hi ? (size_t)l[i].sees.hi : hi;
	}
	for (size_t t = lo / (ATTEND_V * LANES) * (ATTEND_V * LANES); t < hi; t += ATTEND_V * LANES)
		scores_of(q, to, n, dims, v, half, t);
}

/* Values of up to ATTEND_Q queries: together where all see, else each alone, so that nobody reads what it must not. */
INLINE void values_some(const struct looker *l, size_t n, struct attend_scratch *s, size_t dims,
			const struct page_view *v, bool half)
{
	const float *p[ATTEND_Q];
	float *o[ATTEND_Q];
	size_t lo = 0, hi = PAGE_TOKENS;

	for (size_t i = 0; i < n; i++) {
		p[i] = s->s + l[i].query * PAGE_TOKENS;
		o[i] = s->page_o + l[i].query * dims;
		memset(o[i], 0, dims * sizeof(float));
		lo = (size_t)l[i].sees.lo > lo ? (size_t)l[i].sees.lo : lo;
		hi = (size_t)l[i].sees.hi < hi ? (size_t)l[i].sees.hi : hi;
	}
	if (lo > hi)
		lo = hi = 0;
	if (lo == hi) { /* nothing in common */
		for (size_t i = 0; i < n; i++)
			values_all(p + i, o + i, 1, dims, v, half, (size_t)l[i].sees.lo, (size_t)l[i].sees.hi);
		return;
	}
	for (size_t i = 0; i < n; i++)
		if ((size_t)l[i].sees.lo < lo)
			values_all(p + i, o + i, 1, dims, v, half, (size_t)l[i].sees.lo, lo);
	values_all(p, o, n, dims, v, half, lo, hi);
	for (size_t i = 0; i < n; i++)
		if ((size_t)l[i].sees.hi > hi)
			values_all(p + i, o + i, 1, dims, v, half, hi, (size_t)l[i].sees.hi);
}

/* Scores to probabilities, unseen tokens to zero. */
static void softmax_page(const struct looker *l, struct attend_scratch *s)
{
	float *p = s->s + l->query * PAGE_TOKENS, *end = p + PAGE_TOKENS;
	struct v16 e[PAGE_TOKENS / LANES], most;
	struct partial *ret = &s->page[l->query];

	for (float *at = p; at < p + l->sees.lo; at++)
		*at = -INFINITY;
	for (float *at = p + l->sees.hi; at < end; at++)
		*at = -INFINITY;
	for (size_t j = 0; j < PAGE_TOKENS / LANES; j++)
		e[j] = v16_load(p + j * LANES);
	ret->max = v16_largest(v16_max(v16_max(e[0], e[1]), v16_max(e[2], e[3])));
	most = v16_set1(ret->max);
	for (size_t j = 0; j < PAGE_TOKENS / LANES; j++) {
		e[j] = exp_negative(v16_sub(e[j], most));
		v16_store(p + j * LANES, e[j]);
	}
	ret->sum = v16_sum(v16_add(v16_add(e[0], e[1]), v16_add(e[2], e[3])));
}

/* The lookers' partial results of a page: a constant number of queries at once, so that all of them are registers. */
INLINE void look(const struct looker *l, size_t n, struct attend_scratch *s, size_t head_size, size_t padded,
		 const struct page_view *v, bool half)
{
	scores_some(l, n, s, head_size, v, half);
	for (size_t i = 0; i < n; i++)
		softmax_page(l + i, s);
	values_some(l, n, s, padded, v, half);
}

#define LOOK_FUNCTION(name, half)                                                                                      \
	static void name(const struct looker *l, size_t n, struct attend_scratch *s, size_t head_size,                 \
			 const struct page_view *v)                                                                    \
	{                                                                                                              \
		size_t padded = round_lanes(head_size);                                                                \
                                                                                                                       \
		for (; n >= ATTEND_Q; n -= ATTEND_Q, l += ATTEND_Q)                                                    \
			look(l, ATTEND_Q, s, head_size, padded, v, half);                                              \
		for (; n; n--, l++)                                                                                    \
			look(l, 1, s, head_size, padded, v, half);                                                     \
	}

LOOK_FUNCTION(look_f16, true)
LOOK_FUNCTION(look_f32, false)

/*
 * The same of a page in 8 bits, up to WHOLE_Q queries at once: whole numbers give one result in any company. `next` is
 * what is read after it.
 */
INLINE void look_q8_some(const struct looker *l, size_t n, struct attend_scratch *s, size_t size, const uint8_t *keys,
			 const uint8_t *values, const uint8_t *next)
{
	struct whole q[WHOLE_Q];
	float *scores[WHOLE_Q], *o[WHOLE_Q];
	size_t lo = PAGE_TOKENS, hi = 0;

	for (size_t i = 0; i < n; i++) {
		q[i].q = s->q16 + l[i].query * size;
		q[i].d = s->q16_scale + l[i].query * (size / BLOCK);
		scores[i] = s->s + l[i].query * PAGE_TOKENS;
		o[i] = s->page_o + l[i].query * size;
		lo = (size_t)l[i].sees.lo < lo ? (size_t)l[i].sees.lo : lo;
		hi = (size_t)l[i].sees.hi > hi ? (size_t)l[i].sees.hi : hi;
	}
	q8_scores(q, scores, n, size, keys, lo, hi, values);
	for (size_t i = 0; i < n; i++)
		softmax_page(l + i, s);
	q8_values((const float *const *)scores, o, n, size, values, lo, hi, next);
}

static void look_q8(const struct looker *l, size_t n, struct attend_scratch *s, size_t size, const uint8_t *keys,
		    const uint8_t *values, const uint8_t *next)
{
	for (; n >= WHOLE_Q; n -= WHOLE_Q, l += WHOLE_Q)
		look_q8_some(l, WHOLE_Q, s, size, keys, values, n > WHOLE_Q ? keys : next);
	for (; n; n--, l++)
		look_q8_some(l, 1, s, size, keys, values, n > 1 ? keys : next);
}

/* `n` numbers to F32; n need not be whole vectors. */
INLINE void to_floats(const uint8_t *src, size_t n, bool half, float *dst)
{
	uint16_t rest[LANES] = { 0 };

	if (!half) {
		memcpy(dst, src, n * sizeof(float));
		return;
	}
	for (; n >= LANES; n -= LANES, src += 2 * LANES, dst += LANES)
		v16_store(dst, v16_load_f16((const uint16_t *)src));
	if (n) {
		memcpy(rest, src, 2 * n);
		store_some(dst, n, v16_load_f16(rest));
	}
}

/* From this number of lookers on it pays to turn a page of halves into F32 once. */
enum { CONVERT_FROM = 3 * ATTEND_Q };

/* The page for n lookers: where it lies, or converted in the scratch when many look or its rows are no whole vectors.
 */
static void view_page(const struct looker *l, size_t n, struct attend_scratch *s, size_t head_size, const uint8_t *keys,
		      const uint8_t *values, const uint8_t *next, enum dtype type, struct page_view *ret)
{
	size_t padded = round_lanes(head_size), element = type == DTYPE_F32 ? 4 : 2;
	int64_t lo = PAGE_TOKENS, hi = 0;
	bool half = type == DTYPE_F16;

	*ret = (struct page_view){ keys, values, next, half, head_size };
	if (padded == head_size && (!half || n < CONVERT_FROM))
		return;
	for (size_t i = 0; i < n; i++) {
		lo = l[i].sees.lo < lo ? l[i].sees.lo : lo;
		hi = l[i].sees.hi > hi ? l[i].sees.hi : hi;
	}
	for (int64_t t = lo; t < hi; t++) {
		float *to = s->v + (size_t)t * padded;

		to_floats(values + (size_t)t * head_size * element, head_size, half, to);
		memset(to + head_size, 0, (padded - head_size) * sizeof(float));
	}
	to_floats(keys, head_size * PAGE_TOKENS, half, s->k);
	*ret = (struct page_view){ s->k, s->v, next, false, padded };
}

/* What merging does to up to LANES results and to the pages' that are merged into them. */
INLINE void merge_factors(const float *max, const float *page_max, float *a, float *b)
{
	struct v16 old = v16_load(max), new = v16_load(page_max), most = v16_max(old, new);

	v16_store(a, exp_negative(v16_sub(old, most)));
	v16_store(b, exp_negative(v16_sub(new, most)));
}

INLINE void merge_one(struct partial *r, float *o, const struct partial *page, const float *page_o, float a, float b,
		      size_t padded)
{
	r->max = r->max > page->max ? r->max : page->max;
	r->sum = fmaf(page->sum, b, r->sum * a);
	for (size_t i = 0; i < padded; i += LANES) {
		struct v16 old = v16_mul(v16_load(o + i), v16_set1(a));

		v16_store(o + i, v16_fma(v16_load(page_o + i), v16_set1(b), old));
	}
}

/* Up to LANES queries, both of whose results are not empty. */
static void merge_some(const size_t *query, size_t n, struct partial *to, float *to_o, const struct partial *from,
		       const float *from_o, size_t padded)
{
	float max[LANES] = { 0 }, from_max[LANES] = { 0 }, a[LANES], b[LANES];

	for (size_t i = 0; i < n; i++) {
		max[i] = to[query[i]].max;
		from_max[i] = from[query[i]].max;
	}
	merge_factors(max, from_max, a, b);
	for (size_t i = 0; i < n; i++) {
		size_t q = query[i];

		merge_one(&to[q], to_o + q * padded, &from[q], from_o + q * padded, a[i], b[i], padded);
	}
}

/* Merges what is not empty of `from`, the results of all queries, into `to`. */
static void merge_all(struct partial *to, float *to_o, const struct partial *from, const float *from_o, size_t queries,
		      size_t padded)
{
	size_t some[LANES], n = 0;

	for (size_t q = 0; q < queries; q++) {
		if (from[q].sum == 0.0f)
			continue;
		if (to[q].sum == 0.0f) {
			to[q] = from[q];
			memcpy(to_o + q * padded, from_o + q * padded, padded * sizeof(*to_o));
			continue;
		}
		some[n++] = q;
		if (n < LANES)
			continue;
		merge_some(some, n, to, to_o, from, from_o, padded);
		n = 0;
	}
	if (n > 0)
		merge_some(some, n, to, to_o, from, from_o, padded);
}

/* A logit without a value joins the softmax; NULL: there is none. */
INLINE void merge_sink(struct partial *r, float *o, const float *sink, size_t padded)
{
	float max[LANES] = { r->max }, logit[LANES] = { 0 }, a[LANES], b[LANES];

	if (!sink)
		return;
	logit[0] = *sink;
	merge_factors(max, logit, a, b);
	r->max = r->max > *sink ? r->max : *sink;
	r->sum = fmaf(r->sum, a[0], b[0]);
	for (size_t i = 0; i < padded; i += LANES)
		v16_store(o + i, v16_mul(v16_load(o + i), v16_set1(a[0])));
}

INLINE void finish(const struct partial *r, const float *o, size_t head_size, float *y)
{
	float inverse = r->sum != 0.0f ? 1.0f / r->sum : 0.0f;

	for (size_t i = 0; i < head_size; i++)
		y[i] = o[i] * inverse;
}

/* Spans of one query, each [max, sum, .., values]; those that it does not see have sum 0. */
static void merge_spans(const float *partials, size_t spans, size_t stride, size_t head_size, const float *sink,
			float *y)
{
	size_t padded = round_lanes(head_size);
	_Alignas(64) float o[HEAD_SIZE_MAX] = { 0 };
	struct partial all = { -INFINITY, 0 };

	for (size_t first = 0; first < spans; first += LANES) {
		float max[LANES] = { 0 }, span_max[LANES] = { 0 }, a[LANES], b[LANES], most = all.max;
		size_t count = spans - first < LANES ? spans - first : LANES;

		for (size_t i = 0; i < count; i++) {
			const float *p = partials + (first + i) * stride;

			max[i] = most;
			span_max[i] = p[0];
			if (p[1] != 0.0f)
				most = most > p[0] ? most : p[0];
		}
		merge_factors(max, span_max, a, b);
		for (size_t i = 0; i < count; i++) {
			const float *p = partials + (first + i) * stride;
			const struct partial span = { p[0], p[1] };

			if (span.sum == 0.0f)
				continue;
			if (all.sum != 0.0f) {
				merge_one(&all, o, &span, p + PARTIAL_VALUES, a[i], b[i], padded);
				continue;
			}
			all = span;
			memcpy(o, p + PARTIAL_VALUES, padded * sizeof(*o));
		}
	}
	merge_sink(&all, o, sink, padded);
	finish(&all, o, head_size, y);
}

/* Queries of all KV heads of the part. */
INLINE size_t part_queries(const struct attend_part *p)
{
	return p->kv_heads * p->queries;
}

/* Query i of the part: its row, and the head. */
INLINE const struct row *part_row(const struct attend_part *p, size_t i, size_t *row, size_t *head)
{
	const struct head_shape *h = p->op->shape;
	size_t ratio = h->heads / h->kv_heads, q = p->query + i % p->queries;

	*row = p->row + q / ratio;
	*head = (p->kv_head + i / p->queries) * ratio + q % ratio;
	return &p->op->rows[*row];
}

/* Turns and scales the queries for a run; those that see nothing of it keep what was there. */
static void rotate_queries(const struct attend_part *p, int run, struct attend_scratch *s)
{
	const struct head_shape *h = p->op->shape;
	size_t row, head, width = (h->heads + 2 * h->kv_heads) * h->head_size;

	for (size_t i = 0; i < part_queries(p); i++) {
		const struct row *r = part_row(p, i, &row, &head);
		float *q = s->q + i * h->head_size;

		if (r->sees[run].count <= 0)
			continue;
		rotate_head(h, p->op->qkv + row * width + head * h->head_size,
			    p->op->angles + (row * RUNS + (size_t)run) * h->rotated, q);
		for (size_t d = 0; d < h->head_size; d++)
			q[d] *= h->scale;
		if (p->op->pages->type == DTYPE_Q8_0)
			q8_query(q, h->head_size, s->q16 + i * h->head_size, s->q16_scale + i * (h->head_size / BLOCK));
	}
}

static void keep_partials(const struct attend_part *p, size_t span, const struct attend_scratch *s)
{
	size_t padded = round_lanes(p->op->shape->head_size);

	for (size_t i = 0; i < part_queries(p); i++) {
		float *to = p->partials + (i * p->partial_spans + span) * p->partial_stride;

		to[0] = s->span[i].max;
		to[1] = s->span[i].sum;
		if (to[1] != 0.0f)
			memcpy(to + PARTIAL_VALUES, s->span_o + i * padded, padded * sizeof(float));
	}
}

static void clear_partials(struct partial *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (struct partial){ -INFINITY, 0 };
}

/* A page's keys and values of one KV head, the h-th of the part; `next`: the keys that come after it. */
static void attend_head(const struct attend_part *p, int run, int64_t page, size_t h, const uint8_t *next,
			struct attend_scratch *s)
{
	const struct attend *op = p->op;
	const size_t first = h * p->queries, size = op->shape->head_size;
	const struct page_table *table = &op->rows[p->row].tables[run];
	const uint8_t *keys = page_keys(table, page, op->pages, op->layer, p->kv_head + h);
	const uint8_t *values = keys + page_values(op->pages);
	struct looker lookers[QUERIES];
	struct page_view view;
	size_t row, head, n = 0;

	for (size_t i = first; i < first + p->queries; i++) {
		struct looker l = { i, sees_page(part_row(p, i, &row, &head), run, page) };

		if (l.sees.lo < l.sees.hi)
			lookers[n++] = l;
	}
	if (n < p->queries)
		clear_partials(s->page + first, p->queries);
	if (n == 0)
		return;
	if (op->pages->type == DTYPE_Q8_0) {
		look_q8(lookers, n, s, size, keys, values, next);
		return;
	}
	view_page(lookers, n, s, size, keys, values, next, op->pages->type, &view);
	(view.half ? look_f16 : look_f32)(lookers, n, s, size, &view);
}

static void attend_page(const struct attend_part *p, int run, int64_t page, struct attend_scratch *s)
{
	const struct attend *op = p->op;
	const struct page_table *table = &op->rows[p->row].tables[run];
	const bool more = page + 1 < p->pages.first[run] + p->pages.count[run];

	for (size_t h = 0; h < p->kv_heads; h++) {
		const bool last = h + 1 == p->kv_heads;
		const size_t head = p->kv_head + (last ? 0 : h + 1);

		attend_head(p, run, page, h, page_keys(table, page + (last && more), op->pages, op->layer, head), s);
	}
	merge_all(s->span, s->span_o, s->page, s->page_o, part_queries(p), round_lanes(op->shape->head_size));
}

/* The pages of a span, `number` in its run, that any of the queries sees. */
static void attend_span(const struct attend_part *p, int run, int64_t number, struct attend_scratch *s)
{
	int64_t first = p->pages.first[run], past = first + p->pages.count[run];

	clear_partials(s->span, part_queries(p));
	for (int64_t page = number * SPAN; page < (number + 1) * SPAN; page++)
		if (page >= first && page < past)
			attend_page(p, run, page, s);
}

static void finish_part(const struct attend_part *p, struct attend_scratch *s)
{
	const struct head_shape *h = p->op->shape;
	size_t padded = round_lanes(h->head_size), row, head;

	for (size_t i = 0; i < part_queries(p); i++) {
		part_row(p, i, &row, &head);
		if (s->merged[i].sum == 0.0f)
			memset(s->o + i * padded, 0, padded * sizeof(*s->o));
		merge_sink(&s->merged[i], s->o + i * padded, p->op->sinks ? p->op->sinks + head : NULL, padded);
		finish(&s->merged[i], s->o + i * padded, h->head_size,
		       p->op->y + (row * h->heads + head) * h->head_size);
	}
}

static void attend_part(const struct attend_part *p, struct attend_scratch *s)
{
	size_t padded = round_lanes(p->op->shape->head_size), end = p->span + p->span_count, first = 0;

	clear_partials(s->merged, part_queries(p));
	for (int run = 0; run < RUNS; run++) {
		size_t spans = list_spans(&p->pages, run), past = first + spans;

		if (first < end && past > p->span && spans > 0)
			rotate_queries(p, run, s);
		for (size_t i = first > p->span ? first : p->span; i < past && i < end; i++) {
			attend_span(p, run, p->pages.first[run] / SPAN + (int64_t)(i - first), s);
			if (p->partials)
				keep_partials(p, i, s);
			else
				merge_all(s->merged, s->o, s->span, s->span_o, part_queries(p), padded);
		}
		first = past;
	}
	if (!p->partials)
		finish_part(p, s);
}

#endif
