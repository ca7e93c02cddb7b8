/*
 * Products with activations in 8 bits (precision "fast"): unsigned weights times signed bytes, as the instructions of
 * AVX2 and VNNI want them. As with words, a few rows meet weights that are unpacked to registers, and more a panel of
 * bytes. Included by tile.h.
 */
#ifndef CPU_TILE_BYTES_H
#define CPU_TILE_BYTES_H

#include "tile_words.h"

/* One block of one strip of lanes against `rows` rows of activations; a weight is unpacked once for all of them. */
INLINE void block_product(enum dtype type, const uint8_t *w, size_t lane, const struct xbytes *x, size_t stride,
			  size_t rows, struct strip *acc)
{
	const bool min = has_min(type), five = high_bits(type) == 1;
	const int32_t offset = offset_of(type);
	const uint8_t *high = w + (min ? 4 : 2) * LANES, *q = five ? high + 64 : high;
	struct strip sum[PANEL_FROM], d = strip_load_f16(w + 2 * lane), m;

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

/* All lanes of a group against a few rows, a strip at a time; all at once for one row, which reads in order. */
INLINE void group_bytes(enum dtype type, const struct tile *t, size_t g, size_t row, size_t rows)
{
	const size_t blocks = t->w->cols / BLOCK, block_bytes = t->w->group_bytes / blocks;
	const size_t strips = rows == 1 ? LANES / STRIP : 1;
	const uint8_t *group = group_at(t, g);
	const struct xbytes *x = t->xb + row * blocks;
	_Alignas(64) float out[PANEL_FROM][LANES];

	for (size_t lane = 0; lane < LANES; lane += strips * STRIP) {
		struct strip acc[LANES / STRIP][PANEL_FROM];

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

/* Rows from which on it pays to unpack to a panel: four bits are unpacked quickly. */
INLINE size_t bytes_from(enum dtype type)
{
	return high_bits(type) == 0 ? PANEL_FROM + 1 : PANEL_FROM;
}

/*
 * Weights of a stretch of a group's blocks, four columns of each lane together: columns 4k to 4k + 3 in vector k. Of
 * four and five bits they are without a sign, those of Q4_0 8 larger than in the file, so that they have the offset of
 * Q5_0; of Q8_0 it is what bytes_of_signed() makes of them.
 */
struct byte_panel {
	_Alignas(64) uint8_t w[PANEL_BLOCKS][BLOCK / 4][4 * PANEL_LANES];
	_Alignas(64) float d[PANEL_BLOCKS][PANEL_LANES], m[PANEL_BLOCKS][PANEL_LANES];
};

/* Quants of one strip of a block to place b of a panel, its lanes from `to_lane` on. */
INLINE void fill_bytes(enum dtype type, const uint8_t *quants, size_t lane, size_t to_lane, size_t b,
		       struct byte_panel *p)
{
	const uint8_t *q = quants + 4 * lane;
	uint8_t *to = p->w[b][0] + 4 * to_lane;

	if (type == DTYPE_Q8_0)
		foreach (k, BLOCK / 4)
			bytes_store(to + 4 * PANEL_LANES * k, bytes_of_signed(q + 64 * k));
	else
		foreach (j, BLOCK / 8) {
			struct bytes half[2];

			bytes_of_nibbles(q + 64 * (j + high_bits(type)), half);
			if (high_bits(type))
				bytes_add_high(q, j, half);
			foreach (h, 2)
				bytes_store(to + 4 * PANEL_LANES * (BLOCK / 8 * h + j),
					    type == DTYPE_Q4_0 ? bytes_plus(half[h], 8) : half[h]);
		}
}

INLINE void fill_byte_block(enum dtype type, const struct place *from, size_t b, struct byte_panel *p)
{
	foreach (s, PANEL_STRIPS) {
		const struct place at = from[s / STRIPS];
		const size_t lane = s % STRIPS * STRIP, to = s * STRIP;

		fill_bytes(type, at.quants, lane, to, b, p);
		strip_store(p->d[b] + to, block_scale(type, at, NULL, lane));
		if (has_min(type))
			strip_store(p->m[b] + to, block_min(type, at, NULL, lane));
	}
	FORGET_MEMORY();
}

/* The whole numbers of block b of a panel against `rows` rows, of weights without a sign. */
INLINE void nibble_sums(enum dtype type, const struct byte_panel *p, size_t b, const struct xbytes *x, size_t stride,
			size_t rows, struct sums ret[PANEL_TILE][PANEL_STRIPS])
{
	const bool five = type == DTYPE_Q5_1 && BYTE_SUMS_NARROW,
		   less = type == DTYPE_Q4_0 || type == DTYPE_Q5_0 || five;
	struct byte_sums sum[PANEL_TILE][PANEL_STRIPS];

	foreach (t, rows)
		foreach (s, PANEL_STRIPS)
			if (less)
				sum[t][s] = byte_sums_less(x + t * stride);
	foreach (k, BLOCK / 4) {
		struct bytes w[PANEL_STRIPS];

		foreach (s, PANEL_STRIPS)
			w[s] = bytes_load(p->w[b][k] + 4 * s * STRIP);
		foreach (t, rows)
			foreach (s, PANEL_STRIPS)
				if (k == 0 && !less)
					sum[t][s] = byte_sums_of(w[s], x[t * stride].q);
				else
					byte_sums_add(&sum[t][s], w[s], x[t * stride].q + 4 * k);
	}
	foreach (t, rows)
		foreach (s, PANEL_STRIPS) {
			ret[t][s] = sums_of_bytes(sum[t][s]);
			if (five)
				ret[t][s] = sums_plus(ret[t][s], sums_set1(16 * x[t * stride].sum));
		}
}

/* The same of Q8_0, whose quants are at `w`. */
INLINE void signed_sums(const struct byte_panel *p, const struct place *w, size_t b, const struct xbytes *x,
			size_t stride, size_t rows, struct sums sum[PANEL_TILE][PANEL_STRIPS])
{
	foreach (t, rows)
		foreach (s, PANEL_STRIPS)
			sum[t][s] = signed_sums_begin(x + t * stride);
	foreach (k, BLOCK / 4) {
		struct bytes v[PANEL_STRIPS];

		foreach (s, PANEL_STRIPS)
			v[s] = bytes_load(p->w[b][k] + 4 * s * STRIP);
		foreach (t, rows)
			foreach (s, PANEL_STRIPS)
				signed_sums_add(&sum[t][s], v[s],
						w[s / STRIPS].quants + 64 * k + 4 * (s % STRIPS) * STRIP,
						x[t * stride].q + 4 * k);
	}
}

/* Blocks of a group from `first` on and their panel, which the first rows fill. */
struct byte_stretch {
	const uint8_t *group[PANEL_GROUPS];
	size_t first, blocks;
	struct byte_panel *panel;
	const struct xbytes *x; /* of the first block */
	size_t stride;
};

/* A stretch against `rows` rows from `row` on, added to their results. */
INLINE void byte_rows(enum dtype type, bool fill, const struct byte_stretch *st, float *to, size_t row, size_t rows)
{
	const struct xbytes *x = st->x + row * st->stride;
	const size_t stride = st->stride;
	struct strip acc[PANEL_TILE][PANEL_STRIPS];
	struct byte_panel *p = st->panel;

	load_results(to, st->first == 0, row, rows, acc);
	for (size_t b = 0; b < st->blocks; b++, x++) {
		struct place from[PANEL_GROUPS];
		struct sums sum[PANEL_TILE][PANEL_STRIPS];

		foreach (i, PANEL_GROUPS) {
			from[i] = block_at(type, st->group[i], st->first + b);
			if (fill)
				ask_ahead(from[i].quants, 64 * (4 + high_bits(type)));
		}
		if (fill)
			fill_byte_block(type, from, b, p);
		if (type == DTYPE_Q8_0)
			signed_sums(p, from, b, x, stride, rows, sum);
		else
			nibble_sums(type, p, b, x, stride, rows, sum);
		foreach (t, rows)
			add_scaled(sum[t], p->d[b], x[t * stride].d, has_min(type) ? p->m[b] : NULL, x[t * stride].ds,
				   acc[t]);
	}
	store_results(to, row, rows, acc);
}

INLINE void group_byte_panels(enum dtype type, const struct tile *t, size_t g)
{
	const size_t blocks = t->w->cols / BLOCK, rows = first_rows(t->n);
	_Alignas(64) float acc[PANEL_GROUPS * TILE_ROWS * LANES];
	struct byte_panel p;
	struct byte_stretch s = { .panel = &p, .stride = blocks };

	foreach (i, PANEL_GROUPS)
		s.group[i] = panel_group(t, g, i);
	for (; s.first < blocks; s.first += PANEL_BLOCKS) {
		s.blocks = blocks - s.first < PANEL_BLOCKS ? blocks - s.first : PANEL_BLOCKS;
		s.x = t->xb + s.first;
		if (rows == PANEL_TILE)
			byte_rows(type, true, &s, acc, 0, PANEL_TILE);
		else
			byte_rows(type, true, &s, acc, 0, PANEL_FROM);
		s.x += rows * blocks;
		EACH_ROWS(PANEL_TILE, t->n - rows, byte_rows, type, false, &s, acc + rows * LANES);
	}
	put_panel(t, g, acc);
}

#define BYTES_FUNCTION(type, name)                                                                                     \
	static void bytes_##name(const struct tile *t)                                                                 \
	{                                                                                                              \
		for (size_t g = 0; t->n >= bytes_from(type) && g < t->groups; g += PANEL_GROUPS)                       \
			group_byte_panels(type, t, g);                                                                 \
		for (size_t g = 0; t->n < bytes_from(type) && g < t->groups; g++)                                      \
			EACH_ROWS(bytes_from(type) - 1, t->n, group_bytes, type, t, g);                                \
	}

BYTES_FUNCTION(DTYPE_Q4_0, q4_0)
BYTES_FUNCTION(DTYPE_Q4_1, q4_1)
BYTES_FUNCTION(DTYPE_Q5_0, q5_0)
BYTES_FUNCTION(DTYPE_Q5_1, q5_1)
BYTES_FUNCTION(DTYPE_Q8_0, q8_0)

#endif
