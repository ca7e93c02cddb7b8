/*
 * Attention over pages in 8 bits (their layout: kernels.h). Products are taken in whole numbers, which add up to the
 * same in any order, and meet a scale once a block:
 *
 *	a query, once a run:	q is about d * q16 in each block of 32 dimensions, d = largest / 32767
 *	a score:		over the blocks in order, score = fma(d * the key's d, sum of q16 * k8, score)
 *	a value:		w[t] = probability * the value's d, about d * w16[t] over the page;
 *				over the pages in order, value = fma(d, sum of w16 * v8, value)
 *
 * Sixteen bits for what meets the page, so that the page's own eight are all that is lost. A sum of 32 products, or of
 * 64, stays below 2^31. What a query does not see weighs nothing: its bytes are some whole numbers times 0, and its
 * scale is not looked at.
 *
 * Both products read words of four bytes that stand side by side, sixteen or more, row after row. Included by
 * attend.h.
 */
#ifndef CPU_ATTEND_Q8_H
#define CPU_ATTEND_Q8_H

/* A query in whole numbers, each four in the order that the lanes want, and the scales of its blocks. */
struct whole {
	const int16_t *q;
	const float *d;
};

/* The bytes of a head's keys or values, behind their scales. */
INLINE const uint8_t *q8_bytes(const uint8_t *head, size_t size)
{
	return head + size / BLOCK * PAGE_TOKENS * sizeof(uint16_t);
}

INLINE const uint16_t *q8_scales(const uint8_t *head, size_t block)
{
	return (const uint16_t *)head + block * PAGE_TOKENS;
}

INLINE float q8_largest(const struct v16 *x, size_t vectors)
{
	struct v16 most = v16_abs(x[0]);

	for (size_t i = 1; i < vectors; i++)
		most = v16_max(most, v16_abs(x[i]));
	return v16_largest(most);
}

/* Rounds vectors of numbers to 16 bits with one scale, which is returned; 0 for what is next to nothing. */
INLINE float q8_round(const struct v16 *x, size_t vectors, float largest, int16_t *ret)
{
	const bool zero = largest < 0x1p-100f;
	const struct v16 by = v16_set1(zero ? 0.0f : 32767.0f / largest), magic = v16_set1(MAGIC);

	foreach (i, vectors)
		v16_store_fours(ret + i * LANES, v16_fma(x[i], by, magic));
	return zero ? 0.0f : largest / 32767.0f;
}

static void q8_query(const float *x, size_t size, int16_t *ret, float *scales)
{
	for (size_t b = 0; b < size / BLOCK; b++, x += BLOCK, ret += BLOCK) {
		const struct v16 block[] = { v16_load(x), v16_load(x + LANES) };

		scales[b] = q8_round(block, BLOCK / LANES, q8_largest(block, BLOCK / LANES), ret);
	}
}

/*
 * Rows from .. past-1 of words, `apart` bytes from row to row, times the queries' numbers: sums of each word's lane. On
 * the way the lines at `ahead` are asked for, as many as are read here: the hardware does not foresee short runs of
 * lines that stand far apart.
 */
INLINE void q8_products(const int16_t *const *q, size_t queries, const uint8_t *words, size_t apart, size_t from,
			size_t past, const uint8_t *ahead, struct n16 (*sum)[WHOLE_V])
{
	foreach (i, queries)
		foreach (v, WHOLE_V)
			sum[i][v] = n16_zero();
	for (size_t j = from; j < past; j++)
		foreach (v, WHOLE_V) {
			struct fours x = fours_load(words + j * apart + v * LANES * 4);

			__builtin_prefetch(ahead + (j * WHOLE_V + v) * LANES * 4);
			foreach (i, queries)
				sum[i][v] = n16_add_products(sum[i][v], x, q[i] + 4 * j);
		}
}

