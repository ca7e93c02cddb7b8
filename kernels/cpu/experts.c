/*
 * Experts on the processor, of products and a norm that a backend has already. Rows are gathered by expert, so that its
 * weights are read once, and experts come in ascending order: what a row gets, and in which order it is added, does not
 * depend on the rows beside it.
 */
#include <math.h>
#include <string.h>

#include "cpu.h"

/* Where the parts of `work` begin, for all rows of a step. */
struct parts {
	float *normed;	 /* [n][cols] */
	float *logits;	 /* [n][experts] */
	float *share;	 /* [n][used] */
	int32_t *chosen; /* [n][used] */
	float *gathered; /* [n][cols], then [n][cols] of results */
	float *pair;	 /* [n][2 * ff] */
};

static struct parts parts_of(const struct experts *op)
{
	const size_t n = op->n, cols = op->router->cols, ff = op->down[0]->cols;
	struct parts p;

	p.normed = op->work;
	p.gathered = p.normed + n * cols;
	p.pair = p.gathered + 2 * n * cols;
	p.logits = p.pair + n * 2 * ff;
	p.share = p.logits + n * op->router->rows;
	p.chosen = (int32_t *)(void *)(p.share + n * op->used);
	return p;
}

/* The largest logits, of equals the lowest number; and their softmax. */
static void choose(const struct experts *op, float *logits, float *share, int32_t *chosen)
{
	const size_t experts = op->router->rows;
	double sum = 0;

	for (size_t u = 0; u < op->used; u++) {
		size_t best = 0;

		for (size_t i = 1; i < experts; i++)
			best = logits[i] > logits[best] ? i : best;
		chosen[u] = (int32_t)best;
		share[u] = logits[best];
		logits[best] = -INFINITY;
	}
	for (size_t u = 0; u < op->used; u++)
		sum += exp((double)share[u] - (double)share[0]);
	for (size_t u = op->used; u-- > 0;)
		share[u] = (float)(exp((double)share[u] - (double)share[0]) / sum);
}

/* Which of a row's choices the expert is; -1: none. */
static int choice_of(const struct experts *op, const int32_t *chosen, size_t expert)
{
	for (size_t u = 0; u < op->used; u++)
		if (chosen[u] == (int32_t)expert)
			return (int)u;
	return -1;
}

static size_t gather_rows(const struct experts *op, const struct parts *p, size_t expert)
{
	const size_t cols = op->router->cols;
	size_t rows = 0;

	for (size_t i = 0; i < op->n; i++)
		if (choice_of(op, p->chosen + i * op->used, expert) >= 0)
			memcpy(p->gathered + rows++ * cols, p->normed + i * cols, cols * sizeof(float));
	return rows;
}

static void scatter_rows(const struct experts *op, const struct parts *p, size_t expert)
{
	const size_t cols = op->router->cols;
	const float *from = p->gathered + op->n * cols;

	for (size_t i = 0; i < op->n; i++) {
		const int u = choice_of(op, p->chosen + i * op->used, expert);

		if (u < 0)
			continue;
		for (size_t c = 0; c < cols; c++)
			op->y[i * cols + c] = fmaf(p->share[i * op->used + (size_t)u], from[c], op->y[i * cols + c]);
		from += cols;
	}
}

static void run_expert(struct device *d, const struct cpu_products *by, const struct experts *op, const struct parts *p,
		       size_t expert)
{
	const size_t cols = op->router->cols, ff = op->down[0]->cols;
	const struct weight *gate_up[] = { op->gate[expert], op->up[expert] };
	struct matmul in = { .w = gate_up, .weights = 2, .x = p->gathered, .y = p->pair, .y_stride = 2 * ff };
	struct matmul out = { .w = op->down + expert, .weights = 1, .x = p->pair, .y_stride = cols };

	in.n = out.n = gather_rows(op, p, expert);
	if (!in.n)
		return;
	in.bias = op->bias ? op->bias + expert * 2 * ff : NULL;
	out.y = p->gathered + op->n * cols;
	out.input = op->activation;
	out.bias = op->down_bias ? op->down_bias + expert * cols : NULL;
	by->matmul(d, &in);
	by->matmul(d, &out);
	scatter_rows(op, p, expert);
}

void cpu_experts(struct device *d, const struct cpu_products *by, const struct experts *op)
{
	const size_t cols = op->router->cols, experts = op->router->rows;
	const struct parts p = parts_of(op);
	const struct norm norm = { op->x, p.normed, op->n, 1, cols, cols, op->norm, NULL, op->eps, false, false };
	const struct matmul route = { .w = &op->router,
				      .weights = 1,
				      .x = p.normed,
				      .n = op->n,
				      .y = p.logits,
				      .y_stride = experts,
				      .bias = op->router_bias };

	by->norm(d, &norm);
	by->matmul(d, &route);
	for (size_t i = 0; i < op->n; i++)
		choose(op, p.logits + i * experts, p.share + i * op->used, p.chosen + i * op->used);
	for (size_t e = 0; e < experts; e++)
		run_expert(d, by, op, &p, e);
}
