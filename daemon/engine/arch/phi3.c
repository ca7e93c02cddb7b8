/* Phi 3 and 4: fused matrices, frequencies stretched by factors of the file, and a window of all layers in some. */
#include "arch.h"

static int phi3_keys(const struct gguf *g, struct shape *s, struct err *e)
{
	int r = gguf_int_or(g, "phi3.attention.sliding_window", 0, INT32_MAX, 0, &s->window, e);

	if (s->window >= s->context)
		s->window = 0;
	return r;
}

const struct arch arch_phi3 = {
	.name = "phi3",
	.norm = INPUT_NORM,
	.activation = INPUT_GATE,
	.fused_qkv = true,
	.fused_gate = true,
	.keys = phi3_keys,
};
