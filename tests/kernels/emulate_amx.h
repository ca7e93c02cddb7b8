/*
 * The tiles of AMX in plain C, for machines that have none: a thread's eight registers are arrays. What the processor
 * would answer with a signal, and what we hold to be a mistake (registers that were not given back), ends the test with
 * a message. amx.c includes this beside emulate_avx512.h.
 */
#ifndef TESTS_EMULATE_AMX_H
#define TESTS_EMULATE_AMX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EMULATED_TILES = 8, EMULATED_ROWS = 16, EMULATED_BYTES = 64, EMULATED_CONFIG = 64 };

static _Thread_local struct {
	bool configured;
	size_t rows[EMULATED_TILES], bytes[EMULATED_TILES];
	uint8_t data[EMULATED_TILES][EMULATED_ROWS][EMULATED_BYTES];
} emulated_tiles;

#define _tile_loadconfig emulated_loadconfig
#define _tile_release emulated_release
#define _tile_zero emulated_zero
#define _tile_loadd emulated_loadd
#define _tile_stored emulated_stored
#define _tile_dpbssd emulated_dpbssd

static inline void emulated_demand(bool holds, const char *what, int tile)
{
	if (holds)
		return;
	fprintf(stderr, "emulate_amx.h: tile %d: %s\n", tile, what);
	abort();
}

/* Palette, first row, 14 bytes of zeros, 16 times the bytes of a row in 16 bits, 16 times the rows in 8 bits. */
static inline void emulated_loadconfig(const void *from)
{
	uint8_t c[EMULATED_CONFIG];

	memcpy(c, from, sizeof(c));
	emulated_demand((uintptr_t)from % EMULATED_CONFIG == 0, "the configuration is not in one line of the cache",
			-1);
	emulated_demand(!emulated_tiles.configured, "configured twice, and not released in between", -1);
	emulated_demand(c[0] == 1, "the palette is not 1", -1);
	for (int i = 1; i < 16; i++)
		emulated_demand(c[i] == 0, "a start row, or a byte that must be 0", -1);
	memset(&emulated_tiles, 0, sizeof(emulated_tiles));
	emulated_tiles.configured = true;
	for (int i = 0; i < 16; i++) {
		size_t bytes = c[16 + 2 * i] + 256u * c[17 + 2 * i], rows = c[48 + i];

		emulated_demand(i < EMULATED_TILES || (bytes == 0 && rows == 0), "there is no such tile", i);
		emulated_demand(bytes <= EMULATED_BYTES && rows <= EMULATED_ROWS, "the shape is too large", i);
		emulated_demand((bytes == 0) == (rows == 0), "rows without bytes, or bytes without rows", i);
		if (i < EMULATED_TILES) {
			emulated_tiles.bytes[i] = bytes;
			emulated_tiles.rows[i] = rows;
		}
	}
}

static inline void emulated_release(void)
{
	emulated_demand(emulated_tiles.configured, "released, but not configured", -1);
	memset(&emulated_tiles, 0xaa, sizeof(emulated_tiles));
	emulated_tiles.configured = false;
}

static inline void emulated_use(int tile)
{
	emulated_demand(tile >= 0 && tile < EMULATED_TILES, "there is no such tile", tile);
	emulated_demand(emulated_tiles.configured, "used, but nothing is configured", tile);
	emulated_demand(emulated_tiles.rows[tile] > 0, "used, but it has no shape", tile);
}

static inline void emulated_zero(int tile)
{
	emulated_use(tile);
	memset(emulated_tiles.data[tile], 0, sizeof(emulated_tiles.data[tile]));
}

/* What lies beyond the shape becomes zero. */
static inline void emulated_loadd(int tile, const void *from, size_t stride)
{
	emulated_zero(tile);
	for (size_t i = 0; i < emulated_tiles.rows[tile]; i++)
		memcpy(emulated_tiles.data[tile][i], (const uint8_t *)from + i * stride, emulated_tiles.bytes[tile]);
}

static inline void emulated_stored(int tile, void *to, size_t stride)
{
	emulated_use(tile);
	for (size_t i = 0; i < emulated_tiles.rows[tile]; i++)
		memcpy((uint8_t *)to + i * stride, emulated_tiles.data[tile][i], emulated_tiles.bytes[tile]);
}

static inline int32_t emulated_four(const uint8_t *a, const uint8_t *b)
{
	int32_t sum = 0;

	for (int i = 0; i < 4; i++)
		sum += (int8_t)a[i] * (int8_t)b[i];
	return sum;
}

/* sum[m][n] += four products each of a[m][4k ...] and b[k][4n ...], with signs; sums wrap. */
static inline void emulated_dpbssd(int sum, int a, int b)
{
	size_t rows, columns, depth;

	emulated_use(sum);
	emulated_use(a);
	emulated_use(b);
	rows = emulated_tiles.rows[sum];
	columns = emulated_tiles.bytes[sum] / 4;
	depth = emulated_tiles.bytes[a] / 4;
	emulated_demand(sum != a && sum != b && a != b, "the registers of a product are not three", sum);
	emulated_demand(emulated_tiles.bytes[sum] % 4 == 0 && emulated_tiles.bytes[a] % 4 == 0, "odd bytes", sum);
	emulated_demand(emulated_tiles.rows[a] == rows, "a has not the sum's rows", a);
	emulated_demand(emulated_tiles.bytes[b] == 4 * columns, "b has not the sum's columns", b);
	emulated_demand(emulated_tiles.rows[b] == depth, "b has not as many rows as a has fours", b);
	for (size_t m = 0; m < rows; m++)
		for (size_t n = 0; n < columns; n++) {
			int32_t at;

			memcpy(&at, &emulated_tiles.data[sum][m][4 * n], 4);
			for (size_t k = 0; k < depth; k++)
				at = (int32_t)((uint32_t)at +
					       (uint32_t)emulated_four(&emulated_tiles.data[a][m][4 * k],
								       &emulated_tiles.data[b][k][4 * n]));
			memcpy(&emulated_tiles.data[sum][m][4 * n], &at, 4);
		}
}

#endif
