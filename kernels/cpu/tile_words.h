/*
 * Products with activations in 15 bits (precision "exact"): pairs of words, added up in 32 bits. What is said of a type
 * is how a quarter of its block becomes words, and its scales.
 *
 * A few rows of activations meet weights that are unpacked to registers. For more, a stretch of a group's blocks is
 * unpacked once to a panel that stays in the first cache, and all rows pass over it: so the speed of a prompt hardly
 * depends on the type. The whole numbers are the same either way, and so is the order of the blocks.
 */
#ifndef CPU_TILE_WORDS_H
#define CPU_TILE_WORDS_H

#include "tile_super.h"

/*
 * Blocks of a panel (whole superblocks) of so many lanes of groups side by side, and rows of activations from which on
 * it pays to unpack to one.
 */
enum { PANEL_BLOCKS = 16 / PANEL_GROUPS, PANEL_LANES = PANEL_GROUPS * LANES, PANEL_FROM = 4 };

/* Rows that a panel is filled for, of n: their number is a constant where it counts. */
INLINE size_t first_rows(size_t n)
{
	return n < PANEL_TILE ? PANEL_FROM : PANEL_TILE;
}

/*
 * What is in memory is loaded again. A compiler that knows what was loaded or stored keeps it, more than there are
 * registers, and so stores on the stack what lies in the first cache already.
 */
#define FORGET_MEMORY() __asm__ volatile("" ::: "memory")

/* Quarters of a block, words of a quarter, and strips of a group and of a panel. */
enum { QUARTERS = 4, QUARTER_WORDS = 4, STRIPS = LANES / STRIP, PANEL_STRIPS = PANEL_LANES / STRIP };

struct panel {
	_Alignas(64) int16_t w[PANEL_BLOCKS][QUARTERS * QUARTER_WORDS][2 * PANEL_LANES];
	_Alignas(64) float d[PANEL_BLOCKS][PANEL_LANES], m[PANEL_BLOCKS][PANEL_LANES];
};

INLINE bool has_min(enum dtype type)
{
	return type == DTYPE_Q4_1 || type == DTYPE_Q5_1 || type == DTYPE_Q4_K || type == DTYPE_Q5_K;
}

/* What is taken off a weight as it is stored. */
INLINE int16_t offset_of(enum dtype type)
{
	return type == DTYPE_Q4_0 ? 8 : type == DTYPE_Q5_0 ? 16 : type == DTYPE_Q6_K ? SIX_BITS_OFFSET : 0;
}

/* Bits of a weight beyond four. */
INLINE size_t high_bits(enum dtype type)
{
	if (type == DTYPE_Q5_0 || type == DTYPE_Q5_1 || type == DTYPE_Q5_K)
		return 1;
	return type == DTYPE_Q6_K ? 2 : type == DTYPE_Q8_0 ? 4 : 0;
}

/* Where a block lies: the head that it may share with others, its number among them, its quants. */
struct place {
	const uint8_t *head, *quants;
	size_t number;
};

INLINE struct place block_at(enum dtype type, const uint8_t *group, size_t b)
{
	const size_t shared = type_is_super(type) ? SUPER : 1, quants = 64 * (4 + high_bits(type));
	const size_t head = type == DTYPE_Q6_K ? 18 * LANES : (has_min(type) ? 4 : 2) * LANES;
	const size_t six_bits = type == DTYPE_Q4_K || type == DTYPE_Q5_K ? 12 * LANES : 0;
	const uint8_t *at = group + b / shared * (head + six_bits + shared * quants);

	return (struct place){ at, at + head + six_bits + b % shared * quants, b % shared };
}

/* Quarter j of a block of a strip that begins at `lane`, its offset not taken off. */
INLINE void unpack_quarter(enum dtype type, const uint8_t *quants, size_t lane, size_t j, struct words *ret)
{
	const size_t high = high_bits(type);
	const uint8_t *q = quants + 4 * lane;

	if (type == DTYPE_Q8_0) {
		words_of_bytes(q + 64 * j, &ret[0], &ret[2]);
		words_of_bytes(q + 64 * (j + 4), &ret[1], &ret[3]);
		return;
	}
	words_of_nibbles(q + 64 * (j + high), ret);
	if (high == 1)
		words_add_high(q, j, 16, ret);
	if (high == 2)
		words_add_high(q + 64 * (j / 2), 2 * (j % 2), 48, ret);
}

