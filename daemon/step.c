/*
 * Owns the building of a batch and the carrying out of its results. When the pages of the cache run out, idle caches
 * make room first; then those at work wait for each other; and when none of them can go on, the one asked last gives
 * way.
 */
#include "step.h"

#include <assert.h>
#include <string.h>

#include "keep.h"
#include "log.h"
#include "score.h"
#include "talk.h"
#include "tier.h"

static int64_t smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/*
 * Most tokens that may be read behind the one that waits: no more than room and limits allow, since what is read must
 * be of the answer, and the last of an answer is never read.
 */
static int64_t drafts_most(const struct core *c, const struct conversation *v)
{
	const struct work *w = &v->work;
	int64_t most = c->sched.drafts == DRAFTS_AUTO ? DRAFT_MOST : c->sched.drafts;

	if (!v->runner.streams || w->answer.settings.undrafted || policy_begins_anew(&v->keeps.policy))
		return 0;
	most = smaller(most, v->runner.room - 1);
	most = smaller(most, c->conf.log_tokens - (int64_t)v->log.count - 1);
	if (w->answer.settings.max_tokens || w->answer.guide)
		most = smaller(most, answer_left(&w->answer, w->generated) - 1);
	return most;
}

/*
 * Where the answer must go on with certain bytes, its tokens are likely those in which these are written. Returns how
 * many there are.
 */
static size_t propose_forced(const struct core *c, struct conversation *v, size_t most, int32_t *out)
{
	struct guide *guide = v->work.answer.guide;
	struct tokens t = { 0 };
	char bytes[8 * DRAFT_MOST];
	size_t count;

	if (!guide)
		return 0;
	guide_look(guide);
	count = guide_forced(guide, bytes, sizeof(bytes));
	if (vocab_encode(model_vocab(c->model), bytes, count, false, &t, NULL) < 0)
		t.count = 0; /* the answer goes on without them */
	count = smaller((int64_t)t.count, (int64_t)most);
	if (count) {
		memcpy(out, t.id, count * sizeof(*out));
		v->work.match = (struct draft_match){ .certain = true };
	}
	tokens_release(&t);
	return count;
}

/* Tokens that may follow stand in the log's memory behind its end, and are none of the text before they are picked. */
static void propose(struct core *c, struct conversation *v)
{
	int64_t most = drafts_most(c, v);
	struct work *w = &v->work;
	struct runner *r = &v->runner;
	int32_t *out;

	r->drafts = 0;
	if (w->cramped) {
		w->cramped = false;
		return;
	}
	if (most < 1 || (!w->draft && draft_new(&w->draft, NULL) < 0) || tokens_reserve(&v->log, DRAFT_MOST, NULL) < 0)
		return;
	out = v->log.id + v->log.count;
	most = smaller(most, DRAFT_MOST);
	r->drafts = propose_forced(c, v, (size_t)most, out);
	if (!r->drafts)
		r->drafts = draft_propose(w->draft, v->log.id, v->log.count, (size_t)most, out, &w->match);
	r->drafts = answer_foresees(&w->answer, model_vocab(c->model), out, r->drafts);
	for (size_t i = 0; i < r->drafts; i++)
		r->chance[i] = draft_chance(&v->odds, &w->match, i);
}

/*
 * What the scheduler asks of a conversation; false: it cannot go on. An answer's token is the only one to be read,
 * unless the policy reads the whole window anew for it: then the conversation is one of those that read.
 */
static bool prepare(struct core *c, struct conversation *v)
{
	struct runner *r = &v->runner;
	char policy[POLICY_TEXT];
	struct err e;

	if (!v->kv && retention_cache(&v->keeps, c->model, (size_t)c->conf.batch, &v->kv, &e) < 0) {
		talk_fail(c, v, &e);
		return false;
	}
	if (answer_prepare(&v->work.answer, &e) < 0) {
		talk_fail(c, v, &e);
		return false;
	}
	if (v->tier != TIER_MEMORY)
		tier_made(c, v);
	r->waiting = (int64_t)v->log.count - kv_aim(v->kv, (int64_t)v->log.count);
	r->room = (int64_t)kv_room(v->kv);
	r->streams = v->state == STATE_ANSWERING && r->waiting == 1;
	r->wants = v->work.answers ? ROWS_LAST : ROWS_NONE;
	if (!keep_allows(c, v)) /* the disk is slower than the engine */
		r->waiting = 0;
	else if (r->waiting > 0 && r->room > 0) {
		tier_grew(c, v); /* all that it has read is safe now */
		propose(c, v);
		return true;
	}
	if (r->waiting == 0)
		return true;
	policy_format(&v->keeps.policy, policy, sizeof(policy));
	err_set(&e, SINK_EBUSY, "The cache of the conversation is full at %lld tokens, and its policy (%s) has an end.",
		(long long)v->seen.tokens, policy);
	talk_fail(c, v, &e);
	return false;
}

