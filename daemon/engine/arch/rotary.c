/*
 * Owns the frequencies of rotary positions: inv_freq[k] = base^(-2k / rotated), and what stretches them to texts longer
 * than a model was first trained for.
 *
 *	linear		all divided by a factor
 *	rope_freqs	each divided by a factor of its own, a tensor of the file (Llama 3)
 *	longrope	the same, by one of two tensors, and one factor of cosines and sines for both (Phi 3)
 *	yarn		those that turn less than once in the original context divided by the factor, those that turn
 *			often as they are, a ramp between; and a factor of cosines and sines (arXiv 2309.00071)
 *
 * Longrope's tensors make two sets of frequencies: the short factors are for texts up to the original context, the
 * long ones for longer ones. Distances here are those inside the cache and a key is rotated once, so a cache takes the
 * one or the other when it is made, by the most rows that it may come to hold (kv_is_far()).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arch.h"
#include "keys.h"

enum { FREQS, SHORT, LONG, FACTOR_TENSORS, FACTOR_MOST = 1000000, SETS = 2 };

static const char *const factor_tensors[FACTOR_TENSORS] = { "rope_freqs.weight", "rope_factors_short.weight",
							    "rope_factors_long.weight" };

/* What the file says of scaling. */
struct scaling {
	bool yarn;
	double factor;		    /* 1: none */
	double original;	    /* context, before */
	double scale;		    /* of cosines and sines, 0: by the kind's own rule */
	double fast, slow;	    /* yarn's turns in the original context */
	double yarn_scale;	    /* yarn's own factor of cosines and sines */
	const float *factors[SETS]; /* [rotated / 2] in the file, or NULL; unaligned */
};

/* *ret stays NULL when there is no such tensor. */
static int read_factors(const struct gguf *g, const char *name, size_t pairs, const float **ret, struct err *e)
{
	struct tensor t = { 0 };
	struct err why;
	int r = gguf_tensor(g, name, &t, &why);

	if (r == SINK_ENOENT)
		return 0;
	if (r)
		return err_set(e, r, "%s", why.text);
	if (t.rows != 1 || t.cols != pairs || t.type != DTYPE_F32)
		return err_set(e, SINK_EFORMAT, "Tensor \"%s\" is not %zu floats.", name, pairs);
	for (size_t p = 0; p < pairs; p++) {
		float f;

		memcpy(&f, (const float *)t.data + p, sizeof(f));
		if (!(f > 0 && f <= FACTOR_MOST))
			return err_set(e, SINK_EFORMAT, "Tensor \"%s\": factor %zu is not above 0.", name, p);
	}
	*ret = t.data;
	return 0;
}

static int find_factors(const struct gguf *g, size_t pairs, struct scaling *ret, struct err *e)
{
	const float *found[FACTOR_TENSORS] = { NULL };
	int r = 0;

	for (size_t i = 0; !r && i < FACTOR_TENSORS; i++)
		r = read_factors(g, factor_tensors[i], pairs, &found[i], e);
	if (r)
		return r;
	if (!found[SHORT] != !found[LONG])
		return err_set(e, SINK_EFORMAT, "Tensor \"%s\" is missing.",
			       factor_tensors[found[SHORT] ? LONG : SHORT]);
	ret->factors[0] = found[SHORT] ? found[SHORT] : found[FREQS];
	ret->factors[1] = found[LONG];
	return 0;
}

static bool is(struct gguf_str s, const char *word)
{
	return s.len == strlen(word) && memcmp(s.at, word, s.len) == 0;
}