/* The same, but words stay where they are in their sixteen bits, some of them 16 or 256 times larger. */
INLINE void unpack_in_place(enum dtype type, const uint8_t *quants, size_t lane, size_t j, struct words *ret)
{
	const size_t high = high_bits(type);
	const uint8_t *q = quants + 4 * lane;

	if (type == DTYPE_Q8_0)
		unpack_quarter(type, quants, lane, j, ret);
	else if (high == 1)
		words_with_high(q + 64 * (j + high), q, j, 16, ret);
	else if (high == 2)
		words_with_high(q + 64 * (j + high), q + 64 * (j / 2), 2 * (j % 2), 48, ret);
	else
		words_in_place(q + 64 * j, ret);
}

/* `scales`: of the superblock, where the type has them in six bits. */
INLINE struct strip block_scale(enum dtype type, struct place p, const struct scales *scales, size_t lane)
{
	if (type == DTYPE_Q4_K || type == DTYPE_Q5_K)
		return strip_load(scales->d[p.number] + lane);
	return strip_load_f16(p.head + 2 * lane);
}

INLINE struct strip block_min(enum dtype type, struct place p, const struct scales *scales, size_t lane)
{
	if (type == DTYPE_Q4_K || type == DTYPE_Q5_K)
		return strip_load(scales->m[p.number] + lane);
	return strip_load_f16(p.head + 2 * LANES + 2 * lane);
}

/*
 * Words of one shift, and for Q6_K of one half of the block, are added up for themselves and shifted down at the end.
 * They fit: 16 columns of 5 bits times 256, or 8 of 6 bits, times WORD_MOST.
 */
enum { PARTS = 4 };

INLINE size_t part_of(enum dtype type, size_t k)
{
	if (type == DTYPE_Q8_0)
		return 0;
	if (type == DTYPE_Q6_K)
		return k;
	return high_bits(type) ? k / 2 : k % 3;
}

/* A block's whole number from its parts, which began with what is to be taken off. */
INLINE struct sums whole_sum(enum dtype type, struct place p, size_t lane, const struct sums *part)
{
	if (type == DTYPE_Q8_0)
		return part[0];
	if (type == DTYPE_Q6_K)
		return sums_scaled(sums_plus(part[0], sums_down(part[2], 8)), half_scales(p.head, p.number, 0) + lane,
				   sums_plus(part[1], sums_down(part[3], 8)), half_scales(p.head, p.number, 1) + lane);
	if (high_bits(type))
		return sums_plus(part[0], sums_down(part[1], 8));
	return sums_plus(sums_plus(part[0], sums_down(part[1], 4)), sums_down(part[2], 8));
}

INLINE void begin_parts(enum dtype type, const struct xwords *x, struct sums *part)
{
	const int32_t offset = offset_of(type);

	foreach (k, PARTS)
		part[k] = sums_set1(0);
	if (type == DTYPE_Q6_K) {
		part[0] = sums_set1(-offset * x->low);
		part[1] = sums_set1(-offset * (x->sum - x->low));
	} else if (offset) {
		part[0] = sums_set1(-offset * x->sum);
	}
}

/* The whole numbers of a block in `strips` strips from `lane` on. */
INLINE void block_sums(enum dtype type, struct place p, size_t lane, size_t strips, const struct xwords *x,
		       size_t stride, size_t rows, struct sums sum[STRIPS][PANEL_FROM])
{
	struct sums part[STRIPS][PANEL_FROM][PARTS];
	struct words w[STRIPS][QUARTER_WORDS];

	foreach (s, strips)
		foreach (t, rows)
			begin_parts(type, &x[t * stride], part[s][t]);
	foreach (j, QUARTERS) {
		foreach (s, strips)
			unpack_in_place(type, p.quants, lane + s * STRIP, j, w[s]);
		foreach (k, QUARTER_WORDS)
			foreach (t, rows)
				foreach (s, strips)
					sums_add(&part[s][t][part_of(type, k)], w[s][k],
						 x[t * stride].q + 8 * j + 2 * k);
	}
	foreach (s, strips)
		foreach (t, rows)
			sum[s][t] = whole_sum(type, p, lane + s * STRIP, part[s][t]);
}

