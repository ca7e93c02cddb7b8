/*
 * The vocabulary of a model: text to token ids and back, as GGUF carries it. "gpt2" is byte-level BPE: tokens, types,
 * merges, and the name of the pre-tokenizer that splits the text first (pretoken.h). "llama" is the BPE of
 * SentencePiece (Kudo and Richardson 2018): pieces with scores, of which the pair with the best score is joined first;
 * characters that are no piece go by their bytes, and a blank is put in front of a text where the file does not forbid
 * it.
 *
 * Text is bytes: whatever they are, decoding the ids of a text one after the other (vocab_next_piece()) gives the
 * text back, but for U+2581 among pieces (which comes back as a blank), and bytes that the vocabulary has no token for.
 * Those are left out, as the tokenizers do that such vocabularies were trained with (SmolLM2 lacks six control
 * characters and the bytes above 0xf0 that begin no character in use).
 *
 * Control tokens are never read from text unless the caller asks for it, so that nobody can write a turn's end into a
 * message. User-defined tokens (type 4, such as <tool_call>) are always read, except those that look like marks of
 * turns (<|...|>, <start_of_turn>, and the ends that vocab_is_end() knows): they count as control tokens whatever the
 * file says. So do bos, eos, eot and eom.
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

/* The same, but texts of control tokens become those tokens where all of their bytes have the origin 0. */
int vocab_encode_from(const struct vocab *v, const char *text, const uint8_t *origin, size_t len, struct tokens *out,
		      struct err *e);

/*
 * The bytes of token `id`, 0 <= id < vocab_size() here and below; static while the vocabulary lives. Those of a control
 * token are none unless `special`.
 */
struct gguf_str vocab_piece(const struct vocab *v, int32_t id, bool special);

/*
 * The same of tokens that follow each other: without the blank that the tokenizer puts in front of a text. `*front`
 * says whether a text begins with this token, and then whether with the next: true to begin with, if one does; behind a
 * mark another begins.
 */
struct gguf_str vocab_next_piece(const struct vocab *v, int32_t id, bool special, bool *front);

/* The token whose bytes are exactly this text; -1 when there is none. A control token comes before a plain one. */
int32_t vocab_find(const struct vocab *v, const char *text);

bool vocab_is_control(const struct vocab *v, int32_t id);
bool vocab_is_mark(const struct vocab *v, int32_t id); /* a control or user-defined token: its text is one thing */
bool vocab_is_end(const struct vocab *v, int32_t id);  /* ends an answer: eos, eot, <|im_end|> and the like */

int32_t vocab_bos(const struct vocab *v);     /* -1: none */
int32_t vocab_eos(const struct vocab *v);     /* -1: none */
bool vocab_adds_blank(const struct vocab *v); /* a text's first token may begin with a blank that is not of the text */
bool vocab_adds_bos(const struct vocab *v);   /* the file asks for it before a text */

/*
 * The tokens by which a text is filled in: ahead of what is before the gap, of what is behind it, and of what comes
 * into it. The file's own keys, or tokens that are called so. False: the model was not trained for it.
 */
enum { VOCAB_FIM_PREFIX, VOCAB_FIM_SUFFIX, VOCAB_FIM_MIDDLE, VOCAB_FIM };

bool vocab_fim(const struct vocab *v, int32_t ret[VOCAB_FIM]);

/*
 * Length of the longest prefix of `len` bytes that does not end inside a UTF-8 character that more bytes could
 * complete. (Bytes that can never become a character count as complete: the caller replaces them.)
 */
size_t utf8_whole(const char *text, size_t len);

#endif
