/* The bad files, one row each. Tensors are named w, and 2 x 2 of type f32 unless the fault is in their shape. */
#include "bad_gguf.h"

#include <string.h>

enum { F32 = 0, Q4_0 = 2, Q6_K = 14 };

static const uint64_t two_by_two[] = { 2, 2 };
static const float four[4] = { 1, 2, 3, 4 };

static void claim(struct make_gguf *m, uint32_t dims, const uint64_t *dim)
{
	make_gguf_claim(m, "w", F32, dims, dim, 0);
}

static void zero_dimension(struct make_gguf *m)
{
	claim(m, 1, (const uint64_t[]){ 0 });
}

static void zero_outer_dimension(struct make_gguf *m)
{
	claim(m, 3, (const uint64_t[]){ 4, 0, 4 });
}

static void huge_dimension(struct make_gguf *m)
{
	claim(m, 2, (const uint64_t[]){ (UINT64_C(1) << 42) + 1, 1 });
}

static void negative_product(struct make_gguf *m)
{
	claim(m, 4, (const uint64_t[]){ UINT64_C(1) << 32, UINT64_C(1) << 31, 1, 1 });
}

static void wrapping_product(struct make_gguf *m)
{
	claim(m, 4, (const uint64_t[]){ UINT64_C(1) << 32, UINT64_C(1) << 32, 1, 1 });
}

static void wrapping_size(struct make_gguf *m)
{
	claim(m, 2, (const uint64_t[]){ UINT64_C(1) << 62, 1 });
}

static void nine_dimensions(struct make_gguf *m)
{
	claim(m, 9, (const uint64_t[]){ 1, 1, 1, 1, 1, 1, 1, 1, 1 });
}

static void all_dimensions(struct make_gguf *m)
{
	make_gguf_claim(m, "w", F32, UINT32_MAX, NULL, 0);
	claim(m, 2, two_by_two);
}

static void no_dimension(struct make_gguf *m)
{
	claim(m, 0, NULL);
	claim(m, 2, two_by_two);
}

static void part_of_a_block(struct make_gguf *m)
{
	make_gguf_claim(m, "w", Q4_0, 2, (const uint64_t[]){ 48, 2 }, 0);
}

static void part_of_a_superblock(struct make_gguf *m)
{
	make_gguf_claim(m, "w", Q6_K, 2, (const uint64_t[]){ 384, 2 }, 0);
}

static void empty_key(struct make_gguf *m)
{
	make_gguf_string(m, "", "x");
}

static void alignment_text(struct make_gguf *m)
{
	make_gguf_string(m, "general.alignment", "32");
}

static void alignment_zero(struct make_gguf *m)
{
	make_gguf_u32(m, "general.alignment", 0);
}

static void alignment_odd(struct make_gguf *m)
{
	make_gguf_u32(m, "general.alignment", 48);
}

static void alignment_huge(struct make_gguf *m)
{
	make_gguf_u32(m, "general.alignment", UINT32_C(1) << 31);
}

static void offset_beyond(struct make_gguf *m)
{
	make_gguf_tensor(m, "v", F32, 2, two_by_two, four, sizeof(four));
	make_gguf_claim(m, "w", F32, 2, two_by_two, 32);
}

static void offset_wraps(struct make_gguf *m)
{
	make_gguf_tensor(m, "v", F32, 2, two_by_two, four, sizeof(four));
	make_gguf_claim(m, "w", F32, 2, two_by_two, UINT64_MAX - 31);
}

static void offset_unaligned(struct make_gguf *m)
{
	make_gguf_tensor(m, "v", F32, 2, two_by_two, four, sizeof(four));
	make_gguf_claim(m, "w", F32, 1, (const uint64_t[]){ 1 }, 4);
}

static void shared_bytes(struct make_gguf *m)
{
	make_gguf_tensor(m, "v", F32, 2, two_by_two, four, sizeof(four));
	make_gguf_claim(m, "w", F32, 2, two_by_two, 0);
}

static void byte_token(struct make_gguf *m)
{
	make_mini_vocab(m, "<0x-1>", "<|im_start|><|im_end|>");
}

static void zero_layers(struct make_gguf *m)
{
	make_gguf_string(m, "general.architecture", "llama");
	make_gguf_u32(m, "llama.block_count", 0);
}

static void duplicate_key(struct make_gguf *m)
{
	make_gguf_u32(m, "twice", 1);
	make_gguf_u32(m, "between", 1);
	make_gguf_u32(m, "twice", 2);
}

static void duplicate_tensor(struct make_gguf *m)
{
	make_gguf_tensor(m, "w", F32, 2, two_by_two, four, sizeof(four));
	make_gguf_tensor(m, "w", F32, 2, two_by_two, four, sizeof(four));
}

static void put_array(struct make_gguf *m, uint32_t item, uint64_t count)
{
	uint8_t value[64] = { 0 };

	memcpy(value, &item, sizeof(item));
	memcpy(value + sizeof(item), &count, sizeof(count));
	make_gguf_raw(m, "list", GGUF_ARRAY, value, sizeof(value));
}

static void huge_array(struct make_gguf *m)
{
	put_array(m, GGUF_U64, UINT64_C(1) << 61);
}

static void huge_list_of_texts(struct make_gguf *m)
{
	put_array(m, GGUF_STRING, UINT64_MAX);
}

static void array_of_arrays(struct make_gguf *m)
{
	put_array(m, GGUF_ARRAY, 1);
}

static void array_of_unknown(struct make_gguf *m)
{
	put_array(m, 13, 1);
}

