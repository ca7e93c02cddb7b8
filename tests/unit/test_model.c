/*
 * model.c: the promise that the bits of a row depend on nothing but its conversation, on a random model and on the real
 * one when SINKD_MODEL names it; forks, rewinds, limits, and files that are wrong.
 */
#include <fcntl.h>
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
#include "sample.h"

enum { TOKENS = 150 };

static char tiny_path[] = "test_model.XXXXXX";

static void a_text_may_begin_anywhere(void **state)
{
	struct model *m = open_model(tiny_path, "ref", 1);
	const size_t floats = TOKENS * (size_t)model_info(m)->vocab;
	float *here = test_malloc(floats * sizeof(float)), *there = test_malloc(floats * sizeof(float));
	int32_t token[TOKENS];

	(void)state;
	draw_tokens(2, (size_t)model_info(m)->vocab, token, TOKENS);
	for (int k = 0; k < 2; k++) {
		struct kv *kv = open_cache(m, "sink:4,20", k * INT64_C(4000000));

		read_text(m, kv, token, TOKENS, 64, k ? there : here);
		kv_free(kv);
	}
	assert_true(largest_difference(here, there, floats) < 1e-4);
	model_close(m);
	test_free(here);
	test_free(there);
}

/* The checksum of one conversation for any cut of it, and any number of threads. */
static void check_bits(const char *path, const char *kernels, const char *policy, size_t n)
{
	static const size_t chunks[] = { 512, 64, 7, 1 };
	int32_t *token = test_malloc(n * sizeof(*token));
	uint64_t want = 0, got;

	for (int threads = 1; threads <= 2; threads++) {
		struct model *m = open_model(path, kernels, threads);

		draw_text(m, 3, token, n);
		for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
			struct kv *kv = open_cache(m, policy, 0);

			got = read_text(m, kv, token, n, chunks[c], NULL);
			want = want ? want : got;
			assert_int_equal(got, want);
			kv_free(kv);
		}
		model_close(m);
	}
	test_free(token);
}

/* Reads the same conversation as one of eight, the others in chunks and depths of their own. */
static void check_company(const char *path, const char *kernels, const char *policy, size_t n)
{
	enum { CROWD = 8, MINE = 3 };
	struct model *m = open_model(path, kernels, 2);
	const size_t vocab = (size_t)model_info(m)->vocab;
	int32_t *token = test_malloc(CROWD * n * sizeof(*token));
	size_t at[CROWD] = { 0 };
	struct kv *kv[CROWD], *alone = open_cache(m, policy, 0);
	uint64_t want, got = 0;

	for (uint32_t i = 0; i < CROWD; i++) {
		draw_text(m, 3 + i, token + i * n, n);
		kv[i] = open_cache(m, i % 3 == 1 ? "dense" : policy, 0);
	}
	want = read_text(m, alone, token + MINE * n, n, 1, NULL);
	while (at[MINE] < n) {
		struct slice s[CROWD];
		size_t slices = 0, mine = 0;

		for (size_t i = 0; i < CROWD; i++) {
			size_t count = (i * 5 + at[i]) % 11 + 1;

			if (at[i] == n)
				continue;
			count = count < n - at[i] ? count : n - at[i];
			mine = i == MINE ? slices : mine;
			s[slices++] = (struct slice){ .kv = kv[i],
						      .token = token + i * n + at[i],
						      .count = count,
						      .logits = i == MINE ? LOGITS_ALL : (enum logits)(i % 3) };
			at[i] += count;
		}
		assert_true(model_step(m, s, slices, NULL) > 0);
		for (size_t i = 0; i < slices; i++)
			assert_int_equal(s[i].status, 0);
		for (size_t i = 0; i < s[mine].count; i++)
			got = logits_checksum(model_logits(m, s[mine].first_logits + i), vocab, got);
	}
	assert_int_equal(got, want);
	for (size_t i = 0; i < CROWD; i++)
		kv_free(kv[i]);
	kv_free(alone);
	test_free(token);
	model_close(m);
}

