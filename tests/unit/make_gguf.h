/*
 * Makes GGUF files for tests: good ones, and bad ones on purpose, since nothing that is written here is checked. Keys
 * and tensors come out in the order in which they were added. Memory that runs out ends the test (abort).
 *
 *	struct make_gguf *m = make_gguf_new();
 *	make_gguf_string(m, "general.architecture", "llama");
 *	make_gguf_tensor(m, "w", DTYPE_F32, 2, (uint64_t[]){ 64, 3 }, bytes, 64 * 3 * 4);
 *	void *data = make_gguf_finish(m, &size);	frees m; the caller frees data
 */
#ifndef TESTS_MAKE_GGUF_H
#define TESTS_MAKE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The types of a value, by their numbers in the file. */
enum make_gguf_type {
	GGUF_U8,
	GGUF_I8,
	GGUF_U16,
	GGUF_I16,
	GGUF_U32,
	GGUF_I32,
	GGUF_F32,
	GGUF_BOOL,
	GGUF_STRING,
	GGUF_ARRAY,
	GGUF_U64,
	GGUF_I64,
	GGUF_F64,
};

struct make_gguf;

struct make_gguf *make_gguf_new(void);
void make_gguf_version(struct make_gguf *m, uint32_t version); /* 3 unless said */
void make_gguf_alignment(struct make_gguf *m,
			 size_t alignment); /* of the data section, 32 unless said; no key is added */
void make_gguf_counts(struct make_gguf *m, uint64_t tensors, uint64_t keys); /* what the header claims */

/* A key with a value of any type: the value's bytes as they shall lie in the file. */
void make_gguf_raw(struct make_gguf *m, const char *key, uint32_t type, const void *value, size_t bytes);
void make_gguf_u32(struct make_gguf *m, const char *key, uint32_t value);
void make_gguf_f32(struct make_gguf *m, const char *key, float value);
void make_gguf_bool(struct make_gguf *m, const char *key, bool value);
void make_gguf_string(struct make_gguf *m, const char *key, const char *value);
void make_gguf_strings(struct make_gguf *m, const char *key, const char *const *value, size_t count);
void make_gguf_f32s(struct make_gguf *m, const char *key, const float *value, size_t count);
void make_gguf_i32s(struct make_gguf *m, const char *key, const int32_t *value, size_t count);

/* A tensor and its data, `dims` dimensions with the fastest first. */
void make_gguf_tensor(struct make_gguf *m, const char *name, uint32_t type, uint32_t dims, const uint64_t *dim,
		      const void *data, size_t bytes);
/* A tensor's description alone, with the offset that it shall claim; with dim NULL, no dimension follows their number.
 */
void make_gguf_claim(struct make_gguf *m, const char *name, uint32_t type, uint32_t dims, const uint64_t *dim,
		     uint64_t offset);

void *make_gguf_finish(struct make_gguf *m, size_t *size);
int make_gguf_write(struct make_gguf *m, const char *path); /* the same to a file, frees m; 0, or -1 with errno */

/*
 * The keys of a byte-level BPE vocabulary of TINY_VOCAB tokens: three control tokens (<|endoftext|> 0, <|im_start|> 1,
 * <|im_end|> 2, which is eos), one token a byte (3 + byte's place in the alphabet of byte-level BPE), and a few merges
 * ("th", "the", " the", …). Pre-tokenizer smollm, a ChatML template without a default system prompt, no BOS.
 */
enum { TINY_VOCAB = 288 };
void make_tiny_vocab(struct make_gguf *m);

/* A random llama model with that vocabulary. A member that is 0 gets the value in brackets. */
struct make_tiny {
	uint64_t seed;
	const char *type; /* of the matrices: "f32" ["f16"], "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k",
			     "q5_k", "q6_k"; norms are F32 */
	uint32_t layers;  /* [2] */
	uint32_t heads, kv_heads; /* [4], [2] */
	uint32_t head_size;	  /* [16]; the width is heads * head_size; like ff a multiple of 32 for the Q types, of
				     256 for the K types */
	uint32_t ff;		  /* [128] */
	uint32_t context;	  /* [512] */
	bool untied;		  /* with an output matrix of its own; else the embedding serves */
	bool sinks;		  /* with a learned logit a head in the softmax's denominator */
	bool fim;		  /* its file names tokens for text that is to be filled in: 3, 4 and 5 */
	bool pieces;		  /* with scores for merges, as SentencePiece has them, a blank in front of texts, and a
				     template that can ask for answers without thoughts */
};

/* Writes the model; the same arguments give the same bytes. 0, or -1 with errno (EINVAL: an unknown type). */
int make_tiny_model(const char *path, const struct make_tiny *how);

#endif
