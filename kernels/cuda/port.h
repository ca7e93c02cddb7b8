/*
 * The seam between the kernels and what runs them: an NVIDIA card, compiled by nvcc; or the stand-in of the tests
 * (tests/kernels/standin.h), compiled by any C++ compiler, where the threads of a block take turns on one processor.
 * All that the two do differently is named here; kernels use these names and CUDA's own for the rest (threadIdx,
 * __shared__, __syncthreads, __shfl_*_sync, atomics, __dp4a, vector types).
 *
 * LAUNCH((kernel), grid, block, shared bytes, stream, arguments…) starts a kernel; on a card it may begin before its
 * predecessor has ended: it has to call grid_wait() before it reads or writes memory that another kernel touches
 * (weights are written by none), and every thread of it does so. SHARED_DYNAMIC(type, name) names the shared bytes.
 *
 * Halves travel as uint16_t, pairs as uint32_t (the first in the low half).
 */
#ifndef CUDA_PORT_H
#define CUDA_PORT_H

#include <stdint.h>

#ifdef KERNELS_STANDIN
#include "standin.h"

namespace CUDA_SPACE
{

static inline float power_of_two(float x)
{
	return exp2f(x);
}

static inline uint4 load16_if(bool wanted, const void *from)
{
	return wanted ? *static_cast<const uint4 *>(from) : make_uint4(0, 0, 0, 0);
}

static inline uint2 load8_if(bool wanted, const void *from)
{
	return wanted ? *static_cast<const uint2 *>(from) : make_uint2(0, 0);
}

} // namespace CUDA_SPACE
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define CUDA_SPACE sinkd_cuda
#define BACKEND_CUDA backend_cuda

#define SHARED_DYNAMIC(type, name)                                                                                     \
	extern __shared__ __align__(16) unsigned char shared_dynamic_[];                                               \
	type *const name = reinterpret_cast<type *>(shared_dynamic_)

namespace CUDA_SPACE
{

/* Whether the card lets a kernel begin before its predecessor has ended (Hopper and later); set when one is opened. */
inline bool starts_early = false;

template <typename... P, typename... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream, A &&...a)
{
	cudaLaunchAttribute early = {};
	cudaLaunchConfig_t config = {};

	early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
	early.val.programmaticStreamSerializationAllowed = 1;
	config.gridDim = grid;
	config.blockDim = block;
	config.dynamicSmemBytes = shared;
	config.stream = stream;
	config.attrs = &early;
	config.numAttrs = starts_early ? 1 : 0;
	return cudaLaunchKernelEx(&config, kernel, static_cast<P>(a)...);
}

