/*
 * Owns the steps from a prompt to the end of its answer. Each is short, in the order in which they happen below; the
 * table in conversation.c says which may follow which.
 */
#include "talk.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "keep.h"
#include "log.h"
#include "resume.h"
#include "tier.h"

enum { EVICTED_TOLD = 256, PREFILL_EVERY_MS = 100 };

/* Whether the model can do without thoughts, if it is to. */
static int check_thinking(const struct core *core, const struct settings *s, struct err *e)
{
	if (!s->unthinking || turns_think(model_turns(core->model)))
		return 0;
	return err_set(e, SINK_EINVAL, "The model's chat template has no way to leave thinking out (no_thinking).");
}

int talk_check(const struct core *core, const struct settings *s, struct err *e)
{
	struct answer a;
	int rc = check_thinking(core, s, e);

	if (rc < 0)
		return rc;
	answer_init(&a, s);
	rc = answer_guide(&a, model_trie(core->model), e);
	answer_release(&a);
	return rc;
}

int talk_begin(struct core *core, struct conversation *c, bool answers, const struct settings *s, struct err *e)
{
	struct answer answer;
	int rc = keep_check(core, c, e);

	if (rc == 0)
		rc = resume_check(core, c, e);
	if (rc < 0)
		return rc;
	if (!conversation_can(c, HAPPENS_PROMPT))
		return err_set(e, SINK_EBUSY, "The conversation \"%s\" is %s; stop it or wait.", c->name,
			       state_name(c->state));
	rc = answers ? check_thinking(core, s, e) : 0;
	if (rc < 0)
		return rc;
	answer_init(&answer, s);
	rc = answers ? answer_guide(&answer, model_trie(core->model), e) : 0;
	if (rc < 0) {
		answer_release(&answer);
		return rc;
	}
	conversation_happens(c, HAPPENS_PROMPT);
	conversation_touch(&core->table, c);
	answer_release(&c->work.answer);
	c->work = (struct work){ .answers = answers, .prompt = -1, .asked = clock_ms(), .answer = answer };
	c->work.begin = c->work.cut = c->seen.tokens;
	c->work.message = (int64_t)c->messages;
	c->work.evicted = c->seen.evicted;
	if (!c->model.vocab) {
		c->model.vocab = core->vocab;
		snprintf(c->model.name, sizeof(c->model.name), "%s", model_info(core->model)->name);
	}
	return 0;
}

int talk_append(struct core *core, struct conversation *c, const int32_t *id, size_t count, struct err *e)
{
	size_t most = (size_t)core->conf.log_tokens;

	if (count > most || c->log.count > most - count)
		return err_set(e, SINK_EBUSY, "The conversation would be longer than %zu tokens (log-tokens).", most);
	conversation_changed(c, false);
	return tokens_append(&c->log, id, count, e);
}

/* What is read up to token `to` was read before. */
static void begin_replay(struct conversation *c, int64_t to)
{
	if (!c->replays)
		return;
	c->work.replay_from = c->seen.tokens;
	c->work.replay_to = c->left.tokens && c->left.tokens < to ? c->left.tokens : to;
}

/*
 * Where turns are plain text no token ends one, and a model that was not trained for turns writes the user's too: what
 * the next one begins with is one more stop string, and kept with the others.
 */
static void end_at_next_turn(const struct core *core, struct settings *s)
{
	const char *next = turns_next(model_turns(core->model));
	const size_t len = next ? strlen(next) : 0;

	if (!next || s->constraint || s->stops == STOP_MAX)
		return;
	s->stop[s->stops].len = len;
	memcpy(s->stop[s->stops].text, next, len + 1);
	s->stops++;
}

