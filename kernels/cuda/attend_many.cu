/*
 * Owns attention of prompts: tiles of neighbouring rows of one conversation, on tensor cores.
 *
 * A block takes a tile and a query head. A page of keys is [dimension][token], one of values [token][dimension]: both
 * are the right-hand side of a product as they lie, and go to shared memory by asynchronous copies: a page's values
 * while its scores are made, the next page's keys while values are added up. Pages that are not halves are turned into
 * halves there. Queries are rotated once a run and rounded to halves, as are the weights of values; maxima, sums and
 * results are F32. A page's products come in the same order, so a row's result does not tell how rows were cut.
 *
 * Against the definition: what halves lose. A score of a head whose numbers are about 1 is off by 1e-4 to 2e-4 of the
 * scores' spread, a weight by 2^-12 of itself; a result by 5e-4 of the values at most. All values become halves.
 */
#include <stdlib.h>

#include "attention.h"

namespace CUDA_SPACE
{

enum { THREADS = 128, WARPS = THREADS / 32 };

/* Rows of a block are WARPS * 16 * DEEP: DEEP tiles of 16 rows a warp. */
enum { ROWS_DEEP = WARPS * 16 };

/* The slots of a run that rows of a tile see: some of them from `first` to `past`, all of them from `all_first` on. */
struct tile_run {
	int64_t first, past, all_first, all_past;
};

/* Neighbouring rows of a conversation, and the pages from `page` on, `pages` of them, that they see. */
struct tile {
	int32_t row, rows;
	struct tile_run run[RUNS];
};

/* Where things lie in shared memory. Rows are an odd number of 16 bytes long, so that eight of them meet all banks. */
template <enum dtype TYPE, int SIZE, int DEEP> struct plan {
	static constexpr int key_stride = PAGE_TOKENS + 8, stride = SIZE % 16 ? SIZE : SIZE + 8;
	static constexpr int rows = ROWS_DEEP * DEEP;
	static constexpr int q = 0, key = q + rows * stride * 2, value = key + SIZE * key_stride * 2;
	static constexpr int raw_key = value + PAGE_TOKENS * stride * 2;
	static constexpr int raw = TYPE == DTYPE_F16 ? 0 : TYPE == DTYPE_F32 ? SIZE * PAGE_TOKENS * 4 : SIZE * 68;
	static constexpr int raw_value = raw_key + raw, bytes = raw_value + raw;
};

/* The page at hand: its number in its run, and where it is. */
struct place {
	int run;
	int64_t page;
	const uint8_t *keys;
};

static __device__ __forceinline__ const uint8_t *keys_of(const struct attention &a, const struct tile *t, int run,
							 int64_t page, int kv)
{
	const struct card_row *r = &a.row[t->row];

	return head_keys(a, a.page[r->table[run] + static_cast<int32_t>(page) % r->ring[run]], kv);
}

/* Goes on to the first page of the next run that is seen at all; run is RUNS after the last. */
static __device__ void next_run(const struct attention &a, const struct tile *t, int kv, struct place *p)
{
	while (++p->run < RUNS && t->run[p->run].first >= t->run[p->run].past)
		;
	if (p->run < RUNS) {
		p->page = t->run[p->run].first / PAGE_TOKENS;
		p->keys = keys_of(a, t, p->run, p->page, kv);
	}
}

static __device__ void next_page(const struct attention &a, const struct tile *t, int kv, struct place *p)
{
	if (p->page < (t->run[p->run].past - 1) / PAGE_TOKENS) {
		p->page++;
		p->keys = keys_of(a, t, p->run, p->page, kv);
	} else {
		next_run(a, t, kv, p);
	}
}

/* Tokens of the page that rows of the tile see: what lies outside may be anything. */
static __device__ __forceinline__ void seen_of(const struct tile *t, const struct place &p, int *from, int *to)
{
	const int64_t first = t->run[p.run].first - p.page * PAGE_TOKENS;
	const int64_t past = t->run[p.run].past - p.page * PAGE_TOKENS;

	*from = first > 0 ? static_cast<int>(first) : 0;
	*to = past < PAGE_TOKENS ? static_cast<int>(past) : PAGE_TOKENS;
}

static __device__ void copy_all(uint8_t *to, const uint8_t *from, int bytes)
{
	for (int i = static_cast<int>(threadIdx.x) * 16; i < bytes; i += THREADS * 16)
		copy_begin(to + i, from + i);
}

template <class PLAN, enum dtype TYPE, int SIZE> static __device__ void ask_keys(uint8_t *shared, const uint8_t *keys)
{
	if constexpr (TYPE != DTYPE_F16) {
		copy_all(shared + PLAN::raw_key, keys, PLAN::raw);
	} else {
		uint16_t *to = reinterpret_cast<uint16_t *>(shared + PLAN::key);

#pragma unroll
		for (int i = 0; i < SIZE * 8 / THREADS; i++) {
			const int e = i * THREADS + static_cast<int>(threadIdx.x);

			copy_begin(to + e / 8 * PLAN::key_stride + e % 8 * 8, keys + e * 16);
		}
	}
	copy_group();
}

/* Values that no row sees become zeros: they are multiplied by weights of 0, and a NaN would stay one. */
template <class PLAN, enum dtype TYPE, int SIZE>
static __device__ void ask_values(uint8_t *shared, const uint8_t *values, int from, int past)
{
	if constexpr (TYPE != DTYPE_F16) {
		copy_all(shared + PLAN::raw_value, values, PLAN::raw);
	} else {
		uint16_t *to = reinterpret_cast<uint16_t *>(shared + PLAN::value);

#pragma unroll
		for (int i = 0; i < SIZE * 8 / THREADS; i++) {
			const int e = i * THREADS + static_cast<int>(threadIdx.x), token = e / (SIZE / 8);
			uint16_t *at = to + token * PLAN::stride + e % (SIZE / 8) * 8;

			if (token >= from && token < past)
				copy_begin(at, values + e * 16);
			else
				*reinterpret_cast<uint4 *>(at) = make_uint4(0, 0, 0, 0);
		}
	}
	copy_group();
}

static __device__ __forceinline__ void put_four(uint16_t *to, const float f[4])
{
	*reinterpret_cast<uint2 *>(to) = make_uint2(halves_of_floats(f[0], f[1]), halves_of_floats(f[2], f[3]));
}

/* Four words of four numbers of 8 bits, turned around: row b of the result is byte b of each word. */
static __device__ __forceinline__ void turn_words(const uint8_t *from, float f[4][4])
{
	const uint4 v = *reinterpret_cast<const uint4 *>(from);
	const uint32_t word[4] = { v.x, v.y, v.z, v.w };

#pragma unroll
	for (int w = 0; w < 4; w++) {
		float x[4];

		floats_of_bytes(word[w], x);
#pragma unroll
		for (int b = 0; b < 4; b++)
			f[b][w] = x[b];
	}
}

static __device__ __forceinline__ void scales_of(const uint8_t *from, int block, int token, float scale[4])
{
	const uint2 v = *reinterpret_cast<const uint2 *>(from + (block * PAGE_TOKENS + token) * 2);
	const float2 low = floats_of_halves(v.x), high = floats_of_halves(v.y);

	scale[0] = low.x;
	scale[1] = low.y;
	scale[2] = high.x;
	scale[3] = high.y;
}

template <class PLAN, enum dtype TYPE, int SIZE> static __device__ void widen_keys(uint8_t *shared)
{
	const uint8_t *from = shared + PLAN::raw_key;
	uint16_t *to = reinterpret_cast<uint16_t *>(shared + PLAN::key);

	for (int e = static_cast<int>(threadIdx.x); e < SIZE * 16 && TYPE == DTYPE_F32; e += THREADS)
		put_four(to + e / 16 * PLAN::key_stride + e % 16 * 4, reinterpret_cast<const float *>(from) + e * 4);
	for (int e = static_cast<int>(threadIdx.x); e < SIZE * 4 && TYPE == DTYPE_Q8_0; e += THREADS) {
		float f[4][4], scale[4];

		turn_words(from + SIZE * 4 + e * 16, f);
		scales_of(from, e / 16 / 8, e % 16 * 4, scale);
#pragma unroll
		for (int b = 0; b < 4; b++) {
#pragma unroll
			for (int w = 0; w < 4; w++)
				f[b][w] *= scale[w];
			put_four(to + (e / 16 * 4 + b) * PLAN::key_stride + e % 16 * 4, f[b]);
		}
	}
}

template <class PLAN, enum dtype TYPE, int SIZE>
static __device__ void widen_values(uint8_t *shared, int first, int past)
{
	const uint8_t *from = shared + PLAN::raw_value;
	uint16_t *to = reinterpret_cast<uint16_t *>(shared + PLAN::value);

	for (int e = static_cast<int>(threadIdx.x); e < SIZE * 16 && TYPE == DTYPE_F32; e += THREADS) {
		const int token = e / (SIZE / 4);
		const float4 v = token >= first && token < past ? reinterpret_cast<const float4 *>(from)[e]
								: make_float4(0, 0, 0, 0);
		const float f[4] = { v.x, v.y, v.z, v.w };

		put_four(to + token * PLAN::stride + e % (SIZE / 4) * 4, f);
	}
	for (int e = static_cast<int>(threadIdx.x); e < SIZE * 4 && TYPE == DTYPE_Q8_0; e += THREADS) {
		const int token = e / (SIZE / 4) * 4, dim = e % (SIZE / 4) * 4;
		float f[4][4], scale[4];

		turn_words(from + SIZE * 4 + e * 16, f);
		scales_of(from, dim / BLOCK, token, scale);
#pragma unroll
		for (int b = 0; b < 4; b++) {
			const float by = token + b >= first && token + b < past ? scale[b] : 0;

#pragma unroll
			for (int w = 0; w < 4; w++)
				f[b][w] *= by;
			put_four(to + (token + b) * PLAN::stride + dim, f[b]);
		}
	}
}

/* The tile's queries, rotated for a run; zeros for rows that it has not. */
template <class PLAN, int SIZE>
static __device__ void rotate_tile(const struct attention &a, const struct tile *t, int head, int run, uint8_t *shared)
{
	uint16_t *q = reinterpret_cast<uint16_t *>(shared + PLAN::q);
	const int half = a.h.rotated / 2;

#pragma unroll 4
	for (int e = static_cast<int>(threadIdx.x); e < PLAN::rows * SIZE / 2; e += THREADS) {
		const int r = e / (SIZE / 2), i = e % (SIZE / 2);
		const bool turned = i < half;
		const int first = !turned || a.h.interleaved ? 2 * i : i,
			  second = turned && !a.h.interleaved ? i + half : first + 1;
		const size_t row = static_cast<size_t>(t->row) + (r < t->rows ? r : 0);
		const float *from = a.qkv + row * row_width(a.h) + head * SIZE;
		const float *angles = a.angles + (row * RUNS + run) * a.h.rotated + 2 * i;
		const float c = (turned ? angles[0] : 1) * a.h.scale, s = turned ? angles[1] * a.h.scale : 0;
		const float x = r < t->rows ? from[first] : 0, y = r < t->rows ? from[second] : 0;

		q[r * PLAN::stride + first] = half_of_float(x * c - y * s);
		q[r * PLAN::stride + second] = half_of_float(x * s + y * c);
	}
}

/* What a thread keeps of its rows: two in each tile of 16 of its warp. Sums are of the thread's columns alone. */
template <int SIZE, int DEEP> struct state {
	float o[DEEP][SIZE / 8][4];
	float most[DEEP][2], sum[DEEP][2];
};

/* Row that thread `lane` has in tile d of its warp; `second` for the lower half of it. */
static __device__ __forceinline__ int row_of(int warp, int lane, int deep, int d, int second)
{
	return (warp * deep + d) * 16 + lane / 4 + second * 8;
}

/* Scores of the warp's rows with a page: s[tile][8 tokens]. */
template <class PLAN, int SIZE, int DEEP>
static __device__ __forceinline__ void make_scores(const uint8_t *shared, int warp, int lane, float (&s)[DEEP][8][4])
{
	const uint16_t *q = reinterpret_cast<const uint16_t *>(shared + PLAN::q) +
			    (warp * DEEP * 16 + lane % 16) * PLAN::stride + lane / 16 * 8;
	const uint16_t *k =
		reinterpret_cast<const uint16_t *>(shared + PLAN::key) + lane % 16 * PLAN::key_stride + lane / 16 * 8;

#pragma unroll
	for (int i = 0; i < SIZE / 16; i++) {
		uint32_t x[DEEP][4];

#pragma unroll
		for (int d = 0; d < DEEP; d++)
			load_tiles(x[d], q + d * 16 * PLAN::stride + i * 16);
#pragma unroll
		for (int t = 0; t < 4; t++) {
			uint32_t w[4];

			load_tiles_turned(w, k + i * 16 * PLAN::key_stride + t * 16);
#pragma unroll
			for (int d = 0; d < DEEP; d++) {
				mma_halves(s[d][2 * t], x[d], w);
				mma_halves(s[d][2 * t + 1], x[d], w + 2);
			}
		}
	}
}

/* Takes out what rows do not see, and off what distance takes. Rows that the tile has not see nothing. */
template <int DEEP>
static __device__ void mask_scores(const struct attention &a, const struct tile *t, const struct place &p, int head,
				   int warp, int lane, float (&s)[DEEP][8][4])
{
	const float slope = a.slopes ? a.slopes[head] * log2_e : 0;

#pragma unroll
	for (int i = 0; i < DEEP * 2; i++) {
		const int r = row_of(warp, lane, DEEP, i / 2, i % 2);
		int from = 0, past = 0, apart = 0;

		if (r < t->rows) {
			const struct card_row *row = &a.row[t->row + r];
			const int64_t first = row->first[p.run] - p.page * PAGE_TOKENS, end = first + row->count[p.run];

			from = first < 0 ? 0 : first > PAGE_TOKENS ? PAGE_TOKENS : static_cast<int>(first);
			past = end < 0 ? 0 : end > PAGE_TOKENS ? PAGE_TOKENS : static_cast<int>(end);
			apart = static_cast<int>(row->query[p.run] - p.page * PAGE_TOKENS);
		}
#pragma unroll
		for (int c = 0; c < 16; c++) {
			const int token = c / 2 * 8 + lane % 4 * 2 + c % 2;
			float *x = &s[i / 2][c / 2][i % 2 * 2 + c % 2];

			*x = token >= from && token < past ? *x - slope * static_cast<float>(apart - token) : -INFINITY;
		}
	}
}

/* Scores become weights against the largest score so far; what was added up before is scaled to it. */
template <int SIZE, int DEEP>
static __device__ __forceinline__ void soften(float (&s)[DEEP][8][4], struct state<SIZE, DEEP> &st)
{
#pragma unroll
	for (int i = 0; i < DEEP * 2; i++) {
		const int d = i / 2, at = i % 2 * 2;
		float most = st.most[d][i % 2], base, keep, sum = 0;

#pragma unroll
		for (int c = 0; c < 8; c++)
			most = fmaxf(most, fmaxf(s[d][c][at], s[d][c][at + 1]));
		most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
		most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
		base = most > -INFINITY ? most : 0;
		keep = power_of_two(st.most[d][i % 2] - base);
		st.most[d][i % 2] = most;
#pragma unroll
		for (int c = 0; c < 8; c++) {
			s[d][c][at] = power_of_two(s[d][c][at] - base);
			s[d][c][at + 1] = power_of_two(s[d][c][at + 1] - base);
			sum += s[d][c][at] + s[d][c][at + 1];
		}
		st.sum[d][i % 2] = st.sum[d][i % 2] * keep + sum;
#pragma unroll
		for (int c = 0; c < SIZE / 8; c++) {
			st.o[d][c][at] *= keep;
			st.o[d][c][at + 1] *= keep;
		}
	}
}

template <class PLAN, int SIZE, int DEEP>
static __device__ __forceinline__ void add_values(const uint8_t *shared, int lane, const float (&s)[DEEP][8][4],
						  struct state<SIZE, DEEP> &st)
{
	const uint16_t *v =
		reinterpret_cast<const uint16_t *>(shared + PLAN::value) + lane % 16 * PLAN::stride + lane / 16 * 8;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		uint32_t x[DEEP][4];

#pragma unroll
		for (int d = 0; d < DEEP; d++) {
			x[d][0] = halves_of_floats(s[d][2 * i][0], s[d][2 * i][1]);
			x[d][1] = halves_of_floats(s[d][2 * i][2], s[d][2 * i][3]);
			x[d][2] = halves_of_floats(s[d][2 * i + 1][0], s[d][2 * i + 1][1]);
			x[d][3] = halves_of_floats(s[d][2 * i + 1][2], s[d][2 * i + 1][3]);
		}
#pragma unroll
		for (int c = 0; c < SIZE / 16; c++) {
			uint32_t w[4];

			load_tiles_turned(w, v + i * 16 * PLAN::stride + c * 16);
#pragma unroll
			for (int d = 0; d < DEEP; d++) {
				mma_halves(st.o[d][2 * c], x[d], w);
				mma_halves(st.o[d][2 * c + 1], x[d], w + 2);
			}
		}
	}
}

