/* The verbs that make conversations and make them speak. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "keep.h"
#include "log.h"
#include "talk.h"
#include "verb_table.h"

/* What `new`, and `say` with `create`, may say of a conversation. */
struct birth {
	struct retention keeps;
	bool pin_system;
	const char *system; /* NULL: the model's own, when something is said */
	size_t system_len;
	struct settings settings;
};

static int read_birth(struct core *c, const struct request *r, struct birth *b, struct err *e)
{
	const bool named = val_get(r->root, "marks") != NULL;
	const char *policy = NULL;
	struct tokens marks = { 0 };
	bool seeded;
	size_t len;
	int rc;

	*b = (struct birth){ .pin_system = true, .settings = c->conf.sampling };
	if ((rc = msg_str_or(r->root, "policy", sizeof(c->conf.policy) - 1, &policy, &len, e)) < 0 ||
	    (rc = msg_bool_or(r->root, "pin_system", &b->pin_system, e)) < 0 ||
	    (rc = msg_str_or(r->root, "system", SIZE_MAX, &b->system, &b->system_len, e)) < 0 ||
	    (rc = settings_read(val_get(r->root, "sampling"), &b->settings, &seeded, e)) < 0)
		return rc;
	if (!seeded)
		b->settings.how.seed = settings_random_seed();
	rc = talk_check(c, &b->settings, e);
	if (rc == 0 && named)
		rc = verb_read_ids(c, r, "marks", RETENTION_MARKS, &marks, e);
	if (rc == 0)
		rc = retention_choose(&c->conf, c->model, policy ? policy : core_policy(c), named ? &marks : NULL,
				      &b->keeps, e);
	tokens_release(&marks);
	if (rc < 0)
		settings_release(&b->settings);
	return rc;
}

int verb_make(struct core *c, const struct request *r, const char *name, size_t len, struct conversation **ret,
	      struct err *e)
{
	struct conversation *v;
	struct birth b;
	struct kv *kv;
	int rc = read_birth(c, r, &b, e);

	if (rc < 0)
		return rc;
	if (c->table.count >= (size_t)c->conf.conversations)
		rc = err_set(e, SINK_EBUSY, "There are %zu conversations already (option conversations).",
			     c->table.count);
	else
		rc = conversation_new(&c->table, name, len, (size_t)c->conf.log_bytes, &v, e);
	if (rc < 0) {
		retention_release(&b.keeps);
		settings_release(&b.settings);
		return rc;
	}
	v->keeps = b.keeps;
	v->pin_system = b.pin_system;
	v->settings = b.settings;
	rc = retention_cache(&v->keeps, c->model, (size_t)c->conf.batch, &kv, e); /* could it ever be held? */
	if (rc < 0) {
		conversation_remove(&c->table, v);
		return rc;
	}
	kv_free(kv);
	v->model.vocab = c->vocab;
	snprintf(v->model.name, sizeof(v->model.name), "%s", model_info(c->model)->name);
	keep_begin(c, v);
	v->note = retention_note(&v->keeps.policy, c->model);
	if (v->note)
		log_warning("\"%s\": %s", v->name, v->note);
	*ret = v;
	return 0;
}

void verb_write_made(struct conversation *v, struct out *o)
{
	conversation_info(v, o, "conversation");
	if (v->note)
		out_str(o, "note", v->note);
	v->note = NULL;
}

void verb_text_home(struct core *c, struct encode *n)
{
	c->texts_away--;
	if (n->conversation)
		n->conversation->encoding = false;
}

/*
 * The whole system prompt becomes the pinned start, where the policy has one, when it fits in the stated share of the
 * budget and leaves a window. The budget stays the same: what the pinned start gains, the window loses.
 */
static void pin_system(struct core *c, struct conversation *v, size_t tokens)
{
	const struct policy *p = &v->keeps.policy;

	if (!v->pin_system || !policy_has_sinks(p) || !policy_is_endless(p) || v->seen.tokens ||
	    (double)tokens <= (double)p->sinks || (double)tokens >= (double)p->sinks + (double)p->window ||
	    (double)tokens > c->conf.pin_system * (double)policy_budget(p))
		return;
	v->keeps.policy = policy_pinned(p, (int32_t)tokens);
	kv_free(v->kv); /* made anew with the first step */
	v->kv = NULL;
	v->tier = TIER_NONE;
}

