/*
 * The llama family (Llama, Mistral, SmolLM2): RMSNorm before attention and before the feed-forward part, grouped-query
 * attention with RoPE on interleaved pairs (as files of this architecture hold their q and k rows), SwiGLU.
 */
#include "arch.h"

const struct arch arch_llama = {
	.name = "llama",
	.norm = INPUT_NORM,
	.activation = INPUT_GATE,
	.interleaved = true,
};