template <int SIZE, int DEEP>
static __device__ void put_results(const struct attention &a, const struct tile *t, int head, int warp, int lane,
				   const struct state<SIZE, DEEP> &st)
{
	const float sink = a.sinks ? a.sinks[head] * log2_e : -INFINITY;

#pragma unroll
	for (int i = 0; i < DEEP * 2; i++) {
		const int d = i / 2, r = row_of(warp, lane, DEEP, d, i % 2);
		const float most = st.most[d][i % 2], top = fmaxf(most, sink);
		float sum = st.sum[d][i % 2], keep = 0;

		sum += __shfl_xor_sync(0xffffffffu, sum, 1);
		sum += __shfl_xor_sync(0xffffffffu, sum, 2);
		if (most > -INFINITY) {
			const float factor = power_of_two(most - top);

			keep = factor / (sum * factor + (sink > -INFINITY ? power_of_two(sink - top) : 0));
		}
		if (r < t->rows) {
			float *y = a.y + (static_cast<size_t>(t->row + r) * a.h.heads + head) * SIZE + lane % 4 * 2;

#pragma unroll
			for (int c = 0; c < SIZE / 8; c++)
				*reinterpret_cast<float2 *>(y + c * 8) =
					make_float2(st.o[d][c][i % 2 * 2] * keep, st.o[d][c][i % 2 * 2 + 1] * keep);
		}
	}
}