static void unknown_value(struct make_gguf *m)
{
	make_gguf_raw(m, "odd", 13, four, sizeof(four));
}

static void long_text(struct make_gguf *m)
{
	make_gguf_raw(m, "text", GGUF_STRING, &(const uint64_t){ UINT64_MAX - 7 }, 8);
}

static void long_text_in_list(struct make_gguf *m)
{
	const struct {
		uint32_t item, count[2], len[2];
	} value = { GGUF_STRING, { 1, 0 }, { 0, UINT32_C(1) << 31 } };

	make_gguf_raw(m, "list", GGUF_ARRAY, &value, sizeof(value));
}

/* Each size fits into 64 bits; the sum of the two does not. */
static void sizes_wrap(struct make_gguf *m)
{
	make_gguf_claim(m, "v", F32, 1, (const uint64_t[]){ UINT64_C(1) << 61 }, 0);
	make_gguf_claim(m, "w", F32, 1, (const uint64_t[]){ UINT64_C(1) << 61 }, UINT64_C(1) << 63);
}

static void hostile_template(struct make_gguf *m)
{
	make_mini_vocab(m, "c",
			"{% for c in [].__class__.__base__.__subclasses__() %}{{ c.__init__.__globals__['os'].system("
			"'<|im_start|>system\\n'*99999999) }}{% endfor %}<|im_end|>'<|im_start|>system\\n\\");
}

static void many_tensors(struct make_gguf *m)
{
	make_gguf_counts(m, UINT64_MAX, 0);
}

static void many_keys(struct make_gguf *m)
{
	make_gguf_counts(m, 0, UINT64_C(1) << 60);
}

static void version_one(struct make_gguf *m)
{
	make_gguf_version(m, 1);
}

static void big_endian(struct make_gguf *m)
{
	make_gguf_version(m, 3U << 24);
}

void make_mini_vocab(struct make_gguf *m, const char *last_token, const char *template)
{
	const char *const token[] = { "a", "b", "ab", "<|im_start|>", "<|im_end|>", last_token };
	static const char *const merge[] = { "a b" };
	static const int32_t type[] = { 1, 1, 1, 3, 3, 6 };

	make_gguf_string(m, "tokenizer.ggml.model", "gpt2");
	make_gguf_string(m, "tokenizer.ggml.pre", "gpt-2");
	make_gguf_strings(m, "tokenizer.ggml.tokens", token, 6);
	make_gguf_i32s(m, "tokenizer.ggml.token_type", type, 6);
	make_gguf_strings(m, "tokenizer.ggml.merges", merge, 1);
	make_gguf_u32(m, "tokenizer.ggml.eos_token_id", 4);
	make_gguf_string(m, "tokenizer.chat_template", template);
}

const struct bad_gguf bad_gguf[] = {
	{ "zero-dimension", "dimension 1 is zero", zero_dimension },
	{ "zero-outer-dimension", "dimension 2 is zero", zero_outer_dimension },
	{ "huge-dimension", "beyond the file's end", huge_dimension },
	{ "negative-product", "beyond 2^63", negative_product },
	{ "wrapping-product", "beyond 2^63", wrapping_product },
	{ "wrapping-size", "beyond 2^64 bytes", wrapping_size },
	{ "nine-dimensions", "has 9 dimensions", nine_dimensions },
	{ "all-dimensions", "has 4294967295 dimensions", all_dimensions },
	{ "no-dimension", "has 0 dimensions", no_dimension },
	{ "part-of-a-block", "no whole blocks of q4_0", part_of_a_block },
	{ "part-of-a-superblock", "no whole blocks of q6_k", part_of_a_superblock },
	{ "empty-key", "empty name", empty_key },
	{ "alignment-text", "\"general.alignment\" is of type string", alignment_text },
	{ "alignment-zero", "\"general.alignment\" is 0", alignment_zero },
	{ "alignment-odd", "no power of two", alignment_odd },
	{ "alignment-huge", "\"general.alignment\" is 2147483648", alignment_huge },
	{ "offset-beyond", "tensor \"w\" (16 bytes at offset 32) lies beyond", offset_beyond },
	{ "offset-wraps", "beyond the file's end", offset_wraps },
	{ "offset-unaligned", "no multiple of the alignment", offset_unaligned },
	{ "shared-bytes", "share bytes", shared_bytes },
	{ "byte-token", NULL, byte_token },
	{ "zero-layers", NULL, zero_layers },
	{ "duplicate-key", "key \"twice\" is there twice", duplicate_key },
	{ "duplicate-tensor", "tensor \"w\" is there twice", duplicate_tensor },
	{ "huge-array", "more than the file can hold", huge_array },
	{ "huge-list-of-texts", "more than the file can hold", huge_list_of_texts },
	{ "array-of-arrays", "array of type 9", array_of_arrays },
	{ "array-of-unknown", "array of type 13", array_of_unknown },
	{ "unknown-value", "unknown value type 13", unknown_value },
	{ "long-text", "\"text\" is longer than the file", long_text },
	{ "long-text-in-list", "text 0 of key \"list\" is longer", long_text_in_list },
	{ "sizes-wrap", "beyond", sizes_wrap },
	{ "hostile-template", NULL, hostile_template },
	{ "many-tensors", "18446744073709551615 tensors", many_tensors },
	{ "many-keys", "1152921504606846976 keys", many_keys },
	{ "version-one", "version 1;", version_one },
	{ "big-endian", "big-endian", big_endian },
	{ NULL, NULL, NULL },
};
