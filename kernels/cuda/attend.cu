/*
 * Owns attention of few rows, as a decoding step has them, and the choice between it and attention of many rows.
 *
 * A block takes a stretch of SPAN pages of what one row sees, and the query heads that share a KV head: four warps a
 * page, PART tokens a warp. All that a warp needs of its page is asked for at once, so that a block has some 64 KiB
 * on their way and waits for memory once. Warps are merged in the block; blocks by the one that ends last, in an
 * order that does not depend on which it is. Stretches are counted from a row's own first page: a row's result has
 * nothing to do with its company.
 *
 * Everything is in F32. Against the definition, scores are off by the order of their sums, about 1e-6 of their terms,
 * and weights by power_of_two(), 2^-22.
 */
#include "attend_part.h"

namespace CUDA_SPACE
{

enum { SPAN = 2, THREADS = SPAN * PAGE_TOKENS / PART * WARP, WARPS = THREADS / WARP, HEADS_MOST = 16, ROWS_MOST = 64 };

/* Stretches that a thread asks for at once when it merges them. */
enum { AHEAD = 8 };

/* Scratch memory for partial results of the rows of one launch: more rows than go into it become several. */
static const size_t partials_most = static_cast<size_t>(64) << 20;

/* The operation cut up: partial results of a row and head are [span][stride], with the maximum and the sum of each. */
struct cut {
	int32_t group, chunk, chunks; /* heads that share a KV head; of them in a block; blocks for all of them */
	int32_t spans, stride;
	float *value;
	float2 *stat;
	uint32_t *count; /* [row][blockIdx.y], blocks that have ended; zero again after the last */
};

/* Shared memory of a block. */
struct room {
	float *q;     /* [SPAN][chunk][stride] */
	float *part;  /* [WARPS][HEADS][stride] */
	float *p;     /* [WARPS][HEADS][PART] */
	float2 *stat; /* [WARPS][HEADS]: maximum and sum */
};

static inline __host__ __device__ size_t room_floats(int chunk, int heads, int stride)
{
	return static_cast<size_t>(SPAN) * chunk * stride + static_cast<size_t>(WARPS) * heads * (stride + PART + 2);
}

static __device__ __forceinline__ struct room room_of(float *shared, int chunk, int heads, int stride)
{
	struct room r;

	r.q = shared;
	r.part = r.q + SPAN * chunk * stride;
	r.p = r.part + WARPS * heads * stride;
	r.stat = reinterpret_cast<float2 *>(r.p + WARPS * heads * PART);
	return r;
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

/* The page with number `at` of those that a row sees, and the run that it is of; RUNS when there are not so many. */
static __device__ __forceinline__ int find_page(const struct attention &a, size_t row, const struct runs &r, int at,
						int kv, struct sight *s)
{
	int found = RUNS;

	s->keys = s->values = reinterpret_cast<const uint8_t *>(a.qkv); /* anywhere: nothing is read */
	s->from = s->to = 0;
	s->apart = 0;
#pragma unroll
	for (int run = 0; run < RUNS; run++) {
		if (at >= 0 && at < r.pages[run]) {
			const int64_t page = r.first[run] / PAGE_TOKENS + at;
			const int64_t from = r.first[run] - page * PAGE_TOKENS, to = from + r.count[run];

			found = run;
			s->keys = head_keys(a, a.page[r.table[run] + static_cast<int32_t>(page) % r.ring[run]], kv);
			s->values = s->keys + values_after(a.h);
			if (a.slopes)
				s->apart = static_cast<float>(a.row[row].query[run] - page * PAGE_TOKENS);
			s->from = from > 0 ? static_cast<int>(from) : 0;
			s->to = to < PAGE_TOKENS ? static_cast<int>(to) : PAGE_TOKENS;
		}
		at -= r.pages[run];
	}
	return found;
}

/* The block's queries, rotated for this run, by the threads of a page. */
static __device__ void rotate_queries(const struct attention &a, size_t row, int run, struct block_heads b, int size,
				      int stride, float *q)
{
	const float *x = a.qkv + row * row_width(a.h) + b.first * size;
	const float *angles = a.angles + (row * RUNS + run) * a.h.rotated;

	for (int e = static_cast<int>(threadIdx.x) % (THREADS / SPAN); e < b.count * size; e += THREADS / SPAN) {
		const int h = e / size, i = e % size;

		q[h * stride + i] = rotate_one(a.h, x + h * size, angles, i) * a.h.scale;
	}
}

static __device__ __forceinline__ float most_of_warp(float x)
{
	for (int mask = 16; mask > 0; mask /= 2)
		x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, mask));
	return x;
}

