/*
 * Families of models: one small file each, one row in the table of arch.c.
 *
 * A family reads its hyperparameters into a `struct shape`, packs its weights, and runs its layers over the operations
 * of kernels.h. What every family shares (embedding of the tokens, last norm, output matrix, buffers, the cache) is
 * model.c's.
 */
#ifndef ENGINE_ARCH_H
#define ENGINE_ARCH_H

#include <stdint.h>

#include "error.h"
#include "gguf.h"
#include "kernels.h"
#include "weights.h"

/* Hyperparameters, each within the range that its reader checked; sizes in elements. */
struct shape {
	int64_t layers, width, ff, context;
	struct head_shape head;
	double *inv_freq;  /* [head.rotated / 2]: radians a position, RoPE scaling included; from malloc() */
	float eps;	   /* of the norms */
	float embed_scale; /* of the embedding's rows */
};

/* One step through the layers: buffers of the device, [n] rows each. */
struct pass {
	const struct shape *shape;
	const struct page_shape *pages;
	const struct row *rows; /* host */
	size_t n;
	const float *key_angles, *query_angles; /* [n][2][rotated], [n][RUNS][rotated] */
	float *x;				/* [n][width]: in, the embedded tokens; out, what the last layer left */
	float *qkv;				/* [n][(heads + 2 * kv_heads) * head_size] */
	float *att;				/* [n][heads * head_size] */
	float *pair;				/* [n][2 * ff] */
};

struct layer;

struct arch {
	const char *name; /* as general.architecture has it */

	/* SINK_EFORMAT names the key that is missing or out of its range. */
	int (*shape)(const struct gguf *g, struct shape *ret, struct err *e);
	/* Packs the weights of all layers, [layers]; on failure nothing is left. */
	int (*load)(struct weights *w, const struct shape *s, struct layer **ret, struct err *e);
	void (*unload)(struct weights *w, const struct shape *s, struct layer *l); /* NULL is fine */
	void (*run)(const struct weights *w, const struct layer *l, const struct pass *p);
};

extern const struct arch arch_llama;

/* The family of this name; NULL with SINK_EFORMAT listing those that there are. */
const struct arch *arch_find(struct gguf_str name, struct err *e);

#endif
