/*
 * Owns the card as a device: finding it, its memory and streams, copies, and the table of the backend. The runtime is
 * linked in statically and finds the driver when the program runs, so that a machine without one is an answer and no
 * failure to start.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include "backend.h"
}
#include "cuda.h"
#include "parts.h"

/* What the instructions in port.h need: tensor cores for halves and bytes, asynchronous copies. */
enum { COMPUTE_LEAST = 80 };

/* Of a step. */
enum { ROWS_MOST = 1 << 20 };

namespace CUDA_SPACE
{

static __global__ void nothing_kernel(int unused)
{
	(void)unused;
	grid_wait();
}

bool ok(struct device *d, cudaError_t status, const char *what)
{
	if (status == cudaSuccess)
		return true;
	cudaGetLastError();
	if (!d->failed.code)
		err_set(&d->failed, SINK_EDEVICE, "The card failed (%s): %s.", what, cudaGetErrorString(status));
	return false;
}

static int attribute(int card, enum cudaDeviceAttr which)
{
	int value = 0;

	return cudaDeviceGetAttribute(&value, which, card) == cudaSuccess ? value : 0;
}

static int compute_of(int card)
{
	return attribute(card, cudaDevAttrComputeCapabilityMajor) * 10 +
	       attribute(card, cudaDevAttrComputeCapabilityMinor);
}

static int cards(struct err *e)
{
	int count = 0, driver = 0, runtime = 0;
	cudaError_t status = cudaGetDeviceCount(&count);

	if (status == cudaSuccess && count > 0)
		return count;
	cudaGetLastError();
	if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
		err_set(e, SINK_EDEVICE, "There is no CUDA driver on this machine.");
	else if (status == cudaErrorInsufficientDriver && cudaRuntimeGetVersion(&runtime) == cudaSuccess)
		err_set(e, SINK_EDEVICE, "The driver knows CUDA %d.%d, and this program needs %d.%d.", driver / 1000,
			driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
	else if (status == cudaErrorNoDevice || status == cudaSuccess)
		err_set(e, SINK_EDEVICE, "The CUDA driver finds no card.");
	else
		err_set(e, SINK_EDEVICE, "The CUDA driver does not work: %s.", cudaGetErrorString(status));
	return 0;
}

/* Whether this card can run what was built. */
static int check_card(int card, struct err *e)
{
	const int count = cards(e), compute = compute_of(card);
	cudaFuncAttributes a;
	cudaError_t status;

	if (count == 0)
		return SINK_EDEVICE;
	if (card >= count)
		return err_set(e, SINK_EDEVICE, "There is no card %d: the driver finds %d, numbered from 0.", card,
			       count);
	if (compute < COMPUTE_LEAST)
		return err_set(e, SINK_EDEVICE, "Card %d has compute capability %d.%d; %d.%d is needed.", card,
			       compute / 10, compute % 10, COMPUTE_LEAST / 10, COMPUTE_LEAST % 10);
	status = cudaSetDevice(card);
	if (status == cudaSuccess)
		status = cudaFuncGetAttributes(&a, reinterpret_cast<const void *>(nothing_kernel));
	if (status == cudaSuccess)
		return 0;
	cudaGetLastError();
	if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction)
		return err_set(e, SINK_EDEVICE,
			       "This program was not built for cards of compute capability %d.%d: configure it with "
			       "--with-cuda-arch=%d.",
			       compute / 10, compute % 10, compute);
	return err_set(e, SINK_EDEVICE, "Card %d cannot be used: %s.", card, cudaGetErrorString(status));
}

static int probe(struct err *e)
{
	return check_card(0, e);
}

/* What may still be taken. */
static size_t memory_left(const struct device *d)
{
	size_t free = 0, total = 0;

	if (cudaMemGetInfo(&free, &total) != cudaSuccess)
		free = 0;
	if (d->o.memory && d->o.memory - (d->taken < d->o.memory ? d->taken : d->o.memory) < free)
		free = d->o.memory - (d->taken < d->o.memory ? d->taken : d->o.memory);
	return free;
}

void *memory_new(struct device *d, size_t bytes, const char *what, struct err *e)
{
	const size_t left = memory_left(d), wanted = bytes ? bytes : 1;
	void *p = NULL;

	if (wanted <= left && cudaMalloc(&p, wanted) == cudaSuccess) {
		d->taken += bytes;
		return p;
	}
	cudaGetLastError();
	err_set(e, SINK_ENOMEM, "Card %d has no memory for %s: %zu MiB are wanted, %zu MiB are left%s.", d->o.card,
		what, (wanted >> 20) + 1, left >> 20, d->o.memory ? " of what it may take" : "");
	return NULL;
}

void memory_free(struct device *d, void *p, size_t bytes)
{
	if (!p)
		return;
	cudaFree(p);
	d->taken -= bytes;
}

/* Graphs may name what was outgrown, so it lasts as long as the device. */
static bool keep_outgrown(struct device *d, void *p)
{
	void **more = static_cast<void **>(realloc(d->outgrown, (d->outgrowns + 1) * sizeof(*more)));

	if (!more)
		return false;
	d->outgrown = more;
	d->outgrown[d->outgrowns++] = p;
	return true;
}

void *scratch(struct device *d, enum scratch which, size_t bytes)
{
	const size_t has = d->scratch_bytes[which];
	size_t got = bytes > 2 * has ? bytes : 2 * has;
	struct err e;
	void *p;

	if (bytes <= has)
		return d->scratch[which];
	p = memory_new(d, got, "intermediate results", &e);
	if (!p && got > bytes)
		p = memory_new(d, got = bytes, "intermediate results", &e);
	if (!p || (d->scratch[which] && !keep_outgrown(d, d->scratch[which]))) {
		if (!d->failed.code)
			err_set(&d->failed, SINK_EDEVICE, "%s", p ? "The system is out of memory." : e.text);
		return NULL;
	}
	ok(d, cudaMemsetAsync(p, 0, got, d->copying), "clearing memory");
	ok(d, cudaStreamSynchronize(d->copying), "clearing memory");
	d->scratch[which] = p;
	d->scratch_bytes[which] = got;
	return p;
}

static void close(struct device *d)
{
	if (!d)
		return;
	cudaSetDevice(d->o.card);
	cudaDeviceSynchronize();
	graphs_free(d->graphs);
	blas_close(d->blas);
	saves_free(d->saves);
	staging_free(d->staging);
	for (int i = 0; i < SCRATCHES; i++)
		cudaFree(d->scratch[i]);
	for (size_t i = 0; i < d->outgrowns; i++)
		cudaFree(d->outgrown[i]);
	free(d->outgrown);
	if (d->stream)
		cudaStreamDestroy(d->stream);
	if (d->copying)
		cudaStreamDestroy(d->copying);
	cudaGetLastError();
	free(d);
}

static int open_parts(struct device *d, struct err *e)
{
	int r;

	if (!ok(d, cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking), "a stream") ||
	    !ok(d, cudaStreamCreateWithFlags(&d->copying, cudaStreamNonBlocking), "a stream"))
		return err_set(e, SINK_EDEVICE, "%s", d->failed.text);
#ifndef KERNELS_STANDIN
	starts_early = compute_of(d->o.card) >= 90;
#endif
	d->sms = attribute(d->o.card, cudaDevAttrMultiProcessorCount);
	d->shared_most = static_cast<size_t>(attribute(d->o.card, cudaDevAttrMaxSharedMemoryPerBlockOptin));
	if ((r = staging_new(d, &d->staging, e)) || (r = saves_new(d, &d->saves, e)) ||
	    (r = graphs_new(d, &d->graphs, e)))
		return r;
	if (!d->o.invariant)
		d->blas = blas_open(d, NULL);
	return d->failed.code ? err_set(e, d->failed.code, "%s", d->failed.text) : 0;
}

