/*
 * gpt-oss: every other layer sees a window only, each head has learned a sink's logit, experts with limits on what they
 * gate, biases everywhere, and YaRN whose ramp has bounds that are not rounded.
 */
#include "arch.h"

enum { PERIOD = 2, WINDOW_MOST = 1 << 30 };

static int gpt_oss_keys(const struct gguf *g, struct shape *s, struct err *e)
{
	s->period = PERIOD;
	return gguf_int(g, "gpt-oss.attention.sliding_window", 1, WINDOW_MOST, &s->window, e);
}

const struct arch arch_gpt_oss = {
	.name = "gpt-oss",
	.norm = INPUT_NORM,
	.activation = INPUT_GATE_CLAMPED,
	.ffn_norm = "post_attention_norm",
	.biases = BIAS_QKV | BIAS_OUTPUT | BIAS_FF,
	.sinks = true,
	.experts = true,
	.yarn_exact = true,
	.keys = gpt_oss_keys,
};
