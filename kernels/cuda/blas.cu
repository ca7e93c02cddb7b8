/*
 * Owns cuBLAS: found when the program runs, by its own few prototypes, so that it is wanted neither to build nor to
 * run. Without it products of many rows take longer (matmul.cu).
 */
#include <stdlib.h>

#ifndef KERNELS_STANDIN
#include <dlfcn.h>
#endif

#include "cuda.h"

#ifdef KERNELS_STANDIN

struct blas {
	int unused;
};

namespace CUDA_SPACE
{

/* In place of cuBLAS: the definition, a thread a result. */

template <enum dtype T> static float element(const void *x, size_t i)
{
	if constexpr (T == DTYPE_F32)
		return static_cast<const float *>(x)[i];
	else
		return f16_to_f32(static_cast<const uint16_t *>(x)[i]);
}

template <enum dtype T>
static __global__ void product_kernel(const void *w, size_t rows, size_t cols, const void *x, float alpha, float *y,
				      size_t y_stride, bool add)
{
	const size_t row = blockIdx.x * static_cast<size_t>(WARP) + threadIdx.x;
	float sum = 0;

	grid_wait();
	if (row < rows) {
		for (size_t c = 0; c < cols; c++)
			sum += element<T>(w, row * cols + c) * element<T>(x, blockIdx.y * cols + c);
		y += blockIdx.y * y_stride + row;
		*y = add ? *y + alpha * sum : alpha * sum;
	}
}

struct blas *blas_open(struct device *d, struct err *e)
{
	struct blas *b = static_cast<struct blas *>(calloc(1, sizeof(*b)));

	(void)d;
	if (!b)
		err_set(e, SINK_ENOMEM, "There is no memory for cuBLAS.");
	return b;
}

void blas_close(struct blas *b)
{
	free(b);
}

void blas_product(struct device *d, enum dtype type, const void *w, size_t rows, size_t cols, const void *x, size_t n,
		  float alpha, float *y, size_t y_stride, bool add)
{
	const dim3 grid(static_cast<unsigned>((rows + WARP - 1) / WARP), static_cast<unsigned>(n));

	if (type == DTYPE_F32)
		ok(d,
		   LAUNCH((product_kernel<DTYPE_F32>), grid, WARP, 0, d->stream, w, rows, cols, x, alpha, y, y_stride,
			  add),
		   "a product");
	else
		ok(d,
		   LAUNCH((product_kernel<DTYPE_F16>), grid, WARP, 0, d->stream, w, rows, cols, x, alpha, y, y_stride,
			  add),
		   "a product");
}

} // namespace CUDA_SPACE

#else

/* cuBLAS's numbers (cublas_api.h, library_types.h): they are part of its binary interface. */
enum { OP_N = 0, OP_T = 1 };
enum { TYPE_F32 = 0, TYPE_F16 = 2 };
enum { COMPUTE_F32 = 68, ALGORITHM_DEFAULT = -1, MATH_NO_REDUCED_SUMS = 16 };

static const size_t workspace_bytes = 32 << 20;

struct blas {
	void *library, *handle;
	int (*create)(void **handle);
	int (*destroy)(void *handle);
	int (*set_stream)(void *handle, cudaStream_t stream);
	int (*set_workspace)(void *handle, void *workspace, size_t bytes);
	int (*set_math)(void *handle, int mode);
	int (*gemm)(void *handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a, int type_a,
		    int lda, const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc,
		    int compute, int algorithm);
};

namespace CUDA_SPACE
{

static void *find_library()
{
	static const char *const names[] = { "libcublas.so.13", "libcublas.so.12", "libcublas.so" };
	void *library = NULL;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !library; i++)
		library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	return library;
}

template <typename F> static bool find(struct blas *b, const char *name, F **ret)
{
	*ret = reinterpret_cast<F *>(dlsym(b->library, name));
	return *ret != NULL;
}

static bool find_all(struct blas *b)
{
	return find(b, "cublasCreate_v2", &b->create) && find(b, "cublasDestroy_v2", &b->destroy) &&
	       find(b, "cublasSetStream_v2", &b->set_stream) && find(b, "cublasSetWorkspace_v2", &b->set_workspace) &&
	       find(b, "cublasSetMathMode", &b->set_math) && find(b, "cublasGemmEx", &b->gemm);
}

/* The workspace after the stream, which takes it away. */
static bool start(struct device *d, struct blas *b)
{
	void *workspace = scratch(d, SCRATCH_BLAS, workspace_bytes);

	if (!workspace || b->create(&b->handle) != 0) {
		b->handle = NULL;
		return false;
	}
	return b->set_stream(b->handle, d->stream) == 0 &&
	       b->set_workspace(b->handle, workspace, workspace_bytes) == 0 &&
	       b->set_math(b->handle, MATH_NO_REDUCED_SUMS) == 0;
}

struct blas *blas_open(struct device *d, struct err *e)
{
	struct blas *b = static_cast<struct blas *>(calloc(1, sizeof(*b)));

	if (!b) {
		err_set(e, SINK_ENOMEM, "There is no memory for cuBLAS.");
		return NULL;
	}
	b->library = find_library();
	if (b->library && find_all(b) && start(d, b))
		return b;
	if (b->library)
		err_set(e, SINK_EDEVICE, "cuBLAS does not start on card %d.", d->o.card);
	else
		err_set(e, SINK_EDEVICE, "There is no cuBLAS (libcublas.so.13 or .12).");
	blas_close(b);
	return NULL;
}

void blas_close(struct blas *b)
{
	if (!b)
		return;
	if (b->handle)
		b->destroy(b->handle);
	free(b); /* The library stays: it has threads and handlers of its own. */
}

/* To cuBLAS, which counts by columns, y is [rows][n], w [cols][rows] to be turned, and x [cols][n]. */
void blas_product(struct device *d, enum dtype type, const void *w, size_t rows, size_t cols, const void *x, size_t n,
		  float alpha, float *y, size_t y_stride, bool add)
{
	const int from = type == DTYPE_F32 ? TYPE_F32 : TYPE_F16, k = static_cast<int>(cols);
	const float beta = add ? 1 : 0;

	if (d->blas->gemm(d->blas->handle, OP_T, OP_N, static_cast<int>(rows), static_cast<int>(n), k, &alpha, w, from,
			  k, x, from, k, &beta, y, TYPE_F32, static_cast<int>(y_stride), COMPUTE_F32,
			  ALGORITHM_DEFAULT) != 0)
		ok(d, cudaErrorUnknown, "a product by cuBLAS");
}

} // namespace CUDA_SPACE

#endif
