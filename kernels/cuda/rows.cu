/*
 * Operations on rows that are no products: angles, norm, copies, and the largest logits of each row.
 *
 * The largest are found in two passes. A block takes some stretches of a row, one after the other, and keeps the
 * largest of what it has seen; a second kernel merges what the blocks of a row have kept. Either selects by counting:
 * a number and its place become one key of 64 bits, so that no two are equal, and the least key that still belongs is
 * found bit by bit, each thread holding its keys in registers. That takes some twenty rounds for numbers that differ,
 * as many as there are bits when all are the same.
 */
#include "cuda.h"

#include <math.h>

namespace CUDA_SPACE
{

enum {
	THREADS = 256,
	WARPS = THREADS / WARP,
	EACH = 8,		  /* numbers of a stretch that a thread holds */
	STRETCH = THREADS * EACH, /* of a row */
	MERGERS = 1024,		  /* threads that merge */
	LISTS = 128,		  /* most blocks that share a row */
	TOP_ROWS = 64,		  /* whose lists find room in scratch at once */
};

/* What a block has kept of its part of a row. */
struct list {
	uint64_t key[TOP_MOST]; /* in any order; 0: none */
	double sum;		/* of e^(logit - max) */
	float max;
	int32_t unused;
};

/* Bytes of SCRATCH_TOP, whatever the vocabulary. */
static size_t top_bytes()
{
	return size_t{ TOP_ROWS } * LISTS * sizeof(struct list);
}

/* cos, sin of position * inv_freq, a thread a pair; the set of positions below 0 begins at `second`. */
static __global__ void angles_kernel(const int64_t *position, size_t pairs, const double *inv_freq, size_t half,
				     size_t second, double scale, float *angle)
{
	const size_t i = size_t{ blockIdx.x } * THREADS + threadIdx.x;
	double c, s;
	int64_t at;

	grid_wait();
	grid_go();
	if (i >= pairs)
		return;
	at = position[i / half];
	sincos(static_cast<double>(at < 0 ? ~at : at) * inv_freq[i % half + (at < 0 ? second : 0)], &s, &c);
	angle[2 * i] = static_cast<float>(c * scale);
	angle[2 * i + 1] = static_cast<float>(s * scale);
}

void angles(struct device *d, const int64_t *position, size_t n, const double *inv_freq, size_t sets, size_t rotated,
	    double scale, float *angle)
{
	const size_t half = rotated / 2, pairs = n * half;
	const void *at = staged(d, position, n * sizeof(*position));
	const void *by = staged(d, inv_freq, sets * half * sizeof(double));

	if (!pairs || !at || !by)
		return;
	ok(d,
	   LAUNCH((angles_kernel), (pairs + THREADS - 1) / THREADS, THREADS, 0, d->stream,
		  static_cast<const int64_t *>(at), pairs, static_cast<const double *>(by), half, sets > 1 ? half : 0,
		  scale, angle),
	   "angles");
}

/* The sum of all threads' x, for each of them; by halves, so always in the same order. */
static __device__ float block_sum(float x)
{
	__shared__ float of_warp[WARPS];
	float sum = 0;

	for (int by = WARP / 2; by; by /= 2)
		x += __shfl_xor_sync(~0u, x, by);
	if (threadIdx.x % WARP == 0)
		of_warp[threadIdx.x / WARP] = x;
	__syncthreads();
	for (int i = 0; i < WARPS; i++)
		sum += of_warp[i];
	return sum;
}

static __device__ __forceinline__ float sum_of(float x)
{
	return x;
}

static __device__ __forceinline__ float sum_of(float4 x)
{
	return (x.x + x.y) + (x.z + x.w);
}

static __device__ __forceinline__ float less(float x, float by)
{
	return x - by;
}

static __device__ __forceinline__ float4 less(float4 x, float by)
{
	return make_float4(x.x - by, x.y - by, x.z - by, x.w - by);
}

static __device__ __forceinline__ float square(float x)
{
	return x * x;
}

static __device__ __forceinline__ float square(float4 x)
{
	return (x.x * x.x + x.y * x.y) + (x.z * x.z + x.w * x.w);
}

static __device__ __forceinline__ float scaled(float x, float by, float w)
{
	return x * by * w;
}

static __device__ __forceinline__ float4 scaled(float4 x, float by, float4 w)
{
	return make_float4(x.x * by * w.x, x.y * by * w.y, x.z * by * w.z, x.w * by * w.w);
}

static __device__ __forceinline__ float plus(float x, float y)
{
	return x + y;
}

static __device__ __forceinline__ float4 plus(float4 x, float4 y)
{
	return make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w);
}

/*
 * A block a stretch, of `count` numbers or fours of them. A thread reads again what it has read before, then writes it,
 * so that y may be x.
 */
