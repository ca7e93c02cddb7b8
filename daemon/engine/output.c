/* Owns the logits of a step, on the device and here. */
#include "output.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int output_init(struct output *o, const struct backend *b, struct device *d, size_t most, size_t vocab, struct err *e)
{
	int r;

	o->b = b;
	o->d = d;
	o->vocab = vocab;
	r = b->buffer_new(d, most * vocab, &o->logits, e);
	if (!r && b->apart)
		r = b->buffer_new(d, most * sizeof(struct top) / sizeof(float), &o->largest, e);
	if (r)
		return r;
	o->here = calloc(most * vocab, sizeof(*o->here));
	o->is_here = calloc(most, sizeof(*o->is_here));
	o->top = calloc(most, sizeof(*o->top));
	if (!o->here || !o->is_here || !o->top)
		return err_set(e, SINK_ENOMEM, "Out of memory for %zu rows of logits.", most);
	return 0;
}

void output_free(struct output *o)
{
	if (o->b) {
		o->b->buffer_free(o->d, o->logits);
		o->b->buffer_free(o->d, o->largest);
	}
	free(o->here);
	free(o->is_here);
	free(o->top);
}

void output_rank(const struct output *o, size_t rows)
{
	if (o->b->apart)
		o->b->top(o->d, o->logits, rows, o->vocab, (struct top *)(void *)o->largest);
}

void output_take(struct output *o, size_t rows)
{
	o->rows = rows;
	if (!rows)
		return;
	memset(o->is_here, !o->b->apart, rows * sizeof(*o->is_here));
	if (o->b->apart)
		o->b->read(o->d, o->top, o->largest, rows * sizeof(*o->top));
	else
		o->b->read(o->d, o->here, o->logits, rows * o->vocab * sizeof(*o->here));
}

const float *output_row(const struct output *o, size_t i)
{
	float *row = o->here + i * o->vocab;

	assert(i < o->rows);
	if (!o->is_here[i])
		o->b->read(o->d, row, o->logits + i * o->vocab, o->vocab * sizeof(*row));
	o->is_here[i] = true;
	return row;
}

const struct top *output_top(const struct output *o, size_t i)
{
	assert(i < o->rows);
	return o->b->apart ? &o->top[i] : NULL;
}
