/*
 * Weights into the layout of cpu.h. Four columns of a row stay together as they are in the file, so packing is mostly a
 * matter of copying words of four bytes; it runs once, at load, a group of rows a piece.
 */
#include <string.h>

#include "cpu.h"
#include "dtype.h"

/* How a blocked type lies in the file and packed. */
struct layout {
	enum dtype type;
	size_t bits;
	bool min;
};

static const struct layout layouts[] = {
	{ DTYPE_Q4_0, 4, false }, { DTYPE_Q4_1, 4, true }, { DTYPE_Q5_0, 5, false }, { DTYPE_Q5_1, 5, true },
	{ DTYPE_Q8_0, 8, false }, { DTYPE_Q4_K, 4, true }, { DTYPE_Q5_K, 5, true },  { DTYPE_Q6_K, 6, false },
};

static const struct layout *layout_of(enum dtype type)
{
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++)
		if (layouts[i].type == type)
			return &layouts[i];
	return NULL;
}

size_t pack_block_bytes(enum dtype type)
{
	const struct layout *l = layout_of(type);

	if (!l || type_is_super(type))
		return LANES * dtype_find((uint32_t)type)->bytes;
	return LANES * (2 + (l->min ? 2 : 0) + BLOCK * l->bits / 8);
}

static void pack_words(const uint8_t *src, size_t words, size_t lane, uint8_t *dst)
{
	for (size_t j = 0; j < words; j++)
		memcpy(dst + 64 * j + 4 * lane, src + 4 * j, 4);
}

/* The file's 32 high bits of a row, in column order, spread to the four bytes of the row's lane. */
static void pack_high_bits(const uint8_t *src, size_t lane, uint8_t *dst)
{
	uint32_t bits;

	memcpy(&bits, src, sizeof(bits));
	for (size_t c = 0; c < 4; c++) {
		uint8_t byte = 0;

		for (size_t j = 0; j < 4; j++) {
			byte |= (uint8_t)((bits >> (4 * j + c) & 1) << j);
			byte |= (uint8_t)((bits >> (16 + 4 * j + c) & 1) << (4 + j));
		}
		dst[4 * lane + c] = byte;
	}
}

static void pack_block(const struct layout *l, const uint8_t *src, size_t lane, uint8_t *dst)
{
	memcpy(dst + 2 * lane, src, 2);
	src += 2;
	dst += 2 * LANES;
	if (l->min) {
		memcpy(dst + 2 * lane, src, 2);
		src += 2;
		dst += 2 * LANES;
	}
	if (l->bits == 5) {
		pack_high_bits(src, lane, dst);
		src += 4;
		dst += 64;
	}
	pack_words(src, l->bits == 8 ? 8 : 4, lane, dst);
}

/* Scales and minima of a row, [scale, minimum][SUPER]. */
static void pack_six_bits(const struct superblock *s, size_t lane, uint8_t *dst)
{
	for (size_t b = 0; b < SUPER; b++) {
		size_t at = b % 4 * LANES + lane, part = b / 4;
		uint8_t scale = (uint8_t)s->scale[b], min = s->min[b];

		dst[at] |= (uint8_t)((scale & 15) << 4 * part);
		dst[64 + at] |= (uint8_t)((min & 15) << 4 * part);
		dst[128 + at] |= (uint8_t)(scale >> 4 << 2 * part | min >> 4 << (4 + 2 * part));
	}
}

/* A row's quants of one block of 4, 5 or 6 bits. */
static void pack_quants(const uint8_t *q, size_t bits, size_t lane, uint8_t *dst)
{
	const size_t n = bits - 4;
	uint8_t *nibbles = dst + 64 * n;

	for (size_t i = 0; i < 16; i++) {
		size_t j = i / 4, at = 4 * lane + i % 4, shift = n * j % 4;

		nibbles[64 * j + at] = (uint8_t)((q[i] & 15) | (q[16 + i] & 15) << 4);
		if (n)
			dst[64 * (n * j / 4) + at] |= (uint8_t)(q[i] >> 4 << shift | q[16 + i] >> 4 << (4 + shift));
	}
}

/* To zeroed memory. */
static void pack_superblock(const struct layout *l, const uint8_t *src, size_t lane, uint8_t *dst)
{
	struct superblock s;

	dtype_superblock(l->type, src, &s);
	memcpy(dst + 2 * lane, &s.d, 2);
	dst += 2 * LANES;
	if (l->min) {
		s.dmin ^= 0x8000;
		memcpy(dst + 2 * lane, &s.dmin, 2);
		pack_six_bits(&s, lane, dst + 2 * LANES);
		dst += (2 + 12) * LANES;
	} else {
		for (size_t i = 0; i < sizeof(s.scale); i++)
			dst[i * LANES + lane] = (uint8_t)s.scale[i];
		dst += sizeof(s.scale) * LANES;
	}
	for (size_t b = 0; b < SUPER; b++)
		pack_quants(s.q + b * BLOCK, l->bits, lane, dst + b * LANES * BLOCK * l->bits / 8);
}

