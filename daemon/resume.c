/*
 * Owns the form of a conversation's row and the way from there to a conversation that speaks. What an answer has said
 * is not in the row: its tokens are in the log, and go once more through what makes text of them.
 */
#include "resume.h"

#include <stdlib.h>
#include <string.h>

#include "keep.h"
#include "log.h"
#include "talk.h"
#include "tier.h"

/* Writing. */

static void write_info(const struct kv_info *i, struct out *o)
{
	out_map(o, "cache");
	out_int(o, "tokens", i->tokens);
	out_int(o, "pinned", i->pinned);
	out_int(o, "kept", i->kept);
	out_int(o, "window", i->window);
	out_int(o, "evicted", i->evicted);
	out_int(o, "evicted_end", i->evicted_end);
	out_end(o);
}

static void write_work(const struct work *w, struct out *o)
{
	out_map(o, "work");
	out_bool(o, "answers", w->answers);
	out_int(o, "message", w->message);
	out_int(o, "prompt", w->prompt);
	out_int(o, "begin", w->begin);
	out_int(o, "cut", w->cut);
	out_int(o, "total", w->total);
	out_int(o, "open", w->open);
	out_int(o, "evicted", w->evicted);
	settings_write(&w->answer.settings, o, "sampling", true);
	out_end(o);
}

static void write_model(const struct core *c, const struct conversation *v, struct out *o)
{
	out_map(o, "model");
	out_str(o, "name", *v->model.name ? v->model.name : c->model ? model_info(c->model)->name : "");
	out_int(o, "vocab", (int64_t)(v->model.vocab ? v->model.vocab : c->vocab));
	out_end(o);
}

static void write_state(const struct core *c, const struct conversation *v, struct out *o)
{
	const bool works = conversation_busy(v) && !v->encoding;
	char policy[POLICY_TEXT];

	policy_format(&v->keeps.policy, policy, sizeof(policy));
	out_map(o, NULL);
	out_str(o, "policy", policy);
	out_array(o, "marks");
	for (size_t i = 0; i < v->keeps.marks.count; i++)
		out_int(o, NULL, v->keeps.marks.id[i]);
	out_end(o);
	write_model(c, v, o);
	settings_write(&v->settings, o, "sampling", true);
	out_bool(o, "pin_system", v->pin_system);
	out_bool(o, "pin", v->pin);
	out_bool(o, "begun", v->begun);
	out_bool(o, "turn_open", v->turn_open);
	out_int(o, "evicted_told", v->evicted_told);
	out_str(o, "state", state_name(works || v->state == STATE_FAILED ? v->state : STATE_IDLE));
	write_info(conversation_cache(v), o);
	if (works)
		write_work(&v->work, o);
	out_end(o);
}

int resume_write(const struct core *c, const struct conversation *v, void **ret, size_t *size, struct err *e)
{
	struct out *o;
	const void *data;
	int rc = out_new(&o, e);

	if (rc < 0)
		return rc;
	write_state(c, v, o);
	rc = out_check(o, e);
	if (rc == 0) {
		data = out_data(o, size);
		*ret = malloc(*size);
		if (*ret)
			memcpy(*ret, data, *size);
		else
			rc = err_set(e, SINK_ENOMEM, "There is no memory for the row of \"%s\".", v->name);
	}
	out_free(o);
	return rc;
}

/* Reading. Numbers are ours, but a file is a file: each is checked against what it is used for. */

static int64_t count_of(const struct val *map, const char *key)
{
	int64_t n = val_int(val_get(map, key), 0);

	return n < 0 ? 0 : n;
}

static void read_info(const struct val *map, struct kv_info *i)
{
	*i = (struct kv_info){ .tokens = count_of(map, "tokens"),
			       .pinned = count_of(map, "pinned"),
			       .kept = count_of(map, "kept"),
			       .window = count_of(map, "window"),
			       .evicted = count_of(map, "evicted"),
			       .evicted_end = count_of(map, "evicted_end") };
}

static int read_work(const struct val *map, struct work *w, struct err *e)
{
	struct settings s = { 0 };
	int rc = settings_restore(val_get(map, "sampling"), &s, e);

	if (rc < 0)
		return rc;
	*w = (struct work){ .answers = val_bool(val_get(map, "answers"), false),
			    .message = count_of(map, "message"),
			    .prompt = val_int(val_get(map, "prompt"), -1),
			    .begin = count_of(map, "begin"),
			    .cut = count_of(map, "cut"),
			    .total = count_of(map, "total"),
			    .open = count_of(map, "open"),
			    .evicted = count_of(map, "evicted") };
	answer_init(&w->answer, &s);
	settings_release(&s);
	return 0;
}

