/*
 * A page of halves or floats and the queries that look at it: scores, the page's softmax, and the weighted values. Sums
 * stay in registers for as many queries and vectors of the page as there are registers for. Included by attend.h.
 */
#ifndef CPU_ATTEND_PAGE_H
#define CPU_ATTEND_PAGE_H

/*
 * A query, the tokens that it sees of the span at hand or of a page of it, counted from the first there, and what
 * distance takes off its scores: a slope times how far behind the span's first token it stands.
 */
struct looker {
	size_t query;
	struct sight sees;
	float slope, apart;
};

/* Keys or values of the page at hand, of one layer and KV head; a row of values is `stride` elements, whole vectors. */
struct page_view {
	const void *rows;
	const void *next; /* what is read after it, as much */
	bool half;
	size_t stride;
	size_t at; /* the page's first token in its span */
};

INLINE struct strip load_element(const void *p, size_t at, bool half)
{
	return half ? strip_load_f16((const uint8_t *)p + 2 * at) : strip_load((const float *)p + at);
}

/*
 * A page's keys or values of a KV head are a few KiB that stand alone, too little for the hardware to foresee what
 * comes: while they are read, those of the next page are asked for. Each of `steps` asks for its share. Pages that were
 * turned into F32 lie in a near cache already.
 */
INLINE void fetch_share(const void *next, size_t dims, size_t step, size_t steps, bool half)
{
	const size_t share = dims * PAGE_TOKENS * 2 / steps;

	if (!half)
		return;
	for (size_t at = 0; at < share; at += 64)
		__builtin_prefetch((const char *)next + step * share + at);
}

/* Vectors of a page that so many queries meet at once: their sums are registers, and enough of them to be busy. */
INLINE size_t attend_vectors(size_t queries)
{
	const size_t most = ATTEND_SUMS / queries;

	return most >= 4 ? 4 : most >= 2 ? 2 : 1;
}

enum { ATTEND_STRIPS = 4 * (LANES / STRIP) };

/* A strip at a time is loaded: with one more at hand the sums would not all be registers. */
INLINE void scores_of(const float *const *q, float *const *s, size_t queries, size_t dims, const struct page_view *v,
		      bool half, size_t token)
{
	const size_t strips = attend_vectors(queries) * (LANES / STRIP);
	const size_t passes = PAGE_TOKENS / (strips * STRIP), pass = token / (strips * STRIP);
	struct strip acc[ATTEND_Q][ATTEND_STRIPS], x[ATTEND_Q];

	foreach (i, queries)
		foreach (j, strips)
			acc[i][j] = strip_set1(0);
	for (size_t d = 0; d < dims; d++) {
		fetch_share(v->next, dims, pass * dims + d, passes * dims, half);
		foreach (i, queries)
			x[i] = strip_set1(q[i][d]);
		foreach (j, strips) {
			struct strip k = load_element(v->rows, d * PAGE_TOKENS + token + j * STRIP, half);

			foreach (i, queries)
				acc[i][j] = strip_fma(x[i], k, acc[i][j]);
		}
	}
	foreach (i, queries)
		foreach (j, strips)
			strip_store(s[i] + token + j * STRIP, acc[i][j]);
}

/* o[dim .. dim + strips * STRIP) += probabilities times values of tokens [from, to). */
INLINE void values_of(const float *const *p, float *const *o, size_t queries, size_t strips, const struct page_view *v,
		      bool half, size_t dim, size_t from, size_t to)
{
	const size_t passes = v->stride / (strips * STRIP);
	struct strip acc[ATTEND_Q][ATTEND_STRIPS], x[ATTEND_Q];

	foreach (i, queries)
		foreach (j, strips)
			acc[i][j] = strip_load(o[i] + dim + j * STRIP);
	for (size_t t = from; t < to; t++) {
		fetch_share(v->next, v->stride, t * passes + dim / (strips * STRIP), PAGE_TOKENS * passes, half);
		foreach (i, queries)
			x[i] = strip_set1(p[i][t]);
		foreach (j, strips) {
			struct strip y = load_element(v->rows, t * v->stride + dim + j * STRIP, half);

			foreach (i, queries)
				acc[i][j] = strip_fma(x[i], y, acc[i][j]);
		}
	}
	foreach (i, queries)
		foreach (j, strips)
			strip_store(o[i] + dim + j * STRIP, acc[i][j]);
}

INLINE void values_all(const float *const *p, float *const *o, size_t queries, size_t dims, const struct page_view *v,
		       bool half, size_t from, size_t to)
{
	const size_t strips = attend_vectors(queries) * (LANES / STRIP);
	size_t dim = 0;

	for (; dim + strips * STRIP <= dims; dim += strips * STRIP)
		values_of(p, o, queries, strips, v, half, dim, from, to);
	for (; dim < dims; dim += LANES)
		values_of(p, o, queries, LANES / STRIP, v, half, dim, from, to);
}

