/* Owns the loading of layers: which tensors a description asks for, and their shapes. */
#include "layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 64, PARTS = 3 };

/* A matrix of a product: its name in the layer, and its rows. */
struct part {
	const char *name;
	size_t rows;
};

static void name_tensor(char name[NAME], int64_t layer, const char *part, const char *kind)
{
	snprintf(name, NAME, "blk.%lld.%s.%s", (long long)layer, part, kind);
}

static bool has(const struct weights *w, const char *name)
{
	struct tensor t;

	return gguf_tensor(w->g, name, &t, NULL) != SINK_ENOENT;
}

int norm_load(struct weights *w, const struct arch *a, const char *name, size_t size, struct norm_weights *ret,
	      struct err *e)
{
	const bool layer = a->norm == INPUT_LAYER_NORM;
	char full[NAME + 8];
	int r;

	snprintf(full, sizeof(full), "%s.weight", name);
	r = weights_vector(w, full, size, &ret->w, e);
	snprintf(full, sizeof(full), "%s.bias", name);
	if (!r && layer && (a->biases & BIAS_NORM || has(w, full)))
		r = weights_vector(w, full, size, &ret->shift, e);
	return r;
}

static int layer_norm(struct weights *w, const struct arch *a, int64_t layer, const char *part, size_t size,
		      struct norm_weights *ret, struct err *e)
{
	char name[NAME];

	snprintf(name, sizeof(name), "blk.%lld.%s", (long long)layer, part);
	return norm_load(w, a, name, size, ret, e);
}

/* The biases of all parts side by side; those that the file has not are zeros where it may lack them. */
static int load_biases(struct weights *w, int64_t layer, const struct part *part, size_t parts, bool must, float **ret,
		       struct err *e)
{
	size_t rows = 0, at = 0, found = 0;
	float *host;
	int r = 0;

	for (size_t i = 0; i < parts; i++)
		rows += part[i].rows;
	host = calloc(rows, sizeof(*host));
	if (!host)
		return err_set(e, SINK_ENOMEM, "Out of memory for the biases of a layer.");
	for (size_t i = 0; !r && i < parts; at += part[i++].rows) {
		struct tensor t;
		char name[NAME];

		name_tensor(name, layer, part[i].name, "bias");
		if (!must && !has(w, name))
			continue;
		r = weights_tensor(w, name, 1, part[i].rows, &t, e);
		if (!r) {
			dtype_to_f32(t.type, t.data, t.cols, host + at);
			r = weights_finite(name, host + at, t.cols, e);
		}
		found += !r;
	}
	if (!r && found)
		r = w->b->buffer_new(w->d, rows, ret, e);
	if (!r && found)
		w->b->write(w->d, *ret, host, rows * sizeof(*host));
	free(host);
	return r;
}

static int load_product(struct weights *w, int64_t layer, const struct part *part, size_t parts, size_t cols,
			bool biases, struct product *ret, struct err *e)
{
	int r = 0;

	for (ret->weights = 0; !r && ret->weights < parts; ret->weights += !r) {
		char name[NAME];

		name_tensor(name, layer, part[ret->weights].name, "weight");
		r = weights_matrix(w, name, part[ret->weights].rows, cols, &ret->w[ret->weights], e);
	}
	return r ? r : load_biases(w, layer, part, parts, biases, &ret->bias, e);
}

/* A logit a head in the softmax's denominator, for a model that was trained with them. */
static int load_sinks(struct weights *w, const struct arch *a, int64_t layer, size_t heads, float **ret, struct err *e)
{
	char name[NAME];

	name_tensor(name, layer, "attn_sinks", "weight");
	return a->sinks || has(w, name) ? weights_vector(w, name, heads, ret, e) : 0;
}

static int load_attention(struct weights *w, const struct arch *a, const struct shape *s, int64_t i, struct layer *l,
			  struct err *e)
{
	const size_t size = s->head.head_size, q = s->head.heads * size, kv = s->head.kv_heads * size;
	const struct part fused = { "attn_qkv", q + 2 * kv }, out = { "attn_output", (size_t)s->width };
	const struct part apart[] = { { "attn_q", q }, { "attn_k", kv }, { "attn_v", kv } };
	char second[NAME];
	int r;