static int read_keeps(struct conversation *v, const struct val *root, struct err *e)
{
	const struct val *marks = val_get(root, "marks");
	const char *policy;
	size_t len;
	int rc = msg_str(root, "policy", POLICY_TEXT, &policy, &len, e);

	if (rc == 0)
		rc = policy_parse(policy, &v->keeps.policy, e);
	for (size_t i = 0; rc == 0 && i < val_count(marks); i++)
		rc = tokens_add(&v->keeps.marks, (int32_t)val_int(val_at(marks, i), -1), e);
	return rc;
}

static int read_state(struct conversation *v, const struct val *root, struct err *e)
{
	const struct val *model = val_get(root, "model"), *work = val_get(root, "work");
	const char *name = val_str(val_get(model, "name"), NULL);
	int rc = read_keeps(v, root, e);

	if (rc < 0 || (rc = settings_restore(val_get(root, "sampling"), &v->settings, e)) < 0)
		return rc;
	snprintf(v->model.name, sizeof(v->model.name), "%s", name ? name : "");
	v->model.vocab = (uint64_t)val_int(val_get(model, "vocab"), 0);
	v->pin_system = val_bool(val_get(root, "pin_system"), false);
	v->pin = val_bool(val_get(root, "pin"), false);
	v->begun = val_bool(val_get(root, "begun"), false);
	v->turn_open = val_bool(val_get(root, "turn_open"), false);
	v->evicted_told = count_of(root, "evicted_told");
	read_info(val_get(root, "cache"), &v->left);
	conversation_set_state(v, state_named(val_str(val_get(root, "state"), NULL)));
	if (work && conversation_busy(v))
		return read_work(work, &v->work, e);
	conversation_set_state(v, v->state == STATE_FAILED ? STATE_FAILED : STATE_IDLE);
	return 0;
}

int resume_read(struct conversation *v, const void *state, size_t size, struct err *e)
{
	struct msg *m;
	int rc = msg_parse(state, size, &m, e);

	if (rc < 0)
		return rc;
	rc = read_state(v, msg_root(m), e);
	msg_free(m);
	return rc;
}

/* At the start. */

struct listing {
	struct core *c;
	int rc;
	struct err *e;
};

static void trouble(struct conversation *v, const struct err *why)
{
	v->trouble = *why;
	conversation_set_state(v, STATE_FAILED);
	v->resumes = false;
	log_error("\"%s\" cannot be used: %s", v->name, why->text);
}

/* A row that was mended has lost its state: the text goes on under the settings of new conversations. */
static int assume(const struct core *c, struct conversation *v, const struct store_conversation *row, struct err *e)
{
	log_warning("\"%s\" has lost its settings, and goes on under those of the configuration.", v->name);
	v->settings = c->conf.sampling;
	v->settings.how.seed = settings_random_seed();
	v->begun = row->tokens > 0;
	v->left.tokens = row->tokens;
	return policy_parse(core_policy(c), &v->keeps.policy, e);
}

static void list_one(void *arg, const struct store_conversation *row)
{
	struct listing *l = arg;
	struct conversation *v;
	struct err why;

	if (l->rc < 0)
		return;
	l->rc = conversation_new(&l->c->table, row->name, strlen(row->name), (size_t)l->c->conf.log_bytes, &v, l->e);
	if (l->rc == SINK_ENOMEM)
		return;
	if (l->rc < 0) { /* a name that is none: the file was altered */
		log_error("A conversation of the store is left out: %s", l->e->text);
		l->rc = 0;
		return;
	}
	TAILQ_REMOVE(&l->c->table.by_use, v, by_use); /* the rows come with the last used first */
	TAILQ_INSERT_TAIL(&l->c->table.by_use, v, by_use);
	v->created = row->created;
	v->used = row->used;
	v->absent = true;
	v->absent_tokens = row->tokens;
	v->absent_messages = row->messages;
	stream_keep(v->stream, row->first_seq, row->seq);
	policy_parse("dense", &v->keeps.policy, NULL); /* what is shown of one whose own cannot be read */
	if ((row->state_size ? resume_read(v, row->state, row->state_size, &why) : assume(l->c, v, row, &why)) < 0)
		trouble(v, &why);
	v->kept = (struct kept){ .id = row->id,
				 .segment = row->segment,
				 .known = true,
				 .tokens = row->tokens,
				 .messages = row->messages,
				 .seq = row->seq,
				 .safe_tokens = row->tokens,
				 .safe_messages = row->messages,
				 .safe_seq = row->seq };
	v->tier = v->left.tokens && !policy_begins_anew(&v->keeps.policy) ? TIER_REPLAY : TIER_NONE;
	v->resumes = conversation_busy(v) || (l->c->conf.restore_at_start && v->tier != TIER_NONE);
	l->c->resuming += v->resumes;
}

