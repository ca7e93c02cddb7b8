/*
 * Each family on its golden model (make_family.py): a random one with every feature of the family, and what
 * transformers and the literal evaluation say to a fixed text, dense and under policies. The reference kernels agree,
 * however the text is cut; all others agree with each other bit by bit.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model.h"
#include "reading.h"

/* In the order of the files. */
static const char *const policies[] = { "dense", "sink:4,24", "sink:3,12" };

static const char *const families[] = { "llama3", "qwen2",  "qwen3", "gptneox",	  "falcon", "falcon40",
					"mpt",	  "gemma3", "phi3",  "phi3-long", "gpt-oss" };

enum { CUTS = 4, LIMIT = 128 }; /* no more rows than phi3 has its short factors for */
enum { POLICIES = sizeof(policies) / sizeof(policies[0]), FAMILIES = sizeof(families) / sizeof(families[0]) };

/* What a file of logits holds: of policy p the logits of tokens step - 1, 2 * step - 1, ... */
struct golden {
	int32_t *all;
	size_t tokens, vocab, step;
	const int32_t *token;
	const float *logits[POLICIES];
};

static void path_of(const char *name, const char *ext, char *path, size_t size)
{
	const char *top = getenv("top_srcdir");

	snprintf(path, size, "%s/tests/golden/family-%s.%s", top ? top : ".", name, ext);
}

static void read_golden(const char *name, struct golden *g)
{
	char path[512];
	size_t bytes, rows;
	FILE *f;

	path_of(name, "logits", path, sizeof(path));
	f = fopen(path, "rb");
	assert_non_null(f);
	assert_int_equal(fseek(f, 0, SEEK_END), 0);
	bytes = (size_t)ftell(f);
	rewind(f);
	g->all = test_malloc(bytes);
	assert_int_equal(fread(g->all, 1, bytes, f), bytes);
	fclose(f);
	g->tokens = (size_t)g->all[0];
	g->vocab = (size_t)g->all[1];
	g->step = (size_t)g->all[2];
	g->token = g->all + 3;
	rows = g->tokens / g->step;
	assert_int_equal(bytes, 4 * (3 + g->tokens + POLICIES * rows * g->vocab));
	for (size_t p = 0; p < POLICIES; p++)
		g->logits[p] = (const float *)(const void *)(g->token + g->tokens) + p * rows * g->vocab;
}

static struct model *open_family(const char *name, const char *kernels)
{
	char path[512];

	path_of(name, "gguf", path, sizeof(path));
	return open_model(path, kernels, 2);
}

/* The largest difference to the golden logits, in parts of the largest of them. */
static double off_by(const struct golden *g, size_t p, const float *logits)
{
	double off = 0, most = 0;

	for (size_t row = 0; row < g->tokens / g->step; row++)
		for (size_t i = 0; i < g->vocab; i++) {
			const double want = (double)g->logits[p][row * g->vocab + i];
			const double got = (double)logits[((row + 1) * g->step - 1) * g->vocab + i];

			off = fmax(off, isnan(got) ? INFINITY : fabs(got - want));
			most = fmax(most, fabs(want));
		}
	return off / most;
}

static void check_reading(const char *name, const struct golden *g, struct model *m, size_t cuts, double slack)
{
	static const size_t chunks[CUTS] = { 100, 1, 7, 64 };
	float *logits = test_calloc(g->tokens * g->vocab, sizeof(*logits));

	for (size_t p = 0; p < POLICIES; p++) {
		uint64_t first = 0;

		for (size_t c = 0; c < cuts; c++) {
			struct kv *kv = open_cache_of(m, policies[p], 0, LIMIT);
			uint64_t sum = read_text(m, kv, g->token, g->tokens, chunks[c], logits);
			double off = off_by(g, p, logits);

			if (!(off <= slack))
				fail_msg("%s on %s, %s in chunks of %zu: logits are off by %.2g", name,
					 model_info(m)->kernels, policies[p], chunks[c], off);
			first = c ? first : sum;
			assert_int_equal(sum, first);
			kv_free(kv);
		}
	}
	test_free(logits);
}

static void check_family(const char *name)
{
	struct golden g;
	struct model *m = open_family(name, "ref");

	read_golden(name, &g);
	assert_int_equal(model_info(m)->vocab, g.vocab);
	check_reading(name, &g, m, CUTS, 1e-4);
	model_close(m);
	test_free(g.all);
}

