/*
 * Owns attention of few rows, as a decoding step has them, and the choice between it and attention of many rows.
 *
 * A block takes a stretch of pages of what one row sees, and the query heads that share a KV head; a warp a page at a
 * time. Warps are merged in the block; blocks by the one that ends last, in an order that does not depend on which it
 * is. Stretches are counted from a row's own first page and are as long as the number of its pages says: a row's result
 * has nothing to do with its company.
 *
 * Rows and tables of pages are there before a step's first kernel, and but for the pages that rows of this step go to,
 * so are keys and values: copies of these begin before the kernels ahead of this one have ended.
 *
 * Sums are in F32; queries and weights are two halves each, which keeps 22 bits of them. Against the definition, scores
 * are off by about 1e-6 of their terms, weights by 2^-22 of the largest.
 */
#include "attend_work.h"

namespace CUDA_SPACE
{

/*
 * Warps of a block; blocks that a multiprocessor shall have room for, where heads are small and few; pages of a
 * stretch, of rows that see up to LONG pages and of others.
 */
enum { WARPS = 4, BLOCKS = 3, LONG = 128, SPAN = 4, SPAN_LONG = 8 };

/* Heads of a group are chunks of so many, in tiles of FOUR. */
enum { HEADS_MOST = 8, ROWS_MOST = 64, THREADS = int{ WARPS } * int{ WARP } };

/* Stretches that a thread asks for at once when it merges them. */
enum { AHEAD = 8 };

/* Scratch memory for partial results of the rows of one launch: more rows than go into it become several. */
static const size_t partials_most = static_cast<size_t>(64) << 20;

/* The operation cut up: partial results of a row and head are [span][stride], with the maximum and the sum of each. */
struct cut {
	int32_t group, chunk, chunks; /* heads that share a KV head; of them in a block; blocks for all of them */
	int32_t rows;		      /* of the operation, which begin at `first` */
	const struct card_row *first;
	int32_t spans, stride;
	float *value;
	float2 *stat;
	uint32_t *count; /* [row][blockIdx.y], blocks that have ended; zero again after the last */
};

/* Shared memory in bytes: a run's queries, [tiles][steps][WARP] of 8; a warp's weights, scales of two pages and ring. */
struct room {
	size_t q, p, scales, ring;
	size_t stat, all; /* of a block: float2 [WARPS][heads], maximum and sum; everything */
};

template <class PART> static __host__ __device__ constexpr struct room room_of(int heads, int steps, int stride)
{
	const size_t ring = static_cast<size_t>(ring_of<PART>()) * CHUNK_WORDS * sizeof(uint4);
	const size_t part = static_cast<size_t>(heads) * stride * sizeof(float);
	struct room r = {};

	r.q = static_cast<size_t>(heads / FOUR) * steps * WARP * sizeof(uint2);
	r.p = static_cast<size_t>(heads) * PAGE_TOKENS * sizeof(float);
	r.scales = 4 * static_cast<size_t>(PART::SCALES);
	r.ring = ring > part ? ring : part;
	r.stat = static_cast<size_t>(WARPS) * heads * sizeof(float2);
	r.all = RUNS * r.q + WARPS * (r.p + r.scales + r.ring) + r.stat;
	return r;
}

/* A block's, as it lies there. */
struct shared {
	uint8_t *q, *p, *scales, *ring;
	float2 *stat;
};

static __device__ __forceinline__ struct shared shared_of(uint8_t *at, const struct room &r)
{
	struct shared s;

	s.ring = at;
	s.q = s.ring + WARPS * r.ring;
	s.p = s.q + RUNS * r.q;
	s.scales = s.p + WARPS * r.p;
	s.stat = reinterpret_cast<float2 *>(s.scales + WARPS * r.scales);
	return s;
}

/* The heads of a block: the first, and how many. */
struct block_heads {
	int first, count, kv;
};

static __device__ __forceinline__ struct block_heads heads_of(const struct cut &c)
{
	const int chunk = static_cast<int>(blockIdx.y) % c.chunks, left = c.group - chunk * c.chunk;
	struct block_heads b;

	b.kv = static_cast<int>(blockIdx.y) / c.chunks;
	b.first = b.kv * c.group + chunk * c.chunk;
	b.count = left < c.chunk ? left : c.chunk;
	return b;
}

/* What a block needs of its row, asked for at once. */
struct runs {
	int64_t first[RUNS], count[RUNS];
	int32_t pages[RUNS], ring[RUNS], table[RUNS];
};

/* Returns how many pages the row sees. */
static __device__ __forceinline__ int load_runs(const struct card_row *r, struct runs *ret)
{
	int pages = 0;

#pragma unroll
	for (int i = 0; i < RUNS; i++) {
		ret->first[i] = r->first[i];
		ret->count[i] = r->count[i];
		ret->ring[i] = r->ring[i];
		ret->table[i] = r->table[i];
	}
#pragma unroll
	for (int i = 0; i < RUNS; i++) {
		const int64_t past = (ret->first[i] + ret->count[i] - 1) / PAGE_TOKENS + 1;

		ret->pages[i] = ret->count[i] > 0 ? static_cast<int32_t>(past - ret->first[i] / PAGE_TOKENS) : 0;
		pages += ret->pages[i];
	}
	return pages;
}

static inline __host__ __device__ int spans_of(int pages)
{
	const int span = pages > LONG ? SPAN_LONG : SPAN;

	return pages > 0 ? (pages + span - 1) / span : 1;
}

/* The pages of a block: those from first to past-1 of what the row sees. */
struct stretch {
	int first, past, spans; /* spans: of the row */
};

static __device__ __forceinline__ struct stretch stretch_of(int pages)
{
	const int span = pages > LONG ? SPAN_LONG : SPAN, first = static_cast<int>(blockIdx.x) * span;
	struct stretch s;

	s.first = first;
	s.past = first + span < pages ? first + span : pages;
	s.spans = spans_of(pages);
	return s;
}

/* A page that a lane has found for its warp. */
struct found {
	struct sight s;
	const uint8_t *page;
	int run;
};

/* The page with number `at` of those that a row sees; NULL beyond the stretch. */
static __device__ __forceinline__ struct found find_page(const struct attention &a, const struct runs &r, int at,
							 const struct stretch &stretch, int kv)
{
	struct found f = { { NULL, 0, 0 }, NULL, 0 };

	if (at >= stretch.past)
		return f;
#pragma unroll
	for (int run = 0; run < RUNS; run++) {
		if (at >= 0 && at < r.pages[run]) {
			const int64_t page = r.first[run] / PAGE_TOKENS + at;
			const int64_t from = r.first[run] - page * PAGE_TOKENS, to = from + r.count[run];

			f.run = run;
			f.page = a.page[r.table[run] + static_cast<int32_t>(page) % r.ring[run]];
			f.s.keys = head_keys(a, f.page, kv);
			f.s.from = from > 0 ? static_cast<int>(from) : 0;
			f.s.to = to < PAGE_TOKENS ? static_cast<int>(to) : PAGE_TOKENS;
		}
		at -= r.pages[run];
	}
	return f;
}

static __device__ __forceinline__ const uint8_t *pointer_of(const uint8_t *p, int lane)
{
	return reinterpret_cast<const uint8_t *>(
		__shfl_sync(0xffffffffu, static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(p)), lane));
}

