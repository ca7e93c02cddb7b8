/*
 * Random models that are small enough for any test. Quantized matrices are drawn as blocks, not quantized from floats:
 * every byte of the format gets used, and no quantizer is needed.
 */
#include "make_gguf.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The element types, by their numbers in the file, and how a block of one is drawn. */
struct kind {
	const char *name;
	uint32_t type;
	size_t block, bytes;
	size_t halves; /* f16 numbers that lead the block (Q6_K: end it): the scale, and the minimum if there is one */
	float largest; /* value of the largest quantum, for a scale that spreads them as floats are spread */
};

static const struct kind kinds[] = {
	{ "f16", 1, 1, 2, 0, 0 },	  { "f32", 0, 1, 4, 0, 0 },	     { "bf16", 30, 1, 2, 0, 0 },
	{ "q8_0", 8, 32, 34, 1, 127 },	  { "q4_0", 2, 32, 18, 1, 8 },	     { "q4_1", 3, 32, 20, 2, 7.5F },
	{ "q5_0", 6, 32, 22, 1, 16 },	  { "q5_1", 7, 32, 24, 2, 15.5F },   { "q4_k", 12, 256, 144, 2, 472 },
	{ "q5_k", 13, 256, 176, 2, 976 }, { "q6_k", 14, 256, 210, 1, 2400 },
};

enum { F32 = 0, F16 = 1, Q6_K = 14, BF16 = 30 };

/* SplitMix64. */
static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15U;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

/* Uniform in -1 .. 1. */
static float draw_float(uint64_t *state)
{
	return (float)(draw(state) >> 40) / (float)(1 << 23) - 1;
}

/* The f16 next below a number of ordinary size. */
static uint16_t half(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	if ((bits & 0x7fffffff) < 0x38800000)
		return 0; /* too small for a normal half */
	return (uint16_t)(bits >> 16 & 0x8000) | (uint16_t)(((bits & 0x7fffffff) - 0x38000000) >> 13);
}

static void draw_block(const struct kind *k, float spread, uint64_t *state, uint8_t *to)
{
	float f = draw_float(state) * spread;
	uint16_t h = half(f);

	if (k->type == F32) {
		memcpy(to, &f, sizeof(f));
	} else if (k->type == F16) {
		memcpy(to, &h, sizeof(h));
	} else if (k->type == BF16) {
		memcpy(to, (const uint8_t *)&f + 2, 2);
	} else {
		for (size_t i = 0; i < k->bytes; i++)
			to[i] = (uint8_t)(draw(state) >> 56);
		h = half(spread / k->largest);
		memcpy(to + (k->type == Q6_K ? 208 : 0), &h, sizeof(h));
		h = half(k->block == 256 ? spread / 63 : -spread); /* the K types take off six bits times that */
		if (k->halves == 2)
			memcpy(to + sizeof(h), &h, sizeof(h));
	}
}

/* A matrix whose elements are uniform in -spread .. spread. */
static void put_matrix(struct make_gguf *m, const char *name, const struct kind *k, uint64_t cols, uint64_t rows,
		       float spread, uint64_t *state)
{
	size_t blocks = (size_t)(rows * cols) / k->block;
	uint8_t *data = malloc(blocks * k->bytes);

	if (!data)
		abort();
	for (size_t i = 0; i < blocks; i++)
		draw_block(k, spread, state, data + i * k->bytes);
	make_gguf_tensor(m, name, k->type, 2, (uint64_t[]){ cols, rows }, data, blocks * k->bytes);
	free(data);
}

static void put_norm(struct make_gguf *m, const char *name, uint64_t cols, uint64_t *state)
{
	float *data = malloc((size_t)cols * sizeof(*data));

	if (!data)
		abort();
	for (size_t i = 0; i < cols; i++)
		data[i] = 1 + draw_float(state) / 4;
	make_gguf_tensor(m, name, F32, 1, &cols, data, (size_t)cols * sizeof(*data));
	free(data);
}

