/* Helpers of the kernel tests; see kit.h. */
#include "kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "dtype.h"

#ifdef KERNELS_EMULATED
extern const struct isa isa_emulated, isa_emulated_vnni, isa_emulated_amx;

static int probe(struct err *e)
{
	(void)e;
	return 0;
}

static int open_emulated(const struct device_options *o, struct device **ret, struct err *e)
{
	return cpu_open(&isa_emulated, o, ret, e);
}

static int open_emulated_vnni(const struct device_options *o, struct device **ret, struct err *e)
{
	return cpu_open(&isa_emulated_vnni, o, ret, e);
}

static int open_emulated_amx(const struct device_options *o, struct device **ret, struct err *e)
{
	return cpu_open(&isa_emulated_amx, o, ret, e);
}

static const struct backend emulated[] = {
	{ .name = "avx512-emulated", .about = "AVX-512 by SIMDe", .probe = probe, .open = open_emulated, FAST_OPS },
	{ .name = "avx512-vnni-emulated",
	  .about = "AVX-512 with VNNI by SIMDe",
	  .probe = probe,
	  .open = open_emulated_vnni,
	  FAST_OPS },
	{ .name = "amx-emulated",
	  .about = "AMX by our own arrays",
	  .probe = probe,
	  .open = open_emulated_amx,
	  FAST_OPS },
};
#endif

#ifdef KERNELS_STANDIN
extern const struct backend backend_standin;

const struct backend *const *kit_backends(void)
{
	static struct backend standin;
	static const struct backend *all[] = { &standin, NULL };

	standin = backend_standin;
	standin.name = "cuda-standin";
	return all;
}
#else
const struct backend *const *kit_backends(void)
{
	static const struct backend *all[16];
	size_t n = 0;

	while (kernels_all[n]) {
		all[n] = kernels_all[n];
		n++;
	}
#ifdef KERNELS_EMULATED
	for (size_t i = 0; i < sizeof(emulated) / sizeof(emulated[0]); i++)
		all[n++] = &emulated[i];
#endif
	return all;
}
#endif

static uint32_t next(struct kit_random *r)
{
	r->state = r->state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(r->state >> 33);
}

uint32_t kit_below(struct kit_random *r, uint32_t limit)
{
	return next(r) % limit;
}

float kit_number(struct kit_random *r)
{
	int sum = 0;

	for (int i = 0; i < 6; i++)
		sum += (int)(next(r) & 0xffff) - 0x8000;
	return (float)sum / 46341.0f;
}

void kit_numbers(struct kit_random *r, float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] = kit_number(r);
}

float *kit_floats(size_t n)
{
	float *x = calloc(n ? n : 1, sizeof(*x));

	assert_non_null(x);
	return x;
}

static void put_scale(uint8_t *p, float x)
{
	uint16_t h = f16_of_f32(x);

	memcpy(p, &h, 2);
}

/* Scales of a block of random bytes; some are no normal numbers as halves, zero or the largest. */
static void put_block(struct kit_random *r, enum dtype type, float x, uint8_t *p)
{
	const bool six_bits = type == DTYPE_Q4_K || type == DTYPE_Q5_K;
	uint8_t *d = type == DTYPE_Q6_K ? p + 208 : p;

	if (type == DTYPE_MXFP4) {
		p[0] = (uint8_t)(kit_below(r, 29) ? 119 + kit_below(r, 8) : 104 + kit_below(r, 3));
		return;
	}
	put_scale(d, x / (six_bits ? 512 : type == DTYPE_Q6_K ? 1024 : 16));
	if (type == DTYPE_Q4_1 || type == DTYPE_Q5_1)
		put_scale(p + 2, kit_number(r));
	if (six_bits)
		put_scale(p + 2, kit_number(r) / 32);
	if (kit_below(r, 29) == 0)
		put_scale(d, 0x1p-20f);
	if (six_bits && kit_below(r, 5) == 0)
		memset(p + 4, kit_below(r, 2) ? 0 : 255, 12);
	if (type == DTYPE_Q6_K && kit_below(r, 5) == 0)
		memset(p + 192, kit_below(r, 2) ? 0 : -128, 16);
	if (dtype_find((uint32_t)type)->block == 256 && kit_below(r, 5) == 0)
		memset(type == DTYPE_Q6_K ? p : p + 16, kit_below(r, 2) ? 0 : 255, type == DTYPE_Q6_K ? 192 : 128);
}

struct tensor kit_tensor(struct kit_random *r, enum dtype type, size_t rows, size_t cols)
{
	const struct dtype_info *info = dtype_find((uint32_t)type);
	size_t blocks = rows * cols / info->block;
	uint8_t *data = malloc(blocks * info->bytes);

	assert_non_null(data);
	for (size_t b = 0; b < blocks; b++) {
		uint8_t *p = data + b * info->bytes;
		float x = kit_number(r);

		for (size_t i = 0; i < info->bytes; i++)
			p[i] = (uint8_t)next(r);
		if (type == DTYPE_F32)
			memcpy(p, &x, 4);
		else if (type == DTYPE_BF16)
			memcpy(p, (uint8_t *)&x + 2, 2);
		else if (type == DTYPE_F16)
			put_scale(p, x);
		else
			put_block(r, type, x, p);
	}
	return (struct tensor){ type, rows, cols, data };
}

static struct device *open_with(const struct backend *b, const struct device_options *o)
{
	struct device *d = NULL;
	struct err e;

	if (b->open(o, &d, &e) != 0)
		fail_msg("%s: %s", b->name, e.text);
	return d;
}

struct device *kit_open(const struct backend *b, int threads, size_t max_rows)
{
	return kit_open_at(b, threads, max_rows, PRECISION_EXACT);
}

struct device *kit_open_at(const struct backend *b, int threads, size_t max_rows, enum precision precision)
{
	struct device_options o = { .threads = threads, .max_rows = max_rows, .precision = precision };

	return open_with(b, &o);
}

struct device *kit_open_invariant(const struct backend *b, int threads, size_t max_rows, enum precision precision)
{
	struct device_options o = {
		.threads = threads, .max_rows = max_rows, .precision = precision, .invariant = true
	};

	return open_with(b, &o);
}

float *kit_upload(const struct backend *b, struct device *d, const float *x, size_t n)
{
	float *buffer = NULL;

	assert_int_equal(b->buffer_new(d, n, &buffer, NULL), 0);
	if (x)
		b->write(d, buffer, x, n * sizeof(*x));
	return buffer;
}

void kit_download(const struct backend *b, struct device *d, float *buffer, float *x, size_t n)
{
	b->read(d, x, buffer, n * sizeof(*x));
	b->buffer_free(d, buffer);
}

void kit_same_bits(const float *a, const float *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (f32_bits(a[i]) != f32_bits(b[i]))
			fail_msg("number %zu of %zu: %a is not %a", i, n, (double)a[i], (double)b[i]);
}
