/* Owns the hyperparameters of a model: the keys that all families have, and whether they go together. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arch.h"
#include "keys.h"

enum sight shape_sight(const struct shape *s, int64_t layer)
{
	return s->window && !(s->period && (layer + 1) % s->period == 0) ? SIGHT_NEAR : SIGHT_FULL;
}

static int read_heads(const struct keys *k, struct shape *s, struct err *e)
{
	int64_t heads, kv_heads, head_size, values, rotated;
	int r;

	if ((r = key_int(k, "attention.head_count", 1, 1024, &heads, e)) ||
	    (r = key_int_or(k, "attention.head_count_kv", 1, 1024, heads, &kv_heads, e)) ||
	    (r = key_int_or(k, "attention.key_length", 2, HEAD_SIZE_MAX, s->width / heads, &head_size, e)) ||
	    (r = key_int_or(k, "attention.value_length", 2, HEAD_SIZE_MAX, head_size, &values, e)) ||
	    (r = key_int_or(k, "rope.dimension_count", 2, 1024, head_size, &rotated, e)))
		return r;
	if (!key_has(k, "attention.key_length") && s->width % heads)
		return key_fail(k, "attention.head_count", e, "%lld heads do not divide a width of %lld.",
				(long long)heads, (long long)s->width);
	if (head_size < 2 || head_size > HEAD_SIZE_MAX)
		return key_fail(k, "attention.head_count", e, "%lld heads of %lld are not within 2 and %d elements.",
				(long long)heads, (long long)head_size, HEAD_SIZE_MAX);
	if (heads % kv_heads)
		return key_fail(k, "attention.head_count_kv", e, "%lld does not divide %lld heads.",
				(long long)kv_heads, (long long)heads);
	if (values != head_size)
		return key_fail(k, "attention.value_length", e, "values of %lld beside keys of %lld are not supported.",
				(long long)values, (long long)head_size);
	if (rotated % 2 || rotated > head_size)
		return key_fail(k, "rope.dimension_count", e, "%lld is odd or more than a head's %lld.",
				(long long)rotated, (long long)head_size);
	s->head = (struct head_shape){ .heads = (size_t)heads,
				       .kv_heads = (size_t)kv_heads,
				       .head_size = (size_t)head_size,
				       .rotated = (size_t)rotated,
				       .scale = (float)(1.0 / sqrt((double)head_size)) };
	return 0;
}

static int read_experts(const struct arch *a, const struct keys *k, struct shape *s, struct err *e)
{
	int r = key_int_or(k, "expert_count", 0, 1024, 0, &s->experts, e);

	if (!r && s->experts > 0 && !a->experts)
		return key_fail(k, "expert_count", e, "mixtures of experts are not supported.");
	if (!r && s->experts == 0 && a->experts)
		return key_fail(k, "expert_count", e, "there are no experts.");
	if (r || !a->experts)
		return r;
	r = key_int(k, "expert_used_count", 1, s->experts, &s->used, e);
	return r ? r : key_int_or(k, "expert_feed_forward_length", 1, 1 << 20, s->ff, &s->ff, e);
}

static int read_sizes(const struct arch *a, const struct keys *k, struct shape *s, struct err *e)
{
	const bool layer = a->norm == INPUT_LAYER_NORM;
	const char *const name = layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
	double eps;
	int r;

	if ((r = key_int(k, "block_count", 1, 1024, &s->layers, e)) ||
	    (r = key_int(k, "embedding_length", 1, 65536, &s->width, e)) ||
	    (r = key_int(k, "feed_forward_length", 1, 1 << 20, &s->ff, e)) ||
	    (r = key_int(k, "context_length", 1, INT32_MAX, &s->context, e)) ||
	    (r = key_float(k, name, 0, 1, &eps, e)) || (r = read_experts(a, k, s, e)) || (r = read_heads(k, s, e)))
		return r;
	s->eps = (float)eps;
	s->head.interleaved = a->interleaved;
	return 0;
}

/* Which layers see all: each one of a number, or layer by layer (1: a window), if that comes to the same. */
static int read_pattern(const struct keys *k, struct shape *s, struct err *e)
{
	static const char name[] = "attention.sliding_window_pattern";
	const int64_t count = key_numbers(k, name);
	int64_t i = 0;

	if (count < 0)
		return key_int_or(k, name, 0, INT32_MAX, s->period, &s->period, e);
	if (count < s->layers)
		return key_fail(k, name, e, "%lld layers of %lld are told of.", (long long)count, (long long)s->layers);
	while (i < s->layers && key_number_at(k, name, (size_t)i) > 0)
		i++;
	s->period = i < s->layers ? i + 1 : 0;
	for (i = 0; i < s->layers; i++)
		if ((key_number_at(k, name, (size_t)i) > 0) != (shape_sight(s, i) == SIGHT_NEAR))
			return key_fail(k, name, e, "layer %lld breaks the pattern.", (long long)i);
	return 0;
}

int shape_read(const struct arch *a, const struct gguf *g, struct shape *ret, struct err *e)
{
	const struct keys k = { g, a->name };
	struct shape s = { .embed_scale = 1 };
	int r = read_sizes(a, &k, &s, e);

	if (!r)
		r = key_float_or(&k, "rope.freq_base", 1.0001, 1e12, 10000, &s.base[SIGHT_FULL], e);
	if (!r)
		r = key_float_or(&k, "rope.freq_base_swa", 1.0001, 1e12, s.base[SIGHT_FULL], &s.base[SIGHT_NEAR], e);
	if (!r && a->keys)
		r = a->keys(g, &s, e);
	if (!r && s.window)
		r = read_pattern(&k, &s, e);
	if (!r)
		r = unserved_check(a, g, &s, e);
	if (!r)
		r = rotary_read(a, g, &s, e);
	if (r)
		shape_release(&s);
	else
		*ret = s;
	return r;
}

void shape_release(struct shape *s)
{
	for (int i = 0; i < SIGHTS; i++)
		free(s->rotary[i].inv_freq);
	free(s->slopes);
	memset(s, 0, sizeof(*s));
}
