/*
 * What the tests of turns share: the turns of a model file that was made in memory. What fails in here fails the test.
 */
#ifndef TESTS_TURNING_H
#define TESTS_TURNING_H

#include "make_gguf.h"
#include "turn.h"

struct made {
	void *data;
	struct gguf *g;
	struct vocab *v;
	struct turns *t;
	char note[240];
};

/* Ends the file, which is freed; it has a vocabulary. */
void made_open(struct made *d, struct make_gguf *m);
void made_release(struct made *d);

#endif
