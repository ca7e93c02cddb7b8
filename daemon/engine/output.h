/*
 * What a step yields: rows of logits on the device, and as much of them here as is asked for. A device that lies apart
 * sends the largest of each row, and a whole row when somebody wants it; from others all rows are here at once.
 */
#ifndef ENGINE_OUTPUT_H
#define ENGINE_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "kernels.h"

struct output {
	const struct backend *b;
	struct device *d;
	size_t vocab, rows; /* of the last step */
	float *logits;	    /* the device's, [most][vocab] */
	float *largest;	    /* the device's, [most] of struct top; NULL where it does not lie apart */
	float *here;	    /* [most][vocab] */
	bool *is_here;	    /* [most] */
	struct top *top;    /* [most] */
};

/* For at most `most` rows a step; *o all zeros before. After an error output_free() is due as well. */
int output_init(struct output *o, const struct backend *b, struct device *d, size_t most, size_t vocab, struct err *e);
void output_free(struct output *o); /* all zeros is fine */

/* Among the operations of a step, when the logits of `rows` rows are made. */
void output_rank(const struct output *o, size_t rows);
/* After a step that has succeeded, with so many rows. */
void output_take(struct output *o, size_t rows);

const float *output_row(const struct output *o, size_t i);
const struct top *output_top(const struct output *o, size_t i); /* NULL where the device does not lie apart */

#endif