int talk_queue(struct core *core, struct conversation *c, int64_t prompt, int64_t cut, int64_t open, struct err *e)
{
	struct work *w = &c->work;

	w->message = prompt >= 0 ? prompt : (int64_t)c->messages;
	if (w->answers) {
		if (conversation_add(c, ROLE_ASSISTANT, "", 0, e) < 0)
			return SINK_ENOMEM;
		w->message = (int64_t)c->messages - 1;
		c->message[w->message].first_token = open;
		c->message[w->message].raw = open == (int64_t)c->log.count;
		if (!c->message[w->message].raw)
			end_at_next_turn(core, &w->answer.settings);
	}
	w->prompt = prompt;
	w->cut = cut;
	w->begin = c->seen.tokens;
	w->total = conversation_waiting(c);
	begin_replay(c, w->cut);
	conversation_changed(c, true); /* the work is in the row */
	sched_add(&core->sched, &c->runner);
	return 0;
}

static void tell_evicted(struct core *core, struct conversation *c, int64_t least)
{
	const int64_t first = c->evicted_told > c->seen.pinned ? c->evicted_told : c->seen.pinned;

	if (c->seen.evicted_end - first < least)
		return;
	event_evicted(core->events, c, first);
	c->evicted_told = c->seen.evicted_end;
	conversation_changed(c, true);
}

/* The work is over, whatever became of it. */
static void leave(struct core *core, struct conversation *c)
{
	sched_remove(&core->sched, &c->runner);
	answer_release(&c->work.answer);
	draft_free(c->work.draft);
	c->work.draft = NULL;
	conversation_touch(&core->table, c);
	c->kept.ends = true;
	conversation_changed(c, true);
	tier_rests(core, c);
}

void talk_abandon(struct core *core, struct conversation *c)
{
	conversation_happens(c, HAPPENS_END);
	leave(core, c);
}

/* What is held of the text goes out. */
static void publish(struct core *core, struct conversation *c, const struct text *text)
{
	struct answer *a = &c->work.answer;
	struct err e;

	if (!text->len && (!a->tokens || a->held.len))
		return;
	if (text->len && text_add(&c->message[c->work.message].text, text->at, text->len, &e) < 0)
		log_error("\"%s\": %s", c->name, e.text);
	event_text(core->events, c, text, model_vocab(core->model));
	answer_sent(a);
}

static void end_answer(struct core *core, struct conversation *c, const char *finish)
{
	struct message *m = &c->message[c->work.message];
	struct text rest = { 0 };

	if (answer_end(&c->work.answer, &rest, NULL) == 0)
		publish(core, c, &rest);
	text_release(&rest);
	m->tokens = (int64_t)c->log.count - m->first_token;
	m->finish = finish;
	conversation_rewrite(c, (size_t)c->work.message);
	tell_evicted(core, c, 1);
	event_done(core->events, c, finish, clock_ms());
}

/* A `feed` was read. */
static void answer_feed(struct core *core, struct conversation *c)
{
	struct request *r = c->work.request;
	struct out *o;

	if (!r)
		return;
	c->work.request = NULL;
	o = core_reply_begin(core, r);
	conversation_info(c, o, "conversation");
	out_int(o, "tokens", c->seen.tokens - c->work.cut);
	core_reply(core, r);
}

static void finish(struct core *core, struct conversation *c, const char *how)
{
	conversation_happens(c, HAPPENS_END);
	if (c->work.answers)
		end_answer(core, c, how);
	else
		tell_evicted(core, c, 1);
	leave(core, c);
	answer_feed(core, c);
}

/* What was lost is back when the last token that had been read before was read again. */
static void tell_replay(struct core *core, struct conversation *c, double now)
{
	struct work *w = &c->work;
	const int64_t all = w->replay_to - w->replay_from;

	if (c->seen.tokens >= w->replay_to) {
		event_restored(core->events, c, w->replay_to, all, "replay", now - w->served);
		c->replays = false;
		if (c->evicted_told > c->seen.evicted_end)
			c->evicted_told = c->seen.evicted_end;
	} else if (c->state == STATE_ANSWERING && now - w->told >= PREFILL_EVERY_MS) {
		event_prefill(core->events, c, c->seen.tokens - w->replay_from, all, now - w->served);
		w->told = now;
	}
}

/* Whether the answer begins a text, in a turn of its own or behind a mark, or goes on with one. */
static bool is_front(const struct core *core, const struct conversation *c)
{
	const int64_t open = c->work.open;

	return !c->message[c->work.message].raw || open == 0 ||
	       vocab_is_mark(model_vocab(core->model), c->log.id[open - 1]);
}