static void prepare_score(struct core *c, struct score *s)
{
	static const struct err full = { SINK_EBUSY, "The cache is full before all tokens were read." };

	score_prepare(s);
	if (!s->runner.waiting)
		score_take(c, s, NULL); /* a single token, that nothing precedes */
	else if (!s->runner.room)
		score_fail(c, s, &full);
}

static void prepare_all(struct core *c)
{
	struct runner *r, *after;

	for (r = TAILQ_FIRST(&c->sched.runners); r; r = after) {
		after = TAILQ_NEXT(r, link);
		if (r->kind == RUNS_CONVERSATION)
			prepare(c, r->owner);
		else
			prepare_score(c, r->owner);
	}
}

static void serve(struct core *c, struct conversation *v)
{
	struct work *w = &v->work;

	v->away = true;
	conversation_happens(v, HAPPENS_SERVED);
	if (w->served > 0)
		return;
	w->served = w->told = clock_ms();
	event_prefill(c->events, v, 0, w->total, 0);
}

static void fill(struct core *c, struct conversation *v, struct slice *slice, struct entry *n)
{
	const size_t drafts = v->runner.streams ? v->runner.take - 1 : 0;
	const int64_t begin = kv_aim(v->kv, (int64_t)v->log.count), end = begin + (int64_t)(v->runner.take - drafts);
	const struct answer *a = &v->work.answer;
	const struct settings *s = &a->settings;
	bool picks = v->work.answers && end == (int64_t)v->log.count;

	serve(c, v);
	*slice = (struct slice){ .kv = v->kv,
				 .token = v->log.id + begin,
				 .count = v->runner.take,
				 .logits = drafts  ? LOGITS_ALL
					   : picks ? LOGITS_LAST
						   : LOGITS_NONE,
				 .hold = drafts > 0 };
	*n = (struct entry){ .owner = &v->runner,
			     .picks = picks,
			     .how = s->how,
			     .position = end,
			     .drafts = drafts,
			     .guide = a->guide,
			     .left = answer_left(a, v->work.generated),
			     .explains = s->logprobs || s->top_logprobs,
			     .likeliest = (size_t)s->top_logprobs,
			     .explained = a->explained };
	if (!picks)
		return;
	n->recents = end < s->how.penalty_last ? (size_t)end : (size_t)s->how.penalty_last;
	n->recent = v->log.id + (size_t)end - n->recents;
}

void step_begin(struct core *c)
{
	struct batch *b = c->batch;
	struct runner *chosen[4096]; /* the most that the option `batch` allows */
	int rc;

	if (c->phase != PHASE_READY || c->batch_away || !c->sched.count)
		return;
	prepare_all(c);
	b->count = sched_plan(&c->sched, chosen, b->room);
	if (!b->count)
		return;
	b->rows = b->prompts = 0;
	for (size_t i = 0; i < b->count; i++) {
		struct runner *r = chosen[i];

		b->rows += r->take;
		b->prompts += r->streams ? 0 : r->take;
		if (r->kind == RUNS_SCORE)
			score_fill(r->owner, &b->slice[i], &b->entry[i]);
		else
			fill(c, r->owner, &b->slice[i], &b->entry[i]);
	}
	c->batch_away = true;
	c->batch_gone = clock_ms();
	rc = worker_give(c->engine, &b->job, NULL);
	assert(rc == 0); /* the pipe of a worker that has at most one job is never full */
	(void)rc;
}

static void count_drafts(struct core *c, struct conversation *v, const struct entry *n)
{
	const size_t right = n->picked ? n->picked - 1 : 0;

	c->drafted += (int64_t)n->drafts;
	c->accepted += (int64_t)right;
	draft_learn(&v->odds, &v->work.match, right < n->drafts ? n->picked : right, right);
}

