/*
 * The stand-in's runtime: the card that does not exist, and its memory; see standin_runtime.h.
 *
 * Each allocation of the card ends at a page that cannot be touched, and the bytes up to there are looked at when it is
 * freed, so that writing past an end is noticed.
 */
#include "standin_card.h"

#include <sys/mman.h>

struct standin::card standin::card;

using namespace standin;

namespace
{

constexpr size_t PAGE = 4096, ALIGNED = 256, HOST_FILLED = 1 << 16;

struct allocation {
	unsigned char *p, *mapped;
	size_t bytes, mapped_bytes;
	bool host;
	allocation *next;
};

struct registered {
	void *p;
	size_t bytes;
	registered *next;
};

/* A kernel that asked for more shared memory than a block has at first. */
struct large {
	const void *kernel;
	size_t shared;
};

allocation *allocations;
registered *registrations;
large kernels[256];
size_t kernels_n;

const allocation *allocation_at(const void *p)
{
	const unsigned char *at = static_cast<const unsigned char *>(p);

	for (const allocation *a = allocations; a; a = a->next)
		if (at >= a->p && at < a->p + a->bytes)
			return a;
	return nullptr;
}

/* Whether these bytes are all of the card, or none of them is. */
cudaError_t where(const void *p, size_t bytes, bool *on_card)
{
	const allocation *a = allocation_at(p);

	*on_card = a && !a->host;
	if (!a || bytes <= static_cast<size_t>(a->p + a->bytes - static_cast<const unsigned char *>(p)))
		return cudaSuccess;
	return kept(cudaErrorInvalidValue);
}

cudaError_t check_copy(const void *to, size_t to_bytes, const void *from, size_t from_bytes, cudaMemcpyKind kind)
{
	bool to_card, from_card;

	if (where(to, to_bytes, &to_card) != cudaSuccess || where(from, from_bytes, &from_card) != cudaSuccess)
		return card.last;
	if (kind == cudaMemcpyDefault ||
	    (to_card == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
	     from_card == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)))
		return cudaSuccess;
	return kept(cudaErrorInvalidValue);
}

struct copy_arguments {
	unsigned char *to;
	size_t to_pitch;
	const unsigned char *from;
	size_t from_pitch, width, height;
};

void run_copy(const void *arguments)
{
	const copy_arguments *c = static_cast<const copy_arguments *>(arguments);

	for (size_t i = 0; i < c->height; i++)
		memmove(c->to + i * c->to_pitch, c->from + i * c->from_pitch, c->width);
}

struct set_arguments {
	void *to;
	int byte;
	size_t bytes;
};

void run_set(const void *arguments)
{
	const set_arguments *s = static_cast<const set_arguments *>(arguments);

	memset(s->to, s->byte, s->bytes);
}

size_t rounded(size_t bytes, size_t to)
{
	return (bytes + to - 1) / to * to;
}

/* Filled with NaNs, the last bytes before a page that is not there. */
allocation *allocate(size_t bytes, bool host)
{
	const size_t inside = rounded(rounded(bytes, ALIGNED), PAGE);
	void *p = mmap(nullptr, inside + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		       0);
	allocation *a = static_cast<allocation *>(calloc(1, sizeof(*a)));

	if (p == MAP_FAILED || !a)
		standin::die("no memory");
	a->mapped = static_cast<unsigned char *>(p);
	a->mapped_bytes = inside + PAGE;
	mprotect(a->mapped + inside, PAGE, PROT_NONE);
	/* The host's pinned buffers are large and made for each device: what small ones are enough to show. */
	memset(a->mapped, 0xff, host && inside > HOST_FILLED ? HOST_FILLED : inside);
	a->p = a->mapped + inside - rounded(bytes, ALIGNED);
	a->bytes = bytes;
	a->host = host;
	a->next = allocations;
	allocations = a;
	*(host ? &card.taken_host : &card.taken) += bytes;
	return a;
}