static void bits_depend_on_the_conversation_alone(void **state)
{
	static const char *const kernels[] = { "ref", "auto" };

	(void)state;
	for (size_t k = 0; k < 2; k++) {
		check_bits(tiny_path, kernels[k], "sink:4,100", 600);
		check_bits(tiny_path, kernels[k], "dense", 300);
		check_bits(tiny_path, kernels[k], "separator:4,20,80", 300);
		check_bits(tiny_path, kernels[k], "anchor:4,20,80", 300);
		check_company(tiny_path, kernels[k], "sink:4,100", 300);
		check_company(tiny_path, kernels[k], "separator:4,20,80", 300);
		check_company(tiny_path, kernels[k], "anchor:4,20,80", 300);
	}
}

static void bits_of_the_real_model_too(void **state)
{
	const char *path = getenv("SINKD_MODEL");

	(void)state;
	if (!path || !*path)
		skip();
	check_bits(path, "auto", "sink:4,60", 140);
	check_bits(path, "auto", "separator:4,9,60", 140);
	check_company(path, "auto", "sink:4,60", 90);
}

static void forks_and_rewinds_go_on_as_if_alone(void **state)
{
	struct model *m = open_model(tiny_path, "auto", 2);
	struct kv *first = open_cache(m, "sink:4,100", 0), *fork = NULL, *again = open_cache(m, "sink:4,100", 0);
	int32_t token[300], other[300];
	uint64_t want, branch;

	(void)state;
	draw_tokens(5, (size_t)model_info(m)->vocab, token, 300);
	memcpy(other, token, sizeof(other));
	draw_tokens(6, (size_t)model_info(m)->vocab, other + 200, 100);
	read_text(m, again, token, 200, 64, NULL);
	want = read_text(m, again, token + 200, 100, 64, NULL);

	read_text(m, first, token, 200, 64, NULL);
	assert_int_equal(kv_fork(first, &fork, NULL), 0);
	branch = read_text(m, fork, other + 200, 100, 9, NULL);
	assert_int_equal(read_text(m, first, token + 200, 100, 9, NULL), want);
	assert_int_not_equal(branch, want);

	assert_int_equal(kv_rewind(fork, NULL, 200, NULL), 0);
	assert_int_equal(read_text(m, fork, token + 200, 100, 33, NULL), want);
	assert_int_equal(kv_rewind(first, NULL, 0, NULL), 0);
	read_text(m, first, other, 200, 64, NULL);
	assert_int_equal(read_text(m, first, other + 200, 100, 64, NULL), branch);
	kv_free(first);
	kv_free(fork);
	kv_free(again);
	assert_int_equal(arena_pages_free(model_arena(m)), arena_pages(model_arena(m)));
	model_close(m);
}

static void a_slice_that_cannot_be_served_is_left_out(void **state)
{
	struct model *m = open_model(tiny_path, "auto", 1);
	const int32_t vocab = (int32_t)model_info(m)->vocab;
	const int32_t good[] = { 5, 6, 7 }, low[] = { 5, -1 }, high[] = { vocab };
	struct kv *kv[4], *alone = open_cache(m, "sink:4,100", 0);
	struct kv_info info;
	uint64_t want = read_text(m, alone, good, 3, 3, NULL), got = 0;

	(void)state;
	for (size_t i = 0; i < 4; i++)
		kv[i] = open_cache(m, "sink:4,100", 0);
	struct slice s[] = {
		{ .kv = kv[0], .token = low, .count = 2, .logits = LOGITS_LAST },
		{ .kv = kv[1], .token = good, .count = 3, .logits = LOGITS_ALL },
		{ .kv = kv[2], .token = high, .count = 1, .logits = LOGITS_LAST },
		{ .kv = kv[1], .token = good, .count = 1, .logits = LOGITS_LAST }, /* already in this step */
		{ .kv = kv[3], .token = good, .count = 0, .logits = LOGITS_NONE },
	};

	assert_int_equal(model_step(m, s, 5, NULL), 3);
	assert_int_equal(s[0].status, SINK_EINVAL);
	assert_int_equal(s[1].status, 0);
	assert_int_equal(s[2].status, SINK_EINVAL);
	assert_int_equal(s[3].status, SINK_EINVAL);
	assert_int_equal(s[4].status, SINK_EINVAL);
	for (size_t i = 0; i < 3; i++)
		got = logits_checksum(model_logits(m, i), (size_t)vocab, got);
	assert_int_equal(got, want);
	kv_info(kv[0], &info);
	assert_int_equal(info.tokens, 0);
	assert_int_equal(model_step(m, s, 1, NULL), 0);
	for (size_t i = 0; i < 4; i++)
		kv_free(kv[i]);
	kv_free(alone);
	model_close(m);
}

