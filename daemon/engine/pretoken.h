/*
 * Pre-tokenizers: how a text is cut into pieces before byte-pair merges, which never reach across a cut. The name is
 * the one that a GGUF file gives in tokenizer.ggml.pre; the definition of each is one regular expression or a few.
 */
#ifndef ENGINE_PRETOKEN_H
#define ENGINE_PRETOKEN_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "gguf.h"

struct pretoken;

/* SINK_EINVAL for a name that is not known; the text lists those that are. */
int pretoken_new(struct gguf_str name, struct pretoken **ret, struct err *e);
void pretoken_free(struct pretoken *p); /* NULL is fine */

/* A piece that is a token as a whole is that token, whatever the merges say. */
bool pretoken_whole_first(const struct pretoken *p);
/* BOS comes before a text when the file does not say. */
bool pretoken_adds_bos(const struct pretoken *p);

/*
 * Calls piece() for each piece, in order; together they are the text. A byte that belongs to no UTF-8 character is a
 * piece by itself. Stops at the first code that is not 0 and returns it. May run in several threads at once.
 */
int pretoken_split(const struct pretoken *p, const char *text, size_t len,
		   int (*piece)(void *arg, const char *at, size_t len, struct err *e), void *arg, struct err *e);

#endif
