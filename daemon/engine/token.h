/*
 * The vocabulary of a model: text to token ids and back, byte-level BPE as GGUF carries it (tokens, types, merges, and
 * the name of the pre-tokenizer that splits the text first: gpt-2, smollm, llama-bpe, qwen2).
 *
 * Text is bytes: whatever they are, decoding the ids of a text gives the text back, but for bytes that the vocabulary
 * has no token for. Those are left out, as the tokenizers do that such vocabularies were trained with (SmolLM2 lacks
 * six control characters and the bytes above 0xf0 that begin no character in use).
 *
 * Control tokens are never read from text unless the caller asks for it, so that nobody can write a turn's end into a
 * message. User-defined tokens (type 4, such as <tool_call>) are always read, except those that look like marks of
 * turns
 * (<|...|> and the ends that vocab_is_end() knows): they count as control tokens whatever the file says. So do bos,
 * eos, eot and eom.
 *
 * A vocabulary never changes; any number of threads may use one at the same time.
 */
#ifndef ENGINE_TOKEN_H
#define ENGINE_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "gguf.h"

/* A growing list of ids; zero-initialize, then tokens_release(). */
struct tokens {
	int32_t *id;
	size_t count, room;
};

int tokens_add(struct tokens *t, int32_t id, struct err *e);
int tokens_reserve(struct tokens *t, size_t count, struct err *e); /* room for so many more */
int tokens_append(struct tokens *t, const int32_t *id, size_t count, struct err *e);
void tokens_release(struct tokens *t); /* the list is empty and usable afterwards */

struct vocab;

/* Reads tokenizer.ggml.*. SINK_EFORMAT names the key that is missing or wrong. The file must outlive the vocabulary. */
int vocab_new(const struct gguf *g, struct vocab **ret, struct err *e);
void vocab_free(struct vocab *v); /* NULL is fine */

size_t vocab_size(const struct vocab *v);

/*
 * Appends the ids of `len` bytes of text. With `special`, texts of control tokens become those tokens. On failure (no
 * memory) the list is as it was. Takes time in proportion to len * log(longest word).
 */
int vocab_encode(const struct vocab *v, const char *text, size_t len, bool special, struct tokens *out, struct err *e);

/*
 * The bytes of token `id`, 0 <= id < vocab_size() here and below; static while the vocabulary lives. Those of a control
 * token are none unless `special`.
 */
struct gguf_str vocab_piece(const struct vocab *v, int32_t id, bool special);

/* The token whose bytes are exactly this text; -1 when there is none. A control token comes before a plain one. */
int32_t vocab_find(const struct vocab *v, const char *text);

bool vocab_is_control(const struct vocab *v, int32_t id);
bool vocab_is_end(const struct vocab *v, int32_t id); /* ends an answer: eos, eot, <|im_end|> and the like */

int32_t vocab_bos(const struct vocab *v);   /* -1: none */
int32_t vocab_eos(const struct vocab *v);   /* -1: none */
bool vocab_adds_bos(const struct vocab *v); /* the file asks for it before a text */

/*
 * Length of the longest prefix of `len` bytes that does not end inside a UTF-8 character that more bytes could
 * complete. (Bytes that can never become a character count as complete: the caller replaces them.)
 */
size_t utf8_whole(const char *text, size_t len);

#endif
