/*
 * The llama family (Llama, Mistral, SmolLM2): RMSNorm before attention and before the feed-forward part, grouped-query
 * attention with RoPE on interleaved pairs (as files of this architecture hold their q and k rows), SwiGLU.
 */
#include "arch.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct layer {
	float *attn_norm, *ffn_norm;
	struct weight *qkv[3]; /* one product: they share their input */
	float *attn_sinks;     /* NULL: the model has learned none */
	struct weight *attn_output;
	struct weight *gate_up[2]; /* likewise */
	struct weight *ffn_down;
};

static int shape_sizes(const struct gguf *g, struct shape *s, struct err *e)
{
	int64_t heads, kv_heads, head_size, values, rotated, experts;
	int r;

	if ((r = gguf_int(g, "llama.block_count", 1, 1024, &s->layers, e)) ||
	    (r = gguf_int(g, "llama.embedding_length", 1, 65536, &s->width, e)) ||
	    (r = gguf_int(g, "llama.feed_forward_length", 1, 1 << 20, &s->ff, e)) ||
	    (r = gguf_int(g, "llama.context_length", 1, INT32_MAX, &s->context, e)) ||
	    (r = gguf_int(g, "llama.attention.head_count", 1, 1024, &heads, e)) ||
	    (r = gguf_int_or(g, "llama.attention.head_count_kv", 1, 1024, heads, &kv_heads, e)) ||
	    (r = gguf_int_or(g, "llama.attention.key_length", 2, HEAD_SIZE_MAX, s->width / heads, &head_size, e)) ||
	    (r = gguf_int_or(g, "llama.attention.value_length", 2, HEAD_SIZE_MAX, head_size, &values, e)) ||
	    (r = gguf_int_or(g, "llama.rope.dimension_count", 2, 1024, head_size, &rotated, e)) ||
	    (r = gguf_int_or(g, "llama.expert_count", 0, 65536, 0, &experts, e)))
		return r;
	if (head_size < 2 || head_size > HEAD_SIZE_MAX ||
	    (!gguf_has(g, "llama.attention.key_length") && s->width % heads))
		return err_set(e, SINK_EFORMAT,
			       "Key \"llama.attention.head_count\": %lld heads do not divide a width of %lld.",
			       (long long)heads, (long long)s->width);
	if (heads % kv_heads)
		return err_set(e, SINK_EFORMAT,
			       "Key \"llama.attention.head_count_kv\": %lld does not divide %lld heads.",
			       (long long)kv_heads, (long long)heads);
	if (values != head_size)
		return err_set(
			e, SINK_EFORMAT,
			"Key \"llama.attention.value_length\": values of %lld beside keys of %lld are not supported.",
			(long long)values, (long long)head_size);
	if (rotated % 2 || rotated > head_size)
		return err_set(e, SINK_EFORMAT,
			       "Key \"llama.rope.dimension_count\": %lld is odd or more than a head's %lld.",
			       (long long)rotated, (long long)head_size);
	if (experts > 0)
		return err_set(e, SINK_EFORMAT, "Key \"llama.expert_count\": mixtures of experts are not supported.");
	s->head = (struct head_shape){ (size_t)heads,
				       (size_t)kv_heads,
				       (size_t)head_size,
				       (size_t)rotated,
				       true,
				       (float)(1.0 / sqrt((double)head_size)) };
	return 0;
}

/* The factor by which RoPE's positions are divided: 1 without scaling, or of the linear kind. */
static int rope_divisor(const struct gguf *g, double *ret, struct err *e)
{
	struct gguf_str kind;
	int r;

	*ret = 1;
	if (!gguf_has(g, "llama.rope.scaling.type"))
		return 0;
	r = gguf_string(g, "llama.rope.scaling.type", &kind, e);
	if (r || (kind.len == 4 && memcmp(kind.at, "none", 4) == 0))
		return r;
	if (kind.len != 6 || memcmp(kind.at, "linear", 6) != 0)
		return err_set(e, SINK_EFORMAT,
			       "Key \"llama.rope.scaling.type\": \"%.*s\" is not supported (none, linear).",
			       kind.len < 32 ? (int)kind.len : 32, kind.at);
	r = gguf_float_or(g, "llama.rope.scaling.factor", 1, ret, e);
	if (!r && !(*ret >= 1 && *ret <= 1e6))
		r = err_set(e, SINK_EFORMAT, "Key \"llama.rope.scaling.factor\" is not within 1 and 1000000.");
	return r;
}

