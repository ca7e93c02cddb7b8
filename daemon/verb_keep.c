/* The verbs of what is kept: pins, search, and bundles. */
#include <stdlib.h>
#include <string.h>

#include "bundle.h"
#include "keep.h"
#include "verb_table.h"

enum { EXCERPT = 80, MATCHES_USUAL = 100, MATCHES_MOST = 1000 };

int verb_pin(struct core *c, struct request *r, struct err *e)
{
	struct conversation *v;
	bool pin = true;
	int rc = verb_conversation(c, r, &v, e);

	if (rc < 0 || (rc = msg_bool_or(r->root, "pin", &pin, e)) < 0)
		return rc;
	v->pin = pin;
	conversation_changed(v, true);
	conversation_info(v, core_reply_begin(c, r), "conversation");
	core_reply(c, r);
	return 0;
}

/* Search. The matches are put into the form of the reply as they are found, in the store's thread. */

struct search {
	struct job job;
	struct store *store;
	struct request *request;
	const char *text; /* the request's */
	size_t len;
	int64_t conversation, most, found;
	bool more;
	struct match {
		int64_t conversation, message;
		int role;
		double time;
		char *before, *match, *after;
	} * match;
	int rc;
	struct err err;
};

/* The end of the line, at most EXCERPT bytes on, whole characters. */
static size_t excerpt_end(const char *text, size_t from, size_t len)
{
	size_t most = from + EXCERPT < len ? from + EXCERPT : len, end = from;

	while (end < most && text[end] != '\n')
		end++;
	while (end < len && end > from && ((unsigned char)text[end] & 0xc0) == 0x80)
		end--;
	return end;
}

static size_t excerpt_begin(const char *text, size_t to)
{
	size_t least = to > EXCERPT ? to - EXCERPT : 0, begin = to;

	while (begin > least && text[begin - 1] != '\n')
		begin--;
	while (begin < to && ((unsigned char)text[begin] & 0xc0) == 0x80)
		begin++;
	return begin;
}

static bool take_match(void *arg, const struct store_match *m)
{
	struct search *s = arg;
	struct match *to = &s->match[s->found];
	const size_t begin = excerpt_begin(m->text, m->at), past = m->at + m->len;

	if (s->found == s->most) {
		s->more = true;
		return false;
	}
	*to = (struct match){ .conversation = m->conversation,
			      .message = m->message,
			      .role = m->role,
			      .time = m->time,
			      .before = strndup(m->text + begin, m->at - begin),
			      .match = strndup(m->text + m->at, m->len),
			      .after = strndup(m->text + past, excerpt_end(m->text, past, m->text_len) - past) };
	s->found++;
	return true;
}

static void search_run(struct job *j)
{
	struct search *s = (struct search *)j;

	s->rc = store_search(s->store, s->text, s->len, s->conversation, take_match, s, &s->err);
}

static void search_free(struct search *s)
{
	for (int64_t i = 0; s->match && i < s->found; i++) {
		free(s->match[i].before);
		free(s->match[i].match);
		free(s->match[i].after);
	}
	free(s->match);
	free(s);
}

static void write_match(const struct core *c, const struct match *m, struct out *o)
{
	const struct conversation *v = conversation_numbered(&c->table, m->conversation);

	if (!v)
		return; /* it was removed meanwhile */
	out_map(o, NULL);
	out_str(o, "conversation", v->name);
	out_int(o, "message", m->message);
	out_str(o, "role", role_name((enum role)m->role));
	out_float(o, "time", m->time);
	out_str(o, "before", m->before ? m->before : "");
	out_str(o, "match", m->match ? m->match : "");
	out_str(o, "after", m->after ? m->after : "");
	out_end(o);
}

static void search_done(struct job *j, void *owner)
{
	struct search *s = (struct search *)j;
	struct core *c = owner;
	struct out *o;

	keep_home(c);
	if (s->rc < 0) {
		core_refuse(c, s->request, &s->err);
	} else {
		o = core_reply_begin(c, s->request);
		out_array(o, "matches");
		for (int64_t i = 0; i < s->found; i++)
			write_match(c, &s->match[i], o);
		out_end(o);
		out_bool(o, "more", s->more);
		core_reply(c, s->request);
	}
	search_free(s);
}