static void families_are_what_they_were_trained_as(void **state)
{
	(void)state;
	for (size_t i = 0; i < FAMILIES; i++)
		check_family(families[i]);
}

/* The checksum of what a backend says under each policy; its pages and activations are not F32. */
static void sums_of(const char *name, const struct golden *g, const struct backend *b, uint64_t sums[POLICIES])
{
	struct model *m = open_family(name, b->name);

	if (strcmp(b->name, "scalar") != 0)
		check_reading(name, g, m, 2, 0.01);
	for (size_t p = 0; p < POLICIES; p++) {
		struct kv *kv = open_cache_of(m, policies[p], 0, LIMIT);

		sums[p] = read_text(m, kv, g->token, g->tokens, 9, NULL);
		kv_free(kv);
	}
	model_close(m);
}

static void instruction_sets_give_the_same_bits(void **state)
{
	(void)state;
	for (size_t i = 0; i < FAMILIES; i++) {
		uint64_t want[POLICIES], got[POLICIES];
		struct golden g;

		read_golden(families[i], &g);
		sums_of(families[i], &g, kernels_find("scalar", NULL), want);
		for (size_t b = 0; kernels_all[b]; b++) {
			const char *kernels = kernels_all[b]->name;

			if (kernels_all[b]->apart || !strcmp(kernels, "ref") || !strcmp(kernels, "scalar") ||
			    kernels_all[b]->probe(NULL))
				continue;
			sums_of(families[i], &g, kernels_all[b], got);
			assert_memory_equal(got, want, sizeof(want));
		}
		test_free(g.all);
	}
}

/* Far into a text logits are the same: distances alone count, and angles are taken in double. */
static void texts_may_be_long(void **state)
{
	(void)state;
	for (size_t i = 0; i < FAMILIES; i++) {
		struct model *m = open_family(families[i], "ref");
		struct golden g;
		float *logits;

		read_golden(families[i], &g);
		logits = test_calloc(g.tokens * g.vocab, sizeof(*logits));
		for (size_t p = 0; p < POLICIES; p++) {
			struct kv *kv = open_cache_of(m, policies[p], 4000000, LIMIT);

			read_text(m, kv, g.token, g.tokens, 33, logits);
			assert_true(off_by(&g, p, logits) <= 1e-4);
			kv_free(kv);
		}
		test_free(logits);
		test_free(g.all);
		model_close(m);
	}
}

/*
 * What is wrong with a file: a name that is spoiled, a key's number that is another, or a tensor's first byte; and what
 * the error names.
 */
enum { NAME = -1, FIRST_BYTE = -2 };

struct fault {
	const char *family, *name;
	int value; /* or what is spoiled */
	const char *says;
};

static const struct fault faults[] = {
	{ "llama3", "llama.attention.head_count", 0, "head_count" },
	{ "qwen2", "qwen2.embedding_length", 32, "token_embd.weight" },
	{ "llama3", "rope_freqs.weight", NAME, "rope_freqs.weighx" },
	{ "qwen2", "blk.1.attn_k.bias", NAME, "blk.1.attn_k.bias" },
	{ "qwen2", "blk.2.attn_v.weight", NAME, "blk.2.attn_v.weight" },
	{ "qwen3", "blk.0.attn_q_norm.weight", NAME, "blk.0.attn_q_norm.weight" },
	{ "qwen3", "qwen3.attention.key_length", 16, "value_length" },
	{ "gptneox", "blk.2.ffn_down.bias", NAME, "blk.2.ffn_down.bias" },
	{ "gptneox", "blk.0.attn_norm.bias", NAME, "blk.0.attn_norm.bias" },
	{ "gptneox", "output_norm.bias", NAME, "output_norm.bias" },
	{ "gptneox", "gptneox.rope.dimension_count", 7, "dimension_count" },
	{ "falcon", "falcon.attention.head_count_kv", 2, "blk.0.attn_qkv.weight" },
	{ "falcon", "falcon.attention.head_count_kv", 0, "head_count_kv" },
	{ "falcon40", "blk.1.attn_norm_2.bias", NAME, "blk.1.attn_norm_2.bias" },
	{ "mpt", "mpt.attention.max_alibi_bias", NAME, "max_alibi_bias" },
	{ "mpt", "mpt.feed_forward_length", 64, "blk.0.ffn_up.weight" },
	{ "gemma3", "blk.5.post_ffw_norm.weight", NAME, "blk.5.post_ffw_norm.weight" },
	{ "gemma3", "gemma3.attention.sliding_window", NAME, NULL },
	{ "phi3", "phi3.rope.dimension_count", 14, "rope_factors_short.weight" },
	{ "phi3", "rope_factors_long.weight", NAME, "rope_factors_long.weight" },
	{ "phi3", "rope_factors_short.weight", NAME, "rope_factors_short.weight" },
	{ "phi3", "blk.0.ffn_up.weight", NAME, "blk.0.ffn_up.weight" },
	{ "gpt-oss", "blk.1.ffn_gate_inp.weight", NAME, "blk.1.ffn_gate_inp.weight" },
	{ "gpt-oss", "blk.1.ffn_gate_inp.bias", NAME, "blk.1.ffn_gate_inp.bias" },
	{ "gpt-oss", "blk.2.ffn_down_exps.bias", NAME, "blk.2.ffn_down_exps.bias" },
	{ "gpt-oss", "blk.0.attn_sinks.weight", NAME, "blk.0.attn_sinks.weight" },
	{ "gpt-oss", "gpt-oss.expert_count", 0, "expert_count" },
	{ "gpt-oss", "gpt-oss.expert_count", 5, "blk.0.ffn_gate_inp.weight" },
	{ "gpt-oss", "gpt-oss.expert_used_count", 7, "expert_used_count" },
	{ "gpt-oss", "gpt-oss.expert_used_count", NAME, "expert_used_count" },
	{ "gpt-oss", "gpt-oss.expert_feed_forward_length", 32, "blk.0.ffn_gate_exps.weight" },
	{ "gpt-oss", "gpt-oss.attention.sliding_window", NAME, "sliding_window" },
	{ "gpt-oss", "blk.1.ffn_up_exps.weight", FIRST_BYTE, "blk.1.ffn_up_exps.weight" },
};

