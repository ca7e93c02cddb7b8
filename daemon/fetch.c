/*
 * Owns the reading of old events. The job names reader and conversation by their numbers: both may be gone when it
 * comes back.
 */
#include "fetch.h"

#include <stdlib.h>

#include "keep.h"
#include "log.h"

enum { PIECE_BYTES = 256 * 1024 };

struct fetch {
	struct job job;
	struct store *store;
	int64_t id, from;
	uint64_t peer, attachment;
	void *record;
	size_t size;
	int64_t events;
	int rc;
	struct err err;
};

static void fetch_run(struct job *j)
{
	struct fetch *f = (struct fetch *)j;

	f->rc = store_events(f->store, f->id, f->from, PIECE_BYTES, &f->record, &f->size, &f->events, &f->err);
}

static void fetch_done(struct job *j, void *owner)
{
	struct fetch *f = (struct fetch *)j;
	struct core *c = owner;
	struct peer *p = peer_by_serial(&c->peers, f->peer);
	struct attachment *a = p ? peer_attachment(p, f->attachment) : NULL;

	keep_home(c);
	if (a) {
		a->fetching = false;
		if (f->rc == 0)
			f->rc = stream_give(a, f->from, f->record, f->size, f->events, &f->err);
		if (f->rc < 0) {
			log_warning("Events of \"%s\" cannot be read: %s", a->name, f->err.text);
			a->lost = a->next == f->from;
			if (f->rc == SINK_EGONE) /* pruned meanwhile, as all before it */
				stream_kept_from(a->stream, f->from + 1);
		}
	}
	free(f->record);
	free(f);
}

static const struct conversation *conversation_of(const struct core *c, const struct stream *s)
{
	const struct conversation *v;

	TAILQ_FOREACH(v, &c->table.by_use, by_use)
	if (v->stream == s)
		return v;
	return NULL;
}

void fetch_begin(struct core *c, struct attachment *a)
{
	const struct conversation *v = conversation_of(c, a->stream);
	const struct peer *p = a->peer;
	struct fetch *f;

	if (a->fetching)
		return;
	f = v ? calloc(1, sizeof(*f)) : NULL;
	a->lost = !f; /* its conversation was removed, or there is no memory */
	if (!f)
		return;
	*f = (struct fetch){ .job = { fetch_run, fetch_done },
			     .store = keep_store(c),
			     .id = v->kept.id,
			     .from = a->next,
			     .peer = p->serial,
			     .attachment = a->id };
	a->fetching = keep_give(c, &f->job, NULL) == 0;
	if (!a->fetching)
		free(f);
}
