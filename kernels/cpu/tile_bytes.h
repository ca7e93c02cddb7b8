/*
 * Products with activations in 8 bits (precision "fast"): unsigned weights times signed bytes, as the instructions of
 * AVX2 and VNNI want them. Included by tile.h.
 */
#ifndef CPU_TILE_BYTES_H
#define CPU_TILE_BYTES_H

/* One block of one strip of lanes against `rows` rows of activations; a weight is unpacked once for all of them. */
INLINE void block_product(enum dtype type, const uint8_t *w, size_t lane, const struct xbytes *x, size_t stride,
			  size_t rows, struct strip *acc)
{
	const bool min = type == DTYPE_Q4_1 || type == DTYPE_Q5_1, five = type == DTYPE_Q5_0 || type == DTYPE_Q5_1;
	const int32_t offset = type == DTYPE_Q4_0 ? 8 : type == DTYPE_Q5_0 ? 16 : 0;
	const uint8_t *high = w + (min ? 4 : 2) * LANES, *q = five ? high + 64 : high;
	struct strip sum[TILE], d = strip_load_f16(w + 2 * lane), m;

	if (type == DTYPE_Q8_0)
		dot_bytes(q, lane, x, stride, rows, sum);
	else
		dot_nibbles(q, five ? high : NULL, lane, x, stride, rows, offset, sum);
	foreach (t, rows)
		acc[t] = strip_fma(strip_mul(d, strip_set1(x[t * stride].d)), sum[t], acc[t]);
	if (!min)
		return;
	m = strip_load_f16(w + 2 * LANES + 2 * lane);
	foreach (t, rows)
		acc[t] = strip_fma(m, strip_set1(x[t * stride].ds), acc[t]);
}

/* All lanes of a group against `rows` rows, a strip at a time; all at once for one row, which reads in order. */
INLINE void group_bytes(enum dtype type, const struct tile *t, size_t g, size_t row, size_t rows)
{
	const size_t blocks = t->w->cols / BLOCK, block_bytes = t->w->group_bytes / blocks;
	const size_t strips = rows == 1 ? LANES / STRIP : 1;
	const uint8_t *group = group_at(t, g);
	const struct xbytes *x = t->xb + row * blocks;
	_Alignas(64) float out[TILE][LANES];

	for (size_t lane = 0; lane < LANES; lane += strips * STRIP) {
		struct strip acc[LANES / STRIP][TILE];

		foreach (s, strips)
			foreach (i, rows)
				acc[s][i] = strip_set1(0);
		for (size_t b = 0; b < blocks; b++) {
			if (rows == 1)
				ask_ahead(group + b * block_bytes, block_bytes);
			foreach (s, strips)
				block_product(type, group + b * block_bytes, lane + s * STRIP, x + b, blocks, rows,
					      acc[s]);
		}
		foreach (s, strips)
			foreach (i, rows)
				strip_store(out[i] + lane + s * STRIP, acc[s][i]);
	}
	put_group(t, g, row, rows, out[0]);
}

#define BYTES_FUNCTION(type, name)                                                                                     \
	static void bytes_##name(const struct tile *t)                                                                 \
	{                                                                                                              \
		for (size_t g = 0; g < t->groups; g++)                                                                 \
			EACH_ROWS(TILE, t->n, group_bytes, type, t, g);                                                \
	}

BYTES_FUNCTION(DTYPE_Q4_0, q4_0)
BYTES_FUNCTION(DTYPE_Q4_1, q4_1)
BYTES_FUNCTION(DTYPE_Q5_0, q5_0)
BYTES_FUNCTION(DTYPE_Q5_1, q5_1)
BYTES_FUNCTION(DTYPE_Q8_0, q8_0)

#endif
