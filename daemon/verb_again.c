/* The verbs that go on from what is there: another answer, a way back, a fork, and the end of it. */
#include <assert.h>
#include <string.h>

#include "keep.h"
#include "talk.h"
#include "tier.h"
#include "verb_table.h"

void verb_reply_said(struct core *c, struct request *r, struct conversation *v, const struct follow *f, int64_t message,
		     int64_t seq)
{
	struct attachment *a = NULL;
	struct out *o;
	struct err e;

	if (f->attach && verb_attach_at(c, r, v, seq, f->credit, true, &a, &e) < 0) {
		core_refuse(c, r, &e); /* what was said is said */
		return;
	}
	o = core_reply_begin(c, r);
	verb_write_made(v, o);
	out_int(o, "message", message);
	out_int(o, "seq", seq);
	if (a)
		out_int(o, "attachment", (int64_t)a->id);
	core_reply(c, r);
}

/* The answer's turn is opened: it begins. */
static int begin_again(struct core *c, struct conversation *v, const struct encode *n, int64_t cut, struct err *e)
{
	int64_t open = (int64_t)v->log.count - (int64_t)encode_tokens(n, n->pieces - 1);
	int rc = talk_queue(c, v, (int64_t)v->messages - 1, cut, open, e);
	struct follow f;

	if (rc < 0)
		return rc;
	verb_follow(n->request, &f, NULL); /* it was read before, without an error */
	verb_reply_said(c, n->request, v, &f, v->work.message, n->seq);
	return 0;
}

static void regenerate_done(struct job *j, void *owner)
{
	struct encode *n = (struct encode *)j;
	struct conversation *v = n->conversation;
	int64_t cut = (int64_t)v->log.count;
	struct core *c = owner;

	verb_text_home(c, n);
	if (n->rc == 0)
		n->rc = verb_write_pieces(c, v, n, &n->err);
	if (n->rc == 0)
		n->rc = begin_again(c, v, n, cut, &n->err);
	if (n->rc < 0) {
		talk_abandon(c, v);
		core_refuse(c, n->request, &n->err);
	}
	encode_free(n);
}

static int check_idle(const struct conversation *v, struct err *e)
{
	if (!conversation_busy(v))
		return 0;
	return err_set(e, SINK_EBUSY, "The conversation \"%s\" is %s; stop it or wait.", v->name, state_name(v->state));
}

/* Goes on from the last token of the log, whatever it is. */
static int go_on(struct core *c, struct request *r, struct conversation *v, const struct settings *s, int64_t seq,
		 struct err *e)
{
	int64_t end = (int64_t)v->log.count;
	struct follow f;
	int rc;

	verb_follow(r, &f, NULL);
	if (!end)
		return err_set(e, SINK_EINVAL, "The conversation \"%s\" is empty: there is nothing to go on from.",
			       v->name);
	if (!conversation_waiting(v))
		talk_trim(v, end - 1); /* the last token is read again, for its logits */
	rc = talk_begin(c, v, true, s, e);
	if (rc < 0)
		return rc;
	rc = talk_queue(c, v, -1, end, end, e);
	if (rc < 0) {
		talk_abandon(c, v);
		return rc;
	}
	verb_reply_said(c, r, v, &f, v->work.message, seq);
	return 0;
}

/* Tokenizes what opens an answer, then begins it. */
static int open_answer(struct core *c, struct request *r, struct conversation *v, const struct settings *s, int64_t seq,
		       struct err *e)
{
	struct encode *n;
	int rc = encode_new(c->model, regenerate_done, &n, e);

	if (rc < 0)
		return rc;
	if (v->turn_open && v->log.count)
		encode_add(n, PIECE_CLOSE)->last = v->log.id[v->log.count - 1];
	encode_add(n, PIECE_OPEN)->unthinking = s->unthinking;
	n->request = r;
	n->conversation = v;
	n->answers = true;
	n->seq = seq;
	rc = talk_begin(c, v, true, s, e);
	if (rc == 0) {
		rc = core_encode(c, n, e);
		if (rc == 0)
			return 0;
		talk_abandon(c, v);
	}
	encode_free(n);
	return rc;
}

