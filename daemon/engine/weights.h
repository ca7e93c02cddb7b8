/*
 * Tensors of a model file on their way to the device: found by name, their shapes checked, packed.
 *
 * After packing, the file's pages are given back to the system, so that a model is in memory once.
 */
#ifndef ENGINE_WEIGHTS_H
#define ENGINE_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "gguf.h"
#include "kernels.h"

struct weights {
	const struct gguf *g;
	const struct backend *b;
	struct device *d;
	const void **used; /* the data of each tensor that was found */
	size_t count;
	uint64_t elements, bytes; /* of all matrices that were packed */
};

int weights_init(struct weights *w, const struct gguf *g, const struct backend *b, struct device *d, struct err *e);
void weights_release(struct weights *w); /* the packed weights are their takers' */

/* SINK_EFORMAT naming a tensor of the file that nobody asked for: the model computes something that we do not. */
int weights_all_used(const struct weights *w, struct err *e);

/*
 * Packs the tensor of this name, which must be [rows][cols]. SINK_EFORMAT names the tensor that is missing, of another
 * shape, or of a type that is not supported. The result is freed with the backend's weight_free().
 */
int weights_matrix(struct weights *w, const char *name, size_t rows, size_t cols, struct weight **ret, struct err *e);

/*
 * The same for `count` matrices that follow each other in one tensor, [count][rows][cols], of which a row multiplies
 * `used`. On failure those that are there stay in ret, which was all NULL before.
 */
int weights_stack(struct weights *w, const char *name, size_t count, size_t used, size_t rows, size_t cols,
		  struct weight **ret, struct err *e);

/* SINK_EFORMAT unless all of the tensor's are numbers: one infinite norm, and every logit is none. */
int weights_finite(const char *name, const float *x, size_t n, struct err *e);

/* The same for a vector, as floats in the device's memory; freed with the backend's buffer_free(). They are finite. */
int weights_vector(struct weights *w, const char *name, size_t size, float **ret, struct err *e);

/* Finds and checks a tensor without packing it. */
int weights_tensor(struct weights *w, const char *name, size_t rows, size_t cols, struct tensor *ret, struct err *e);

#endif
