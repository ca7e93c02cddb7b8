/*
 * The inner loops for AMX: tiles of bytes for products with many rows of activations, AVX-512 with VNNI for all the
 * rest. Compiled alone with those flags, and in the tests over an emulation; nothing here may run before the backend's
 * probe has found the instructions and asked the system for the tiles' registers.
 *
 * A tile instruction multiplies 16 rows of activations by a group of 16 rows of weights, over the 32 columns of a
 * block. A word of 15 bits is 256 * high + low, two bytes with signs, so two instructions make a block's whole numbers,
 * exactly: 256 * (sum of high * w) + (sum of low * w). From there on a row sees what it sees in tile_words.h, in the
 * same order.
 *
 * Two groups share what is loaded of activations, and while AVX-512 scales the sums of two blocks, the tiles already
 * make those of the next two. The README counts what this should take.
 */
#include "lanes_avx512.h"
/* The lanes come first: the others are written in their terms. */
#include "rows.h"

#include "attend.h"
#include "isa.h"
#include "peak.h"
#include "tile.h"

#ifdef KERNELS_EMULATE_AVX512
#include "emulate_amx.h"
#endif

/* Groups of weights at once, blocks of a panel at most, and blocks whose sums are made before they are scaled: PAIR's
 * multiple. */
enum { PAIR = 2, TILE_PANEL = 24, CHUNK = 2 };

/* A row of four columns of weights of a group, and the rows of a block. */
enum { W_BYTES = 4 * LANES, W_ROWS = BLOCK / 4 };

/* The registers: sums of the low and the high bytes of two groups, activations, weights. Intrinsics want literals. */
#define LOW_0 0
#define HIGH_0 1
#define LOW_1 2
#define HIGH_1 3
#define X_LOW 4
#define X_HIGH 5
#define W_0 6
#define W_1 7

/* What LDTILECFG reads. */
struct shapes {
	uint8_t palette, start_row, zero[14];
	uint16_t row_bytes[16];
	uint8_t rows[16];
};

static const _Alignas(64) struct shapes shapes = {
	.palette = 1,
	.row_bytes = { W_BYTES, W_BYTES, W_BYTES, W_BYTES, BLOCK, BLOCK, W_BYTES, W_BYTES },
	.rows = { LANES, LANES, LANES, LANES, LANES, LANES, W_ROWS, W_ROWS },
};

/* GCC's intrinsics do not say that they read memory: what was written must be there before. */
INLINE void settle_memory(void)
{
	__asm__ volatile("" ::: "memory");
}

/* A stretch of the blocks of two groups as bytes: rows of four columns, a lane's side by side, as tiles want them. */
struct tile_panel {
	_Alignas(64) int8_t w[TILE_PANEL][PAIR][W_ROWS * W_BYTES];
	_Alignas(64) float d[TILE_PANEL][PAIR][LANES], m[TILE_PANEL][PAIR][LANES];
};

/* Sums of a block and a group: [LANES][LANES] of the low bytes of words, or of bytes, then as many of the high ones. */
enum { SUMS = LANES * LANES, BLOCK_SUMS = 2 * SUMS };

/* Results of a group and a piece. */
enum { GROUP_ACC = TILE_ROWS * LANES };

/* A panel's `blocks` blocks against all rows of a piece. */
struct stretch {
	const struct tile_panel *panel;
	size_t blocks, groups;
	const struct xtile *x; /* of the first block; `stride` lie from one sixteen rows to the next */
	size_t stride, row_tiles;
	float *acc; /* [groups][GROUP_ACC] */
};

/* Up to CHUNK blocks of sixteen rows, and their sums. */
struct chunk {
	size_t row_tile, first, blocks;
	int32_t *sums; /* [CHUNK][PAIR][BLOCK_SUMS] */
};

INLINE size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

INLINE void next_chunk(const struct stretch *s, struct chunk *c)
{
	c->first += c->blocks;
	if (c->first == s->blocks) {
		c->first = 0;
		c->row_tile++;
	}
	c->blocks = smaller(s->blocks - c->first, CHUNK);
}

INLINE void multiply_block(bool words, size_t groups, const struct stretch *s, const struct chunk *c, size_t block)
{
	const struct xtile *x = s->x + c->row_tile * s->stride + c->first + block;
	const int8_t(*w)[W_ROWS * W_BYTES] = s->panel->w[c->first + block];

	settle_memory();
	_tile_loadd(X_LOW, x->q[0], sizeof(x->q[0]));
	_tile_loadd(W_0, w[0], W_BYTES);
	_tile_zero(LOW_0);
	_tile_dpbssd(LOW_0, X_LOW, W_0);
	if (groups == PAIR) {
		_tile_loadd(W_1, w[1], W_BYTES);
		_tile_zero(LOW_1);
		_tile_dpbssd(LOW_1, X_LOW, W_1);
	}
	if (!words)
		return;
	_tile_loadd(X_HIGH, x->q[0] + BLOCK, sizeof(x->q[0]));
	_tile_zero(HIGH_0);
	_tile_dpbssd(HIGH_0, X_HIGH, W_0);
	if (groups == PAIR) {
		_tile_zero(HIGH_1);
		_tile_dpbssd(HIGH_1, X_HIGH, W_1);
	}
}