static void spoil_first_byte(const struct fault *f, char *data, size_t bytes)
{
	struct gguf *g;
	struct tensor t;

	assert_int_equal(gguf_parse(data, bytes, &g, NULL), 0);
	assert_int_equal(gguf_tensor(g, f->name, &t, NULL), 0);
	data[(const char *)t.data - data] = (char)0xff;
	gguf_close(g);
}

/* Behind a key's name stand a type of four bytes and the number. */
static void spoil(const struct fault *f, char *data, size_t bytes)
{
	const size_t len = strlen(f->name);

	for (size_t at = 8; at + len + 8 < bytes; at++) {
		uint64_t said;

		memcpy(&said, data + at - 8, sizeof(said));
		if (said != len || memcmp(data + at, f->name, len) != 0)
			continue;
		if (f->value == NAME)
			data[at + len - 1] = 'x';
		else
			memcpy(data + at + len + 4, &f->value, 4);
		return;
	}
	fail_msg("%s has no %s", f->family, f->name);
}

static void write_fault(const struct fault *f, const char *to)
{
	char path[512], *data;
	size_t bytes;
	FILE *file;

	path_of(f->family, "gguf", path, sizeof(path));
	file = fopen(path, "rb");
	assert_non_null(file);
	fseek(file, 0, SEEK_END);
	bytes = (size_t)ftell(file);
	rewind(file);
	data = test_malloc(bytes);
	assert_int_equal(fread(data, 1, bytes, file), bytes);
	fclose(file);
	if (f->value == FIRST_BYTE)
		spoil_first_byte(f, data, bytes);
	else
		spoil(f, data, bytes);
	file = fopen(to, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, bytes, file), bytes);
	fclose(file);
	test_free(data);
}

static void faulty_files_are_refused_by_name(void **state)
{
	char path[] = "test_family.XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		const struct model_options o = { .path = path,
						 .kernels = "scalar", /* packs, as the reference does not */
						 .threads = 1,
						 .max_rows = 4,
						 .max_logits = 4,
						 .cache_bytes = 1 << 24 };
		struct model *m = NULL;
		struct err e = { 0 };
		int r;

		write_fault(&faults[i], path);
		r = model_open(&o, &m, &e);
		if (faults[i].says && (r != SINK_EFORMAT || !strstr(e.text, faults[i].says)))
			fail_msg("%s without %s: %d, \"%s\"", faults[i].family, faults[i].name, r, e.text);
		if (!faults[i].says)
			assert_int_equal(r, 0);
		model_close(m);
	}
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(families_are_what_they_were_trained_as),
		cmocka_unit_test(instruction_sets_give_the_same_bits),
		cmocka_unit_test(texts_may_be_long),
		cmocka_unit_test(faulty_files_are_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
