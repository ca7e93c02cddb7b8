/* Owns the order of what a prompt is made of; the marks themselves are the engine's (turn.h). */
#include "encode.h"

#include <assert.h>
#include <stdlib.h>

/* Where a message stands: behind another piece of its job, or where its owner says. */
static enum turn_place place_of(const struct encode *n, const struct piece *p)
{
	const struct piece *before = p > n->piece ? p - 1 : NULL;

	if (!before)
		return p->place;
	if (before->kind == PIECE_BEGIN)
		return TURN_FIRST;
	return before->kind == PIECE_MESSAGE && before->role == ROLE_SYSTEM ? TURN_BEHIND_SYSTEM : TURN_LATER;
}

static int encode_piece(const struct encode *n, const struct piece *p, struct tokens *out, struct err *e)
{
	const struct turns *t = model_turns(n->model);

	switch (p->kind) {
	case PIECE_BEGIN:
		if (p->last >= 0 && tokens_add(out, p->last, e) < 0)
			return SINK_ENOMEM;
		return turns_begin(t, out, e);
	case PIECE_MESSAGE:
		return turns_message_at(t, place_of(n, p), p->role, p->text, p->len, out, e);
	case PIECE_OPEN:
		return p->unthinking ? turns_open_unthinking(t, out, e) : turns_open_answer(t, out, e);
	case PIECE_CLOSE:
		return turns_close_answer(t, p->last, out, e);
	case PIECE_TEXT:
		return vocab_encode(model_vocab(n->model), p->text, p->len, p->special, out, e);
	}
	return SINK_EINVAL;
}

static void encode_run(struct job *j)
{
	struct encode *n = (struct encode *)j;

	for (size_t i = 0; i < n->pieces && !n->rc; i++) {
		n->rc = encode_piece(n, &n->piece[i], &n->out, &n->err);
		n->piece[i].end = n->out.count;
	}
}

int encode_new(const struct model *m, void (*done)(struct job *j, void *owner), struct encode **ret, struct err *e)
{
	struct encode *n = calloc(1, sizeof(*n));

	if (!n)
		return err_set(e, SINK_ENOMEM, "There is no memory for a text to be read.");
	n->job = (struct job){ encode_run, done };
	n->model = m;
	*ret = n;
	return 0;
}

void encode_free(struct encode *n)
{
	if (!n)
		return;
	tokens_release(&n->out);
	free(n);
}

struct piece *encode_add(struct encode *n, enum piece_kind kind)
{
	assert(n->pieces < PIECES_MOST);
	n->piece[n->pieces] = (struct piece){ .kind = kind, .place = TURN_LATER, .last = -1 };
	return &n->piece[n->pieces++];
}

size_t encode_tokens(const struct encode *n, size_t piece)
{
	return n->piece[piece].end - (piece ? n->piece[piece - 1].end : 0);
}
