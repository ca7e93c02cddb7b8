/*
 * A stand-in for an NVIDIA card, in which the sources of kernels/cuda run as tests on any machine: CUDA's names in
 * plain C++, no header of the toolkit. port.h includes it where KERNELS_STANDIN is defined.
 *
 * The threads of a block are fibers of one processor. One runs until it ends or has to wait: at a barrier, or for the
 * lanes of its warp in a shuffle, a vote or a product. Blocks follow one another. Every second start of a kernel takes
 * threads from the last to the first, every third and fourth blocks likewise: what depends on an order that a card
 * does not promise does not repeat. What would hang a card or give it undefined values ends the program with a
 * message: a barrier that some threads never reach, a shuffle that a lane of its mask misses or that reads a lane
 * outside it, grid_wait() left out, addresses that are not aligned. Shared memory is filled with 0xff before a block
 * begins (static one before a kernel), and so is new memory of the card; a copy_begin() copies as late as it may.
 *
 * This header has what device code uses; the runtime's calls are in standin_runtime.h.
 */
#ifndef TESTS_KERNELS_STANDIN_H
#define TESTS_KERNELS_STANDIN_H

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standin_runtime.h"

extern "C" {
#include "dtype.h"
}

#define CUDA_SPACE sinkd_standin
#define BACKEND_CUDA backend_standin

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __noinline__ __attribute__((noinline))
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("standin_shared")))
#define __launch_bounds__(...)
#ifndef __restrict__
#define __restrict__ __restrict
#endif

/* What a thread waits for: the call's name and place, for messages. */
#define STANDIN_PLACE const char *file_ = __builtin_FILE(), int line_ = __builtin_LINE()
#define STANDIN_HERE(what)                                                                                             \
	standin::place                                                                                                 \
	{                                                                                                              \
		what, file_, line_                                                                                     \
	}

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static const int warpSize = 32;

namespace standin
{

struct place {
	const char *what, *file;
	int line;
};

/* Runs the warp's lanes of `mask` into each other: when all of them are here, the last calls act() for all. */
typedef void (*action)(uint32_t mask, void *const *lane);
void meet(uint32_t mask, action act, void *mine, place at);
/* A barrier of the block; gives for how many threads `vote` holds. */
int barrier(bool vote, place at);
[[noreturn]] void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The calling thread's number in its block. */
unsigned thread();
static inline unsigned lane()
{
	return thread() & 31;
}

void *dynamic_shared();
bool is_shared(const void *p);
void waited_for_grid();
void copy_begin(void *shared, const void *from, place at);
void copy_group();
void copy_wait(int groups);

/* What travels in a shuffle. */
struct swap {
	uint64_t value, got;
	int from;
};
uint64_t shuffle(uint32_t mask, uint64_t value, int from, place at);
/* The lanes of the mask for which the vote holds, and for match: whose value is the caller's. */
uint32_t ballot(uint32_t mask, bool vote, place at);
uint32_t match(uint32_t mask, uint64_t value, place at);

template <typename T> static inline T shuffled(uint32_t mask, T v, int from, place at)
{
	uint64_t bits = 0;

	static_assert(sizeof(T) == 4 || sizeof(T) == 8);
	memcpy(&bits, &v, sizeof(v));
	bits = shuffle(mask, bits, from, at);
	memcpy(&v, &bits, sizeof(v));
	return v;
}

template <typename T, typename F> static inline T reduced(uint32_t mask, T v, F two, place at)
{
	struct value {
		T v;
		F two;
	} mine = { v, two };

	meet(
		mask,
		[](uint32_t m, void *const *lane) {
			value *first = static_cast<value *>(lane[__builtin_ctz(m)]);

			for (uint32_t rest = m & (m - 1); rest; rest &= rest - 1)
				first->v = first->two(first->v, static_cast<value *>(lane[__builtin_ctz(rest)])->v);
			for (uint32_t rest = m & (m - 1); rest; rest &= rest - 1)
				static_cast<value *>(lane[__builtin_ctz(rest)])->v = first->v;
		},
		&mine, at);
	return mine.v;
}

} // namespace standin

/* Barriers, shuffles, votes. */
static inline void __syncthreads(STANDIN_PLACE)
{
	standin::barrier(false, STANDIN_HERE("__syncthreads"));
}

static inline int __syncthreads_count(int p, STANDIN_PLACE)
{
	return standin::barrier(p != 0, STANDIN_HERE("__syncthreads_count"));
}

static inline int __syncthreads_or(int p, STANDIN_PLACE)
{
	return standin::barrier(p != 0, STANDIN_HERE("__syncthreads_or")) != 0;
}

static inline int __syncthreads_and(int p, STANDIN_PLACE)
{
	return standin::barrier(p == 0, STANDIN_HERE("__syncthreads_and")) == 0;
}

static inline void __syncwarp(uint32_t mask = 0xffffffff, STANDIN_PLACE)
{
	standin::meet(mask, nullptr, nullptr, STANDIN_HERE("__syncwarp"));
}

template <typename T> static inline T __shfl_sync(uint32_t mask, T v, int from, int width = 32, STANDIN_PLACE)
{
	const int me = static_cast<int>(standin::lane());

	return standin::shuffled(mask, v, (me & ~(width - 1)) | (from & (width - 1)), STANDIN_HERE("__shfl_sync"));
}

template <typename T> static inline T __shfl_xor_sync(uint32_t mask, T v, int with, int width = 32, STANDIN_PLACE)
{
	const int me = static_cast<int>(standin::lane()), from = me ^ with;

	return standin::shuffled(mask, v, from > (me | (width - 1)) ? me : from, STANDIN_HERE("__shfl_xor_sync"));
}