void talk_read(struct core *core, struct conversation *c)
{
	struct work *w = &c->work;
	double now = clock_ms();
	int64_t done = c->seen.tokens - w->begin;

	if (c->replays)
		tell_replay(core, c, now);
	if (c->state != STATE_READING)
		return;
	if (done < w->total) {
		if (now - w->told >= PREFILL_EVERY_MS) {
			event_prefill(core->events, c, done, w->total, now - w->served);
			w->told = now;
		}
		tell_evicted(core, c, EVICTED_TOLD);
		return;
	}
	event_prefill(core->events, c, done, w->total, now - w->served);
	tell_evicted(core, c, 1);
	if (!w->answers) {
		finish(core, c, "end");
		return;
	}
	conversation_happens(c, HAPPENS_READ);
	c->turn_open = true;
	w->read = now;
	w->open = (int64_t)c->log.count;
	w->answer.front = is_front(core, c);
	event_answer(core->events, c);
}

/* The tokens of the answer, once more through what makes text of them. */
static int say_again(struct core *core, struct conversation *c, struct err *e)
{
	struct message *m = &c->message[c->work.message];
	struct answer *a = &c->work.answer;
	bool stopped = false;
	int rc = 0;

	text_release(&m->text);
	a->front = is_front(core, c);
	for (size_t i = (size_t)c->work.open; i < c->log.count && rc == 0; i++) {
		const struct gguf_str piece = answer_piece(a, model_vocab(core->model), c->log.id[i]);
		const struct drawn d = { .id = c->log.id[i] };
		struct text out = { 0 };

		if (a->guide)
			rc = guide_take(a->guide, c->log.id[i], e);
		if (rc == 0)
			rc = answer_take(a, &d, piece.at, piece.len, &out, &stopped, e);
		if (rc == 0 && out.len)
			rc = text_add(&m->text, out.at, out.len, e);
		if (out.len || (a->tokens && !a->held.len))
			answer_sent(a);
		text_release(&out);
		c->work.generated++;
	}
	return rc;
}

void talk_resume(struct core *core, struct conversation *c)
{
	struct work *w = &c->work;
	const bool answering = c->state == STATE_ANSWERING;
	const int64_t last = (int64_t)c->log.count - 1;
	struct err e;

	w->asked = clock_ms();
	if (c->seen.tokens > last) /* the last one is read again, for what follows from it */
		talk_trim(c, last);
	if ((w->answers && answer_guide(&w->answer, model_trie(core->model), &e) < 0) ||
	    (answering && say_again(core, c, &e) < 0)) {
		talk_fail(core, c, &e);
		return;
	}
	if (answering) {
		w->served = w->told = w->read = w->asked;
	} else {
		conversation_set_state(c, STATE_QUEUED);
		w->begin = c->seen.tokens;
		w->total = conversation_waiting(c);
	}
	begin_replay(c, answering ? last : w->cut);
	sched_add(&core->sched, &c->runner);
	log_info("\"%s\" goes on with its %s.", c->name, answering ? "answer" : "reading");
}

/* Under a constraint an answer ends where nothing may follow, and it is led to be complete at its last token. */
static void end_guided(struct core *core, struct conversation *c)
{
	const struct answer *a = &c->work.answer;
	struct err e;

	if (guide_is_closed(a->guide) || (guide_is_complete(a->guide) && answer_left(a, c->work.generated) <= 0)) {
		finish(core, c, "end");
	} else if (answer_left(a, c->work.generated) <= 0) {
		err_set(&e, SINK_EINVAL, "The answer could not be completed within its tokens.");
		talk_fail(core, c, &e);
	}
}

