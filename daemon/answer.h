/*
 * The text of an answer while it is being written: bytes of tokens in, publishable text out.
 *
 * Held back are the bytes of a character that is not whole yet, and a text that a stop string may still come of. What
 * goes out is valid UTF-8: bytes that can never become a character go out as U+FFFD.
 */
#ifndef DAEMON_ANSWER_H
#define DAEMON_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "draft.h"
#include "error.h"
#include "guide.h"
#include "settings.h"
#include "token.h"

/* Growing bytes, always followed by a NUL; zero-initialize, then text_release(). */
struct text {
	char *at;
	size_t len, room;
};

int text_add(struct text *t, const char *bytes, size_t len, struct err *e);
void text_cut(struct text *t, size_t from, size_t count); /* takes bytes out */
void text_release(struct text *t);			  /* empty and usable afterwards */

/* Appends bytes, with U+FFFD for those that are no UTF-8. */
int text_add_valid(struct text *t, const char *bytes, size_t len, struct err *e);

/* One more token of an answer. */
struct drawn {
	int32_t id;
	double logprob;
	const struct likeliest *likeliest; /* what else could have been there; NULL: nobody asks */
};

struct answer {
	struct settings settings;
	struct guide *guide; /* through what it must be; NULL: it may be anything */
	struct text held;    /* valid UTF-8 but for an unfinished character at its end */
	int32_t *id;	     /* tokens whose text did not go out yet, with their log-probabilities */
	double *logprob;
	struct likeliest *likeliest; /* NULL: nobody asks */
	size_t tokens, room;
	struct likeliest *explained; /* [1 + DRAFT_MOST], where a step puts those of its tokens; NULL: nobody asks */
	bool front;		     /* a text begins with the next token: see vocab_next_piece() */
};

void answer_init(struct answer *a, const struct settings *s);
/*
 * Takes up the constraint of its settings, if there is one. SINK_EINVAL: it cannot be used, or not within max_tokens.
 */
int answer_guide(struct answer *a, const struct trie *t, struct err *e);
/* How many tokens it may have when so many are written. */
int64_t answer_left(const struct answer *a, int64_t written);
/* Makes what a step needs of it. */
int answer_prepare(struct answer *a, struct err *e);
void answer_release(struct answer *a);

/* The text of the next token, as answer_take() wants it. Where it must be something, that is all of its bytes. */
struct gguf_str answer_piece(struct answer *a, const struct vocab *v, int32_t id);
/*
 * Takes the bytes of one more token. What may go out is appended to `out`; with it go all tokens in id[], until
 * answer_sent() forgets them. *stopped: a stop string has come; the text before it is out, the rest is dropped.
 */
int answer_take(struct answer *a, const struct drawn *d, const char *bytes, size_t len, struct text *out, bool *stopped,
		struct err *e);

/* How many of these tokens may come one after the other before one ends the answer, by itself or by its text. */
size_t answer_foresees(const struct answer *a, const struct vocab *v, const int32_t *id, size_t count);

/* The answer is over: what is held goes out, an unfinished character as U+FFFD. */
int answer_end(struct answer *a, struct text *out, struct err *e);

/* The tokens that are held have been told. */
void answer_sent(struct answer *a);

#endif
