/* A layer's weights, for layer.c, which loads them, and run.c, which uses them. What a family has not is NULL. */
#ifndef ENGINE_LAYER_H
#define ENGINE_LAYER_H

#include "arch.h"

/* Matrices that share their input, and what is added to their results. */
struct product {
	struct weight *w[3];
	size_t weights;
	float *bias; /* [sum of rows] */
};

/* Matrices of all experts, which are of one shape and type. */
struct mixture {
	struct weight *router;
	struct weight **gate, **up, **down;	       /* [experts] each, in one block that `gate` begins */
	float *router_bias, *gate_up_bias, *down_bias; /* as struct experts has them */
};

struct layer {
	enum sight sight;
	struct norm_weights attn_norm, ffn_norm, post_attn, post_ffn;
	struct norm_weights q_norm, k_norm; /* [head_size] */
	struct product qkv, attn_output, up, down;
	struct mixture experts;
	float *attn_sinks; /* [heads] */
};

#endif