void talk_token(struct core *core, struct conversation *c, const struct drawn *d)
{
	const struct vocab *v = model_vocab(core->model);
	struct work *w = &c->work;
	struct text out = { 0 };
	struct gguf_str piece;
	struct err e;
	bool stopped = false;

	core->pulse.written++;
	c->pulse.written++;
	if (w->first <= 0)
		w->first = clock_ms();
	if (talk_append(core, c, &d->id, 1, &e) < 0) {
		talk_fail(core, c, &e);
		return;
	}
	if (keep_check(core, c, &e) < 0) {
		talk_fail(core, c, &e);
		return;
	}
	tell_evicted(core, c, EVICTED_TOLD);
	if (vocab_is_end(v, d->id)) {
		finish(core, c, "end");
		return;
	}
	w->generated++;
	if (w->answer.guide && guide_take(w->answer.guide, d->id, &e) < 0) {
		talk_fail(core, c, &e);
		return;
	}
	piece = answer_piece(&w->answer, v, d->id);
	if (answer_take(&w->answer, d, piece.at, piece.len, &out, &stopped, &e) < 0) {
		text_release(&out);
		talk_fail(core, c, &e);
		return;
	}
	publish(core, c, &out);
	text_release(&out);
	if (stopped)
		finish(core, c, "stop");
	else if (w->answer.guide)
		end_guided(core, c);
	else if (w->answer.settings.max_tokens && w->generated >= w->answer.settings.max_tokens)
		finish(core, c, "length");
}

/* While a prompt is read, a stop leaves what was read of it; the rest of its tokens is forgotten. */
static void cut_prompt(struct conversation *c)
{
	struct work *w = &c->work;
	int64_t left = c->seen.tokens > w->cut ? c->seen.tokens : w->cut;

	c->begun = c->begun && left > 0;
	c->turn_open = left > w->cut;
	for (size_t i = c->messages; i-- > 0;) {
		struct message *m = &c->message[i];

		if (m->first_token + m->tokens <= left && m->first_token <= left)
			break;
		m->first_token = m->first_token < left ? m->first_token : left;
		m->tokens = left - m->first_token;
		conversation_rewrite(c, i);
	}
	conversation_cut(c, c->messages, left);
}

void talk_stop(struct core *core, struct conversation *c)
{
	if (c->state != STATE_ANSWERING)
		cut_prompt(c);
	finish(core, c, "stopped");
}

void talk_fail(struct core *core, struct conversation *c, const struct err *why)
{
	struct request *r = c->work.request;

	if (!conversation_busy(c))
		return;
	log_warning("\"%s\": %s", c->name, why->text);
	if (c->state != STATE_ANSWERING)
		cut_prompt(c);
	conversation_happens(c, HAPPENS_FAILURE);
	event_error(core->events, c, why);
	if (c->work.answers)
		end_answer(core, c, "error");
	leave(core, c);
	c->work.request = NULL;
	if (r)
		core_refuse(core, r, why);
}

void talk_drop_cache(struct conversation *c)
{
	kv_free(c->kv);
	c->kv = NULL;
	if (c->seen.tokens)
		c->left = c->seen;
	c->replays = c->replays || (c->left.tokens > 0 && !policy_begins_anew(&c->keeps.policy));
	c->tier = c->replays ? TIER_REPLAY : TIER_NONE;
	c->seen = (struct kv_info){ 0 };
}

bool talk_trim(struct conversation *c, int64_t count)
{
	bool cut = true;

	if (!c->kv || c->seen.tokens <= count)
		return true;
	if (kv_rewind(c->kv, c->log.id, count, NULL) < 0) {
		talk_drop_cache(c);
		if (c->left.tokens > count)
			c->left.tokens = count;
		cut = false;
	} else {
		kv_info(c->kv, &c->seen);
		if (c->evicted_told > c->seen.evicted_end)
			c->evicted_told = c->seen.evicted_end;
	}
	return cut;
}

void talk_rewind(struct core *core, struct conversation *c, size_t messages, const char **by)
{
	assert(!conversation_busy(c) && !c->away);
	*by = c->kv || !c->replays ? "cache" : "replay";
	if (messages < c->messages) {
		int64_t tokens = c->message[messages].first_token;

		if (!talk_trim(c, tokens))
			*by = "replay";
		conversation_cut(c, messages, tokens);
		c->turn_open = false;
		c->begun = tokens > 0;
		event_rewound(core->events, c, messages);
		tier_rests(core, c);
	}
	conversation_touch(&core->table, c);
}
