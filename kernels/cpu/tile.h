/*
 * Products of packed weights with rows of activations. Lanes are rows of the matrix, and the blocks of columns are
 * added up one after the other, so a result is the same whether one row of activations is at work or many:
 *
 *	acc = fma(d_w * d_x, whole-number product of the block, acc), plane after plane, then for types with a minimum
 *	acc = fma(m_w, sum of d_x * q, acc)
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

/*
 * One block of one strip of lanes against `rows` rows of activations. Their planes are rows of their own to the integer
 * products, which unpack a weight once for all of them.
 */
INLINE void block_product(enum dtype type, size_t planes, const uint8_t *w, size_t lane, const struct xblock *x,
			  size_t stride, size_t rows, struct strip *acc)
{
	const bool min = type == DTYPE_Q4_1 || type == DTYPE_Q5_1, five = type == DTYPE_Q5_0 || type == DTYPE_Q5_1;
	const int32_t offset = type == DTYPE_Q4_0 ? 8 : type == DTYPE_Q5_0 ? 16 : 0;
	const uint8_t *high = w + (min ? 4 : 2) * LANES, *q = five ? high + 64 : high;
	struct strip sum[TILE], d = strip_load_f16(w + 2 * lane), m;

	if (type == DTYPE_Q8_0)
		dot_bytes(q, lane, x, stride, rows * planes, sum);
	else
		dot_nibbles(q, five ? high : NULL, lane, x, stride, rows * planes, offset, sum);
	foreach (t, rows * planes)
		acc[t / planes] = strip_fma(strip_mul(d, strip_set1(x[t * stride].d)), sum[t], acc[t / planes]);
	if (!min)
		return;
	m = strip_load_f16(w + 2 * LANES + 2 * lane);
	foreach (t, rows)
		acc[t] = strip_fma(m, strip_set1(x[t * planes * stride].ds), acc[t]);
}

/* All lanes of a group against `rows` rows, `strips` strips at a time: all for one row, which reads in order. */
INLINE void group_blocks(enum dtype type, size_t planes, const struct tile *t, const uint8_t *group, size_t row,
			 size_t rows, size_t strips, float *y, size_t lanes)
{
	const size_t blocks = t->w->cols / BLOCK, block_bytes = t->w->group_bytes / blocks;
	const struct xblock *x = t->xq + row * planes * blocks;
	_Alignas(64) float out[TILE][LANES];

	for (size_t lane = 0; lane < LANES; lane += strips * STRIP) {
		struct strip acc[LANES / STRIP][TILE];

		foreach (s, strips)
			foreach (i, rows)
				acc[s][i] = strip_set1(0);
		for (size_t b = 0; b < blocks; b++)
			foreach (s, strips)
				block_product(type, planes, group + b * block_bytes, lane + s * STRIP, x + b, blocks,
					      rows, acc[s]);
		foreach (s, strips)
			foreach (i, rows)
				strip_store(out[i] + lane + s * STRIP, acc[s][i]);
	}
	for (size_t i = 0; i < rows; i++)
		put_lanes(t, y + (row + i) * t->y_stride, lanes, out[i]);
}

INLINE struct v16 load_column(enum dtype type, const uint8_t *w)
{
	if (type == DTYPE_F32)
		return v16_load((const float *)w);
	if (type == DTYPE_F16)
		return v16_load_f16((const uint16_t *)w);
	return v16_load_bf16((const uint16_t *)w);
}

INLINE void group_columns(enum dtype type, const struct tile *t, const uint8_t *group, size_t row, size_t rows,
			  float *y, size_t lanes)
{
	const size_t cols = t->w->cols, bytes = LANES * (type == DTYPE_F32 ? 4 : 2);
	const float *x = t->x + row * cols;
	_Alignas(64) float out[LANES];
	struct v16 acc[TILE];

	foreach (i, rows)
		acc[i] = v16_set1(0);
	for (size_t c = 0; c < cols; c++) {
		struct v16 w = load_column(type, group + c * bytes);

		foreach (i, rows)
			acc[i] = v16_fma(v16_set1(x[i * cols + c]), w, acc[i]);
	}
	for (size_t i = 0; i < rows; i++) {
		v16_store(out, acc[i]);
		put_lanes(t, y + (row + i) * t->y_stride, lanes, out);
	}
}

INLINE void group_rows(enum dtype type, size_t planes, const struct tile *t, const uint8_t *group, size_t row,
		       size_t rows, float *y, size_t lanes)
{
	if (!type_is_blocked(type))
		group_columns(type, t, group, row, rows, y, lanes);
	else
		group_blocks(type, planes, t, group, row, rows, rows == 1 ? LANES / STRIP : 1, y, lanes);
}

/* As many rows at once as there are registers for, TILE / planes; then what is left of them. */
INLINE void tile_of(enum dtype type, size_t planes, const struct tile *t)
{
	const size_t most = TILE / planes;

	for (size_t g = 0; g < t->groups; g++) {
		const uint8_t *group = t->w->data + (t->group + g) * t->w->group_bytes;
		size_t left = t->w->rows - (t->group + g) * LANES, lanes = left < LANES ? left : LANES, row = 0;
		float *y = t->y + g * LANES;

		for (; row + most <= t->n; row += most)
			group_rows(type, planes, t, group, row, most, y, lanes);
		for (; TILE > 4 && most > 4 && row + 4 <= t->n; row += 4)
			group_rows(type, planes, t, group, row, 4, y, lanes);
		if (TILE > 3 && most > 3 && t->n - row == 3)
			group_rows(type, planes, t, group, row, 3, y, lanes);
		else if (TILE > 2 && most > 2 && t->n - row == 2)
			group_rows(type, planes, t, group, row, 2, y, lanes);
		else if (TILE > 1 && most > 1 && t->n - row == 1)
			group_rows(type, planes, t, group, row, 1, y, lanes);
	}
}

#define TILE_FUNCTION(type, name)                                                                                      \
	static void tile_##name(const struct tile *t)                                                                  \
	{                                                                                                              \
		if (type_is_blocked(type) && t->planes == 2)                                                           \
			tile_of(type, 2, t);                                                                           \
		else                                                                                                   \
			tile_of(type, 1, t);                                                                           \
	}

TILE_FUNCTION(DTYPE_F32, f32)
TILE_FUNCTION(DTYPE_F16, f16)
TILE_FUNCTION(DTYPE_BF16, bf16)
TILE_FUNCTION(DTYPE_Q4_0, q4_0)
TILE_FUNCTION(DTYPE_Q4_1, q4_1)
TILE_FUNCTION(DTYPE_Q5_0, q5_0)
TILE_FUNCTION(DTYPE_Q5_1, q5_1)
TILE_FUNCTION(DTYPE_Q8_0, q8_0)

static void tile_any(const struct tile *t)
{
	switch (t->w->type) {
	case DTYPE_F32:
		tile_f32(t);
		break;
	case DTYPE_F16:
		tile_f16(t);
		break;
	case DTYPE_BF16:
		tile_bf16(t);
		break;
	case DTYPE_Q4_0:
		tile_q4_0(t);
		break;
	case DTYPE_Q4_1:
		tile_q4_1(t);
		break;
	case DTYPE_Q5_0:
		tile_q5_0(t);
		break;
	case DTYPE_Q5_1:
		tile_q5_1(t);
		break;
	case DTYPE_Q8_0:
		tile_q8_0(t);
		break;
	}
}

#endif