template <typename T> static __global__ void norm_kernel(const struct norm op, size_t count, size_t stride)
{
	const size_t at = blockIdx.x / op.parts * stride + blockIdx.x % op.parts * count;
	const T *const row = reinterpret_cast<const T *>(op.x) + at, *const w = reinterpret_cast<const T *>(op.w);
	const T *const shift = reinterpret_cast<const T *>(op.shift);
	T *const to = reinterpret_cast<T *>(op.y) + at;
	float mean = 0, squares = 0, by;

	grid_wait();
	grid_go();
	if (op.layer) {
		for (size_t i = threadIdx.x; i < count; i += THREADS)
			mean += sum_of(row[i]);
		mean = block_sum(mean) / static_cast<float>(op.width);
		__syncthreads();
	}
	for (size_t i = threadIdx.x; i < count; i += THREADS)
		squares += square(less(row[i], mean));
	by = 1 / sqrtf(block_sum(squares) / static_cast<float>(op.width) + op.eps);
	for (size_t i = threadIdx.x; i < count; i += THREADS) {
		T z = scaled(less(row[i], mean), by, w[i]);

		z = op.shift ? plus(z, shift[i]) : z;
		to[i] = op.add ? plus(to[i], z) : z;
	}
}

/* Whether rows of this width can be taken by fours, from the memory of each. */
static bool by_fours(size_t width, const void *a, const void *b, const void *c)
{
	const uintptr_t all =
		reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | reinterpret_cast<uintptr_t>(c);

	return width % 4 == 0 && all % sizeof(float4) == 0;
}

void norm(struct device *d, const struct norm *op)
{
	const unsigned grid = static_cast<unsigned>(op->n * op->parts);
	const bool fours = by_fours(op->width, op->x, op->w, op->y) && by_fours(op->stride, op->shift, NULL, NULL);

	if (!op->n)
		return;
	if (fours)
		ok(d, LAUNCH((norm_kernel<float4>), grid, THREADS, 0, d->stream, *op, op->width / 4, op->stride / 4),
		   "norm");
	else
		ok(d, LAUNCH((norm_kernel<float>), grid, THREADS, 0, d->stream, *op, op->width, op->stride), "norm");
}

/* A thread a place of all rows. */
template <typename T> static __global__ void gather_kernel(const T *x, size_t width, const int32_t *index, T *y)
{
	const size_t i = size_t{ blockIdx.x } * THREADS + threadIdx.x;

	grid_wait();
	grid_go();
	if (i < width)
		y[blockIdx.y * width + i] = x[static_cast<size_t>(index[blockIdx.y]) * width + i];
}

/* A thread a column, row after row: so each row finds what those before it have left, where y lies in x. */
static __global__ void gather_within_kernel(const float *x, size_t width, const int32_t *index, size_t count, float *y)
{
	const size_t i = size_t{ blockIdx.x } * THREADS + threadIdx.x;

	grid_wait();
	grid_go();
	for (size_t row = 0; i < width && row < count; row++)
		y[row * width + i] = x[static_cast<size_t>(index[row]) * width + i];
}

/* Where y may lie in x, of which no more is known than that it has no more rows than a step, it is whole rows away. */
void gather(struct device *d, const float *x, size_t width, const int32_t *index, size_t count, float *y)
{
	const int32_t *const at = static_cast<const int32_t *>(staged(d, index, count * sizeof(*index)));
	const bool apart = y >= x + d->o.max_rows * width || y + count * width <= x;
	const size_t fours = (width / 4 + THREADS - 1) / THREADS, ones = (width + THREADS - 1) / THREADS;
	const unsigned rows = static_cast<unsigned>(count);

	if (!count || !at)
		return;
	if (!apart)
		ok(d, LAUNCH((gather_within_kernel), ones, THREADS, 0, d->stream, x, width, at, count, y), "gather");
	else if (by_fours(width, x, y, y))
		ok(d,
		   LAUNCH((gather_kernel<float4>), dim3(fours, rows), THREADS, 0, d->stream,
			  reinterpret_cast<const float4 *>(x), width / 4, at, reinterpret_cast<float4 *>(y)),
		   "gather");
	else
		ok(d, LAUNCH((gather_kernel<float>), dim3(ones, rows), THREADS, 0, d->stream, x, width, at, y),
		   "gather");
}

/* Keys are in the order of numbers, and of equal numbers the first has the larger key. */
static __device__ __forceinline__ uint64_t key_of(float x, uint32_t at)
{
	const uint32_t bits = __float_as_uint(x == 0 ? 0.0f : x);
	const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;

	return static_cast<uint64_t>(ordered) << 32 | ~at;
}

