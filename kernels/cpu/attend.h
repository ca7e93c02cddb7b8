/*
 * Attention of some queries over some pages, without a sum across lanes: in the product with the keys lanes are tokens
 * (dimension after dimension), in the product with the values they are dimensions (token after token). A span of pages
 * gives a partial softmax; spans are merged in ascending order:
 *
 *	max' = larger of max and span's max, a = e^(max - max'), b = e^(span's max - max')
 *	sum' = fma(span's sum, b, sum * a), likewise each value
 *
 * How many queries share the reading of a page, and whether the page was turned into F32 first, changes no result.
 * Included like rows.h, after it.
 */
#ifndef CPU_ATTEND_H
#define CPU_ATTEND_H

#include "attend_page.h"
#include "attend_q8.h"

/* What some queries, one at least, see together of a page. */
INLINE struct sight seen_by_any(const struct looker *l, size_t n)
{
	struct sight s = l[0].sees;

	for (size_t i = 1; i < n; i++) {
		s.lo = l[i].sees.lo < s.lo ? l[i].sees.lo : s.lo;
		s.hi = l[i].sees.hi > s.hi ? l[i].sees.hi : s.hi;
	}
	return s;
}

/* Halves of looking at a page in 8 bits, up to WHOLE_Q queries at once: whole numbers have one sum in any company. */
INLINE void q8_scores_some(const struct looker *l, size_t n, struct attend_scratch *s, size_t size,
			   const struct page_view *v, bool half)
{
	const struct sight any = seen_by_any(l, n);
	struct whole q[WHOLE_Q];
	float *scores[WHOLE_Q];

	(void)half;
	for (size_t i = 0; i < n; i++) {
		q[i].q = s->q16 + l[i].query * size;
		q[i].d = s->q16_scale + l[i].query * (size / BLOCK);
		scores[i] = s->s + l[i].query * SPAN_TOKENS + v->at;
	}
	q8_scores(q, scores, n, size, v->rows, (size_t)any.lo, (size_t)any.hi, v->next);
}

INLINE void q8_values_some(const struct looker *l, size_t n, struct attend_scratch *s, size_t size,
			   const struct page_view *v, bool half)
{
	const struct sight any = seen_by_any(l, n);
	const float *p[WHOLE_Q];
	float *o[WHOLE_Q];

	(void)half;
	for (size_t i = 0; i < n; i++) {
		p[i] = s->s + l[i].query * SPAN_TOKENS + v->at;
		o[i] = s->span_o + l[i].query * size;
	}
	q8_values(p, o, n, size, v->rows, (size_t)any.lo, (size_t)any.hi, v->next);
}

LOOK_FUNCTION(WHOLE_Q, scores_q8, q8_scores_some, false)
LOOK_FUNCTION(WHOLE_Q, values_q8, q8_values_some, false)

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

/* Keys, [head_size][PAGE_TOKENS]: where they lie, or converted in the scratch when many look. */
static void view_keys(const struct page_shape *pages, size_t n, size_t head_size, struct attend_scratch *s,
		      struct page_view *v)
{
	v->half = pages->type == DTYPE_F16;
	if (!v->half || n < CONVERT_FROM)
		return;
	to_floats(v->rows, head_size * PAGE_TOKENS, true, s->page);
	v->rows = s->page;
	v->half = false;
}

/* The same of values, [PAGE_TOKENS][head_size], which are also copied where their rows are no whole vectors. */
static void view_values(const struct page_shape *pages, const struct looker *l, size_t n, size_t head_size,
			struct attend_scratch *s, struct page_view *v)
{
	const bool half = pages->type == DTYPE_F16;
	const size_t padded = round_lanes(head_size), element = half ? 2 : 4;
	const struct sight any = seen_by_any(l, n);

	v->half = half;
	v->stride = padded;
	if (padded == head_size && (!half || n < CONVERT_FROM))
		return;
	for (int64_t t = any.lo; t < any.hi; t++) {
		float *to = s->page + (size_t)t * padded;

		to_floats((const uint8_t *)v->rows + (size_t)t * head_size * element, head_size, half, to);
		memset(to + head_size, 0, (padded - head_size) * sizeof(float));
	}
	v->rows = s->page;
	v->half = false;
}

/* What merging does to up to LANES results and to those that are merged into them. */
INLINE void merge_factors(const float *max, const float *from_max, float *a, float *b)
{
	struct v16 old = v16_load(max), new = v16_load(from_max), most = v16_max(old, new);

	v16_store(a, exp_negative(v16_sub(old, most)));
	v16_store(b, exp_negative(v16_sub(new, most)));
}