	/* Falcon of 40B: attention has a norm of its own, and the one of that name is the feed-forward part's. */
	name_tensor(second, i, "attn_norm_2", "weight");
	if ((r = layer_norm(w, a, i, has(w, second) ? "attn_norm_2" : "attn_norm", (size_t)s->width, &l->attn_norm,
			    e)) ||
	    (r = load_product(w, i, a->fused_qkv ? &fused : apart, a->fused_qkv ? 1 : 3, (size_t)s->width,
			      a->biases & BIAS_QKV, &l->qkv, e)) ||
	    (r = load_sinks(w, a, i, s->head.heads, &l->attn_sinks, e)) ||
	    (r = load_product(w, i, &out, 1, q, a->biases & BIAS_OUTPUT, &l->attn_output, e)))
		return r;
	if (a->qk_norm && ((r = layer_norm(w, a, i, "attn_q_norm", size, &l->q_norm, e)) ||
			   (r = layer_norm(w, a, i, "attn_k_norm", size, &l->k_norm, e))))
		return r;
	return a->post_norms ? layer_norm(w, a, i, "post_attention_norm", (size_t)s->width, &l->post_attn, e) : 0;
}

/*
 * The biases of all experts, [experts][parts side by side]: the file has them part by part, [experts][rows] each. They
 * must be there where the family says so.
 */
static int load_expert_biases(struct weights *w, int64_t layer, const struct part *part, size_t parts, size_t experts,
			      bool must, float **ret, struct err *e)
{
	const size_t rows = part->rows, stride = parts * rows;
	float *host = calloc(experts * stride, sizeof(*host));
	size_t found = 0;
	int r = 0;

	if (!host)
		return err_set(e, SINK_ENOMEM, "Out of memory for the biases of experts.");
	for (size_t i = 0; !r && i < parts; i++) {
		struct tensor t;
		char name[NAME];

		name_tensor(name, layer, part[i].name, "bias");
		if (!must && !has(w, name))
			continue;
		r = weights_tensor(w, name, experts, rows, &t, e);
		if (!r && t.type != DTYPE_F32)
			r = err_set(e, SINK_EFORMAT, "Tensor \"%s\" is not of F32.", name);
		for (size_t x = 0; !r && x < experts; x++) {
			memcpy(host + x * stride + i * rows, (const float *)t.data + x * rows, rows * sizeof(*host));
			r = weights_finite(name, host + x * stride + i * rows, rows, e);
		}
		found += !r;
	}
	if (!r && found)
		r = w->b->buffer_new(w->d, experts * stride, ret, e);
	if (!r && found)
		w->b->write(w->d, *ret, host, experts * stride * sizeof(*host));
	free(host);
	return r;
}

static int load_experts(struct weights *w, const struct arch *a, const struct shape *s, int64_t i, struct mixture *m,
			struct err *e)
{
	const size_t width = (size_t)s->width, ff = (size_t)s->ff, experts = (size_t)s->experts;
	const struct part router = { "ffn_gate_inp", experts }, down = { "ffn_down_exps", width };
	const struct part gate_up[] = { { "ffn_gate_exps", ff }, { "ffn_up_exps", ff } };
	const bool biases = a->biases & BIAS_FF;
	struct product route = { .weights = 0 };
	char name[PARTS][NAME];
	int r;

	m->gate = calloc(3 * experts, sizeof(struct weight *));
	if (!m->gate)
		return err_set(e, SINK_ENOMEM, "Out of memory for %zu experts.", experts);
	m->up = m->gate + experts;
	m->down = m->up + experts;
	name_tensor(name[0], i, gate_up[0].name, "weight");
	name_tensor(name[1], i, gate_up[1].name, "weight");
	name_tensor(name[2], i, down.name, "weight");
	r = load_product(w, i, &router, 1, width, biases, &route, e);
	m->router = route.w[0];
	m->router_bias = route.bias;
	if (r || (r = weights_stack(w, name[0], experts, (size_t)s->used, ff, width, m->gate, e)) ||
	    (r = weights_stack(w, name[1], experts, (size_t)s->used, ff, width, m->up, e)) ||
	    (r = weights_stack(w, name[2], experts, (size_t)s->used, width, ff, m->down, e)) ||
	    (r = load_expert_biases(w, i, gate_up, 2, experts, biases, &m->gate_up_bias, e)) ||
	    (r = load_expert_biases(w, i, &down, 1, experts, biases, &m->down_bias, e)))
		return r;
	return 0;
}

