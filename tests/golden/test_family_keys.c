/*
 * Keys that files of the families may have beyond those of the golden models: what asks for something that is not
 * computed is refused by name, what says the same in other words gives the same numbers, and what is served changes
 * them. Each case is a golden model with a key more, or with names that are spoiled. And weights that are no numbers.
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

#include "make_gguf.h"
#include "model.h"
#include "reading.h"

enum { TOKENS = 64, HEADER = 24, COUNT_AT = 16, ALIGNMENT = 32, ADDED = 512 };

struct change {
	const char *family;
	const char *key;  /* that is added, or NULL */
	char kind;	  /* of its value: a float, unsigned, bool, string, or an array of bools */
	double number;	  /* the value */
	const char *text; /* the value of a string; the array's as digits */
	const char *says; /* refused only: what the error says */
	const char *spoiled[2];
};

static const struct change refused[] = {
	{ "llama3", "llama.attn_logit_softcapping", 'f', 50, NULL, "capped scores", { NULL } },
	{ "gemma3", "gemma3.final_logit_softcapping", 'f', 30, NULL, "final_logit_softcapping", { NULL } },
	{ "gemma3", "gemma3.final_logit_softcapping", 'f', NAN, NULL, "final_logit_softcapping", { NULL } },
	{ "llama3", "llama.logit_scale", 'f', 0.25, NULL, "llama.logit_scale", { NULL } },
	{ "llama3", "llama.residual_scale", 'f', 0.22, NULL, "llama.residual_scale", { NULL } },
	{ "llama3", "llama.embedding_scale", 'f', 12, NULL, "llama.embedding_scale", { NULL } },
	{ "llama3", "llama.attention.scale", 'f', 0.5, NULL, "scaled by 0.25", { NULL } },
	{ "llama3", "llama.attention.max_alibi_bias", 'f', 8, NULL, "max_alibi_bias", { NULL } },
	{ "falcon", "falcon.attention.clamp_kqv", 'f', 8, NULL, "clamp_kqv", { NULL } },
	{ "llama3", "llama.attention.sliding_window", 'u', 64, NULL, "sliding_window", { NULL } },
	{ "llama3", "llama.attention.causal", 'b', 0, NULL, "attention.causal", { NULL } },
	{ "llama3", "llama.expert_count", 'u', 8, NULL, "expert_count", { NULL } },
	{ "llama3", "llama.hidden_activation", 's', 0, "relu", "\"relu\" is not supported (silu)", { NULL } },
	{ "mpt", "mpt.hidden_activation", 's', 0, "gelu_new", "hidden_activation", { NULL } },
	{ "llama3", "llama.rope.scaling.type", 's', 0, "dynamic", "\"dynamic\"", { NULL } },
	{ "qwen2", "qwen2.rope.scaling.type", 's', 0, "longrope", "rope_factors_short.weight", { NULL } },
	{ "qwen2", "qwen2.rope.scaling.factor", 'f', NAN, NULL, "rope.scaling.factor", { NULL } },
	{ "qwen2", "qwen2.rope.scale_linear", 'f', 0.5, NULL, "rope.scale_linear", { NULL } },
	{ "qwen2", "qwen2.rope.scaling.alpha", 'f', 1000, NULL, "rope.scaling.alpha", { NULL } },
	{ "gpt-oss", "gpt-oss.rope.scaling.yarn_ext_factor", 'f', 0.5, NULL, "yarn_ext_factor", { NULL } },
	{ "gpt-oss", "gpt-oss.rope.scaling.yarn_attn_factor", 'f', -1, NULL, "yarn_attn_factor", { NULL } },
	{ "gpt-oss", "gpt-oss.rope.scaling.yarn_log_multiplier", 'f', 0.1, NULL, "yarn_log_multiplier", { NULL } },
	{ "gpt-oss", "gpt-oss.expert_shared_count", 'u', 1, NULL, "expert_shared_count", { NULL } },
	{ "gpt-oss", "gpt-oss.expert_gating_func", 'u', 2, NULL, "expert_gating_func", { NULL } },
	{ "gpt-oss", "gpt-oss.expert_weights_scale", 'f', 2.5, NULL, "expert_weights_scale", { NULL } },
	{ "gemma3", "gemma3.attention.sliding_window_pattern", 'a', 0, "110111", "layer 5 breaks", { NULL } },
	{ "gemma3", "gemma3.attention.sliding_window_pattern", 'a', 0, "11111", "5 layers of 6", { NULL } },
	{ "gemma3", "gemma3.attention.sliding_window_pattern", 'f', 6, NULL, "sliding_window_pattern", { NULL } },
	{ "gemma3", "gemma3.attention.key_length_swa", 'u', 8, NULL, "key_length_swa", { NULL } },
	{ "qwen2", NULL, 0, 0, NULL, "layer_norm_rms_epsilon\": it is missing", { "layer_norm_rms_epsilon" } },
	{ "falcon", NULL, 0, 0, NULL, "layer_norm_epsilon\": it is missing", { "layer_norm_epsilon" } },
};

