/* Owns the loading of a commit, and what its coming back means for each conversation in it. */
#include "commit.h"

#include <stdlib.h>
#include <string.h>

#include "keep.h"
#include "resume.h"

static void commit_run(struct job *j)
{
	struct commit *t = (struct commit *)j;

	t->rc = store_commit(t->store, t->change, t->changes, t->reply, t->replies, t->durable, &t->err);
	if (t->rc == 0)
		t->bytes = store_bytes(t->store);
}

struct commit *commit_new(struct store *store, size_t room, bool durable)
{
	struct commit *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->job.run = commit_run;
	t->store = store;
	t->durable = durable;
	STAILQ_INIT(&t->held);
	t->change = calloc(room + 1, sizeof(*t->change));
	t->cargo = calloc(room + 1, sizeof(*t->cargo));
	if (t->change && t->cargo)
		return t;
	commit_free(t);
	return NULL;
}

void commit_free(struct commit *t)
{
	for (size_t i = 0; t->cargo && i < t->changes; i++)
		for (size_t b = 0; b < sizeof(t->cargo[i].buffer) / sizeof(t->cargo[i].buffer[0]); b++)
			free(t->cargo[i].buffer[b]);
	while (!STAILQ_EMPTY(&t->held)) {
		struct held *h = STAILQ_FIRST(&t->held);

		STAILQ_REMOVE_HEAD(&t->held, link);
		free(h);
	}
	free(t->cargo);
	free(t->change);
	free(t->reply);
	free(t);
}

/* The part of a conversation's text that the store lacks. */
static int load_text(struct conversation *v, struct cargo *g, struct store_change *h, struct err *e)
{
	struct kept *k = &v->kept;
	struct store_message *m;
	size_t bytes = 0;
	char *text;

	h->first_token = k->tokens;
	h->ids = v->log.count - (size_t)k->tokens;
	h->messages = v->messages - (size_t)k->messages;
	for (size_t i = (size_t)k->messages; i < v->messages; i++)
		bytes += v->message[i].text.len + 1;
	g->buffer[0] = malloc(h->ids * sizeof(int32_t) + 1);
	g->buffer[1] = m = calloc(h->messages + 1, sizeof(*m));
	g->buffer[2] = text = malloc(bytes + 1);
	if (!g->buffer[0] || !m || !text)
		return err_set(e, SINK_ENOMEM, "There is no memory to save \"%s\".", v->name);
	if (h->ids)
		memcpy(g->buffer[0], v->log.id + k->tokens, h->ids * sizeof(int32_t));
	h->id_list = g->buffer[0];
	h->message = m;
	for (size_t i = (size_t)k->messages; i < v->messages; i++, m++) {
		const struct message *from = &v->message[i];

		*m = (struct store_message){ .number = (int64_t)i,
					     .role = from->role,
					     .first_token = from->first_token,
					     .tokens = from->tokens,
					     .time = from->time,
					     .finish = from->finish,
					     .raw = from->raw,
					     .text = text,
					     .len = from->text.len };
		if (from->text.len)
			memcpy(text, from->text.at, from->text.len);
		text[from->text.len] = '\0';
		text += from->text.len + 1;
	}
	k->tokens = (int64_t)v->log.count;
	k->messages = (int64_t)v->messages;
	return 0;
}

static int load_events(struct conversation *v, struct cargo *g, struct store_change *h, struct err *e)
{
	int64_t next = stream_next(v->stream);
	void *record;
	int rc;

	if (next == v->kept.seq)
		return 0;
	rc = stream_copy(v->stream, v->kept.seq, &record, &h->record_size, e);
	if (rc < 0)
		return rc;
	g->buffer[3] = record;
	h->record = record;
	h->first_seq = v->kept.seq;
	h->events = next - v->kept.seq;
	v->kept.seq = next;
	return 0;
}

static int load_cargo(struct core *c, struct conversation *v, struct cargo *g, struct store_change *h, struct err *e)
{
	struct kept *k = &v->kept;
	void *state = NULL;
	int rc = 0;

	*g = (struct cargo){ .v = v, .before = *k };
	*h = (struct store_change){ .id = k->id,
				    .begins = k->begins,
				    .parent = k->parent,
				    .base_tokens = k->base_tokens,
				    .base_messages = k->base_messages,
				    .segment = k->segment,
				    .cuts = k->cuts,
				    .cut_tokens = k->cut_tokens,
				    .cut_messages = k->cut_messages };
	if (!v->absent)
		rc = load_text(v, g, h, e);
	if (rc == 0)
		rc = load_events(v, g, h, e);
	if (rc == 0 && (k->row || !k->known)) {
		h->writes_row = true;
		h->row = (struct store_conversation){
			.id = k->id, .segment = k->segment, .created = v->created, .used = v->used
		};
		memcpy(h->row.name, v->name, sizeof(h->row.name));
		rc = resume_write(c, v, &state, &h->row.state_size, e);
		h->row.state = g->buffer[4] = state;
	}
	if (rc < 0)
		return rc;
	h->merges = k->ends || ++k->rows >= KEEP_ROWS;
	k->rows = h->merges ? 0 : k->rows;
	g->tokens = k->tokens;
	g->messages = k->messages;
	g->seq = k->seq;
	k->begins = k->row = k->cuts = k->ends = false;
	k->flies = true;
	return 0;
}