/* The page that lane `lane` has found. */
static __device__ __forceinline__ struct sight sight_of(const struct found &f, int lane)
{
	struct sight s;

	s.keys = pointer_of(f.s.keys, lane);
	s.from = __shfl_sync(0xffffffffu, f.s.from, lane);
	s.to = __shfl_sync(0xffffffffu, f.s.to, lane);
	return s;
}

/* Whether rows of the operation may go to this page. */
static __device__ __forceinline__ bool is_written(const struct cut &c, const uint8_t *page, int lane)
{
	bool hit = c.rows > ROWS_MOST;

	for (int i = lane; i < c.rows && !hit; i += WARP)
		hit = c.first[i].goes[0] == page || c.first[i].goes[1] == page;
	return __any_sync(0xffffffffu, hit);
}

/* The block's queries as halves, rotated for each run that it sees; zeros for heads and dimensions that are not. */
static __device__ __forceinline__ void rotate_queries(const struct attention &a, size_t row, const struct runs &r,
						      const struct stretch &stretch, struct block_heads b, int heads,
						      int size, uint16_t *q)
{
	const float *x = a.qkv + row * row_width(a.h) + b.first * size;
	const int padded = (size + 15) / 16 * 16;
	int first = 0;

	for (int run = 0; run < RUNS; first += r.pages[run++]) {
		const float *angles = a.angles + (row * RUNS + run) * a.h.rotated;

		if (first >= stretch.past || first + r.pages[run] <= stretch.first)
			continue;
#pragma unroll 4
		for (int e = static_cast<int>(threadIdx.x); e < heads * padded; e += THREADS) {
			const int h = e / padded, i = e % padded;
			const float v =
				h < b.count && i < size ? rotate_one(a.h, x + h * size, angles, i) * a.h.scale : 0;
			const uint16_t half = half_of_float(v);
			uint16_t *to = q + (run * heads + h / FOUR * FOUR) * padded * 2 + place_of(h, i);

			to[0] = half;
			to[16] = half_of_float(v - float_of_half(half));
		}
	}
}