/* What ends a turn counts as the answer's. */
static void lengthen(struct conversation *v, int64_t tokens)
{
	v->message[v->messages - 1].tokens += tokens;
	conversation_rewrite(v, v->messages - 1);
}

int verb_write_pieces(struct core *c, struct conversation *v, const struct encode *n, struct err *e)
{
	const int64_t base = (int64_t)v->log.count;
	int rc = talk_append(c, v, n->out.id, n->out.count, e);

	for (size_t i = 0; i < n->pieces && rc == 0; i++) {
		const struct piece *p = &n->piece[i];
		int64_t begin = base + (i ? (int64_t)n->piece[i - 1].end : 0);

		if (p->kind == PIECE_CLOSE && v->messages) /* the end of the turn before */
			lengthen(v, (int64_t)encode_tokens(n, i));
		if (p->kind != PIECE_MESSAGE)
			continue;
		rc = conversation_add(v, p->role, p->text, p->len, e);
		if (rc < 0)
			break;
		if (i == 1 && n->piece[0].kind == PIECE_BEGIN)
			begin = base;
		v->message[v->messages - 1].first_token = begin;
		v->message[v->messages - 1].tokens = base + (int64_t)p->end - begin;
	}
	if (rc < 0) {
		v->log.count = (size_t)base;
		return rc;
	}
	if (n->system)
		pin_system(c, v, n->piece[n->system - 1].end);
	v->begun = true;
	v->turn_open = false;
	return 0;
}

static void add_beginning(struct encode *n, const struct conversation *v, const char *system, size_t len)
{
	struct piece *p;

	encode_add(n, PIECE_BEGIN)->last = v->keeps.policy.token;
	if (!len)
		return;
	p = encode_add(n, PIECE_MESSAGE);
	p->role = ROLE_SYSTEM;
	p->text = system;
	p->len = len;
	n->system = n->pieces;
}

static void new_done(struct job *j, void *owner)
{
	struct encode *n = (struct encode *)j;
	struct conversation *v = n->conversation;
	struct core *c = owner;

	verb_text_home(c, n);
	if (n->rc == 0)
		n->rc = verb_write_pieces(c, v, n, &n->err);
	if (n->rc < 0) {
		conversation_remove(&c->table, v);
		core_refuse(c, n->request, &n->err);
	} else {
		for (size_t i = 0; i < v->messages; i++)
			event_message(c->events, v, i);
		verb_write_made(v, core_reply_begin(c, n->request));
		core_reply(c, n->request);
	}
	encode_free(n);
}

int verb_new(struct core *c, struct request *r, struct err *e)
{
	char invented[STREAM_NAME + 1];
	const char *name = NULL, *system = NULL;
	size_t len, system_len = 0;
	struct conversation *v;
	struct encode *n;
	int rc;

	if ((rc = msg_str_or(r->root, "name", SIZE_MAX, &name, &len, e)) < 0)
		return rc;
	if (!name) {
		conversation_invent_name(&c->table, invented);
		name = invented;
		len = strlen(invented);
	}
	if ((rc = msg_str_or(r->root, "system", SIZE_MAX, &system, &system_len, e)) < 0 ||
	    (rc = verb_make(c, r, name, len, &v, e)) < 0)
		return rc;
	if (!system) {
		verb_write_made(v, core_reply_begin(c, r));
		core_reply(c, r);
		return 0;
	}
	rc = encode_new(c->model, new_done, &n, e);
	if (rc == 0) {
		n->request = r;
		n->conversation = v;
		add_beginning(n, v, system, system_len);
		rc = core_encode(c, n, e);
		if (rc < 0)
			encode_free(n);
	}
	if (rc < 0)
		conversation_remove(&c->table, v);
	return rc;
}

/* say */

struct said {
	const char *text;
	size_t len;
	enum role role;
	bool answer, create;
	struct follow follow;
};

static int read_said(const struct request *r, struct said *s, struct err *e)
{
	const char *role = "user";
	size_t len;
	int rc;

	*s = (struct said){ .answer = true };
	if ((rc = msg_str(r->root, "text", SIZE_MAX, &s->text, &s->len, e)) < 0 ||
	    (rc = msg_str_or(r->root, "role", 64, &role, &len, e)) < 0 || (rc = role_find(role, &s->role, e)) < 0 ||
	    (rc = msg_bool_or(r->root, "answer", &s->answer, e)) < 0 ||
	    (rc = msg_bool_or(r->root, "create", &s->create, e)) < 0 || (rc = verb_follow(r, &s->follow, e)) < 0)
		return rc;
	return 0;
}