INLINE void q8_scores_of(const struct whole *q, float *const *s, size_t queries, size_t size, const uint8_t *keys,
			 size_t token, const uint8_t *ahead)
{
	const uint8_t *words = q8_bytes(keys, size) + token * 4;
	struct v16 acc[WHOLE_Q][WHOLE_V];

	foreach (i, queries)
		foreach (v, WHOLE_V)
			acc[i][v] = v16_set1(0);
	for (size_t b = 0; b < size / BLOCK; b++, words += BLOCK * PAGE_TOKENS, ahead += BLOCK * WHOLE_V * LANES) {
		const int16_t *numbers[WHOLE_Q];
		struct n16 sum[WHOLE_Q][WHOLE_V];

		foreach (i, queries)
			numbers[i] = q[i].q + b * BLOCK;
		q8_products(numbers, queries, words, PAGE_TOKENS * 4, 0, BLOCK / 4, ahead, sum);
		foreach (v, WHOLE_V) {
			struct v16 d = v16_load_f16(q8_scales(keys, b) + token + v * LANES);

			foreach (i, queries)
				acc[i][v] = v16_fma(v16_mul(v16_set1(q[i].d[b]), d), v16_of_n16(sum[i][v]), acc[i][v]);
		}
	}
	foreach (i, queries)
		foreach (v, WHOLE_V)
			v16_store(s[i] + token + v * LANES, acc[i][v]);
}

/* Scores of the tokens lo .. hi-1 of a page, and of neighbours that mean nothing; `ahead` is read next. */
INLINE void q8_scores(const struct whole *q, float *const *s, size_t queries, size_t size, const uint8_t *keys,
		      size_t lo, size_t hi, const uint8_t *ahead)
{
	const size_t some = WHOLE_V * LANES;

	for (size_t t = lo / some * some; t < hi; t += some)
		q8_scores_of(q, s, queries, size, keys, t, ahead + t * size);
}

enum { PAGE_VECTORS = PAGE_TOKENS / LANES };

/*
 * What the tokens of a page weigh in one block: probabilities, 0 where there is nothing to see, times their scales. In
 * passes over the queries: what one waits for in a largest number, another has to do.
 */
INLINE void q8_weights(const float *const *p, size_t queries, const uint16_t *scales, int16_t (*ret)[PAGE_TOKENS],
		       float *d)
{
	struct v16 w[WHOLE_Q][PAGE_VECTORS];
	float largest[WHOLE_Q];

	foreach (i, queries) {
		foreach (v, PAGE_VECTORS) {
			struct v16 x = v16_load(p[i] + v * LANES);

			w[i][v] = v16_zero_below(x, 0x1p-126f, v16_mul(x, v16_load_f16(scales + v * LANES)));
		}
		largest[i] = q8_largest(w[i], PAGE_VECTORS);
	}
	foreach (i, queries)
		d[i] = q8_round(w[i], PAGE_VECTORS, largest[i], ret[i]);
}

/* o[size] += probabilities times values; none of the queries sees a token outside of lo .. hi-1. */
INLINE void q8_values(const float *const *p, float *const *o, size_t queries, size_t size, const uint8_t *values,
		      size_t lo, size_t hi, const uint8_t *ahead)
{
	const uint8_t *words = q8_bytes(values, size);

	for (size_t b = 0; b < size / BLOCK; b++) {
		_Alignas(64) int16_t w[WHOLE_Q][PAGE_TOKENS];
		const int16_t *numbers[WHOLE_Q];
		float d[WHOLE_Q];

		q8_weights(p, queries, q8_scales(values, b), w, d);
		foreach (i, queries)
			numbers[i] = w[i];
		for (size_t dim = b * BLOCK; dim < (b + 1) * BLOCK; dim += WHOLE_V * LANES) {
			struct n16 sum[WHOLE_Q][WHOLE_V];

			q8_products(numbers, queries, words + dim * 4, size * 4, lo / 4, (hi + 3) / 4,
				    ahead + dim * PAGE_TOKENS, sum);
			foreach (i, queries)
				foreach (v, WHOLE_V) {
					float *to = o[i] + dim + v * LANES;

					v16_store(to, v16_fma(v16_set1(d[i]), v16_of_n16(sum[i][v]), v16_load(to)));
				}
		}
	}
}

#endif