/* The result of four dimensions from their sums: divided by the sum of all weights, the sink's among them. */
static __device__ void finish(const struct attention &a, size_t row, int head, int i, float4 v, float most, float sum)
{
	float *y = a.y + (row * a.h.heads + head) * a.h.size + i;
	const float sink = a.sinks ? a.sinks[head] * log2_e : -INFINITY, top = fmaxf(most, sink);
	float keep = 0;

	if (most > -INFINITY) {
		const float factor = power_of_two(most - top);

		keep = factor / (sum * factor + (sink > -INFINITY ? power_of_two(sink - top) : 0));
	}
	if (a.h.size % 4 == 0) {
		*reinterpret_cast<float4 *>(y) = keep > 0 ? make_float4(v.x * keep, v.y * keep, v.z * keep, v.w * keep)
							  : make_float4(0, 0, 0, 0);
		return;
	}
	for (int c = 0; c < 4 && i + c < a.h.size; c++)
		y[c] = keep > 0 ? (c == 0 ? v.x : c == 1 ? v.y : c == 2 ? v.z : v.w) * keep : 0;
}

static __device__ __forceinline__ void add_scaled(float4 *to, float4 v, float w)
{
	to->x = fmaf(v.x, w, to->x);
	to->y = fmaf(v.y, w, to->y);
	to->z = fmaf(v.z, w, to->z);
	to->w = fmaf(v.w, w, to->w);
}

/* Merges the warps of the block, in their order: to y when this is all that the row sees, else to the partials. */
template <int HEADS>
static __device__ void merge_warps(const struct attention &a, const struct cut &c, size_t row, struct block_heads b,
				   bool alone, const struct shared &r, size_t ring)
{
	const int columns = c.stride / 4;

	for (int e = static_cast<int>(threadIdx.x); e < b.count * columns; e += THREADS) {
		const int h = e / columns, i = e % columns * 4;
		float most = -INFINITY, sum = 0;
		float4 v = make_float4(0, 0, 0, 0);

#pragma unroll
		for (int w = 0; w < WARPS; w++)
			most = fmaxf(most, r.stat[w * HEADS + h].x);
#pragma unroll
		for (int w = 0; w < WARPS; w++) {
			const float2 stat = r.stat[w * HEADS + h];

			if (stat.x > -INFINITY) {
				const float factor = power_of_two(stat.x - most);

				sum = fmaf(stat.y, factor, sum);
				add_scaled(
					&v,
					four_of(reinterpret_cast<const float *>(r.ring + w * ring) + h * c.stride + i),
					factor);
			}
		}
		if (alone) {
			finish(a, row, b.first + h, i, v, most, sum);
		} else {
			const size_t at = (row * a.h.heads + b.first + h) * c.spans + blockIdx.x;

			*reinterpret_cast<float4 *>(c.value + at * c.stride + i) = v;
			if (i == 0)
				c.stat[at] = make_float2(most, sum);
		}
	}
}

/* What a thread has merged of the stretches of a column. */
struct merged {
	float most, sum;
	float4 v;
};

