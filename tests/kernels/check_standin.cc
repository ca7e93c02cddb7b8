/*
 * The stand-in itself: what it says a card would do, against plain loops; and that it notices what a card would not
 * forgive. It is compiled as the kernels are, by port.h.
 */
extern "C" {
#include "kit.h"
}
#include "port.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace CUDA_SPACE
{

enum { THREADS = 96, BLOCKS = 5 };

/* Numbers of the card's memory that a test reads and writes. */
template <typename T> struct on_card {
	T *p;
	size_t n;

	explicit on_card(size_t n_, const T *host = nullptr) : p(nullptr), n(n_)
	{
		assert_int_equal(cudaMalloc(&p, n * sizeof(T)), cudaSuccess);
		if (host)
			assert_int_equal(cudaMemcpy(p, host, n * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
	}
	~on_card()
	{
		cudaFree(p);
	}
	void read(T *host) const
	{
		assert_int_equal(cudaMemcpy(host, p, n * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
	}
};

static __global__ void reverse_kernel(const int *x, int *y)
{
	__shared__ int held[THREADS];
	const unsigned t = threadIdx.x, first = blockIdx.x * THREADS;

	grid_wait();
	if (held[t] != -1)
		__trap();
	held[t] = x[first + t];
	__syncthreads();
	y[first + t] = held[THREADS - 1 - t];
	__syncthreads();
	held[t] = -1;
}

static void barriers_divide_what_threads_share(void **)
{
	int x[BLOCKS * THREADS], y[BLOCKS * THREADS];

	for (int i = 0; i < BLOCKS * THREADS; i++)
		x[i] = i;
	on_card<int> from(BLOCKS * THREADS, x), to(BLOCKS * THREADS);

	for (int i = 0; i < 4; i++)
		assert_int_equal(LAUNCH((reverse_kernel), BLOCKS, THREADS, 0, nullptr, from.p, to.p), cudaSuccess);
	to.read(y);
	for (int i = 0; i < BLOCKS * THREADS; i++)
		assert_int_equal(y[i], i / THREADS * THREADS + THREADS - 1 - i % THREADS);
}

static __global__ void place_kernel(uint3 *y, unsigned *votes)
{
	const dim3 b = blockDim, g = gridDim;
	const unsigned t = (threadIdx.z * b.y + threadIdx.y) * b.x + threadIdx.x;
	const unsigned block = (blockIdx.z * g.y + blockIdx.y) * g.x + blockIdx.x;
	const unsigned n = block * (b.x * b.y * b.z) + t;

	grid_wait();
	y[n] = uint3{ blockIdx.x * b.x + threadIdx.x, blockIdx.y * b.y + threadIdx.y, blockIdx.z * b.z + threadIdx.z };
	votes[n] = static_cast<unsigned>(__syncthreads_count(t % 3 == 0)) |
		   static_cast<unsigned>(__syncthreads_or(t == 7)) << 8 |
		   static_cast<unsigned>(__syncthreads_and(t != 7)) << 9;
}

static void threads_have_places_in_three_dimensions(void **)
{
	const dim3 grid(2, 3, 2), block(4, 2, 3);
	uint3 y[12 * 24];
	unsigned votes[12 * 24];
	on_card<uint3> to(12 * 24);
	on_card<unsigned> counted(12 * 24);

	assert_int_equal(LAUNCH((place_kernel), grid, block, 0, nullptr, to.p, counted.p), cudaSuccess);
	to.read(y);
	counted.read(votes);
	for (unsigned i = 0; i < 12 * 24; i++) {
		const unsigned b = i / 24, t = i % 24;

		assert_int_equal(y[i].x, b % 2 * 4 + t % 4);
		assert_int_equal(y[i].y, b / 2 % 3 * 2 + t / 4 % 2);
		assert_int_equal(y[i].z, b / 6 * 3 + t / 8);
		assert_int_equal(votes[i], 8 | 1 << 8);
	}
}

template <typename T> static __global__ void shuffle_kernel(T *y)
{
	const unsigned lane = threadIdx.x % 32;
	const T mine = static_cast<T>(threadIdx.x * 3);
	T *to = y + threadIdx.x * 6;

	grid_wait();
	to[0] = __shfl_sync(0xffffffff, mine, static_cast<int>(lane + 5));
	to[1] = __shfl_xor_sync(0xffffffff, mine, 9);
	to[2] = __shfl_down_sync(0xffffffff, mine, 3, 16);
	to[3] = __shfl_up_sync(0xffffffff, mine, 3, 16);
	if (lane < 12) /* a part of the warp, more than once, while the others are elsewhere */
		for (int i = 0; i < 3; i++)
			to[4] = __shfl_sync(0xfff, mine, i);
	else
		to[4] = mine;
	to[5] = static_cast<T>(__ballot_sync(0xffffffff, lane % 5 == 0) & 0xffff);
}

template <typename T> static void check_shuffles()
{
	T y[64 * 6];
	on_card<T> to(64 * 6);

	for (int i = 0; i < 2; i++)
		assert_int_equal(LAUNCH((shuffle_kernel<T>), 1, 64, 0, nullptr, to.p), cudaSuccess);
	to.read(y);
	for (unsigned t = 0; t < 64; t++) {
		const unsigned warp = t / 32 * 32, lane = t % 32, half = lane / 16 * 16;
		const unsigned from[5] = { (lane + 5) % 32, lane ^ 9, lane + 3 < half + 16 ? lane + 3 : lane,
					   lane >= half + 3 ? lane - 3 : lane, lane < 12 ? 2 : lane };

		for (int i = 0; i < 5; i++)
			assert_true(y[t * 6 + i] == static_cast<T>((warp + from[i]) * 3));
		assert_true(y[t * 6 + 5] == static_cast<T>(1 | 1 << 5 | 1 << 10 | 1 << 15));
	}
}

static void lanes_see_each_other_in_shuffles(void **)
{
	check_shuffles<int>();
	check_shuffles<unsigned long long>();
	check_shuffles<float>();
	check_shuffles<double>();
}

static __global__ void atomic_kernel(int *sum, unsigned *largest, float *fsum, unsigned *inc, unsigned *reduced)
{
	grid_wait();
	atomicAdd(sum, static_cast<int>(threadIdx.x));
	atomicMax(largest, blockIdx.x * 1000 + threadIdx.x);
	atomicAdd(fsum, 0.5f);
	atomicInc(inc, 6);
	if (__reduce_add_sync(0xffffffff, threadIdx.x % 32) != 496 || __reduce_max_sync(0xffffffff, -3) != -3)
		__trap();
	if (atomicCAS(reduced, 0u, 1u) == 0)
		atomicAdd(reduced, 41u);
}

static void atomics_add_up(void **)
{
	const unsigned zeros[5] = {};
	unsigned y[5];
	float fsum;
	on_card<unsigned> to(5, zeros);

	assert_int_equal(LAUNCH((atomic_kernel), BLOCKS, THREADS, 0, nullptr, reinterpret_cast<int *>(to.p), to.p + 1,
				reinterpret_cast<float *>(to.p + 2), to.p + 3, to.p + 4),
			 cudaSuccess);
	to.read(y);
	assert_int_equal(y[0], BLOCKS * THREADS * (THREADS - 1) / 2);
	assert_int_equal(y[1], (BLOCKS - 1) * 1000 + THREADS - 1);
	memcpy(&fsum, &y[2], 4);
	assert_true(fsum == BLOCKS * THREADS / 2);
	assert_int_equal(y[3], BLOCKS * THREADS % 7);
	assert_int_equal(y[4], 42);
}

/* A warp's product: by tiles from shared memory (b as the rows of its transpose), or word by word. */
static __global__ void product_kernel(const uint16_t *a, const uint16_t *b, float *c, int tiles)
{
	__shared__ __align__(16) uint16_t left[16][16], right[16][8];
	const unsigned t = threadIdx.x, g = t / 4, k = 2 * (t % 4);
	uint32_t fa[4], fb[4];
	float fc[4];

	grid_wait();
	copy_begin(&left[t / 2][t % 2 * 8], a + t * 8);
	copy_group();
	if (t < 16)
		copy_begin(&right[t][0], b + t * 8);
	copy_group();
	copy_wait<1>();
	if (left[t / 2][t % 2 * 8] == 0xffff || (t < 16 && right[t][0] != 0xffff))
		__trap();
	copy_wait<0>();
	__syncwarp();
	if (tiles) {
		load_tiles(fa, &left[t % 16][t / 16 * 8]);
		load_tiles_turned(fb, &right[t % 16][0]);
	} else {
		for (unsigned i = 0; i < 4; i++)
			memcpy(&fa[i], &left[g + i % 2 * 8][k + i / 2 * 8], 4);
		for (unsigned i = 0; i < 2; i++)
			fb[i] = right[k + i * 8][g] | static_cast<uint32_t>(right[k + i * 8 + 1][g]) << 16;
	}
	for (unsigned i = 0; i < 4; i++)
		fc[i] = c[(g + i / 2 * 8) * 8 + k + i % 2];
	mma_halves(fc, fa, fb);
	for (unsigned i = 0; i < 4; i++)
		c[(g + i / 2 * 8) * 8 + k + i % 2] = fc[i];
}

static void tensor_cores_multiply_halves(void **)
{
	kit_random r = { 5 };
	uint16_t a[16 * 16], b[16 * 8];
	float c[16 * 8], y[16 * 8];

	for (int tiles = 0; tiles < 2; tiles++) {
		for (uint16_t &x : a)
			x = half_of_float(static_cast<float>(kit_below(&r, 64)) - 32);
		for (uint16_t &x : b)
			x = half_of_float(static_cast<float>(kit_below(&r, 64)) / 8);
		for (float &x : c)
			x = static_cast<float>(kit_below(&r, 64));
		on_card<uint16_t> left(16 * 16, a), right(16 * 8, b);
		on_card<float> to(16 * 8, c);

		assert_int_equal(LAUNCH((product_kernel), 1, 32, 0, nullptr, left.p, right.p, to.p, tiles),
				 cudaSuccess);
		to.read(y);
		for (int i = 0; i < 16; i++)
			for (int j = 0; j < 8; j++) {
				float sum = c[i * 8 + j];

				for (int k = 0; k < 16; k++)
					sum += float_of_half(a[i * 16 + k]) * float_of_half(b[k * 8 + j]);
				assert_true(y[i * 8 + j] == sum);
			}
	}
}

static __global__ void bytes_kernel(const int8_t *a, const int8_t *b, int32_t *c)
{
	const unsigned t = threadIdx.x, g = t / 4, k = 4 * (t % 4);
	uint32_t fa[4], fb[2] = {};
	int32_t fc[4] = { 1, 2, 3, 4 };

	grid_wait();
	for (unsigned i = 0; i < 4; i++)
		memcpy(&fa[i], a + (g + i % 2 * 8) * 32 + k + i / 2 * 16, 4);
	for (unsigned i = 0; i < 2; i++)
		for (unsigned j = 0; j < 4; j++)
			fb[i] |= static_cast<uint32_t>(static_cast<uint8_t>(b[(k + i * 16 + j) * 8 + g])) << 8 * j;
	mma_bytes(fc, fa, fb);
	for (unsigned i = 0; i < 4; i++)
		c[(g + i / 2 * 8) * 8 + 2 * (t % 4) + i % 2] = fc[i];
}

static void tensor_cores_multiply_bytes(void **)
{
	kit_random r = { 6 };
	int8_t a[16 * 32], b[32 * 8];
	int32_t y[16 * 8];

	for (int8_t &x : a)
		x = static_cast<int8_t>(kit_below(&r, 256));
	for (int8_t &x : b)
		x = static_cast<int8_t>(kit_below(&r, 256));
	on_card<int8_t> left(sizeof(a), a), right(sizeof(b), b);
	on_card<int32_t> to(16 * 8);

	assert_int_equal(LAUNCH((bytes_kernel), 1, 32, 0, nullptr, left.p, right.p, to.p), cudaSuccess);
	to.read(y);
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 8; j++) {
			int32_t sum = 1 + i / 8 * 2 + j % 2;

			for (int k = 0; k < 32; k++)
				sum += a[i * 32 + k] * b[k * 8 + j];
			assert_int_equal(y[i * 8 + j], sum);
		}
}

static __global__ void add_kernel(int *x, const int *y)
{
	SHARED_DYNAMIC(int, held);

	grid_wait();
	held[threadIdx.x] = y[threadIdx.x];
	__syncthreads();
	x[threadIdx.x] += held[threadIdx.x ^ 1];
}

static void graphs_do_again_what_was_captured(void **)
{
	const int zeros[32] = {};
	int y[32], host[32] = {};
	cudaStream_t s;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	on_card<int> x(32, zeros), add(32, zeros);

	assert_int_equal(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), cudaSuccess);
	assert_int_equal(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), cudaSuccess);
	assert_int_equal(cudaMemcpyAsync(add.p, host, sizeof(host), cudaMemcpyHostToDevice, s), cudaSuccess);
	assert_int_equal(LAUNCH((add_kernel), 1, 32, 128, s, x.p, add.p), cudaSuccess);
	assert_int_equal(LAUNCH((add_kernel), 1, 32, 128, s, x.p, add.p), cudaSuccess);
	assert_int_equal(cudaStreamEndCapture(s, &graph), cudaSuccess);
	assert_int_equal(cudaGraphInstantiate(&exec, graph), cudaSuccess);
	assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
	x.read(y);
	assert_int_equal(y[3], 0); /* nothing was done yet */
	for (int round = 1; round < 4; round++) {
		for (int i = 0; i < 32; i++)
			host[i] = i;
		assert_int_equal(cudaGraphLaunch(exec, s), cudaSuccess);
		x.read(y);
		for (int i = 0; i < 32; i++)
			assert_int_equal(y[i], 2 * round * (i ^ 1));
	}
	assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess);

	void *p; /* what a capture does not bear */
	assert_int_equal(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), cudaSuccess);
	assert_int_equal(cudaMalloc(&p, 8), cudaErrorStreamCaptureUnsupported);
	assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
	assert_int_equal(cudaStreamDestroy(s), cudaSuccess);
}