INLINE void merge_one(struct partial *r, float *o, const struct partial *from, const float *from_o, float a, float b,
		      size_t padded)
{
	r->max = r->max > from->max ? r->max : from->max;
	r->sum = fmaf(from->sum, b, r->sum * a);
	for (size_t i = 0; i < padded; i += LANES) {
		struct v16 old = v16_mul(v16_load(o + i), v16_set1(a));

		v16_store(o + i, v16_fma(v16_load(from_o + i), v16_set1(b), old));
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

	for (size_t i = 0; i < head_size; i += LANES)
		store_up_to(y + i, head_size - i, v16_mul(v16_load(o + i), v16_set1(inverse)));
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
		for (size_t d = 0; d < h->head_size; d += LANES)
			store_up_to(q + d, h->head_size - d,
				    v16_mul(load_up_to(q + d, h->head_size - d), v16_set1(h->scale)));
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

/* One KV head's part of a span, and the queries that look at it. */
struct span {
	const struct attend_part *part;
	size_t from, pages;	       /* which of the span */
	const uint8_t *keys[SPAN + 1]; /* of each page, and what is read after the last one's values */
	size_t values;		       /* so many bytes behind the keys */
	struct looker lookers[QUERIES];
	size_t n;
};

/* Those of the h-th KV head's queries that see something of the span; their results are empty. */
static void list_lookers(struct span *span, int run, int64_t number, size_t h, struct attend_scratch *s)
{
	const struct attend_part *p = span->part;
	const struct attend *op = p->op;
	const int64_t start = number * SPAN_TOKENS;
	const size_t padded = round_lanes(op->shape->head_size);
	size_t row, head;

	span->n = 0;
	for (size_t i = h * p->queries; i < (h + 1) * p->queries; i++) {
		const struct row *r = part_row(p, i, &row, &head);
		struct looker l = { .query = i,
				    .sees = sees_tokens(r, run, start, SPAN_TOKENS),
				    .slope = op->slopes ? op->slopes[head] : 0,
				    .apart = (float)(r->sees[run].query - start) };

		if (l.sees.lo >= l.sees.hi)
			continue;
		memset(s->span_o + i * padded, 0, padded * sizeof(float));
		span->lookers[span->n++] = l;
	}
}

/* Those who see something of the page whose first token is the span's `at`-th, and what of it. */
static size_t list_page(const struct span *span, int64_t at, struct looker *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < span->n; i++) {
		const struct looker *l = &span->lookers[i];
		const int64_t lo = l->sees.lo - at, hi = l->sees.hi - at;

		if (hi <= 0 || lo >= PAGE_TOKENS)
			continue;
		ret[n] = *l;
		ret[n++].sees = (struct sight){ lo > 0 ? lo : 0, hi < PAGE_TOKENS ? hi : PAGE_TOKENS };
	}
	return n;
}

static void score_page(const struct page_shape *pages, const struct looker *l, size_t n, size_t size,
		       struct attend_scratch *s, struct page_view *v)
{
	if (pages->type == DTYPE_Q8_0) {
		scores_q8(l, n, s, size, v);
		return;
	}
	view_keys(pages, n, size, s, v);
	(v->half ? scores_f16 : scores_f32)(l, n, s, size, v);
}

static void weigh_page(const struct page_shape *pages, const struct looker *l, size_t n, size_t size,
		       struct attend_scratch *s, struct page_view *v)
{
	if (pages->type == DTYPE_Q8_0) {
		values_q8(l, n, s, size, v);
		return;
	}
	view_values(pages, l, n, size, s, v);
	(v->half ? values_f16 : values_f32)(l, n, s, v->stride, v);
}

static void score_span(const struct span *span, struct attend_scratch *s)
{
	const struct attend *op = span->part->op;
	struct looker l[QUERIES];
	size_t n;

	for (size_t i = 0; i < span->pages; i++) {
		const bool last = i + 1 == span->pages;
		struct page_view v = { .rows = span->keys[i],
				       .next = last ? span->keys[0] + span->values : span->keys[i + 1],
				       .at = (span->from + i) * PAGE_TOKENS };

		if ((n = list_page(span, (int64_t)v.at, l)))
			score_page(op->pages, l, n, op->shape->head_size, s, &v);
	}
}

static void weigh_span(const struct span *span, struct attend_scratch *s)
{
	const struct attend *op = span->part->op;
	struct looker l[QUERIES];
	size_t n;

	for (size_t i = 0; i < span->pages; i++) {
		const bool last = i + 1 == span->pages;
		struct page_view v = { .rows = span->keys[i] + span->values,
				       .next = span->keys[i + 1] + (last ? 0 : span->values),
				       .at = (span->from + i) * PAGE_TOKENS };

		if ((n = list_page(span, (int64_t)v.at, l)))
			weigh_page(op->pages, l, n, op->shape->head_size, s, &v);
	}
}

/* The pages of a span, `number` in its run, that any of the queries sees. */
static void attend_span(const struct attend_part *p, int run, int64_t number, struct attend_scratch *s)
{
	const struct page_shape *pages = p->op->pages;
	const struct page_table *table = &p->op->rows[p->row].tables[run];
	const int64_t first = p->pages.first[run], past = first + p->pages.count[run];
	const int64_t from = number * SPAN > first ? number * SPAN : first;
	const int64_t end = (number + 1) * SPAN < past ? (number + 1) * SPAN : past;
	const size_t head_bytes = page_head_bytes(pages);
	struct span span;

	span.part = p;
	span.from = (size_t)(from - number * SPAN);
	span.pages = (size_t)(end - from);
	span.values = page_values(pages);
	for (size_t i = 0; i < span.pages; i++)
		span.keys[i] = page_keys(table, from + (int64_t)i, pages, p->op->layer, p->kv_head);
	clear_partials(s->span, part_queries(p));
	for (size_t h = 0; h < p->kv_heads; h++) {
		const bool last = h + 1 == p->kv_heads;

		span.keys[span.pages] = span.keys[0] + head_bytes;
		if (last)
			span.keys[span.pages] =
				page_keys(table, end < past ? end : from, pages, p->op->layer, p->kv_head);
		list_lookers(&span, run, number, h, s);
		score_span(&span, s);
		softmax_span(span.lookers, span.n, s);
		weigh_span(&span, s);
		for (size_t i = 0; i < span.pages; i++)
			span.keys[i] += head_bytes;
	}
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
