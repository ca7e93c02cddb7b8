/*
 * GPT-NeoX (Pythia): LayerNorm, attention and feed-forward part side by side, biases everywhere, and rotation of the
 * first quarter of a head or so.
 */
#include "arch.h"

static int gptneox_keys(const struct gguf *g, struct shape *s, struct err *e)
{
	return gguf_bool_or(g, "gptneox.use_parallel_residual", true, &s->parallel, e);
}

const struct arch arch_gptneox = {
	.name = "gptneox",
	.norm = INPUT_LAYER_NORM,
	.activation = INPUT_GELU,
	.biases = BIAS_ALL,
	.fused_qkv = true,
	.keys = gptneox_keys,
};