static int load_feed_forward(struct weights *w, const struct arch *a, const struct shape *s, int64_t i, struct layer *l,
			     struct err *e)
{
	const size_t ff = (size_t)s->ff;
	const bool gated = input_is_gate(a->activation), two = gated && !a->fused_gate;
	const struct part gate_up[] = { { "ffn_gate", ff }, { "ffn_up", ff } };
	const struct part up = { "ffn_up", gated ? 2 * ff : ff }, down = { "ffn_down", (size_t)s->width };
	int r;

	r = layer_norm(w, a, i, a->ffn_norm ? a->ffn_norm : "ffn_norm", (size_t)s->width, &l->ffn_norm, e);
	if (!r && a->experts)
		return load_experts(w, a, s, i, &l->experts, e);
	if (r ||
	    (r = load_product(w, i, two ? gate_up : &up, two ? 2 : 1, (size_t)s->width, a->biases & BIAS_FF, &l->up,
			      e)) ||
	    (r = load_product(w, i, &down, 1, ff, a->biases & BIAS_FF, &l->down, e)))
		return r;
	return a->post_norms ? layer_norm(w, a, i, "post_ffw_norm", (size_t)s->width, &l->post_ffn, e) : 0;
}

static void unload_norm(struct weights *w, struct norm_weights *n)
{
	w->b->buffer_free(w->d, n->w);
	w->b->buffer_free(w->d, n->shift);
}

static void unload_product(struct weights *w, struct product *p)
{
	for (size_t i = 0; i < PARTS; i++)
		w->b->weight_free(w->d, p->w[i]);
	w->b->buffer_free(w->d, p->bias);
}

static void unload_experts(struct weights *w, size_t experts, struct mixture *m)
{
	w->b->weight_free(w->d, m->router);
	for (size_t i = 0; m->gate && i < 3 * experts; i++)
		w->b->weight_free(w->d, m->gate[i]);
	free(m->gate);
	w->b->buffer_free(w->d, m->router_bias);
	w->b->buffer_free(w->d, m->gate_up_bias);
	w->b->buffer_free(w->d, m->down_bias);
}

static void unload(struct weights *w, const struct shape *s, struct layer *l)
{
	struct norm_weights *norms[] = { &l->attn_norm, &l->ffn_norm, &l->post_attn,
					 &l->post_ffn,	&l->q_norm,   &l->k_norm };
	struct product *products[] = { &l->qkv, &l->attn_output, &l->up, &l->down };

	for (size_t i = 0; i < sizeof(norms) / sizeof(norms[0]); i++)
		unload_norm(w, norms[i]);
	for (size_t i = 0; i < sizeof(products) / sizeof(products[0]); i++)
		unload_product(w, products[i]);
	w->b->buffer_free(w->d, l->attn_sinks);
	unload_experts(w, (size_t)s->experts, &l->experts);
}

void layers_unload(struct weights *w, const struct shape *s, struct layer *l)
{
	for (int64_t i = 0; l && i < s->layers; i++)
		unload(w, s, &l[i]);
	free(l);
}

int layers_load(struct weights *w, const struct arch *a, const struct shape *s, struct layer **ret, struct err *e)
{
	struct layer *l = calloc((size_t)s->layers, sizeof(*l));
	int r = 0;

	if (!l)
		return err_set(e, SINK_ENOMEM, "Out of memory for %lld layers.", (long long)s->layers);
	for (int64_t i = 0; !r && i < s->layers; i++) {
		l[i].sight = shape_sight(s, i);
		r = load_attention(w, a, s, i, &l[i], e);
		if (!r)
			r = load_feed_forward(w, a, s, i, &l[i], e);
	}
	if (r) {
		layers_unload(w, s, l);
		return r;
	}
	rotary_used(s, w);
	*ret = l;
	return 0;
}
