/* The verbs that look at conversations, name and remove them; and what all verbs of conversations share. */
#include <assert.h>
#include <string.h>

#include "keep.h"
#include "talk.h"
#include "tier.h"
#include "verb_table.h"

int verb_conversation(struct core *c, const struct request *r, struct conversation **ret, struct err *e)
{
	const char *name;
	size_t len;

	if (msg_str(r->root, "conversation", SIZE_MAX, &name, &len, e) < 0 || conversation_check_name(name, len, e) < 0)
		return SINK_EINVAL;
	*ret = conversation_find(&c->table, name, len, e);
	return *ret ? 0 : SINK_ENOENT;
}

int verb_follow(const struct request *r, struct follow *ret, struct err *e)
{
	*ret = (struct follow){ false, CREDIT_USUAL };
	if (msg_bool_or(r->root, "attach", &ret->attach, e) < 0 ||
	    msg_int_or(r->root, "credit", 0, CREDIT_MOST, &ret->credit, e) < 0)
		return SINK_EINVAL;
	return 0;
}

int verb_attach_at(struct core *c, const struct request *r, struct conversation *v, int64_t from, int64_t credit,
		   bool stay, struct attachment **ret, struct err *e)
{
	struct peer *p = peer_by_serial(&c->peers, r->peer);
	struct attachment *a = p ? peer_reads(p, v->stream) : NULL;
	int rc;

	*ret = a;
	if (!p)
		return 0;
	if (a && stay) {
		a->credit = a->credit > credit ? a->credit : credit;
		return 0;
	}
	if (a) {
		rc = stream_seek(a, v->name, from, e);
		a->credit = rc < 0 ? a->credit : credit;
		return rc;
	}
	if (p->attachment_count >= (size_t)c->conf.attachments)
		return err_set(e, SINK_EBUSY, "The client has %zu attachments already (option attachments).",
			       p->attachment_count);
	rc = stream_attach(v->stream, v->name, from, &a, e);
	if (rc < 0)
		return rc;
	a->credit = credit;
	peer_attach(&c->peers, p, a);
	*ret = a;
	return 0;
}

int verb_list(struct core *c, struct request *r, struct err *e)
{
	struct out *o = core_reply_begin(c, r);
	const struct conversation *v;

	(void)e;
	out_array(o, "conversations");
	TAILQ_FOREACH(v, &c->table.by_use, by_use)
	conversation_info(v, o, NULL);
	out_end(o);
	core_reply(c, r);
	return 0;
}

static int reply_info(struct core *c, struct request *r, const struct conversation *v)
{
	conversation_info(v, core_reply_begin(c, r), "conversation");
	core_reply(c, r);
	return 0;
}

int verb_show(struct core *c, struct request *r, struct err *e)
{
	struct conversation *v;
	int rc = verb_conversation(c, r, &v, e);

	return rc < 0 ? rc : reply_info(c, r, v);
}

static void write_message(const struct message *m, int64_t number, struct out *o)
{
	out_map(o, NULL);
	out_int(o, "message", number);
	out_str(o, "role", role_name(m->role));
	out_strn(o, "text", m->text.at, m->text.len);
	out_int(o, "tokens", m->tokens);
	out_int(o, "first_token", m->first_token);
	out_float(o, "time", m->time);
	if (m->finish)
		out_str(o, "finish", m->finish);
	out_end(o);
}

int verb_log(struct core *c, struct request *r, struct err *e)
{
	int64_t from = 0, count = 1000, bytes = 0;
	struct conversation *v;
	struct out *o;
	int rc = verb_conversation(c, r, &v, e);

	if (rc < 0 || (rc = msg_int_or(r->root, "from", 0, INT64_MAX, &from, e)) < 0 ||
	    (rc = msg_int_or(r->root, "count", 0, INT32_MAX, &count, e)) < 0)
		return rc;
	o = core_reply_begin(c, r);
	out_array(o, "messages");
	/* A reply is bounded like a message: whoever wants more asks again from the next one on. */
	for (int64_t i = from; i < (int64_t)v->messages && i - from < count && bytes < c->conf.message_bytes; i++) {
		write_message(&v->message[i], i, o);
		bytes += (int64_t)v->message[i].text.len;
	}
	out_end(o);
	out_int(o, "evicted_end", conversation_evicted_end(v));
	core_reply(c, r);
	return 0;
}