/* The factor stands under its name of old in some files. */
static int read_factor(const struct keys *k, struct scaling *ret, struct err *e)
{
	const char *const name = key_has(k, "rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";

	return key_float_or(k, name, 1, FACTOR_MOST, 1, &ret->factor, e);
}

static int read_yarn(const struct keys *k, struct scaling *ret, struct err *e)
{
	double mix;
	int r;

	if ((r = key_float_or(k, "rope.scaling.yarn_beta_fast", 0.001, 1e6, 32, &ret->fast, e)) ||
	    (r = key_float_or(k, "rope.scaling.yarn_beta_slow", 0.001, 1e6, 1, &ret->slow, e)) ||
	    (r = key_float_or(k, "rope.scaling.yarn_attn_factor", 0.001, 1000, 1 + 0.1 * log(ret->factor),
			      &ret->yarn_scale, e)) ||
	    (r = key_float_or(k, "rope.scaling.yarn_ext_factor", -1, 1000, 1, &mix, e)))
		return r;
	if (mix >= 0 && fabs(mix - 1) > 1e-6) /* below 0: not said */
		return key_fail(k, "rope.scaling.yarn_ext_factor", e, "a ramp of a part of YaRN is not supported.");
	return 0;
}

/* Without a kind a factor is linear, as with llama.cpp. */
static int read_scaling(const struct keys *k, const struct shape *s, struct scaling *ret, struct err *e)
{
	struct gguf_str kind;
	int64_t original;
	int r = key_string_or(k, "rope.scaling.type", &kind, e);

	*ret = (struct scaling){ .factor = 1, .yarn_scale = 1 };
	if (r)
		return r;
	ret->yarn = is(kind, "yarn");
	if (!ret->yarn && kind.len && !is(kind, "none") && !is(kind, "linear") && !is(kind, "longrope"))
		return key_fail(k, "rope.scaling.type", e, "\"%.*s\" is not supported (none, linear, yarn, longrope).",
				kind.len < 32 ? (int)kind.len : 32, kind.at);
	if ((r = key_int_or(k, "rope.scaling.original_context_length", 1, INT32_MAX, s->context, &original, e)) ||
	    (r = key_float_or(k, "rope.scaling.attn_factor", 0.001, 1000, 1, &ret->scale, e)))
		return r;
	ret->original = (double)original;
	if (ret->yarn || kind.len == 0 || is(kind, "linear"))
		r = read_factor(k, ret, e);
	if (!r && ret->yarn)
		r = read_yarn(k, ret, e);
	if (!r)
		r = find_factors(k->g, s->head.rotated / 2, ret, e);
	if (!r && is(kind, "longrope") && !ret->factors[1])
		r = key_fail(k, "rope.scaling.type", e, "there is no tensor \"%s\".", factor_tensors[SHORT]);
	return r;
}

/* The pair that turns so many times in the original context. */
static double pair_turning(const struct scaling *by, double base, size_t rotated, double turns)
{
	const double two_pi = 2 * acos(-1.0);

	return (double)rotated * log(by->original / (turns * two_pi)) / (2 * log(base));
}

/* How much of yarn's factor pair k gets: 0, none, to 1, all. */
static double ramp(const struct arch *a, const struct scaling *by, double base, size_t rotated, size_t k)
{
	double low = pair_turning(by, base, rotated, by->fast), high = pair_turning(by, base, rotated, by->slow), at;

	low = fmax(a->yarn_exact ? low : floor(low), 0);
	high = fmin(a->yarn_exact ? high : ceil(high), (double)rotated - 1);
	at = ((double)k - low) / fmax(high - low, 0.001);
	return fmin(fmax(at, 0), 1);
}

/* One set. */
static void make_set(const struct arch *a, const struct scaling *by, const float *factors, double base, size_t rotated,
		     double *inv_freq)
{
	for (size_t k = 0; k < rotated / 2; k++) {
		const double plain = pow(base, -2.0 * (double)k / (double)rotated);
		const double part = by->yarn ? ramp(a, by, base, rotated, k) : 1;
		float f = 1;

		if (factors)
			memcpy(&f, factors + k, sizeof(f));
		inv_freq[k] = (plain / by->factor * part + plain * (1 - part)) / (double)f;
	}
}

/* Layers of all sights have as many sets. */
static int make(const struct arch *a, const struct scaling *by, double base, size_t rotated, size_t sets,
		struct rotary *ret, struct err *e)
{
	const size_t pairs = rotated / 2;

	ret->scale = by->scale * (by->yarn ? by->yarn_scale : 1);
	ret->sets = sets;
	ret->inv_freq = calloc(sets * pairs + 1, sizeof(*ret->inv_freq));
	if (!ret->inv_freq)
		return err_set(e, SINK_ENOMEM, "Out of memory for the rotary frequencies.");
	for (size_t i = 0; i < sets; i++)
		make_set(a, by, by->factors[i], base, rotated, ret->inv_freq + i * pairs);
	return 0;
}

int rotary_read(const struct arch *a, const struct gguf *g, struct shape *s, struct err *e)
{
	const struct keys k = { g, a->name };
	const struct scaling plain = { .factor = 1, .scale = 1 };
	struct scaling by;
	int r = read_scaling(&k, s, &by, e);
	const size_t sets = !r && by.factors[1] ? SETS : 1;

	if (sets > 1)
		s->original = (int64_t)by.original;
	for (int i = 0; !r && i < SIGHTS; i++)
		r = make(a, i == SIGHT_NEAR && a->near_plain ? &plain : &by, s->base[i], s->head.rotated, sets,
			 &s->rotary[i], e);
	return r;
}

void rotary_used(const struct shape *s, struct weights *w)
{
	struct tensor t;

	for (size_t i = 0; i < FACTOR_TENSORS; i++)
		weights_tensor(w, factor_tensors[i], 1, s->head.rotated / 2, &t, NULL);
}