/* The conversation's own settings with those of the request, which are the caller's. */
static int read_settings(const struct core *c, const struct request *r, const struct conversation *v,
			 struct settings *s, bool *seeded, struct err *e)
{
	int rc;

	settings_copy(s, &v->settings);
	if ((rc = settings_read(val_get(r->root, "sampling"), s, seeded, e)) == 0 && (rc = check_idle(v, e)) == 0 &&
	    (rc = talk_check(c, s, e)) == 0)
		return 0;
	settings_release(s);
	return rc;
}

/* What was there of an answer is dropped. */
static int again(struct core *c, struct request *r, struct conversation *v, const struct settings *s, struct err *e)
{
	const int64_t seq = stream_next(v->stream);
	const char *by;
	bool raw = false;

	if (!v->messages)
		return err_set(e, SINK_EINVAL, "The conversation \"%s\" has no answer to make anew.", v->name);
	if (v->message[v->messages - 1].role == ROLE_ASSISTANT) {
		raw = v->message[v->messages - 1].raw;
		talk_rewind(c, v, v->messages - 1, &by);
	}
	return raw ? go_on(c, r, v, s, seq, e) : open_answer(c, r, v, s, seq, e);
}

int verb_regenerate(struct core *c, struct request *r, struct err *e)
{
	struct conversation *v;
	struct settings s;
	struct follow f;
	bool seeded;
	int rc = verb_conversation(c, r, &v, e);

	if (rc < 0 || (rc = verb_follow(r, &f, e)) < 0 || (rc = read_settings(c, r, v, &s, &seeded, e)) < 0)
		return rc;
	if (!seeded) /* the same numbers would give the same words */
		s.how.seed = settings_random_seed();
	rc = again(c, r, v, &s, e);
	settings_release(&s);
	return rc;
}

int verb_generate(struct core *c, struct request *r, struct err *e)
{
	struct conversation *v;
	struct settings s;
	struct follow f;
	int rc = verb_conversation(c, r, &v, e);

	if (rc < 0 || (rc = verb_follow(r, &f, e)) < 0 || (rc = read_settings(c, r, v, &s, NULL, e)) < 0)
		return rc;
	rc = go_on(c, r, v, &s, stream_next(v->stream), e);
	settings_release(&s);
	return rc;
}

int verb_stop(struct core *c, struct request *r, struct err *e)
{
	struct conversation *v;
	bool busy;
	int rc = verb_conversation(c, r, &v, e);

	if (rc < 0)
		return rc;
	busy = conversation_busy(v);
	if (busy)
		talk_stop(c, v);
	out_bool(core_reply_begin(c, r), "stopped", busy);
	core_reply(c, r);
	return 0;
}

/* Reads `message`, a number of messages to be left; without one, all of them. */
static int read_message(const struct request *r, const struct conversation *v, int64_t *ret, struct err *e)
{
	*ret = (int64_t)v->messages;
	if (msg_int_or(r->root, "message", 0, INT64_MAX, ret, e) < 0)
		return SINK_EINVAL;
	if (*ret > (int64_t)v->messages)
		return err_set(e, SINK_EINVAL, "\"message\" is %lld, but the conversation has %zu messages.",
			       (long long)*ret, v->messages);
	return 0;
}

int verb_rewind(struct core *c, struct request *r, struct err *e)
{
	struct conversation *v;
	int64_t message;
	struct out *o;
	const char *by;
	int rc = verb_conversation(c, r, &v, e);

	if (rc < 0 || (rc = msg_int(r->root, "message", 0, INT64_MAX, &message, e)) < 0 ||
	    (rc = read_message(r, v, &message, e)) < 0 || (rc = check_idle(v, e)) < 0)
		return rc;
	talk_rewind(c, v, (size_t)message, &by);
	o = core_reply_begin(c, r);
	conversation_info(v, o, "conversation");
	out_str(o, "by", by);
	core_reply(c, r);
	return 0;
}

/* Messages and tokens, where they are not shared in the store. */
static int copy_text(const struct conversation *from, struct conversation *to, int64_t message, int64_t tokens,
		     struct err *e)
{
	int rc = tokens_append(&to->log, from->log.id, (size_t)tokens, e);