/* One page: its keys are on their way. Leaves those of the next page on theirs. */
template <class PLAN, enum dtype TYPE, int SIZE, int DEEP>
static __device__ __forceinline__ void see_page(const struct attention &a, const struct tile *t, const struct place &p,
						int head, const uint8_t *next, uint8_t *shared,
						struct state<SIZE, DEEP> &st)
{
	const int warp = static_cast<int>(threadIdx.x) / WARP, lane = static_cast<int>(threadIdx.x) % WARP;
	const struct tile_run *run = &t->run[p.run];
	float s[DEEP][8][4] = {};
	int from, past;

	seen_of(t, p, &from, &past);
	copy_wait<0>();
	__syncthreads();
	ask_values<PLAN, TYPE, SIZE>(shared, p.keys + values_after(a.h), from, past);
	if (TYPE != DTYPE_F16) {
		widen_keys<PLAN, TYPE, SIZE>(shared);
		__syncthreads();
	}
	make_scores<PLAN, SIZE, DEEP>(shared, warp, lane, s);
	if (a.slopes || p.page * PAGE_TOKENS < run->all_first || (p.page + 1) * PAGE_TOKENS > run->all_past)
		mask_scores<DEEP>(a, t, p, head, warp, lane, s);
	soften<SIZE, DEEP>(s, st);
	copy_wait<0>();
	__syncthreads();
	if (next)
		ask_keys<PLAN, TYPE, SIZE>(shared, next);
	if (TYPE != DTYPE_F16) {
		widen_values<PLAN, TYPE, SIZE>(shared, from, past);
		__syncthreads();
	}
	add_values<PLAN, SIZE, DEEP>(shared, lane, s, st);
}