static __device__ __forceinline__ float number_of(uint64_t key)
{
	const uint32_t ordered = static_cast<uint32_t>(key >> 32);

	return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

static __device__ __forceinline__ uint32_t place_of(uint64_t key)
{
	return ~static_cast<uint32_t>(key);
}

/* The sum over a warp of counts of at most MOST, in thread 0 and all others: a vote for each of their bits. */
template <int MOST> static __device__ __forceinline__ int warp_count(int count)
{
	int sum = 0;

#pragma unroll
	for (int bit = 0; MOST >> bit; bit++)
		sum += __popc(__ballot_sync(~0u, count >> bit & 1)) << bit;
	return sum;
}

struct selection {
	uint64_t most[TOP_MOST]; /* the largest keys in any order, then zeros */
	int count[64];		 /* keys that reached the threshold of each round */
	int used;		 /* of most */
};

/* Selects from the keys of all threads, HELD in each; 0 is none. All threads come together before and after. */
template <int HELD> static __device__ void select(const uint64_t key[HELD], struct selection *s)
{
	uint64_t least = 0;

	__syncthreads();
	for (unsigned i = threadIdx.x; i < 64; i += blockDim.x)
		s->count[i] = 0;
	for (unsigned i = threadIdx.x; i < TOP_MOST; i += blockDim.x)
		s->most[i] = 0;
	if (threadIdx.x == 0)
		s->used = 0;
	__syncthreads();
	for (int bit = 63; bit >= 0; bit--) {
		const uint64_t tried = least | uint64_t{ 1 } << bit;
		int count = 0;

#pragma unroll
		for (int i = 0; i < HELD; i++)
			count += key[i] >= tried;
		count = warp_count<HELD>(count);
		if (threadIdx.x % WARP == 0 && count)
			atomicAdd(&s->count[bit], count);
		__syncthreads();
		if (s->count[bit] >= TOP_MOST)
			least = tried;
		if (s->count[bit] == TOP_MOST)
			break;
	}
#pragma unroll
	for (int i = 0; i < HELD; i++)
		if (key[i] && key[i] >= least)
			s->most[atomicAdd(&s->used, 1)] = key[i];
	__syncthreads();
}

/* The largest number that was selected, for each thread; -INFINITY if there is none. */
static __device__ float largest(const struct selection *s)
{
	const uint64_t a = s->most[threadIdx.x % WARP], b = s->most[threadIdx.x % WARP + WARP];
	float most = fmaxf(a ? number_of(a) : -INFINITY, b ? number_of(b) : -INFINITY);

	static_assert(TOP_MOST == 2 * WARP, "a thread looks at two");
	for (int by = WARP / 2; by; by /= 2)
		most = fmaxf(most, __shfl_xor_sync(~0u, most, by));
	return most;
}

/* The numbers of a stretch that belong to this thread, from `at` on fours beside fours; what is none is -INFINITY. */
static __device__ void load(const float *row, size_t vocab, size_t at, bool fours, float x[EACH])
{
#pragma unroll
	for (int i = 0; i < EACH; i += 4) {
		const size_t from = at + static_cast<size_t>(i) * THREADS + threadIdx.x * 4;
		float4 four = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);

		if (fours && from < vocab) {
			four = *reinterpret_cast<const float4 *>(row + from);
		} else {
			four.x = from < vocab ? row[from] : four.x;
			four.y = from + 1 < vocab ? row[from + 1] : four.y;
			four.z = from + 2 < vocab ? row[from + 2] : four.z;
			four.w = from + 3 < vocab ? row[from + 3] : four.w;
		}
		x[i] = isnan(four.x) ? -INFINITY : four.x;
		x[i + 1] = isnan(four.y) ? -INFINITY : four.y;
		x[i + 2] = isnan(four.z) ? -INFINITY : four.z;
		x[i + 3] = isnan(four.w) ? -INFINITY : four.w;
	}
}

/* e^(x - max); nothing of -INFINITY, even where that is the largest. */
static __device__ __forceinline__ float weight_of(float x, float max)
{
	return x > -INFINITY ? expf(x - max) : 0;
}