INLINE void words_block(enum dtype type, struct place p, const struct scales *scales, size_t strip, size_t strips,
			const struct xwords *x, size_t stride, size_t rows, struct strip acc[STRIPS][PANEL_FROM])
{
	struct sums sum[STRIPS][PANEL_FROM];

	block_sums(type, p, strip * STRIP, strips, x, stride, rows, sum);
	foreach (s, strips) {
		const size_t lane = (strip + s) * STRIP;
		struct strip d = block_scale(type, p, scales, lane), *to = acc[strip + s];

		foreach (t, rows)
			to[t] = strip_fma(strip_mul(d, strip_set1(x[t * stride].d)), strip_of_sums(sum[s][t]), to[t]);
		if (!has_min(type))
			continue;
		foreach (t, rows)
			to[t] = strip_fma(block_min(type, p, scales, lane), strip_set1(x[t * stride].ds), to[t]);
	}
}

/* Fewer than PANEL_FROM rows; the strips go side by side, so that the weights are read in order. */
INLINE void group_words(enum dtype type, const struct tile *t, size_t g, size_t row, size_t rows)
{
	const size_t blocks = t->w->cols / BLOCK;
	const uint8_t *group = group_at(t, g);
	const struct xwords *x = t->xw + row * blocks;
	_Alignas(64) float out[PANEL_FROM][LANES];
	struct strip acc[STRIPS][PANEL_FROM];
	struct scales scales;

	foreach (s, STRIPS)
		foreach (i, rows)
			acc[s][i] = strip_set1(0);
	for (size_t b = 0; b < blocks; b++) {
		struct place p = block_at(type, group, b);

		ask_ahead(p.quants, 64 * (4 + high_bits(type)));
		if ((type == DTYPE_Q4_K || type == DTYPE_Q5_K) && p.number == 0)
			read_scales(p.head, &scales);
		if (rows == 1)
			words_block(type, p, &scales, 0, STRIPS, x + b, blocks, rows, acc);
		else
			foreach (s, STRIPS) {
				words_block(type, p, &scales, s, 1, x + b, blocks, rows, acc);
				FORGET_MEMORY();
			}
	}
	foreach (s, STRIPS)
		foreach (i, rows)
			strip_store(out[i] + s * STRIP, acc[s][i]);
	put_group(t, g, row, rows, out[0]);
}

/*
 * A stretch of blocks of some groups that is unpacked to a panel, and what is at work of it: the scales of a
 * superblock, or those of a block of Q6_K, of words 0 and 2 of a quarter and of 1 and 3.
 */
struct unpacking {
	const uint8_t *group[PANEL_GROUPS];
	size_t first, blocks;
	struct panel *panel;
	struct scales scales[PANEL_GROUPS];
	struct words by[STRIPS][2];
};

/* Of group i, the strip that begins at `lane`. */
INLINE void fill_scales(enum dtype type, struct unpacking *u, struct place from, size_t i, size_t lane, size_t b)
{
	const size_t to = i * LANES + lane;

	strip_store(u->panel->d[b] + to, block_scale(type, from, &u->scales[i], lane));
	if (has_min(type))
		strip_store(u->panel->m[b] + to, block_min(type, from, &u->scales[i], lane));
	if (type == DTYPE_Q6_K)
		foreach (half, 2)
			u->by[lane / STRIP][half] = words_of_scales(half_scales(from.head, from.number, half) + lane);
}