/* Each token that was picked, as if it had been a step of its own: what is told of the cache is as it was then. */
static void carry_out(struct core *c, struct conversation *v, const struct slice *s, const struct entry *n)
{
	if (v->state != STATE_ANSWERING) {
		c->pulse.read += (int64_t)s->count;
		v->pulse.read += (int64_t)s->count;
	}
	if (n->picks && v->runner.drafts)
		count_drafts(c, v, n);
	for (size_t i = 0; i == 0 || (i < n->picked && v->state == STATE_ANSWERING); i++) {
		kv_info(v->kv, &v->seen);
		if (i + 1 < n->picked)
			kv_info_at(v->kv, n->position + (int64_t)i, &v->seen);
		talk_read(c, v);
		if (i < n->picked && v->state == STATE_ANSWERING)
			talk_token(
				c, v,
				&(struct drawn){ n->token[i], n->logprob[i], n->explained ? &n->explained[i] : NULL });
	}
	kv_info(v->kv, &v->seen);
	if (n->rc < 0)
		talk_fail(c, v, &n->err);
	if (v->seen.tokens > (int64_t)v->log.count) /* it failed among them */
		talk_trim(v, (int64_t)v->log.count);
}

static void fail(struct core *c, struct runner *r, const struct err *why)
{
	if (r->kind == RUNS_SCORE)
		score_fail(c, r->owner, why);
	else
		talk_fail(c, r->owner, why);
}

/* The starved one that was asked last; scores before conversations. */
static struct runner *last_asked(const struct batch *b)
{
	struct runner *last = NULL;

	for (size_t i = 0; i < b->count; i++) {
		struct runner *r = b->entry[i].owner;
		const struct conversation *v = r->owner, *w = last ? last->owner : NULL;

		if (b->slice[i].status != SINK_EBUSY)
			continue;
		if (r->kind == RUNS_SCORE)
			return r;
		if (!w || v->work.asked > w->work.asked)
			last = r;
	}
	return last;
}

/* Some slices found no page. `moved`: others did move, and will give pages back one day. */
static void find_space(struct core *c, const struct batch *b, bool moved)
{
	static const struct err full = { SINK_EBUSY,
					 "The memory for caches (option cache) is full, and all of it is in use." };

	if (!core_make_space(c) && !moved)
		fail(c, last_asked(b), &full);
}

/* Whether all who were in it took part: then its time says what so many rows take. */
static bool is_whole(const struct batch *b)
{
	for (size_t i = 0; i < b->count; i++)
		if (b->slice[i].status)
			return false;
	return b->rc >= 0;
}

/* Who was in the step has been told. The others go on with the next daemon, like all that the host has. */
static void lose_device(struct core *c, const struct err *why)
{
	log_error("%s The daemon ends.", why->text);
	c->device_failed = true;
	core_stop(c);
}

/* Without its draft this one may find the page that it needs. */
static bool try_plain(const struct batch *b, size_t i)
{
	struct runner *r = b->entry[i].owner;

	if (b->rc < 0 || b->slice[i].status != SINK_EBUSY || !b->entry[i].drafts)
		return false;
	((struct conversation *)r->owner)->work.cramped = true;
	return true;
}

void step_done(struct job *j, void *owner)
{
	static const struct err refused = { SINK_EINVAL, "The engine refused the tokens." };
	struct batch *b = (struct batch *)j;
	struct core *c = owner;
	bool starved = false, moved = false;

	c->batch_away = false;
	if (is_whole(b))
		sched_learn(&c->sched, b->rows, b->prompts, b->ms);
	for (size_t i = 0; i < b->count; i++) {
		struct runner *r = b->entry[i].owner;

		if (r->kind == RUNS_CONVERSATION)
			((struct conversation *)r->owner)->away = false;
	}
	for (size_t i = 0; i < b->count; i++) {
		struct runner *r = b->entry[i].owner;
		int status = b->rc < 0 ? b->rc : b->slice[i].status;

		if (try_plain(b, i))
			moved = true;
		else if (status == SINK_EBUSY && b->rc >= 0)
			starved = true;
		else if (status < 0)
			fail(c, r, b->rc < 0 ? &b->err : &refused);
		else if (r->kind == RUNS_SCORE)
			score_take(c, r->owner, &b->slice[i]);
		else
			carry_out(c, r->owner, &b->slice[i], &b->entry[i]);
		moved = moved || status == 0;
	}
	if (starved)
		find_space(c, b, moved);
	if (b->rc == SINK_EDEVICE)
		lose_device(c, &b->err);
	c->pages_free = arena_pages_free(model_arena(c->model));
}
