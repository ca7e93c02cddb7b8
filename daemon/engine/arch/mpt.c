/* MPT: LayerNorm without a shift, ALiBi instead of rotation, and q, k and v clipped where the file says so. */
#include "arch.h"

#include <math.h>
#include <stdlib.h>

/*
 * A head's slope is 2^(-most * i / n), i from 1 to n, the power of two that is not less than the heads. Where it is
 * more, every second one comes first, then the others as far as there are heads.
 */
static int make_slopes(struct shape *s, double most, struct err *e)
{
	const size_t heads = s->head.heads;
	size_t n = 1;

	while (n < heads)
		n *= 2;
	s->slopes = calloc(heads, sizeof(*s->slopes));
	if (!s->slopes)
		return err_set(e, SINK_ENOMEM, "Out of memory for the slopes of %zu heads.", heads);
	for (size_t h = 0; h < heads; h++) {
		size_t i = n == heads ? h + 1 : h < n / 2 ? 2 * (h + 1) : 2 * (h - n / 2) + 1;

		s->slopes[h] = (float)exp2(-most * (double)i / (double)n);
	}
	return 0;
}

static int mpt_keys(const struct gguf *g, struct shape *s, struct err *e)
{
	double most, clip;
	int r;

	if ((r = gguf_float_or(g, "mpt.attention.max_alibi_bias", 0, &most, e)) ||
	    (r = gguf_float_or(g, "mpt.attention.clamp_kqv", 0, &clip, e)))
		return r;
	if (!(most > 0 && most <= 1000))
		return err_set(
			e, SINK_EFORMAT,
			"Key \"mpt.attention.max_alibi_bias\" is not above 0: positions that are learned are not "
			"supported.");
	if (!(clip >= 0 && clip <= 1e6))
		return err_set(e, SINK_EFORMAT, "Key \"mpt.attention.clamp_kqv\" is not within 0 and 1000000.");
	s->head.rotated = 0;
	s->clip = (float)clip;
	return make_slopes(s, most, e);
}

const struct arch arch_mpt = {
	.name = "mpt",
	.norm = INPUT_LAYER_NORM,
	.activation = INPUT_GELU,
	.fused_qkv = true,
	.keys = mpt_keys,
};