/* Quarter j of that strip of a block. Scales of Q6_K go into the words, which stay below 13 bits. */
INLINE void fill_quarter(enum dtype type, struct unpacking *u, struct place from, size_t i, size_t lane, size_t j,
			 size_t b)
{
	const int16_t offset = offset_of(type);
	struct words w[QUARTER_WORDS];

	unpack_quarter(type, from.quants, lane, j, w);
	foreach (k, QUARTER_WORDS) {
		w[k] = offset ? words_sub(w[k], offset) : w[k];
		w[k] = type == DTYPE_Q6_K ? words_mul(w[k], u->by[lane / STRIP][k % 2]) : w[k];
		words_store(u->panel->w[b][QUARTER_WORDS * j + k] + 2 * (i * LANES + lane), w[k]);
	}
}

/* Block b of a stretch to its panel. */
INLINE void fill_block(enum dtype type, struct unpacking *u, size_t b)
{
	foreach (i, PANEL_GROUPS) {
		struct place from = block_at(type, u->group[i], u->first + b);

		ask_ahead(from.quants, 64 * (4 + high_bits(type)));
		if ((type == DTYPE_Q4_K || type == DTYPE_Q5_K) && from.number == 0)
			read_scales(from.head, &u->scales[i]);
		foreach (s, STRIPS)
			fill_scales(type, u, from, i, s * STRIP, b);
		foreach (j, QUARTERS)
			foreach (s, STRIPS)
				fill_quarter(type, u, from, i, s * STRIP, j, b);
	}
	FORGET_MEMORY();
}

/* The whole numbers of block b of a panel against `rows` rows. */
INLINE void panel_sums(const struct panel *p, size_t b, const struct xwords *x, size_t stride, size_t rows,
		       struct sums sum[PANEL_TILE][PANEL_STRIPS])
{
	foreach (k, QUARTERS * QUARTER_WORDS) {
		struct words w[PANEL_STRIPS];

		foreach (s, PANEL_STRIPS)
			w[s] = words_load(p->w[b][k] + 2 * s * STRIP);
		foreach (t, rows)
			foreach (s, PANEL_STRIPS)
				if (k == 0)
					sum[t][s] = sums_of(w[s], x[t * stride].q);
				else
					sums_add(&sum[t][s], w[s], x[t * stride].q + 2 * k);
	}
}

/* A block's whole numbers to the results; d and m, or NULL, are its scales and minima, xd and xds the row's. */
INLINE void add_scaled(const struct sums *sum, const float *d, float xd, const float *m, float xds, struct strip *acc)
{
	foreach (s, PANEL_STRIPS) {
		struct strip by = strip_mul(strip_load(d + s * STRIP), strip_set1(xd));

		acc[s] = strip_fma(by, strip_of_sums(sum[s]), acc[s]);
	}
	if (m)
		foreach (s, PANEL_STRIPS)
			acc[s] = strip_fma(strip_load(m + s * STRIP), strip_set1(xds), acc[s]);
}

/* Results of the groups of a panel, [PANEL_GROUPS][TILE_ROWS][LANES]: where those of a row in a strip of it are. */
INLINE float *results_at(float *acc, size_t row, size_t strip)
{
	return acc + (strip / STRIPS * TILE_ROWS + row) * LANES + strip % STRIPS * STRIP;
}

/* What they are before a stretch: nothing before the first. */
INLINE void load_results(float *acc, bool first, size_t row, size_t rows, struct strip ret[PANEL_TILE][PANEL_STRIPS])
{
	foreach (t, rows)
		foreach (s, PANEL_STRIPS)
			ret[t][s] = first ? strip_set1(0) : strip_load(results_at(acc, row + t, s));
}

INLINE void store_results(float *acc, size_t row, size_t rows, struct strip from[PANEL_TILE][PANEL_STRIPS])
{
	foreach (t, rows)
		foreach (s, PANEL_STRIPS)
			strip_store(results_at(acc, row + t, s), from[t][s]);
}

/*
 * The blocks of a stretch against `rows` rows from `row` on, added to their results. With `fill` each is unpacked just
 * before, so that a block is stored while another's products take their time.
 */