cudaError_t release(void *p, bool host)
{
	allocation **at = &allocations;

	while (*at && ((*at)->p != p || (*at)->host != host))
		at = &(*at)->next;
	if (!*at)
		return kept(cudaErrorInvalidValue);
	allocation *a = *at;

	const bool filled = !host || a->mapped_bytes - PAGE <= HOST_FILLED;

	for (size_t i = a->bytes; filled && i < rounded(a->bytes, ALIGNED); i++)
		if (a->p[i] != 0xff)
			standin::die("byte %zu of %zu of an allocation was written", i, a->bytes);
	*at = a->next;
	*(host ? &card.taken_host : &card.taken) -= a->bytes;
	munmap(a->mapped, a->mapped_bytes);
	free(a);
	return cudaSuccess;
}

} // namespace

size_t standin::shared_asked(const void *kernel)
{
	for (size_t i = 0; i < kernels_n; i++)
		if (kernels[i].kernel == kernel)
			return kernels[i].shared;
	return standin::SHARED_UNASKED;
}

cudaError_t standin::kept(cudaError_t e)
{
	if (e != cudaSuccess && e != cudaErrorNotReady)
		card.last = e;
	return e;
}

cudaError_t standin::called()
{
	card.calls++;
	if (card.fails_at && card.calls >= card.fails_at)
		card.failed = true;
	if (card.cards == 0)
		return kept(card.driver == 0 ? cudaErrorInsufficientDriver : cudaErrorNoDevice);
	if (card.driver < 13000)
		return kept(cudaErrorInsufficientDriver);
	return card.failed ? kept(cudaErrorIllegalAddress) : cudaSuccess;
}

/* Errors and the device. */
const char *cudaGetErrorName(cudaError_t e)
{
	switch (e) {
#define NAME(name)                                                                                                     \
	case name:                                                                                                     \
		return #name
		NAME(cudaSuccess);
		NAME(cudaErrorInvalidValue);
		NAME(cudaErrorMemoryAllocation);
		NAME(cudaErrorInvalidConfiguration);
		NAME(cudaErrorInsufficientDriver);
		NAME(cudaErrorNoDevice);
		NAME(cudaErrorInvalidDevice);
		NAME(cudaErrorNoKernelImageForDevice);
		NAME(cudaErrorNotReady);
		NAME(cudaErrorIllegalAddress);
		NAME(cudaErrorStreamCaptureUnsupported);
		NAME(cudaErrorStreamCaptureInvalidated);
#undef NAME
	default:
		return "cudaErrorUnknown";
	}
}

const char *cudaGetErrorString(cudaError_t e)
{
	switch (e) {
	case cudaSuccess:
		return "no error";
	case cudaErrorMemoryAllocation:
		return "out of memory";
	case cudaErrorIllegalAddress:
		return "an illegal memory access was encountered";
	case cudaErrorInsufficientDriver:
		return "CUDA driver version is insufficient for CUDA runtime version";
	case cudaErrorNoDevice:
		return "no CUDA-capable device is detected";
	case cudaErrorInvalidDevice:
		return "invalid device ordinal";
	case cudaErrorNoKernelImageForDevice:
		return "no kernel image is available for execution on the device";
	default:
		return cudaGetErrorName(e);
	}
}

cudaError_t cudaGetLastError()
{
	const cudaError_t e = card.last;

	card.last = card.failed ? cudaErrorIllegalAddress : cudaSuccess;
	return e;
}

cudaError_t cudaPeekAtLastError()
{
	return card.last;
}

cudaError_t cudaDriverGetVersion(int *version)
{
	*version = card.driver;
	return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
	*version = 13000;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
	*count = 0;
	CALLED();
	*count = card.cards;
	return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
	CALLED();
	*device = 0;
	return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
	CALLED();
	return device >= 0 && device < card.cards ? cudaSuccess : kept(cudaErrorInvalidDevice);
}

cudaError_t cudaInitDevice(int device, unsigned, unsigned)
{
	return cudaSetDevice(device);
}

cudaError_t cudaSetDeviceFlags(unsigned)
{
	CALLED();
	return cudaSuccess;
}

