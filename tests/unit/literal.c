/* The definition of a llama-type model with a mask, for comparison; see literal.h. */
#include "literal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf.h"

struct matrix {
	size_t rows, cols;
	float *w;
};

enum part { NORM1, Q, K, V, O, NORM2, GATE, UP, DOWN, PARTS };

static const char *const parts[PARTS] = { "attn_norm", "attn_q",   "attn_k", "attn_v",	"attn_output",
					  "ffn_norm",  "ffn_gate", "ffn_up", "ffn_down" };

struct literal {
	struct gguf *g;
	size_t layers, heads, kv_heads, head_size, rotated, width;
	double base, eps;
	struct matrix embedding, output, norm;
	struct matrix (*layer)[PARTS];
	struct matrix *sinks; /* learned logits of each layer's heads; none: w is NULL */
};

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

static struct matrix load(const struct gguf *g, const char *name)
{
	struct tensor t;
	struct matrix m;
	const struct dtype_info *info;

	if (gguf_tensor(g, name, &t, NULL))
		abort();
	info = dtype_find(t.type);
	m = (struct matrix){ t.rows, t.cols, must(malloc(t.rows * t.cols * sizeof(float))) };
	for (size_t r = 0; r < t.rows; r++)
		dtype_to_f32(t.type, (const char *)t.data + r * (t.cols / info->block) * info->bytes, t.cols,
			     m.w + r * t.cols);
	return m;
}

static size_t number(const struct gguf *g, const char *key)
{
	int64_t n;

	if (gguf_int(g, key, 1, 1 << 30, &n, NULL))
		abort();
	return (size_t)n;
}

struct literal *literal_open(const char *path)
{
	struct literal *l = must(calloc(1, sizeof(*l)));
	struct tensor t;
	char name[64];

	if (gguf_open(path, &l->g, NULL))
		abort();
	l->layers = number(l->g, "llama.block_count");
	l->width = number(l->g, "llama.embedding_length");
	l->heads = number(l->g, "llama.attention.head_count");
	l->kv_heads = number(l->g, "llama.attention.head_count_kv");
	l->head_size = l->width / l->heads;
	l->rotated = number(l->g, "llama.rope.dimension_count");
	gguf_float_or(l->g, "llama.rope.freq_base", 10000, &l->base, NULL);
	gguf_float_or(l->g, "llama.attention.layer_norm_rms_epsilon", 1e-5, &l->eps, NULL);
	l->embedding = load(l->g, "token_embd.weight");
	l->norm = load(l->g, "output_norm.weight");
	l->output = load(l->g, gguf_tensor(l->g, "output.weight", &t, NULL) ? "token_embd.weight" : "output.weight");
	l->layer = must(calloc(l->layers, sizeof(*l->layer)));
	l->sinks = must(calloc(l->layers, sizeof(*l->sinks)));
	for (size_t i = 0; i < l->layers; i++) {
		for (int p = 0; p < PARTS; p++) {
			snprintf(name, sizeof(name), "blk.%zu.%s.weight", i, parts[p]);
			l->layer[i][p] = load(l->g, name);
		}
		snprintf(name, sizeof(name), "blk.%zu.attn_sinks.weight", i);
		if (gguf_tensor(l->g, name, &t, NULL) == 0)
			l->sinks[i] = load(l->g, name);
	}
	return l;
}

void literal_close(struct literal *l)
{
	for (size_t i = 0; i < l->layers; i++) {
		for (int p = 0; p < PARTS; p++)
			free(l->layer[i][p].w);
		free(l->sinks[i].w);
	}
	free(l->layer);
	free(l->sinks);
	free(l->embedding.w);
	free(l->output.w);
	free(l->norm.w);
	gguf_close(l->g);
	free(l);
}

size_t literal_vocab(const struct literal *l)
{
	return l->embedding.rows;
}

static void multiply(const struct matrix *m, const float *x, float *y)
{
	for (size_t r = 0; r < m->rows; r++) {
		double sum = 0;

		for (size_t c = 0; c < m->cols; c++)
			sum += (double)m->w[r * m->cols + c] * (double)x[c];
		y[r] = (float)sum;
	}
}

static void normalize(const struct literal *l, const struct matrix *w, const float *x, float *y)
{
	double sum = 0;

	for (size_t c = 0; c < l->width; c++)
		sum += (double)x[c] * (double)x[c];
	for (size_t c = 0; c < l->width; c++)
		y[c] = (float)((double)x[c] / sqrt(sum / (double)l->width + l->eps) * (double)w->w[c]);
}

static void rotate(const struct literal *l, const float *x, int64_t position, double *y)
{
	for (size_t c = 0; c < l->head_size; c++)
		y[c] = (double)x[c];
	for (size_t k = 0; k < l->rotated / 2; k++) {
		double angle = (double)position * pow(l->base, -2.0 * (double)k / (double)l->rotated);
		double a = (double)x[2 * k], b = (double)x[2 * k + 1];

		y[2 * k] = a * cos(angle) - b * sin(angle);
		y[2 * k + 1] = a * sin(angle) + b * cos(angle);
	}
}