template <enum dtype TYPE, int SIZE, int DEEP>
static __global__ void __launch_bounds__(THREADS, SIZE > 128 ? 1 : 2)
	many_kernel(const struct attention a, const struct tile *tiles, int count)
{
	using P = struct plan<TYPE, SIZE, DEEP>;
	SHARED_DYNAMIC(uint8_t, shared);
	const struct tile *t = &tiles[count - 1 - static_cast<int>(blockIdx.y)];
	const int head = static_cast<int>(blockIdx.x), kv = head / (a.h.heads / a.h.kv_heads);
	struct place here = { -1, 0, NULL }, next;
	struct state<SIZE, DEEP> st = {
	};
	int rotated = -1;

	grid_wait();
	grid_go();
#pragma unroll
	for (int i = 0; i < DEEP * 2; i++)
		st.most[i / 2][i % 2] = -INFINITY;
	next_run(a, t, kv, &here);
	if (here.run < RUNS)
		ask_keys<P, TYPE, SIZE>(shared, here.keys);
	while (here.run < RUNS) {
		next = here;
		next_page(a, t, kv, &next);
		if (here.run != rotated)
			rotate_tile<P, SIZE>(a, t, head, here.run, shared);
		rotated = here.run;
		see_page<P, TYPE, SIZE, DEEP>(a, t, here, head, next.run < RUNS ? next.keys : NULL, shared, st);
		here = next;
	}
	put_results<SIZE, DEEP>(a, t, head, static_cast<int>(threadIdx.x) / WARP, static_cast<int>(threadIdx.x) % WARP,
				st);
}