static void a_full_step_or_cache_is_busy(void **state)
{
	struct model *m = open_model(tiny_path, "auto", 1);
	struct kv_options o = { .step = ROWS, .limit = 100 };
	struct kv *dense = NULL, *other = open_cache(m, "sink:4,100", 0);
	int32_t token[ROWS];

	(void)state;
	draw_tokens(1, (size_t)model_info(m)->vocab, token, ROWS);
	assert_int_equal(policy_parse("dense", &o.policy, NULL), 0);
	assert_int_equal(kv_new(model_arena(m), &o, &dense, NULL), 0);
	struct slice s[] = { { .kv = dense, .token = token, .count = 101, .logits = LOGITS_LAST },
			     { .kv = other, .token = token, .count = ROWS, .logits = LOGITS_LAST } };

	assert_int_equal(model_step(m, s, 2, NULL), 1);
	assert_int_equal(s[0].status, SINK_EBUSY);
	assert_int_equal(s[1].status, 0);
	s[0].count = 100;
	assert_int_equal(model_step(m, s, 2, NULL), 1);
	assert_int_equal(s[0].status, 0);
	assert_int_equal(s[1].status, SINK_EBUSY); /* no rows left in this step */
	assert_int_equal(kv_room(dense), 0);
	kv_free(dense);
	kv_free(other);
	model_close(m);
}

static void the_model_says_what_it_is(void **state)
{
	struct model *m = open_model(tiny_path, "ref", 1);
	const struct model_info *i = model_info(m);

	(void)state;
	assert_string_equal(i->name, "tiny");
	assert_string_equal(i->arch, "llama");
	assert_string_equal(i->quantization, "f16");
	assert_string_equal(i->kernels, "ref");
	assert_string_equal(i->cache_type, "f32");
	assert_int_equal(i->layers, 2);
	assert_int_equal(i->heads, 4);
	assert_int_equal(i->kv_heads, 2);
	assert_int_equal(i->head_size, 16);
	assert_int_equal(i->vocab, TINY_VOCAB);
	assert_int_equal(i->token_bytes, 2 * 2 * 2 * 16 * sizeof(float));
	assert_int_equal(vocab_size(model_vocab(m)), TINY_VOCAB);
	assert_int_equal(model_fingerprint(m), gguf_fingerprint(model_file(m)));
	model_close(m);
	model_close(NULL);
}

/* A model of one layer, width 32, two heads, one KV head, written with one thing wrong. */
struct fault {
	const char *key; /* this number is another */
	uint32_t value;
	const char *tensor; /* this tensor is left out, or is [cols][rows] */
	uint64_t cols, rows;
	const char *says; /* in the error's text */
};

static void put_tensor(struct make_gguf *g, const struct fault *f, const char *name, uint64_t cols, uint64_t rows)
{
	static const float zeros[64 * TINY_VOCAB];
	const bool wrong = f->tensor && strcmp(f->tensor, name) == 0;
	const uint64_t dim[] = { wrong ? f->cols : cols, wrong ? f->rows : rows };

	if (dim[0])
		make_gguf_tensor(g, name, DTYPE_F32, rows > 1 ? 2 : 1, dim, zeros, dim[0] * dim[1] * sizeof(float));
}