static const struct change same[] = {
	{ "llama3", "llama.logit_scale", 'f', 1, NULL, NULL, { NULL } },
	{ "llama3", "llama.attention.scale", 'f', 0.25, NULL, NULL, { NULL } },
	{ "llama3", "llama.attention.sliding_window", 'u', 4096, NULL, NULL, { NULL } },
	{ "llama3", "llama.attention.causal", 'b', 1, NULL, NULL, { NULL } },
	{ "llama3", "llama.hidden_activation", 's', 0, "silu", NULL, { NULL } },
	{ "llama3", "llama.rope.scaling.type", 's', 0, "none", NULL, { NULL } },
	{ "qwen2", "qwen2.rope.scaling.type", 's', 0, "linear", NULL, { NULL } },
	{ "gemma3", "gemma3.attention.sliding_window_pattern", 'u', 6, NULL, NULL, { NULL } },
	{ "gemma3", "gemma3.attention.sliding_window_pattern", 'a', 0, "111110", NULL, { NULL } },
	{ "gemma3", "gemma3.rope.freq_base_swa", 'f', 10000, NULL, NULL, { NULL } },
	{ "gemma3", NULL, 0, 0, NULL, NULL, { "rope.scaling.type" } },
	{ "gemma3", "gemma3.rope.scale_linear", 'f', 2, NULL, NULL, { "rope.scaling.type", "rope.scaling.factor" } },
	{ "gpt-oss", "gpt-oss.attention.sliding_window_pattern", 'u', 2, NULL, NULL, { NULL } },
	{ "gpt-oss", "gpt-oss.rope.scaling.yarn_ext_factor", 'f', 1, NULL, NULL, { NULL } },
	{ "gpt-oss", "gpt-oss.rope.scaling.yarn_ext_factor", 'f', -1, NULL, NULL, { NULL } },
	{ "gpt-oss", "gpt-oss.rope.scaling.yarn_attn_factor", 'f', 1.138629436, NULL, NULL, { NULL } }, /* of 4 */
};

static const struct change other[] = {
	{ "gemma3", "gemma3.attention.sliding_window_pattern", 'u', 3, NULL, NULL, { NULL } },
	{ "gemma3", "gemma3.attention.sliding_window_pattern", 'a', 0, "101010", NULL, { NULL } },
	{ "gemma3", "gemma3.rope.freq_base_swa", 'f', 20000, NULL, NULL, { NULL } },
	{ "gpt-oss", "gpt-oss.rope.scaling.yarn_attn_factor", 'f', 1, NULL, NULL, { NULL } },
	{ "gpt-oss", "gpt-oss.rope.scaling.yarn_beta_fast", 'f', 4, NULL, NULL, { NULL } },
	{ "qwen2", "qwen2.rope.scaling.factor", 'f', 2, NULL, NULL, { NULL } },
	{ "qwen2", "qwen2.rope.scale_linear", 'f', 2, NULL, NULL, { NULL } },
};

/* ---- files ---- */

static void path_of(const char *family, char *path, size_t size)
{
	const char *top = getenv("top_srcdir");

	snprintf(path, size, "%s/tests/golden/family-%s.gguf", top ? top : ".", family);
}

/* A growing run of bytes. */
struct bytes {
	char at[ADDED];
	size_t n;
};