/* The character that stands for a byte in byte-level BPE, as UTF-8: printable ones stand for themselves. */
static void put_byte_character(int byte, int *unprintable, char text[3])
{
	bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
	int c = printable ? byte : 256 + (*unprintable)++;

	if (c < 128) {
		text[0] = (char)c;
		text[1] = '\0';
	} else {
		text[0] = (char)(0xc0 | c >> 6);
		text[1] = (char)(0x80 | (c & 0x3f));
		text[2] = '\0';
	}
}

static const char *const merges[] = {
	"t h", "h e",  "i n", "th e", "e r", "a n", "Ġ t", "Ġ a", "o n", "r e", "Ġ the", "n d", "an d", "Ġa n", "Ġ s",
	"l l", "in g", "Ġ w", "o u",  "Ġ i", "Ġ o", "a t", "e n", "o r", "Ġ c", "e s",	 "s t", "u s",	"i s",
};

enum { CONTROL = 3, BYTES = 256, MERGES = TINY_VOCAB - CONTROL - BYTES };

static void put_tokens(struct make_gguf *m, char text[TINY_VOCAB][16], int32_t of_bytes)
{
	const char *token[TINY_VOCAB];
	int32_t type[TINY_VOCAB];

	for (int i = 0; i < TINY_VOCAB; i++) {
		token[i] = text[i];
		type[i] = i < CONTROL ? 3 : i < CONTROL + BYTES ? of_bytes : 1;
	}
	make_gguf_strings(m, "tokenizer.ggml.tokens", token, TINY_VOCAB);
	make_gguf_i32s(m, "tokenizer.ggml.token_type", type, TINY_VOCAB);
	make_gguf_u32(m, "tokenizer.ggml.bos_token_id", 1);
	make_gguf_u32(m, "tokenizer.ggml.eos_token_id", 2);
	make_gguf_bool(m, "tokenizer.ggml.add_bos_token", false);
}

/* ChatML; one that `thinks` can be told not to. */
static void put_template(struct make_gguf *m, bool thinks)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "{%% for message in messages %%}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
		 "'<|im_end|>' + '\\n'}}{%% endfor %%}"
		 "{%% if add_generation_prompt %%}{{ '<|im_start|>assistant\\n' }}%s{%% endif %%}",
		 thinks ? "{% if enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}" : "");
	make_gguf_string(m, "tokenizer.chat_template", text);
}

/* The texts of all tokens but those of bytes. */
static void name_tokens(char text[TINY_VOCAB][16], const char *blank)
{
	static const char *const control[] = { "<|endoftext|>", "<|im_start|>", "<|im_end|>" };

	for (int i = 0; i < CONTROL; i++)
		snprintf(text[i], sizeof(text[i]), "%s", control[i]);
	for (int i = 0; i < MERGES; i++) {
		const char *merge = merges[i], *first = strncmp(merge, "Ġ", 2) == 0 ? blank : "";
		const char *rest = merge + (*first ? 2 : 0);
		int left = (int)strcspn(rest, " ");

		snprintf(text[CONTROL + BYTES + i], sizeof(text[i]), "%s%.*s%s", first, left, rest, rest + left + 1);
	}
}

void make_tiny_vocab(struct make_gguf *m)
{
	static char text[TINY_VOCAB][16];
	int unprintable = 0;

	name_tokens(text, "Ġ");
	for (int i = 0; i < BYTES; i++)
		put_byte_character(i, &unprintable, text[CONTROL + i]);
	make_gguf_string(m, "tokenizer.ggml.model", "gpt2");
	make_gguf_string(m, "tokenizer.ggml.pre", "smollm");
	make_gguf_strings(m, "tokenizer.ggml.merges", merges, MERGES);
	put_tokens(m, text, 1);
	put_template(m, false);
}

/* The same vocabulary as pieces, the earlier a merge, the better its score; and a template that tells of thoughts. */
static void make_tiny_pieces(struct make_gguf *m)
{
	static char text[TINY_VOCAB][16];
	float score[TINY_VOCAB];

	name_tokens(text, "\xe2\x96\x81");
	for (int i = 0; i < TINY_VOCAB; i++)
		score[i] = (float)-i;
	for (int i = 0; i < BYTES; i++)
		snprintf(text[CONTROL + i], sizeof(text[i]), "<0x%02X>", (unsigned)i);
	make_gguf_string(m, "tokenizer.ggml.model", "llama");
	make_gguf_f32s(m, "tokenizer.ggml.scores", score, TINY_VOCAB);
	put_tokens(m, text, 6);
	put_template(m, true);
}