/* Block (i, row) keeps the largest of stretches i * each and those behind it, `each` in all. */
static __global__ void __launch_bounds__(THREADS)
	keep_kernel(const float *logits, size_t vocab, size_t each, bool fours, struct list *lists)
{
	__shared__ struct selection s;
	const size_t begin = blockIdx.x * each * STRETCH,
		     end = begin + each * STRETCH < vocab ? begin + each * STRETCH : vocab;
	const float *const row = logits + blockIdx.y * vocab;
	struct list *const to = &lists[blockIdx.y * LISTS + blockIdx.x];
	float max = -INFINITY, sum = 0;

	grid_wait();
	grid_go();
	for (size_t at = begin; at < end; at += STRETCH) {
		uint64_t key[EACH + 1];
		float x[EACH], before = max;

		load(row, vocab, at, fours, x);
#pragma unroll
		for (unsigned i = 0; i < EACH; i++) {
			const size_t place = at + i / 4 * 4 * THREADS + threadIdx.x * 4 + i % 4;

			key[i] = place < vocab ? key_of(x[i], static_cast<uint32_t>(place)) : 0;
		}
		key[EACH] = at > begin && threadIdx.x < TOP_MOST ? s.most[threadIdx.x] : 0;
		select<EACH + 1>(key, &s);
		max = largest(&s);
		sum *= weight_of(before, max);
#pragma unroll
		for (int i = 0; i < EACH; i++)
			sum += weight_of(x[i], max);
	}
	sum = block_sum(sum);
	if (threadIdx.x < TOP_MOST)
		to->key[threadIdx.x] = s.most[threadIdx.x];
	if (threadIdx.x == 0) {
		to->sum = static_cast<double>(sum);
		to->max = max;
	}
}

/* The sum over all lists, for thread 0. */
static __device__ double sum_of_lists(const struct list *list, int lists, float max)
{
	__shared__ double part[LISTS];
	const int i = static_cast<int>(threadIdx.x);

	if (i < LISTS)
		part[i] = i < lists && list[i].max > -INFINITY
				  ? list[i].sum * exp(static_cast<double>(list[i].max) - static_cast<double>(max))
				  : 0;
	for (int half = LISTS / 2; half; half /= 2) {
		__syncthreads();
		if (i < half)
			part[i] += part[i + half];
	}
	return part[0];
}

/* A block a row: merges its lists, and brings what is left in order. */
template <int HELD>
static __global__ void __launch_bounds__(MERGERS)
	merge_kernel(const struct list *all, int lists, size_t vocab, struct top *tops)
{
	__shared__ struct selection s;
	const struct list *const list = all + static_cast<size_t>(blockIdx.x) * LISTS;
	struct top *const top = &tops[blockIdx.x];
	const int t = static_cast<int>(threadIdx.x);
	uint64_t key[HELD];
	double sum;
	float max;

	grid_wait();
	grid_go();
#pragma unroll
	for (int i = 0; i < HELD; i++) {
		const int at = i * MERGERS + t;

		key[i] = at < lists * TOP_MOST ? list[at / TOP_MOST].key[at % TOP_MOST] : 0;
	}
	select<HELD>(key, &s);
	max = largest(&s);
	sum = sum_of_lists(list, lists, max);
	if (t < TOP_MOST && s.most[t]) {
		int rank = 0;

		for (int i = 0; i < TOP_MOST; i++)
			rank += s.most[i] > s.most[t];
		top->logit[rank] = number_of(s.most[t]);
		top->id[rank] = static_cast<int32_t>(place_of(s.most[t]));
	}
	if (t == 0) {
		top->sum = sum;
		top->max = max;
		top->count = vocab < TOP_MOST ? static_cast<int32_t>(vocab) : TOP_MOST;
	}
}

/* Of at most TOP_ROWS rows, each with `blocks` lists. */
static void top_some(struct device *d, const float *logits, size_t n, size_t vocab, size_t blocks, size_t each,
		     struct list *lists, struct top *top)
{
	const unsigned rows = static_cast<unsigned>(n);
	const int count = static_cast<int>(blocks);

	ok(d,
	   LAUNCH((keep_kernel), dim3(static_cast<unsigned>(blocks), rows), THREADS, 0, d->stream, logits, vocab, each,
		  by_fours(vocab, logits, logits, logits), lists),
	   "top");
	if (blocks * TOP_MOST <= 2 * MERGERS)
		ok(d, LAUNCH((merge_kernel<2>), rows, MERGERS, 0, d->stream, lists, count, vocab, top), "top");
	else
		ok(d,
		   LAUNCH((merge_kernel<int{ LISTS } * TOP_MOST / MERGERS>), rows, MERGERS, 0, d->stream, lists, count,
			  vocab, top),
		   "top");
}

void top(struct device *d, const float *logits, size_t n, size_t vocab, struct top *top)
{
	const size_t stretches = (vocab + STRETCH - 1) / STRETCH, each = (stretches + LISTS - 1) / LISTS;
	struct list *const lists = static_cast<struct list *>(scratch(d, SCRATCH_TOP, top_bytes()));

	if (!lists || !vocab)
		return;
	for (size_t i = 0; i < n; i += TOP_ROWS)
		top_some(d, logits + i * vocab, n - i < TOP_ROWS ? n - i : size_t{ TOP_ROWS }, vocab,
			 (stretches + each - 1) / each, each, lists, top + i);
}

} // namespace CUDA_SPACE