static void put(struct bytes *b, const void *data, size_t n)
{
	assert_true(b->n + n <= ADDED);
	memcpy(b->at + b->n, data, n);
	b->n += n;
}

static void put_text(struct bytes *b, const char *text)
{
	const uint64_t len = strlen(text);

	put(b, &len, sizeof(len));
	put(b, text, (size_t)len);
}

static void put_type(struct bytes *b, uint32_t type)
{
	put(b, &type, sizeof(type));
}

static void put_value(struct bytes *b, const struct change *c)
{
	const float f = (float)c->number;
	const uint32_t n = c->kind == 'u' ? (uint32_t)c->number : 0;
	const uint8_t yes = c->number > 0;

	if (c->kind == 'f') {
		put_type(b, GGUF_F32);
		put(b, &f, sizeof(f));
	} else if (c->kind == 'u') {
		put_type(b, GGUF_U32);
		put(b, &n, sizeof(n));
	} else if (c->kind == 'b') {
		put_type(b, GGUF_BOOL);
		put(b, &yes, sizeof(yes));
	} else if (c->kind == 's') {
		put_type(b, GGUF_STRING);
		put_text(b, c->text);
	} else {
		const uint64_t count = strlen(c->text);

		put_type(b, GGUF_ARRAY);
		put_type(b, GGUF_BOOL);
		put(b, &count, sizeof(count));
		for (const char *at = c->text; *at; at++)
			put(b, &(const uint8_t){ *at == '1' }, 1);
	}
}

/* The key, and one behind it that fills up to the alignment, so that the tensors stay where they say. */
static void put_key(struct bytes *b, const struct change *c)
{
	static const char dots[ALIGNMENT] = "...............................";

	put_text(b, c->key);
	put_value(b, c);
	put_text(b, "pad");
	put_type(b, GGUF_STRING);
	put_text(b, dots + (b->n + sizeof(uint64_t) + ALIGNMENT - 1) % ALIGNMENT);
	assert_int_equal(b->n % ALIGNMENT, 0);
}

static void spoil(char *data, size_t bytes, const char *name)
{
	char *at = memmem(data, bytes, name, strlen(name));

	assert_non_null(at);
	at[strlen(name) - 1] = 'x';
}

static char *read_family(const char *family, size_t *bytes)
{
	char path[512], *data;
	FILE *f;

	path_of(family, path, sizeof(path));
	f = fopen(path, "rb");
	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	*bytes = (size_t)ftell(f);
	rewind(f);
	data = test_malloc(*bytes);
	assert_int_equal(fread(data, 1, *bytes, f), *bytes);
	fclose(f);
	return data;
}

/* The file with bytes added behind its header. */
static void write_file(const char *path, const char *data, size_t bytes, const struct bytes *added)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, HEADER, f), HEADER);
	assert_int_equal(fwrite(added->at, 1, added->n, f), added->n);
	assert_int_equal(fwrite(data + HEADER, 1, bytes - HEADER, f), bytes - HEADER);
	fclose(f);
}

static void write_changed(const struct change *c, const char *to)
{
	struct bytes added = { .n = 0 };
	size_t bytes;
	char *data = read_family(c->family, &bytes);
	uint64_t keys;

	for (size_t i = 0; i < 2 && c->spoiled[i]; i++)
		spoil(data, bytes, c->spoiled[i]);
	if (c->key) {
		put_key(&added, c);
		memcpy(&keys, data + COUNT_AT, sizeof(keys));
		keys += 2;
		memcpy(data + COUNT_AT, &keys, sizeof(keys));
	}
	write_file(to, data, bytes, &added);
	test_free(data);
}

/* The file with other bytes at the beginning of a tensor. */
static void write_damaged(const char *family, const char *name, const void *damage, size_t size, const char *to)
{
	const struct bytes none = { .n = 0 };
	size_t bytes;
	char *data = read_family(family, &bytes);
	struct gguf *g = NULL;
	struct tensor t;

	assert_int_equal(gguf_parse(data, bytes, &g, NULL), 0);
	assert_int_equal(gguf_tensor(g, name, &t, NULL), 0);
	memcpy(data + ((const char *)t.data - data), damage, size);
	gguf_close(g);
	write_file(to, data, bytes, &none);
	test_free(data);
}

