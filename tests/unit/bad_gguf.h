/*
 * Model files that are damaged or hostile, each a thing that has broken some reader before. The unit test holds what is
 * said of each; tests/fuzz/make_corpus writes them out as seeds of the fuzzer.
 */
#ifndef TESTS_BAD_GGUF_H
#define TESTS_BAD_GGUF_H

#include "make_gguf.h"

struct bad_gguf {
	const char *name; /* a file's name */
	const char *says; /* a part of the error of gguf_parse(); NULL: the fault is none of the format's */
	void (*make)(struct make_gguf *m);
};

extern const struct bad_gguf bad_gguf[]; /* ends with a name that is NULL */

/* The keys of the smallest vocabulary: a, b, ab, <|im_start|>, <|im_end|>. */
void make_mini_vocab(struct make_gguf *m, const char *last_token, const char *template);

#endif