static __device__ __forceinline__ void merge(struct merged *m, float most, float sum, float4 v)
{
	const float top = fmaxf(m->most, most), keep = power_of_two(m->most - top), factor = power_of_two(most - top);

	m->most = top;
	m->sum = fmaf(sum, factor, m->sum * keep);
	m->v = make_float4(m->v.x * keep, m->v.y * keep, m->v.z * keep, m->v.w * keep);
	add_scaled(&m->v, v, factor);
}

/* Stretches split, split + step .. of those before `spans`, in ascending order. */
static __device__ struct merged merge_column(const struct cut &c, size_t at, int i, int split, int step, int spans)
{
	struct merged m = { -INFINITY, 0, make_float4(0, 0, 0, 0) };

	for (int from = split; from < spans; from += step * AHEAD) {
		float2 stat[AHEAD];
		float4 v[AHEAD];

#pragma unroll
		for (int u = 0; u < AHEAD; u++) {
			const size_t one = at + (from + u * step < spans ? from + u * step : from);

			stat[u] = c.stat[one];
			v[u] = *reinterpret_cast<const float4 *>(c.value + one * c.stride + i);
		}
#pragma unroll
		for (int u = 0; u < AHEAD; u++)
			if (from + u * step < spans)
				merge(&m, stat[u].x, stat[u].y, v[u]);
	}
	return m;
}

/* All stretches of the row, by the block that ended last: threads share out the columns, then the stretches. */
static __device__ void merge_spans(const struct attention &a, const struct cut &c, size_t row, struct block_heads b,
				   int spans, struct merged *shared)
{
	const int columns = b.count * c.stride / 4, wide = columns < THREADS ? columns : THREADS;
	const int splits = THREADS / wide, split = static_cast<int>(threadIdx.x) / wide;

	for (int from = 0; from < columns; from += wide) {
		const int e = from + static_cast<int>(threadIdx.x) % wide, h = e / (c.stride / 4);
		const int i = e % (c.stride / 4) * 4;
		const bool busy = e < columns && split < splits;
		struct merged m;

		if (busy) {
			m = merge_column(c, (row * a.h.heads + b.first + h) * c.spans, i, split, splits, spans);
			shared[threadIdx.x] = m;
		}
		__syncthreads();
		if (busy && split == 0) {
			for (int s = 1; s < splits && s < spans; s++) {
				const struct merged *o = &shared[threadIdx.x + s * wide];

				merge(&m, o->most, o->sum, o->v);
			}
			finish(a, row, b.first + h, i, m.v, m.most, m.sum);
		}
		__syncthreads();
	}
}

/* Whether this block is the last of its row and heads to end. */
static __device__ bool ends_last(uint32_t *count, int spans)
{
	__shared__ bool last;

	__syncthreads();
	if (threadIdx.x == 0) {
		__threadfence();
		last = atomicAdd(count, 1u) == static_cast<uint32_t>(spans - 1);
		if (last)
			*count = 0;
		__threadfence();
	}
	__syncthreads();
	return last;
}

/* Asks for what the warp's first page has and the ring has no room for, or all of it where copies may not begin yet. */
template <class PART>
static __device__ __forceinline__ void ask_page(const struct sight &s, const struct card_heads &h, bool late, int lane)
{
	const int bytes = s.to > s.from ? static_cast<int>(h.head_bytes) : 0;

	for (int i = lane * 128; i < bytes; i += WARP * 128) {
		if (late || PART::KEYS > ring_of<PART>())
			ask_for(s.keys + i);
		if (late || PART::CHUNKS > ring_of<PART>())
			ask_for(s.keys + values_after(h) + i);
	}
}