static void faults_are_made_to_order(void **)
{
	char host[64];
	void *p, *q;

	cudaGetLastError();
	standin_memory(standin_taken() + 1000);
	assert_int_equal(cudaMalloc(&p, 600), cudaSuccess);
	assert_int_equal(cudaMalloc(&q, 600), cudaErrorMemoryAllocation);
	standin_memory(0);
	assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
	assert_int_equal(cudaMemcpy(host, p, 64, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
	assert_int_equal(cudaMemcpy(static_cast<char *>(p) + 599, host, 2, cudaMemcpyHostToDevice),
			 cudaErrorInvalidValue);
	assert_int_equal(LAUNCH((reverse_kernel), 1, 1025, 0, nullptr, nullptr, nullptr),
			 cudaErrorInvalidConfiguration);
	assert_int_equal(LAUNCH((reverse_kernel), 1, 32, 49153, nullptr, nullptr, nullptr), cudaErrorInvalidValue);
	standin_fail_after(2);
	assert_int_equal(cudaStreamSynchronize(nullptr), cudaSuccess);
	assert_int_equal(cudaStreamSynchronize(nullptr), cudaErrorIllegalAddress);
	assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
	assert_int_equal(cudaFree(p), cudaErrorIllegalAddress);
	standin_fail_after(0);
	assert_int_equal(cudaGetLastError(), cudaSuccess);
	standin_cards(0, 13000, 1);
	int n;
	assert_int_equal(cudaGetDeviceCount(&n), cudaErrorNoDevice);
	standin_cards(1, 12040, 1);
	assert_int_equal(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
	standin_cards(1, 13000, 1);
	cudaGetLastError();
}

/* Each fault of its own number would hang a card or give it what nobody can foretell. */
static __global__ void wrong_kernel(int fault, const int *x, int *y)
{
	__shared__ int held[64];
	const unsigned t = threadIdx.x;

	if (fault == 0 && t == 5)
		return;
	grid_wait();
	held[t] = x[t];
	if (fault == 1 && t == 5)
		return;
	if (fault != 2 || t != 5)
		__syncthreads();
	if (fault == 3 && t < 8)
		held[t] = __shfl_sync(0xffffffff, held[t], 3);
	if (fault == 4)
		held[t] = __shfl_sync(0xffff, held[t], 3);
	if (fault == 5 && t < 8)
		held[t] = __shfl_sync(0xff, held[t], 9);
	if (fault == 6)
		held[t] += __ldg(reinterpret_cast<const int *>(reinterpret_cast<const char *>(x) + 1));
	if (fault == 7)
		copy_begin(y, x);
	if (fault == 8) {
		if (t % 2)
			held[t] = __shfl_sync(0xffffffff, held[t], 3);
		else
			held[t] = __shfl_sync(0xffffffff, held[t], 4);
	}
	y[t + (fault == 9)] = held[t];
}

static void what_a_card_would_not_forgive_ends_the_program(void **)
{
	for (int fault = 0; fault < 10; fault++) {
		const pid_t child = fork();
		int status;

		if (child == 0) {
			fclose(stderr);
			signal(SIGSEGV, SIG_DFL);
			on_card<int> x(64), y(64);

			cudaMemset(x.p, 0, 256);
			LAUNCH((wrong_kernel), 1, 64, 0, nullptr, fault, x.p, y.p);
			cudaFree(y.p);
			_exit(0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_not_equal(status, 0);
		if (fault != 9) /* beyond the last page: a signal */
			assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 70);
	}
}

} // namespace CUDA_SPACE

using namespace CUDA_SPACE;

int main()
{
	const CMUnitTest tests[] = {
		cmocka_unit_test(barriers_divide_what_threads_share),
		cmocka_unit_test(threads_have_places_in_three_dimensions),
		cmocka_unit_test(lanes_see_each_other_in_shuffles),
		cmocka_unit_test(atomics_add_up),
		cmocka_unit_test(tensor_cores_multiply_halves),
		cmocka_unit_test(tensor_cores_multiply_bytes),
		cmocka_unit_test(graphs_do_again_what_was_captured),
		cmocka_unit_test(faults_are_made_to_order),
		cmocka_unit_test(what_a_card_would_not_forgive_ends_the_program),
	};

	return cmocka_run_group_tests(tests, nullptr, nullptr);
}
