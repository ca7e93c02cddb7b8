/*
 * Owns the step of a model. Its order is: admit slices (check, reserve pages, describe rows), angles once for all
 * layers, embed, the family's layers, the last norm and the output matrix for the rows that want logits, commit.
 * Nothing of a cache counts before the commit.
 */
#include <assert.h>

#include "model_parts.h"

static size_t logits_of(const struct slice *s)
{
	return s->logits == LOGITS_NONE ? 0 : s->logits == LOGITS_LAST ? 1 : s->count;
}

/* 0, or why this slice cannot take part in a step that holds batch->n rows already. */
static int admissible(const struct model *m, const struct slice *s, size_t slices_before)
{
	if (s->count < 1 || s->count > m->o.max_rows || logits_of(s) > m->o.max_logits)
		return SINK_EINVAL;
	if (m->slopes && !kv_tells_distances(s->kv))
		return SINK_EINVAL;
	for (size_t i = 0; i < s->count; i++)
		if (s->token[i] < 0 || s->token[i] >= m->info.vocab)
			return SINK_EINVAL;
	for (size_t i = 1; i <= slices_before; i++)
		if (s[-(ptrdiff_t)i].kv == s->kv)
			return SINK_EINVAL;
	if (s->count > kv_room(s->kv) || s->count > m->o.max_rows - m->batch.n ||
	    logits_of(s) > m->o.max_logits - m->batch.wanted)
		return SINK_EBUSY;
	return kv_reserve(s->kv, s->token, s->count, NULL);
}

/* To the second set of frequencies, as angles() has it. */
static void turn_far(int64_t key_at[2], int64_t query_at[RUNS])
{
	for (int i = 0; i < 2; i++)
		key_at[i] = ~key_at[i];
	for (int i = 0; i < RUNS; i++)
		query_at[i] = ~query_at[i];
}

/* Describes the rows of an admitted slice. */
static void admit(struct model *m, struct slice *s)
{
	struct batch *b = &m->batch;

	s->first_logits = b->wanted;
	for (size_t i = 0; i < s->count; i++) {
		size_t at = b->n + i;

		b->token[at] = s->token[i];
		kv_row(s->kv, i, &b->rows[at], b->key_at[at], b->query_at[at]);
		if (kv_is_far(s->kv))
			turn_far(b->key_at[at], b->query_at[at]);
		if (b->near)
			kv_row_near(s->kv, i, m->shape.window, &b->rows[at], &b->near[at]);
		if (i + logits_of(s) >= s->count)
			b->wants[b->wanted++] = (int32_t)at;
	}
	b->n += s->count;
}

/* Angles once for all layers of a sight. */
static void turn(struct model *m, size_t n, enum sight sight)
{
	const struct rotary *r = &m->shape.rotary[sight];
	const size_t rotated = m->shape.head.rotated;
	float *const keys = m->key_angles[sight], *const queries = m->query_angles[sight];

	m->b->angles(m->d, m->batch.key_at[0], n * 2, r->inv_freq, r->sets, rotated, r->scale, keys);
	m->b->angles(m->d, m->batch.query_at[0], n * RUNS, r->inv_freq, r->sets, rotated, r->scale, queries);
}

/* The operations of a step, for n rows of which `wanted` want logits. */
static void operate(struct model *m, size_t n, size_t wanted)
{
	const struct backend *b = m->b;
	const struct shape *s = &m->shape;
	const size_t width = (size_t)s->width, vocab = (size_t)m->info.vocab;
	const bool layer = m->arch->norm == INPUT_LAYER_NORM;
	const struct weight *output = m->output;
	const struct norm norm = { m->last, m->last, wanted, 1, width, width, m->output_norm.w, m->output_norm.shift,
				   s->eps,  layer,   false };
	const struct matmul op = {
		.w = &output, .weights = 1, .x = m->last, .n = wanted, .y = m->out.logits, .y_stride = vocab
	};

	for (int i = 0; i < SIGHTS; i++)
		if (s->head.rotated && (i == SIGHT_FULL || s->window))
			turn(m, n, (enum sight)i);
	b->embed(m->d, m->embedding, m->batch.token, n, s->embed_scale, m->pass.x);
	m->pass.n = n;
	layers_run(&m->w, m->layers, &m->pass);
	if (wanted == 0)
		return;
	b->gather(m->d, m->pass.x, width, m->batch.wants, wanted, m->last);
	b->norm(m->d, &norm);
	b->matmul(m->d, &op);
	output_rank(&m->out, wanted);
}

/* The step itself, for the rows of the batch. */
static int run(struct model *m, struct err *e)
{
	const struct batch *batch = &m->batch;
	const struct step step = { batch->n,	 batch->wanted,	   batch->rows,	       batch->near,
				   batch->token, batch->key_at[0], batch->query_at[0], batch->wants };
	size_t n, wanted;
	int r;

	m->b->begin(m->d, &step, &n, &wanted);
	if (n)
		operate(m, n, wanted);
	r = m->b->end(m->d, e);
	if (!r)
		output_take(&m->out, batch->wanted);
	return r;
}

int model_step(struct model *m, struct slice *slice, size_t slices, struct err *e)
{
	int r = 0;

	assert(m->d);
	m->batch.n = m->batch.wanted = 0;
	for (size_t i = 0; i < slices; i++) {
		slice[i].status = admissible(m, &slice[i], i);
		if (!slice[i].status)
			admit(m, &slice[i]);
	}
	if (m->batch.n)
		r = run(m, e);
	if (r)
		return r;
	for (size_t i = 0; i < slices; i++)
		if (!slice[i].status && !slice[i].hold)
			kv_commit(slice[i].kv, slice[i].count);
	return (int)m->batch.wanted;
}

void model_keep(const struct slice *slice, size_t count)
{
	int r;

	assert(slice->hold && !slice->status && count <= slice->count);
	r = kv_reserve(slice->kv, slice->token, count, NULL);
	assert(r == 0); /* all pages are there */
	(void)r;
	if (count)
		kv_commit(slice->kv, count);
}

const float *model_logits(const struct model *m, size_t i)
{
	return output_row(&m->out, i);
}

const struct top *model_top(const struct model *m, size_t i)
{
	return output_top(&m->out, i);
}
