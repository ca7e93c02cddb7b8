/*
 * Owns a ring of keys. A key is noted when its request comes, gets the reply when that is safe, and is overwritten by
 * the 1024th key after it. A reply is kept as it was sent; sent again it bears another id and names no attachment,
 * since that was the lost connection's.
 */
#include "replies.h"

#include <stdlib.h>
#include <string.h>

#include "keep.h"
#include "log.h"

enum { REPLY_MOST = 64 * 1024 };

struct slot {
	int64_t key;		 /* 0: free */
	struct request *request; /* in hand */
	void *frame;		 /* NULL: not yet */
	size_t size;
};

struct replies {
	struct slot slot[STORE_REPLIES];
	size_t next;
	struct out *out;
};

int replies_new(struct replies **ret, struct err *e)
{
	struct replies *l = calloc(1, sizeof(*l));

	if (!l)
		return err_set(e, SINK_ENOMEM, "There is no memory for replies.");
	if (out_new(&l->out, e) < 0) {
		free(l);
		return SINK_ENOMEM;
	}
	*ret = l;
	return 0;
}

void replies_free(struct replies *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < STORE_REPLIES; i++)
		free(l->slot[i].frame);
	out_free(l->out);
	free(l);
}

static struct slot *find(struct replies *l, int64_t key)
{
	for (size_t i = 0; key && i < STORE_REPLIES; i++)
		if (l->slot[i].key == key)
			return &l->slot[i];
	return NULL;
}

static struct slot *take(struct replies *l, int64_t key)
{
	struct slot *s = &l->slot[l->next];

	l->next = (l->next + 1) % STORE_REPLIES;
	free(s->frame);
	*s = (struct slot){ .key = key };
	return s;
}

static void fill(struct slot *s, const void *frame, size_t size)
{
	void *copy = size <= REPLY_MOST ? malloc(size) : NULL;

	if (!copy)
		return;
	memcpy(copy, frame, size);
	free(s->frame);
	s->frame = copy;
	s->size = size;
}

static void load_one(void *arg, const struct store_reply *r)
{
	fill(take(arg, r->key), r->frame, r->size);
}

int replies_load(struct core *c, struct err *e)
{
	return store_replies(keep_store(c), load_one, c->replies, e);
}

/* The same reply to another request. */
static bool build_again(struct out *o, int64_t id, const void *frame, size_t size)
{
	const struct val *ok;
	struct msg *m;

	if (msg_parse(frame, size, &m, NULL) < 0)
		return false;
	ok = val_get(msg_root(m), "ok");
	out_reset(o);
	out_map(o, NULL);
	out_int(o, "id", id);
	out_map(o, "ok");
	for (size_t i = 0; i < val_count(ok); i++) {
		const char *key;
		size_t len;
		const struct val *v = val_pair(ok, i, &key, &len);

		if (strcmp(key, "attachment") != 0)
			out_val(o, key, v);
	}
	out_end(o);
	out_end(o);
	msg_free(m);
	return out_ok(o);
}

static void send_again(struct core *c, uint64_t serial, int64_t id, const void *frame, size_t size)
{
	struct peer *p = peer_by_serial(&c->peers, serial);

	if (!p || !build_again(c->replies->out, id, frame, size))
		return;
	frame = out_data(c->replies->out, &size);
	core_send(c, p, frame, size);
}

bool replies_know(struct core *c, struct request *r)
{
	struct slot *s = find(c->replies, r->key);

	if (!s) {
		take(c->replies, r->key)->request = r;
		return false;
	}
	if (s->frame)
		send_again(c, r->peer, r->id, s->frame, s->size);
	else if (s->request) {
		s->request->peer = r->peer;
		s->request->id = r->id;
	} else {
		keep_redirect(c, r->key, r->peer, r->id);
	}
	request_free(c, r);
	return true;
}

void replies_made(struct core *c, const struct request *r)
{
	struct slot *s = find(c->replies, r->key);

	if (s && s->request == r)
		s->request = NULL;
}

void replies_forget(struct core *c, const struct request *r)
{
	struct slot *s = find(c->replies, r->key);

	if (s && s->request == r)
		*s = (struct slot){ 0 };
}

static int64_t id_of(const void *frame, size_t size)
{
	struct msg *m;
	int64_t id = 0;

	if (msg_parse(frame, size, &m, NULL) == 0) {
		id = val_int(val_get(msg_root(m), "id"), 0);
		msg_free(m);
	}
	return id;
}

void replies_send(struct core *c, uint64_t serial, int64_t id, int64_t key, const void *frame, size_t size)
{
	struct peer *p = peer_by_serial(&c->peers, serial);
	struct slot *s = find(c->replies, key);

	if (s) {
		s->request = NULL;
		fill(s, frame, size);
	}
	if (p && key && id_of(frame, size) != id) /* asked for again meanwhile */
		send_again(c, serial, id, frame, size);
	else if (p)
		core_send(c, p, frame, size);
}