static void write_faulty(const char *path, const struct fault *f)
{
	static const struct {
		const char *key;
		uint32_t value;
	} keys[] = { { "llama.block_count", 1 },	   { "llama.context_length", 64 },
		     { "llama.embedding_length", 32 },	   { "llama.feed_forward_length", 48 },
		     { "llama.attention.head_count", 2 },  { "llama.attention.head_count_kv", 1 },
		     { "llama.rope.dimension_count", 16 }, { "llama.expert_count", 0 },
		     { "llama.attention.key_length", 16 }, { "llama.attention.value_length", 16 } };
	struct make_gguf *g = make_gguf_new();

	make_gguf_string(g, "general.architecture", f->key && strcmp(f->key, "arch") == 0 ? "mamba" : "llama");
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		make_gguf_u32(g, keys[i].key, f->key && strcmp(f->key, keys[i].key) == 0 ? f->value : keys[i].value);
	make_gguf_f32(g, "llama.attention.layer_norm_rms_epsilon", 1e-5F);
	if (f->key && strcmp(f->key, "llama.rope.scaling.type") == 0)
		make_gguf_string(g, f->key, "dynamic");
	if (f->key && strcmp(f->key, "llama.rope.freq_base") == 0)
		make_gguf_f32(g, f->key, NAN);
	make_tiny_vocab(g);
	put_tensor(g, f, "token_embd.weight", 32, TINY_VOCAB);
	put_tensor(g, f, "blk.0.attn_norm.weight", 32, 1);
	put_tensor(g, f, "blk.0.attn_q.weight", 32, 32);
	put_tensor(g, f, "blk.0.attn_k.weight", 32, 16);
	put_tensor(g, f, "blk.0.attn_v.weight", 32, 16);
	put_tensor(g, f, "blk.0.attn_output.weight", 32, 32);
	put_tensor(g, f, "blk.0.ffn_norm.weight", 32, 1);
	put_tensor(g, f, "blk.0.ffn_gate.weight", 32, 48);
	put_tensor(g, f, "blk.0.ffn_up.weight", 32, 48);
	put_tensor(g, f, "blk.0.ffn_down.weight", 48, 32);
	put_tensor(g, f, "output_norm.weight", 32, 1);
	if (f->tensor && strstr(f->tensor, "attn_q.") && !strstr(f->tensor, "weight"))
		put_tensor(g, f, f->tensor, 32, 1);
	assert_int_equal(make_gguf_write(g, path), 0);
}

static const struct fault faults[] = {
	{ .says = NULL },
	{ .key = "arch", .says = "mamba" },
	{ .key = "llama.block_count", 0, .says = "block_count" },
	{ .key = "llama.block_count", 2, .says = "blk.1.attn_norm.weight" },
	{ .key = "llama.block_count", UINT32_MAX, .says = "block_count" },
	{ .key = "llama.context_length", 0, .says = "context_length" },
	{ .key = "llama.embedding_length", 0, .says = "embedding_length" },
	{ .key = "llama.embedding_length", 64, .says = "token_embd.weight" },
	{ .key = "llama.feed_forward_length", 0, .says = "feed_forward_length" },
	{ .key = "llama.attention.head_count", 0, .says = "head_count" },
	{ .key = "llama.attention.head_count", 3, .says = "attn_q" },
	{ .key = "llama.attention.head_count_kv", 0, .says = "head_count_kv" },
	{ .key = "llama.attention.head_count_kv", 3, .says = "head_count_kv" },
	{ .key = "llama.attention.key_length", 0, .says = "key_length" },
	{ .key = "llama.attention.key_length", 100000, .says = "key_length" },
	{ .key = "llama.attention.value_length", 8, .says = "value_length" },
	{ .key = "llama.rope.dimension_count", 15, .says = "dimension_count" },
	{ .key = "llama.rope.dimension_count", 18, .says = "dimension_count" },
	{ .key = "llama.rope.scaling.type", .says = "dynamic" },
	{ .key = "llama.rope.freq_base", .says = "freq_base" },
	{ .key = "llama.expert_count", 8, .says = "expert" },
	{ .tensor = "token_embd.weight", .says = "token_embd.weight" },
	{ .tensor = "token_embd.weight", .cols = 32, .rows = TINY_VOCAB - 1, .says = "token_embd.weight" },
	{ .tensor = "blk.0.attn_v.weight", .says = "blk.0.attn_v.weight" },
	{ .tensor = "blk.0.attn_q.weight", .cols = 32, .rows = 31, .says = "blk.0.attn_q.weight" },
	{ .tensor = "blk.0.ffn_down.weight", .cols = 32, .rows = 48, .says = "blk.0.ffn_down.weight" },
	{ .tensor = "output_norm.weight", .cols = 31, .rows = 1, .says = "output_norm.weight" },
	{ .tensor = "blk.0.attn_q.scale", .cols = 32, .rows = 1, .says = "blk.0.attn_q.scale" },
	{ .tensor = "blk.0.attn_q.bias", .cols = 31, .rows = 1, .says = "blk.0.attn_q.bias" },
};