INLINE void store_block(bool words, size_t groups, const struct chunk *c, size_t block)
{
	int32_t *to = c->sums + block * PAIR * BLOCK_SUMS;

	_tile_stored(LOW_0, to, W_BYTES);
	if (groups == PAIR)
		_tile_stored(LOW_1, to + BLOCK_SUMS, W_BYTES);
	if (!words)
		return;
	_tile_stored(HIGH_0, to + SUMS, W_BYTES);
	if (groups == PAIR)
		_tile_stored(HIGH_1, to + BLOCK_SUMS + SUMS, W_BYTES);
}

/* low + 256 * high, where `narrow` promises that high fits in 16 bits: one instruction then, not two. */
INLINE __m512i add_high(bool narrow, __m512i low, const int32_t *high)
{
	__m512i h = _mm512_loadu_si512(high);

	if (narrow)
		return _mm512_dpwssd_epi32(low, h, _mm512_set1_epi32(256));
	return _mm512_add_epi32(low, _mm512_slli_epi32(h, 8));
}

/* A row's sums of a block and a group, as the fused multiply-adds want them. */
INLINE struct strip sums_at(bool words, bool narrow, const int32_t *low)
{
	struct sums sum = { _mm512_loadu_si512(low) };

	if (words)
		sum.v = add_high(narrow, sum.v, low + SUMS);
	return strip_of_sums(sum);
}

/*
 * Adds a chunk's blocks to results of all groups, which stay in registers meanwhile: of sixteen rows of one group, or
 * of eight rows of two, from `row` on. So a row's scales are loaded once for both.
 */
INLINE void scale_chunk(bool words, bool narrow, bool min, size_t groups, const struct stretch *s,
			const struct chunk *c, size_t row)
{
	const struct xtile *x = s->x + c->row_tile * s->stride + c->first;
	const int32_t *sums = c->sums + row * LANES;
	float *to = s->acc + (c->row_tile * LANES + row) * LANES;
	struct strip acc[PAIR][LANES], d[PAIR], m[PAIR];

	foreach (g, groups)
		foreach (i, LANES / groups)
			acc[g][i] = strip_load(to + g * GROUP_ACC + i * LANES);
	for (size_t b = 0; b < c->blocks; b++, x++, sums += PAIR * BLOCK_SUMS) {
		const float *xd = x->d + row, *xds = x->ds + row;

		foreach (g, groups) {
			d[g] = strip_load(s->panel->d[c->first + b][g]);
			m[g] = min ? strip_load(s->panel->m[c->first + b][g]) : d[g];
		}
		foreach (i, LANES / groups)
			foreach (g, groups) {
				struct strip f = sums_at(words, narrow, sums + g * BLOCK_SUMS + i * LANES);

				acc[g][i] = strip_fma(strip_mul(d[g], strip_set1(xd[i])), f, acc[g][i]);
				if (min)
					acc[g][i] = strip_fma(m[g], strip_set1(xds[i]), acc[g][i]);
			}
	}
	foreach (g, groups)
		foreach (i, LANES / groups)
			strip_store(to + g * GROUP_ACC + i * LANES, acc[g][i]);
}

/*
 * The tiles are a chunk ahead: `made` is under way in them while `scaled`, the one before it, is added up, in as many
 * parts as there are groups. A part's last block is stored after the scaling, when it is there.
 */
INLINE void run_chunks(bool words, bool narrow, bool min, size_t groups, const struct stretch *s)
{
	_Alignas(64) int32_t sums[2][CHUNK * PAIR * BLOCK_SUMS];
	struct chunk made = { .blocks = smaller(s->blocks, CHUNK), .sums = sums[0] }, scaled = { .sums = sums[1] };
	const size_t each = CHUNK / groups;

	while (made.row_tile < s->row_tiles || scaled.blocks) {
		int32_t *unused = scaled.sums;
		size_t blocks = made.row_tile < s->row_tiles ? made.blocks : 0;

		for (size_t part = 0; part < groups; part++) {
			size_t first = smaller(part * each, blocks), end = smaller(first + each, blocks);

			for (size_t b = first; b < end; b++) {
				if (b > first)
					store_block(words, groups, &made, b - 1);
				multiply_block(words, groups, s, &made, b);
			}
			if (scaled.blocks)
				scale_chunk(words, narrow, min, groups, s, &scaled, part * (LANES / groups));
			if (end > first)
				store_block(words, groups, &made, end - 1);
		}
		scaled = made;
		scaled.blocks = blocks;
		if (blocks)
			next_chunk(s, &made);
		made.sums = unused;
	}
}

