/*
 * Products of packed weights with rows of activations. Lanes are rows of the matrix, and the blocks of columns are
 * added up one after the other, so a result is the same whether one row of activations is at work or many:
 *
 *	acc = fma(d_w * d_x, whole-number product of the block, acc), then for types with a minimum
 *	acc = fma(m_w, d_x * sum of q, acc)
 *
 * d_w and m_w of Q4_K and Q5_K are the products of a half and six bits, rounded once; the scales of Q6_K are part of
 * the whole numbers.
 *
 * and for F32, F16 and BF16 acc = fma(x, w, acc), column by column. Included like rows.h.
 */
#ifndef CPU_TILE_H
#define CPU_TILE_H

INLINE void put_lanes(const struct tile *t, float *y, size_t n, const float *acc)
{
	if (n == LANES) {
		struct v16 r = v16_load(acc);

		v16_store(y, t->add ? v16_add(v16_load(y), r) : r);
		return;
	}
	for (size_t i = 0; i < n; i++)
		y[i] = t->add ? y[i] + acc[i] : acc[i];
}

/* Results of group g and of `rows` rows of activations from `row` on, [rows][LANES]. */
INLINE void put_group(const struct tile *t, size_t g, size_t row, size_t rows, const float *acc)
{
	size_t left = t->w->rows - (t->group + g) * LANES, lanes = left < LANES ? left : LANES;

	for (size_t i = 0; i < rows; i++)
		put_lanes(t, t->y + (row + i) * t->y_stride + g * LANES, lanes, acc + i * LANES);
}

INLINE const uint8_t *group_at(const struct tile *t, size_t g)
{
	return t->w->data + (t->group + g) * t->w->group_bytes;
}

/* What lies AHEAD bytes behind a block is asked for: the hardware's own prefetch ends with a page. */
enum { AHEAD = 2048 };

INLINE void ask_ahead(const uint8_t *block, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 64)
		__builtin_prefetch(block + AHEAD + i);
}

/*
 * Calls fn(..., row, rows) for as many of n rows at once as there are registers for, `most`, then for what is left of
 * them: `rows` is a constant in each call.
 */
#define EACH_ROWS(most, n, fn, ...)                                                                                    \
	do {                                                                                                           \
		size_t row_ = 0;                                                                                       \
                                                                                                                       \
		for (; row_ + (most) <= (n); row_ += (most))                                                           \
			fn(__VA_ARGS__, row_, most);                                                                   \
		for (; (most) > 4 && row_ + 4 <= (n); row_ += 4)                                                       \
			fn(__VA_ARGS__, row_, 4);                                                                      \
		if ((most) > 3 && (n)-row_ == 3)                                                                       \
			fn(__VA_ARGS__, row_, 3);                                                                      \
		else if ((most) > 2 && (n)-row_ == 2)                                                                  \
			fn(__VA_ARGS__, row_, 2);                                                                      \
		else if ((most) > 1 && (n)-row_ == 1)                                                                  \
			fn(__VA_ARGS__, row_, 1);                                                                      \
	} while (0)

#include "tile_bytes.h"

INLINE struct v16 load_column(enum dtype type, const uint8_t *w)
{
	if (type == DTYPE_F32)
		return v16_load((const float *)w);
	if (type == DTYPE_F16)
		return v16_load_f16((const uint16_t *)w);
	return v16_load_bf16((const uint16_t *)w);
}

INLINE void group_columns(enum dtype type, const struct tile *t, size_t g, size_t row, size_t rows)
{
	const size_t cols = t->w->cols, bytes = LANES * (type == DTYPE_F32 ? 4 : 2);
	const uint8_t *group = group_at(t, g);
	const float *x = t->x + row * cols;
	_Alignas(64) float out[TILE][LANES];
	struct v16 acc[TILE];

	foreach (i, rows)
		acc[i] = v16_set1(0);
	for (size_t c = 0; c < cols; c++) {
		struct v16 w = load_column(type, group + c * bytes);

		foreach (i, rows)
			acc[i] = v16_fma(v16_set1(x[i * cols + c]), w, acc[i]);
	}
	foreach (i, rows)
		v16_store(out[i], acc[i]);
	put_group(t, g, row, rows, out[0]);
}

#define COLUMNS_FUNCTION(type, name)                                                                                   \
	static void columns_##name(const struct tile *t)                                                               \
	{                                                                                                              \
		for (size_t g = 0; g < t->groups; g++)                                                                 \
			EACH_ROWS(TILE, t->n, group_columns, type, t, g);                                              \
	}

COLUMNS_FUNCTION(DTYPE_F32, f32)
COLUMNS_FUNCTION(DTYPE_F16, f16)
COLUMNS_FUNCTION(DTYPE_BF16, bf16)

/* Functions of a type: of activations as they are, in bytes, or in words. */
static const struct {
	enum dtype type;
	void (*floats)(const struct tile *t);
	void (*bytes)(const struct tile *t);
	void (*words)(const struct tile *t);
} products[] = {
	{ DTYPE_F32, columns_f32, NULL, NULL },	      { DTYPE_F16, columns_f16, NULL, NULL },
	{ DTYPE_BF16, columns_bf16, NULL, NULL },     { DTYPE_Q4_0, NULL, bytes_q4_0, words_q4_0 },
	{ DTYPE_Q4_1, NULL, bytes_q4_1, words_q4_1 }, { DTYPE_Q5_0, NULL, bytes_q5_0, words_q5_0 },
	{ DTYPE_Q5_1, NULL, bytes_q5_1, words_q5_1 }, { DTYPE_Q8_0, NULL, bytes_q8_0, words_q8_0 },
	{ DTYPE_Q4_K, NULL, NULL, words_q4_k },	      { DTYPE_Q5_K, NULL, NULL, words_q5_k },
	{ DTYPE_Q6_K, NULL, NULL, words_q6_k },
};

static void tile_any(const struct tile *t)
{
	size_t i = 0;

	while (products[i].type != t->w->type)
		i++;
	(t->xb ? products[i].bytes : t->xw ? products[i].words : products[i].floats)(t);
}

#endif