/* Whether what the row sees of a run touches what the tile sees, so that nothing lies between. */
static bool touches(const struct tile_run *t, int64_t first, int64_t past)
{
	return t->first >= t->past || first >= past || (first <= t->past && past >= t->first);
}

static bool add_row(struct tile *t, const struct card_row *r)
{
	for (int run = 0; run < RUNS; run++)
		if (!touches(&t->run[run], r->first[run], r->first[run] + r->count[run]))
			return false;
	for (int run = 0; run < RUNS; run++) {
		struct tile_run *s = &t->run[run];
		const int64_t first = r->first[run], past = first + r->count[run];
		const bool empty = first >= past, none = s->first >= s->past;

		s->all_first = empty ? INT64_MAX : first > s->all_first ? first : s->all_first;
		s->all_past = empty ? 0 : past < s->all_past ? past : s->all_past;
		if (empty)
			continue;
		s->first = none || first < s->first ? first : s->first;
		s->past = none || past > s->past ? past : s->past;
	}
	t->rows++;
	return true;
}

/* Cuts rows into tiles of up to `most`; returns how many. */
static size_t cut_rows(const struct card_row *row, size_t n, int32_t most, struct tile *tile)
{
	size_t tiles = 0;

	for (size_t i = 0; i < n; tiles++) {
		struct tile *t = &tile[tiles];
		const int32_t group = row[i].group;

		*t = {};
		t->row = static_cast<int32_t>(i);
		for (int run = 0; run < RUNS; run++)
			t->run[run].all_past = INT64_MAX;
		while (i < n && t->rows < most && row[i].group == group && add_row(t, &row[i]))
			i++;
	}
	return tiles;
}