template <class PART, int TILES>
static __global__ void __launch_bounds__(THREADS, TILES > 1 || PART::HEAD > 128 ? 2 : BLOCKS)
	few_kernel(const struct attention a, const struct cut c)
{
	enum { HEADS = TILES * FOUR };
	SHARED_DYNAMIC(uint8_t, memory);
	const int size = PART::HEAD > 0 ? static_cast<int>(PART::HEAD) : a.h.size, steps = (size + 15) / 16;
	const struct room room = room_of<PART>(HEADS, steps, c.stride);
	const struct shared r = shared_of(memory, room);
	const struct block_heads b = heads_of(c);
	const int warp = static_cast<int>(threadIdx.x) / WARP, lane = static_cast<int>(threadIdx.x) % WARP;
	const size_t row = blockIdx.z;
	struct worker<PART, TILES> w = {
	};
	struct stretch stretch;
	struct found f;
	struct runs runs;
	bool late;

	grid_go();
	stretch = stretch_of(load_runs(&a.row[row], &runs));
	f = find_page(a, runs, stretch.first + warp + lane * WARPS, stretch, b.kv);
	w.lane = lane;
	w.size = size;
	w.after = values_after(a.h);
	w.ring = reinterpret_cast<uint4 *>(r.ring + warp * room.ring);
	w.scales = r.scales + warp * room.scales;
	w.p = reinterpret_cast<float *>(r.p + warp * room.p);
	w.now = sight_of(f, 0);
	late = is_written(c, pointer_of(f.page, 0), lane);
	if (!late)
		w.begin();
	ask_page<PART>(w.now, a.h, late, lane);
	grid_wait();
	if (static_cast<int>(blockIdx.x) >= stretch.spans)
		return;
	if (late)
		w.begin();
	rotate_queries(a, row, runs, stretch, b, HEADS, size, reinterpret_cast<uint16_t *>(r.q));
	__syncthreads();
#pragma unroll
	for (int t = 0; t < TILES; t++)
		w.most[t] = -INFINITY;
	for (; w.now.to > w.now.from; w.at++, w.now = w.next) {
		w.next = sight_of(f, w.at + 1);
		w.page(r.q + __shfl_sync(0xffffffffu, f.run, w.at) * room.q);
	}
	copy_wait<0>();
	w.leave(r.stat + warp * HEADS, c.stride);
	__syncthreads();
	merge_warps<HEADS>(a, c, row, b, stretch.spans == 1, r, room.ring);
	if (stretch.spans > 1 && ends_last(c.count + row * gridDim.y + blockIdx.y, stretch.spans))
		merge_spans(a, c, row, b, stretch.spans, reinterpret_cast<struct merged *>(memory));
}

template <class PART, int TILES>
static void launch_few(struct device *d, const struct attention &a, const struct cut &c, size_t n)
{
	const dim3 grid(static_cast<unsigned>(c.spans), static_cast<unsigned>(a.h.kv_heads * c.chunks),
			static_cast<unsigned>(n));
	const size_t room = room_of<PART>(TILES * FOUR, (a.h.size + 15) / 16, c.stride).all;
	const size_t merging = THREADS * sizeof(struct merged), shared = room > merging ? room : merging;

	ask_shared(d, few_kernel<PART, TILES>, shared);
	ok(d, LAUNCH((few_kernel<PART, TILES>), grid, THREADS, shared, d->stream, a, c), "attention");
}

template <int TILES>
static void launch_for(struct device *d, enum dtype type, const struct attention &a, const struct cut &c, size_t n)
{
	const int size = a.h.size;

	if (type == DTYPE_F16 && size == 64)
		launch_few<part_halves<64>, TILES>(d, a, c, n);
	else if (type == DTYPE_F16 && size == 80)
		launch_few<part_halves<80>, TILES>(d, a, c, n);
	else if (type == DTYPE_F16 && size == 96)
		launch_few<part_halves<96>, TILES>(d, a, c, n);
	else if (type == DTYPE_F16 && size == 128)
		launch_few<part_halves<128>, TILES>(d, a, c, n);
	else if (type == DTYPE_F16 && size == 256)
		launch_few<part_halves<256>, TILES>(d, a, c, n);
	else if (type == DTYPE_Q8_0 && size == 64)
		launch_few<part_bytes<64>, TILES>(d, a, c, n);
	else if (type == DTYPE_Q8_0 && size == 96)
		launch_few<part_bytes<96>, TILES>(d, a, c, n);
	else if (type == DTYPE_Q8_0 && size == 128)
		launch_few<part_bytes<128>, TILES>(d, a, c, n);
	else if (type == DTYPE_Q8_0 && size == 256)
		launch_few<part_bytes<256>, TILES>(d, a, c, n);
	else if (type == DTYPE_Q8_0)
		launch_few<part_plain<DTYPE_Q8_0>, TILES>(d, a, c, n);
	else if (type == DTYPE_F16)
		launch_few<part_plain<DTYPE_F16>, TILES>(d, a, c, n);
	else
		launch_few<part_plain<DTYPE_F32>, TILES>(d, a, c, n);
}