int resume_list(struct core *c, int64_t *last, struct err *e)
{
	struct listing l = { .c = c, .e = e };
	int rc = store_list(keep_store(c), list_one, &l, last, e);

	if (rc > 0)
		log_error("%d conversations of the store are damaged and left out; sinkd --repair-store may mend them.",
			  rc);
	return rc < 0 ? rc : l.rc;
}

/* Texts. */

struct text_job {
	struct job job;
	struct store *store;
	int64_t id, segment;
	struct store_body body;
	int rc;
	struct err err;
};

static void text_run(struct job *j)
{
	struct text_job *t = (struct text_job *)j;

	t->rc = store_load(t->store, t->segment, &t->body, &t->err);
}

/* The body's tokens become the log's; its messages are copied. */
static int take_body(struct conversation *v, struct store_body *b, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < b->messages && rc == 0; i++) {
		const struct store_message *m = &b->message[i];

		rc = conversation_add(v, (enum role)m->role, m->text, m->len, e);
		if (rc < 0)
			break;
		v->message[i].first_token = m->first_token;
		v->message[i].tokens = m->tokens;
		v->message[i].time = m->time;
		v->message[i].finish = conversation_finish(m->finish);
		v->message[i].raw = m->raw;
	}
	if (rc == 0)
		rc = tokens_append(&v->log, b->id, b->ids, e);
	return rc;
}

/* What the work at hand names must be there. */
static int check_work(const struct conversation *v, struct err *e)
{
	const struct work *w = &v->work;
	const int64_t messages = (int64_t)v->messages, tokens = (int64_t)v->log.count;

	if (!conversation_busy(v))
		return 0;
	if ((w->answers && w->message >= messages) || w->prompt >= messages || w->cut > tokens || w->open > tokens ||
	    w->begin > tokens || tokens == 0)
		return err_set(e, SINK_EFORMAT, "What is kept of its work does not fit its text.");
	return 0;
}

static void text_home(struct core *c, struct conversation *v, struct text_job *t)
{
	const struct kept before = v->kept;

	v->fetching = false;
	if (t->rc == 0)
		t->rc = take_body(v, &t->body, &t->err);
	if (t->rc == 0)
		t->rc = check_work(v, &t->err);
	if (t->rc < 0) {
		v->kept.id = 0; /* what was taken of it is no change */
		conversation_cut(v, 0, 0);
		v->kept.id = before.id;
		c->resuming -= v->resumes;
		trouble(v, &t->err);
		return;
	}
	v->absent = false;
}

static void text_done(struct job *j, void *owner)
{
	struct text_job *t = (struct text_job *)j;
	struct core *c = owner;
	struct conversation *v = conversation_numbered(&c->table, t->id);

	keep_home(c);
	if (v)
		text_home(c, v, t);
	store_body_release(&t->body);
	free(t);
}

bool resume_text(struct core *c, struct conversation *v)
{
	struct text_job *t;

	if (!v->absent)
		return true;
	if (v->fetching || v->trouble.code || !v->kept.known)
		return false;
	t = calloc(1, sizeof(*t));
	if (!t)
		return false;
	t->job = (struct job){ text_run, text_done };
	t->store = keep_store(c);
	t->id = v->kept.id;
	t->segment = v->kept.segment;
	v->fetching = keep_give(c, &t->job, NULL) == 0;
	if (!v->fetching)
		free(t);
	return false;
}

int resume_check(const struct core *c, const struct conversation *v, struct err *e)
{
	if (v->trouble.code)
		return err_set(e, v->trouble.code, "\"%s\" cannot be used: %s", v->name, v->trouble.text);
	if (!v->model.vocab || v->model.vocab == c->vocab)
		return 0;
	return err_set(
		e, SINK_EINVAL,
		"\"%s\" was made with another model, %s, whose tokens mean nothing to this one; start sinkd with "
		"that, or export the conversation as JSON and import it.",
		v->name, v->model.name);
}

/* Going on. */

/* The text and cache are there: true when there is no more to be done about it. */
static bool go_on(struct core *c, struct conversation *v)
{
	struct err e;

	if (!v->trouble.code && resume_check(c, v, &e) < 0)
		trouble(v, &e);
	if (v->trouble.code)
		return true;
	if (!resume_text(c, v) || !tier_ready(c, v))
		return false;
	if (conversation_busy(v))
		talk_resume(c, v);
	return true;
}

void resume_turn(struct core *c)
{
	struct conversation *v, *after;

	if (!c->resuming || c->phase != PHASE_READY)
		return;
	for (v = TAILQ_FIRST(&c->table.by_use); v; v = after) {
		after = TAILQ_NEXT(v, by_use);
		if (!v->resumes)
			continue;
		if (go_on(c, v)) {
			v->resumes = false;
			c->resuming--;
		}
	}
}