template <enum dtype TYPE, int SIZE, int DEEP>
static void launch_many(struct device *d, const struct attention &a, const struct tile *tiles, size_t count)
{
	const dim3 grid(static_cast<unsigned>(a.h.heads), static_cast<unsigned>(count));
	const size_t shared = plan<TYPE, SIZE, DEEP>::bytes;

	ask_shared(d, many_kernel<TYPE, SIZE, DEEP>, shared);
	ok(d,
	   LAUNCH((many_kernel<TYPE, SIZE, DEEP>), grid, THREADS, shared, d->stream, a, tiles, static_cast<int>(count)),
	   "attention of a prompt");
}

/* How a type and size of heads is served: with how many rows in a tile and how many shared bytes. */
typedef void (*launcher)(struct device *d, const struct attention &a, const struct tile *tiles, size_t count);

struct choice {
	enum dtype type;
	int32_t size, rows, shared;
	launcher launch;
};

template <enum dtype TYPE, int SIZE, int DEEP> static constexpr struct choice choice_of()
{
	return { TYPE, SIZE, ROWS_DEEP * DEEP, plan<TYPE, SIZE, DEEP>::bytes, launch_many<TYPE, SIZE, DEEP> };
}

/* The deepest come first. */
static const struct choice choices[] = {
	choice_of<DTYPE_F16, 64, 2>(),	 choice_of<DTYPE_F16, 64, 1>(),	  choice_of<DTYPE_F16, 80, 2>(),
	choice_of<DTYPE_F16, 80, 1>(),	 choice_of<DTYPE_F16, 96, 2>(),	  choice_of<DTYPE_F16, 96, 1>(),
	choice_of<DTYPE_F16, 128, 2>(),	 choice_of<DTYPE_F16, 128, 1>(),  choice_of<DTYPE_F16, 256, 1>(),
	choice_of<DTYPE_Q8_0, 64, 2>(),	 choice_of<DTYPE_Q8_0, 64, 1>(),  choice_of<DTYPE_Q8_0, 96, 1>(),
	choice_of<DTYPE_Q8_0, 128, 2>(), choice_of<DTYPE_Q8_0, 128, 1>(), choice_of<DTYPE_Q8_0, 256, 1>(),
	choice_of<DTYPE_F32, 64, 1>(),	 choice_of<DTYPE_F32, 80, 1>(),	  choice_of<DTYPE_F32, 96, 1>(),
	choice_of<DTYPE_F32, 128, 1>(),
};

/* Of those that fit on the card the deepest that makes two blocks for each multiprocessor, else the least deep. */
static const struct choice *choose(const struct device *d, const struct attend *op)
{
	const struct choice *best = NULL;

	for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
		const struct choice *c = &choices[i];

		if (c->type == op->pages->type && static_cast<size_t>(c->size) == op->shape->head_size &&
		    static_cast<size_t>(c->shared) <= d->shared_most &&
		    (!best ||
		     op->n / static_cast<size_t>(best->rows) * op->shape->heads < 2 * static_cast<size_t>(d->sms)))
			best = c;
	}
	return best;
}

bool attend_many(struct device *d, const struct attend *op, const struct card_rows *rows, const struct attention &a)
{
	const struct choice *c = choose(d, op);
	struct tile *tile;
	size_t tiles;

	if (!c)
		return false;
	tile = static_cast<struct tile *>(malloc(op->n * sizeof(*tile)));
	if (!tile)
		return false;
	tiles = cut_rows(rows->host, op->n, c->rows, tile);
	c->launch(d, a, static_cast<const struct tile *>(staged(d, tile, tiles * sizeof(*tile))), tiles);
	free(tile);
	return true;
}

} // namespace CUDA_SPACE