INLINE void panel_rows(enum dtype type, bool fill, struct unpacking *u, const struct xwords *x, size_t stride,
		       float *to, size_t row, size_t rows)
{
	const struct panel *p = u->panel;
	struct strip acc[PANEL_TILE][PANEL_STRIPS];

	x += u->first + row * stride;
	load_results(to, u->first == 0, row, rows, acc);
	for (size_t b = 0; b < u->blocks; b++, x++) {
		struct sums sum[PANEL_TILE][PANEL_STRIPS];

		if (fill)
			fill_block(type, u, b);
		panel_sums(p, b, x, stride, rows, sum);
		foreach (t, rows)
			add_scaled(sum[t], p->d[b], x[t * stride].d, has_min(type) ? p->m[b] : NULL, x[t * stride].ds,
				   acc[t]);
	}
	store_results(to, row, rows, acc);
}

/* A panel does not tell its type: one that has a minimum stands for all of those, and one that has none. */
static void panel_min(struct unpacking *u, const struct xwords *x, size_t stride, float *to, size_t n)
{
	EACH_ROWS(PANEL_TILE, n, panel_rows, DTYPE_Q4_1, false, u, x, stride, to);
}

static void panel_plain(struct unpacking *u, const struct xwords *x, size_t stride, float *to, size_t n)
{
	EACH_ROWS(PANEL_TILE, n, panel_rows, DTYPE_Q4_0, false, u, x, stride, to);
}

/* A panel's groups from g on. What is missing to a panel is the last group once more, and its results nobody's. */
INLINE const uint8_t *panel_group(const struct tile *t, size_t g, size_t i)
{
	return group_at(t, g + i < t->groups ? g + i : t->groups - 1);
}

INLINE void put_panel(const struct tile *t, size_t g, const float *acc)
{
	for (size_t i = 0; i < PANEL_GROUPS && g + i < t->groups; i++)
		put_group(t, g + i, 0, t->n, acc + i * TILE_ROWS * LANES);
}

INLINE void group_panels(enum dtype type, const struct tile *t, size_t g)
{
	const size_t blocks = t->w->cols / BLOCK, rows = first_rows(t->n);
	_Alignas(64) float acc[PANEL_GROUPS * TILE_ROWS * LANES];
	struct panel p;
	struct unpacking u = { .panel = &p };

	foreach (i, PANEL_GROUPS)
		u.group[i] = panel_group(t, g, i);
	for (; u.first < blocks; u.first += PANEL_BLOCKS) {
		u.blocks = blocks - u.first < PANEL_BLOCKS ? blocks - u.first : PANEL_BLOCKS;
		if (rows == PANEL_TILE)
			panel_rows(type, true, &u, t->xw, blocks, acc, 0, PANEL_TILE);
		else
			panel_rows(type, true, &u, t->xw, blocks, acc, 0, PANEL_FROM);
		(has_min(type) ? panel_min : panel_plain)(&u, t->xw + rows * blocks, blocks, acc + rows * LANES,
							  t->n - rows);
	}
	put_panel(t, g, acc);
}

#define WORDS_FUNCTION(type, name)                                                                                     \
	static void words_##name(const struct tile *t)                                                                 \
	{                                                                                                              \
		for (size_t g = 0; t->n >= PANEL_FROM && g < t->groups; g += PANEL_GROUPS)                             \
			group_panels(type, t, g);                                                                      \
		for (size_t g = 0; t->n < PANEL_FROM && g < t->groups; g++)                                            \
			EACH_ROWS(PANEL_FROM - 1, t->n, group_words, type, t, g);                                      \
	}

WORDS_FUNCTION(DTYPE_Q4_0, q4_0)
WORDS_FUNCTION(DTYPE_Q4_1, q4_1)
WORDS_FUNCTION(DTYPE_Q5_0, q5_0)
WORDS_FUNCTION(DTYPE_Q5_1, q5_1)
WORDS_FUNCTION(DTYPE_Q8_0, q8_0)
WORDS_FUNCTION(DTYPE_Q4_K, q4_k)
WORDS_FUNCTION(DTYPE_Q5_K, q5_k)
WORDS_FUNCTION(DTYPE_Q6_K, q6_k)

#endif