static int open(const struct device_options *o, struct device **ret, struct err *e)
{
	struct device *d;
	int r;

	if (o->max_rows < 1 || o->max_rows > ROWS_MOST)
		return err_set(e, SINK_EINVAL, "A step can have 1 to %d rows, not %zu.", static_cast<int>(ROWS_MOST),
			       o->max_rows);
	r = check_card(o->card, e);
	if (r)
		return r;
	d = static_cast<struct device *>(calloc(1, sizeof(*d)));
	if (!d)
		return err_set(e, SINK_ENOMEM, "There is no memory for a device.");
	d->o = *o;
	r = open_parts(d, e);
	if (r)
		close(d);
	else
		*ret = d;
	return r;
}

static int buffer_new(struct device *d, size_t floats, float **ret, struct err *e)
{
	const size_t bytes = (floats ? floats : 1) * sizeof(float);
	void *p;

	if (floats > SIZE_MAX / 8)
		return err_set(e, SINK_EINVAL, "A buffer of %zu numbers is too large.", floats);
	p = memory_new(d, bytes, "a buffer", e);
	if (!p)
		return SINK_ENOMEM;
	ok(d, cudaMemsetAsync(p, 0, bytes, d->stream), "clearing a buffer");
	*ret = static_cast<float *>(p);
	return 0;
}