/* Sums up lanes, of which those that differ in `copy` hold the same. */
static __device__ __forceinline__ float sum_of_warp(float x, int copy)
{
	for (int mask = 16; mask > 0; mask /= 2)
		if (mask != copy)
			x += __shfl_xor_sync(0xffffffffu, x, mask);
	return x;
}

/* One warp's tokens for up to HEADS queries, from `head` on: maximum, sum and weighted values, to shared memory. */
template <class PART_OF, int HEADS>
static __device__ void attend_part(PART_OF &part, const struct attention &a, const struct sight &s, int head,
				   const float *q, int stride, int left, const struct room &r)
{
	const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
	const int token = PART_OF::token_of(lane);
	const bool seen = sees(s, token), first = (lane & PART_OF::COPY) == 0;
	float *p = r.p + warp * HEADS * PART, score[HEADS];

	if (!sees_any(s, 0, PART)) {
		if (lane < HEADS)
			r.stat[warp * HEADS + lane] = make_float2(-INFINITY, 0);
		return;
	}
	if (PART_OF::LATE)
		part.load_keys(s, lane);
	part.scores(s, q, stride, left, lane, score);
	for (int h = 0; a.slopes && h < HEADS; h++)
		if (h < left)
			score[h] -= a.slopes[head + h] * log2_e * (s.apart - static_cast<float>(s.first + token));
	if (PART_OF::LATE)
		part.load_values(s, lane);
#pragma unroll
	for (int h = 0; h < HEADS; h++) {
		const float most = most_of_warp(seen ? score[h] : -INFINITY);
		const float weight = seen ? power_of_two(score[h] - most) : 0;
		const float sum = sum_of_warp(weight, PART_OF::COPY);

		if (first)
			p[h * PART + token] = weight;
		if (lane == 0)
			r.stat[warp * HEADS + h] = make_float2(most, sum);
	}
	__syncwarp();
	part.weigh(s, p, left, lane, r.part + warp * HEADS * stride, stride);
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
static __device__ void merge_warps(const struct attention &a, const struct cut &c, size_t row, int head, int left,
				   bool alone, const struct room &r)
{
	const int columns = c.stride / 4;

	for (int e = static_cast<int>(threadIdx.x); e < (left < HEADS ? left : HEADS) * columns; e += THREADS) {
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
				add_scaled(&v,
					   *reinterpret_cast<const float4 *>(r.part + (w * HEADS + h) * c.stride + i),
					   factor);
			}
		}
		if (alone) {
			finish(a, row, head + h, i, v, most, sum);
		} else {
			const size_t at = (row * a.h.heads + head + h) * c.spans + blockIdx.x;

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

template <class PART_OF, int HEADS>
static __global__ void __launch_bounds__(THREADS, PART_OF::BLOCKS)
	few_kernel(const struct attention a, const struct cut c)
{
	SHARED_DYNAMIC(float, shared);
	const struct room r = room_of(shared, c.chunk, HEADS, c.stride);
	const struct block_heads b = heads_of(c);
	const int warp = static_cast<int>(threadIdx.x) / WARP, lane = static_cast<int>(threadIdx.x) % WARP;
	const int page = warp / (WARPS / SPAN);
	const size_t row = blockIdx.z;
	const int size = PART_OF::HEAD > 0 ? static_cast<int>(PART_OF::HEAD) : a.h.size;
	float *q = r.q + page * c.chunk * c.stride;
	int pages, spans, run;
	struct sight s;
	struct runs runs;
	PART_OF part;

	grid_wait();
	grid_go();
	pages = load_runs(&a.row[row], &runs);
	spans = pages > 0 ? (pages + SPAN - 1) / SPAN : 1;
	if (static_cast<int>(blockIdx.x) >= spans)
		return;
	run = find_page(a, row, runs, static_cast<int>(blockIdx.x) * SPAN + page, b.kv, &s);
	s.first = warp % (WARPS / SPAN) * PART;
	part.size = size;
	if (!PART_OF::LATE) {
		part.load_keys(s, lane);
		part.load_values(s, lane);
	}
	if (run < RUNS)
		rotate_queries(a, row, run, b, size, c.stride, q);
	__syncthreads();
	for (int h = 0; h < (HEADS == 1 ? 1 : b.count); h += HEADS) {
		const int left = HEADS == 1 ? 1 : b.count - h;

		attend_part<PART_OF, HEADS>(part, a, s, b.first + h, q + h * c.stride, c.stride, left, r);
		__syncthreads();
		merge_warps<HEADS>(a, c, row, b.first + h, left, spans == 1, r);
		__syncthreads();
	}
	if (spans > 1 && ends_last(c.count + row * gridDim.y + blockIdx.y, spans))
		merge_spans(a, c, row, b, spans, reinterpret_cast<struct merged *>(shared));
}

template <class PART_OF, int HEADS>
static void launch_few(struct device *d, const struct attention &a, const struct cut &c, size_t n)
{
	const dim3 grid(static_cast<unsigned>(c.spans), static_cast<unsigned>(a.h.kv_heads * c.chunks),
			static_cast<unsigned>(n));
	const size_t room = room_floats(c.chunk, HEADS, c.stride) * sizeof(float);
	const size_t merging = THREADS * sizeof(struct merged), shared = room > merging ? room : merging;

	ask_shared(d, few_kernel<PART_OF, HEADS>, shared);
	ok(d, LAUNCH((few_kernel<PART_OF, HEADS>), grid, THREADS, shared, d->stream, a, c), "attention");
}

template <int HEADS>
static void launch_for(struct device *d, enum dtype type, const struct attention &a, const struct cut &c, size_t n)
{
	const int size = a.h.size;

	if (type == DTYPE_F16 && size == 64)
		launch_few<part_halves<64, HEADS>, HEADS>(d, a, c, n);
	else if (type == DTYPE_F16 && size == 80)
		launch_few<part_halves<80, HEADS>, HEADS>(d, a, c, n);
	else if (type == DTYPE_F16 && size == 96)
		launch_few<part_halves<96, HEADS>, HEADS>(d, a, c, n);
	else if (type == DTYPE_F16 && size == 128)
		launch_few<part_halves<128, HEADS>, HEADS>(d, a, c, n);
	else if (type == DTYPE_F16 && size == 256)
		launch_few<part_halves<256, HEADS>, HEADS>(d, a, c, n);
	else if (type == DTYPE_Q8_0 && size == 64)
		launch_few<part_bytes<64, HEADS>, HEADS>(d, a, c, n);
	else if (type == DTYPE_Q8_0 && size == 96)
		launch_few<part_bytes<96, HEADS>, HEADS>(d, a, c, n);
	else if (type == DTYPE_Q8_0 && size == 128)
		launch_few<part_bytes<128, HEADS>, HEADS>(d, a, c, n);
	else if (type == DTYPE_Q8_0 && size == 256)
		launch_few<part_bytes<256, HEADS>, HEADS>(d, a, c, n);
	else if (type == DTYPE_Q8_0)
		launch_few<part_plain<DTYPE_Q8_0, HEADS>, HEADS>(d, a, c, n);
	else if (type == DTYPE_F16)
		launch_few<part_plain<DTYPE_F16, HEADS>, HEADS>(d, a, c, n);
	else
		launch_few<part_plain<DTYPE_F32, HEADS>, HEADS>(d, a, c, n);
}

static struct cut cut_of(const struct head_shape *h, int32_t pages_most)
{
	struct cut c = {};

	c.group = static_cast<int32_t>(h->heads / h->kv_heads);
	c.chunk = c.group < HEADS_MOST ? c.group : HEADS_MOST;
	c.chunks = (c.group + c.chunk - 1) / c.chunk;
	c.spans = pages_most > SPAN ? (pages_most + SPAN - 1) / SPAN : 1;
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
	for (size_t i = 0; i < op->n && !d->failed.code; i += at_once) {
		const size_t n = op->n - i < at_once ? op->n - i : at_once;

		if (c.group == 1)
			launch_for<1>(d, op->pages->type, a, c, n);
		else
			launch_for<4>(d, op->pages->type, a, c, n);
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
	a.slopes = op->slopes;
	a.y = op->y;
	if (!d->o.invariant && are_many(&rows, op->n) && attend_many(d, op, &rows, a))
		return;
	attend_few(d, op, &rows, a);
}

} // namespace CUDA_SPACE