/* ---- cases ---- */

static int make_file(void **state)
{
	static char path[] = "test_family_keys.XXXXXX";
	int fd = mkstemp(path);

	if (fd < 0)
		return -1;
	close(fd);
	*state = path;
	return 0;
}

static int remove_file(void **state)
{
	return unlink(*state);
}

static void check_refusal(const char *path, const char *case_name, const char *says)
{
	const struct model_options o = {
		.path = path, .kernels = "auto", .threads = 1, .max_rows = 4, .max_logits = 4, .cache_bytes = 1 << 24
	};
	struct model *m = NULL;
	struct err e = { 0 };
	int r = model_open(&o, &m, &e);

	if (r != SINK_EFORMAT || !strstr(e.text, says))
		fail_msg("%s: %d, \"%s\" where \"%s\" is missing", case_name, r, e.text, says);
	model_close(m);
}

static void what_is_not_computed_is_refused(void **state)
{
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		write_changed(&refused[i], *state);
		check_refusal(*state, refused[i].family, refused[i].says);
	}
}

static void weights_that_are_no_numbers_are_refused_by_name(void **state)
{
	static const char *const names[][2] = {
		{ "llama3", "output_norm.weight" },	 { "llama3", "blk.1.attn_q.bias" },
		{ "gptneox", "blk.0.ffn_norm.bias" },	 { "gpt-oss", "blk.2.attn_sinks.weight" },
		{ "gpt-oss", "blk.0.ffn_up_exps.bias" }, { "llama3", "rope_freqs.weight" },
	};
	static const float bad[] = { NAN, INFINITY, -INFINITY };
	const uint8_t exponent = 255;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (size_t k = 0; k < 3; k++) {
			write_damaged(names[i][0], names[i][1], &bad[k], sizeof(bad[k]), *state);
			check_refusal(*state, names[i][0], names[i][1]);
		}
	write_damaged("gpt-oss", "blk.1.ffn_up_exps.weight", &exponent, 1, *state);
	check_refusal(*state, "gpt-oss", "blk.1.ffn_up_exps.weight");
}

static float *read_model(const char *path, const char *kernels)
{
	struct model *m = open_model(path, kernels, 1);
	const size_t vocab = (size_t)model_info(m)->vocab;
	struct kv *kv = open_cache(m, "dense", 0);
	float *logits = test_calloc(TOKENS * vocab, sizeof(*logits));
	int32_t token[TOKENS];

	draw_tokens(11, vocab, token, TOKENS);
	read_text(m, kv, token, TOKENS, TOKENS, logits);
	kv_free(kv);
	model_close(m);
	return logits;
}

/* Matrices are not looked through: what comes out is no number, but nothing else happens. */
static void matrices_of_no_numbers_do_no_harm(void **state)
{
	static const uint16_t half = 0x7c00;

	write_damaged("gpt-oss", "blk.0.attn_q.weight", &half, sizeof(half), *state);
	test_free(read_model(*state, "auto"));
}

/* How far the logits are from those of the family's own file. */
static double difference(const struct change *c, const char *path)
{
	char own[512];
	float *before, *after;
	double off;

	path_of(c->family, own, sizeof(own));
	before = read_model(own, "ref");
	write_changed(c, path);
	after = read_model(path, "ref");
	off = largest_difference(before, after, (size_t)TOKENS * TINY_VOCAB);
	test_free(before);
	test_free(after);
	return off;
}

static void the_same_in_other_words_gives_the_same(void **state)
{
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		double off = difference(&same[i], *state);

		if (!(off < 1e-4))
			fail_msg("%s with %s: logits are off by %g", same[i].family, same[i].key, off);
	}
}

static void what_is_served_changes_the_numbers(void **state)
{
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		double off = difference(&other[i], *state);

		if (!(off > 0.01))
			fail_msg("%s with %s: logits differ by %g", other[i].family, other[i].key, off);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_computed_is_refused),
		cmocka_unit_test(weights_that_are_no_numbers_are_refused_by_name),
		cmocka_unit_test(matrices_of_no_numbers_do_no_harm),
		cmocka_unit_test(the_same_in_other_words_gives_the_same),
		cmocka_unit_test(what_is_served_changes_the_numbers),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
