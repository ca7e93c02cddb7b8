/*
 * Texts to tokens. All tokenizing is done by one thread of its own, short texts too: a text of a megabyte takes a good
 * part of a second, which neither the loop nor the engine has, and one way for all lengths is easier to be right about.
 */
#ifndef DAEMON_ENCODE_H
#define DAEMON_ENCODE_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "model.h"
#include "token.h"
#include "turn.h"
#include "worker.h"

struct conversation;
struct request;

enum piece_kind {
	PIECE_BEGIN,   /* what stands at the beginning of a conversation, behind the token `last` when it has one */
	PIECE_MESSAGE, /* a whole message of a role */
	PIECE_OPEN,    /* what makes the model answer */
	PIECE_CLOSE,   /* what ends an answer that stopped at the token `last` */
	PIECE_TEXT,    /* raw text */
};

struct piece {
	enum piece_kind kind;
	enum role role;
	enum turn_place place; /* of a message that no other piece stands before */
	const char *text;      /* the owner's, who keeps it until the job is back */
	size_t len;
	int32_t last; /* -1: none */
	bool special;
	bool unthinking; /* the answer that is opened */
	size_t end;	 /* out: tokens up to the end of this piece */
};

enum { PIECES_MOST = 6 };

struct encode {
	struct job job;
	const struct model *model;
	struct piece piece[PIECES_MOST];
	size_t pieces;
	struct tokens out;
	int rc;
	struct err err;
	struct request *request; /* for the one who asked */
	struct conversation *conversation;
	size_t system; /* 1 + the piece that is a system message, or 0 */
	bool answers;
	int64_t seq; /* event number that the reply is to tell */
};

/* A job without pieces. `done` is called in the loop when it comes back. */
int encode_new(const struct model *m, void (*done)(struct job *j, void *owner), struct encode **ret, struct err *e);
void encode_free(struct encode *n); /* NULL is fine; not the request */

struct piece *encode_add(struct encode *n, enum piece_kind kind);
/* Tokens of a piece. */
size_t encode_tokens(const struct encode *n, size_t piece);

#endif
