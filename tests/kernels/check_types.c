/* Element types against the words of their formats, and the control group's quota against files of its own. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "cores.h"
#include "dtype.h"

/* The value of a half by its fields. */
static double half_by_definition(unsigned h)
{
	int exponent = h >> 10 & 31, fraction = h & 1023;
	double size = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);

	return h & 0x8000 ? -size : size;
}

void halves_are_what_ieee_754_says(void **state)
{
	struct kit_random r = { 1 };

	(void)state;
	for (unsigned h = 0; h < 0x10000; h++) {
		float f = f16_to_f32((uint16_t)h);

		if ((h & 0x7c00) == 0x7c00) {
			assert_true(h & 0x3ff ? isnan(f) : isinf(f) && (f < 0) == (h >> 15));
			assert_int_equal(f16_of_f32(f), h & 0x3ff ? h | 0x200 : h);
			continue;
		}
		assert_true((double)f == half_by_definition(h));
		assert_int_equal(f16_of_f32(f), h);
	}
	/* Between two halves the nearer is taken, and in the middle the even one. */
	for (unsigned h = 0; h < 0x7bff; h++) {
		double a = half_by_definition(h), b = half_by_definition(h + 1), middle = (a + b) / 2;

		assert_int_equal(f16_of_f32((float)middle), h + (h & 1));
		assert_int_equal(f16_of_f32(nextafterf((float)middle, 0)), h);
		assert_int_equal(f16_of_f32(-nextafterf((float)middle, INFINITY)), 0x8000 | (h + 1));
	}
	assert_int_equal(f16_of_f32(65519.996f), 0x7bff);
	assert_int_equal(f16_of_f32(65520), 0x7c00);
	assert_int_equal(f16_of_f32(-3e38f), 0xfc00);
	for (int i = 0; i < 1000; i++) {
		uint32_t high = f32_bits(kit_number(&r)) >> 16;

		assert_int_equal(f32_bits(bf16_to_f32((uint16_t)high)), high << 16);
	}
}

/* A block's bytes by field: offsets of d, m (or 0), high bits (or 0) and quants; bits of a quant; what is taken off. */
struct format {
	enum dtype type;
	size_t bytes, m, high, q, bits;
	int offset;
};

static const struct format formats[] = {
	{ DTYPE_Q4_0, 18, 0, 0, 2, 4, 8 }, { DTYPE_Q4_1, 20, 2, 0, 4, 4, 0 }, { DTYPE_Q5_0, 22, 0, 2, 6, 4, 16 },
	{ DTYPE_Q5_1, 24, 2, 4, 8, 4, 0 }, { DTYPE_Q8_0, 34, 0, 0, 2, 8, 0 },
};

static float scale_at(const uint8_t *p)
{
	return f16_to_f32((uint16_t)(p[0] + 256 * p[1]));
}

static float element_by_format(const struct format *f, const uint8_t *block, size_t i)
{
	float d = scale_at(block), m = f->m ? scale_at(block + f->m) : 0;
	int q;

	if (f->bits == 8)
		q = (int8_t)block[f->q + i];
	else
		q = block[f->q + i % 16] >> (i < 16 ? 0 : 4) & 15;
	if (f->high)
		q += 16 * (block[f->high + i / 8] >> i % 8 & 1);
	return (float)(q - f->offset) * d + m;
}

void types_are_what_their_formats_say(void **state)
{
	struct kit_random r = { 2 };

	(void)state;
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		const struct format *f = &formats[i];
		struct tensor t = kit_tensor(&r, f->type, 3, 64);
		float y[192];

		assert_int_equal(dtype_find((uint32_t)f->type)->bytes, f->bytes);
		assert_int_equal(dtype_find((uint32_t)f->type)->block, 32);
		dtype_to_f32(f->type, t.data, 192, y);
		for (size_t at = 0; at < 192; at++) {
			const uint8_t *block = (const uint8_t *)t.data + at / 32 * f->bytes;

			assert_true(y[at] == element_by_format(f, block, at % 32));
		}
		free((void *)t.data);
	}
	assert_null(dtype_find(4));
	assert_null(dtype_find(UINT32_MAX));
	assert_string_equal(dtype_find(30)->name, "bf16");
}

static void put_file(const char *root, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s%s", root, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void remove_all(const char *root, const char *const *names, size_t n)
{
	char path[256];

	while (n--) {
		snprintf(path, sizeof(path), "%s%s", root, names[n]);
		remove(path);
	}
	rmdir(root);
}

void quotas_are_respected(void **state)
{
	static const char *const names[] = { "/a",
					     "/a/b",
					     "/cpu",
					     "/cpu/c",
					     "/a/cpu.max",
					     "/a/b/cpu.max",
					     "/cpu/c/cpu.cfs_quota_us",
					     "/cpu/c/cpu.cfs_period_us",
					     "/groups" };
	char root[] = "/tmp/check_kernels.XXXXXX", groups[64], path[64];

	(void)state;
	assert_non_null(mkdtemp(root));
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s%s", root, names[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	snprintf(groups, sizeof(groups), "%s/groups", root);
	assert_int_equal(cores_in_quota(groups, root, 8), 8); /* no such file */
	put_file(root, "/groups", "0::/a/b\n");
	assert_int_equal(cores_in_quota(groups, root, 8), 8);
	put_file(root, "/a/b/cpu.max", "max 100000\n");
	assert_int_equal(cores_in_quota(groups, root, 8), 8);
	put_file(root, "/a/cpu.max", "250000 100000\n"); /* the parent's, rounded up */
	assert_int_equal(cores_in_quota(groups, root, 8), 3);
	assert_int_equal(cores_in_quota(groups, root, 2), 2);
	put_file(root, "/a/b/cpu.max", "1000 100000\n");
	assert_int_equal(cores_in_quota(groups, root, 8), 1);
	put_file(root, "/groups", "7:pids:/a\n2:cpuacct,cpu:/c\n0::/\n");
	assert_int_equal(cores_in_quota(groups, root, 8), 8);
	put_file(root, "/cpu/c/cpu.cfs_period_us", "50000\n");
	put_file(root, "/cpu/c/cpu.cfs_quota_us", "-1\n");
	assert_int_equal(cores_in_quota(groups, root, 8), 8);
	put_file(root, "/cpu/c/cpu.cfs_quota_us", "200000\n");
	assert_int_equal(cores_in_quota(groups, root, 8), 4);
	put_file(root, "/groups", "rubbish\n\n9:\n0::../../..\n");
	assert_int_equal(cores_in_quota(groups, root, 8), 8);
	remove_all(root, names, sizeof(names) / sizeof(names[0]));
	assert_true(kernels_cores() >= 1);
}
