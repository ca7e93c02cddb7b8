/*
 * What the K types have besides: superblocks whose blocks have scales (and minima) of their own, six bits of them times
 * a half, or a byte for each half of a block. Included by tile_words.h.
 */
#ifndef CPU_TILE_SUPER_H
#define CPU_TILE_SUPER_H

/* Quants of Q6_K as they are stored are larger by this. It is taken off each word, since their scales follow. */
enum { SIX_BITS_OFFSET = 32 };

/* Of a superblock of Q4_K or Q5_K, in F32: scales, and minima with their sign. */
struct scales {
	_Alignas(64) float d[SUPER][LANES], m[SUPER][LANES];
};

/* Numbers of six bits, [scale, minimum][SUPER][LANES], as the comment at struct weight has them. */
INLINE void unpack_six_bits(const uint8_t *from, uint8_t *to)
{
	for (size_t i = 0; i < 64; i++) {
		uint8_t scales = from[i], minima = from[64 + i], high = from[128 + i];

		to[i] = (uint8_t)((scales & 15) | (high << 4 & 48));
		to[64 + i] = (uint8_t)(scales >> 4 | (high << 2 & 48));
		to[128 + i] = (uint8_t)((minima & 15) | (high & 48));
		to[192 + i] = (uint8_t)(minima >> 4 | (high >> 2 & 48));
	}
}

static void read_scales(const uint8_t *head, struct scales *ret)
{
	_Alignas(64) uint8_t six[2][SUPER][LANES];

	unpack_six_bits(head + 4 * LANES, six[0][0]);
	foreach (s, LANES / STRIP) {
		const size_t lane = s * STRIP;
		struct strip d = strip_load_f16(head + 2 * lane), m = strip_load_f16(head + 2 * LANES + 2 * lane);

		for (size_t b = 0; b < SUPER; b++) {
			strip_store(ret->d[b] + lane, strip_mul(d, strip_of_bytes(six[0][b] + lane)));
			strip_store(ret->m[b] + lane, strip_mul(m, strip_of_bytes(six[1][b] + lane)));
		}
	}
}

/* Scales of Q6_K: of columns 0 to 15 or 16 to 31 of a block. */
INLINE const uint8_t *half_scales(const uint8_t *head, size_t block, size_t half)
{
	return head + 2 * LANES + (2 * block + half) * LANES;
}

#endif