/* inv_freq[k] = base^(-2k / rotated), divided by the file's own factors where it has them (Llama 3). */
static int shape_frequencies(const struct gguf *g, struct shape *s, struct err *e)
{
	const size_t pairs = s->head.rotated / 2;
	struct tensor t = { 0 };
	float *factor = NULL;
	double base, divisor;
	struct err why;
	int r;

	if ((r = gguf_float_or(g, "llama.rope.freq_base", 10000, &base, e)) || (r = rope_divisor(g, &divisor, e)))
		return r;
	if (!(base > 1 && base <= 1e12))
		return err_set(e, SINK_EFORMAT, "Key \"llama.rope.freq_base\" is not within 1 and 1e12.");
	r = gguf_tensor(g, "rope_freqs.weight", &t, &why);
	if (r && r != SINK_ENOENT)
		return err_set(e, r, "%s", why.text);
	if (t.data && (t.rows != 1 || t.cols != pairs || t.type != DTYPE_F32))
		return err_set(e, SINK_EFORMAT, "Tensor \"rope_freqs.weight\" is not %zu floats.", pairs);
	s->inv_freq = calloc(pairs, sizeof(*s->inv_freq));
	factor = calloc(pairs, sizeof(*factor));
	if (!s->inv_freq || !factor) {
		free(factor);
		return err_set(e, SINK_ENOMEM, "Out of memory for the rotary frequencies.");
	}
	if (t.data)
		memcpy(factor, t.data, pairs * sizeof(*factor));
	for (size_t k = 0; k < pairs; k++) {
		double f = t.data ? (double)factor[k] : 1;

		if (!(f > 0 && f <= 1e6))
			r = err_set(e, SINK_EFORMAT, "Tensor \"rope_freqs.weight\": factor %zu is not above 0.", k);
		s->inv_freq[k] = pow(base, -2.0 * (double)k / (double)s->head.rotated) / (divisor * f);
	}
	free(factor);
	return r == SINK_ENOENT ? 0 : r;
}

static int llama_shape(const struct gguf *g, struct shape *ret, struct err *e)
{
	struct shape s = { .embed_scale = 1 };
	double eps;
	int r = shape_sizes(g, &s, e);

	if (!r)
		r = gguf_float_or(g, "llama.attention.layer_norm_rms_epsilon", 1e-5, &eps, e);
	if (!r && !(eps >= 0 && eps <= 1))
		r = err_set(e, SINK_EFORMAT, "Key \"llama.attention.layer_norm_rms_epsilon\" is not within 0 and 1.");
	if (!r)
		r = shape_frequencies(g, &s, e);
	if (r) {
		free(s.inv_freq);
		return r;
	}
	s.eps = (float)eps;
	*ret = s;
	return 0;
}

static int layer_matrix(struct weights *w, int64_t layer, const char *part, size_t rows, size_t cols,
			struct weight **ret, struct err *e)
{
	char name[64];

	snprintf(name, sizeof(name), "blk.%lld.%s.weight", (long long)layer, part);
	return weights_matrix(w, name, rows, cols, ret, e);
}

static int layer_vector(struct weights *w, int64_t layer, const char *part, size_t size, float **ret, struct err *e)
{
	char name[64];

	snprintf(name, sizeof(name), "blk.%lld.%s.weight", (long long)layer, part);
	return weights_vector(w, name, size, ret, e);
}

/* A logit a head in the softmax's denominator, for a model that was trained with them. */
static int layer_sinks(struct weights *w, int64_t layer, size_t heads, float **ret, struct err *e)
{
	struct tensor t;
	char name[64];

	snprintf(name, sizeof(name), "blk.%lld.attn_sinks.weight", (long long)layer);
	if (gguf_tensor(w->g, name, &t, NULL) == SINK_ENOENT)
		return 0;
	return weights_vector(w, name, heads, ret, e);
}

