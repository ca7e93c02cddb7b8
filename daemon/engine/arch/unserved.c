/*
 * Owns the keys that ask for what no family here computes. Such a model would answer, with wrong numbers and nobody to
 * notice, so a key that says anything but what is computed anyway is refused by name. Tensors have the same rule, and
 * weights.c holds to it. Keys that change nothing, or come with tensors of their own, are not listed.
 */
#include <math.h>
#include <string.h>

#include "arch.h"
#include "keys.h"

/* Numbers that a key may say: there are two where one stands for "not set". */
static const struct {
	const char *name;
	double may[2];
	const char *what;
} floats[] = {
	{ "attn_logit_softcapping", { 0, 0 }, "capped scores" },
	{ "router_logit_softcapping", { 0, 0 }, "capped routers" },
	{ "final_logit_softcapping", { 0, 0 }, "capped logits" },
	{ "logit_scale", { 0, 1 }, "scaled logits" },
	{ "residual_scale", { 0, 1 }, "scaled residuals" },
	{ "embedding_scale", { 0, 1 }, "another scale of the embedding" },
	{ "attention.output_scale", { 0, 1 }, "scaled outputs" },
	{ "attention.value_scale", { 0, 1 }, "scaled values" },
	{ "attention.temperature_scale", { 0, 0 }, "scores scaled by their place" },
	{ "expert_weights_scale", { 0, 1 }, "scaled experts" },
	{ "rope.scaling.alpha", { 0, 1 }, "a scaled base" },
	{ "rope.scaling.yarn_log_multiplier", { 0, 0 }, "another scale of YaRN" },
};

static const struct {
	const char *name;
	int64_t may[2];
	const char *what;
} ints[] = {
	{ "attention.temperature_length", { 0, 0 }, "scores scaled by their place" },
	{ "attention.shared_kv_layers", { 0, 0 }, "layers that share keys" },
	{ "attention.relative_buckets_count", { 0, 0 }, "relative buckets" },
	{ "expert_shared_count", { 0, 0 }, "shared experts" },
	{ "expert_group_count", { 0, 1 }, "groups of experts" },
	{ "expert_gating_func", { 0, 3 }, "another function of the router" },
	{ "leading_dense_block_count", { 0, 0 }, "layers without experts" },
	{ "interleave_moe_layer_step", { 0, 1 }, "layers without experts" },
	{ "full_attention_interval", { 0, 1 }, "recurrent layers" },
	{ "nextn_predict_layers", { 0, 0 }, "layers that predict more" },
	{ "num_loops", { 0, 1 }, "layers that are run again" },
};

static int check_floats(const struct keys *k, struct err *e)
{
	for (size_t i = 0; i < sizeof(floats) / sizeof(floats[0]); i++) {
		double x;
		int r = key_float_or(k, floats[i].name, -1e30, 1e30, floats[i].may[0], &x, e);

		if (r)
			return r;
		if (!(fabs(x - floats[i].may[0]) < 1e-6 || fabs(x - floats[i].may[1]) < 1e-6))
			return key_fail(k, floats[i].name, e, "%s are not supported.", floats[i].what);
	}
	return 0;
}

static int check_ints(const struct keys *k, struct err *e)
{
	for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++) {
		int64_t n;
		int r = key_int_or(k, ints[i].name, INT64_MIN, INT64_MAX, ints[i].may[0], &n, e);

		if (r)
			return r;
		if (n != ints[i].may[0] && n != ints[i].may[1])
			return key_fail(k, ints[i].name, e, "%s are not supported.", ints[i].what);
	}
	return 0;
}

/* What some families compute, or what the shape says otherwise. */
static int check_attention(const struct keys *k, const struct shape *s, struct err *e)
{
	const int64_t head = (int64_t)s->head.head_size, rotated = (int64_t)s->head.rotated;
	double slope, clip, scale;
	int64_t window, keys, values, near_rotated;
	bool causal;
	int r;

	if ((r = key_float_or(k, "attention.max_alibi_bias", 0, 1e9, 0, &slope, e)) ||
	    (r = key_float_or(k, "attention.clamp_kqv", 0, 1e9, 0, &clip, e)) ||
	    (r = key_float_or(k, "attention.scale", 0, 1e9, 0, &scale, e)) ||
	    (r = key_int_or(k, "attention.sliding_window", 0, INT64_MAX, 0, &window, e)) ||
	    (r = key_int_or(k, "attention.key_length_swa", head, head, head, &keys, e)) ||
	    (r = key_int_or(k, "attention.value_length_swa", head, head, head, &values, e)) ||
	    (r = key_int_or(k, "rope.dimension_count_swa", rotated, rotated, rotated, &near_rotated, e)) ||
	    (r = key_bool_or(k, "attention.causal", true, &causal, e)))
		return r;
	if (slope > 0 && !s->slopes)
		return key_fail(k, "attention.max_alibi_bias", e, "ALiBi is not supported with this architecture.");
	if (clip > 0 && s->clip <= 0)
		return key_fail(k, "attention.clamp_kqv", e, "clipping is not supported with this architecture.");
	if (scale > 0 && fabs(scale / (double)s->head.scale - 1) > 1e-5)
		return key_fail(k, "attention.scale", e, "scores are scaled by %g here.", (double)s->head.scale);
	if (window > 0 && window < s->context && !s->window)
		return key_fail(k, "attention.sliding_window", e, "a window is not supported with this architecture.");
	return causal ? 0 : key_fail(k, "attention.causal", e, "tokens that see later ones are not supported.");
}

static int check_activation(const struct arch *a, const struct keys *k, struct err *e)
{
	static const char *const names[][2] = {
		[INPUT_GATE] = { "silu", "swish" },
		[INPUT_GATE_CLAMPED] = { "silu", "swish" },
		[INPUT_GATE_GELU] = { "gelu_pytorch_tanh", "gelu" },
		[INPUT_GELU] = { "gelu", "gelu" },
	};
	const char *const *name = names[a->activation];
	struct gguf_str s;
	int r = key_string_or(k, "hidden_activation", &s, e);

	if (r || s.len == 0)
		return r;
	for (int i = 0; i < 2; i++)
		if (s.len == strlen(name[i]) && memcmp(s.at, name[i], s.len) == 0)
			return 0;
	return key_fail(k, "hidden_activation", e, "\"%.*s\" is not supported (%s).", s.len < 32 ? (int)s.len : 32,
			s.at, name[0]);
}

int unserved_check(const struct arch *a, const struct gguf *g, const struct shape *s, struct err *e)
{
	const struct keys k = { g, a->name };
	int r;

	if ((r = check_floats(&k, e)) || (r = check_ints(&k, e)) || (r = check_attention(&k, s, e)))
		return r;
	return check_activation(a, &k, e);
}