/*
 * One head of token t: scores of all that it sees, softmax with the head's learned logit if any, weighted values. k and
 * v are [n][kv_heads * head_size].
 */
static void attend(const struct literal *l, const float *q, const float *k, const float *v, const bool *sees, int64_t t,
		   bool text, const float *sink, float *y)
{
	const size_t stride = l->kv_heads * l->head_size;
	double *score = must(calloc((size_t)t + 1, sizeof(*score)));
	double turned_q[256], turned_k[256], max = -INFINITY, sum = 0;
	int64_t rank = 0, last = -1;

	for (int64_t i = 0; i <= t; i++)
		last += sees[i];
	rotate(l, q, text ? t : last, turned_q);
	for (int64_t i = 0; i <= t; i++) {
		if (!sees[i])
			continue;
		rotate(l, k + (size_t)i * stride, text ? i : rank, turned_k);
		rank++;
		for (size_t c = 0; c < l->head_size; c++)
			score[i] += turned_q[c] * turned_k[c];
		score[i] /= sqrt((double)l->head_size);
		max = score[i] > max ? score[i] : max;
	}
	for (int64_t i = 0; i <= t; i++)
		sum += score[i] = sees[i] ? exp(score[i] - max) : 0;
	sum += sink ? exp((double)*sink - max) : 0;
	for (size_t c = 0; c < l->head_size; c++) {
		double mixed = 0;

		for (int64_t i = 0; i <= t; i++)
			mixed += score[i] * (double)v[(size_t)i * stride + c];
		y[c] = (float)(mixed / sum);
	}
	free(score);
}

static void feed_forward(const struct literal *l, const struct matrix *w, float *x)
{
	const size_t ff = w[GATE].rows;
	float *h = must(calloc(l->width, sizeof(float))), *g = must(calloc(ff, sizeof(float)));
	float *u = must(calloc(ff, sizeof(float)));

	normalize(l, &w[NORM2], x, h);
	multiply(&w[GATE], h, g);
	multiply(&w[UP], h, u);
	for (size_t c = 0; c < ff; c++)
		g[c] = (float)((double)g[c] / (1 + exp(-(double)g[c])) * (double)u[c]);
	multiply(&w[DOWN], g, h);
	for (size_t c = 0; c < l->width; c++)
		x[c] += h[c];
	free(h);
	free(g);
	free(u);
}

/* One layer over all tokens; mask[n][n]. */
static void layer(const struct literal *l, size_t number, float *x, size_t n, const bool *mask, bool text)
{
	const struct matrix *w = l->layer[number];
	const float *sinks = l->sinks[number].w;
	const size_t hs = l->head_size, kv = l->kv_heads * hs;
	float *h = must(calloc(l->width, sizeof(float))), *q = must(calloc(n * l->width, sizeof(float)));
	float *k = must(calloc(n * kv, sizeof(float))), *v = must(calloc(n * kv, sizeof(float)));
	float *mixed = must(calloc(l->width, sizeof(float)));

	for (size_t t = 0; t < n; t++) {
		normalize(l, &w[NORM1], x + t * l->width, h);
		multiply(&w[Q], h, q + t * l->width);
		multiply(&w[K], h, k + t * kv);
		multiply(&w[V], h, v + t * kv);
	}
	for (size_t t = 0; t < n; t++) {
		for (size_t i = 0; i < l->heads; i++) {
			size_t group = i / (l->heads / l->kv_heads) * hs;

			attend(l, q + t * l->width + i * hs, k + group, v + group, mask + t * n, (int64_t)t, text,
			       sinks ? sinks + i : NULL, mixed + i * hs);
		}
		multiply(&w[O], mixed, h);
		for (size_t c = 0; c < l->width; c++)
			x[t * l->width + c] += h[c];
		feed_forward(l, w, x + t * l->width);
	}
	free(h);
	free(q);
	free(k);
	free(v);
	free(mixed);
}

void literal_logits(const struct literal *l, const int32_t *token, size_t n, const bool *mask, bool text, float *logits)
{
	float *x = must(calloc(n * l->width, sizeof(float))), *h = must(calloc(l->width, sizeof(float)));

	for (size_t t = 0; t < n; t++)
		memcpy(x + t * l->width, l->embedding.w + (size_t)token[t] * l->width, l->width * sizeof(float));
	for (size_t i = 0; i < l->layers; i++)
		layer(l, i, x, n, mask, text);
	for (size_t t = 0; t < n; t++) {
		normalize(l, &l->norm, x + t * l->width, h);
		multiply(&l->output, h, logits + t * l->output.rows);
	}
	free(x);
	free(h);
}