#define RUN_FUNCTION(name, words, narrow, min)                                                                         \
	static void name(const struct stretch *s)                                                                      \
	{                                                                                                              \
		if (s->groups == PAIR)                                                                                 \
			run_chunks(words, narrow, min, PAIR, s);                                                       \
		else                                                                                                   \
			run_chunks(words, narrow, min, 1, s);                                                          \
	}

RUN_FUNCTION(run_bytes, false, false, false)
RUN_FUNCTION(run_bytes_min, false, false, true)
RUN_FUNCTION(run_narrow, true, true, false)
RUN_FUNCTION(run_narrow_min, true, true, true)
RUN_FUNCTION(run_wide, true, false, false)
RUN_FUNCTION(run_wide_min, true, false, true)

/* A block as W_ROWS rows of bytes, the offset taken off. Nibbles already stand as they should. */
INLINE void unpack_block(enum dtype type, const uint8_t *high, int8_t *ret)
{
	const bool five = high_bits(type) == 1;
	const uint8_t *q = five ? high + W_BYTES : high;
	const __m512i low = _mm512_set1_epi8(15), fifth = _mm512_set1_epi8(16);
	const __m512i offset = _mm512_set1_epi8((int8_t)offset_of(type));
	__m512i h = five ? _mm512_loadu_si512(high) : low;

	if (type == DTYPE_Q8_0) {
		memcpy(ret, q, W_ROWS * W_BYTES);
		return;
	}
	foreach (j, W_ROWS / 2) {
		__m512i v = _mm512_loadu_si512(q + W_BYTES * j);
		__m512i rows[2] = { _mm512_and_si512(v, low), _mm512_and_si512(_mm512_srli_epi16(v, 4), low) };

		if (five) {
			__m512i left = _mm512_sll_epi16(h, _mm_cvtsi32_si128((int)(4 - j)));
			__m512i right = _mm512_srl_epi16(h, _mm_cvtsi32_si128((int)j));

			rows[0] = _mm512_or_si512(rows[0], _mm512_and_si512(left, fifth));
			rows[1] = _mm512_or_si512(rows[1], _mm512_and_si512(right, fifth));
		}
		foreach (k, 2) {
			if (offset_of(type))
				rows[k] = _mm512_sub_epi8(rows[k], offset);
			_mm512_storeu_si512(ret + W_BYTES * (W_ROWS / 2 * k + j), rows[k]);
		}
	}
}

#define UNPACK_FUNCTION(type, name)                                                                                    \
	static void unpack_##name(const uint8_t *quants, int8_t *ret)                                                  \
	{                                                                                                              \
		unpack_block(type, quants, ret);                                                                       \
	}

UNPACK_FUNCTION(DTYPE_Q4_0, q4_0)
UNPACK_FUNCTION(DTYPE_Q4_1, q4_1)
UNPACK_FUNCTION(DTYPE_Q5_0, q5_0)
UNPACK_FUNCTION(DTYPE_Q5_1, q5_1)
UNPACK_FUNCTION(DTYPE_Q8_0, q8_0)
UNPACK_FUNCTION(DTYPE_Q4_K, q4_k)
UNPACK_FUNCTION(DTYPE_Q5_K, q5_k)

/*
 * The types whose weights fit in a byte; the others are multiplied as words. A high byte of an activation is -63 to 64,
 * so with weights of -16 to 15 the sum of 32 products is -32,768 to 32,256, and narrow.
 */
static const struct byte_type {
	enum dtype type;
	void (*unpack)(const uint8_t *quants, int8_t *ret);
	void (*words)(const struct stretch *s);
	void (*bytes)(const struct stretch *s); /* NULL: their activations are never bytes */
} byte_types[] = {
	{ DTYPE_Q4_0, unpack_q4_0, run_narrow, run_bytes }, { DTYPE_Q4_1, unpack_q4_1, run_narrow_min, run_bytes_min },
	{ DTYPE_Q5_0, unpack_q5_0, run_narrow, run_bytes }, { DTYPE_Q5_1, unpack_q5_1, run_wide_min, run_bytes_min },
	{ DTYPE_Q8_0, unpack_q8_0, run_wide, run_bytes },   { DTYPE_Q4_K, unpack_q4_k, run_narrow_min, NULL },
	{ DTYPE_Q5_K, unpack_q5_k, run_wide_min, NULL },
};

