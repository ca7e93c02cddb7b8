/* Owns the order of a layer's operations, whatever the family. */
#include "layer.h"

/* A product whose input is normed first. */
static void multiply_normed(const struct weights *w, const struct pass *p, const struct norm_weights *norm,
			    const struct product *by, float *y, size_t width, float clip)
{
	const struct matmul op = {
		.w = (const struct weight *const *)by->w,
		.weights = by->weights,
		.x = p->x,
		.n = p->n,
		.y = y,
		.y_stride = width,
		.input = p->arch->norm,
		.norm = norm->w,
		.shift = norm->shift,
		.eps = p->shape->eps,
		.bias = by->bias,
		.clip = clip,
	};

	w->b->matmul(w->d, &op);
}

/* What a part of the layer yields is added to x; where the family norms it before, it waits in `branch`. */
static void add_to_x(const struct weights *w, const struct pass *p, const struct product *by, const float *from,
		     enum input input, const struct norm_weights *post)
{
	const size_t width = (size_t)p->shape->width;
	const struct norm norm = {
		p->branch, p->x,    p->n,	 p->branch ? 1 : 0, width,
		width,	   post->w, post->shift, p->shape->eps,	    p->arch->norm == INPUT_LAYER_NORM,
		true
	};
	const struct matmul op = {
		.w = (const struct weight *const *)by->w,
		.weights = by->weights,
		.x = from,
		.n = p->n,
		.y = p->branch ? p->branch : p->x,
		.y_stride = width,
		.add = !p->branch,
		.input = input,
		.bias = by->bias,
	};

	w->b->matmul(w->d, &op);
	if (p->branch)
		w->b->norm(w->d, &norm);
}

static void norm_heads(const struct weights *w, const struct pass *p, const struct norm_weights *norm, size_t first,
		       size_t heads)
{
	const struct head_shape *h = &p->shape->head;
	float *x = p->qkv + first * h->head_size;
	const struct norm op = { x,
				 x,
				 p->n,
				 heads,
				 h->head_size,
				 (h->heads + 2 * h->kv_heads) * h->head_size,
				 norm->w,
				 norm->shift,
				 p->shape->eps,
				 p->arch->norm == INPUT_LAYER_NORM,
				 false };

	if (norm->w)
		w->b->norm(w->d, &op);
}

static void attend(const struct weights *w, const struct pass *p, const struct layer *l, size_t number)
{
	const struct head_shape *h = &p->shape->head;
	const struct row *rows = p->rows[l->sight];
	const struct store store = { h, p->pages, number, p->qkv, p->key_angles[l->sight], rows, p->n };
	const struct attend attend = { h,    p->pages, number, p->qkv,	      p->query_angles[l->sight],
				       rows, p->n,     p->att, l->attn_sinks, p->slopes };

	norm_heads(w, p, &l->q_norm, 0, h->heads);
	norm_heads(w, p, &l->k_norm, h->heads, h->kv_heads);
	w->b->store(w->d, &store);
	w->b->attend(w->d, &attend);
}

static void run_experts(const struct weights *w, const struct pass *p, const struct layer *l)
{
	const struct mixture *m = &l->experts;
	const struct experts op = {
		.router = m->router,
		.gate = (const struct weight *const *)m->gate,
		.up = (const struct weight *const *)m->up,
		.down = (const struct weight *const *)m->down,
		.router_bias = m->router_bias,
		.bias = m->gate_up_bias,
		.down_bias = m->down_bias,
		.used = (size_t)p->shape->used,
		.activation = p->arch->activation,
		.x = p->x,
		.n = p->n,
		.norm = l->ffn_norm.w,
		.eps = p->shape->eps,
		.y = p->x,
		.work = p->work,
	};

	w->b->experts(w->d, &op);
}

void layers_run(const struct weights *w, const struct layer *l, const struct pass *p)
{
	const struct shape *s = p->shape;
	const enum input activation = p->arch->activation;
	const size_t up = (size_t)s->ff * (input_is_gate(activation) ? 2 : 1);
	const size_t qkv = (s->head.heads + 2 * s->head.kv_heads) * s->head.head_size;

	for (size_t i = 0; i < (size_t)s->layers; i++, l++) {
		multiply_normed(w, p, &l->attn_norm, &l->qkv, p->qkv, qkv, s->clip);
		if (s->parallel)
			multiply_normed(w, p, &l->ffn_norm, &l->up, p->pair, up, 0);
		attend(w, p, l, i);
		add_to_x(w, p, &l->attn_output, p->att, INPUT_PLAIN, &l->post_attn);
		if (s->experts) {
			run_experts(w, p, l);
			continue;
		}
		if (!s->parallel)
			multiply_normed(w, p, &l->ffn_norm, &l->up, p->pair, up, 0);
		add_to_x(w, p, &l->down, p->pair, activation, &l->post_ffn);
	}
}