static int read_search(struct core *c, const struct request *r, struct search *s, struct err *e)
{
	struct conversation *v;
	int rc = msg_str(r->root, "text", SIZE_MAX, &s->text, &s->len, e);

	s->most = MATCHES_USUAL;
	if (rc < 0 || (rc = msg_int_or(r->root, "count", 1, MATCHES_MOST, &s->most, e)) < 0)
		return rc;
	if (!val_get(r->root, "conversation"))
		return 0;
	rc = verb_conversation(c, r, &v, e);
	if (rc == 0)
		s->conversation = v->kept.id;
	return rc;
}

int verb_search(struct core *c, struct request *r, struct err *e)
{
	struct search *s;
	int rc;

	if (!keep_is_on(c))
		return err_set(e, SINK_EINVAL, "Nothing is kept here (state = none), and nothing can be searched.");
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, SINK_ENOMEM, "There is no memory for a search.");
	s->job = (struct job){ search_run, search_done };
	s->store = keep_store(c);
	s->request = r;
	rc = read_search(c, r, s, e);
	s->match = rc == 0 ? calloc((size_t)s->most, sizeof(*s->match)) : NULL;
	if (rc == 0 && !s->match)
		rc = err_set(e, SINK_ENOMEM, "There is no memory for a search.");
	if (rc == 0)
		rc = core_hold(c, r, e);
	if (rc == 0)
		rc = keep_give(c, &s->job, e);
	if (rc < 0)
		search_free(s);
	return rc;
}

/* Bundles. */

int verb_bundle(struct core *c, struct request *r, struct err *e)
{
	struct conversation *v;
	bool cache = false;
	int rc = verb_conversation(c, r, &v, e);

	if (rc < 0 || (rc = msg_bool_or(r->root, "cache", &cache, e)) < 0)
		return rc;
	return bundle_make(c, r, v, cache, e);
}

int verb_bundle_new(struct core *c, struct request *r, struct err *e)
{
	int64_t bytes;
	int rc = msg_int(r->root, "bytes", 1, INT64_C(1) << 45, &bytes, e);

	return rc < 0 ? rc : bundle_begin(c, r, bytes, e);
}

int verb_bundle_read(struct core *c, struct request *r, struct err *e)
{
	int64_t bundle, offset, count = BUNDLE_PIECE / 2;
	int rc;

	if ((rc = msg_int(r->root, "bundle", 1, INT64_MAX, &bundle, e)) < 0 ||
	    (rc = msg_int(r->root, "offset", 0, INT64_MAX, &offset, e)) < 0 ||
	    (rc = msg_int_or(r->root, "count", 1, BUNDLE_PIECE, &count, e)) < 0)
		return rc;
	return bundle_read(c, r, bundle, offset, count, e);
}

int verb_bundle_write(struct core *c, struct request *r, struct err *e)
{
	int64_t bundle, offset;
	const void *data;
	size_t size;
	int rc;

	if ((rc = msg_int(r->root, "bundle", 1, INT64_MAX, &bundle, e)) < 0 ||
	    (rc = msg_int(r->root, "offset", 0, INT64_MAX, &offset, e)) < 0)
		return rc;
	data = val_bin(val_get(r->root, "data"), &size);
	if (!data)
		return err_set(e, SINK_EINVAL, "\"data\" must be binary.");
	return bundle_write(c, r, bundle, offset, data, size, e);
}

int verb_bundle_import(struct core *c, struct request *r, struct err *e)
{
	const char *name = NULL;
	int64_t bundle;
	size_t len = 0;
	int rc;

	if ((rc = msg_int(r->root, "bundle", 1, INT64_MAX, &bundle, e)) < 0 ||
	    (rc = msg_str_or(r->root, "name", SIZE_MAX, &name, &len, e)) < 0)
		return rc;
	return bundle_import(c, r, bundle, name, len, e);
}

int verb_bundle_close(struct core *c, struct request *r, struct err *e)
{
	int64_t bundle;
	int rc = msg_int(r->root, "bundle", 1, INT64_MAX, &bundle, e);

	return rc < 0 ? rc : bundle_close(c, r, bundle, e);
}