static struct cut cut_of(const struct head_shape *h, int32_t pages_most)
{
	struct cut c = {};

	c.group = static_cast<int32_t>(h->heads / h->kv_heads);
	c.chunk = c.group < HEADS_MOST ? c.group : HEADS_MOST;
	c.chunks = (c.group + c.chunk - 1) / c.chunk;
	c.spans = spans_of(pages_most < LONG ? pages_most : int32_t{ LONG });
	if (spans_of(pages_most) > c.spans)
		c.spans = spans_of(pages_most);
	c.stride = static_cast<int32_t>((h->head_size + 3) / 4 * 4);
	return c;
}

/* As many rows in a launch as the partial results have room for; which they are does not change them. */
static void attend_few(struct device *d, const struct attend *op, const struct card_rows *rows, struct attention a)
{
	struct cut c = cut_of(op->shape, rows->pages_most);
	const size_t stats = op->shape->heads * static_cast<size_t>(c.spans),
		     bytes = stats * (c.stride + 2) * sizeof(float);
	const size_t fits = partials_most / bytes, most = fits < 1 ? 1 : fits > ROWS_MOST ? size_t{ ROWS_MOST } : fits;
	const size_t at_once = op->n < most ? op->n : most, blocks = static_cast<size_t>(a.h.kv_heads * c.chunks);

	c.value = static_cast<float *>(scratch(d, SCRATCH_PARTIALS, at_once * bytes));
	c.count = static_cast<uint32_t *>(scratch(d, SCRATCH_COUNTS, at_once * blocks * sizeof(*c.count)));
	if (!c.value || !c.count)
		return;
	c.stat = reinterpret_cast<float2 *>(c.value + at_once * stats * c.stride);
	c.first = a.row;
	c.rows = static_cast<int32_t>(op->n);
	for (size_t i = 0; i < op->n && !d->failed.code; i += at_once) {
		const size_t n = op->n - i < at_once ? op->n - i : at_once;

		if (c.chunk <= FOUR)
			launch_for<1>(d, op->pages->type, a, c, n);
		else
			launch_for<2>(d, op->pages->type, a, c, n);
		a.row += n;
		a.qkv += n * (op->shape->heads + 2 * op->shape->kv_heads) * op->shape->head_size;
		a.angles += n * RUNS * op->shape->rotated;
		a.y += n * op->shape->heads * op->shape->head_size;
	}
}

/*
 * Whether rows are a prompt's rather than a decoding step's. Up to STEP_ROWS only their number counts: such steps are
 * captured. With more, most rows have to be of conversations that bring more than FEW_ROWS.
 */
static bool are_many(const struct card_rows *rows, size_t n)
{
	enum { STEP_ROWS = 64 };
	size_t many = 0;

	for (size_t i = 0, past; i < n && n > STEP_ROWS; i = past) {
		for (past = i + 1; past < n && rows->host[past].group == rows->host[i].group;)
			past++;
		many += past - i > FEW_ROWS ? past - i : 0;
	}
	return many * 2 > n;
}

void attend(struct device *d, const struct attend *op)
{
	const struct card_rows rows = op->n ? staged_rows(d, op->rows, op->n) : card_rows{};
	struct attention a = {};

	if (op->n == 0 || d->failed.code)
		return;
	a.h = card_heads_of(op->shape, op->pages, op->layer);
	a.h.scale *= log2_e;
	a.row = rows.row;
	a.page = rows.page;
	a.qkv = op->qkv;
	a.angles = op->angles;
	a.sinks = op->sinks;
	a.y = op->y;
	if (!d->o.invariant && are_many(&rows, op->n) && attend_many(d, op, &rows, a))
		return;
	attend_few(d, op, &rows, a);
}

} // namespace CUDA_SPACE