/* Waits until all kernels before this one have ended, and what they wrote is seen. */
static __device__ __forceinline__ void grid_wait()
{
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/*
 * The next kernel may be started now, as far as its grid_wait(); without it that is so when this one ends. Products do
 * so before they wait themselves, the small kernels between them after: the other ways were slower on an H200.
 */
static __device__ __forceinline__ void grid_go()
{
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

static __device__ __forceinline__ float float_of_half(uint16_t h)
{
	return __half2float(__ushort_as_half(h));
}

static __device__ __forceinline__ uint16_t half_of_float(float f)
{
	return __half_as_ushort(__float2half_rn(f));
}

static __device__ __forceinline__ float2 floats_of_halves(uint32_t h)
{
	__half2 h2;

	memcpy(&h2, &h, sizeof(h2));
	return __half22float2(h2);
}

static __device__ __forceinline__ uint32_t halves_of_floats(float low, float high)
{
	const __half2 h2 = __floats2half2_rn(low, high);
	uint32_t h;

	memcpy(&h, &h2, sizeof(h));
	return h;
}

/* 2^x to two units in the last place; 0 below 2^-126. */
static __device__ __forceinline__ float power_of_two(float x)
{
	float y;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

/* Pairs of halves: a - b, a * b, a * b + c, each rounded once. */
static __device__ __forceinline__ uint32_t halves_less(uint32_t a, uint32_t b)
{
	uint32_t r;

	asm("sub.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
	return r;
}

static __device__ __forceinline__ uint32_t halves_times(uint32_t a, uint32_t b)
{
	uint32_t r;

	asm("mul.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
	return r;
}

static __device__ __forceinline__ uint32_t halves_times_plus(uint32_t a, uint32_t b, uint32_t c)
{
	uint32_t r;

	asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
	return r;
}

/* Bytes of the card's memory, or zeros without reading; asked for at once and in this order, whatever the compiler may
 * know of branches. */
static __device__ __forceinline__ uint4 load16_if(bool wanted, const void *from)
{
	uint4 v;

	asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %5, 0;\n\t"
		     "mov.u32 %0, 0;\n\tmov.u32 %1, 0;\n\tmov.u32 %2, 0;\n\tmov.u32 %3, 0;\n\t"
		     "@p ld.global.v4.u32 {%0,%1,%2,%3}, [%4];\n\t}"
		     : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)
		     : "l"(from), "r"(static_cast<uint32_t>(wanted))
		     : "memory");
	return v;
}

static __device__ __forceinline__ uint2 load8_if(bool wanted, const void *from)
{
	uint2 v;

	asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %3, 0;\n\tmov.u32 %0, 0;\n\tmov.u32 %1, 0;\n\t"
		     "@p ld.global.v2.u32 {%0,%1}, [%2];\n\t}"
		     : "=&r"(v.x), "=&r"(v.y)
		     : "l"(from), "r"(static_cast<uint32_t>(wanted))
		     : "memory");
	return v;
}

static __device__ __forceinline__ float float_of_bfloat(uint16_t h)
{
	return __uint_as_float(static_cast<uint32_t>(h) << 16);
}

/*
 * c[16][8] += a[16][16] * b[16][8] in halves, summed up in F32, by a warp: PTX's mma.m16n8k16 and its fragments. Thread
 * t, with g = t / 4 and k = 2 * (t % 4): a = (row g, columns k, k+1), (g+8, k), (g, k+8), (g+8, k+8); b = (rows k, k+1,
 * column g), (k+8, g); c = (row g, columns k, k+1), (g+8, k, k+1).
 */
static __device__ __forceinline__ void mma_halves(float c[4], const uint32_t a[4], const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
		     "{%0,%1,%2,%3};"
		     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/*
 * c[16][8] += a[16][32] * b[32][8] in bytes with sign, summed up in 32 bits: mma.m16n8k32. As above with k = 4 * (t %
 * 4), four columns k .. k+3 of a in a word, and + 16 for + 8 in k; c as above.
 */
static __device__ __forceinline__ void mma_bytes(int32_t c[4], const uint32_t a[4], const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
		     "{%0,%1,%2,%3};"
		     : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/*
 * Four tiles of 8x8 halves from shared memory, by a warp: thread t gives the address of row t % 8 (16 bytes) of tile
 * t / 8, and gets of tile i, in word i, (row t / 4, columns 2 * (t % 4) and the next); with `load_tiles_turned` of its
 * transpose.
 */
static __device__ __forceinline__ void load_tiles(uint32_t r[4], const void *row)
{
	const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));

	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(at)
		     : "memory");
}

static __device__ __forceinline__ void load_tiles_turned(uint32_t r[4], const void *row)
{
	const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));

	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(at)
		     : "memory");
}

/* Sixteen bytes to shared memory, complete after copy_wait<N>() where at most N groups were ended later. */
static __device__ __forceinline__ void copy_begin(void *shared, const void *from)
{
	const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(shared));

	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
}

static __device__ __forceinline__ void copy_group()
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N> static __device__ __forceinline__ void copy_wait()
{
	asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

} // namespace CUDA_SPACE

#define LAUNCH(kernel, grid, block, shared, stream, ...)                                                               \
	CUDA_SPACE::launch(kernel, dim3(grid), dim3(block), shared, stream, __VA_ARGS__)

#endif
#endif
