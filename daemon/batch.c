/*
 * Owns the step as the engine's thread does it. Sampling is part of it: logits are valid until the next step, and
 * sorting a vocabulary is no work for the loop.
 */
#include "batch.h"

#include <stdlib.h>

#include "conversation.h"

/* The log-probability of the token at `i`, and what else could have been there. Of a device's row the largest do. */
static void explain(const struct batch *b, struct entry *n, size_t i, size_t row, const struct top *top)
{
	const size_t vocab = (size_t)model_info(b->model)->vocab;

	if (!n->likeliest)
		n->logprob[i] = logits_logprob(model_logits(b->model, row), vocab, n->token[i]);
	else if (top)
		n->logprob[i] = logits_likeliest_top(top, n->likeliest, n->token[i], &n->explained[i]);
	else
		n->logprob[i] = logits_likeliest(model_logits(b->model, row), vocab, n->likeliest, n->token[i],
						 &n->explained[i]);
}

/* The token at `i` behind the first that is wanted: those before it were picked as they stand behind `recent`. */
static void pick_one(struct batch *b, const struct slice *s, struct entry *n, size_t i)
{
	const size_t most = (size_t)n->how.penalty_last, recents = n->recents + i < most ? n->recents + i : most;
	const size_t row = s->first_logits + i;
	const int32_t *recent = n->recent + n->recents + i - recents;
	const struct top *top = model_top(b->model, row);
	const int64_t position = n->position + (int64_t)i;
	double *logprob = n->explains && !n->likeliest ? &n->logprob[i] : NULL;
	int32_t token = SAMPLER_UNDECIDED;

	if (top)
		token = sampler_pick_top(b->sampler, &n->how, top, position, recent, recents, logprob);
	if (token == SAMPLER_UNDECIDED) {
		top = NULL;
		token = sampler_pick(b->sampler, &n->how, model_logits(b->model, row), position, recent, recents,
				     logprob);
	}
	n->token[i] = token;
	if (n->likeliest)
		explain(b, n, i, row, top);
}

/* The same among the tokens that the guide allows; one that is alone needs no logits. */
static int pick_guided(struct batch *b, const struct slice *s, struct entry *n, size_t i)
{
	const size_t most = (size_t)n->how.penalty_last, recents = n->recents + i < most ? n->recents + i : most;
	const int32_t *recent = n->recent + n->recents + i - recents;
	const size_t row = s->first_logits + i;
	struct mask mask;
	int rc = guide_mask(n->guide, n->left - (int64_t)i, &mask, &n->err);

	if (rc < 0)
		return rc;
	if (!mask.count)
		return err_set(&n->err, SINK_EINVAL, "What the answer must be has led to where nothing may follow.");
	if (mask.count > 1)
		n->token[i] = sampler_pick_masked(b->sampler, &n->how, &mask, model_logits(b->model, row),
						  n->position + (int64_t)i, recent, recents, NULL);
	else
		n->token[i] = mask.first;
	if (n->explains)
		explain(b, n, i, row, NULL);
	guide_see(n->guide, n->token[i]);
	return 0;
}

/* Picks one token after the other, as if each had been a step of its own, up to the first that no draft foresaw. */
static void pick(struct batch *b, size_t i)
{
	struct entry *n = &b->entry[i];
	struct slice *s = &b->slice[i];
	const int32_t *draft = s->token + s->count - n->drafts;

	if (n->guide)
		guide_look(n->guide);
	for (n->picked = 0; n->picked <= n->drafts;) {
		const size_t k = n->picked;

		if (n->guide)
			n->rc = pick_guided(b, s, n, k);
		else
			pick_one(b, s, n, k);
		if (n->rc < 0)
			break;
		n->picked++;
		if (k == n->drafts || n->token[k] != draft[k])
			break;
	}
	if (!s->hold)
		return;
	s->count -= n->drafts + 1 - (n->picked ? n->picked : 1);
	model_keep(s, s->count);
}

static void score(struct batch *b, size_t i)
{
	const struct entry *n = &b->entry[i];
	size_t vocab = (size_t)model_info(b->model)->vocab;

	for (size_t k = 0; k < n->targets; k++)
		n->logprobs[k] =
			logits_logprob(model_logits(b->model, b->slice[i].first_logits + k), vocab, n->target[k]);
}

static void batch_run(struct job *j)
{
	struct batch *b = (struct batch *)j;
	double began = clock_ms();

	b->rc = model_step(b->model, b->slice, b->count, &b->err);
	for (size_t i = 0; b->rc >= 0 && i < b->count; i++) {
		if (b->slice[i].status)
			continue;
		if (b->entry[i].picks)
			pick(b, i);
		if (b->entry[i].targets)
			score(b, i);
	}
	b->ms = clock_ms() - began;
}

int batch_new(struct model *m, size_t room, void (*done)(struct job *j, void *owner), struct batch **ret, struct err *e)
{
	struct batch *b = calloc(1, sizeof(*b));
	int rc = b ? 0 : SINK_ENOMEM;

	if (b) {
		b->job = (struct job){ batch_run, done };
		b->model = m;
		b->room = room;
		b->slice = calloc(room, sizeof(*b->slice));
		b->entry = calloc(room, sizeof(*b->entry));
		rc = b->slice && b->entry ? sampler_new((size_t)model_info(m)->vocab, &b->sampler, e) : SINK_ENOMEM;
	}
	if (rc < 0) {
		batch_free(b);
		return err_set(e, SINK_ENOMEM, "There is no memory for a batch of %zu conversations.", room);
	}
	*ret = b;
	return 0;
}

void batch_free(struct batch *b)
{
	if (!b)
		return;
	sampler_free(b->sampler);
	free(b->slice);
	free(b->entry);
	free(b);
}

static uint64_t hash_vocabulary(const struct model *m)
{
	const struct vocab *v = model_vocab(m);
	uint64_t hash = 14695981039346656037u; /* FNV-1a */

	for (int32_t id = 0; id < (int32_t)model_info(m)->vocab; id++) {
		const struct gguf_str piece = vocab_piece(v, id, true);

		for (size_t i = 0; i < piece.len; i++)
			hash = (hash ^ (uint8_t)piece.at[i]) * 1099511628211u;
		hash = (hash ^ 0xff) * 1099511628211u;
	}
	hash &= INT64_MAX; /* it is kept as a signed number */
	return hash ? hash : 1;
}

void load_run(struct job *j)
{
	struct load *l = (struct load *)j;
	double began = clock_ms();

	l->rc = model_open(&l->options, &l->model, &l->err);
	if (l->rc == 0 && l->identifies) {
		l->fingerprint = model_fingerprint(l->model);
		l->vocab = hash_vocabulary(l->model);
	}
	if (l->rc == 0)
		usual_find(l->model, l->options.path, &l->usual);
	l->ms = clock_ms() - began;
}
