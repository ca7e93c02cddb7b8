/*
 * The rows of the CPU in the list of backends: which instructions each needs. In a file of its own, compiled without
 * any of them, since it runs before anybody knows.
 */
#include "backends.h"

#ifdef __x86_64__
#include <cpuid.h>
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
	.about = "plain C, the same bits as avx2 and avx512 on any machine",
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

#endif