	for (int64_t i = 0; i < message && rc == 0; i++) {
		const struct message *m = &from->message[i];

		rc = conversation_add(to, m->role, m->text.at, m->text.len, e);
		if (rc < 0)
			break;
		to->message[i].first_token = m->first_token;
		to->message[i].tokens = m->tokens;
		to->message[i].time = m->time;
		to->message[i].finish = m->finish;
		to->message[i].raw = m->raw;
	}
	return rc;
}

/* The cache, shared as far as it has these tokens. */
static int share_cache(const struct conversation *from, struct conversation *to, int64_t tokens, struct err *e)
{
	int rc = from->kv ? kv_fork(from->kv, &to->kv, e) : 0;

	if (rc < 0)
		return rc;
	to->replays = from->replays;
	to->seen = from->seen;
	to->left = from->left;
	to->tier = from->kv ? TIER_MEMORY : from->left.tokens ? TIER_REPLAY : TIER_NONE;
	to->evicted_told = conversation_cache(from)->evicted_end;
	if (to->kv && to->seen.tokens > tokens) {
		if (kv_rewind(to->kv, from->log.id, tokens, NULL) == 0)
			kv_info(to->kv, &to->seen);
		else
			talk_drop_cache(to);
	}
	if (to->left.tokens > tokens)
		to->left.tokens = tokens;
	if (to->evicted_told > conversation_cache(to)->evicted_end)
		to->evicted_told = conversation_cache(to)->evicted_end;
	return 0;
}

/* Makes the new one of the messages before `message`. In the store the text is shared, whatever its length. */
static int copy(struct core *c, struct conversation *from, struct conversation *to, int64_t message, struct err *e)
{
	const bool all = message == (int64_t)from->messages;
	const int64_t tokens = all ? (int64_t)from->log.count : from->message[message].first_token;
	int rc = retention_copy(&from->keeps, &to->keeps, e);

	if (rc == 0 && !keep_is_on(c))
		rc = copy_text(from, to, message, tokens, e);
	if (rc == 0)
		rc = share_cache(from, to, tokens, e);
	if (rc < 0)
		return rc;
	to->model = from->model;
	settings_copy(&to->settings, &from->settings);
	to->pin_system = from->pin_system;
	to->begun = from->begun && tokens > 0;
	to->turn_open = all && from->turn_open;
	keep_fork(c, from, to, tokens, message);
	if (to->kv)
		tier_made(c, to);
	tier_rests(c, to);
	return 0;
}

static int check_fork(const struct core *c, const struct conversation *v, int64_t message, struct err *e)
{
	if (conversation_busy(v) && message > (v->work.prompt >= 0 ? v->work.prompt : v->work.message))
		return check_idle(v, e);
	if (keep_has_stopped(c))
		return err_set(e, SINK_EBUSY, "A fork shares what is on the disk, and that is not up to date: %s",
			       keep_trouble(c)->text);
	if (c->table.count >= (size_t)c->conf.conversations)
		return err_set(e, SINK_EBUSY, "There are %zu conversations already (option conversations).",
			       c->table.count);
	return 0;
}

int verb_fork(struct core *c, struct request *r, struct err *e)
{
	struct conversation *v, *fork;
	const char *to;
	int64_t message;
	size_t len;
	int rc = verb_conversation(c, r, &v, e);

	if (rc < 0 || (rc = msg_str(r->root, "to", SIZE_MAX, &to, &len, e)) < 0 ||
	    (rc = read_message(r, v, &message, e)) < 0 || (rc = check_fork(c, v, message, e)) < 0)
		return rc;
	rc = conversation_new(&c->table, to, len, (size_t)c->conf.log_bytes, &fork, e);
	if (rc < 0)
		return rc;
	rc = copy(c, v, fork, message, e);
	if (rc < 0) {
		kv_free(fork->kv);
		fork->kv = NULL;
		conversation_remove(&c->table, fork);
		return rc;
	}
	conversation_info(fork, core_reply_begin(c, r), "conversation");
	core_reply(c, r);
	return 0;
}