cudaError_t cudaDeviceReset()
{
	CALLED();
	return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize()
{
	CALLED();
	return spoils_captures() ? kept(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr which, int device)
{
	CALLED();
	if (device < 0 || device >= card.cards)
		return kept(cudaErrorInvalidDevice);
	switch (which) {
	case cudaDevAttrMaxThreadsPerBlock:
		*value = standin::THREADS_MOST;
		break;
	case cudaDevAttrMaxSharedMemoryPerBlock:
		*value = standin::SHARED_UNASKED;
		break;
	case cudaDevAttrMultiProcessorCount:
		*value = 4;
		break;
	case cudaDevAttrL2CacheSize:
		*value = 50 << 20;
		break;
	case cudaDevAttrMaxThreadsPerMultiProcessor:
		*value = 2048;
		break;
	case cudaDevAttrComputeCapabilityMajor:
		*value = 9;
		break;
	case cudaDevAttrComputeCapabilityMinor:
		*value = 0;
		break;
	case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
		*value = 228 << 10;
		break;
	case cudaDevAttrMaxSharedMemoryPerBlockOptin:
		*value = standin::SHARED_MOST;
		break;
	case cudaDevAttrHostRegisterSupported:
		*value = 1;
		break;
	default:
		return kept(cudaErrorInvalidValue);
	}
	return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
	CALLED();
	if (device < 0 || device >= card.cards)
		return kept(cudaErrorInvalidDevice);
	*p = cudaDeviceProp{};
	strcpy(p->name, "Stand-in");
	p->totalGlobalMem = card.memory;
	p->sharedMemPerBlock = standin::SHARED_UNASKED;
	p->sharedMemPerBlockOptin = standin::SHARED_MOST;
	p->sharedMemPerMultiprocessor = 228 << 10;
	p->major = 9;
	p->multiProcessorCount = 4;
	p->warpSize = 32;
	p->maxThreadsPerBlock = standin::THREADS_MOST;
	p->maxThreadsPerMultiProcessor = 2048;
	p->regsPerBlock = 65536;
	p->l2CacheSize = 50 << 20;
	p->memoryBusWidth = 5120;
	return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
	CALLED();
	*available = card.memory > card.taken ? card.memory - card.taken : 0;
	*total = card.memory;
	return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute which, int value)
{
	CALLED();
	if (!card.has_code)
		return kept(cudaErrorNoKernelImageForDevice);
	if (which != cudaFuncAttributeMaxDynamicSharedMemorySize)
		return cudaSuccess;
	if (value < 0 || static_cast<size_t>(value) > standin::SHARED_MOST)
		return kept(cudaErrorInvalidValue);
	size_t i = 0;

	while (i < kernels_n && kernels[i].kernel != kernel)
		i++;
	if (i == sizeof(kernels) / sizeof(kernels[0]))
		standin::die("more kernels than the stand-in counts on");
	kernels_n = i == kernels_n ? i + 1 : kernels_n;
	kernels[i] = large{ kernel, static_cast<size_t>(value) };
	return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *ret, const void *kernel)
{
	CALLED();
	if (!card.has_code)
		return kept(cudaErrorNoKernelImageForDevice);
	*ret = cudaFuncAttributes{};
	ret->maxThreadsPerBlock = standin::THREADS_MOST;
	ret->maxDynamicSharedSizeBytes = static_cast<int>(shared_asked(kernel));
	ret->ptxVersion = ret->binaryVersion = 90;
	return cudaSuccess;
}

/* Memory. */
cudaError_t cudaMalloc(void **p, size_t bytes)
{
	CALLED();
	*p = nullptr;
	if (spoils_captures())
		return kept(cudaErrorStreamCaptureUnsupported);
	if (bytes == 0)
		return cudaSuccess;
	if (bytes > card.memory || card.taken > card.memory - bytes)
		return kept(cudaErrorMemoryAllocation);
	*p = allocate(bytes, false)->p;
	return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
	const cudaError_t released = p ? release(p, false) : cudaSuccess;

	CALLED();
	return spoils_captures() ? kept(cudaErrorStreamCaptureUnsupported) : released;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
	CALLED();
	*p = nullptr;
	if (spoils_captures())
		return kept(cudaErrorStreamCaptureUnsupported);
	if (bytes != 0)
		*p = allocate(bytes, true)->p;
	return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes, unsigned flags)
{
	return cudaHostAlloc(p, bytes, flags);
}

cudaError_t cudaFreeHost(void *p)
{
	const cudaError_t released = p ? release(p, true) : cudaSuccess;

	CALLED();
	return spoils_captures() ? kept(cudaErrorStreamCaptureUnsupported) : released;
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned)
{
	CALLED();
	if (!p || bytes == 0 || allocation_at(p))
		return kept(cudaErrorInvalidValue);
	for (registered *r = registrations; r; r = r->next)
		if (static_cast<char *>(p) < static_cast<char *>(r->p) + r->bytes &&
		    static_cast<char *>(r->p) < static_cast<char *>(p) + bytes)
			return kept(cudaErrorHostMemoryAlreadyRegistered);
	registered *r = static_cast<registered *>(malloc(sizeof(*r)));

	if (!r)
		standin::die("no memory");
	*r = registered{ p, bytes, registrations };
	registrations = r;
	card.objects++;
	return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p)
{
	registered **at = &registrations;
	bool found = false;

	while (*at && (*at)->p != p)
		at = &(*at)->next;
	if (*at) {
		registered *r = *at;

		*at = r->next;
		free(r);
		card.objects--;
		found = true;
	}
	CALLED();
	return found ? cudaSuccess : kept(cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned)
{
	CALLED();
	*device = host;
	return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
			      size_t height, cudaMemcpyKind kind, cudaStream_t s)
{
	const copy_arguments c = { static_cast<unsigned char *>(to),
				   to_pitch,
				   static_cast<const unsigned char *>(from),
				   from_pitch,
				   width,
				   height };

	CALLED();
	if (width > to_pitch || width > from_pitch)
		return kept(cudaErrorInvalidValue);
	if (width == 0 || height == 0)
		return cudaSuccess;
	const cudaError_t e =
		check_copy(to, (height - 1) * to_pitch + width, from, (height - 1) * from_pitch + width, kind);

	return e != cudaSuccess ? e : enqueue(s, run_copy, &c, sizeof(c));
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s)
{
	return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, s);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
	if (spoils_captures())
		return kept(cudaErrorStreamCaptureUnsupported);
	return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
			 cudaMemcpyKind kind)
{
	if (spoils_captures())
		return kept(cudaErrorStreamCaptureUnsupported);
	return cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, height, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t s)
{
	const set_arguments a = { to, byte, bytes };
	const allocation *there = allocation_at(to);

	CALLED();
	if (bytes == 0)
		return cudaSuccess;
	if (!there || bytes > static_cast<size_t>(there->p + there->bytes - static_cast<unsigned char *>(to)))
		return kept(cudaErrorInvalidValue);
	return enqueue(s, run_set, &a, sizeof(a));
}

cudaError_t cudaMemset(void *to, int byte, size_t bytes)
{
	return cudaMemsetAsync(to, byte, bytes, nullptr);
}

/* Hooks of the tests. */
void standin_fail_after(int n)
{
	card.fails_at = n > 0 ? card.calls + static_cast<unsigned long>(n) : 0;
	card.failed = false;
	card.last = cudaSuccess;
}

unsigned long standin_calls(void)
{
	return card.calls;
}

void standin_memory(size_t bytes)
{
	card.memory = bytes ? bytes : MEMORY;
}

size_t standin_taken(void)
{
	return card.taken;
}

size_t standin_taken_host(void)
{
	return card.taken_host;
}

size_t standin_objects(void)
{
	return card.objects;
}

void standin_cards(int count, int driver, int has_code)
{
	card.cards = count;
	card.driver = driver;
	card.has_code = has_code != 0;
}