template <typename T> static inline T __shfl_down_sync(uint32_t mask, T v, unsigned by, int width = 32, STANDIN_PLACE)
{
	const int me = static_cast<int>(standin::lane()), from = me + static_cast<int>(by);

	return standin::shuffled(mask, v, from > (me | (width - 1)) ? me : from, STANDIN_HERE("__shfl_down_sync"));
}

template <typename T> static inline T __shfl_up_sync(uint32_t mask, T v, unsigned by, int width = 32, STANDIN_PLACE)
{
	const int me = static_cast<int>(standin::lane()), from = me - static_cast<int>(by);

	return standin::shuffled(mask, v, from < (me & ~(width - 1)) ? me : from, STANDIN_HERE("__shfl_up_sync"));
}

static inline uint32_t __ballot_sync(uint32_t mask, int p, STANDIN_PLACE)
{
	return standin::ballot(mask, p != 0, STANDIN_HERE("__ballot_sync"));
}

static inline int __any_sync(uint32_t mask, int p, STANDIN_PLACE)
{
	return standin::ballot(mask, p != 0, STANDIN_HERE("__any_sync")) != 0;
}

static inline int __all_sync(uint32_t mask, int p, STANDIN_PLACE)
{
	return standin::ballot(mask, p == 0, STANDIN_HERE("__all_sync")) == 0;
}

template <typename T> static inline uint32_t __match_any_sync(uint32_t mask, T v, STANDIN_PLACE)
{
	uint64_t bits = 0;

	memcpy(&bits, &v, sizeof(v));
	return standin::match(mask, bits, STANDIN_HERE("__match_any_sync"));
}

/* Of int and unsigned, as on a card. */
template <typename T> static inline T __reduce_add_sync(uint32_t mask, T v, STANDIN_PLACE)
{
	return standin::reduced(
		mask, v, [](T a, T b) { return static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); },
		STANDIN_HERE("__reduce_add_sync"));
}

template <typename T> static inline T __reduce_min_sync(uint32_t mask, T v, STANDIN_PLACE)
{
	return standin::reduced(
		mask, v, [](T a, T b) { return b < a ? b : a; }, STANDIN_HERE("__reduce_min_sync"));
}

template <typename T> static inline T __reduce_max_sync(uint32_t mask, T v, STANDIN_PLACE)
{
	return standin::reduced(
		mask, v, [](T a, T b) { return b > a ? b : a; }, STANDIN_HERE("__reduce_max_sync"));
}

static inline void __threadfence()
{
}

static inline void __threadfence_block()
{
}

static inline void __threadfence_system()
{
}

#include "standin_math.h"

/* What port.h has for a card. */
#define SHARED_DYNAMIC(type, name) type *const name = static_cast<type *>(standin::dynamic_shared())

namespace CUDA_SPACE
{

template <typename... P, typename... A>
cudaError_t launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
		   A &&...a)
{
	const auto body = [kernel, ... v = static_cast<P>(a)] { kernel(v...); };
	typedef decltype(body) type;
	const standin::start s = { name,	reinterpret_cast<void *>(kernel),
				   grid,	block,
				   shared,	[](const void *closure) { (*static_cast<type *>(closure))(); },
				   sizeof(body) };

	static_assert((__is_trivially_copyable(P) && ...));
	return standin::launch(s, &body, stream);
}

static inline void grid_wait()
{
	standin::waited_for_grid();
}

static inline void grid_go()
{
}

static inline float float_of_half(uint16_t h)
{
	return f16_to_f32(h);
}

static inline uint16_t half_of_float(float f)
{
	return f16_of_f32(f);
}

static inline float2 floats_of_halves(uint32_t h)
{
	return float2{ f16_to_f32(static_cast<uint16_t>(h)), f16_to_f32(static_cast<uint16_t>(h >> 16)) };
}

static inline uint32_t halves_of_floats(float low, float high)
{
	return f16_of_f32(low) | static_cast<uint32_t>(f16_of_f32(high)) << 16;
}

static inline uint32_t halves_less(uint32_t a, uint32_t b)
{
	const float2 x = floats_of_halves(a), y = floats_of_halves(b);

	return halves_of_floats(x.x - y.x, x.y - y.y);
}

static inline uint32_t halves_times(uint32_t a, uint32_t b)
{
	const float2 x = floats_of_halves(a), y = floats_of_halves(b);

	return halves_of_floats(x.x * y.x, x.y * y.y);
}

static inline uint32_t halves_times_plus(uint32_t a, uint32_t b, uint32_t c)
{
	const float2 x = floats_of_halves(a), y = floats_of_halves(b), z = floats_of_halves(c);

	return halves_of_floats(fmaf(x.x, y.x, z.x), fmaf(x.y, y.y, z.y));
}

static inline float float_of_bfloat(uint16_t h)
{
	return bf16_to_f32(h);
}

void mma_halves(float c[4], const uint32_t a[4], const uint32_t b[2], STANDIN_PLACE);
void mma_bytes(int32_t c[4], const uint32_t a[4], const uint32_t b[2], STANDIN_PLACE);
void load_tiles(uint32_t r[4], const void *row, STANDIN_PLACE);
void load_tiles_turned(uint32_t r[4], const void *row, STANDIN_PLACE);

static inline void copy_begin(void *shared, const void *from, STANDIN_PLACE)
{
	standin::copy_begin(shared, from, STANDIN_HERE("copy_begin"));
}

static inline void copy_group()
{
	standin::copy_group();
}

template <int N> static inline void copy_wait()
{
	standin::copy_wait(N);
}

} // namespace CUDA_SPACE

#define LAUNCH(kernel, grid, block, shared, stream, ...)                                                               \
	CUDA_SPACE::launch(#kernel, kernel, dim3(grid), dim3(block), shared, stream, __VA_ARGS__)

#endif
