/*
 * An experiment, not a test: does a card's memory outlive the process that took it, when somebody holds a descriptor of
 * it? (cuMemCreate with a POSIX descriptor, exported; DESIGN, section 8.) If so, the service manager could hold weights
 * and caches over a restart, as it does the files of pages.
 *
 * The first process plays the service manager and never touches the card. A second one takes memory, writes a pattern,
 * hands over the descriptor and kills itself. A third is given the descriptor, maps the memory and looks.
 *
 *	nvcc -std=c++20 -O2 -o try_outlive try_outlive.cu -ldl && ./try_outlive [MIB]
 */
#include <cuda.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_ms()
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
}

/* The driver's functions, found when they are wanted, so that this program is built without a driver. */
template <typename F> static F *driver(const char *name)
{
	static void *const lib = dlopen("libcuda.so.1", RTLD_NOW);
	void *f = lib ? dlsym(lib, name) : NULL;

	if (!f) {
		printf("The driver has no %s.\n", name);
		exit(2);
	}
	return reinterpret_cast<F *>(f);
}

#define DRIVER(f) driver<decltype(f)>(#f)

static void must(CUresult r, const char *what)
{
	const char *why = "unknown";

	if (r == CUDA_SUCCESS)
		return;
	DRIVER(cuGetErrorString)(r, &why);
	printf("%s: %s\n", what, why);
	exit(1);
}

static void start_card()
{
	CUdevice device;
	CUcontext context;

	must(DRIVER(cuInit)(0), "cuInit");
	must(DRIVER(cuDeviceGet)(&device, 0), "cuDeviceGet");
	must(driver<CUresult(CUcontext *, CUdevice)>("cuDevicePrimaryCtxRetain")(&context, device), "a context");
	must(driver<CUresult(CUcontext)>("cuCtxSetCurrent")(context), "a context");
}

static CUdeviceptr map(CUmemGenericAllocationHandle memory, size_t bytes)
{
	CUmemAccessDesc access = {};
	CUdeviceptr at;

	access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
	must(DRIVER(cuMemAddressReserve)(&at, bytes, 0, 0, 0), "addresses");
	must(DRIVER(cuMemMap)(at, bytes, 0, memory, 0), "mapping");
	must(DRIVER(cuMemSetAccess)(at, bytes, &access, 1), "access");
	return at;
}

static void free_memory(const char *when)
{
	size_t free, total;

	must(driver<CUresult(size_t *, size_t *)>("cuMemGetInfo_v2")(&free, &total), "memory");
	printf("%s: %zu MiB of the card's memory are free\n", when, free >> 20);
	fflush(stdout);
}

static uint32_t pattern(size_t i)
{
	return static_cast<uint32_t>(i * 2654435761u + 12345);
}

static void send_fd(int to, int fd)
{
	char byte = 0, room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec data = { &byte, 1 };
	struct msghdr m = {};

	m.msg_iov = &data;
	m.msg_iovlen = 1;
	m.msg_control = room;
	m.msg_controllen = sizeof(room);
	CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
	CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
	CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(fd));
	if (sendmsg(to, &m, 0) != 1)
		perror("sendmsg");
}

static int receive_fd(int from)
{
	char byte, room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec data = { &byte, 1 };
	struct msghdr m = {};
	int fd = -1;

	m.msg_iov = &data;
	m.msg_iovlen = 1;
	m.msg_control = room;
	m.msg_controllen = sizeof(room);
	if (recvmsg(from, &m, 0) == 1 && CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

/* Takes memory, writes to it, gives its descriptor away and dies as by kill -9. */
static void make(size_t bytes, int to)
{
	CUmemAllocationProp prop = {};
	CUmemGenericAllocationHandle memory;
	uint32_t *host = static_cast<uint32_t *>(malloc(bytes));
	int fd = -1;

	start_card();
	free_memory("before");
	prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
	prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	must(DRIVER(cuMemCreate)(&memory, bytes, &prop, 0), "cuMemCreate");
	for (size_t i = 0; host && i < bytes / sizeof(*host); i++)
		host[i] = pattern(i);
	must(driver<CUresult(CUdeviceptr, const void *, size_t)>("cuMemcpyHtoD_v2")(map(memory, bytes), host, bytes),
	     "writing");
	must(DRIVER(cuMemExportToShareableHandle)(&fd, memory, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0), "export");
	free_memory("taken");
	send_fd(to, fd);
	kill(getpid(), SIGKILL);
}

static int look(size_t bytes, int fd)
{
	CUmemGenericAllocationHandle memory;
	uint32_t *host = static_cast<uint32_t *>(malloc(bytes));
	double began, mapped;
	CUdeviceptr at;
	size_t wrong = 0;

	start_card();
	free_memory("after the death of its owner");
	began = now_ms();
	must(DRIVER(cuMemImportFromShareableHandle)(&memory, reinterpret_cast<void *>(static_cast<intptr_t>(fd)),
						    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
	     "import");
	at = map(memory, bytes);
	mapped = now_ms() - began;
	must(driver<CUresult(void *, CUdeviceptr, size_t)>("cuMemcpyDtoH_v2")(host, at, bytes), "reading");
	for (size_t i = 0; host && i < bytes / sizeof(*host); i++)
		wrong += host[i] != pattern(i);
	printf("imported and mapped in %.2f ms; %zu of %zu numbers are wrong\n", mapped, wrong, bytes / sizeof(*host));
	fflush(stdout);
	return wrong ? 1 : 0;
}

int main(int argc, char **argv)
{
	const size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 1024, bytes = mib << 20;
	int pair[2], fd, status = 0;
	pid_t child;

	if (bytes == 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		return 2;
	child = fork();
	if (child == 0)
		make(bytes, pair[1]);
	close(pair[1]);
	fd = receive_fd(pair[0]);
	waitpid(child, &status, 0);
	if (fd < 0)
		return 1;
	printf("the owner died of signal %d; descriptor %d is held\n", WTERMSIG(status), fd);
	fflush(stdout);
	child = fork();
	if (child == 0)
		_exit(look(bytes, fd));
	waitpid(child, &status, 0);
	return WEXITSTATUS(status);
}
