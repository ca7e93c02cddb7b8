/*
 * Owns the scores at work. The row of token i gives the log-probability of token i + 1, so the last token of all is
 * never read, and the rows before the first scored one want no logits.
 */
#include "score.h"

#include <assert.h>
#include <stdlib.h>

#include "policy.h"
#include "step.h"

/* The tokens of the conversation that the cache has yet to read, or its last one, whose row is needed again. */
static int take_conversation(struct score *s, struct conversation *v, struct err *e)
{
	int64_t from = v->seen.tokens;
	int rc = 0;

	if (v->kv)
		rc = kv_fork(v->kv, &s->kv, e);
	if (rc < 0)
		return rc;
	if (from > 0 && from == (int64_t)v->log.count) {
		from--;
		if (kv_rewind(s->kv, from, NULL) < 0) {
			kv_free(s->kv);
			s->kv = NULL;
			from = 0;
		}
	}
	s->read = 0;
	rc = tokens_append(&s->tokens, v->log.id + from, v->log.count - (size_t)from, e);
	s->first = (int64_t)s->tokens.count;
	return rc;
}

static int make_cache(struct core *c, struct score *s, const struct conversation *v, struct err *e)
{
	struct kv_options o = { .step = (size_t)c->conf.batch };
	int rc;

	if (s->kv)
		return 0;
	if (v)
		o.policy = v->policy;
	else if ((rc = policy_parse(c->conf.policy, &o.policy, e)) < 0)
		return rc;
	return kv_new(model_arena(c->model), &o, &s->kv, e);
}

int score_begin(struct core *c, struct request *r, struct conversation *v, const int32_t *id, size_t count,
		struct err *e)
{
	struct score *s;
	int rc;

	if (c->score_count >= SCORES_MOST)
		return err_set(e, SINK_EBUSY, "%d scores are at work already; try again later.", SCORES_MOST);
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, SINK_ENOMEM, "There is no memory for a score.");
	TAILQ_INSERT_TAIL(&c->scores, s, link);
	c->score_count++;
	s->runner.kind = RUNS_SCORE;
	s->runner.owner = s;
	rc = v && v->log.count ? take_conversation(s, v, e) : 0;
	if (rc < 0 || (rc = make_cache(c, s, v, e)) < 0 || (rc = tokens_append(&s->tokens, id, count, e)) < 0 ||
	    (rc = core_hold(c, r, e)) < 0)
		goto fail;
	s->logprobs = calloc(count + 1, sizeof(*s->logprobs));
	if (!s->logprobs) {
		rc = err_set(e, SINK_ENOMEM, "There is no memory for a score of %zu tokens.", count);
		goto fail;
	}
	s->request = r;
	sched_add(&c->sched, &s->runner);
	return 0;
fail:
	score_free(c, s);
	return rc;
}

void score_free(struct core *c, struct score *s)
{
	sched_remove(&c->sched, &s->runner);
	TAILQ_REMOVE(&c->scores, s, link);
	c->score_count--;
	kv_free(s->kv);
	tokens_release(&s->tokens);
	free(s->logprobs);
	if (s->request)
		request_free(c, s->request);
	free(s);
}

static int64_t left(const struct score *s)
{
	return s->tokens.count ? (int64_t)s->tokens.count - 1 - s->read : 0;
}

/* Tokens whose rows nobody needs. */
static int64_t silent(const struct score *s)
{
	int64_t n = s->first - 1 - s->read;

	return n > 0 ? n : 0;
}

void score_prepare(struct score *s)
{
	s->runner.streams = false;
	s->runner.waiting = silent(s) ? silent(s) : left(s);
	s->runner.room = (int64_t)kv_room(s->kv);
	s->runner.wants = silent(s) ? ROWS_NONE : ROWS_ALL;
}

void score_fill(struct score *s, struct slice *slice, struct entry *n)
{
	size_t count = s->runner.take;
	bool all = s->runner.wants == ROWS_ALL;

	*slice = (struct slice){
		.kv = s->kv, .token = s->tokens.id + s->read, .count = count, .logits = all ? LOGITS_ALL : LOGITS_NONE
	};
	*n = (struct entry){ .owner = &s->runner };
	if (!all)
		return;
	n->target = s->tokens.id + s->read + 1;
	n->targets = count;
	n->logprobs = s->logprobs + (s->read + 1 - s->first);
}

static void reply(struct core *c, struct score *s)
{
	struct out *o = core_reply_begin(c, s->request);

	out_array(o, "tokens");
	for (size_t i = (size_t)s->first; i < s->tokens.count; i++)
		out_int(o, NULL, s->tokens.id[i]);
	out_end(o);
	out_array(o, "logprobs");
	for (size_t i = (size_t)s->first; i < s->tokens.count; i++)
		if (i == 0)
			out_nil(o, NULL);
		else
			out_float(o, NULL, s->logprobs[i - (size_t)s->first]);
	out_end(o);
	core_reply(c, s->request);
	s->request = NULL;
}

void score_take(struct core *c, struct score *s, const struct slice *slice)
{
	s->read += slice ? (int64_t)slice->count : 0;
	if (left(s) > 0)
		return;
	reply(c, s);
	score_free(c, s);
}

void score_fail(struct core *c, struct score *s, const struct err *why)
{
	core_refuse(c, s->request, why);
	s->request = NULL;
	score_free(c, s);
}
