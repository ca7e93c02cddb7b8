/*
 * Owns the scores at work. The row of token i gives the log-probability of token i + 1, so the last token of all is
 * never read, and the rows before the first scored one want no logits. A policy that recomputes has no such rows: each
 * token is the end of a reading of its own (kv_aim()), of which the last row alone is wanted.
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
		if (kv_rewind(s->kv, NULL, from, NULL) < 0) {
			kv_free(s->kv);
			s->kv = NULL;
			from = 0;
		}
	}
	s->base = from;
	return tokens_append(&s->tokens, v->log.id + from, v->log.count - (size_t)from, e);
}

/* The tokens of the conversation from which the first scored one is predicted, where the policy recomputes. */
static int take_window(struct score *s, const struct conversation *v, struct err *e)
{
	const int64_t count = (int64_t)v->log.count, window = v->keeps.policy.window;

	s->base = count > window ? count - window : 0;
	return tokens_append(&s->tokens, v->log.id + s->base, (size_t)(count - s->base), e);
}

/* What comes before, and a cache that will have it read. */
static int take_past(struct core *c, struct score *s, struct conversation *v, const struct retention *keeps,
		     struct err *e)
{
	int rc = 0;

	s->anew = policy_begins_anew(&keeps->policy);
	if (v && v->log.count)
		rc = s->anew ? take_window(s, v, e) : take_conversation(s, v, e);
	if (rc == 0 && !s->kv)
		rc = retention_cache(keeps, c->model, (size_t)c->conf.batch, &s->kv, e);
	s->first = (int64_t)s->tokens.count;
	s->next = s->first ? s->first : 1; /* nothing predicts a first token */
	return rc;
}

/* Tokens within the first window of a text cost a row each; from there on each costs a window. */
static int check_cost(const struct score *s, const struct policy *p, struct err *e)
{
	const int64_t beyond = s->base + (int64_t)s->tokens.count - p->window;
	const int64_t count = (int64_t)s->tokens.count - s->first, most = SCORE_ROWS / p->window;
	char policy[POLICY_TEXT];

	if (!s->anew || beyond <= most || count <= most)
		return 0;
	policy_format(p, policy, sizeof(policy));
	return err_set(e, SINK_EINVAL, "%s reads a window anew for each token; at most %lld tokens are scored at once.",
		       policy, (long long)most);
}

/* The tokens to be read, and the memory for what becomes of them. */
static int take_tokens(struct core *c, struct score *s, struct conversation *v, const int32_t *id, size_t count,
		       struct err *e)
{
	struct retention usual = { 0 };
	const struct retention *keeps = v ? &v->keeps : &usual;
	int rc = v ? 0 : retention_choose(&c->conf, c->model, core_policy(c), NULL, &usual, e);

	if (rc == 0)
		rc = take_past(c, s, v, keeps, e);
	if (rc == 0)
		rc = tokens_append(&s->tokens, id, count, e);
	if (rc == 0)
		rc = check_cost(s, &keeps->policy, e);
	retention_release(&usual);
	if (rc < 0)
		return rc;
	s->logprobs = calloc(count + 1, sizeof(*s->logprobs));
	return s->logprobs ? 0 : err_set(e, SINK_ENOMEM, "There is no memory for a score of %zu tokens.", count);
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
	rc = take_tokens(c, s, v, id, count, e);
	if (rc < 0 || (rc = core_hold(c, r, e)) < 0) {
		score_free(c, s);
		return rc;
	}
	s->request = r;
	sched_add(&c->sched, &s->runner);
	return 0;
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
	if (s->anew)
		return (int64_t)s->tokens.count - s->next;
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
	struct runner *r = &s->runner;

	r->streams = false;
	if (s->anew && left(s) > 0) {
		s->read = kv_aim(s->kv, s->base + s->next) - s->base;
		r->waiting = s->next - s->read;
		r->wants = ROWS_LAST;
	} else {
		r->waiting = silent(s) ? silent(s) : left(s);
		r->wants = silent(s) ? ROWS_NONE : ROWS_ALL;
	}
	r->room = (int64_t)kv_room(s->kv);
}

void score_fill(struct score *s, struct slice *slice, struct entry *n)
{
	const size_t count = s->runner.take;
	const bool all = s->runner.wants == ROWS_ALL;
	const bool last = s->runner.wants == ROWS_LAST && (int64_t)count == s->runner.waiting;
	const int64_t target = all ? s->read + 1 : s->next;

	*slice = (struct slice){ .kv = s->kv,
				 .token = s->tokens.id + s->read,
				 .count = count,
				 .logits = all	  ? LOGITS_ALL
					   : last ? LOGITS_LAST
						  : LOGITS_NONE };
	*n = (struct entry){ .owner = &s->runner };
	if (!all && !last)
		return;
	n->target = s->tokens.id + target;
	n->targets = all ? count : 1;
	n->logprobs = s->logprobs + (target - s->first);
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
	if (s->anew && s->read == s->next)
		s->next++;
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