void pack_group(const struct tensor *t, size_t group, uint8_t *dst)
{
	const struct dtype_info *info = dtype_find((uint32_t)t->type);
	const struct layout *l = layout_of(t->type);
	size_t blocks = t->cols / info->block, row_bytes = blocks * info->bytes;
	size_t block_bytes = pack_block_bytes(t->type), first = group * LANES;
	size_t rows = t->rows - first < LANES ? t->rows - first : LANES;

	if (rows < LANES || type_is_super(t->type))
		memset(dst, 0, blocks * block_bytes);
	for (size_t r = 0; r < rows; r++) {
		const uint8_t *src = (const uint8_t *)t->data + (first + r) * row_bytes;

		for (size_t b = 0; b < blocks; b++, src += info->bytes) {
			if (type_is_super(t->type))
				pack_superblock(l, src, r, dst + b * block_bytes);
			else if (l)
				pack_block(l, src, r, dst + b * block_bytes);
			else
				memcpy(dst + b * block_bytes + r * info->bytes, src, info->bytes);
		}
	}
}

/* From the four bytes of a row's lane to the file's 32 bits. */
static void unpack_high_bits(const uint8_t *src, size_t lane, uint8_t *dst)
{
	uint32_t bits = 0;

	for (size_t c = 0; c < 4; c++)
		for (size_t j = 0; j < 4; j++) {
			uint32_t byte = src[4 * lane + c];

			bits |= (byte >> j & 1) << (4 * j + c);
			bits |= (byte >> (4 + j) & 1) << (16 + 4 * j + c);
		}
	memcpy(dst, &bits, sizeof(bits));
}

static void unpack_block(const struct layout *l, const uint8_t *src, size_t lane, uint8_t *dst)
{
	const size_t words = l->bits == 8 ? 8 : 4;

	memcpy(dst, src + 2 * lane, 2);
	dst += 2;
	src += 2 * LANES;
	if (l->min) {
		memcpy(dst, src + 2 * lane, 2);
		dst += 2;
		src += 2 * LANES;
	}
	if (l->bits == 5) {
		unpack_high_bits(src, lane, dst);
		dst += 4;
		src += 64;
	}
	for (size_t j = 0; j < words; j++)
		memcpy(dst + 4 * j, src + 64 * j + 4 * lane, 4);
}

/* The quants of one block of 4, 5 or 6 bits of a row. */
static void unpack_quants(const uint8_t *src, size_t bits, size_t lane, uint8_t *q)
{
	const size_t n = bits - 4;
	const uint8_t *nibbles = src + 64 * n;

	for (size_t i = 0; i < 16; i++) {
		size_t j = i / 4, at = 4 * lane + i % 4, mask = bits - 4 == 2 ? 3 : 1;
		unsigned high = n ? src[64 * (n * j / 4) + at] >> n * j % 4 : 0;

		q[i] = (uint8_t)((nibbles[64 * j + at] & 15) | (n ? (high & mask) << 4 : 0));
		q[16 + i] = (uint8_t)(nibbles[64 * j + at] >> 4 | (n ? (high >> 4 & mask) << 4 : 0));
	}
}

static void unpack_superblock(const struct layout *l, const uint8_t *src, size_t lane, struct superblock *ret)
{
	memcpy(&ret->d, src + 2 * lane, 2);
	src += 2 * LANES;
	if (l->min) {
		memcpy(&ret->dmin, src + 2 * lane, 2);
		ret->dmin ^= 0x8000;
		src += 2 * LANES;
		for (size_t b = 0; b < SUPER; b++) {
			size_t at = b % 4 * LANES + lane, part = b / 4;
			unsigned high = src[128 + at];

			ret->scale[b] = (int8_t)((src[at] >> 4 * part & 15) | (high >> 2 * part & 3) << 4);
			ret->min[b] = (uint8_t)((src[64 + at] >> 4 * part & 15) | (high >> (4 + 2 * part) & 3) << 4);
		}
		src += 12 * LANES;
	} else {
		for (size_t i = 0; i < sizeof(ret->scale); i++)
			ret->scale[i] = (int8_t)src[i * LANES + lane];
		src += sizeof(ret->scale) * LANES;
	}
	for (size_t b = 0; b < SUPER; b++)
		unpack_quants(src + b * LANES * BLOCK * l->bits / 8, l->bits, lane, ret->q + b * BLOCK);
}

void pack_row_to_f32(const struct weight *w, size_t row, float *y)
{
	const struct layout *l = layout_of(w->type);
	const struct dtype_info *info = dtype_find((uint32_t)w->type);
	const size_t block_bytes = pack_block_bytes(w->type), lane = row % LANES;
	const uint8_t *src = w->data + row / LANES * w->group_bytes;
	uint8_t block[40]; /* as the file has it */
	struct superblock s;

	for (size_t c = 0; c < w->cols; c += info->block, src += block_bytes) {
		if (type_is_super(w->type)) {
			unpack_superblock(l, src, lane, &s);
			dtype_superblock_to_f32(w->type, &s, y + c);
			continue;
		}
		if (l)
			unpack_block(l, src, lane, block);
		else
			memcpy(block, src + lane * info->bytes, info->bytes);
		dtype_to_f32(w->type, block, info->block, y + c);
	}
}