/* The prompt is in the log, behind `first` messages: it is announced, and read from now on. */
static int announce(struct core *c, struct conversation *v, const struct encode *n, size_t first, struct err *e)
{
	const size_t said = v->messages - 1;
	int64_t end = (int64_t)v->log.count, seq;
	struct said s;
	int rc;

	if (n->answers)
		end -= (int64_t)encode_tokens(n, n->pieces - 1);
	rc = talk_queue(c, v, (int64_t)said, v->message[said].first_token, end, e);
	if (rc < 0)
		return rc;
	for (size_t i = first; i < said; i++)
		event_message(c->events, v, i);
	seq = stream_next(v->stream);
	event_message(c->events, v, said);
	read_said(n->request, &s, NULL); /* it was read before, without an error */
	verb_reply_said(c, n->request, v, &s.follow, (int64_t)said, seq);
	return 0;
}

static void say_done(struct job *j, void *owner)
{
	struct encode *n = (struct encode *)j;
	struct conversation *v = n->conversation;
	struct core *c = owner;
	size_t first = v->messages;

	verb_text_home(c, n);
	if (n->rc == 0)
		n->rc = verb_write_pieces(c, v, n, &n->err);
	if (n->rc == 0)
		n->rc = announce(c, v, n, first, &n->err);
	if (n->rc < 0) {
		talk_abandon(c, v);
		core_refuse(c, n->request, &n->err);
	}
	encode_free(n);
}

/* The pieces of what is said, after those that must stand before it. */
static void add_said(struct core *c, const struct conversation *v, struct request *r, const struct said *s,
		     struct encode *n)
{
	const char *system = turns_default_system(model_turns(c->model));
	size_t len = system ? strlen(system) : 0;
	struct piece *p;

	if (!v->begun) {
		if (s->create)
			msg_str_or(r->root, "system", SIZE_MAX, &system, &len, NULL);
		else if (s->role == ROLE_SYSTEM)
			len = 0;
		add_beginning(n, v, system, len);
	}
	if (v->turn_open && v->log.count) {
		p = encode_add(n, PIECE_CLOSE);
		p->last = v->log.id[v->log.count - 1];
	}
	p = encode_add(n, PIECE_MESSAGE);
	if (!v->messages)
		p->place = TURN_FIRST;
	else if (v->message[v->messages - 1].role == ROLE_SYSTEM)
		p->place = TURN_BEHIND_SYSTEM;
	p->role = s->role;
	p->text = s->text;
	p->len = s->len;
	if (s->answer)
		encode_add(n, PIECE_OPEN)->unthinking = v->work.answer.settings.unthinking;
	n->answers = s->answer;
	n->request = r;
}

static int begin_say(struct core *c, struct request *r, struct conversation *v, const struct said *s,
		     const struct settings *settings, struct err *e)
{
	struct encode *n;
	int rc = encode_new(c->model, say_done, &n, e);

	if (rc < 0)
		return rc;
	rc = talk_begin(c, v, s->answer, settings, e);
	if (rc < 0)
		goto fail;
	add_said(c, v, r, s, n);
	n->conversation = v;
	rc = core_encode(c, n, e);
	if (rc == 0)
		return 0;
	talk_abandon(c, v);
fail:
	encode_free(n);
	return rc;
}

int verb_say(struct core *c, struct request *r, struct err *e)
{
	struct conversation *v = NULL;
	struct settings settings;
	bool made = false;
	struct said s;
	int rc;

	if ((rc = read_said(r, &s, e)) < 0)
		return rc;
	rc = verb_conversation(c, r, &v, e);
	if (rc == SINK_ENOENT && s.create) {
		size_t len;
		const char *name = val_str(val_get(r->root, "conversation"), &len);

		rc = verb_make(c, r, name, len, &v, e);
		made = true;
	}
	if (rc < 0)
		return rc;
	settings_copy(&settings, &v->settings);
	s.create = made; /* from here on: whether its fields apply */
	rc = made ? 0 : settings_read(val_get(r->root, "sampling"), &settings, NULL, e);
	if (rc == 0)
		rc = begin_say(c, r, v, &s, &settings, e);
	settings_release(&settings);
	if (rc < 0 && made)
		conversation_remove(&c->table, v);
	return rc;
}
