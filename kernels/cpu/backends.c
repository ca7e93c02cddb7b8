/*
 * The rows of the CPU in the list of backends: which instructions each needs. In a file of its own, compiled without
 * any of them, since it runs before anybody knows.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "backends.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu.h"

static int probe_any(struct err *e)
{
	(void)e;
	return 0;
}

static int open_scalar(const struct device_options *o, struct device **ret, struct err *e)
{
	return cpu_open(&isa_scalar, o, ret, e);
}

const struct backend backend_scalar = {
	.name = "scalar",
	.about = "plain C, the same bits as avx2, avx512 and amx on any machine",
	.probe = probe_any,
	.open = open_scalar,
	FAST_OPS,
};

#ifdef __x86_64__

/* Not every compiler's __builtin_cpu_supports knows this one. That the system saves the registers, AVX2 says. */
static bool has_f16c(void)
{
	unsigned a, b, c = 0, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static int probe_avx2(struct err *e)
{
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
		return 0;
	return err_set(e, SINK_EDEVICE, "This processor has no AVX2 with FMA and F16C.");
}

static int open_avx2(const struct device_options *o, struct device **ret, struct err *e)
{
	int rc = probe_avx2(e);

	return rc == 0 ? cpu_open(&isa_avx2, o, ret, e) : rc;
}

const struct backend backend_avx2 = {
	.name = "avx2",
	.about = "AVX2, FMA and F16C",
	.probe = probe_avx2,
	.open = open_avx2,
	FAST_OPS,
};

static int probe_avx512(struct err *e)
{
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
		return 0;
	return err_set(e, SINK_EDEVICE, "This processor has no AVX-512 with F, BW, VL and DQ.");
}

static int open_avx512(const struct device_options *o, struct device **ret, struct err *e)
{
	bool vnni = __builtin_cpu_supports("avx512vnni");
	int rc = probe_avx512(e);

	return rc == 0 ? cpu_open(vnni ? &isa_avx512_vnni : &isa_avx512, o, ret, e) : rc;
}

const struct backend backend_avx512 = {
	.name = "avx512",
	.about = "AVX-512 (F, BW, VL, DQ), with VNNI where the processor has it",
	.probe = probe_avx512,
	.open = open_avx512,
	FAST_OPS,
};

#ifdef KERNELS_AMX

/* Linux's names for the registers of tiles, in XCR0 and in arch_prctl(2), which older headers lack. */
enum { TILE_CONFIG = 1 << 17, TILE_DATA = 1 << 18, TILE_DATA_NUMBER = 18, REQUEST_PERMISSION = 0x1023 };

/* Bits of CPUID 7.0, EDX, which older compilers do not name. */
enum { CPUID_AMX_TILE = 1 << 24, CPUID_AMX_INT8 = 1 << 25 };

static bool has_amx(void)
{
	const unsigned wanted = CPUID_AMX_TILE | CPUID_AMX_INT8;
	unsigned a, b, c, d = 0;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & wanted) == wanted;
}

/* Whether the system saves the registers of tiles when it switches threads. */
static bool system_keeps_tiles(void)
{
	const unsigned wanted = TILE_CONFIG | TILE_DATA;
	unsigned a, b, c = 0, d, low, high;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return false;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (low & wanted) == wanted;
}

/* The permission is the process', for good, and may be asked for again: without it the first tile is SIGILL. */
static int probe_amx(struct err *e)
{
	if (probe_avx512(NULL) != 0 || !__builtin_cpu_supports("avx512vnni") || !has_amx())
		return err_set(e, SINK_EDEVICE, "This processor has no AMX with INT8, beside AVX-512 with VNNI.");
	if (!system_keeps_tiles())
		return err_set(e, SINK_EDEVICE, "This processor has AMX, but the system does not enable it.");
	if (syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA_NUMBER) != 0)
		return err_set(e, SINK_EDEVICE, "The system refuses the use of AMX: %s.", strerror(errno));
	return 0;
}

static int open_amx(const struct device_options *o, struct device **ret, struct err *e)
{
	int rc = probe_amx(e);

	return rc == 0 ? cpu_open(&isa_amx, o, ret, e) : rc;
}

const struct backend backend_amx = {
	.name = "amx",
	.about = "AMX (INT8) for many rows, AVX-512 with VNNI for the rest",
	.probe = probe_amx,
	.open = open_amx,
	FAST_OPS,
};

#endif
#endif