static void put_layer(struct make_gguf *m, const struct make_tiny *o, const struct kind *k, uint32_t layer,
		      uint64_t *state)
{
	uint64_t width = (uint64_t)o->heads * o->head_size, kv = (uint64_t)o->kv_heads * o->head_size;
	float spread = 1.7F / sqrtf((float)width); /* a product has the variance of its input */
	char name[64];
	struct {
		const char *name;
		uint64_t cols, rows;
	} matrices[] = {
		{ "attn_q", width, width },	 { "attn_k", width, kv },      { "attn_v", width, kv },
		{ "attn_output", width, width }, { "ffn_gate", width, o->ff }, { "ffn_up", width, o->ff },
		{ "ffn_down", o->ff, width },
	};

	for (size_t i = 0; i < sizeof(matrices) / sizeof(matrices[0]); i++) {
		snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, matrices[i].name);
		put_matrix(m, name, k, matrices[i].cols, matrices[i].rows, spread, state);
	}
	snprintf(name, sizeof(name), "blk.%u.attn_norm.weight", layer);
	put_norm(m, name, width, state);
	snprintf(name, sizeof(name), "blk.%u.ffn_norm.weight", layer);
	put_norm(m, name, width, state);
	snprintf(name, sizeof(name), "blk.%u.attn_sinks.weight", layer);
	if (o->sinks)
		put_norm(m, name, o->heads, state);
}

static void put_shape(struct make_gguf *m, const struct make_tiny *o)
{
	make_gguf_string(m, "general.architecture", "llama");
	make_gguf_string(m, "general.name", "tiny");
	make_gguf_u32(m, "llama.block_count", o->layers);
	make_gguf_u32(m, "llama.context_length", o->context);
	make_gguf_u32(m, "llama.embedding_length", o->heads * o->head_size);
	make_gguf_u32(m, "llama.feed_forward_length", o->ff);
	make_gguf_u32(m, "llama.attention.head_count", o->heads);
	make_gguf_u32(m, "llama.attention.head_count_kv", o->kv_heads);
	make_gguf_u32(m, "llama.rope.dimension_count", o->head_size);
	make_gguf_u32(m, "llama.vocab_size", TINY_VOCAB);
	make_gguf_f32(m, "llama.rope.freq_base", 10000);
	make_gguf_f32(m, "llama.attention.layer_norm_rms_epsilon", 1e-5F);
}

static const struct kind *find_kind(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!name || strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

int make_tiny_model(const char *path, const struct make_tiny *how)
{
	const struct kind *k = find_kind(how->type);
	struct make_tiny o = *how;
	uint64_t state = o.seed, width;
	struct make_gguf *m;

	if (!k) {
		errno = EINVAL;
		return -1;
	}
	o.layers = o.layers ? o.layers : 2;
	o.heads = o.heads ? o.heads : 4;
	o.kv_heads = o.kv_heads ? o.kv_heads : 2;
	o.head_size = o.head_size ? o.head_size : 16;
	o.ff = o.ff ? o.ff : 128;
	o.context = o.context ? o.context : 512;
	width = (uint64_t)o.heads * o.head_size;
	m = make_gguf_new();
	put_shape(m, &o);
	if (o.pieces)
		make_tiny_pieces(m);
	else
		make_tiny_vocab(m);
	if (o.fim) {
		make_gguf_u32(m, "tokenizer.ggml.fim_pre_token_id", 3);
		make_gguf_u32(m, "tokenizer.ggml.fim_suf_token_id", 4);
		make_gguf_u32(m, "tokenizer.ggml.fim_mid_token_id", 5);
	}
	put_matrix(m, "token_embd.weight", k, width, TINY_VOCAB, 0.5F, &state);
	for (uint32_t l = 0; l < o.layers; l++)
		put_layer(m, &o, k, l, &state);
	put_norm(m, "output_norm.weight", width, &state);
	if (o.untied)
		put_matrix(m, "output.weight", k, width, TINY_VOCAB, 0.5F, &state);
	return make_gguf_write(m, path);
}