/*
 * An unfinished beginning is not kept: whoever asked for it was not told of it. A fork has no such, and holds its
 * text.
 */
static bool is_ready(const struct conversation *v)
{
	return v->kept.known || !v->encoding || v->kept.parent;
}

size_t commit_count(const struct conversations *table)
{
	const struct conversation *v;
	size_t n = 0;

	TAILQ_FOREACH(v, &table->changed, kept.link)
	n += is_ready(v);
	return n;
}

void commit_load_removed(struct commit *t, const int64_t *id, size_t count)
{
	for (size_t i = 0; i < count; i++)
		t->change[t->changes++] = (struct store_change){ .id = id[i], .removes = true };
}

int commit_load_changed(struct core *c, struct commit *t, struct err *e)
{
	struct conversation *v, *after;
	int rc = 0;

	for (v = TAILQ_FIRST(&c->table.changed); v && rc == 0; v = after) {
		struct cargo *g = &t->cargo[t->changes];

		after = TAILQ_NEXT(v, kept.link);
		if (!is_ready(v))
			continue;
		t->durable = t->durable || v->kept.ends;
		rc = load_cargo(c, v, g, &t->change[t->changes], e);
		t->changes++;
		TAILQ_REMOVE(&c->table.changed, v, kept.link);
		v->kept.listed = false;
	}
	return rc;
}

int commit_load_replies(struct commit *t, struct held_list *held, struct err *e)
{
	const struct held *h;
	size_t count = 0;

	STAILQ_CONCAT(&t->held, held);
	STAILQ_FOREACH(h, &t->held, link)
	count += h->key != 0;
	t->reply = calloc(count + 1, sizeof(*t->reply));
	if (!t->reply)
		return err_set(e, SINK_ENOMEM, "There is no memory to save replies.");
	STAILQ_FOREACH(h, &t->held, link)
	if (h->key)
		t->reply[t->replies++] = (struct store_reply){ h->key, h->frame, h->size };
	return 0;
}

static void cargo_arrived(const struct cargo *g)
{
	struct kept *k = &g->v->kept;

	k->known = true;
	k->safe_seq = g->seq;
	/* What was cut since has to be said anew. */
	k->safe_tokens = g->tokens < k->tokens ? g->tokens : k->tokens;
	k->safe_messages = g->messages < k->messages ? g->messages : k->messages;
	stream_publish(g->v->stream, k->safe_seq);
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* It is as if it had never been handed over. */
static void cargo_lost(const struct cargo *g)
{
	struct kept *k = &g->v->kept;
	const struct kept *b = &g->before;

	k->begins = k->begins || b->begins;
	k->ends = k->ends || b->ends;
	if (b->cuts) {
		k->cut_tokens = k->cuts ? least(k->cut_tokens, b->cut_tokens) : b->cut_tokens;
		k->cut_messages = k->cuts ? least(k->cut_messages, b->cut_messages) : b->cut_messages;
		k->cuts = true;
	}
	k->tokens = least(k->tokens, b->tokens);
	k->messages = least(k->messages, b->messages);
	k->seq = b->seq;
	k->rows = b->rows;
	conversation_changed(g->v, true);
}

void commit_arrived(struct commit *t)
{
	for (size_t i = 0; i < t->changes; i++)
		if (t->cargo[i].v) {
			t->cargo[i].v->kept.flies = false;
			cargo_arrived(&t->cargo[i]);
		}
}

void commit_lost(struct commit *t)
{
	for (size_t i = 0; i < t->changes; i++)
		if (t->cargo[i].v) {
			t->cargo[i].v->kept.flies = false;
			cargo_lost(&t->cargo[i]);
		}
}

void commit_forget(struct commit *t, const struct conversation *v)
{
	for (size_t i = 0; i < t->changes; i++)
		if (t->cargo[i].v == v)
			t->cargo[i].v = NULL;
}