int verb_rename(struct core *c, struct request *r, struct err *e)
{
	struct conversation *v;
	const char *to;
	size_t len;
	int rc = verb_conversation(c, r, &v, e);

	if (rc < 0 || (rc = msg_str(r->root, "to", SIZE_MAX, &to, &len, e)) < 0 ||
	    (rc = conversation_rename(&c->table, v, to, len, e)) < 0)
		return rc;
	event_renamed(c->events, v, v->name);
	return reply_info(c, r, v);
}

int verb_remove(struct core *c, struct request *r, struct err *e)
{
	struct conversation *v;
	int rc = verb_conversation(c, r, &v, e);

	if (rc < 0)
		return rc;
	if (conversation_busy(v) && !v->absent)
		talk_stop(c, v);
	c->resuming -= v->resumes;
	event_removed(c->events, v);
	keep_remove(c, v);
	tier_remove(c, v);
	kv_free(v->kv);
	v->kv = NULL;
	c->pages_free = arena_pages_free(model_arena(c->model));
	conversation_remove(&c->table, v);
	core_reply_begin(c, r);
	core_reply(c, r);
	return 0;
}

int verb_attach(struct core *c, struct request *r, struct err *e)
{
	int64_t from, credit = CREDIT_USUAL;
	struct conversation *v;
	struct attachment *a;
	struct out *o;
	int rc = verb_conversation(c, r, &v, e);

	if (rc < 0)
		return rc;
	from = stream_next(v->stream);
	if ((rc = msg_int_or(r->root, "from", 0, INT64_MAX, &from, e)) < 0 ||
	    (rc = msg_int_or(r->root, "credit", 0, CREDIT_MOST, &credit, e)) < 0 ||
	    (rc = verb_attach_at(c, r, v, from, credit, false, &a, e)) < 0)
		return rc;
	assert(a); /* the request has not waited, so its client is there */
	o = core_reply_begin(c, r);
	conversation_info(v, o, "conversation");
	out_int(o, "attachment", (int64_t)a->id);
	out_int(o, "seq", a->next);
	core_reply(c, r);
	return 0;
}

/* The client's own attachment that the request names. */
static int named_attachment(struct core *c, const struct request *r, struct attachment **ret, struct err *e)
{
	const struct peer *p = peer_by_serial(&c->peers, r->peer);
	int64_t id;

	if (msg_int(r->root, "attachment", 0, INT64_MAX, &id, e) < 0)
		return SINK_EINVAL;
	*ret = p ? peer_attachment(p, (uint64_t)id) : NULL;
	if (!*ret)
		return err_set(e, SINK_ENOENT, "The client has no attachment %lld.", (long long)id);
	return 0;
}

int verb_detach(struct core *c, struct request *r, struct err *e)
{
	struct attachment *a;
	int rc = named_attachment(c, r, &a, e);

	if (rc < 0)
		return rc;
	peer_detach(&c->peers, a);
	core_reply_begin(c, r);
	core_reply(c, r);
	return 0;
}

int verb_credit(struct core *c, struct request *r, struct err *e)
{
	const int64_t most = INT64_C(1) << 40;
	struct attachment *a;
	int64_t bytes;
	int rc = named_attachment(c, r, &a, e);

	if (rc < 0 || (rc = msg_int(r->root, "bytes", 1, CREDIT_MOST, &bytes, e)) < 0)
		return rc;
	a->credit = a->credit + bytes < most ? a->credit + bytes : most;
	core_reply_begin(c, r);
	core_reply(c, r);
	return 0;
}