static const struct byte_type *byte_type_of(enum dtype type)
{
	for (size_t i = 0; i < sizeof(byte_types) / sizeof(byte_types[0]); i++)
		if (byte_types[i].type == type)
			return &byte_types[i];
	return NULL;
}

static void fill_tile_panel(const struct byte_type *type, const uint8_t *group, size_t first, size_t blocks,
			    size_t which, struct tile_panel *p)
{
	struct scales scales;

	for (size_t b = 0; b < blocks; b++) {
		struct place from = block_at(type->type, group, first + b);

		if ((type->type == DTYPE_Q4_K || type->type == DTYPE_Q5_K) && (b == 0 || from.number == 0))
			read_scales(from.head, &scales);
		type->unpack(from.quants, p->w[b][which]);
		strip_store(p->d[b][which], block_scale(type->type, from, &scales, 0));
		if (has_min(type->type))
			strip_store(p->m[b][which], block_min(type->type, from, &scales, 0));
	}
}

/* One or two groups against all rows of the piece. Stretches of a panel are of about one length. */
static void multiply_groups(const struct byte_type *type, const struct tile *t, size_t g, size_t groups)
{
	const size_t blocks = t->w->cols / BLOCK;
	const size_t stretches = (blocks + TILE_PANEL - 1) / TILE_PANEL, each = (blocks + stretches - 1) / stretches;
	_Alignas(64) float acc[PAIR * GROUP_ACC];
	struct tile_panel p;
	struct stretch s = {
		.panel = &p, .groups = groups, .stride = blocks, .row_tiles = (t->n + LANES - 1) / LANES, .acc = acc
	};

	for (size_t i = 0; i < groups; i++)
		memset(acc + i * GROUP_ACC, 0, s.row_tiles * LANES * LANES * sizeof(*acc));
	for (size_t b = 0; b < blocks; b += each) {
		s.blocks = smaller(blocks - b, each);
		s.x = t->xt + b;
		for (size_t i = 0; i < groups; i++)
			fill_tile_panel(type, group_at(t, g + i), b, s.blocks, i, &p);
		(t->xb ? type->bytes : type->words)(&s);
	}
	for (size_t i = 0; i < groups; i++)
		put_group(t, g + i, 0, t->n, acc + i * GROUP_ACC);
}

/* The registers are shaped for a piece and given back after it: the system need not save them between pieces. */
static void tile_amx(const struct tile *t)
{
	const struct byte_type *type = t->xt && t->n >= XTILE_FROM ? byte_type_of(t->w->type) : NULL;

	if (!type) {
		tile_any(t);
		return;
	}
	settle_memory();
	_tile_loadconfig(&shapes);
	for (size_t g = 0; g < t->groups; g += PAIR)
		multiply_groups(type, t, g, smaller(t->groups - g, PAIR));
	_tile_release();
}

/* A block's words, in the order of word_place(), as low and high bytes in the order of the columns. */
INLINE void split_words(const int16_t *q, int8_t *ret)
{
	static const int32_t order[16] = { 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15 };
	static const uint8_t sign[64] = { [0 ... 31] = 128 };
	const __m512i bytes =
		_mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 2, 10, 4, 12, 6, 14, 1, 9, 3, 11, 5, 13, 7, 15));
	__m512i x = _mm512_add_epi16(_mm512_loadu_si512(q), _mm512_set1_epi16(128));

	x = _mm512_permutexvar_epi32(_mm512_loadu_si512(order), _mm512_shuffle_epi8(x, bytes));
	_mm512_storeu_si512(ret, _mm512_xor_si512(x, _mm512_loadu_si512(sign)));
}

static void tiles_row(const struct xbytes *xb, const struct xwords *xw, size_t blocks, size_t rows, struct xtile *ret)
{
	for (size_t b = 0; b < blocks; b++, ret++) {
		for (size_t i = 0; i < rows; i++) {
			size_t at = i * blocks + b;

			if (xb)
				memcpy(ret->q[i], xb[at].q, BLOCK);
			else
				split_words(xw[at].q, ret->q[i]);
			ret->d[i] = xb ? xb[at].d : xw[at].d;
			ret->ds[i] = xb ? xb[at].ds : xw[at].ds;
		}
		for (size_t i = rows; i < LANES; i++) {
			memset(ret->q[i], 0, sizeof(ret->q[i]));
			ret->d[i] = ret->ds[i] = 0;
		}
	}
}

#ifdef KERNELS_EMULATE_AVX512
extern const struct isa KERNELS_EMULATE_AVX512;
const struct isa KERNELS_EMULATE_AVX512 = ISA_TABLE_WITH("amx-emulated", tile_amx, tiles_row);
#else
const struct isa isa_amx = ISA_TABLE_WITH("amx", tile_amx, tiles_row);
#endif
