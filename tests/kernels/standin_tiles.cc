/*
 * What a warp does on tensor cores, and how it loads tiles: fragments as port.h and PTX's chapters on mma and ldmatrix
 * describe them. The last lane to arrive does the work of all; see standin.h.
 */
#include "standin.h"

namespace CUDA_SPACE
{

/* Fragments of a product; whose sums are `type`. */
template <typename type> struct fragments {
	type *c;
	const uint32_t *a, *b;
};

void mma_halves(float c[4], const uint32_t a[4], const uint32_t b[2], const char *file_, int line_)
{
	fragments<float> mine = { c, a, b };

	standin::meet(
		0xffffffff,
		[](uint32_t, void *const *lane) {
			float left[16][16], right[16][8];

			for (int t = 0; t < 32; t++) {
				const fragments<float> *f = static_cast<fragments<float> *>(lane[t]);
				const int g = t / 4, k = 2 * (t % 4);

				for (int i = 0; i < 4; i++) {
					const float2 two = floats_of_halves(f->a[i]);

					left[g + i % 2 * 8][k + i / 2 * 8] = two.x;
					left[g + i % 2 * 8][k + i / 2 * 8 + 1] = two.y;
				}
				for (int i = 0; i < 2; i++) {
					const float2 two = floats_of_halves(f->b[i]);

					right[k + i * 8][g] = two.x;
					right[k + i * 8 + 1][g] = two.y;
				}
			}
			for (int row = 0; row < 16; row++) {
				float sum[8] = {};

				for (int k = 0; k < 16; k++)
					for (int j = 0; j < 8; j++)
						sum[j] += left[row][k] * right[k][j];
				for (int j = 0; j < 8; j++)
					static_cast<fragments<float> *>(lane[row % 8 * 4 + j / 2])
						->c[row / 8 * 2 + j % 2] += sum[j];
			}
		},
		&mine, STANDIN_HERE("mma_halves"));
}

void mma_bytes(int32_t c[4], const uint32_t a[4], const uint32_t b[2], const char *file_, int line_)
{
	fragments<int32_t> mine = { c, a, b };

	standin::meet(
		0xffffffff,
		[](uint32_t, void *const *lane) {
			int8_t left[16][32], right[8][32];

			for (int t = 0; t < 32; t++) {
				const fragments<int32_t> *f = static_cast<fragments<int32_t> *>(lane[t]);
				const int g = t / 4, k = 4 * (t % 4);

				for (int i = 0; i < 4; i++)
					memcpy(&left[g + i % 2 * 8][k + i / 2 * 16], &f->a[i], 4);
				for (int i = 0; i < 2; i++)
					memcpy(&right[g][k + i * 16], &f->b[i], 4);
			}
			for (int row = 0; row < 16; row++)
				for (int j = 0; j < 8; j++) {
					int32_t sum = 0;

					for (int k = 0; k < 32; k++)
						sum += left[row][k] * right[j][k];
					int32_t *to = &static_cast<fragments<int32_t> *>(lane[row % 8 * 4 + j / 2])
							       ->c[row / 8 * 2 + j % 2];
					*to = static_cast<int32_t>(static_cast<uint32_t>(*to) +
								   static_cast<uint32_t>(sum));
				}
		},
		&mine, STANDIN_HERE("mma_bytes"));
}

/* A thread's row of a tile, and its part of all four. */
struct tile_row {
	uint32_t *r;
	const uint16_t *row;
};

static void tile_row_check(const void *row, const char *what, const char *file, int line)
{
	if (!standin::is_shared(row) || reinterpret_cast<uintptr_t>(row) % 16 != 0)
		standin::die("%s at %s:%d: %p is not shared memory, or not aligned to 16", what, file, line, row);
}

void load_tiles(uint32_t r[4], const void *row, const char *file_, int line_)
{
	tile_row mine = { r, static_cast<const uint16_t *>(row) };

	tile_row_check(row, "load_tiles", file_, line_);
	standin::meet(
		0xffffffff,
		[](uint32_t, void *const *lane) {
			for (int t = 0; t < 32; t++)
				for (int i = 0; i < 4; i++)
					memcpy(&static_cast<tile_row *>(lane[t])->r[i],
					       static_cast<tile_row *>(lane[8 * i + t / 4])->row + 2 * (t % 4), 4);
		},
		&mine, STANDIN_HERE("load_tiles"));
}

void load_tiles_turned(uint32_t r[4], const void *row, const char *file_, int line_)
{
	tile_row mine = { r, static_cast<const uint16_t *>(row) };

	tile_row_check(row, "load_tiles_turned", file_, line_);
	standin::meet(
		0xffffffff,
		[](uint32_t, void *const *lane) {
			for (int t = 0; t < 32; t++)
				for (int i = 0; i < 4; i++) {
					const int first = 8 * i + 2 * (t % 4);
					const uint16_t low = static_cast<tile_row *>(lane[first])->row[t / 4];
					const uint16_t high = static_cast<tile_row *>(lane[first + 1])->row[t / 4];

					static_cast<tile_row *>(lane[t])->r[i] = low | static_cast<uint32_t>(high)
											       << 16;
				}
		},
		&mine, STANDIN_HERE("load_tiles_turned"));
}

} // namespace CUDA_SPACE