static void faulty_models_are_refused_by_name(void **state)
{
	char path[] = "test_model_bad.XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		const struct model_options o = { .path = path,
						 .kernels = "ref",
						 .threads = 1,
						 .max_rows = 4,
						 .max_logits = 4,
						 .cache_bytes = 1 << 24 };
		struct model *m = NULL;
		struct err e = { 0 };

		write_faulty(path, &faults[i]);
		if (!faults[i].says) {
			assert_int_equal(model_open(&o, &m, &e), 0);
			model_close(m);
			continue;
		}
		assert_int_equal(model_open(&o, &m, &e), SINK_EFORMAT);
		assert_int_equal(e.code, SINK_EFORMAT);
		assert_null(m);
		if (!strstr(e.text, faults[i].says))
			fail_msg("\"%s\" does not name %s", e.text, faults[i].says);
	}
	unlink(path);
}

static void options_out_of_range_are_refused(void **state)
{
	static const struct {
		struct model_options o;
		int code;
	} cases[] = {
		{ { .path = "", .max_rows = 1, .max_logits = 1, .cache_bytes = 1 << 24 }, SINK_EINVAL },
		{ { .path = "no-such-file.gguf", .max_rows = 1, .max_logits = 1, .cache_bytes = 1 << 24 },
		  SINK_ENOENT },
		{ { .path = tiny_path, .max_rows = 0, .max_logits = 1, .cache_bytes = 1 << 24 }, SINK_EINVAL },
		{ { .path = tiny_path, .max_rows = 1, .max_logits = 2, .cache_bytes = 1 << 24 }, SINK_EINVAL },
		{ { .path = tiny_path, .max_rows = 1, .max_logits = 1, .cache_bytes = 100 }, SINK_EINVAL },
		{ { .path = tiny_path, .max_rows = 1, .max_logits = 1, .threads = -1 }, SINK_EINVAL },
		{ { .path = tiny_path, .max_rows = 1, .max_logits = 1, .kernels = "abacus" }, SINK_EINVAL },
		{ { .path = tiny_path, .max_rows = 1, .max_logits = 1, .cache_type = "q2" }, SINK_EINVAL },
		{ { .path = tiny_path, .max_rows = 1, .max_logits = 1, .cache_type = "q8_0" },
		  SINK_EINVAL }, /* heads of 16 */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct model *m = NULL;
		struct err e = { 0 };

		assert_int_equal(model_open(&cases[i].o, &m, &e), cases[i].code);
		assert_true(e.text[0] != '\0');
		assert_null(m);
	}
}

