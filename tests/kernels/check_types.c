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

/* A K type's bytes by field, as above; `six` are the 12 bytes of scales and minima, `scales` those of eight bits. */
struct super_format {
	enum dtype type;
	size_t bytes, d, six, scales, low, high, high_bits, apart; /* elements of one group of high bits */
};

static const struct super_format super_formats[] = {
	{ DTYPE_Q4_K, 144, 0, 4, 0, 16, 0, 0, 0 },
	{ DTYPE_Q5_K, 176, 0, 4, 0, 48, 16, 1, 256 },
	{ DTYPE_Q6_K, 210, 208, 0, 192, 0, 128, 2, 128 },
};

/* Number n of the eight, from bit 6n of them on: 4 whole bytes, then nibbles with the bits that the first ones left. */
static unsigned six_bits_by_format(const uint8_t *six, size_t n, bool min)
{
	const uint8_t *own = six + (min ? 4 : 0);

	if (n < 4)
		return own[n] % 64;
	return (min ? six[4 + n] / 16 : six[4 + n] % 16) + own[n - 4] / 64 * 16;
}

static float super_element_by_format(const struct super_format *f, const uint8_t *block, size_t i)
{
	const size_t pair = f->six ? 32 : 64; /* this far apart are the elements of a byte */
	unsigned low = block[f->low + i / (2 * pair) * pair + i % pair], q = i / pair % 2 ? low / 16 : low % 16;
	float d = scale_at(block + f->d);

	if (f->high) {
		unsigned high = block[f->high + i / f->apart * 32 + i % 32];

		for (size_t n = i % f->apart / 32; n > 0; n--)
			high /= 1u << f->high_bits;
		q += high % (1u << f->high_bits) * 16;
	}
	if (!f->six)
		return d * (float)(int8_t)block[f->scales + i / 16] * (float)((int)q - 32);
	return d * (float)six_bits_by_format(block + f->six, i / 32, false) * (float)q -
	       scale_at(block + 2) * (float)six_bits_by_format(block + f->six, i / 32, true);
}

/* Element i of a block of MXFP4: a sign, two bits of exponent, one of mantissa; times a power of two. */
static double mxfp4_element_by_format(const uint8_t *block, size_t i)
{
	const int bits = block[1 + i % 16] >> (i < 16 ? 0 : 4) & 15, exponent = bits >> 1 & 3, mantissa = bits & 1;
	const double size = exponent ? ldexp(1 + 0.5 * mantissa, exponent - 1) : 0.5 * mantissa;

	return ldexp(bits & 8 ? -size : size, block[0] - 127);
}

/* And the same numbers as Q5_0, but for what is below any half; what is beyond them is refused. */
static void mxfp4_is_what_its_format_says(void)
{
	uint8_t block[17];
	struct tensor t = { DTYPE_MXFP4, 1, 32, block }, five;
	float got[32], again[32];
	struct err e;

	for (size_t i = 0; i < 16; i++)
		block[1 + i] = (uint8_t)(i | (15 - i) << 4);
	for (int exponent = 0; exponent < 256; exponent++) {
		block[0] = (uint8_t)exponent;
		dtype_to_f32(DTYPE_MXFP4, block, 32, got);
		for (size_t i = 0; i < 32 && exponent > 1 && exponent < 250; i++)
			assert_true((double)got[i] == mxfp4_element_by_format(block, i));
		if (exponent >= 144) {
			assert_int_equal(dtype_mxfp4_to_q5_0(&t, &five, &e), SINK_EFORMAT);
			continue;
		}
		assert_int_equal(dtype_mxfp4_to_q5_0(&t, &five, &e), 0);
		dtype_to_f32(DTYPE_Q5_0, five.data, 32, again);
		for (size_t i = 0; i < 32; i++)
			assert_true(again[i] == (exponent < 104 ? 0 : got[i]));
		free((void *)five.data);
	}
}

static void superblocks_are_what_their_formats_say(void)
{
	struct kit_random r = { 3 };

	for (size_t i = 0; i < sizeof(super_formats) / sizeof(super_formats[0]); i++) {
		const struct super_format *f = &super_formats[i];
		struct tensor t = kit_tensor(&r, f->type, 12, 512);
		float *y = kit_floats(12 * 512);

		assert_int_equal(dtype_find((uint32_t)f->type)->bytes, f->bytes);
		assert_int_equal(dtype_find((uint32_t)f->type)->block, 256);
		dtype_to_f32(f->type, t.data, 12 * 512, y);
		for (size_t at = 0; at < 12 * 512; at++) {
			const uint8_t *block = (const uint8_t *)t.data + at / 256 * f->bytes;

			assert_true(y[at] == super_element_by_format(f, block, at % 256));
		}
		free((void *)t.data);
		free(y);
	}
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
	superblocks_are_what_their_formats_say();
	mxfp4_is_what_its_format_says();
	assert_null(dtype_find(4));
	assert_null(dtype_find(UINT32_MAX));
	assert_string_equal(dtype_find(30)->name, "bf16");
}

/* Bytes of a token in one layer, and what is refused. */
void pages_have_the_size_of_their_type(void **state)
{
	static const struct {
		struct page_shape shape;
		size_t token;
	} cases[] = {
		{ { 30, 3, 64, DTYPE_F32 }, 3 * 64 * 8 },  { { 30, 3, 64, DTYPE_F16 }, 3 * 64 * 4 },
		{ { 30, 3, 64, DTYPE_Q8_0 }, 3 * 2 * 68 }, { { 2, 1, 10, DTYPE_F16 }, 40 },
		{ { 2, 1, 256, DTYPE_Q8_0 }, 2 * 272 },	   { { 1, 5, 96, DTYPE_Q8_0 }, 5 * 2 * 102 },
	};
	static const struct page_shape bad[] = { { 1, 1, 80, DTYPE_Q8_0 },
						 { 1, 1, 16, DTYPE_Q8_0 },
						 { 1, 1, 64, DTYPE_Q4_0 },
						 { 1, 1, 64, (enum dtype)77 } };
	enum dtype type = DTYPE_F32;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct page_shape *s = &cases[i].shape;

		assert_int_equal(page_shape_check(s, &e), 0);
		assert_int_equal(page_bytes(s), s->layers * PAGE_TOKENS * cases[i].token);
		assert_int_equal(page_layer_offset(s, 1), PAGE_TOKENS * cases[i].token);
		assert_int_equal(page_head_bytes(s) * 2 * s->kv_heads, PAGE_TOKENS * cases[i].token);
		assert_int_equal(page_head_bytes(s) % 64, 0);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(page_shape_check(&bad[i], &e), SINK_EINVAL);
	page_shape_check(&bad[0], &e);
	assert_non_null(strstr(e.text, "q8_0 have blocks of 32, and a head here has 80"));
	assert_int_equal(page_type_find("q8_0", DTYPE_F16, &type, NULL), 0);
	assert_int_equal(type, DTYPE_Q8_0);
	assert_int_equal(page_type_find("auto", DTYPE_F16, &type, NULL), 0);
	assert_int_equal(type, DTYPE_F16);
	assert_int_equal(page_type_find("q4_0", DTYPE_F16, &type, &e), SINK_EINVAL);
	assert_non_null(strstr(e.text, "\"q4_0\""));
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