static int load_layer(struct weights *w, const struct shape *s, int64_t i, struct layer *l, struct err *e)
{
	const size_t width = (size_t)s->width, ff = (size_t)s->ff;
	const size_t q = s->head.heads * s->head.head_size, kv = s->head.kv_heads * s->head.head_size;
	int r;

	if ((r = layer_vector(w, i, "attn_norm", width, &l->attn_norm, e)) ||
	    (r = layer_matrix(w, i, "attn_q", q, width, &l->qkv[0], e)) ||
	    (r = layer_matrix(w, i, "attn_k", kv, width, &l->qkv[1], e)) ||
	    (r = layer_matrix(w, i, "attn_v", kv, width, &l->qkv[2], e)) ||
	    (r = layer_sinks(w, i, s->head.heads, &l->attn_sinks, e)) ||
	    (r = layer_matrix(w, i, "attn_output", width, q, &l->attn_output, e)) ||
	    (r = layer_vector(w, i, "ffn_norm", width, &l->ffn_norm, e)) ||
	    (r = layer_matrix(w, i, "ffn_gate", ff, width, &l->gate_up[0], e)) ||
	    (r = layer_matrix(w, i, "ffn_up", ff, width, &l->gate_up[1], e)) ||
	    (r = layer_matrix(w, i, "ffn_down", width, ff, &l->ffn_down, e)))
		return r;
	return 0;
}

static void llama_unload(struct weights *w, const struct shape *s, struct layer *l)
{
	for (int64_t i = 0; l && i < s->layers; i++) {
		w->b->buffer_free(w->d, l[i].attn_norm);
		w->b->buffer_free(w->d, l[i].ffn_norm);
		w->b->buffer_free(w->d, l[i].attn_sinks);
		for (int k = 0; k < 3; k++)
			w->b->weight_free(w->d, l[i].qkv[k]);
		w->b->weight_free(w->d, l[i].attn_output);
		for (int k = 0; k < 2; k++)
			w->b->weight_free(w->d, l[i].gate_up[k]);
		w->b->weight_free(w->d, l[i].ffn_down);
	}
	free(l);
}

static int llama_load(struct weights *w, const struct shape *s, struct layer **ret, struct err *e)
{
	struct layer *l = calloc((size_t)s->layers, sizeof(*l));
	struct tensor factors;
	int r = 0;

	if (!l)
		return err_set(e, SINK_ENOMEM, "Out of memory for %lld layers.", (long long)s->layers);
	for (int64_t i = 0; !r && i < s->layers; i++)
		r = load_layer(w, s, i, &l[i], e);
	if (r) {
		llama_unload(w, s, l);
		return r;
	}
	weights_tensor(w, "rope_freqs.weight", 1, s->head.rotated / 2, &factors, NULL); /* the shape has read it */
	*ret = l;
	return 0;
}

static void multiply(const struct weights *w, struct weight *const *by, size_t weights, struct matmul op)
{
	op.w = (const struct weight *const *)by;
	op.weights = weights;
	w->b->matmul(w->d, &op);
}

static void llama_run(const struct weights *w, const struct layer *l, const struct pass *p)
{
	const struct backend *b = w->b;
	const struct shape *s = p->shape;
	const size_t n = p->n, width = (size_t)s->width, ff = (size_t)s->ff;
	const size_t qkv = (s->head.heads + 2 * s->head.kv_heads) * s->head.head_size;

	for (size_t i = 0; i < (size_t)s->layers; i++, l++) {
		const struct store store = { &s->head, p->pages, i, p->qkv, p->key_angles, p->rows, n };
		const struct attend attend = { &s->head, p->pages, i,	   p->qkv,	 p->query_angles,
					       p->rows,	 n,	   p->att, l->attn_sinks };
		struct matmul in = { .x = p->x, .n = n, .input = INPUT_NORM, .eps = s->eps };
		struct matmul out = { .n = n, .y = p->x, .y_stride = width, .add = true };

		in.norm = l->attn_norm;
		in.y = p->qkv;
		in.y_stride = qkv;
		multiply(w, l->qkv, 3, in);
		b->store(w->d, &store);
		b->attend(w->d, &attend);
		out.x = p->att;
		multiply(w, &l->attn_output, 1, out);

		in.norm = l->ffn_norm;
		in.y = p->pair;
		in.y_stride = 2 * ff;
		multiply(w, l->gate_up, 2, in);
		out.x = p->pair;
		out.input = INPUT_GATE;
		multiply(w, &l->ffn_down, 1, out);
	}
}

const struct arch arch_llama = { "llama", llama_shape, llama_load, llama_unload, llama_run };
