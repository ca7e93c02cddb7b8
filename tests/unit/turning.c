/* The turns of a model file that was made in memory (turning.h). */
#include "turning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

void made_open(struct made *d, struct make_gguf *m)
{
	size_t size;

	d->data = make_gguf_finish(m, &size);
	assert_int_equal(gguf_parse(d->data, size, &d->g, NULL), 0);
	assert_int_equal(vocab_new(d->g, &d->v, NULL), 0);
	assert_int_equal(turns_new(d->g, d->v, &d->t, d->note, NULL), 0);
}

void made_release(struct made *d)
{
	turns_free(d->t);
	vocab_free(d->v);
	gguf_close(d->g);
	free(d->data);
}