static void a_vocabulary_alone_needs_no_weights(void **state)
{
	const struct model_options o = { .path = tiny_path, .vocabulary_only = true };
	struct model *m = NULL;

	(void)state;
	assert_int_equal(model_open(&o, &m, NULL), 0);
	assert_int_equal(vocab_size(model_vocab(m)), TINY_VOCAB);
	assert_null(model_arena(m));
	model_close(m);
}

/* Second descriptors, as the service manager has them. */
static struct arena_files duplicates(struct arena_files f)
{
	return (struct arena_files){ fcntl(f.pages, F_DUPFD_CLOEXEC, 0), fcntl(f.records, F_DUPFD_CLOEXEC, 0) };
}

static struct model *open_outliving(struct arena_files adopt, size_t megabytes)
{
	const struct model_options o = { .path = tiny_path,
					 .kernels = "auto",
					 .threads = 1,
					 .max_rows = 64,
					 .max_logits = 64,
					 .cache_bytes = megabytes << 20,
					 .outlives = true,
					 .adopt = adopt };
	struct model *ret = NULL;
	struct err e = { 0 };

	if (model_open(&o, &ret, &e))
		fail_msg("%s", e.text);
	return ret;
}

static void a_model_adopts_or_says_why_not(void **state)
{
	const struct arena_files none = { -1, -1 };
	struct model *first = open_outliving(none, 16), *next;
	const struct arena_files files = duplicates(arena_files(model_arena(first)));
	struct kv *kv = open_cache(first, "sink:4,60", 0), *alone = open_cache(first, "sink:4,60", 0);
	struct kv_options o = { .step = 1 };
	int32_t log[TOKENS];
	size_t cursor = 0;
	uint64_t want;

	(void)state;
	assert_string_equal(model_refusal(first), "");
	assert_int_equal(policy_parse("sink:4,60", &o.policy, NULL), 0);
	draw_text(first, 2, log, TOKENS);
	read_text(first, alone, log, 100, 64, NULL);
	want = read_text(first, alone, log + 100, 50, 64, NULL);
	read_text(first, kv, log, 100, 64, NULL);
	kv_own(kv, (struct kv_owner){ 1, 1 });
	kv_leave(kv);
	kv_free(alone);
	model_close(first);

	next = open_outliving(duplicates(files), 16);
	assert_string_equal(model_refusal(next), "");
	kv = kv_adopt(model_arena(next), &cursor);
	assert_non_null(kv);
	assert_int_equal(kv_verify(kv, &o, log, TOKENS, NULL), 0);
	assert_int_equal(read_text(next, kv, log + 100, 50, 64, NULL), want);
	kv_leave(kv);
	model_close(next);

	next = open_outliving(files, 15); /* which takes the descriptors */
	assert_non_null(strstr(model_refusal(next), "MiB"));
	assert_int_equal(fcntl(files.pages, F_GETFD), -1);
	assert_true(arena_files(model_arena(next)).pages >= 0);
	cursor = 0;
	assert_null(kv_adopt(model_arena(next), &cursor));
	model_close(next);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_text_may_begin_anywhere),
		cmocka_unit_test(bits_depend_on_the_conversation_alone),
		cmocka_unit_test(bits_of_the_real_model_too),
		cmocka_unit_test(forks_and_rewinds_go_on_as_if_alone),
		cmocka_unit_test(a_slice_that_cannot_be_served_is_left_out),
		cmocka_unit_test(a_full_step_or_cache_is_busy),
		cmocka_unit_test(the_model_says_what_it_is),
		cmocka_unit_test(faulty_models_are_refused_by_name),
		cmocka_unit_test(options_out_of_range_are_refused),
		cmocka_unit_test(a_vocabulary_alone_needs_no_weights),
		cmocka_unit_test(a_model_adopts_or_says_why_not),
	};
	const struct make_tiny tiny = { .seed = 7 };
	int fd = mkstemp(tiny_path), failed;

	if (fd < 0 || make_tiny_model(tiny_path, &tiny))
		return 99;
	close(fd);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(tiny_path);
	return failed;
}