/* Its size is not known any more, so it goes on counting as taken: buffers live as long as their device. */
static void buffer_free(struct device *d, float *b)
{
	memory_free(d, b, 0);
}

static void read(struct device *d, void *host, const void *from, size_t bytes)
{
	ok(d, cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, d->stream), "reading a result");
	ok(d, cudaStreamSynchronize(d->stream), "waiting for a result");
}

static void write(struct device *d, void *to, const void *host, size_t bytes)
{
	ok(d, cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, d->stream), "writing to a buffer");
	ok(d, cudaStreamSynchronize(d->stream), "writing to a buffer");
}

static int end(struct device *d, struct err *e)
{
	graphs_end(d);
	staging_end(d);
	ok(d, cudaStreamSynchronize(d->stream), "in a step");
	return d->failed.code ? err_set(e, d->failed.code, "%s", d->failed.text) : 0;
}

static void begin(struct device *d, const struct step *s, size_t *n, size_t *wanted)
{
	graphs_begin(d, s, n, wanted);
}

} // namespace CUDA_SPACE

using namespace CUDA_SPACE;

extern "C" const struct backend BACKEND_CUDA = {
	.name = "cuda",
	.about = "NVIDIA cards; chosen by the device",
	.page_type = DTYPE_F16,
	.probe = CUDA_SPACE::probe,
	.open = CUDA_SPACE::open,
	.close = CUDA_SPACE::close,
	.weight_new = CUDA_SPACE::weight_new,
	.weight_free = CUDA_SPACE::weight_free,
	.buffer_new = CUDA_SPACE::buffer_new,
	.buffer_free = CUDA_SPACE::buffer_free,
	.read = CUDA_SPACE::read,
	.write = CUDA_SPACE::write,
	.apart = true,
	.pages_attach = CUDA_SPACE::pages_attach,
	.pages_detach = CUDA_SPACE::pages_detach,
	.pages_room = CUDA_SPACE::pages_room,
	.page_copy = CUDA_SPACE::page_copy,
	.page_load = CUDA_SPACE::page_load,
	.page_save = CUDA_SPACE::page_save,
	.page_saved = CUDA_SPACE::page_saved,
	.begin = CUDA_SPACE::begin,
	.end = CUDA_SPACE::end,
	.angles = CUDA_SPACE::angles,
	.embed = CUDA_SPACE::embed,
	.norm = CUDA_SPACE::norm,
	.matmul = CUDA_SPACE::matmul,
	.experts = CUDA_SPACE::experts,
	.store = CUDA_SPACE::store,
	.attend = CUDA_SPACE::attend,
	.gather = CUDA_SPACE::gather,
	.top = CUDA_SPACE::top,
};

#ifndef KERNELS_STANDIN
extern "C" int cuda_cards(struct err *e)
{
	return cards(e);
}

extern "C" void cuda_card_about(int card, char *ret, size_t size)
{
	const int compute = compute_of(card);
	const double gib = 1 << 30;
	size_t free = 0, total = 0;
	cudaDeviceProp p;

	if (cudaGetDeviceProperties(&p, card) != cudaSuccess || cudaSetDevice(card) != cudaSuccess ||
	    cudaMemGetInfo(&free, &total) != cudaSuccess) {
		snprintf(ret, size, "cannot be asked: %s", cudaGetErrorString(cudaGetLastError()));
		return;
	}
	snprintf(ret, size, "%s, %.1f GiB (%.1f free), compute capability %d.%d", p.name,
		 static_cast<double>(total) / gib, static_cast<double>(free) / gib, compute / 10, compute % 10);
}
#endif
