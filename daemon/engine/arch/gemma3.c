/*
 * Gemma 3: five layers of six see a window only and rotate by a base of their own; norms of each head of q and k, and
 * of what attention and the feed-forward part yield; GeGLU; an embedding that is scaled. The 1 of its norms is in the
 * file.
 */
#include "arch.h"

#include <math.h>

enum { PERIOD = 6, LAYERS_27B = 62, WINDOW_MOST = 1 << 30 };

static int gemma3_keys(const struct gguf *g, struct shape *s, struct err *e)
{
	int r = gguf_int_or(g, "gemma3.attention.sliding_window", 0, WINDOW_MOST, 0, &s->window, e);

	s->period = PERIOD;
	s->embed_scale = sqrtf((float)s->width);
	if (!gguf_has(g, "gemma3.rope.freq_base_swa"))
		s->base[SIGHT_NEAR] = 10000;
	if (s->layers == LAYERS_27B) /* whose scores are scaled by what its heads would have, were they as wide as x */
		s->head.scale = 1 / sqrtf((float)s->width / (float)s->head.heads);
	return r;
}

const struct arch arch_gemma3 = {
	.name = "gemma3",
	.norm = INPUT_NORM,
	.activation = INPUT_GATE_GELU,
	.qk_norm = true,
	.post_norms = true,
	.near_plain = true,
	.keys = gemma3_keys,
};