/* Scores of up to ATTEND_Q queries; vectors that none of them sees are left out. */
INLINE void scores_some(const struct looker *l, size_t n, struct attend_scratch *s, size_t dims,
			const struct page_view *v, bool half)
{
	const float *q[ATTEND_Q];
	float *to[ATTEND_Q];
	size_t lo = PAGE_TOKENS, hi = 0, step = attend_vectors(n) * LANES;

	for (size_t i = 0; i < n; i++) {
		q[i] = s->q + l[i].query * dims;
		to[i] = s->s + l[i].query * SPAN_TOKENS + v->at;
		lo = (size_t)l[i].sees.lo < lo ? (size_t)l[i].sees.lo : lo;
		hi = (size_t)l[i].sees.hi > hi ? (size_t)l[i].sees.hi : hi;
	}
	for (size_t t = lo / step * step; t < hi; t += step)
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
		p[i] = s->s + l[i].query * SPAN_TOKENS + v->at;
		o[i] = s->span_o + l[i].query * dims;
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

/* How far the query is from sixteen tokens, the first of which is `apart` behind it; whole numbers below 2^24. */
INLINE struct v16 distances(float apart)
{
	static const float lane[LANES] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

	return v16_sub(v16_set1(apart), v16_load(lane));
}

/* The whole pages of a span in which a query sees something. */
INLINE struct sight pages_of(const struct looker *l)
{
	return (struct sight){ l->sees.lo / PAGE_TOKENS * PAGE_TOKENS,
			       (l->sees.hi + PAGE_TOKENS - 1) / PAGE_TOKENS * PAGE_TOKENS };
}

/* A query's scores, less what distance takes off, unseen tokens at minus infinity; and the largest of them. */
INLINE void softmax_most(const struct looker *l, struct attend_scratch *s)
{
	const struct sight pages = pages_of(l);
	float *p = s->s + l->query * SPAN_TOKENS;
	struct v16 most = v16_set1(-INFINITY);

	for (int64_t t = pages.lo; t < l->sees.lo; t++)
		p[t] = -INFINITY;
	for (int64_t t = l->sees.hi; t < pages.hi; t++)
		p[t] = -INFINITY;
	for (int64_t t = pages.lo; t < pages.hi; t += LANES) {
		struct v16 e = v16_load(p + t);

		if (l->slope != 0.0f) {
			e = v16_fma(v16_set1(-l->slope), distances(l->apart - (float)t), e);
			v16_store(p + t, e);
		}
		most = v16_max(most, e);
	}
	s->span[l->query].max = v16_largest(most);
}

/* Scores to probabilities, and their sum: a page's in a tree, the pages' in order. */
INLINE void softmax_sum(const struct looker *l, struct attend_scratch *s)
{
	const struct sight pages = pages_of(l);
	const struct v16 most = v16_set1(s->span[l->query].max);
	float *p = s->s + l->query * SPAN_TOKENS;
	struct v16 sum = v16_set1(0);

	for (int64_t t = pages.lo; t < pages.hi; t += PAGE_TOKENS) {
		struct v16 e[PAGE_TOKENS / LANES];

		foreach (j, PAGE_TOKENS / LANES) {
			e[j] = exp_negative(v16_sub(v16_load(p + t + j * LANES), most));
			v16_store(p + t + j * LANES, e[j]);
		}
		sum = v16_add(sum, v16_add(v16_add(e[0], e[1]), v16_add(e[2], e[3])));
	}
	s->span[l->query].sum = v16_sum(sum);
}

/* In passes over the queries: what one waits for in a largest number across lanes, another has to do. */
static void softmax_span(const struct looker *l, size_t n, struct attend_scratch *s)
{
	for (size_t i = 0; i < n; i++)
		softmax_most(l + i, s);
	for (size_t i = 0; i < n; i++)
		softmax_sum(l + i, s);
}

/* One half of looking at a page: a constant number of queries at once, so that all of their sums are registers. */
#define LOOK_FUNCTION(most, name, some, half)                                                                          \
	static void name(const struct looker *l, size_t n, struct attend_scratch *s, size_t dims,                      \
			 const struct page_view *v)                                                                    \
	{                                                                                                              \
		for (; n >= (most); n -= (most), l += (most))                                                          \
			some(l, most, s, dims, v, half);                                                               \
		if ((most) > 3 && n >= 3) {                                                                            \
			some(l, 3, s, dims, v, half);                                                                  \
			n -= 3, l += 3;                                                                                \
		}                                                                                                      \
		if ((most) > 2 && n == 2)                                                                              \
			some(l, 2, s, dims, v, half);                                                                  \
		else if ((most) > 1 && n == 1)                                                                         \
			some(l, 1, s, dims, v, half);                                                                  \
	}

LOOK_FUNCTION(ATTEND_Q, scores_f16, scores_some, true)
LOOK_FUNCTION(ATTEND_Q, scores_f32, scores_some, false)
LOOK_FUNCTION(ATTEND_Q, values_f16, values_some, true)
LOOK_FUNCTION(ATTEND_Q, values_f32, values_some, false)

#endif
