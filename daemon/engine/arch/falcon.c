/*
 * Falcon: LayerNorm, attention and feed-forward part side by side on the same normed input (or, with 40B, on two), one
 * or few KV heads, no biases but those of the norms.
 */
#include "arch.h"

static int falcon_keys(const struct gguf *g, struct shape *s, struct err *e)
{
	(void)g;
	(void)e;
	s->parallel = true;
	return 0;
}

const struct arch arch_falcon = {
	.name = "falcon",
	.norm = INPUT_LAYER_NORM,
	.activation = INPUT_GELU,
	.ffn_norm = "attn_norm",
	.biases = BIAS_NORM,
	.fused_qkv = true,
	.keys = falcon_keys,
};
