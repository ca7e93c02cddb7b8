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
	{ DTYPE_Q4_0, 4, false }, { DTYPE_Q4_1, 4, true },  { DTYPE_Q5_0, 5, false },
	{ DTYPE_Q5_1, 5, true },  { DTYPE_Q8_0, 8, false },
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

	if (!l)
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

void pack_group(const struct tensor *t, size_t group, uint8_t *dst)
{
	const struct dtype_info *info = dtype_find((uint32_t)t->type);
	const struct layout *l = layout_of(t->type);
	size_t blocks = t->cols / info->block, row_bytes = blocks * info->bytes;
	size_t block_bytes = pack_block_bytes(t->type), first = group * LANES;
	size_t rows = t->rows - first < LANES ? t->rows - first : LANES;

	if (rows < LANES)
		memset(dst, 0, blocks * block_bytes);
	for (size_t r = 0; r < rows; r++) {
		const uint8_t *src = (const uint8_t *)t->data + (first + r) * row_bytes;

		for (size_t b = 0; b < blocks; b++, src += info->bytes) {
			if (l)
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

static uint8_t *unpack_block(const struct layout *l, const uint8_t *src, size_t lane, uint8_t *dst)
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
	return dst + 4 * words;
}

void pack_undo(const struct weight *w, size_t row, size_t first, size_t count, uint8_t *dst)
{
	const struct layout *l = layout_of(w->type);
	const size_t block_bytes = pack_block_bytes(w->type), bytes = dtype_find((uint32_t)w->type)->bytes;
	const uint8_t *src = w->data + row / LANES * w->group_bytes + first * block_bytes;

	for (size_t b = 0; b < count; b++, src += block_bytes) {
		if (l)
			dst = unpack_block(l, src, row % LANES, dst);
		else
			memcpy(dst + b * bytes, src + row % LANES * bytes, bytes);
	}
}
